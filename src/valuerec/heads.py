"""What stands on a backbone's state: the item head (logits) and the ensemble of Q-heads."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from valuerec import ops


class ItemHead(nn.Module):
    """Linear logits over the catalogue: Xavier-uniform weights, zero bias, not tied to the item embedding."""

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.weight_ND = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_items, width)))
        self.bias_N = nn.Parameter(torch.zeros(n_items))

    def forward(self, state_BD: Tensor) -> Tensor:
        """Logits of all items, B×N."""
        return functional.linear(state_BD, self.weight_ND, self.bias_N)


class RowSparse(nn.Module, ABC):
    """A module with tables of which a step touches few rows: their gradients are sparse."""

    @abstractmethod
    def tables(self) -> list[nn.Parameter]:
        """The parameters whose gradients are sparse."""


class QEnsemble(RowSparse):
    """K Q-heads over the catalogue; what every form of them answers.

    Args:
        n_items: N.
        n_heads: K (paper: 15).
        sparse: whether a step touches the logged items' rows alone; False where a loss reaches the whole catalogue
            (CQL), and then there are no row-sparse tables.
    """

    def __init__(self, n_items: int, n_heads: int, sparse: bool = True) -> None:
        super().__init__()
        self.n_items, self.n_heads, self.sparse = n_items, n_heads, sparse

    def tables(self) -> list[nn.Parameter]:
        """The tables of items, where their gradients are sparse."""
        return self._tables() if self.sparse else []

    @abstractmethod
    def _tables(self) -> list[nn.Parameter]:
        """The parameters with a row an item."""

    @abstractmethod
    def of(self, state_BD: Tensor, item_B: Tensor) -> Tensor:
        """Q_k(s, a) of one item a row, B×K; gradients of item tables are row-sparse."""

    @abstractmethod
    def of_each(self, state_BD: Tensor, item_BM: Tensor) -> Tensor:
        """Q_k(s, a) of M items a row, B×M×K."""

    @abstractmethod
    def tiles(self, state_BD: Tensor) -> ops.Tiles:
        """Q_k(s, a) of all items, a tile of items at a time."""

    @abstractmethod
    def reach(self) -> Reach:
        """What bounds the error of a value in float32."""

    @abstractmethod
    def mixed(self, mixture_K: Tensor) -> tuple[Tensor, Tensor]:
        """The one head Σ α_k Q_k, α on the simplex, as weight_ND and bias_N with gradient."""

    def mean(self) -> tuple[Tensor, Tensor]:
        """The mean head, as `mixed`."""
        like = next(self.parameters())
        return self.mixed(like.new_full((self.n_heads,), 1 / self.n_heads))

    @abstractmethod
    def whole(self) -> tuple[Tensor, Tensor]:
        """The same heads as one matrix: weight_NKD and bias_NK."""


class Reach(NamedTuple):
    """|Q_k(s, a)|'s terms add up to at most `longest` ‖s‖ + `largest`; `roundings` go into it, one of the state too."""

    longest: float
    largest: float
    roundings: int


class FullHeads(QEnsemble):
    """K linear heads, one matrix N·K × D as in the released code.

    The Xavier fan-out is N·K, not N: it sets the spread of a fresh ensemble and so the first penalties (mean W at
    λ = 20 about .8; PyTorch's default for linear layers would start at about .1).

    Only the logged action's heads need a gradient, so gradients are sparse: B rows of K·D and K numbers.

    Args:
        n_items: N.
        width: D, the state's width.
        n_heads: K (paper: 15).
        sparse: see `QEnsemble`.
    """

    def __init__(self, n_items: int, width: int, n_heads: int, sparse: bool = True) -> None:
        super().__init__(n_items, n_heads, sparse)
        bound = math.sqrt(6 / (width + n_items * n_heads))
        self.weight = nn.Parameter(torch.empty(n_items, n_heads * width).uniform_(-bound, bound))
        self.bias_NK = nn.Parameter(torch.zeros(n_items, n_heads))

    @property
    def weight_NKD(self) -> Tensor:
        """The weights, a head a row."""
        return self.weight.view(len(self.weight), self.n_heads, -1)

    def _tables(self) -> list[nn.Parameter]:
        """All of it."""
        return [self.weight, self.bias_NK]

    def of(self, state_BD: Tensor, item_B: Tensor) -> Tensor:
        """Q_k(s, a) of one item a row, B×K; its gradient is row-sparse."""
        weight_BKD = functional.embedding(item_B, self.weight, sparse=self.sparse).view(len(item_B), self.n_heads, -1)
        bias_BK = functional.embedding(item_B, self.bias_NK, sparse=self.sparse)
        return torch.einsum("bkd,bd->bk", weight_BKD, state_BD) + bias_BK

    def of_each(self, state_BD: Tensor, item_BM: Tensor) -> Tensor:
        """Q_k(s, a) of M items a row, B×M×K, as precise as the state is; equal weights give equal values."""
        return ops.products(state_BD, self.weight_NKD, self.bias_NK, item_BM)

    def tiles(self, state_BD: Tensor) -> ops.Tiles:
        """Q_k(s, a) of all items, a tile of items at a time."""
        return ops.full_tiles(state_BD, self.weight_NKD, self.bias_NK)

    def reach(self) -> Reach:
        """By the longest of N·K rows."""
        return Reach(
            ops.longest_row(self.weight_NKD.flatten(0, 1)),
            float(self.bias_NK.detach().abs().max()),
            self.weight_NKD.shape[2] + 3,
        )

    def mixed(self, mixture_K: Tensor) -> tuple[Tensor, Tensor]:
        """Σ α_k w_k and Σ α_k b_k; of one head, the head."""
        if self.n_heads == 1:
            return self.weight, self.bias_NK.squeeze(1)
        return torch.einsum("k,nkd->nd", mixture_K, self.weight_NKD), self.bias_NK @ mixture_K

    def whole(self) -> tuple[Tensor, Tensor]:
        """The heads as they are."""
        return self.weight_NKD, self.bias_NK


