"""The best value over the whole catalogue that an ensemble of Q-heads gives: `max_a score(μ(s,a), σ(s,a))`.

`μ = Σ_k α_k Q_k` is the random mixture of the heads, `σ` their population standard deviation, and `score` the
method's own formula (VPQ: equation 2). Ties go to the lowest item.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""Element by element: mixture and spread in, the value to maximise out; equal shapes."""

_TILE_NUMBERS = 1 << 20  # numbers of a tile: 4 MiB, measured best of 1 to 8 (docs/log.md)


def plain_maximum(
    state_BD: Tensor, weight_NKD: Tensor, bias_NK: Tensor, mixture_K: Tensor, score: Score
) -> tuple[Tensor, Tensor]:
    """The reference: stores B×N×K. See `maximum`."""
    q_BNK = torch.einsum("bd,nkd->bnk", state_BD, weight_NKD) + bias_NK
    value_BN = score(q_BNK @ mixture_K, q_BNK.std(dim=2, correction=0))
    return value_BN.max(dim=1)


def maximum(
    state_BD: Tensor,
    weight_NKD: Tensor,
    bias_NK: Tensor,
    mixture_K: Tensor,
    score: Score,
    tile: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The best score of each state and the item that has it, in tiles of items that stay in the cache.

    Args:
        state_BD: states.
        weight_NKD: the heads' weights.
        bias_NK: the heads' biases.
        mixture_K: α, on the simplex.
        score: the formula to maximise, of mixture and spread.
        tile: T, items a tile; by default so many that T×K×B is about a million.

    Returns:
        value_B and item_B (int64). Nothing of size B×N×K is stored.
    """
    n_items, n_heads, width = weight_NKD.shape
    batch = len(state_BD)
    tile = tile or max(1, _TILE_NUMBERS // (n_heads * batch))
    state_DB = state_BD.t().contiguous()
    workspace = state_BD.new_empty(min(tile, n_items) * n_heads, batch)
    # α and 1/K side by side: the mixture and the mean in one pass over the tile.
    average_2K = torch.stack([mixture_K, torch.full_like(mixture_K, 1 / n_heads)])
    best_B = state_BD.new_full((batch,), -torch.inf)
    item_B = torch.zeros(batch, dtype=torch.int64, device=state_BD.device)
    for start in range(0, n_items, tile):
        stop = min(start + tile, n_items)
        rows = (stop - start) * n_heads
        heads_RD = weight_NKD[start:stop].reshape(rows, width)
        bias_R1 = bias_NK[start:stop].reshape(rows, 1)
        q_TKB = torch.addmm(bias_R1, heads_RD, state_DB, out=workspace[:rows]).view(-1, n_heads, batch)
        mixture_TB, mean_TB = torch.matmul(average_2K, q_TKB).unbind(1)
        spread_TB = q_TKB.sub_(mean_TB.unsqueeze(1)).square_().sum(1).div_(n_heads).sqrt_()
        value_B, place_B = score(mixture_TB, spread_TB).max(dim=0)
        better_B = value_B > best_B
        best_B = torch.where(better_B, value_B, best_B)
        item_B = torch.where(better_B, place_B + start, item_B)
    return best_B, item_B
