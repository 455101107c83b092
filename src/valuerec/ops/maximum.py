"""The best value over the whole catalogue that an ensemble of Q-heads gives: `max_a score(μ(s,a), σ(s,a))`.

`μ = Σ_k α_k Q_k` is the random mixture of the heads, `σ` their population standard deviation, and `score` the
method's own formula (VPQ: equation 2). Ties go to the lowest item. Where an item's score is NaN, so is the maximum: no
way of searching hides that a run has diverged.

Ways that agree: `plain_maximum` is the reference, `tiled_maximum` works in tiles that stay in the cache, on any device
and for any formula, and `pruned_maximum` scores with all heads only what a sketch of them can't rule out. Where the
formula is the mixture itself (λ = 0), `linear_maximum` needs no heads but their mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from valuerec.ops import native
from valuerec.ops.sketch import MixtureSketch, Sketch

Score = Callable[[Tensor, Tensor], Tensor]
"""Element by element: mixture and spread in, the value to maximise out; equal shapes."""


@dataclass(frozen=True)
class Penalty:
    """A formula that can be pruned: p-mul `μ / (1 + λσ)` or p-sub `μ − λσ`; λ = 0 is the plain mixture."""

    form: Literal["p-mul", "p-sub"]
    scale: float

    def __call__(self, mixture: Tensor, spread: Tensor) -> Tensor:
        """The penalised value, element by element."""
        if self.form == "p-mul":
            return mixture / (1 + self.scale * spread)
        return mixture - self.scale * spread


class Best(NamedTuple):
    """What a search found.

    `value_B` and `item_B` (int64); `scored` heads-evaluations a row on average and `given_up` rows that pruning could
    not settle and that were done in tiles.
    """

    value_B: Tensor
    item_B: Tensor
    scored: float
    given_up: int


_TILE_NUMBERS = {"cpu": 1 << 20, "cuda": 1 << 26}  # of a tile: 4 MiB stay in a CPU's cache; a GPU wants large ones
_MOST_HEADS = 64  # that the kernels have room for
_LARGEST_SCALE = 1e15  # whose square float32 can hold
_MOST_SCORED = 1 / 24  # of the catalogue: beyond it, tiles are cheaper than items one by one


def plain_maximum(
    state_BD: Tensor, weight_NKD: Tensor, bias_NK: Tensor, mixture_K: Tensor, score: Score
) -> tuple[Tensor, Tensor]:
    """The reference: stores B×N×K. See `tiled_maximum`."""
    q_BNK = torch.einsum("bd,nkd->bnk", state_BD, weight_NKD) + bias_NK
    value_BN = score(q_BNK @ mixture_K, q_BNK.std(dim=2, correction=0))
    return value_BN.max(dim=1)


class Tiles(NamedTuple):
    """All Q_k(s, a), a tile of items at a time.

    `fill(start, stop, out)` writes those of items start..stop-1 into the first numbers of `out`, a flat workspace, and
    returns them as q_TKB.
    """

    n_items: int
    n_heads: int
    batch: int
    fill: Callable[[int, int, Tensor], Tensor]


def full_tiles(state_BD: Tensor, weight_NKD: Tensor, bias_NK: Tensor) -> Tiles:
    """Tiles of heads with a matrix of their own each."""
    n_items, n_heads, width = weight_NKD.shape
    batch = len(state_BD)
    state_DB = state_BD.t().contiguous()

    def fill(start: int, stop: int, out: Tensor) -> Tensor:
        rows = (stop - start) * n_heads
        heads_RD = weight_NKD[start:stop].reshape(rows, width)
        bias_R1 = bias_NK[start:stop].reshape(rows, 1)
        q_RB = torch.addmm(bias_R1, heads_RD, state_DB, out=out[: rows * batch].view(rows, batch))
        return q_RB.view(-1, n_heads, batch)

    return Tiles(n_items, n_heads, batch, fill)


def factored_tiles(state_BKE: Tensor, item_NE: Tensor, bias_N1: Tensor) -> Tiles:
    """Tiles of heads that share a table of items, from the states as each head maps them."""
    batch, n_heads, width = state_BKE.shape
    state_EC = state_BKE.permute(2, 1, 0).reshape(width, n_heads * batch)

    def fill(start: int, stop: int, out: Tensor) -> Tensor:
        rows = stop - start
        q_TC = out[: rows * n_heads * batch].view(rows, n_heads * batch)
        torch.addmm(bias_N1[start:stop], item_NE[start:stop], state_EC, out=q_TC)
        return q_TC.view(rows, n_heads, batch)

    return Tiles(len(item_NE), n_heads, batch, fill)


def tiled_maximum(tiles: Tiles, mixture_K: Tensor, score: Score, tile: int | None = None) -> tuple[Tensor, Tensor]:
    """The best score of each state and the item that has it, in tiles of items that stay in the cache.

    Args:
        tiles: the Q-values.
        mixture_K: α, on the simplex.
        score: the formula to maximise, of mixture and spread.
        tile: T, items a tile; by default so many that T×K×B is about a million.

    Returns:
        value_B and item_B (int64). Nothing of size B×N×K is stored.
    """
    n_items, n_heads, batch, fill = tiles
    tile = tile or max(1, _TILE_NUMBERS.get(mixture_K.device.type, 1 << 20) // (n_heads * batch))
    workspace = mixture_K.new_empty(min(tile, n_items) * n_heads * batch)
    # α and 1/K side by side: the mixture and the mean in one pass over the tile.
    average_2K = torch.stack([mixture_K, torch.full_like(mixture_K, 1 / n_heads)])
    best_B = mixture_K.new_full((batch,), -torch.inf)
    item_B = torch.zeros(batch, dtype=torch.int64, device=mixture_K.device)
    for start in range(0, n_items, tile):
        q_TKB = fill(start, min(start + tile, n_items), workspace)
        mixture_TB, mean_TB = torch.matmul(average_2K, q_TKB).unbind(1)
        spread_TB = q_TKB.sub_(mean_TB.unsqueeze(1)).square_().sum(1).div_(n_heads).sqrt_()
        value_B, place_B = score(mixture_TB, spread_TB).max(dim=0)
        _improve(best_B, item_B, value_B, place_B + start)
    return best_B, item_B


def _improve(best_B: Tensor, item_B: Tensor, value_B: Tensor, place_B: Tensor) -> None:
    """Take over what is better than the best so far, in place; NaN is better than all, as for torch.max."""
    better_B = (value_B > best_B) | (value_B.isnan() & ~best_B.isnan())
    torch.where(better_B, value_B, best_B, out=best_B)
    torch.where(better_B, place_B, item_B, out=item_B)


def linear_maximum(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, tile: int | None = None
) -> tuple[Tensor, Tensor]:
    """The best value of one linear head, in tiles: the maximum of a mixture whose spread does not matter.

    Linear heads mix into a linear head, Σ_k α_k (w_k·h) = (Σ_k α_k w_k)·h, up to rounding: one product instead of K.

    Args:
        state_BD: states.
        weight_ND: the head's weights.
        bias_N: its biases.
        tile: T, items a tile; by default so many that T×B is about half a million on a CPU.

    Returns:
        value_B and item_B (int64).
    """
    batch, n_items = len(state_BD), len(weight_ND)
    tile = tile or max(1, _TILE_NUMBERS.get(state_BD.device.type, 1 << 20) // (2 * batch))
    workspace = state_BD.new_empty(min(tile, n_items) * batch)
    best_B = state_BD.new_full((batch,), -torch.inf)
    item_B = torch.zeros(batch, dtype=torch.int64, device=state_BD.device)
    for start in range(0, n_items, tile):
        stop = min(start + tile, n_items)
        value_BT = workspace[: batch * (stop - start)].view(batch, stop - start)
        torch.addmm(bias_N[start:stop], state_BD, weight_ND[start:stop].t(), out=value_BT)
        value_B, place_B = value_BT.max(dim=1)
        _improve(best_B, item_B, value_B, place_B + start)
    return best_B, item_B


def can_prune(penalty: Penalty | None, n_heads: int, dtype: torch.dtype) -> bool:
    """Whether `pruned_maximum` can do it; else tiles can."""
    return penalty is not None and n_heads <= _MOST_HEADS and penalty.scale <= _LARGEST_SCALE and dtype == torch.float32


def pruned_maximum(
    state_BD: Tensor,
    weight_NKD: Tensor,
    bias_NK: Tensor,
    mixture_K: Tensor,
    penalty: Penalty,
    sketch: Sketch | MixtureSketch,
) -> Best:
    """The same by branch and bound, with the compiled kernels: see `valuerec.ops.sketch` for the bound.

    Args:
        state_BD: states, on the CPU.
        weight_NKD: the heads' weights.
        bias_NK: the heads' biases.
        mixture_K: α.
        penalty: the formula to maximise.
        sketch: of these weights and biases.

    Raises:
        ValueError: where `can_prune` says no.
    """
    batch, width = state_BD.shape
    n_items, n_heads, _ = weight_NKD.shape
    if not can_prune(penalty, n_heads, state_BD.dtype):
        raise ValueError(f"{n_heads} heads of {state_BD.dtype} and {penalty} can't be pruned")
    state_BD = state_BD.contiguous()
    slope_N3, rest_N = sketch.of_mixture(mixture_K)
    length_B = (state_BD.square().sum(dim=1) + 1).sqrt_() * (1 + 1e-5)
    apart = 1.001 * float(((state_BD.bfloat16() - state_BD).norm(dim=1) / length_B).max())
    pairs = sketch.row_N4D.shape[2] // 2
    groups = -(-batch // 64)
    packed = torch.empty(groups * 64 * pairs * 2, dtype=torch.bfloat16)
    value_B = torch.empty(batch)
    item_B, scored_B = torch.empty(2, batch, dtype=torch.int64).unbind(0)
    most = 64 + int(n_items * _MOST_SCORED)
    parts = -(-torch.get_num_threads() // groups)
    native.call(
        "valuerec_best", n_items, batch, width, n_heads, sketch.row_N4D, pairs, sketch.bias_N4, sketch.rounding_N4,
        sketch.norm_N4, apart, slope_N3, rest_N, sketch.residual_N2, weight_NKD, bias_NK, mixture_K.contiguous(),
        int(penalty.form == "p-sub"), float(penalty.scale), state_BD, length_B, most, packed, parts,
        value_B, item_B, scored_B,
    )  # fmt: skip
    given_up_G = (item_B < 0).nonzero().flatten()
    if len(given_up_G):
        value_G, item_G = tiled_maximum(full_tiles(state_BD[given_up_G], weight_NKD, bias_NK), mixture_K, penalty)
        value_B[given_up_G], item_B[given_up_G] = value_G, item_G
    return Best(value_B, item_B, float(scored_B.sum()) / batch, len(given_up_G))
