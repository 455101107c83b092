"""The k best of a linear head as a scan in float64 would find them, at the price of a scan in bfloat16 or float32.

A *screen* scores the catalogue in low precision, knows how far each score may be off, and names the items that may be
among the best; these are scored again in float64, by which the best are chosen, ties by the lower index. A state of
which too many items may be among the best (equal items, say) is scored in float64 as a whole.

- `FloatScreen`: float32 products, on any machine. A score is off by at most γ (‖w‖ ‖s‖ + |b|), γ = n u / (1 − n u),
  u = 2⁻²⁴, n = D + 3 roundings (one of the state), whatever the order of summation (Higham, Accuracy and Stability of
  Numerical Algorithms, 2nd ed., section 3.1, and Cauchy-Schwarz).
- `LowScreen`: bfloat16 products by the compiled kernels, which keep no B×N scores: a pass over half of the bytes. An
  item's score is off by its own rounding ‖ŵ − w‖ ‖s‖, the state's ‖ŵ‖ ‖ŝ − s‖, and float32's (`sketch.bfloat16_rows`).
  ŝ is a sum of two bfloat16 numbers, because its error is one that all items share, and would stay in Σ e^score.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from valuerec.ops import native
from valuerec.ops.sketch import bfloat16_rows

_UNIT: Final = 2.0**-24
_TILE: Final = 1 << 14  # items scored in float64 at once
_MOST: Final = 4096  # items of a state that may be among the best; of more all are scored in float64
_SURE: Final = 64  # best items whose part of the softmax's sum is made exact


class Ranked(NamedTuple):
    """The best items of each row, the best first, ties by the lower index; a score of -inf is no item.

    `log_sum_B` is the logarithm of Σ e^score over the catalogue: the `_SURE` best items' part exact to float64, the
    others' to a screen's precision. All in float64.
    """

    item_Bk: Tensor
    score_Bk: Tensor
    log_sum_B: Tensor


class Candidates(NamedTuple):
    """What a screen leaves: `item_BM`, ascending, and their approximate scores; −1 and -inf where there are fewer.

    `whole` are the rows of which too many are left (no item is told), `log_sum_B` the approximate log Σ e^score.
    """

    item_BM: Tensor
    score_BM: Tensor
    whole: list[int]
    log_sum_B: Tensor


Screen = Callable[[Tensor, Tensor], Candidates]
"""States in float64 and how many of each row's best are wanted (int64, B) in, what may be among them out."""


def gamma(roundings: int) -> float:
    """γ of that many roundings to float32."""
    return roundings * _UNIT / (1 - roundings * _UNIT)


def longest_row(row_ND: Tensor) -> float:
    """The largest norm of a row in float32, rounded up, for the norms are rounded too."""
    tiles = torch.split(row_ND.detach(), _TILE)
    return max(float(tile_TD.norm(dim=1).max()) for tile_TD in tiles) * (1 + 1e-5)


def plain_products(state_BD: Tensor, weight_NKD: Tensor, bias_NK: Tensor, item_BM: Tensor) -> Tensor:
    """w_nk·s + b_nk of M items a row, B×M×K, as precise as the state is; equal weights give equal values."""
    weight_BMKD = weight_NKD[item_BM].to(state_BD.dtype)
    return (weight_BMKD * state_BD[:, None, None]).sum(dim=3) + bias_NK[item_BM]


def products(state_BD: Tensor, weight_NKD: Tensor, bias_NK: Tensor, item_BM: Tensor) -> Tensor:
    """`plain_products`, in float64 on the CPU by the compiled kernel where there is one, without copies of weights."""
    tensors = (state_BD, weight_NKD, bias_NK, item_BM)
    simple = (torch.float64, torch.float32, torch.float32, torch.int64)
    fits = all(
        tensor.device.type == "cpu" and tensor.dtype == kind for tensor, kind in zip(tensors, simple, strict=True)
    )
    if not fits or native.why_not() or torch.is_grad_enabled():
        return plain_products(*tensors)
    (batch, many), (_, n_heads, width) = item_BM.shape, weight_NKD.shape
    if item_BM.numel() and not 0 <= int(item_BM.min()) <= int(item_BM.max()) < len(weight_NKD):
        raise IndexError("an item is none of the catalogue's")
    row_BM = torch.arange(batch)[:, None].expand(batch, many)
    out_BMK = torch.empty(batch, many, n_heads, dtype=torch.float64)
    native.call(
        "valuerec_products", batch * many, n_heads, width, weight_NKD.detach().contiguous(),
        bias_NK.detach().contiguous(), state_BD.contiguous(), row_BM.contiguous(), item_BM.contiguous(), out_BMK,
    )  # fmt: skip
    return out_BMK


