"""What stands on a backbone's state: the item head (logits) and the ensemble of Q-heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ItemHead(nn.Module):
    """Linear logits over the catalogue: Xavier-uniform weights, zero bias, not tied to the item embedding."""

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.weight_ND = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_items, width)))
        self.bias_N = nn.Parameter(torch.zeros(n_items))

    def forward(self, state_BD: Tensor) -> Tensor:
        """Logits of all items, B×N."""
        return functional.linear(state_BD, self.weight_ND, self.bias_N)


class QEnsemble(nn.Module):
    """K linear Q-heads over the catalogue, one matrix N·K × D as in the released code.

    The Xavier fan-out is N·K, not N: it sets the spread of a fresh ensemble and so the first penalties (mean W at
    λ = 20 about .8; PyTorch's default for linear layers would start at about .1).

    Only the logged action's heads need a gradient, so gradients are sparse: B rows of K·D and K numbers.

    Args:
        n_items: N.
        width: D, the state's width.
        n_heads: K (paper: 15).
    """

    def __init__(self, n_items: int, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        bound = math.sqrt(6 / (width + n_items * n_heads))
        self.weight = nn.Parameter(torch.empty(n_items, n_heads * width).uniform_(-bound, bound))
        self.bias_NK = nn.Parameter(torch.zeros(n_items, n_heads))

    @property
    def weight_NKD(self) -> Tensor:
        """The weights, a head a row."""
        return self.weight.view(len(self.weight), self.n_heads, -1)

    def of(self, state_BD: Tensor, item_B: Tensor) -> Tensor:
        """Q_k(s, a) of one item a row, B×K; its gradient is row-sparse."""
        weight_BKD = functional.embedding(item_B, self.weight, sparse=True).view(len(item_B), self.n_heads, -1)
        bias_BK = functional.embedding(item_B, self.bias_NK, sparse=True)
        return torch.einsum("bkd,bd->bk", weight_BKD, state_BD) + bias_BK

    def of_each(self, state_BD: Tensor, item_BM: Tensor) -> Tensor:
        """Q_k(s, a) of M items a row, B×M×K."""
        return torch.einsum("bmkd,bd->bmk", self.weight_NKD[item_BM], state_BD) + self.bias_NK[item_BM]
