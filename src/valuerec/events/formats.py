"""The formats of raw logs: how each is read, what its events mean, and by which rule it is filtered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from valuerec.dataset import KIND_PATTERN, KINDS, MOST_KINDS
from valuerec.errors import UsageError
from valuerec.events.blocks import FIELDS, Block
from valuerec.events.delimited import fields_of, header_of, read_delimited
from valuerec.events.jsonlines import object_of, read_json_lines, read_otto
from valuerec.events.parquet import columns_of, read_parquet
from valuerec.events.sources import Source

Meaning = str  # click, purchase, ignore, transaction (in RetailRocket), or the name of another kind of event
Rule = Literal["clicks: items, sessions", "all: sessions, items", "all: items, sessions"]

USUAL_EVENTS: Final[dict[str, Meaning]] = {
    **dict.fromkeys(("click", "clicks", "view", "views", "pageview"), "click"),
    **dict.fromkeys(("purchase", "purchases", "buy", "buys", "order", "orders", "transaction"), "purchase"),
}


@dataclass(frozen=True)
class Format:
    """What is particular to a format.

    Args:
        rule: which events count for the filters, and which filter comes first.
        meanings: what each kind of event in the log is to us; a log without kinds has clicks.
        published: counts of the full log in the literature, after its filters.
    """

    rule: Rule
    meanings: Mapping[str, Meaning]
    published: Mapping[str, int] = field(default_factory=dict)


FORMATS: Final[dict[str, Format]] = {
    # Released code: items by clicks, then sessions by clicks left; buys of those sessions, not item-filtered.
    "yoochoose": Format(
        "clicks: items, sessions",
        {"click": "click", "buy": "purchase"},
        {"sessions": 200_000, "items": 26_702, "clicks": 1_110_965, "purchases": 43_946},
    ),
    # Rows with a transaction id are dropped; "purchase" is add-to-cart. Visitors first, then items.
    "retailrocket": Format(
        "all: sessions, items",
        {"view": "click", "addtocart": "purchase", "transaction": "transaction"},
        {"sessions": 195_523, "items": 70_852, "clicks": 1_176_680, "purchases": 57_269},
    ),
    "otto": Format("all: items, sessions", {"clicks": "click", "carts": "ignore", "orders": "purchase"}),
    "events": Format("all: items, sessions", USUAL_EVENTS),
}

_DROPPED: Final = ("ignore", "transaction")  # meanings of what is no event to us
_MEANINGS: Final = (*KINDS, "ignore")
_TAKEN: Final = ("events", "items", "sessions")  # names of other counts
_RETAILROCKET = ["timestamp", "visitorid", "event", "itemid", "transactionid"]


@dataclass
class Reading:
    """One file, ready to be read as often as needed.

    Args:
        source: the file.
        blocks: starts reading it.
        event: what all its events are, where it has no column that says so.
        kinds: which of session and item are numbers by type; filled by reading, empty for plain text.
    """

    source: Source
    blocks: Callable[[], Iterator[Block]]
    event: str | None = None
    kinds: dict[str, bool] = field(default_factory=dict)


def reading_of(source: Source, format: str, columns: Mapping[str, str] | None) -> Reading:
    """How to read a file in a format.

    Raises:
        UsageError: where the file does not look like that format.
        ValuerecError: where it can't be read.
    """
    if format == "yoochoose":
        return _yoochoose(source)
    if format == "retailrocket":
        return _retailrocket(source)
    if format == "otto":
        return _otto(source)
    return _events(source, columns or {})


def _yoochoose(source: Source) -> Reading:
    """Clicks have four fields and buys five, and neither has a header."""
    line = source.first_line().text
    count = len(fields_of(line, ","))
    if line.startswith("{") or count not in (4, 5):
        raise UsageError(
            f"{source.path} is no Yoochoose file, for its first line has {count} fields between commas: clicks have 4 "
            "(session, time, item, category) and buys 5 (session, time, item, price, quantity); check --format."
        )
    if not any(character.isdigit() for character in line):
        raise UsageError(
            f"{source.path} begins with the header {_shown(line)}, and Yoochoose has none; check --format."
        )
    names = ["session", "time", "item", *(["category"] if count == 4 else ["price", "quantity"])]
    wanted = {name: name for name in ("session", "item", "time")}
    blocks = partial(read_delimited, source, names, wanted, ",", header=False)
    return Reading(source, blocks, event="click" if count == 4 else "buy")


def _retailrocket(source: Source) -> Reading:
    header, delimiter = header_of(source)
    names = [name.strip() for name in header]
    if names != _RETAILROCKET or delimiter != ",":
        raise UsageError(
            f"{source.path} begins with {_shown(','.join(header))}, and a RetailRocket events.csv with "
            f"{','.join(_RETAILROCKET)}; check --format."
        )
    wanted = {"session": "visitorid", "item": "itemid", "time": "timestamp", "event": "event"}
    wanted["transaction"] = "transactionid"
    return Reading(source, partial(read_delimited, source, names, wanted, ",", header=True))


def _otto(source: Source) -> Reading:
    first = object_of(source.first_line().text)
    if first is None or not {"session", "events"} <= set(first):
        raise UsageError(
            f"{source.path} does not begin with a JSON object of a session and its events, so it is no OTTO log; "
            "check --format."
        )
    kinds: dict[str, bool] = {}
    return Reading(source, partial(read_otto, source, kinds), kinds=kinds)


def _events(source: Source, columns: Mapping[str, str]) -> Reading:
    """Parquet, JSON lines or delimited text, told by how the file begins."""
    kinds: dict[str, bool] = {}
    with source.open() as file:
        head = file.read(4)
    if head == b"PAR1":
        if source.compressed:
            raise UsageError(
                f"{source.path} is a Parquet file inside of an archive; unpack it, for Parquet is compressed by itself."
            )
        wanted = _wanted(source, columns_of(source), columns)
        return Reading(source, partial(read_parquet, source, wanted, kinds), _implied(wanted), kinds)
    line = source.first_line().text
    if line.lstrip().startswith(("{", "[")):
        first = object_of(line)
        if first is None:
            raise UsageError(
                f"{source.path} looks like JSON but has no object in its first line; write an event a line, such as "
                '{"session": "a", "item": "b", "time": 1396321200}.'
            )
        wanted = _wanted(source, list(first), columns)
        return Reading(source, partial(read_json_lines, source, wanted, kinds), _implied(wanted), kinds)
    header, delimiter = header_of(source)
    wanted = _wanted(source, header, columns)
    return Reading(source, partial(read_delimited, source, header, wanted, delimiter, header=True), _implied(wanted))


def _wanted(source: Source, present: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Which column is what: as the user says, else by the same name; a log without events has clicks only."""
    wanted = {name: columns.get(name, name) for name in FIELDS}
    if "event" not in columns and "event" not in present:
        del wanted["event"]
    missing = [column for column in wanted.values() if column not in present]
    if missing:
        raise UsageError(
            f"{source.path} has no column {' and no column '.join(missing)} but {_shown(', '.join(present))}; say "
            "which is which with --columns session=...,item=...,time=...,event=... or check --format."
        )
    twice = [column for column in wanted.values() if present.count(column) > 1]
    if twice:
        raise UsageError(f"{source.path} has more than one column named {twice[0]}; rename all but one.")
    return wanted