class FloatScreen:
    """See the module.

    Args:
        weight_ND: float32.
        bias_N: float32.
        extra: roundings by which the weights themselves differ from those that count.
    """

    def __init__(self, weight_ND: Tensor, bias_N: Tensor, extra: int = 0) -> None:
        self._weight_ND, self._bias_N = weight_ND.detach(), bias_N.detach()
        self._gamma = gamma(weight_ND.shape[1] + 3 + extra)
        self._longest = longest_row(weight_ND)
        self._largest = float(self._bias_N.abs().max())

    def scores(self, state_BD: Tensor) -> Tensor:
        """B×N in float32."""
        return functional.linear(state_BD.float(), self._weight_ND, self._bias_N)

    def error(self, state_BD: Tensor) -> Tensor:
        """How far a score may be from the exact one, B (float64)."""
        length_B: Tensor = state_BD.double().norm(dim=1)
        return self._gamma * (self._longest * length_B + self._largest) + 1e-30

    def __call__(self, state_BD: Tensor, want_B: Tensor) -> Candidates:
        """A `Screen`."""
        score_BN = self.scores(state_BD)
        n_items, most_wanted = score_BN.shape[1], int(want_B.max())
        looked = min(n_items, most_wanted + max(12, most_wanted // 4))
        found = torch.topk(score_BN, looked, dim=1)
        least_B = found.values.gather(1, want_B[:, None] - 1)[:, 0].double() - 2 * self.error(state_BD)
        item_BM = torch.where(found.values >= least_B[:, None], found.indices, n_items).sort(dim=1).values
        whole: list[int] = []
        for row in (~(found.values[:, -1] < least_B)).nonzero().flatten().tolist() if looked < n_items else []:
            item_M = (~(score_BN[row] < least_B[row])).nonzero().flatten()
            if len(item_M) > _MOST:
                whole.append(row)
                item_M = item_M[:0]
            item_BM = functional.pad(item_BM, (0, max(0, len(item_M) - item_BM.shape[1])), value=n_items)
            item_BM[row] = functional.pad(item_M, (0, item_BM.shape[1] - len(item_M)), value=n_items)
        none_BM = item_BM == n_items
        item_BM = item_BM.masked_fill_(none_BM, -1)
        kept_BM = score_BN.gather(1, item_BM.clamp(min=0)).double().masked_fill_(none_BM, -torch.inf)
        return Candidates(item_BM, kept_BM, whole, score_BN.logsumexp(dim=1).double())


class LowScreen:
    """See the module; needs the compiled kernels.

    Args:
        weight_ND: float32, of which a copy in bfloat16 is kept.
        bias_N: float32.
        extra: as for `FloatScreen`.
        summed: whether Σ e^score is wanted; else `log_sum_B` is NaN.
    """

    def __init__(self, weight_ND: Tensor, bias_N: Tensor, extra: int = 0, summed: bool = True) -> None:
        n_items, width = weight_ND.shape
        self._bias_N, self._summed, self._width = bias_N.detach().contiguous(), summed, width
        self._row_ND = torch.zeros(n_items, width + width % 2, dtype=torch.bfloat16)
        self._norm_N, self._rounding_N = torch.empty(2, n_items).unbind(0)
        for start in range(0, n_items, _TILE):
            part = slice(start, start + _TILE)
            low_TD, norm_T, rounding_T = bfloat16_rows(weight_ND.detach()[part], bias_N.detach()[part])
            self._row_ND[part, :width], self._norm_N[part] = low_TD, norm_T
            self._rounding_N[part] = rounding_T + 2 * extra * _UNIT * (norm_T + bias_N.detach()[part].abs())

    def __call__(self, state_BD: Tensor, want_B: Tensor) -> Candidates:
        """A `Screen`."""
        n_items, batch = len(self._bias_N), len(state_BD)
        state_BD = state_BD.double()
        length_B = (state_BD.square().sum(dim=1) + 1).sqrt() * (1 + 1e-5)
        single_BD = state_BD.float()
        rest_BD = (single_BD - single_BD.bfloat16()).bfloat16()
        apart_B = (single_BD.bfloat16() + rest_BD.double() - state_BD).norm(dim=1) * (1 + 1e-3)
        most = _MOST + int(want_B.max())
        packed = torch.empty(-(-batch // 32) * 64 * self._row_ND.shape[1], dtype=torch.bfloat16)
        item_BM, score_BM = torch.empty(batch, most, dtype=torch.int64), torch.empty(batch, most)
        count_B, largest_B, total_B = (
            torch.empty(batch, dtype=torch.int64),
            torch.empty(batch),
            torch.empty(batch).double(),
        )
        native.call(
            "valuerec_candidates", n_items, batch, self._width, self._row_ND, self._bias_N, self._rounding_N,
            self._norm_N, single_BD.contiguous(), length_B.float(), apart_B.float(), want_B.contiguous(), most,
            int(self._summed), packed, item_BM, score_BM, count_B, largest_B, total_B,
        )  # fmt: skip
        whole = (count_B > most).nonzero().flatten().tolist()
        count_B[whole] = 0
        widest = int(count_B.max())
        none_BM = torch.arange(widest) >= count_B[:, None]
        item_BM = item_BM[:, :widest].masked_fill(none_BM, -1)
        kept_BM = score_BM[:, :widest].double().masked_fill_(none_BM, -torch.inf)
        return Candidates(item_BM, kept_BM, whole, largest_B.double() + total_B.log())


class LinearHead:
    """A linear head that finds its best items exactly.

    Args:
        n_items: N.
        screen: what leaves few of them.
        exact: states and M items a row in, their scores in float64 out, B×M.
    """

    def __init__(self, n_items: int, screen: Screen, exact: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.n_items, self._screen, self.exact = n_items, screen, exact

    @classmethod
    def of(cls, weight_ND: Tensor, bias_N: Tensor, screen: Screen | None = None) -> LinearHead:
        """The head of these float32 weights, by the screen that is fastest here."""
        head = weight_ND.detach()[:, None], bias_N.detach()[:, None]

        def exact(state_BD: Tensor, item_BM: Tensor) -> Tensor:
            return products(state_BD.double(), *head, item_BM)[:, :, 0]

        return cls(len(bias_N), screen or fastest_screen(weight_ND, bias_N), exact)

    def best(self, state_BD: Tensor, k_B: Sequence[int], hidden_B: Sequence[Collection[int]]) -> Ranked:
        """The k best of each row by the exact score.

        Args:
            state_BD: states, float64.
            k_B: items of each row, at least 1; where there are fewer, the rest is no item. What a row has beyond its
                own k is not to be relied on.
            hidden_B: of each row the items that must not be, which are in `log_sum_B` all the same.
        """
        n_items = self.n_items
        want = [min(n_items, max(k + len(hidden), _SURE)) for k, hidden in zip(k_B, hidden_B, strict=True)]
        item_BM, rough_BM, whole, log_sum_B = self._screen(state_BD, torch.tensor(want))
        exact_BM = self.exact(state_BD, item_BM.clamp(min=0)).masked_fill_(item_BM < 0, -torch.inf)
        log_sum_B = _made_exact(log_sum_B, rough_BM, exact_BM)
        k = min(max(k_B), n_items)
        if exact_BM.shape[1] < k:
            short = (0, k - exact_BM.shape[1])
            item_BM = functional.pad(item_BM, short, value=-1)
            exact_BM = functional.pad(exact_BM, short, value=-torch.inf)
        for row, hidden in enumerate(hidden_B):
            if hidden:
                unwanted_M = torch.isin(item_BM[row], torch.tensor(sorted(hidden)))
                exact_BM[row, unwanted_M] = -torch.inf
        item_Bk, score_Bk = _ordered(item_BM, exact_BM, k)
        for row in whole:
            exact_1N = self._all(state_BD[row : row + 1])
            log_sum_B[row] = exact_1N.logsumexp(dim=1)[0]
            exact_1N[0, sorted(hidden_B[row])] = -torch.inf
            item_Bk[row], score_Bk[row] = _best_of_all(exact_1N[0], k)
        return Ranked(item_Bk, score_Bk, log_sum_B)

    def _all(self, state_1D: Tensor) -> Tensor:
        tiles = torch.split(torch.arange(self.n_items)[None], _TILE, dim=1)
        return torch.cat([self.exact(state_1D, tile_1T) for tile_1T in tiles], dim=1)


def fastest_screen(weight_ND: Tensor, bias_N: Tensor, extra: int = 0, summed: bool = True) -> Screen:
    """The screen that is fastest on this machine; see `LowScreen` for the arguments."""
    if weight_ND.device.type == "cpu" and not native.why_not():
        return LowScreen(weight_ND, bias_N, extra, summed)
    return FloatScreen(weight_ND, bias_N, extra)


def _made_exact(log_sum_B: Tensor, rough_BM: Tensor, exact_BM: Tensor) -> Tensor:
    """The log Σ e^score with the exact scores of the `_SURE` best in the place of approximate ones."""
    best = torch.topk(exact_BM, min(_SURE, exact_BM.shape[1]), dim=1)
    before_B = (rough_BM.gather(1, best.indices) - log_sum_B[:, None]).exp().sum(dim=1)
    after_B = (best.values - log_sum_B[:, None]).exp().sum(dim=1)
    return log_sum_B + ((1 - before_B).clamp(min=0) + after_B).log()


def _best_of_all(score_N: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of a catalogue that may be full of equals."""
    least = torch.topk(score_N, k).values[-1]
    above_M = (score_N > least).nonzero().flatten()
    level_M = (score_N == least).nonzero().flatten()[: k - len(above_M)]
    item_k = torch.cat([above_M, level_M]).sort().values
    item_1k, score_1k = _ordered(item_k[None], score_N[None, item_k], k)
    return item_1k[0], score_1k[0]


def _ordered(item_BM: Tensor, score_BM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of items that stand in order of their index."""
    score_Bk, place_Bk = (part[:, :k] for part in score_BM.sort(dim=1, descending=True, stable=True))
    return item_BM.gather(1, place_Bk), score_Bk