class FactoredHeads(QEnsemble):
    """K small maps of the state onto one table of items: Q_k(s, a) = (M_k s) · e_a + b_a.

    For catalogues whose full heads do not fit: N·D + K·D² weights instead of N·K·D. It is another model than the
    paper's: heads that share their items differ in what they make of a state only, which changes the spread
    (RESULTS.md has the measurement). A fresh ensemble has the values and the spread of fresh full heads.

    Args:
        n_items: N.
        width: D, the state's width.
        n_heads: K.
        sparse: see `QEnsemble`.
    """

    def __init__(self, n_items: int, width: int, n_heads: int, sparse: bool = True) -> None:
        super().__init__(n_items, n_heads, sparse)
        bound = math.sqrt(6 / (width + n_items * n_heads))
        self.item_ND = nn.Parameter(torch.empty(n_items, width).uniform_(-bound, bound))
        self.bias_N1 = nn.Parameter(torch.zeros(n_items, 1))
        self.map_KDD = nn.Parameter(torch.randn(n_heads, width, width) / math.sqrt(width))

    def _tables(self) -> list[nn.Parameter]:
        """The items; the maps are dense."""
        return [self.item_ND, self.bias_N1]

    def _mapped(self, state_BD: Tensor) -> Tensor:
        return torch.einsum("kde,bd->bke", self.map_KDD.to(state_BD.dtype), state_BD)

    def of(self, state_BD: Tensor, item_B: Tensor) -> Tensor:
        """Q_k(s, a) of one item a row, B×K; the gradient of the items is row-sparse."""
        item_BD = functional.embedding(item_B, self.item_ND, sparse=self.sparse)
        return torch.einsum("bke,be->bk", self._mapped(state_BD), item_BD) + functional.embedding(
            item_B, self.bias_N1, sparse=self.sparse
        )

    def of_each(self, state_BD: Tensor, item_BM: Tensor) -> Tensor:
        """Q_k(s, a) of M items a row, B×M×K, as precise as the state is; equal weights give equal values."""
        item_BM1D = self.item_ND[item_BM].to(state_BD.dtype).unsqueeze(2)
        return (item_BM1D * self._mapped(state_BD)[:, None]).sum(dim=3) + self.bias_N1[item_BM]

    def tiles(self, state_BD: Tensor) -> ops.Tiles:
        """Q_k(s, a) of all items, a tile of items at a time."""
        return ops.factored_tiles(self._mapped(state_BD), self.item_ND, self.bias_N1)

    def reach(self) -> Reach:
        """By the longest item and the largest map (its Frobenius norm)."""
        longest = ops.longest_row(self.item_ND) * ops.longest_row(self.map_KDD.flatten(1))
        return Reach(longest, float(self.bias_N1.detach().abs().max()), 2 * self.item_ND.shape[1] + 4)

    def mixed(self, mixture_K: Tensor) -> tuple[Tensor, Tensor]:
        """The items as the mixed map sees them; α sums to 1, and the bias is common."""
        map_DE = torch.einsum("k,kde->de", mixture_K, self.map_KDD)
        return self.item_ND @ map_DE.t(), self.bias_N1.squeeze(1)

    def whole(self) -> tuple[Tensor, Tensor]:
        """The same heads as one matrix, N×K×D: large; for tests."""
        return torch.einsum("kde,ne->nkd", self.map_KDD, self.item_ND), self.bias_N1.expand(-1, self.n_heads)


ENSEMBLES: Final[dict[str, type[FullHeads] | type[FactoredHeads]]] = {"full": FullHeads, "factored": FactoredHeads}
