"""The files of a dataset, streamed from the engine in bounded memory, byte for byte a function of the events."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from valuerec.dataset import SPLITS

_ROW_GROUP: Final = 1 << 19
_KINDS: Final = pa.array(["click", "purchase"])
_ARRAYS: Final = (("offset", "I64", np.int64), ("item", "I32", np.int32), ("event", "U8", np.uint8))


class ArraysFile:
    """A safetensors file written in place through memory maps, so that no array need fit into memory.

    The layout is the format's: length of the header, JSON header, arrays end to end, each aligned.
    """

    def __init__(self, path: Path, sizes: dict[str, int]) -> None:
        header: dict[str, Any] = {}
        start = 0
        for name, code, dtype in _ARRAYS:
            stop = start + sizes[name] * np.dtype(dtype).itemsize
            header[name] = {"dtype": code, "shape": [sizes[name]], "data_offsets": [start, stop]}
            start = stop
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + start)
        self.arrays: dict[str, Any] = {
            name: np.memmap(
                path, dtype, "r+", offset=8 + len(text) + header[name]["data_offsets"][0], shape=(sizes[name],)
            )
            for name, _, dtype in _ARRAYS
        }

    def flush(self) -> None:
        """Write what is still in memory."""
        for array in self.arrays.values():
            array.flush()


def write_items(path: Path, items: pa.Table) -> None:
    """items.parquet: a row an item, in index order."""
    counts = {name: items[name].cast(pa.int64()) for name in ("clicks", "purchases")}
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
    folder: Path, batches: Iterator[pa.RecordBatch], items: pa.Table, sessions: pa.Table, clock: bool
) -> None:
    """events.parquet and arrays.safetensors, from the ordered events with sessions and items by index."""
    ends = np.cumsum(sessions["events"].to_numpy())
    sizes = {"offset": len(sessions) + 1, "item": int(ends[-1]), "event": int(ends[-1])}
    file = ArraysFile(folder / "arrays.safetensors", sizes)
    file.arrays["offset"][0] = 0
    file.arrays["offset"][1:] = ends
    item_ids = items["item"].cast(pa.string()).combine_chunks()
    session_ids = sessions["session"].cast(pa.string()).combine_chunks()
    splits = sessions["split"].combine_chunks().cast(pa.int32())

    def tables() -> Iterator[pa.RecordBatch]:
        place = 0
        for batch in batches:
            stop = place + len(batch)
            file.arrays["item"][place:stop] = batch["item_number"].to_numpy()
            file.arrays["event"][place:stop] = batch["event"].to_numpy()
            place = stop
            columns = {
                "session": session_ids.take(batch["session_number"]),
                "item": item_ids.take(batch["item_number"]),
                "time": _times(batch["time"], clock),
                "event": _KINDS.take(batch["event"]),
                "split": pa.array(list(SPLITS)).take(splits.take(batch["session_number"])),
            }
            yield pa.record_batch(columns)

    _write(folder / "events.parquet", tables())
    file.flush()


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
