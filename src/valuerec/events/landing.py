"""Raw files → one staged table of checked events, and the rows that are none.

Each file is streamed once (twice where the unit of its numeric times must be found) into a Parquet file of
file, row, session, item, time (UTC microseconds) and event, from which everything else is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from valuerec.errors import UsageError, ValuerecError
from valuerec.events import times
from valuerec.events.blocks import BadRow, Block
from valuerec.events.formats import FORMATS, Reading, check_same_kind

CODES: Final = {"click": 0, "purchase": 1, "ignore": 2, "transaction": 3}
_STAGED: Final = pa.schema(
    {
        "file": pa.int32(),
        "row": pa.int64(),
        "session": pa.string(),
        "item": pa.string(),
        "time": pa.int64(),
        "event": pa.int8(),
    }
)
_QUARANTINE: Final = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string(), "text": pa.string()})


@dataclass
class Landed:
    """What came of the files.

    Args:
        parts: the staged Parquet files.
        rows: rows read of each file, bad ones included.
        bad: bad rows by reason.
        unit: "iso", "position" or the unit of numeric times.
        first_bad: an example of each reason.
    """

    parts: list[Path] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    unit: str = "iso"
    first_bad: dict[str, str] = field(default_factory=dict)


def land(
    readings: Sequence[Reading],
    folder: Path,
    format: str,
    meanings: Mapping[str, str],
    time_unit: str,
    on_bad_rows: str,
    quarantine: Path,
) -> Landed:
    """Stage all files in `folder`; bad rows go to the Parquet file `quarantine`, or stop at the first.

    Raises:
        ValuerecError: for a bad row where `on_bad_rows` is "fail", or ids of two kinds.
    """
    landed = Landed()
    bad_rows: list[tuple[str, BadRow]] = []
    units = {_unit_of(reading, format, time_unit) for reading in readings}
    if len(units) > 1 and "position" in units:
        raise ValuerecError("Times are clocks in one file and positions in another; give --time-unit.")
    landed.unit = "position" if units == {"position"} else "/".join(sorted(units))
    numeric = []
    for number, reading in enumerate(readings):
        unit = _unit_of(reading, format, time_unit)
        part = folder / f"staged-{number}.parquet"
        kinds, found = _stage(reading, number, part, meanings, unit, time_unit != "auto", on_bad_rows, landed)
        landed.parts.append(part)
        bad_rows += [(reading.source.path.name, bad) for bad in found]
        numeric.append(reading.kinds or kinds)
    check_same_kind(list(readings), numeric)
    if bad_rows:
        bad_rows.sort(key=lambda pair: (pair[0], pair[1].row))
        names, rows = zip(*bad_rows, strict=True)
        columns = [pa.array(names), *(pa.array(column) for column in zip(*rows, strict=True))]
        pq.write_table(pa.Table.from_arrays(columns, schema=_QUARANTINE), quarantine)
    return landed


def _unit_of(reading: Reading, format: str, asked: str) -> str:
    """The unit of a file's times: as asked, as the format says, or as most of them look."""
    if asked != "auto":
        return asked
    if FORMATS[format].unit != "auto":
        return FORMATS[format].unit
    counts = []
    for block in reading.blocks():
        column = block.columns["time"]
        if not counts and len(column) and not times.looks_numeric(column):
            return "iso"
        counts.append(times.count_units(column))
    return times.choose_unit(counts) if counts else "iso"


def _stage(
    reading: Reading,
    number: int,
    part: Path,
    meanings: Mapping[str, str],
    unit: str,
    certain: bool,
    on_bad_rows: str,
    landed: Landed,
) -> tuple[dict[str, bool], list[BadRow]]:
    """Write a file's good rows to `part`; returns which ids look like numbers, and the bad rows."""
    bad_rows: list[BadRow] = []
    rows = 0
    digits = Counter({"session": 0, "item": 0})
    good_rows = 0
    with pq.ParquetWriter(part, _STAGED, compression="lz4") as writer:
        for block in reading.blocks():
            good, bad = _check(block, reading, meanings, unit, certain)
            rows += len(block.row) + len(block.bad)
            good_rows += len(good)
            for name in digits:
                digits[name] += pc.sum(pc.utf8_is_decimal(good[name])).as_py() or 0
            if bad and on_bad_rows == "fail":
                first = min(bad, key=lambda row: row.row)
                raise ValuerecError(
                    f"{reading.source.path}, row {first.row}: {_WORDS[first.reason]}; mend the row, or set bad rows "
                    "aside with --on-bad-rows quarantine."
                )
            bad_rows += bad
            writer.write_table(good.add_column(0, "file", pa.array(np.full(len(good), number, dtype=np.int32))))
    if rows == 0:
        raise ValuerecError(f"{reading.source.path} holds a header and no rows; name a file with events.")
    if reading.by_line:
        bad_rows = list(_with_text(reading, bad_rows))
    landed.rows.append(rows)
    for bad_row in bad_rows:
        landed.bad[bad_row.reason] += 1
        landed.first_bad.setdefault(bad_row.reason, f"{reading.source.path}, row {bad_row.row}")
    kinds = {name: count == good_rows for name, count in digits.items() if good_rows and count in (0, good_rows)}
    return kinds, bad_rows


