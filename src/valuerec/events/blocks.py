"""What every reader hands on: some rows of a raw file, still as they stand there."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FIELDS: Final = ("session", "item", "time", "event")


class BadRow(NamedTuple):
    """A row that can't be read: its number in the file, why, and its text where the reader has it."""

    row: int
    reason: str
    text: str | None = None


class Block(NamedTuple):
    """Consecutive rows of one file.

    Args:
        row: the number of each readable row in its file, from 1.
        columns: session, item, time and (where the log has one) event, as arrays of the file's own types.
        bad: the rows between them that are no rows.
    """

    row: NDArray[np.int64]
    columns: dict[str, pa.Array]
    bad: list[BadRow]
