"""JSON lines: an object a line, or OTTO's session a line with its events inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from valuerec.errors import ValuerecError
from valuerec.events.blocks import BadRow, Block
from valuerec.events.sources import Source

_BLOCK_ROWS = 1 << 16

Row = tuple[int, tuple[Any, ...]]


class _Ids:
    """Holds a file to one kind of id: whole numbers or text, not both."""

    def __init__(self, source: Source) -> None:
        self._source, self._kinds = source, dict[str, tuple[type, int]]()

    def text(self, value: Any, field: str, row: int) -> str | None:
        """The id as text; None where it is no id."""
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None
        kind = type(value)
        known, first = self._kinds.setdefault(field, (kind, row))
        if kind is not known:
            names = {int: "a number", str: "text"}
            raise ValuerecError(
                f"{self._source.path}: the {field} is {names[known]} in row {first} and {names[kind]} in row {row}; "
                "write it one way."
            )
        return str(value)

    def numeric(self) -> dict[str, bool]:
        """Which fields are whole numbers."""
        return {field: kind is int for field, (kind, _) in self._kinds.items()}


def read_json_lines(source: Source, wanted: Mapping[str, str], kinds: dict[str, bool]) -> Iterator[Block]:
    """Read a file with an event a line.

    Args:
        source: the file.
        wanted: which key is the session, the item, the time and the event.
        kinds: filled with which of session and item are numbers.
    """
    ids = _Ids(source)

    def events(row: int, line: dict[str, Any]) -> Iterator[dict[str, Any] | BadRow]:
        values = {field: line.get(name) for field, name in wanted.items()}
        missing = [wanted[field] for field, value in values.items() if value is None]
        yield BadRow(row, "missing_field", json.dumps(line, ensure_ascii=False)) if missing else values

    yield from _read(source, events, ids, wanted, kinds)


def read_otto(source: Source, kinds: dict[str, bool]) -> Iterator[Block]:
    """Read OTTO's `{"session": 1, "events": [{"aid": 2, "ts": 3, "type": "clicks"}]}`; a row is an event."""
    ids = _Ids(source)

    def events(row: int, line: dict[str, Any]) -> Iterator[dict[str, Any] | BadRow]:
        if "session" not in line or not isinstance(line.get("events"), list):
            yield BadRow(row, "missing_field", json.dumps(line, ensure_ascii=False))
            return
        for event in line["events"]:
            if not isinstance(event, dict) or any(event.get(name) is None for name in ("aid", "ts", "type")):
                yield BadRow(row, "missing_field", json.dumps(event, ensure_ascii=False))
            else:
                yield {"session": line["session"], "item": event["aid"], "time": event["ts"], "event": event["type"]}

    yield from _read(source, events, ids, ("session", "item", "time", "event"), kinds)


def _read(source: Source, events: Any, ids: _Ids, fields: Any, kinds: dict[str, bool]) -> Iterator[Block]:
    rows: list[int] = []
    values: dict[str, list[Any]] = {field: [] for field in fields}
    bad: list[BadRow] = []
    with source.open() as file:
        for number, raw in enumerate(file, start=1):
            for event in _events_of(source, number, raw, events):
                if isinstance(event, BadRow):
                    bad.append(event)
                    continue
                rows.append(number)
                for field, value in event.items():
                    known = ids.text(value, field, number) or "" if field in ("session", "item") else _text(value)
                    values[field].append(known)
            if len(rows) + len(bad) >= _BLOCK_ROWS:
                yield _block(rows, values, bad)
                rows, values, bad = [], {field: [] for field in fields}, []
    kinds.update(ids.numeric())
    if rows or bad:
        yield _block(rows, values, bad)


def _events_of(source: Source, number: int, raw: bytes, events: Any) -> Iterator[dict[str, Any] | BadRow]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise source.not_utf8(number) from error
    try:
        line = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        line = None
    if isinstance(line, dict):
        yield from events(number, line)
    else:
        yield BadRow(number, "not_json", text.rstrip("\r\n"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _block(rows: list[int], values: dict[str, list[Any]], bad: list[BadRow]) -> Block:
    columns = {field: pa.array(column, pa.string()) for field, column in values.items()}
    return Block(np.array(rows, dtype=np.int64), columns, bad)
