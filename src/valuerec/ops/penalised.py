"""Which items may be the best by the penalised mean of the heads, told by one scan of all heads in float32.

The score of an item is f = μ / (1 + λσ), μ and σ the mean and the population standard deviation of its K values
(equation 2 of the paper, with equal weights). A value computed in float32 is off by at most γ(n) R, where
R = ‖w‖ ‖s‖ + |b| bounds its size (`exact.FloatScreen` says why). The mean of the values is then off by e, and σ, which
changes by no more than the values do, by 2e, with roundings for the sums over the heads counted in n. Since
f(μ + δ, σ + ε) − f(μ, σ) is at most |δ| + λ |ε| |f(μ, σ)| where σ ≥ 0 and λ ≥ 0, an item's score is off by at most
e + 2 λ e |f|.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import torch
from torch import Tensor

from valuerec.ops.exact import gamma
from valuerec.ops.maximum import Tiles

_NUMBERS: Final = 1 << 20  # of a tile
_FURTHER: Final = 10  # roundings of a score beside those of its values and of their sum


def penalised_candidates(
    tiles: Tiles,
    roundings: int,
    reach_B: Tensor,
    penalty_B: Tensor,
    k_B: Sequence[int],
    hidden_B: Sequence[Collection[int]],
) -> list[Tensor]:
    """The items that may be among the k best by μ / (1 + λσ), of each row, in order of their index.

    Args:
        tiles: Q_k of all items, in float32 on the CPU.
        roundings: of one value, that of the state included.
        reach_B: R, what no value's terms add up to more than (float64).
        penalty_B: λ, at least 0.
        k_B: items of each row, at least 1 and at most N less the hidden ones; rows behind these are not looked at.
        hidden_B: the items that must not be.
    """
    score_BN = _scores(tiles, penalty_B.float())
    error_B = reach_B * gamma(roundings + tiles.n_heads + _FURTHER) + 1e-30
    share_B = 2.01 * penalty_B.double() * error_B
    found = []
    for row, (k, hidden) in enumerate(zip(k_B, hidden_B, strict=True)):
        score_N, error, share = score_BN[row], float(error_B[row]), float(share_B[row])
        score_N[sorted(hidden)] = -torch.inf
        least = float(torch.topk(score_N, k).values[-1])
        least -= error + share * abs(least)
        may_be_N = ~(score_N + (score_N.abs() * share + error) < least)  # NaN may be anything
        may_be_N[sorted(hidden)] = False
        found.append(may_be_N.nonzero().flatten())
    return found


def _scores(tiles: Tiles, penalty_B: Tensor) -> Tensor:
    """μ / (1 + λσ) of all items, B×N in float32."""
    n_items, n_heads, batch = tiles.n_items, tiles.n_heads, tiles.batch
    width = max(1, _NUMBERS // (n_heads * batch))
    work = torch.empty(min(width, n_items) * n_heads * batch)
    score_BN = torch.empty(batch, n_items)
    for start in range(0, n_items, width):
        stop = min(start + width, n_items)
        q_TKB = tiles.fill(start, stop, work)
        mean_TB = q_TKB.mean(dim=1)
        spread_TB = q_TKB.sub_(mean_TB[:, None]).square_().mean(dim=1).sqrt_()
        score_BN[:, start:stop] = mean_TB.div_(spread_TB.mul_(penalty_B).add_(1)).t()
    return score_BN
