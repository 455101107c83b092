"""Parquet, some rows at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valuerec.errors import UsageError, ValuerecError
from valuerec.events.blocks import LONGEST_TEXT, Block
from valuerec.events.sources import Source
from valuerec.folders import explained_io

_BLOCK_ROWS: Final = 1 << 17
pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes


def columns_of(source: Source) -> list[str]:
    """The names of a Parquet file's columns."""
    with _explained(source):
        return pq.ParquetFile(source.path).schema_arrow.names


def read_parquet(source: Source, wanted: Mapping[str, str], kinds: dict[str, bool]) -> Iterator[Block]:
    """Read a Parquet file.

    Args:
        source: the file.
        wanted: which column is the session, the item, the time and the event.
        kinds: filled with which of session and item are numbers.

    Raises:
        UsageError: where a column's type is none for ids, times or kinds of events.
        ValuerecError: where the file is broken.
    """
    with _explained(source):
        file = pq.ParquetFile(source.path)
        schema = file.schema_arrow
    for field, column in wanted.items():
        kind = _plain(schema.field(column).type)
        fits, what, remedy = _FITTING[field]
        if not fits(kind):
            raise UsageError(f"{source.path}, column {column} holds {schema.field(column).type}, no {what}; {remedy}.")
        if field in ("session", "item"):
            kinds[field] = not _is_text(kind)
    first = 1
    with _explained(source):
        for batch in file.iter_batches(_BLOCK_ROWS, columns=list(dict.fromkeys(wanted.values()))):
            yield _block(batch, first, wanted)
            first += len(batch)


def _block(batch: pa.RecordBatch, first: int, wanted: Mapping[str, str]) -> Block:
    columns: dict[str, Any] = {field: batch[name] for field, name in wanted.items()}
    for field, column in columns.items():
        if pa.types.is_dictionary(column.type):
            columns[field] = column = column.dictionary_decode()
        if field != "time" or _is_text(column.type) or pa.types.is_decimal(column.type):
            columns[field] = pc.fill_null(pc.cast(column, pa.string()), "")
            columns[field].validate(full=True)  # is it UTF-8? Parquet does not ask

    def texts(places: NDArray[np.int64]) -> list[str]:
        rows = batch.take(places)
        values = [[_shown(value) for value in column] for column in rows.columns]
        objects = (dict(zip(rows.schema.names, row, strict=True)) for row in zip(*values, strict=True))
        return [json.dumps(each, ensure_ascii=False, default=str)[:LONGEST_TEXT] for each in objects]

    return Block(np.arange(first, first + len(batch), dtype=np.int64), columns, [], texts)


def _shown(value: Any) -> Any:
    """A value as Python has it, or its number where Python has none: nanoseconds, the year 292277, unknown zones."""
    try:
        return value.as_py()
    except (ValueError, OverflowError, KeyError):
        return value.value


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_id(kind: Any) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)


def _is_time(kind: Any) -> bool:
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return bool(numbers or _is_text(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_kind(kind: Any) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


_AN_ID: Final = (_is_id, "ids", "write it as text or whole numbers")
_FITTING: Final = {
    "session": _AN_ID,
    "item": _AN_ID,
    "time": (_is_time, "times", "write it as timestamps, numbers or ISO text"),
    "event": (_is_kind, "kinds of events", "write it as text"),
}


@contextlib.contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turn what pyarrow says of a broken file into one sentence."""
    with explained_io(f"Reading {source.path}"):
        try:
            yield
        except (pa.ArrowException, UnicodeError) as error:
            raise _broken(source, error) from error
        except OSError as error:
            if error.errno is None:  # pyarrow's own, of its decoders
                raise _broken(source, error) from error
            raise


def _broken(source: Source, error: Exception) -> ValuerecError:
    text = " ".join(str(error).split()).rstrip(".")
    return ValuerecError(f"{source.path} is not a readable Parquet file ({text}); write it again.")
