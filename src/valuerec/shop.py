"""A made-up shop whose log is known to the last probability: for the demo, for tests, for trying methods.

Every visitor comes with an intent, one of the departments, and clicks until leaving. Each department holds *goods* and
*lures*. At each step the visitor clicks a lure with probability `P_LURE`, else a good:

- A lure is shiny and leads nowhere: after it the session ends with probability `P_END_LURE`, and nobody buys it.
- A good may be bought right after its click, with probability `P_BUY`; then the visitor looks on for what goes with
  it, and after a good the session ends with probability `P_END_GOOD` only. Every good has one good that goes with it
  (its successor): with probability `P_SUCCESSOR` the next good is that one, else any of the department by popularity.

Lures of a department are few and goods many, so a single lure is clicked more often than a single good: a model that
only learns what is clicked recommends lures, and one that learns what pays off has a reason to prefer goods.
`value_of_kind` gives the size of that reason in closed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from valuerec.errors import UsageError
from valuerec.folders import explained_io

DEPARTMENTS: Final = (
    "audio", "baking", "camping", "climbing", "coffee", "cycling", "fishing", "gaming", "garden", "hiking",
    "kitchen", "lighting", "painting", "phones", "photo", "running", "sewing", "tea", "tools", "travel",
)  # fmt: skip
GOODS: Final = 90
LURES: Final = 10
P_LURE: Final = 0.35
P_END_LURE: Final = 0.6
P_END_GOOD: Final = 0.12
P_BUY: Final = 0.25
P_SUCCESSOR: Final = 0.5
P_NEW_INTENT: Final = 0.04
MOST_EVENTS: Final = 60

_LURE, _GOOD = 0, 1
_START = np.datetime64("2026-01-01T00:00:00", "us").astype(np.int64)
_DAYS = 60


def write_log(path: Path, sessions: int, seed: int) -> int:
    """Write the log of a number of visits as CSV (`time,session,event,item`), by time; returns its rows.

    Args:
        path: the file to write.
        sessions: how many visits.
        seed: the same seed gives the same log.

    Raises:
        UsageError: for fewer than one session.
    """
    if sessions < 1:
        raise UsageError(f"sessions is {sessions}; it must be at least 1.")
    draw = np.random.default_rng(seed)
    visit_E, item_E, bought_E = _events(sessions, draw)
    order = np.lexsort((np.arange(len(visit_E)), visit_E))
    visit_E, item_E, bought_E = visit_E[order], item_E[order], bought_E[order]
    gap_E = draw.exponential(40e6, len(visit_E)).astype(np.int64) + 1_000_000
    elapsed_E = np.cumsum(gap_E)
    first = np.searchsorted(visit_E, np.arange(sessions))
    begin = draw.integers(0, _DAYS * 86_400 * 1_000_000, sessions)
    time_E = _START + begin[visit_E] + elapsed_E - elapsed_E[first][visit_E]
    by_time = np.argsort(time_E, kind="stable")
    names = np.array(item_ids())
    table = pa.table(
        {
            "time": pa.array(time_E[by_time]).cast(pa.timestamp("us")).cast(pa.string()),
            "session": np.char.mod("visit-%07d", visit_E[by_time]),
            "event": np.where(bought_E[by_time], "purchase", "view"),
            "item": names[item_E[by_time]],
        }
    )
    with explained_io(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        pa_csv.write_csv(table, path)
    return len(table)


def item_ids() -> list[str]:
    """The catalogue: department, kind and number; a department's goods, then its lures."""
    return [
        f"{department}-{kind}-{number:02d}"
        for department in DEPARTMENTS
        for kind, count in (("good", GOODS), ("lure", LURES))
        for number in range(count)
    ]


def value_of_kind(discount: float, click: float = 0.2, purchase: float = 1.0) -> dict[str, float]:
    """The discounted reward from the click of a lure or a good on, if visitors go on as they do.

    With V the value of a next click (P_LURE, else a good) and γ the discount:
        Q(lure) = click + γ (1 − P_END_LURE) V
        Q(good) = click + γ [ P_BUY (purchase + γ (1 − P_END_GOOD) V) + (1 − P_BUY) (1 − P_END_GOOD) V ]
        V       = P_LURE Q(lure) + (1 − P_LURE) Q(good)
    """
    stay_lure, stay_good = 1 - P_END_LURE, 1 - P_END_GOOD
    slope_lure = discount * stay_lure
    slope_good = discount * stay_good * (P_BUY * discount + 1 - P_BUY)
    fixed_good = click + discount * P_BUY * purchase
    v = (P_LURE * click + (1 - P_LURE) * fixed_good) / (1 - P_LURE * slope_lure - (1 - P_LURE) * slope_good)
    return {"lure": click + slope_lure * v, "good": fixed_good + slope_good * v}


def _events(sessions: int, draw: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """All visits side by side, step by step: visit, item and whether bought, in the order of happening."""
    popular = {count: _popularity(count) for count in (GOODS, LURES)}
    successor = np.stack([draw.permutation(GOODS) for _ in DEPARTMENTS])
    visit = np.arange(sessions)
    intent = draw.choice(len(DEPARTMENTS), sessions, p=_popularity(len(DEPARTMENTS)))
    last_good = np.full(sessions, -1)
    events: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
    for _ in range(MOST_EVENTS // 2):
        if not len(visit):
            break
        moved = draw.random(len(visit)) < P_NEW_INTENT
        intent = np.where(moved, draw.integers(0, len(DEPARTMENTS), len(visit)), intent)
        last_good[moved] = -1
        kind = np.where(draw.random(len(visit)) < P_LURE, _LURE, _GOOD)
        follows = (draw.random(len(visit)) < P_SUCCESSOR) & (last_good >= 0)
        any_good = draw.choice(GOODS, len(visit), p=popular[GOODS])
        good = np.where(follows, successor[intent, last_good], any_good)
        lure = GOODS + draw.choice(LURES, len(visit), p=popular[LURES])
        item = intent * (GOODS + LURES) + np.where(kind == _GOOD, good, lure)
        events.append((visit, item, np.zeros(len(visit), dtype=bool)))
        bought = (kind == _GOOD) & (draw.random(len(visit)) < P_BUY)
        events.append((visit[bought], item[bought], np.ones(int(bought.sum()), dtype=bool)))
        last_good = np.where(kind == _GOOD, good, last_good)
        stays = draw.random(len(visit)) >= np.where(kind == _GOOD, P_END_GOOD, P_END_LURE)
        visit, intent, last_good = visit[stays], intent[stays], last_good[stays]
    visits, items, bought_all = (np.concatenate(column) for column in zip(*events, strict=True))
    return visits, items, bought_all


def _popularity(count: int) -> NDArray[np.float64]:
    """A gentle power law: the first is chosen most."""
    weight = 1 / np.sqrt(np.arange(1, count + 1))
    shares: NDArray[np.float64] = weight / weight.sum()
    return shares
