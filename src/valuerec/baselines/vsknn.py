"""VSKNN: session-kNN in which the latest items of the session count most ("vector multiplication").

    sim(s, n) = Σ_{i in s ∩ n} w(i)       score(i) = idf(i) · Σ_{n among the k nearest, i in n} sim(s, n)

The P-th of P events weighs 1, the p-th p/P (linear) or 1/(P − p + 1) (reciprocal); an item that occurs more than once
counts where it occurred last. idf(i) = ln(training sessions / those that hold i), or 1 without it, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from valuerec.baselines.neighbours import SessionNeighbours, Sessions
from valuerec.errors import UsageError

Decay = Literal["linear", "reciprocal"]
DECAYS: Final[tuple[Decay, ...]] = get_args(Decay)


@dataclass(frozen=True, kw_only=True)
class VSKNN(SessionNeighbours):
    """Session-kNN that weighs the session's latest items most.

    Args:
        decay: how the weight falls from the last event back (paper: linear).
        idf: whether rare items score more than common ones held by the same sessions.
    """

    decay: Decay = "linear"
    idf: bool = False

    name = "vsknn"
    source = "Ludewig and Jannach, Evaluation of Session-based Recommendation Algorithms, UMUAI 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay not in DECAYS:
            raise UsageError(f"decay is {self.decay!r}; choose one of: {', '.join(DECAYS)}.")

    def weights(self, history: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The decay at the last place of each item."""
        item_H, back_H = np.unique(history[::-1], return_index=True)
        weight_H = 1 - back_H / len(history) if self.decay == "linear" else 1 / (1 + back_H)
        return item_H.astype(np.int64), weight_H

    def similarity(self, shared_C: NDArray[np.float64], items: int, size_C: NDArray[np.int64]) -> NDArray[np.float64]:
        """The product of the weighted vector with a set, as it is."""
        return shared_C

    def item_weight(self, sessions: Sessions) -> NDArray[np.float64]:
        """The inverse document frequency, 0 for items that no training session holds."""
        if not self.idf:
            return super().item_weight(sessions)
        count_N = np.diff(sessions.holders.offset_R)
        return np.where(count_N > 0, np.log(len(sessions.size_S) / np.maximum(count_N, 1)), 0.0)
