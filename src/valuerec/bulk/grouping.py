"""Events in any order, sorted so that those of a session stand together: by DuckDB, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from valuerec.errors import ValuerecError

_MEMORY: Final = "512MB"  # what does not fit goes to the disk
_ROWS: Final = 1 << 16
_TYPES: Final[dict[str, pa.DataType]] = {"session": pa.string(), "item": pa.int32()}
_SCHEMA: Final = pa.schema(_TYPES)
_SORTED: Final = """
    SELECT first, session, item
    FROM (
        SELECT session, item, file_row_number AS row, min(file_row_number) OVER (PARTITION BY session) AS first
        FROM read_parquet($file, file_row_number = true, hive_partitioning = false)
    )
    ORDER BY first, row
"""


def grouped(events: Iterable[tuple[str, int | None]], folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Sessions in the order in which they begin, each with its items in the order of its events.

    Args:
        events: (session, item); no item only says that the session exists.
        folder: for what does not fit into memory; what is put there is removed.

    Raises:
        ValuerecError: where memory or disk do not suffice.
    """
    rows = folder / "events.parquet"
    with pq.ParquetWriter(rows, _SCHEMA, compression="lz4") as writer:
        for batch in _batches(events):
            writer.write_batch(batch)
    try:
        with duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(folder / "spilled")}) as engine:
            found = engine.execute(_SORTED, {"file": str(rows)}).to_arrow_reader(_ROWS)
            for (_, session), group in groupby(_rows(found), key=lambda row: row[:2]):
                yield session, [item for _, _, item in group if item is not None]
    except duckdb.Error as error:
        raise _explained(error, folder) from error
    except RuntimeError as error:
        if "interrupted" in str(error).lower():  # Ctrl-C, as DuckDB tells it
            raise KeyboardInterrupt from error
        raise
    finally:
        rows.unlink(missing_ok=True)


def _batches(events: Iterable[tuple[str, int | None]]) -> Iterator[pa.RecordBatch]:
    sessions: list[str] = []
    items: list[int | None] = []
    for session, item in events:
        sessions.append(session)
        items.append(item)
        if len(items) == _ROWS:
            yield _batch(sessions, items)
            sessions, items = [], []
    if items:
        yield _batch(sessions, items)


def _batch(sessions: list[str], items: list[int | None]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(sessions, pa.string()), pa.array(items, pa.int32())], schema=_SCHEMA)


def _rows(found: pa.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    for batch in found:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _explained(error: duckdb.Error, folder: Path) -> ValuerecError:
    text = " ".join(str(error).split()).rstrip(".")
    if "no space left" in text.lower() or "max_temp_directory_size" in text:
        return ValuerecError(f"Writing {folder} failed: no space is left on the disk; free some or name another --out.")
    return ValuerecError(f"Sorting the events by session failed: {text}; sort the file by session or take more memory.")
