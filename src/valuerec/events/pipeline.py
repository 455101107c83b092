"""Filters, order and splits: one Ibis expression tree over the staged events.

Nothing here knows the engine. Orders are total, so that no engine may choose; sessions are split by md5, which every
engine computes alike; times are integers.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

import ibis
from ibis import _

from valuerec.events.checking import CODES
from valuerec.events.formats import Rule

Table = Any  # ibis is untyped
SPLIT_CODES: Final = {"train": 0, "validation": 1, "test": 2}


class Filtered(NamedTuple):
    """The events that stay, and where the others went.

    `stages` are tables after each filter, by the reason that the rows missing from the one before have.
    """

    events: Table
    stages: dict[str, Table]


def filtered(staged: Table, rule: Rule, least_item: int, least_session: int) -> Filtered:
    """Drop what is no event to us, rare items and short sessions, one pass each, in the order of the rule."""
    meant = staged.filter(_.event != CODES["transaction"])
    known = meant.filter(_.event != CODES["ignore"])
    stages = {"transaction_row": meant, "ignored_event": known}
    if rule == "clicks: items, sessions":
        buys = known.filter(_.event == CODES["purchase"])
        clicks = _common(known.filter(_.event == CODES["click"]), "item", least_item)
        stages["rare_item"] = clicks.union(buys)
        sessions = _keys(clicks, "session", least_session)
        kept = stages["rare_item"].semi_join(sessions, "session")
        stages["short_session"] = kept
    elif rule == "all: items, sessions":
        stages["rare_item"] = _common(known, "item", least_item)
        kept = stages["short_session"] = _common(stages["rare_item"], "session", least_session)
    else:
        stages["short_session"] = _common(known, "session", least_session)
        kept = stages["rare_item"] = _common(stages["short_session"], "item", least_item)
    return Filtered(kept, stages)


def _keys(events: Table, column: str, least: int) -> Table:
    """The values of a column that occur often enough."""
    return events.group_by(column).agg(occurrences=_.count()).filter(_.occurrences >= least).select(column)


def _common(events: Table, column: str, least: int) -> Table:
    return events.semi_join(_keys(events, column, least), column)


def sampled(events: Table, count: int, seed: int) -> Table:
    """The events of `count` sessions, drawn by the md5 of seed and session."""
    sessions = events.select("session").distinct()
    drawn = sessions.mutate(draw=_digest(sessions, f"sample/{seed}/"))
    drawn = drawn.mutate(place=ibis.row_number().over(order_by=[_.draw, _.session])).filter(_.place < count)
    return events.semi_join(drawn, "session")


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def md5(text: str) -> str:
    """The engine's own function of this name, and here what it must equal; Ibis' `hexdigest` is not in all engines."""
    return hashlib.md5(text.encode()).hexdigest()


def _digest(sessions: Table, salt: str) -> Any:
    """md5 of salt and session, in hexadecimal."""
    return md5(ibis.literal(salt) + sessions.session)


def sessions_of(events: Table, split: str, seed: int) -> Table:
    """A row a session: id, first and last time, number of events, split code and index.

    The random split puts a session by the first eight digits of md5(seed/session): below .8 of their range into train,
    below .9 into validation, else into test. The temporal split ranks sessions by (end, id): 80, 10 and 10 percent.
    """
    sessions = events.group_by("session").agg(
        start=_.time.min(), end=_.time.max(), events=_.count(), purchases=(_.event == CODES["purchase"]).sum()
    )
    if split == "random":
        draw = _digest(sessions, f"{seed}/").substr(0, 8)
        code = ibis.cases((draw < "cccccccd", 0), (draw < "e6666667", 1), else_=2)
        sessions = sessions.mutate(split=code)
    else:
        sessions = sessions.mutate(
            rank=ibis.row_number().over(order_by=[_.end, _.session]), total=_.count().over(ibis.window())
        )
        code = ibis.cases((_.rank * 10 < _.total * 8, 0), (_.rank * 10 < _.total * 9, 1), else_=2)
        sessions = sessions.mutate(split=code).drop("rank", "total")
    return sessions.mutate(number=ibis.row_number().over(order_by=[_.split, _.session]))


def items_of(events: Table) -> Table:
    """A row an item: id, clicks, purchases and index, in byte order of the id."""
    items = events.group_by("item").agg(
        clicks=(_.event == CODES["click"]).sum(), purchases=(_.event == CODES["purchase"]).sum()
    )
    return items.mutate(number=ibis.row_number().over(order_by=_.item))


def numbered(events: Table, sessions: Table, items: Table) -> Table:
    """The events in dataset order, sessions and items by index: by session, time, click before purchase, item."""
    own = sessions.select("session", session_number="number")
    catalogue = items.select("item", item_number="number")
    joined = events.inner_join(own, "session").inner_join(catalogue, "item")
    return joined.select("session_number", "item_number", "time", "event").order_by(
        ["session_number", "time", "event", "item_number"]
    )
