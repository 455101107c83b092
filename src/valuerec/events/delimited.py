"""CSV and its kin: all fields as text, and a row is a line, so that no stray quote can swallow its neighbours."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from valuerec.events.blocks import LONGEST_TEXT, BadRow, Block
from valuerec.events.sources import BOM, Source


def header_of(source: Source) -> tuple[list[str], str]:
    """The names in a file's first line, and the delimiter between them: comma, semicolon, tab or bar."""
    line = source.first_line().text
    delimiter = max(",;\t|", key=line.count)
    return fields_of(line, delimiter), delimiter


def read_delimited(
    source: Source, names: Sequence[str], wanted: Mapping[str, str], delimiter: str, header: bool
) -> Iterator[Block]:
    """Read a delimited text file, some megabytes at a time.

    Args:
        source: the file.
        names: all its columns, in order.
        wanted: which column is the session, the item, the time and the event.
        delimiter: between fields.
        header: whether the first line that is not blank is a header.

    Raises:
        ValuerecError: where the file is no text.
    """
    begin = source.first_line().row + 1 if header else 1
    for first, chunk, broken in source.chunks():
        if first < begin:  # the header lies in the first chunk, for that is where first_line looks
            chunk = chunk.split(b"\n", begin - first)[-1]
            first = begin
        if chunk:
            block = _block(first, chunk, names, wanted, delimiter)
            yield block.without(broken, "not_utf8") if broken else block


def _block(first: int, chunk: bytes, names: Sequence[str], wanted: Mapping[str, str], delimiter: str) -> Block:
    count = chunk.count(b"\n")
    bad: list[BadRow] = []
    odd = chunk.count(b"\r") != chunk.count(b"\r\n") or b"\x00" in chunk
    table = None if odd else _parsed(first, chunk, names, wanted, delimiter, bad)
    if table is None or len(table) + len(bad) != count:
        bad = []
        table = _parsed_by_line(first, chunk, names, wanted, delimiter, bad)
    row = np.arange(first, first + count, dtype=np.int64)
    row = np.delete(row, [each.row - first for each in bad])
    columns = {field: table[name].combine_chunks() for field, name in wanted.items()}
    return Block(row, columns, bad, partial(_texts, chunk, row - first))


def _parsed(
    first: int, chunk: bytes, names: Sequence[str], wanted: Mapping[str, str], delimiter: str, bad: list[BadRow]
) -> Any:
    """The chunk by pyarrow's fast parser, which takes a line break between quotes for a part of the field.

    Where that happens there are fewer rows than lines. A last line of nothing shows it at the chunk's end too; None
    where there is not even that.
    """
    guard = b'"' in chunk
    if guard:
        chunk += delimiter.encode() * (len(names) - 1) + b"\n"
    if chunk.startswith(BOM):  # pyarrow takes one away, and here it is a part of the first field
        chunk = BOM + chunk

    def wrong_count(row: pa_csv.InvalidRow) -> Literal["skip"]:
        bad.append(BadRow(first - 1 + (row.number or 0), "", "wrong_field_count", row.text[:LONGEST_TEXT]))
        return "skip"

    table = pa_csv.read_csv(
        io.BytesIO(chunk),
        # One thread: with more, pyarrow does not know the numbers of bad rows.
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(chunk) + 1, column_names=list(names)),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, ignore_empty_lines=False, invalid_row_handler=wrong_count
        ),
        convert_options=pa_csv.ConvertOptions(
            check_utf8=False,  # the source has
            column_types=dict.fromkeys(wanted.values(), pa.string()),
            include_columns=list(dict.fromkeys(wanted.values())),
            strings_can_be_null=False,
        ),
    )
    if not guard:
        return table
    return table.slice(0, len(table) - 1) if len(table) else None


def _parsed_by_line(
    first: int, chunk: bytes, names: Sequence[str], wanted: Mapping[str, str], delimiter: str, bad: list[BadRow]
) -> Any:
    """The chunk line by line, slowly; a line that leaves a quote open is a bad row."""
    good = []
    usual_limit = csv.field_size_limit()
    csv.field_size_limit(max(len(chunk), usual_limit))  # no field is too long here, as for the fast parser
    try:
        for number, line in enumerate(_lines(chunk), start=first):
            fields = fields_of(line, delimiter) or [""] * len(names)
            if "\x00" in line:  # what a crash or a broken disk leaves, and no text
                bad.append(BadRow(number, "", "nul_byte", line[:LONGEST_TEXT]))
            elif len(fields) != len(names):
                bad.append(BadRow(number, "", "wrong_field_count", line[:LONGEST_TEXT]))
            else:
                good.append(fields)
    finally:
        csv.field_size_limit(usual_limit)
    places = {name: names.index(name) for name in wanted.values()}
    return pa.table({name: pa.array([row[place] for row in good], pa.string()) for name, place in places.items()})


def fields_of(line: str, delimiter: str) -> list[str]:
    """The fields of a line, none where it is blank; all of it as one where no row can be made of it."""
    try:
        records = list(csv.reader([line, "next"], delimiter=delimiter))
    except csv.Error:
        return [line]
    return records[0] if len(records) == 2 else [line]


def _lines(chunk: bytes) -> list[str]:
    return [line.rstrip("\r") for line in chunk.decode().split("\n")[:-1]]


def _texts(chunk: bytes, line_N: NDArray[np.int64], places: NDArray[np.int64]) -> list[str]:
    lines = _lines(chunk)
    return [lines[line][:LONGEST_TEXT] for line in line_N[places].tolist()]