_WORDS: Final = {
    "wrong_field_count": "it has another number of fields than the file's columns",
    "empty_session": "the session is empty",
    "empty_item": "the item is empty",
    "unreadable_time": "the time is unreadable, negative, or not in the unit of the others",
    "unknown_event": "the event is none of those known (say what it means with --events)",
    "not_json": "it is no JSON object",
    "missing_field": "a field is missing",
}


def _check(
    block: Block, reading: Reading, meanings: Mapping[str, str], unit: str, certain: bool
) -> tuple[pa.Table, list[BadRow]]:
    """The good rows of a block as a staged table without its file, and the bad ones with the first reason of each."""
    columns = block.columns
    session, item = columns["session"], columns["item"]
    time = times.microseconds(columns["time"], unit, certain)
    event = _codes(columns, reading, meanings, len(block.row))
    reasons = {
        "empty_session": pc.equal(session, ""),
        "empty_item": pc.equal(item, ""),
        "unknown_event": pc.is_null(event),
        "unreadable_time": pc.is_null(time),
    }
    bad = list(block.bad)
    good_N = np.ones(len(block.row), dtype=bool)
    for reason, mask in reasons.items():
        hit_N = good_N & mask.to_numpy(zero_copy_only=False)
        for place in np.flatnonzero(hit_N):
            text = " ".join(f"{name}={column[int(place)].as_py()}" for name, column in columns.items())
            bad.append(BadRow(int(block.row[place]), reason, text))
        good_N &= ~hit_N
    table = pa.table({"row": block.row, "session": session, "item": item, "time": time, "event": event})
    return (table if good_N.all() else table.filter(pa.array(good_N))), bad


def _codes(columns: Mapping[str, pa.Array], reading: Reading, meanings: Mapping[str, str], count: int) -> pa.Array:
    """What each event is to us, null where that is not known."""
    if reading.event is not None:
        return pa.array(np.full(count, CODES[meanings[reading.event]], dtype=np.int8))
    names = pa.array(list(meanings), pa.string())
    codes = pa.array([CODES[meaning] for meaning in meanings.values()], pa.int8())
    event = pc.take(codes, pc.index_in(columns["event"], names))
    if "transaction" in columns:  # RetailRocket: whatever the event says, a row with a transaction id is one
        event = pc.if_else(pc.equal(columns["transaction"], ""), event, pa.scalar(CODES["transaction"], pa.int8()))
    return event


def _with_text(reading: Reading, bad_rows: list[BadRow]) -> Iterator[BadRow]:
    """Bad rows with the raw text of their line, read again where the reader did not keep it."""
    lines = reading.source.lines({bad.row for bad in bad_rows if bad.reason in _BY_LINE})
    for bad in bad_rows:
        yield bad._replace(text=lines.get(bad.row, bad.text)) if bad.reason in _BY_LINE else bad


_BY_LINE: Final = ("empty_session", "empty_item", "unknown_event", "unreadable_time")


def resolve_meanings(format: str, events: Mapping[str, str] | None) -> dict[str, str]:
    """What each event of a format means, with the user's own on top.

    Raises:
        UsageError: for a meaning other than click, purchase or ignore.
    """
    for name, meaning in (events or {}).items():
        if meaning not in ("click", "purchase", "ignore"):
            raise UsageError(f"--events says {name}={meaning}; an event is a click, a purchase, or ignore.")
    if format == "events" and events:
        return dict(events)
    return {**FORMATS[format].meanings, **(events or {})}
