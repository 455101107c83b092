"""JSON lines: an event a line, or OTTO's session a line with its events inside."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from valuerec.errors import ValuerecError
from valuerec.events.blocks import FIELDS, LONGEST_TEXT, BadRow, Block
from valuerec.events.sources import Source

if TYPE_CHECKING:
    from valuerec.events.blocks import Column

Values = tuple[Any, ...]
_SURROGATE: Final = re.compile(r"\\u[dD][89abAB]")
_KEY: Final = re.compile(r'"[ \t\r]*:')  # behind every key, and perhaps in a text too
_KINDS: Final = {int: "a number", str: "text"}


def object_of(text: str) -> dict[str, Any] | None:
    """The JSON object that a line is, or None where it is none."""
    try:
        line = _loaded(text)
        if _SURROGATE.search(text):  # half of a pair, which is no text
            json.dumps(line, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _loaded(text: str) -> Any:
    """What a line of JSON says; whole numbers of more digits than Python makes an int of are decimals."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        most = sys.get_int_max_str_digits()
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < most else Decimal(digits))


def _repeats_a_key(text: str, line: dict[str, Any]) -> bool:
    """Whether an object of the line has a key twice, of which Python would silently take the last.

    A good line is read a second time only where a text in it looks like a key, or objects lie deeper than OTTO's.
    """
    nested = [value for value in line.values() if type(value) is list]
    keys = len(line) + sum(len(inner) for value in nested for inner in value if type(inner) is dict)
    if len(_KEY.findall(text)) == keys:
        return False

    def unique(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            raise KeyError

    try:
        json.loads(text, object_pairs_hook=unique, parse_int=str)
    except (KeyError, RecursionError):
        return True
    return False


def read_json_lines(source: Source, wanted: Mapping[str, str], kinds: dict[str, bool]) -> Iterator[Block]:
    """Read a file with an event a line.

    Args:
        source: the file.
        wanted: which key is the session, the item, the time and the event.
        kinds: filled with which of session and item are numbers.

    Raises:
        ValuerecError: where ids are numbers in one row and text in another, or only some rows have an event.
    """

    def events(row: int, line: dict[str, Any]) -> list[Values]:
        if "event" not in wanted and "event" in line:
            raise ValuerecError(
                f"{source.path} has the key event in row {row} but not in its first row; give every row one, or set "
                "those without it aside with --columns event=event."
            )
        return [tuple(line.get(name) for name in wanted.values())]

    yield from _read(source, events, tuple(wanted), kinds)


def read_otto(source: Source, kinds: dict[str, bool]) -> Iterator[Block]:
    """Read OTTO's `{"session": 1, "events": [{"aid": 2, "ts": 3, "type": "clicks"}]}`; a row is an event.

    Args:
        source: the file.
        kinds: filled with which of session and item are numbers.

    Raises:
        ValuerecError: where ids are numbers in one row and text in another.
    """

    def events(row: int, line: dict[str, Any]) -> list[Values]:
        session, inside = line.get("session"), line.get("events")
        if not isinstance(inside, list) or not inside:
            return [(None,)]
        return [
            (session, event.get("aid"), event.get("ts"), event.get("type")) if isinstance(event, dict) else (None,)
            for event in inside
        ]

    yield from _read(source, events, FIELDS, kinds)


def _read(
    source: Source,
    events: Callable[[int, dict[str, Any]], list[Values]],
    fields: tuple[str, ...],
    kinds: dict[str, bool],
) -> Iterator[Block]:
    first_kinds: dict[str, tuple[type, int]] = {}
    for first, chunk, broken in source.chunks():
        lines = chunk.decode().split("\n")[:-1]
        rows: list[int] = []
        good: list[Values] = []
        bad: list[BadRow] = []
        for row, text in enumerate(lines, start=first):
            line = object_of(text)
            if line is None or row in broken or _repeats_a_key(text, line):
                reason = "not_utf8" if row in broken else "not_json" if line is None else "repeated_key"
                bad.append(BadRow(row, "", reason, text[:LONGEST_TEXT]))
                continue
            for values in events(row, line):
                if wrong := _wrong(values, fields):
                    bad.append(BadRow(row, *wrong, text[:LONGEST_TEXT]))
                else:
                    _check_kinds(source, values, row, first_kinds)
                    rows.append(row)
                    good.append(values)
        yield _block(rows, good, bad, fields, lines, first)
    kinds.update({field: kind is int for field, (kind, _) in first_kinds.items()})


def _wrong(values: Values, fields: tuple[str, ...]) -> tuple[str, str] | None:
    """Which field makes values no event, and why, if they are none; ids come first and second."""
    if len(values) < len(fields):
        return "", "missing_field"
    for field, value in zip(fields, values, strict=True):
        if value is None:
            return field, "missing_field"
    for field, value in zip(fields[:2], values, strict=False):
        if type(value) not in _KINDS:
            return field, "unreadable_id"
    return None


def _check_kinds(source: Source, values: Values, row: int, first_kinds: dict[str, tuple[type, int]]) -> None:
    """Hold a file to one kind of id: whole numbers or text, not both."""
    for field, value in zip(("session", "item"), values, strict=False):
        kind, first = first_kinds.setdefault(field, (type(value), row))
        if kind is not type(value):
            raise ValuerecError(
                f"The {field} ids are numbers in one row and text in another of {source.path} ({_KINDS[kind]} in row "
                f"{first}, {_KINDS[type(value)]} in row {row}); write them one way."
            )


def _block(
    rows: list[int], good: list[Values], bad: list[BadRow], fields: tuple[str, ...], lines: list[str], first: int
) -> Block:
    columns: dict[str, Column] = {
        field: pa.array([_text(values[place]) for values in good], pa.string()) for place, field in enumerate(fields)
    }
    row = np.array(rows, dtype=np.int64)

    def texts(places: NDArray[np.int64]) -> list[str]:
        return [lines[number - first][:LONGEST_TEXT] for number in row[places].tolist()]

    return Block(row, columns, bad, texts)


def _text(value: Any) -> str:
    """A value as it stands in the file; lists and objects, no times and no kinds of events, as their braces."""
    if isinstance(value, list | dict):
        return "[]" if isinstance(value, list) else "{}"
    if isinstance(value, str):
        return value
    text = str(value) if isinstance(value, Decimal) else json.dumps(value)
    return f"{Decimal(text):f}" if isinstance(value, float) and "e" in text else text  # 1.4e+18 is 18 digits and more
