"""How good the recommendations are on held-out events: full ranking, purchases and clicks apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from valuerec.dataset import CLICK, PURCHASE
from valuerec.evaluation.hit_ratio import hit_ratio
from valuerec.evaluation.ndcg import ndcg
from valuerec.evaluation.of_run import SessionRanks, session_ranks
from valuerec.evaluation.ranking import count_rank, ranks

CUTOFFS: Final = (5, 10, 20)
SCORED: Final = {"purchase": PURCHASE, "click": CLICK}  # a shop's own kinds are not

Metrics = dict[str, dict[str, float | None]]

SELECTION: Final = "mean of NDCG@20 over purchases and over clicks (of those that occur)"


def metrics_of(rank_E: NDArray[np.int64], event_E: NDArray[np.uint8]) -> Metrics:
    """HR@k and NDCG@k for k = 5, 10, 20, purchases and clicks apart; None where a kind does not occur.

    Args:
        rank_E: ranks from 1.
        event_E: the kind of each event.
    """
    return {
        kind: {
            f"{metric.__name__.replace('hit_ratio', 'hr')}@{k}": _mean(metric(rank_E[event_E == code], k))
            for metric in (hit_ratio, ndcg)
            for k in CUTOFFS
        }
        for kind, code in SCORED.items()
    }


def selection_score(metrics: Mapping[str, Mapping[str, float | None]]) -> float:
    """What training selects by, on the validation split: see `SELECTION`."""
    values = [kind["ndcg@20"] for kind in metrics.values()]
    return float(np.mean([value for value in values if value is not None] or [0.0]))


def _mean(value_E: NDArray[np.float64]) -> float | None:
    return float(value_E.mean()) if len(value_E) else None


__all__ = [
    "CUTOFFS",
    "SCORED",
    "SELECTION",
    "Metrics",
    "SessionRanks",
    "count_rank",
    "hit_ratio",
    "metrics_of",
    "ndcg",
    "ranks",
    "selection_score",
    "session_ranks",
]
