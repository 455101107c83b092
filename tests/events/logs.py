"""Made-up logs: events and bad rows with a known fate, and how each format writes them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from events.oracle import Event

START = 1_396_321_200_000_000  # April 2014, in microseconds
TEXT_IDS = [
    "1",
    "01",
    "10",
    "9",
    "ä",
    "A\u0308",
    "Z",
    "z",
    "a b",
    " a",
    'q"q',
    "it's",
    "b,c",
    "漢字",
    "🛒",
    "\ufeffa b",
    "\ufeff漢字",
    "a\u00a0b",
    "x" * 300,
]
NUMBER_IDS = ["1", "2", "9", "7", "10", "214", "007", "99999999999999999999"]
JSON_NUMBER_IDS = [name for name in NUMBER_IDS if not name.startswith("0")]


NOT_UTF8 = "\udcff"  # written as the byte 0xff
BAD_TIMES = {
    "empty_time": "",
    "unreadable_time": "yesterday",
    "time_not_finite": "-Infinity",
    "time_overflow": "99999999999999999999",
}
JSON_BAD_TIMES = {
    "unreadable_time": "{}",
    "time_not_finite": "NaN",
    "time_overflow": "99999999999999999999",
}
BAD_ISO = {"negative_time": "1969-12-31T23:59:59Z", "future_time": "2999-01-01", "mixed_time_unit": "1400000000"}
BAD_MS = {"negative_time": "-1", "future_time": "9000000000000", "mixed_time_unit": "1400000000"}
BAD_SECONDS = {"negative_time": "-1.5", "future_time": "9000000000", "mixed_time_unit": "1400000000000"}


@dataclass(frozen=True)
class Bad:
    """A row that is none, for a reason of valuerec's."""

    reason: str
    number: int = 0


Row = Event | Bad


