"""Parquet, a row group after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from valuerec.errors import UsageError, ValuerecError
from valuerec.events.blocks import Block
from valuerec.events.sources import Source
from valuerec.folders import explained_io

_BLOCK_ROWS = 1 << 18


def columns_of(source: Source) -> list[str]:
    """The names of a Parquet file's columns."""
    return _opened(source).schema_arrow.names


def read_parquet(source: Source, wanted: Mapping[str, str], kinds: dict[str, bool]) -> Iterator[Block]:
    """Read a Parquet file.

    Args:
        source: the file.
        wanted: which column is the session, the item, the time and the event.
        kinds: filled with which of session and item are numbers.

    Raises:
        UsageError: where an id's type is none for an id.
    """
    file = _opened(source)
    schema = file.schema_arrow
    for field in ("session", "item"):
        kind = schema.field(wanted[field]).type
        kinds[field] = pa.types.is_integer(kind)
        if not (kinds[field] or _is_text(kind)):
            raise UsageError(
                f"{source.path}, column {wanted[field]} holds {kind}, no ids; write it as text or whole numbers."
            )
    first = 1
    with explained_io(f"Reading {source.path}"):
        try:
            for batch in file.iter_batches(_BLOCK_ROWS, columns=list(dict.fromkeys(wanted.values()))):
                columns = {field: batch[name] for field, name in wanted.items()}
                for field in columns:
                    if field != "time" or _is_text(columns[field].type):
                        columns[field] = pc.fill_null(pc.cast(columns[field], pa.string()), "")
                yield Block(np.arange(first, first + len(batch), dtype=np.int64), columns, [])
                first += len(batch)
        except pa.ArrowException as error:
            raise _broken(source, error) from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _opened(source: Source) -> pq.ParquetFile:
    with explained_io(f"Reading {source.path}"):
        try:
            return pq.ParquetFile(source.path)
        except (pa.ArrowException, OSError) as error:
            raise _broken(source, error) from error


def _broken(source: Source, error: Exception) -> ValuerecError:
    text = " ".join(str(error).split())
    return ValuerecError(f"{source.path} is not a readable Parquet file ({text}); write it again.")
