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
        UsageError: where an id's type is none for an id.
        ValuerecError: where the file is broken.
    """
    with _explained(source):
        file = pq.ParquetFile(source.path)
        schema = file.schema_arrow
    for field in ("session", "item"):
        kind = schema.field(wanted[field]).type
        kinds[field] = pa.types.is_integer(kind)
        if not (kinds[field] or _is_text(kind)):
            raise UsageError(
                f"{source.path}, column {wanted[field]} holds {kind}, no ids; write it as text or whole numbers."
            )
    first = 1
    with _explained(source):
        for batch in file.iter_batches(_BLOCK_ROWS, columns=list(dict.fromkeys(wanted.values()))):
            yield _block(batch, first, wanted)
            first += len(batch)


def _block(batch: pa.RecordBatch, first: int, wanted: Mapping[str, str]) -> Block:
    columns = {field: batch[name] for field, name in wanted.items()}
    for field in columns:
        if field != "time" or _is_text(columns[field].type):
            columns[field] = pc.fill_null(pc.cast(columns[field], pa.string()), "")
            columns[field].validate(full=True)  # is it UTF-8? Parquet does not ask

    def texts(places: NDArray[np.int64]) -> list[str]:
        rows = batch.take(places).to_pylist()
        return [json.dumps(row, ensure_ascii=False, default=str)[:LONGEST_TEXT] for row in rows]

    return Block(np.arange(first, first + len(batch), dtype=np.int64), columns, [], texts)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


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
