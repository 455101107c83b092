"""Which rows of a block are events, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from valuerec.events.blocks import BadRow, Block
from valuerec.events.formats import kinds_of
from valuerec.events.times import Clock, microseconds, why_unreadable

if TYPE_CHECKING:
    from valuerec.events.blocks import Column

CLICK, PURCHASE, IGNORE, TRANSACTION = 0, 1, -1, -2  # codes of meanings; other kinds follow in their order


class Reason(NamedTuple):
    """What is wrong with a row, and what to do where many rows have it."""

    what: str
    remedy: str


_FORMAT: Final = "check that --format is right"
_COLUMNS: Final = "check --columns and --format"
_UNIT: Final = "say what the times are with --time-unit, or check --columns"
REASONS: Final = {
    "wrong_field_count": Reason("it has another number of fields than the log", _FORMAT),
    "nul_byte": Reason("it holds NUL bytes, which no text does", "fetch the file again"),
    "not_utf8": Reason("it is not UTF-8 text", "convert the file to UTF-8, or check --format"),
    "not_json": Reason("it is no JSON object", _FORMAT),
    "repeated_key": Reason("a key stands twice in it", "write each key once"),
    "missing_field": Reason("a field is missing", _COLUMNS),
    "empty_session": Reason("the session is empty, or shows nothing", _COLUMNS),
    "empty_item": Reason("the item is empty, or shows nothing", _COLUMNS),
    "unreadable_id": Reason("the id is neither text nor a whole number", "write ids as text or whole numbers"),
    "unknown_event": Reason("the event is none of those known", "say what it means with --events"),
    "empty_time": Reason("the time is empty", _COLUMNS),
    "unreadable_time": Reason("the time is unreadable", _UNIT),
    "time_not_finite": Reason("the time is NaN or infinite", _UNIT),
    "negative_time": Reason("the time is before 1970", _UNIT),
    "time_overflow": Reason("the time is beyond the year 9999 or 64 bits", _UNIT),
    "mixed_time_unit": Reason("the time is in another unit than most of the file's, or than --time-unit", _UNIT),
    "future_time": Reason("the time lies in the future", "check --time-unit, or allow it with --latest-time"),
}
# Characters that show nothing and are no white space: format characters, fillers, variation selectors.
INVISIBLE: Final = r"\p{Cf}\x{034F}\x{115F}\x{1160}\x{17B4}\x{17B5}\x{2800}\x{3164}\x{FE00}-\x{FE0F}\x{FFA0}"
_BLANK: Final = rf"^[\pZ\p{{Cc}}{INVISIBLE}]*$"
pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes


def checked(
    block: Block, clock: Clock, meanings: Mapping[str, str], implied: str | None
) -> tuple[pa.Table, Column, list[BadRow]]:
    """The events of a block, all its times, and its bad rows, each with the first reason that applies.

    Args:
        block: rows as they stand in the file.
        clock: how their times are read.
        meanings: what each kind of event is.
        implied: the kind of all rows, where the file has no column that says so.
    """
    event = _codes(block.columns, len(block.row), meanings, implied)
    time = microseconds(block.columns["time"], clock.unit, clock.certain)
    good_N = np.ones(len(block.row), dtype=bool)
    bad = list(block.bad)
    for field, reason, mask in _faults(block, event, time, clock):
        hit_N: NDArray[np.bool_] = good_N & mask.to_numpy(zero_copy_only=False)
        if hit_N.any():
            places = np.flatnonzero(hit_N)
            reasons = [reason] * len(places)
            if reason == "unreadable_time":
                reasons = why_unreadable(block.columns["time"].take(places), clock).tolist()
            rows = zip(block.row[places].tolist(), reasons, block.texts(places), strict=True)
            bad += [BadRow(row, field, why, text) for row, why, text in rows]
            good_N &= ~hit_N
    table = pa.table({"session": block.columns["session"], "item": block.columns["item"], "time": time, "event": event})
    return table if good_N.all() else table.filter(pa.array(good_N)), time, sorted(bad)


def _faults(block: Block, event: Column, time: Any, clock: Clock) -> Iterator[tuple[str, str, Any]]:
    """Field, reason and the rows that have it, in the order in which they count."""
    for field in ("session", "item"):
        ids = block.columns[field]
        if _may_hold_nul(ids):
            yield field, "nul_byte", pc.match_substring(ids, "\x00")
        printable = pc.and_(pc.greater_equal(ids, "!"), pc.less(ids, "\x7f"))  # their first byte, which is faster
        if printable.false_count:
            yield field, f"empty_{field}", pc.match_substring_regex(ids, _BLANK)
    yield "event", "unknown_event", pc.is_null(event)
    yield "time", "unreadable_time", pc.is_null(time)
    if clock.unit != "position":
        yield "time", "future_time", pc.fill_null(pc.greater(time, clock.latest), False)


def _may_hold_nul(ids: Column) -> bool:
    content: Any = ids.buffers()[2]
    return bool(content) and not np.frombuffer(content, np.uint8).all()


def _codes(columns: Mapping[str, Column], count: int, meanings: Mapping[str, str], implied: str | None) -> Column:
    """What each event is to us, null where that is not known."""
    code_of = {kind: code for code, kind in enumerate(kinds_of(meanings))} | {
        "ignore": IGNORE,
        "transaction": TRANSACTION,
    }
    if implied is not None:
        return pa.array(np.full(count, code_of[meanings.get(implied, "click")], dtype=np.int8))
    codes = pa.array([code_of[meaning] for meaning in meanings.values()], pa.int8())
    event = pc.take(codes, pc.index_in(columns["event"], pa.array(list(meanings), pa.string())))
    if "transaction" in columns and meanings["transaction"] == "transaction":
        # RetailRocket: whatever the event says, a row with a transaction id is one.
        event = pc.if_else(pc.equal(columns["transaction"], ""), event, pa.scalar(TRANSACTION, pa.int8()))
    return event  # type: ignore[no-any-return]
