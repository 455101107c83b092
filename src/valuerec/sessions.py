"""Files of sessions to recommend for.

Sessions, oldest item first, as
- JSON lines: `{"session": "a", "items": ["1", "2"]}`, or just `["1", "2"]`;
- CSV (.csv, .tsv) with the columns `session` and `item`, a row an event in order, an empty item for an empty session;
- Parquet: `session` and `item` like CSV, or `session` and `items` (a list a row).
Ids may be text or whole numbers; they are text from here on. In a file with a row an event the rows of a session need
not stand together; the session stands where it begins. Files are read a piece at a time (`stream`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import explained_io

FORMATS: Final = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet")
LONGEST_LINE: Final = 1 << 26  # characters of a line of text
_ROWS: Final = 1 << 12  # of Parquet at a time
_BUFFER: Final = 1 << 20


class Session(NamedTuple):
    """A session's id and its items, oldest first."""

    id: str
    items: list[str]


class Event(NamedTuple):
    """A row of a file with a row an event; without an item it only says that the session exists."""

    session: str
    item: str | None


def check_format(path: Path) -> None:
    """Refuse a file whose name does not end like a known format."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"The format of {path} is not known by its ending; use one of: {', '.join(FORMATS)}.")


def read_sessions(path: Path) -> list[Session]:
    """The sessions of a file, in the order in which they begin, all in memory.

    Raises:
        UsageError: for an unknown ending.
        ValuerecError: for a missing, unreadable or empty file, naming the line or column.
    """
    sessions: list[Session] = []
    rows: dict[str, list[str]] = {}
    for row in stream(path):
        if isinstance(row, Session):
            sessions.append(row)
        else:
            items = rows.setdefault(row.session, [])
            if row.item is not None:
                items.append(row.item)
    return sessions + [Session(name, items) for name, items in rows.items()]


def stream(path: Path) -> Iterator[Session] | Iterator[Event]:
    """The sessions of a file one after the other, or the events of one with a row an event.

    Raises:
        UsageError: for an unknown ending.
        ValuerecError: where it is come to: for a missing, unreadable or empty file, naming the line or column.
    """
    check_format(path)
    return _stream(path)


def _stream(path: Path) -> Iterator[Any]:
    readers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    rows: Iterator[Any] = readers.get(path.suffix.lower(), _json_lines)(path)
    with explained_io(f"Reading {path}"):
        if path.stat().st_size == 0:
            raise ValuerecError(f"{path} is empty; give a file with at least one session.")
        try:
            first = next(rows, None)
            if first is None:
                raise ValuerecError(f"{path} holds no session; give a file with at least one.")
            yield first
            yield from rows
        except UnicodeDecodeError as error:
            raise ValuerecError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8.") from error


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    """The lines of a text, each of a length that fits into memory."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise ValuerecError(f"{path}, line {number} has {LONGEST_LINE} characters or more; write shorter lines.")
        yield line


def _json_lines(path: Path) -> Iterator[Session]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(_lines(path, file), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
                raise ValuerecError(f"{where} is not JSON; write one session a line.") from error
            if isinstance(content, list):
                content = {"session": str(number), "items": content}
            if not isinstance(content, dict) or "session" not in content or not isinstance(content.get("items"), list):
                raise ValuerecError(f'{where} is no session; write {{"session": "id", "items": ["id", "id"]}}.')
            items = [_id(item, where, "items") for item in content["items"]]
            yield Session(_id(content["session"], where, "session"), items)


def _csv(path: Path) -> Iterator[Event]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(_lines(path, file), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            _check_columns(path, header, ("session", "item"))
            session, item = header.index("session"), header.index("item")
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValuerecError(
                        f"{path}, line {rows.line_num} has {len(row)} fields, the header {len(header)}; mend the line."
                    )
                yield Event(_id(row[session], f"{path}, line {rows.line_num}", "session"), row[item] or None)
        except csv.Error as error:
            raise ValuerecError(f"{path}, line {rows.line_num} is not CSV ({error}); mend the line.") from error


def _parquet(path: Path) -> Iterator[Session] | Iterator[Event]:
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER) as file:
            listed = "items" in file.schema_arrow.names
            wanted = ("session", "items" if listed else "item")
            _check_columns(path, file.schema_arrow.names, wanted)
            for name in wanted:
                _check_type(path, name, file.schema_arrow.field(name).type)
            row = 0
            for batch in file.iter_batches(_ROWS, columns=list(wanted)):
                for named, value in zip(*(batch.column(name).to_pylist() for name in wanted), strict=True):
                    row += 1
                    where = f"{path}, row {row}"
                    session = _id(named, where, "session")
                    if listed:
                        yield Session(session, [_id(item, where, "items") for item in value or []])
                    else:
                        yield Event(session, None if value is None else _id(value, where, "item"))
    except pa.ArrowException as error:
        raise ValuerecError(f"{path} is not a readable Parquet file; write it again.") from error
    except OSError as error:
        if error.errno is not None:  # not one of pyarrow's own, of its decoders
            raise
        raise ValuerecError(f"{path} is not a readable Parquet file; write it again.") from error


def _check_type(path: Path, name: str, kind: Any) -> None:
    """Refuse a column that can hold something else than ids, or lists of them for `items`."""
    listed = name == "items"
    inner = kind.value_type if pa.types.is_dictionary(kind) or (listed and _is_list(kind)) else kind
    if listed != _is_list(kind) or not any(holds(inner) for holds in _ID_TYPES):
        wanted = "a list of ids (text or whole numbers) a row" if listed else "text or whole numbers"
        raise ValuerecError(f"{path}, column {name} is {kind}; write {wanted}.")


def _is_list(kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


_ID_TYPES: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_null,
)


def _id(value: Any, where: str, field: str) -> str:
    """An id as text; whole numbers are their digits."""
    if isinstance(value, str) and value:
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValuerecError(f"{where}, {field}: {value!r} holds half a character; write whole Unicode text.")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
    raise ValuerecError(f"{where}, {field}: {shown} is no id; write text or a whole number.")


def _check_columns(path: Path, present: Sequence[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in present]
    if twice := [name for name in needed if present.count(name) > 1]:
        raise ValuerecError(f"{path} has the column {twice[0]} twice; keep one.")
    if missing:
        raise ValuerecError(
            f"{path} has no column {' and no column '.join(missing)} but {', '.join(present)}; "
            f"it needs {' and '.join(needed)}."
        )