def _implied(wanted: Mapping[str, str]) -> str | None:
    return None if "event" in wanted else "click"


def _shown(text: str, most: int = 120) -> str:
    """The beginning of a file's own words, with what a terminal would take for more than text escaped."""
    printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:most])
    return printable if len(text) <= most else printable + "..."


def meanings_of(format: str, events: Mapping[str, str] | None) -> dict[str, str]:
    """What each kind of event in a log is to us: the user's word over the format's.

    For the format events the user's map stands alone, so that nothing is taken for a purchase by its name only.

    Raises:
        UsageError: for a meaning that is neither click, purchase or ignore nor can be the name of another kind.
    """
    for name, meaning in (events or {}).items():
        if meaning not in _MEANINGS:
            _check_kind(f"--events says {name}={meaning}", meaning)
    alone = format == "events" and events
    meanings = {**({} if alone else FORMATS[format].meanings), **(events or {})}
    if (count := len(kinds_of(meanings))) > MOST_KINDS:
        raise UsageError(
            f"--events names {count} kinds of events, and {MOST_KINDS} are allowed; ignore some, or give several one "
            "name."
        )
    return meanings


def kinds_of(meanings: Mapping[str, Meaning]) -> tuple[str, ...]:
    """The kinds of events that a dataset has, by code: click, purchase, and the others as they come."""
    others = dict.fromkeys(meaning for meaning in meanings.values() if meaning not in (*KINDS, *_DROPPED))
    return *KINDS, *others


def _check_kind(where: str, kind: str) -> None:
    """Refuse what can be no name of a kind, what is another word for a click or a purchase, and what looks misspelt."""
    if not isinstance(kind, str):
        raise UsageError(f"{where}; write a name, such as click or cart.")
    if usual := USUAL_EVENTS.get(kind):
        raise UsageError(f"{where}, which is another word for {usual}; write {usual}, or name the kind differently.")
    if not re.fullmatch(KIND_PATTERN, kind) or kind in _TAKEN:
        raise UsageError(
            f"{where}; an event is a click, a purchase, ignore, or a kind of its own named by up to 30 small letters, "
            f"digits or _ (not {', '.join(_TAKEN)}), such as cart."
        )
    if near := difflib.get_close_matches(kind, (*_MEANINGS, *_TAKEN), n=1, cutoff=0.75):
        raise UsageError(f"{where}, which looks like {near[0]}; name another kind of event more differently.")
