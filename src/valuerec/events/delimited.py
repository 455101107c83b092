"""CSV and its kin, in bounded memory: all fields as text, a record a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from valuerec.errors import ValuerecError
from valuerec.events.blocks import BadRow, Block
from valuerec.events.sources import Source

_BLOCK_BYTES = 1 << 23


def header_of(source: Source) -> tuple[list[str], str]:
    """The names in a file's first line, and the delimiter between them: comma, semicolon, tab or bar."""
    line = source.first_line()
    delimiter = max(",;\t|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def read_delimited(
    source: Source, names: Sequence[str], wanted: Mapping[str, str], delimiter: str, skip_rows: int
) -> Iterator[Block]:
    """Read a delimited text file.

    Args:
        source: the file.
        names: all its columns, in order.
        wanted: which column is the session, the item, the time and the event.
        delimiter: between fields.
        skip_rows: 1 where the first line is a header.

    Raises:
        ValuerecError: where the file is not UTF-8 or a record is longer than a block.
    """
    short: list[BadRow] = []

    def wrong_count(row: pa_csv.InvalidRow) -> str:
        short.append(BadRow(row.number, "wrong_field_count", row.text))
        return "skip"

    columns = list(wanted.values())
    with source.open() as file:
        try:
            reader = pa_csv.open_csv(
                file,
                # One thread: with more, pyarrow does not know the numbers of bad rows.
                read_options=pa_csv.ReadOptions(
                    use_threads=False, block_size=_BLOCK_BYTES, column_names=list(names), skip_rows=skip_rows
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=delimiter, ignore_empty_lines=False, invalid_row_handler=wrong_count
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    include_columns=list(dict.fromkeys(columns)),
                    strings_can_be_null=False,
                ),
            )
            number = 1 + skip_rows
            for batch in reader:
                row, number = _numbers(number, len(batch), [bad.row for bad in short])
                yield Block(row, {field: batch[name] for field, name in wanted.items()}, list(short))
                short.clear()
            if short:
                nothing = {field: pa.array([], pa.string()) for field in wanted}
                yield Block(np.empty(0, dtype=np.int64), nothing, short)
        except pa.ArrowInvalid as error:
            raise _explained(source, error) from error


def _numbers(first: int, count: int, bad: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Numbers of `count` good rows from row `first` on, passing over the bad ones, and the row after the last."""
    row = np.arange(first, first + count + len(bad), dtype=np.int64)
    row = row[~np.isin(row, bad)][:count]
    after = int(row[-1]) + 1 if count else first
    while after in bad:
        after += 1
    return row, after


def _explained(source: Source, error: pa.ArrowInvalid) -> ValuerecError:
    text = " ".join(str(error).split())
    if "UTF8" in text or "UTF-8" in text:
        return source.not_utf8()
    if "Empty CSV" in text:
        return ValuerecError(f"{source.path} holds a header and no rows; name a file with events.")
    if "straddling" in text or "block size" in text:
        return ValuerecError(f"{source.path} has a record longer than {_BLOCK_BYTES} bytes; is it a table at all?")
    return ValuerecError(f"{source.path} can't be read as delimited text ({text}); check the format.")
