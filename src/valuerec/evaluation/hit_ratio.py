"""HR@k, the hit ratio: the share of held-out events whose item is among the first k (paper, equation 10)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hit_ratio(rank_E: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 for each event whose item has rank at most k, else 0; the mean is HR@k.

    Args:
        rank_E: ranks from 1.
        k: length of the list.
    """
    return (rank_E <= k).astype(np.float64)
