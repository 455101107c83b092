"""The k best of a linear head as a scan in float64 would find them, at the price of a scan in float32.

A score in float32 is off by at most γ (‖w‖ ‖s‖ + |b|), γ = n u / (1 − n u), u = 2⁻²⁴, n = D + 3 roundings (one of the
state), whatever the order of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1,
and Cauchy-Schwarz). So an item that lies more than twice that below the k-th best in float32 is not among the k best.
What is left, a few more than k, is scored again in float64; where the few looked at do not cover what is left, all is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_UNIT: Final = 2.0**-24
_TILE: Final = 1 << 14  # items scored in float64 at once


class Ranked(NamedTuple):
    """The best items of each row, the best first, ties by the lower index; a score of -inf is no item."""

    item_Bk: Tensor
    score_Bk: Tensor


class LinearHead:
    """A linear head with what bounds its rounding.

    Args:
        weight_ND: float32.
        bias_N: float32.
        extra: roundings by which the weights themselves differ from those that count.
    """

    def __init__(self, weight_ND: Tensor, bias_N: Tensor, extra: int = 0) -> None:
        self.weight_ND, self.bias_N = weight_ND.detach(), bias_N.detach()
        roundings = (weight_ND.shape[1] + 3 + extra) * _UNIT
        self._gamma = roundings / (1 - roundings)
        longest = max(float(tile_TD.norm(dim=1).max()) for tile_TD in torch.split(self.weight_ND, _TILE))
        self._longest = longest * (1 + 1e-5)  # the norms are rounded too
        self._largest = float(self.bias_N.abs().max())

    def screen(self, state_BD: Tensor) -> Tensor:
        """Scores in float32, B×N."""
        return functional.linear(state_BD.float(), self.weight_ND, self.bias_N)

    def error(self, state_BD: Tensor) -> Tensor:
        """How far a score of `screen` may be from the exact one, B (float64)."""
        length_B: Tensor = state_BD.double().norm(dim=1)
        return self._gamma * (self._longest * length_B + self._largest) + 1e-30

    def exact(self, state_BD: Tensor, item_BM: Tensor) -> Tensor:
        """Scores in float64 of M items a row."""
        weight_BMD = self.weight_ND[item_BM].double()
        return (weight_BMD * state_BD.double()[:, None]).sum(dim=2) + self.bias_N[item_BM]

    def top(self, state_BD: Tensor, score_BN: Tensor, k: int) -> Ranked:
        """The k best by the exact score.

        Args:
            state_BD: states.
            score_BN: what `screen` gave, with -inf where an item must not be.
            k: at least 1, at most N.
        """
        n_items = score_BN.shape[1]
        looked = min(n_items, k + max(12, k // 4))
        found = torch.topk(score_BN, looked, dim=1)
        item_BM = found.indices.sort(dim=1).values
        exact_BM = self.exact(state_BD, item_BM).masked_fill(score_BN.gather(1, item_BM) == -torch.inf, -torch.inf)
        best = _ordered(item_BM, exact_BM, k)
        if looked < n_items:
            least_B = found.values[:, k - 1].double() - 2 * self.error(state_BD)
            for row in (found.values[:, -1] >= least_B).nonzero().flatten().tolist():
                if found.values[row, -1] == -torch.inf:
                    continue  # all that may be an item has been looked at
                item_1M = (score_BN[row] >= least_B[row]).nonzero().flatten()[None]
                whole = [self.exact(state_BD[row : row + 1], tile_1T) for tile_1T in torch.split(item_1M, _TILE, dim=1)]
                again = _ordered(item_1M, torch.cat(whole, dim=1), k)
                best.item_Bk[row], best.score_Bk[row] = again.item_Bk[0], again.score_Bk[0]
        return best


def _ordered(item_BM: Tensor, score_BM: Tensor, k: int) -> Ranked:
    """The k best of items that stand in order of their index."""
    score_Bk, place_Bk = (part[:, :k] for part in score_BM.sort(dim=1, descending=True, stable=True))
    return Ranked(item_BM.gather(1, place_Bk), score_Bk)
