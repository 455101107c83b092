"""Filters, order and splits: one Ibis expression tree over the staged events.

Nothing here knows the engine. Orders are total, so that no engine may choose; sessions are split by md5, which every
engine computes alike; times are integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ibis
from ibis import _

from valuerec.events.checking import CLICK, IGNORE, PURCHASE, TRANSACTION
from valuerec.events.formats import Rule

Table = Any  # ibis is untyped


class Filtered(NamedTuple):
    """The events that stay, and where the others went.

    `stages` are tables after each filter, by the reason that the rows missing from the one before have.
    """

    events: Table
    stages: dict[str, Table]


def meant(staged: Table, drop_duplicates: bool) -> Filtered:
    """Drop what is no event to us, and, where that is asked for, what repeats another in all four fields."""
    stages = {"transaction_row": staged.filter(_.event != TRANSACTION)}
    events = stages["ignored_event"] = stages["transaction_row"].filter(_.event != IGNORE)
    if drop_duplicates:
        events = stages["duplicate"] = events.distinct()
    return Filtered(events, stages)


def tally(events: Table, column: str) -> Table:
    """A row a session, or a row an item: its clicks, its purchases, and all its events."""
    return events.group_by(column).agg(
        clicks=(_.event == CLICK).sum(), purchases=(_.event == PURCHASE).sum(), events=_.count()
    )


def filtered(
    events: Table,
    tallies: Mapping[str, Table],
    rule: Rule,
    least_item: int,
    least_session: int,
    hold: Callable[[Table], Table],
) -> Filtered:
    """Drop rare items and short sessions, one pass each, in the order of the rule.

    Args:
        events: clicks, purchases and those of other kinds.
        tallies: of `events`, by session and by item.
        rule: which events count, and which filter comes first; where only clicks count, nothing else is dropped with
            its item.
        least_item: events that an item must have.
        least_session: events that a session must have.
        hold: keeps a table that is read more than once, so that the engine makes it once.
    """
    clicks_count = rule == "clicks: items, sessions"
    steps = [("item", "rare_item", least_item), ("session", "short_session", least_session)]
    if rule == "all: sessions, items":
        steps.reverse()
    stages = {}
    for place, (column, reason, least) in enumerate(steps):
        counts = tallies[column] if place == 0 else hold(tally(events, column))
        count = counts.clicks if clicks_count else counts.events
        keys = counts.filter(count >= least).select(column)
        if clicks_count and column == "item":
            clicks = events.filter(_.event == CLICK).semi_join(keys, column)
            events = clicks.union(events.filter(_.event != CLICK))
        else:
            events = events.semi_join(keys, column)
        stages[reason] = events
    return Filtered(events, stages)


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


def sessions_of(events: Table, split: str, seed: int, n_kinds: int) -> Table:
    """A row a session: id, first and last time, number of events, of each kind but clicks too, split code and index.

    The random split puts a session by the first eight digits of md5(seed/session): below .8 of their range into train,
    below .9 into validation, else into test. The temporal split ranks sessions by (end, id): 80, 10 and 10 percent.
    """
    counts = {kind_column(code): (_.event == code).sum() for code in range(PURCHASE, n_kinds)}
    sessions = events.group_by("session").agg(start=_.time.min(), end=_.time.max(), events=_.count(), **counts)
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


def kind_column(code: int) -> str:
    """The column of `sessions_of` that counts a kind of event."""
    return f"events_{code}"


def items_of(events: Table) -> Table:
    """A row an item: id, clicks, purchases, all events and index, in byte order of the id."""
    return tally(events, "item").mutate(number=ibis.row_number().over(order_by=_.item))


def numbered(events: Table, sessions: Table, items: Table) -> Table:
    """The events in dataset order, sessions and items by index: session, time, kind (click before purchase), item."""
    own = sessions.select("session", session_number="number")
    catalogue = items.select("item", item_number="number")
    joined = events.inner_join(own, "session").inner_join(catalogue, "item")
    return joined.select("session_number", "item_number", "time", "event").order_by(
        ["session_number", "time", "event", "item_number"]
    )
