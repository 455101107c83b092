"""NDCG@k with one relevant item: 1 / log2(rank + 1) within the first k, else 0 (the ideal list scores 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ndcg(rank_E: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """The gain of each event; the mean is NDCG@k.

    Args:
        rank_E: ranks from 1.
        k: length of the list.
    """
    return np.where(rank_E <= k, 1 / np.log2(rank_E + 1.0), 0.0)
