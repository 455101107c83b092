"""The formats of raw logs: how each is read, what its events mean, and by which rule it is filtered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from valuerec.errors import UsageError, ValuerecError
from valuerec.events.blocks import FIELDS, Block
from valuerec.events.delimited import header_of, read_delimited
from valuerec.events.jsonlines import read_json_lines, read_otto
from valuerec.events.parquet import columns_of, read_parquet
from valuerec.events.sources import Source

Meaning = Literal["click", "purchase", "ignore", "transaction"]
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
        unit: of its times, "auto" to find out.
        published: counts of the full log in the literature, after its filters.
    """

    rule: Rule
    meanings: Mapping[str, Meaning]
    unit: str = "auto"
    published: Mapping[str, int] = field(default_factory=dict)


FORMATS: Final[dict[str, Format]] = {
    # Released code: items by clicks, then sessions by clicks left; buys of those sessions, not item-filtered.
    "yoochoose": Format(
        "clicks: items, sessions",
        {"click": "click", "buy": "purchase"},
        "iso",
        {"sessions": 200_000, "items": 26_702, "clicks": 1_110_965, "purchases": 43_946},
    ),
    # Rows with a transaction id are dropped; "purchase" is add-to-cart. Visitors first, then items.
    "retailrocket": Format(
        "all: sessions, items",
        {"view": "click", "addtocart": "purchase", "transaction": "transaction"},
        "ms",
        {"sessions": 195_523, "items": 70_852, "clicks": 1_176_680, "purchases": 57_269},
    ),
    "otto": Format("all: items, sessions", {"clicks": "click", "carts": "ignore", "orders": "purchase"}, "ms"),
    "events": Format("all: items, sessions", USUAL_EVENTS),
}

_RETAILROCKET = ["timestamp", "visitorid", "event", "itemid", "transactionid"]


@dataclass
class Reading:
    """One file, ready to be read as often as needed.

    Args:
        source: the file.
        blocks: starts reading it.
        event: what all its events are, where it has no column that says so.
        kinds: which of session and item are numbers by type; filled by reading, empty for plain text.
        by_line: whether a row's number is the number of a line of text.
    """

    source: Source
    blocks: Callable[[], Iterator[Block]]
    event: str | None = None
    kinds: dict[str, bool] = field(default_factory=dict)
    by_line: bool = True


def reading_of(source: Source, format: str, columns: Mapping[str, str] | None) -> Reading:
    """How to read a file in a format.

    Raises:
        UsageError: where the file does not look like that format.
    """
    if format == "yoochoose":
        return _yoochoose(source)
    if format == "retailrocket":
        return _retailrocket(source)
    if format == "otto":
        _check_json(source, "otto")
        kinds: dict[str, bool] = {}
        return Reading(source, partial(read_otto, source, kinds), kinds=kinds)
    return _events(source, columns or {})


def _yoochoose(source: Source) -> Reading:
    """Clicks have four fields and buys five, and neither has a header."""
    line = source.first_line()
    count = line.count(",") + 1
    if count not in (4, 5):
        raise UsageError(
            f"{source.path} has {count} fields in its first line, no Yoochoose file: clicks have 4 (session, time, "
            "item, category) and buys 5 (session, time, item, price, quantity); check --format."
        )
    names = ["session", "time", "item", *(["category"] if count == 4 else ["price", "quantity"])]
    if line.lower().replace(" ", "").startswith(("session", "timestamp,")):
        raise UsageError(f"{source.path} begins with a header, which Yoochoose files have not; check --format.")
    wanted = {name: name for name in ("session", "item", "time")}
    blocks = partial(read_delimited, source, names, wanted, ",", 0)
    return Reading(source, blocks, event="click" if count == 4 else "buy")


def _retailrocket(source: Source) -> Reading:
    header, delimiter = header_of(source)
    if [name.strip() for name in header] != _RETAILROCKET or delimiter != ",":
        raise UsageError(
            f"{source.path} begins with {_shown(header)}, no RetailRocket events.csv, which begins with "
            f"{','.join(_RETAILROCKET)}; check --format."
        )
    wanted = {"session": "visitorid", "item": "itemid", "time": "timestamp", "event": "event"}
    wanted["transaction"] = "transactionid"
    return Reading(source, partial(read_delimited, source, header, wanted, ",", 1))


def _events(source: Source, columns: Mapping[str, str]) -> Reading:
    if unknown := [name for name in columns if name not in FIELDS]:
        raise UsageError(f"--columns names {', '.join(unknown)}; it can name {', '.join(FIELDS)}.")
    with source.open() as file:
        head = file.read(4)
    kinds: dict[str, bool] = {}
    if head == b"PAR1":
        wanted = _wanted(source, columns_of(source), columns)
        return Reading(source, partial(read_parquet, source, wanted, kinds), _implied(wanted), kinds, by_line=False)
    if source.first_line().lstrip().startswith(("{", "[")):
        _check_json(source, "events")
        import json

        present = list(json.loads(source.first_line()))
        wanted = _wanted(source, present, columns)
        return Reading(source, partial(read_json_lines, source, wanted, kinds), _implied(wanted), kinds)
    header, delimiter = header_of(source)
    if len(set(header)) < len(header):
        raise UsageError(f"{source.path} has two columns of one name in its header {_shown(header)}; rename one.")
    wanted = _wanted(source, header, columns)
    return Reading(source, partial(read_delimited, source, header, wanted, delimiter, 1), _implied(wanted))


def _wanted(source: Source, present: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Which column is what: as the user says, else by the same name; a log without events has clicks only."""
    wanted = {name: columns.get(name, name) for name in FIELDS}
    if "event" not in columns and "event" not in present:
        del wanted["event"]
    missing = [column for column in wanted.values() if column not in present]
    if missing:
        raise UsageError(
            f"{source.path} has no column {' and no column '.join(missing)}; it has {_shown(present)}. "
            "Say which is which with --columns session=...,item=...,time=...,event=..."
        )
    return wanted


def _implied(wanted: Mapping[str, str]) -> str | None:
    return None if "event" in wanted else "click"


def _check_json(source: Source, format: str) -> None:
    import json

    line = source.first_line()
    try:
        content = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UsageError(
            f"{source.path} does not begin with a JSON object, so it is no {format} log of JSON lines; check --format."
        )
    if format == "otto" and not {"session", "events"} <= set(content):
        raise UsageError(
            f"{source.path} has no session and events in its first line, so it is no OTTO log; check --format."
        )


def _shown(names: list[str], most: int = 120) -> str:
    text = ",".join(names)
    return text if len(text) <= most else text[:most] + "..."


def check_same_kind(readings: list[Reading], numeric: list[dict[str, bool]]) -> None:
    """Refuse ids that are numbers in one file and text in another: they would never meet.

    Raises:
        ValuerecError: naming the two files and the field.
    """
    for name in ("session", "item"):
        known = [(reading, kinds[name]) for reading, kinds in zip(readings, numeric, strict=True) if name in kinds]
        numbers = next((reading for reading, is_number in known if is_number), None)
        text = next((reading for reading, is_number in known if not is_number), None)
        if numbers and text:
            raise ValuerecError(
                f"The {name} ids are numbers in {numbers.source.path} and text in {text.source.path}; "
                "write them the same way in both files."
            )
