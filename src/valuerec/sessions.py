"""Files of sessions to recommend for, and files of recommendations.

Sessions, oldest item first, as
- JSON lines: `{"session": "a", "items": ["1", "2"]}`, or just `["1", "2"]`;
- CSV (.csv, .tsv) with the columns `session` and `item`, a row an event in order, an empty item for an empty session;
- Parquet: `session` and `item` like CSV, or `session` and `items` (a list a row).
Ids may be text or whole numbers; they are text from here on. A file of sessions is read into memory whole: split one
that is too large. Answers are written as they come.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import explained_io
from valuerec.model import Answer

FORMATS: Final = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet")


class Session(NamedTuple):
    """A session's id and its items, oldest first."""

    id: str
    items: list[str]


def check_format(path: Path) -> None:
    """Refuse a file whose name does not end like a known format."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"The format of {path} is not known by its ending; use one of: {', '.join(FORMATS)}.")


def read_sessions(path: Path) -> list[Session]:
    """The sessions of a file, in the order in which they begin.

    Raises:
        UsageError: for an unknown ending.
        ValuerecError: for a missing, unreadable or empty file, naming the line or column.
    """
    check_format(path)
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
    with explained_io(f"Reading {path}"):
        if path.stat().st_size == 0:
            raise ValuerecError(f"{path} is empty; give a file with at least one session.")
        try:
            sessions = readers.get(path.suffix.lower(), _read_json_lines)(path)
        except UnicodeDecodeError as error:
            raise ValuerecError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8.") from error
    if not sessions:
        raise ValuerecError(f"{path} holds no session; give a file with at least one.")
    return sessions


def _read_json_lines(path: Path) -> list[Session]:
    sessions = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
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
            items = [_id(item, f"{where}, items") for item in content["items"]]
            sessions.append(Session(_id(content["session"], f"{where}, session"), items))
    return sessions


def _read_csv(path: Path) -> list[Session]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            _check_columns(path, header, ("session", "item"))
            session, item = header.index("session"), header.index("item")
            events = []
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValuerecError(
                        f"{path}, line {rows.line_num} has {len(row)} fields, the header {len(header)}; mend the line."
                    )
                events.append((_id(row[session], f"{path}, line {rows.line_num}, session"), row[item] or None))
        except csv.Error as error:
            raise ValuerecError(f"{path}, line {rows.line_num} is not CSV ({error}); mend the line.") from error
    return _gather(events)


def _read_parquet(path: Path) -> list[Session]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValuerecError(f"{path} is not a readable Parquet file; write it again.") from error
    listed = "items" in table.column_names
    _check_columns(path, table.column_names, ("session", "items" if listed else "item"))
    ids = _plain(path, table, "session")
    values = _plain(path, table, "items" if listed else "item")
    names = [_id(value, f"{path}, row {row}, session") for row, value in enumerate(ids, start=1)]
    if not listed:
        items = [
            None if value is None else _id(value, f"{path}, row {row}, item") for row, value in enumerate(values, 1)
        ]
        return _gather(zip(names, items, strict=True))
    sessions = []
    for row, (name, value) in enumerate(zip(names, values, strict=True), start=1):
        sessions.append(Session(name, [_id(item, f"{path}, row {row}, items") for item in value or []]))
    return sessions


def _plain(path: Path, table: pa.Table, name: str) -> list[Any]:
    """A column as Python values, having seen that it can hold nothing but ids, or lists of them for `items`."""
    kind = table.schema.field(name).type
    listed = name == "items"
    inner = kind.value_type if pa.types.is_dictionary(kind) or (listed and _is_list(kind)) else kind
    if listed != _is_list(kind) or not any(holds(inner) for holds in _ID_TYPES):
        wanted = "a list of ids (text or whole numbers) a row" if listed else "text or whole numbers"
        raise ValuerecError(f"{path}, column {name} is {kind}; write {wanted}.")
    values: list[Any] = table[name].to_pylist()
    return values


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


_ID_TYPES: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_null,
)


def _gather(events: Iterable[tuple[str, str | None]]) -> list[Session]:
    """Sessions of (session, item) rows; an empty item only says that the session exists."""
    sessions: dict[str, list[str]] = {}
    for session, item in events:
        items = sessions.setdefault(session, [])
        if item is not None:
            items.append(item)
    return [Session(session, items) for session, items in sessions.items()]


def _id(value: Any, where: str) -> str:
    """An id as text; whole numbers are their digits."""
    if isinstance(value, str) and value:
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValuerecError(f"{where}: {value!r} holds half a character; write whole Unicode text.")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValuerecError(f"{where}: {value!r} is no id; write text or a whole number.")


def _check_columns(path: Path, present: Sequence[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in present]
    if twice := [name for name in needed if present.count(name) > 1]:
        raise ValuerecError(f"{path} has the column {twice[0]} twice; keep one.")
    if missing:
        raise ValuerecError(
            f"{path} has no column {' and no column '.join(missing)} but {', '.join(present)}; "
            f"it needs {' and '.join(needed)}."
        )


_TYPES: Final[dict[str, pa.DataType]] = {
    "session": pa.string(),
    "rank": pa.int32(),
    "item": pa.string(),
    "score": pa.float64(),
    "value": pa.float64(),
    "uncertainty": pa.float64(),
}
_COLUMNS: Final = pa.schema(_TYPES)


def write_answers(path: Path, answers: Iterable[tuple[str, Answer]]) -> None:
    """Write recommendations: JSON lines with a session a line, CSV or Parquet with an item a row.

    The file appears whole or not at all.
    """
    check_format(path)
    partial = path.with_name(f".{path.name}.partial")
    with explained_io(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if path.suffix.lower() == ".parquet":
                _write_parquet(partial, answers)
            elif path.suffix.lower() in (".csv", ".tsv"):
                _write_csv(partial, answers, "\t" if path.suffix.lower() == ".tsv" else ",")
            else:
                _write_json_lines(partial, answers)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _rows(answers: Iterable[tuple[str, Answer]]) -> Iterator[tuple[Any, ...]]:
    for session, answer in answers:
        for rank, item in enumerate(answer.items, start=1):
            yield session, rank, *item


def _write_json_lines(path: Path, answers: Iterable[tuple[str, Answer]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for session, answer in answers:
            items = [item._asdict() for item in answer.items]
            line = {"session": session, "items": items, "unknown": answer.unknown}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_csv(path: Path, answers: Iterable[tuple[str, Answer]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(_COLUMNS.names)
        writer.writerows(_rows(answers))


def _write_parquet(path: Path, answers: Iterable[tuple[str, Answer]], block: int = 1 << 16) -> None:
    with pq.ParquetWriter(path, _COLUMNS) as writer:
        rows: list[tuple[Any, ...]] = []
        for row in _rows(answers):
            rows.append(row)
            if len(rows) == block:
                writer.write_table(_table(rows))
                rows = []
        if rows:
            writer.write_table(_table(rows))


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _COLUMNS, strict=True)]
    return pa.Table.from_arrays(columns, schema=_COLUMNS)
