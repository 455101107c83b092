"""The input, checked whole and written down as numbers: a row a session, a row group a part.

That a bad row is found in the first seconds, and not after an hour, is worth reading the input before the work.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valuerec.bulk.columns import Known
from valuerec.bulk.grouping import grouped
from valuerec.sessions import Event, stream

PART: Final = 4096  # sessions of a part
_UNKNOWN: Final = -1
_SCHEMA: Final = pa.schema(
    [
        pa.field("session", pa.string()),
        pa.field("known", pa.list_(pa.int32())),
        pa.field("unknown", pa.int32()),
    ]
)


class Staged(NamedTuple):
    """What the input holds: sessions, those without an item, items the model does not know, sessions without others."""

    sessions: int
    empty: int
    unknown_items: int
    without_known: int


class Part(NamedTuple):
    """The sessions of a part: ids, known items, and how many of each session's items are unknown."""

    session_B: pa.Array[Any]
    known: Known
    unknown_B: NDArray[np.int32]


def stage(source: Path, index: Mapping[str, int], folder: Path, target: Path) -> Staged:
    """Check and write down a file of sessions.

    Args:
        source: the file.
        index: of each item the model knows.
        folder: for what does not fit into memory.
        target: the Parquet file to write.

    Raises:
        UsageError: for an unknown ending.
        ValuerecError: for a file that is unreadable, empty or holds a bad row, naming file and row.
    """
    counts = Staged(0, 0, 0, 0)
    with pq.ParquetWriter(target, _SCHEMA, compression="lz4") as writer:
        for batch, added in _batches(_sessions(source, index, folder)):
            writer.write_batch(batch, row_group_size=PART)
            counts = Staged(*(a + b for a, b in zip(counts, added, strict=True)))
    return counts


def read_part(staged: pq.ParquetFile, number: int) -> Part:
    """The sessions of one part."""
    table: Any = staged.read_row_group(number).combine_chunks()
    known = table["known"].chunk(0)
    return Part(
        table["session"].chunk(0),
        Known(known.flatten().to_numpy(), known.offsets.to_numpy().astype(np.int64)),
        table["unknown"].to_numpy(),
    )


def _sessions(source: Path, index: Mapping[str, int], folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Each session's id and items as indices, `_UNKNOWN` for those without."""
    rows: Iterator[Any] = iter(stream(source))
    first = next(rows)
    rows = chain([first], rows)
    if isinstance(first, Event):
        return grouped(_coded(rows, index), folder)
    return ((session.id, [index.get(item, _UNKNOWN) for item in session.items]) for session in rows)


def _coded(events: Iterable[Event], index: Mapping[str, int]) -> Iterator[tuple[str, int | None]]:
    for session, item in events:
        yield session, None if item is None else index.get(item, _UNKNOWN)


def _batches(sessions: Iterable[tuple[str, list[int]]]) -> Iterator[tuple[pa.RecordBatch, Staged]]:
    """The sessions of a part at a time, and the counts they add."""
    ids: list[str] = []
    known, offsets, unknown, empty = array("i"), array("i", [0]), array("i"), 0

    def batch() -> tuple[pa.RecordBatch, Staged]:
        unknown_B, offset_B = np.frombuffer(unknown, np.int32), np.frombuffer(offsets, np.int32)
        known_E = pa.array(np.frombuffer(known, np.int32), pa.int32())
        lists = pa.ListArray.from_arrays(pa.array(offset_B, pa.int32()), known_E)
        columns = [pa.array(ids, pa.string()), lists, pa.array(unknown_B, pa.int32())]
        counts = Staged(len(ids), empty, int(unknown_B.sum()), int((np.diff(offset_B) == 0).sum()))
        return pa.record_batch(columns, schema=_SCHEMA), counts

    for session, items in sessions:
        ids.append(session)
        known.extend(item for item in items if item != _UNKNOWN)
        offsets.append(len(known))
        unknown.append(len(items) - (offsets[-1] - offsets[-2]))
        empty += not items
        if len(ids) == PART:
            yield batch()
            ids, empty = [], 0
            known, offsets, unknown = array("i"), array("i", [0]), array("i")
    if ids:
        yield batch()
