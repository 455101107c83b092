"""The files of a dataset, streamed from the engine in bounded memory, byte for byte a function of the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valuerec.dataset import KINDS, SPLITS
from valuerec.safetensors_header import make_header

_ROW_GROUP: Final = 1 << 19
_ARRAYS: Final = {"offset": ("I64", "<i8"), "item": ("I32", "<i4"), "event": ("U8", "u1")}


class ArraysFile:
    """A safetensors file written piece by piece, so that no array need fit into memory.

    The layout is the format's: length of the header, JSON header, arrays end to end, each aligned. Plain writes and no
    memory map: on a full disk they fail with an error, a map kills the process.
    """

    def __init__(self, file: BinaryIO, sizes: Mapping[str, int]) -> None:
        header, places = make_header({name: (code, [sizes[name]]) for name, (code, _) in _ARRAYS.items()})
        file.write(header)
        self._file = file
        self._end = {name: place.start for name, place in places.items()}

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Write the next values of an array."""
        content = values.astype(_ARRAYS[name][1], copy=False).tobytes()
        self._file.seek(self._end[name])
        self._file.write(content)
        self._end[name] += len(content)


def write_items(path: Path, items: pa.Table, kinds: Sequence[str]) -> None:
    """items.parquet: a row an item, in index order; all its events are counted where there are other kinds."""
    names = ("clicks", "purchases", *(["events"] if len(kinds) > len(KINDS) else []))
    counts = {name: items[name].cast(pa.int64()) for name in names}
    _write(path, iter(pa.table({"item": items["item"].cast(pa.string()), **counts}).to_batches()))


def write_sessions(path: Path, sessions: pa.Table, clock: bool) -> None:
    """sessions.parquet: a row a session, in index order."""
    times = {name: _times(sessions[name], clock) for name in ("start", "end")}
    table = {
        "session": sessions["session"].cast(pa.string()),
        "split": pa.array(list(SPLITS)).take(sessions["split"].combine_chunks().cast(pa.int32())),
        "events": sessions["events"].cast(pa.int64()),
        **times,
    }
    _write(path, iter(pa.table(table).to_batches()))


def write_events(
    folder: Path,
    batches: Iterator[pa.RecordBatch],
    items: pa.Table,
    sessions: pa.Table,
    clock: bool,
    kinds: Sequence[str],
) -> int:
    """events.parquet and arrays.safetensors, from the ordered events with sessions and items by index.

    Returns:
        How many events are exactly like the one before them, which in this order all repetitions are.
    """
    offset_S = np.concatenate([[0], np.cumsum(sessions["events"].to_numpy())])
    item_ids = items["item"].cast(pa.string()).combine_chunks()
    session_ids = sessions["session"].cast(pa.string()).combine_chunks()
    splits = pa.array(list(SPLITS)).take(sessions["split"].combine_chunks().cast(pa.int32()))
    names, repetitions = pa.array(kinds), _Repetitions()
    with (folder / "arrays.safetensors").open("wb") as file:
        n_events = int(offset_S[-1])
        arrays = ArraysFile(file, {"offset": len(offset_S), "item": n_events, "event": n_events})
        arrays.append("offset", offset_S)

        def tables() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                repetitions.count(batch)
                arrays.append("item", batch["item_number"].to_numpy())
                arrays.append("event", batch["event"].to_numpy())
                columns = {
                    "session": session_ids.take(batch["session_number"]),
                    "item": item_ids.take(batch["item_number"]),
                    "time": _times(batch["time"], clock),
                    "event": names.take(batch["event"]),
                    "split": splits.take(batch["session_number"]),
                }
                yield pa.record_batch(columns)

        _write(folder / "events.parquet", tables())
    return repetitions.found


class _Repetitions:
    """Counts the rows of a stream that equal the row before."""

    def __init__(self) -> None:
        self.found = 0
        self._last: list[Any] | None = None

    def count(self, batch: pa.RecordBatch) -> None:
        if not len(batch):
            return
        columns = [batch[name].to_numpy() for name in ("session_number", "time", "event", "item_number")]
        like_before = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
        first = [column[0] for column in columns]
        self.found += int(like_before.sum()) + (first == self._last)
        self._last = [column[-1] for column in columns]


def _times(column: Any, clock: bool) -> Any:
    whole = column.cast(pa.int64())
    return whole.cast(pa.timestamp("us", "UTC")) if clock else whole


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Write batches in row groups of one size, however the engine cut them."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
            waiting.append(batch)
            rows += len(batch)
            while rows >= _ROW_GROUP:
                table = pa.Table.from_batches(waiting)
                writer.write_table(table.slice(0, _ROW_GROUP).combine_chunks(), _ROW_GROUP)
                waiting, rows = table.slice(_ROW_GROUP).to_batches(), rows - _ROW_GROUP
        if writer and rows:
            writer.write_table(pa.Table.from_batches(waiting).combine_chunks(), _ROW_GROUP)
    finally:
        if writer:
            writer.close()
