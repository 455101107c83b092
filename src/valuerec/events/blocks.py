"""What every reader hands on: some rows of a raw file, still as they stand there."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing import Any

    import pyarrow as pa

    Column: TypeAlias = pa.Array[Any]

FIELDS: Final = ("session", "item", "time", "event")
LONGEST_TEXT: Final = 2_000  # characters of a bad row that are kept


class BadRow(NamedTuple):
    """A row that can't be used: its number in the file, the wrong field (empty: all of it), why, and its text."""

    row: int
    field: str
    reason: str
    text: str


class Block(NamedTuple):
    """Consecutive rows of one file.

    Args:
        row: the number of each readable row in its file, from 1: for text the number of its line.
        columns: session, item, time and (where the log has one) event, as arrays of the file's own types.
        bad: the rows between them that are no rows.
        texts: the raw text of the readable rows at some places in `row`.
    """

    row: NDArray[np.int64]
    columns: dict[str, Column]
    bad: list[BadRow]
    texts: Callable[[NDArray[np.int64]], list[str]]

    def without(self, rows: Set[int], reason: str) -> Block:
        """The block with the rows of some numbers set aside for one reason, whatever else may be wrong with them."""
        hit_N = np.isin(self.row, list(rows))
        good, places = np.flatnonzero(~hit_N), np.flatnonzero(hit_N)
        bad = [BadRow(each.row, "", reason, each.text) if each.row in rows else each for each in self.bad]
        numbers = self.row[places].tolist()
        bad += [BadRow(row, "", reason, text) for row, text in zip(numbers, self.texts(places), strict=True)]
        columns = {name: column.take(good) for name, column in self.columns.items()}
        return Block(self.row[good], columns, bad, lambda wanted: self.texts(good[wanted]))
