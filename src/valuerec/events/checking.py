"""Which rows of a block are events, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from valuerec.events.blocks import BadRow, Block

if TYPE_CHECKING:
    from valuerec.events.blocks import Column

CODES: Final = {"click": 0, "purchase": 1, "ignore": 2, "transaction": 3}
REASONS: Final = {
    "wrong_field_count": "it has another number of fields than the log",
    "empty_session": "the session is empty",
    "empty_item": "the item is empty",
    "unreadable_id": "the session or item is neither text nor a whole number",
    "unreadable_time": "the time is unreadable, before 1970, or in another unit than most of the file's",
    "unknown_event": "the event is none of those known (say what it means with --events)",
    "not_json": "it is no JSON object",
    "missing_field": "a field is missing",
}
pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes


def checked(
    block: Block, time: Column, meanings: Mapping[str, str], implied: str | None
) -> tuple[pa.Table, list[BadRow]]:
    """The events of a block, and its bad rows, each with the first reason that applies.

    Args:
        block: rows as they stand in the file.
        time: their times in microseconds, null where unreadable.
        meanings: what each kind of event is.
        implied: the kind of all rows, where the file has no column that says so.
    """
    event = _codes(block.columns, len(block.row), meanings, implied)
    reasons = {
        "empty_session": pc.equal(block.columns["session"], ""),
        "empty_item": pc.equal(block.columns["item"], ""),
        "unknown_event": pc.is_null(event),
        "unreadable_time": pc.is_null(time),
    }
    good_N = np.ones(len(block.row), dtype=bool)
    bad = list(block.bad)
    for reason, mask in reasons.items():
        hit_N: NDArray[np.bool_] = good_N & mask.to_numpy(zero_copy_only=False)
        if hit_N.any():
            places = np.flatnonzero(hit_N)
            rows = zip(block.row[places].tolist(), block.texts(places), strict=True)
            bad += [BadRow(row, reason, text) for row, text in rows]
            good_N &= ~hit_N
    table = pa.table({"session": block.columns["session"], "item": block.columns["item"], "time": time, "event": event})
    return table if good_N.all() else table.filter(pa.array(good_N)), sorted(bad)


def _codes(columns: Mapping[str, Column], count: int, meanings: Mapping[str, str], implied: str | None) -> Column:
    """What each event is to us, null where that is not known."""
    if implied is not None:
        return pa.array(np.full(count, CODES[meanings.get(implied, "click")], dtype=np.int8))
    codes = pa.array([CODES[meaning] for meaning in meanings.values()], pa.int8())
    event = pc.take(codes, pc.index_in(columns["event"], pa.array(list(meanings), pa.string())))
    if "transaction" in columns and meanings["transaction"] == "transaction":
        # RetailRocket: whatever the event says, a row with a transaction id is one.
        event = pc.if_else(pc.equal(columns["transaction"], ""), event, pa.scalar(CODES["transaction"], pa.int8()))
    return event  # type: ignore[no-any-return]
