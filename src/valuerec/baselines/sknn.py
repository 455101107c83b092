"""SKNN: session-kNN with the cosine of item sets.

sim(s, n) = |s ∩ n| / √(|s| · |n|)             score(i) = Σ_{n among the k nearest, i in n} sim(s, n)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valuerec.baselines.neighbours import SessionNeighbours


@dataclass(frozen=True, kw_only=True)
class SKNN(SessionNeighbours):
    """Session-kNN: items of the training sessions that share most with the present one."""

    name = "sknn"
    source = "Jannach and Ludewig, When Recurrent Neural Networks meet the Neighborhood, RecSys 2017"

    def weights(self, history: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Every item alike."""
        item_H = np.unique(history).astype(np.int64)
        return item_H, np.ones(len(item_H))

    def similarity(self, shared_C: NDArray[np.float64], items: int, size_C: NDArray[np.int64]) -> NDArray[np.float64]:
        """The cosine."""
        return np.asarray(shared_C / np.sqrt(items * size_C))
