"""The k best items of each row, exactly, ties by the lower index."""

from __future__ import annotations

import torch
from torch import Tensor


def top(score_BN: Tensor, k: int) -> Tensor:
    """Items in falling order of score; equal scores by the lower index.

    `torch.topk` orders and even chooses equal scores as it likes, so its k-th value only says where to cut.

    Args:
        score_BN: scores, no NaN.
        k: how many, at most N.

    Returns:
        item_Bk (int64).
    """
    best = torch.topk(score_BN, k, dim=1)
    cut_B1 = best.values[:, -1:]
    tied_B = (score_BN >= cut_B1).sum(dim=1) > k
    chosen_Bk = best.indices
    for row in tied_B.nonzero().flatten().tolist():
        above = (score_BN[row] > cut_B1[row]).nonzero().flatten()
        level = (score_BN[row] == cut_B1[row]).nonzero().flatten()
        chosen_Bk[row] = torch.cat([above, level[: k - len(above)]])
    chosen_Bk = chosen_Bk.sort(dim=1).values
    order_Bk = score_BN.gather(1, chosen_Bk).sort(dim=1, descending=True, stable=True).indices
    return chosen_Bk.gather(1, order_Bk)