@dataclass(frozen=True)
class Style:
    """One way to write a log.

    Args:
        format: of valuerec's.
        write: rows → the log's files in a folder.
        kinds: the kinds of events that it can hold.
        reasons: the bad rows that it can hold.
        ids: pools that sessions and items are taken from.
        tick: microseconds between two times that it tells apart.
        own_bad: reasons of bad rows that `write` adds.
        options: for `prepare`.
    """

    format: str
    write: Callable[[Path, Sequence[Row]], list[Path]]
    kinds: tuple[str, ...]
    reasons: tuple[str, ...]
    ids: Sequence[str]
    tick: int = 1_000_000
    own_bad: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def iso(time: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _csv(rows: Iterable[Sequence[str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _yoochoose(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Clicks and buys apart, bad rows among the clicks; the first has four fields, which says what the file is.

    Both begin with a byte-order mark, for there is no header to keep U+FEFF of a first id from being taken for one.
    """
    broken = {
        "wrong_field_count": ["1", "2"],
        "nul_byte": ["1", iso(START), "1", "\x00"],
        "not_utf8": [NOT_UTF8, iso(START), "1", "0"],
        "empty_session": ["", iso(START), "1", "0"],
        "empty_item": ["1", iso(START), "", "0"],
        **{reason: ["1", time, "1", "0"] for reason, time in {**BAD_TIMES, **BAD_ISO}.items()},
    }
    clicks = [
        broken[row.reason] if isinstance(row, Bad) else [row.session, iso(row.time), row.item, "0"]
        for row in rows
        if isinstance(row, Bad) or row.kind == "click"
    ]
    buys = [
        [row.session, iso(row.time), row.item, "100", "1"]
        for row in rows
        if isinstance(row, Event) and row.kind == "purchase"
    ]
    files = {"clicks.dat": [broken["empty_session"], *clicks], "buys.dat": buys}
    return [_written(folder / name, "\ufeff" + _csv(lines)) for name, lines in files.items() if lines]


def _retailrocket(folder: Path, rows: Sequence[Row]) -> list[Path]:
    names = {"click": "view", "purchase": "addtocart", "transaction": "transaction"}
    broken = {
        "wrong_field_count": ["1"],
        "nul_byte": [str(START // 1000), "1\x00", "view", "1", ""],
        "not_utf8": [str(START // 1000), "1", "view", NOT_UTF8, ""],
        "empty_session": [str(START // 1000), "", "view", "1", ""],
        "empty_item": [str(START // 1000), "1", "view", "", ""],
        "unknown_event": [str(START // 1000), "1", "wish", "1", ""],
        **{reason: [time, "1", "view", "1", ""] for reason, time in {**BAD_TIMES, **BAD_MS}.items()},
    }
    lines = [["timestamp", "visitorid", "event", "itemid", "transactionid"]]
    for row in rows:
        if isinstance(row, Bad):
            lines.append(broken[row.reason])
        else:
            transaction = "77" if row.kind == "transaction" else ""
            lines.append([str(row.time // 1000), row.session, names[row.kind], row.item, transaction])
    return [_written(folder / "events.csv", _csv(lines))]


def _otto(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """A line a row, but neighbours of one session share one."""
    names = {"click": "clicks", "ignore": "carts", "purchase": "orders"}
    broken = {
        "missing_field": '{"session": 1, "events": [{"aid": 1, "type": "clicks"}]}',
        "not_json": "{",
        "unreadable_id": '{"session": 1.5, "events": [{"aid": 1, "ts": 1659304800025, "type": "clicks"}]}',
        "unknown_event": '{"session": 1, "events": [{"aid": 1, "ts": 1659304800025, "type": "likes"}]}',
        "repeated_key": '{"session": 1, "events": [{"aid": 1, "aid": 1, "ts": 1659304800025, "type": "clicks"}]}',
        "not_utf8": f'{{"session": "{NOT_UTF8}", "events": []}}',
        **{
            reason: f'{{"session": 1, "events": [{{"aid": 1, "ts": {time}, "type": "clicks"}}]}}'
            for reason, time in {**JSON_BAD_TIMES, **BAD_MS}.items()
        },
    }
    lines: list[str | dict[str, Any]] = [{"session": 2**60, "events": []}]  # a bad row, and nobody's neighbour
    for row in rows:
        if isinstance(row, Bad):
            lines.append(broken[row.reason])
            continue
        event = {"aid": int(row.item), "ts": row.time // 1000, "type": names[row.kind]}
        last = lines[-1]
        if isinstance(last, dict) and last["session"] == int(row.session):
            last["events"].append(event)
        else:
            lines.append({"session": int(row.session), "events": [event]})
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return [_written(folder / "otto.jsonl", text)]


MAP = {"click": "look", "purchase": "pay", "ignore": "search"}
COLUMNS = {"session": "who", "item": "what", "time": "when", "event": "how"}
_EVENTS = {
    "columns": COLUMNS,
    "events": {"look": "click", "pay": "purchase", "search": "ignore"},
}


def _delimited(folder: Path, rows: Sequence[Row], delimiter: str) -> list[Path]:
    broken = {
        "wrong_field_count": ["1"],
        "nul_byte": ["1", "look", "\x00", "1", "1400000000"],
        "not_utf8": ["1", "look", NOT_UTF8, "1", "1400000000"],
        "empty_session": ["1", "look", "x", " \u200b", "1400000000"],
        "empty_item": ["", "look", "x", "1", "1400000000"],
        "unknown_event": ["1", "", "x", "1", "1400000000"],
        **{reason: ["1", "look", "x", "1", time] for reason, time in {**BAD_TIMES, **BAD_SECONDS}.items()},
    }
    lines = [["what", "how", "else", "who", "when"]]
    for row in rows:
        if isinstance(row, Bad):
            lines.append(broken[row.reason])
        else:
            lines.append([row.item, MAP[row.kind], "é", row.session, str(row.time // 1_000_000)])
    return [_written(folder / "log.csv", _csv(lines, delimiter))]


def _json_lines(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """The first line, bad, names the keys."""
    broken = {
        "not_json": "[1, 2]",
        "nul_byte": '{"who": "1", "what": "nul\\u0000", "how": "look", "when": "2014-04-01T00:00:00Z"}',
        "empty_item": '{"who": "1", "what": "\\ufeff\u3164", "how": "look", "when": "2014-04-01T00:00:00Z"}',
        "missing_field": '{"who": "1", "what": "2", "how": "look"}',
        "unreadable_id": '{"who": true, "what": "2", "how": "look", "when": "2014-04-01T00:00:00Z"}',
        "repeated_key": '{"who": "1", "who": "1", "what": "2", "how": "look", "when": "2014-04-01T00:00:00Z"}',
        "not_utf8": f'{{"who": "{NOT_UTF8}", "what": "2", "how": "look", "when": "2014-04-01T00:00:00Z"}}',
        **{
            reason: f'{{"who": "1", "what": "2", "how": "look", "when": {time}}}'
            for reason, time in {**JSON_BAD_TIMES, **{name: f'"{time}"' for name, time in BAD_ISO.items()}}.items()
        },
    }
    lines = ['{"who": "", "what": "1", "when": "2014-04-01", "how": "look"}']
    for row in rows:
        if isinstance(row, Bad):
            lines.append(broken[row.reason])
        else:
            entry = {"how": MAP[row.kind], "when": iso(row.time), "who": row.session, "what": row.item}
            lines.append(json.dumps(entry, ensure_ascii=len(lines) % 2 == 0))
    return [_written(folder / "log.jsonl", "\n".join(lines))]


def _parquet(folder: Path, rows: Sequence[Row]) -> list[Path]:
    broken = {
        "nul_byte": ("nul\x00", "1", "look", START),
        "empty_session": (None, "1", "look", START),
        "empty_item": ("1", " \u200b", "look", START),
        "unknown_event": ("1", "1", None, START),
        "empty_time": ("1", "1", "look", None),
        "negative_time": ("1", "1", "look", -1),
        "future_time": ("1", "1", "look", 32_503_680_000_000_000),
        "time_overflow": ("1", "1", "look", 2**62),
    }
    values = [
        broken[row.reason] if isinstance(row, Bad) else (row.session, row.item, MAP[row.kind], row.time) for row in rows
    ]
    who, what, how, when = zip(*values, strict=True)
    kinds = {"who": pa.large_string(), "what": pa.dictionary(pa.int32(), pa.string()), "how": pa.string()}
    columns = {"who": who, "what": what, "how": how}
    arrays = {name: pa.array(columns[name], kind) for name, kind in kinds.items()}
    table = pa.table({**arrays, "when": pa.array(when, pa.timestamp("us", "Asia/Tokyo"))})
    pq.write_table(table, folder / "log.parquet", row_group_size=7)
    return [folder / "log.parquet"]


def _written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


TIME_REASONS = (*BAD_TIMES, *BAD_ISO)
JSON_TIME_REASONS = (*JSON_BAD_TIMES, *BAD_ISO)
YOOCHOOSE_REASONS = ("wrong_field_count", "nul_byte", "not_utf8", "empty_session", "empty_item", *TIME_REASONS)
DELIMITED_REASONS = (*YOOCHOOSE_REASONS, "unknown_event")
JSON_REASONS = ("not_json", "not_utf8", "repeated_key", "missing_field", "unreadable_id", *JSON_TIME_REASONS)
STYLES = {
    "yoochoose": Style(
        "yoochoose", _yoochoose, ("click", "purchase"), YOOCHOOSE_REASONS, NUMBER_IDS, 1, ("empty_session",)
    ),
    "yoochoose, text ids": Style(
        "yoochoose",
        _yoochoose,
        ("click", "purchase"),
        YOOCHOOSE_REASONS,
        [name for name in TEXT_IDS if not name.isdecimal()],  # two files: all their ids must be of one kind
        tick=1,
        own_bad=("empty_session",),
    ),
    "retailrocket": Style(
        "retailrocket", _retailrocket, ("click", "purchase", "transaction"), DELIMITED_REASONS, NUMBER_IDS, tick=1_000
    ),
    "otto": Style(
        "otto",
        _otto,
        ("click", "purchase", "ignore"),
        (*JSON_REASONS, "unknown_event"),
        JSON_NUMBER_IDS,
        tick=1_000,
        own_bad=("missing_field",),
    ),
    "csv": Style(
        "events",
        lambda folder, rows: _delimited(folder, rows, ","),
        tuple(MAP),
        DELIMITED_REASONS,
        TEXT_IDS,
        options=_EVENTS,
    ),
    "tsv": Style(
        "events",
        lambda folder, rows: _delimited(folder, rows, "\t"),
        tuple(MAP),
        DELIMITED_REASONS,
        TEXT_IDS,
        options=_EVENTS,
    ),
    "json lines": Style(
        "events",
        _json_lines,
        tuple(MAP),
        (*JSON_REASONS, "nul_byte", "empty_item"),
        [*TEXT_IDS, "a\nb", "a\u2028b"],
        tick=1,
        own_bad=("empty_session",),
        options=_EVENTS,
    ),
    "parquet": Style(
        "events",
        _parquet,
        tuple(MAP),
        (
            "nul_byte",
            "empty_session",
            "empty_item",
            "unknown_event",
            "empty_time",
            "negative_time",
            "future_time",
            "time_overflow",
        ),
        [*TEXT_IDS, "a\nb"],
        tick=1,
        options=_EVENTS,
    ),
}


@st.composite
def rows_of(draw: st.DrawFn, style: Style) -> list[Row]:
    """Some rows: few ids and few times, so that filters bite and ties occur."""
    ids = draw(st.lists(st.sampled_from(style.ids), min_size=1, max_size=8, unique=True))
    event = st.builds(
        Event,
        session=st.sampled_from(ids),
        item=st.sampled_from(ids[:5]),
        time=st.integers(0, 5).map(lambda ticks: START + ticks * style.tick),
        kind=st.sampled_from(style.kinds),
    )
    rows: list[Row] = list(draw(st.lists(event, min_size=1, max_size=60)))
    # The unit of a file's times is that of most: rows of another are bad where they are few.
    sure = sum(row.kind == style.kinds[0] for row in rows if isinstance(row, Event)) > 5
    reasons = [reason for reason in style.reasons if sure or reason != "mixed_time_unit"]
    bad = draw(st.lists(st.sampled_from(reasons), max_size=5))
    return draw(st.permutations([*rows, *(Bad(reason, number) for number, reason in enumerate(bad))]))
