"""The spread sketch: what can be said of an item's K heads from four products instead of K.

W_a is the K×(D+1) matrix of the heads of item a (the bias as one more column), C_a = W_a less its mean row, u_1..u_3
orthonormal in R^K and orthogonal to (1, …, 1): *contrasts* between the heads, best the left singular vectors of C_a.
With the mean row w̄, g_j = u_jᵀ C_a / √K and t_j = g_j·h, exactly, for a state h (with a 1 for the bias):

    SD²     = Σ_j t_j² + ρ²,           0 ≤ ρ ≤ P ‖h‖,   P = s_4(C_a) / √K
    Σ α_k Q_k ≤ A + c ρ,               A = w̄·h + √K Σ_j (α·u_j) t_j,   c = √K ‖α − 1/K − Σ_j (α·u_j) u_j‖

An item can reach a value V > 0 under p-mul only if A + cρ ≥ V (1 + λ √(Σ t_j² + ρ²)) for some ρ in [0, P‖h‖]. With
x = A/V − 1 and y = c/V (p-sub: x = A − V, y = c, any V) that is x + yρ ≥ λ √(l² + ρ²), and
- for y < λ the left less the right is greatest at ρ* = l y / √(λ² − y²): the test is x ≥ 0 and x² ≥ l² (λ² − y²);
- for y ≥ λ it rises with ρ: the test is at ρ = P‖h‖.
Products are in bfloat16; each row carries a bound on their error, in units of ‖(h, 1)‖, which is added to A and taken
from |t_j|: ‖ĝ − g‖ + ‖ĝ‖ ‖ĥ − h‖ / ‖(h, 1)‖ with ĝ, ĥ rounded, and float32's own rounding. So whatever is ruled out is
ruled out for certain. The kernel looks at the mean and two contrasts first (the third is then a part of the residual),
and at the third where that does not rule an item out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from valuerec.ops import native

CONTRASTS = 3
_BLOCK = 2048
_FLOOR = 1e-16  # below what float32 and bfloat16 can tell from nothing, squared or multiplied
_HUGE = 1e30
_MIXING = 2e-7  # times K and the norm of all heads: what a float32 sum over the heads may be off by


class Sketch:
    """The sketches of all items of an ensemble.

    Args:
        weight_NKD: the heads' weights.
        bias_NK: their biases.
        refined: find every item's contrasts now. Else items are sketched without any, which bounds less and costs
            little, until `update` refines them: right for fresh heads, that have learned nothing to tell apart.
    """

    def __init__(self, weight_NKD: Tensor, bias_NK: Tensor, refined: bool = True) -> None:
        n_items, n_heads, width = weight_NKD.shape
        padded = width + width % 2
        self.row_N4D = torch.zeros(n_items, 1 + CONTRASTS, padded, dtype=torch.bfloat16)
        self.bias_N4 = torch.zeros(n_items, 1 + CONTRASTS)
        self.rounding_N4 = torch.zeros(n_items, 1 + CONTRASTS)
        self.norm_N4 = torch.zeros(n_items, 1 + CONTRASTS)
        self.residual_N2 = torch.zeros(n_items, 2)
        self.contrast_N3K = torch.zeros(n_items, CONTRASTS, n_heads)
        for start in range(0, n_items, _BLOCK):
            block = torch.arange(start, min(start + _BLOCK, n_items))
            self._update(weight_NKD[block], bias_NK[block], block, refined)

    def update(self, weight_NKD: Tensor, bias_NK: Tensor, items: Tensor) -> None:
        """Sketch some items anew, with their contrasts."""
        for start in range(0, len(items), _BLOCK):
            block = items[start : start + _BLOCK]
            self._update(weight_NKD[block], bias_NK[block], block, refined=True)

    @torch.no_grad()  # or weights that are trained would tie every update to all those before
    def _update(self, weight_TKD: Tensor, bias_TK: Tensor, items_T: Tensor, refined: bool) -> None:
        n_heads, width = weight_TKD.shape[1:]
        whole_TKD = torch.cat([weight_TKD, bias_TK.unsqueeze(2)], dim=2)
        mean_T1D = whole_TKD.mean(dim=1, keepdim=True)
        centred_TKD = whole_TKD - mean_T1D
        contrast_T3K, residual_T2 = _contrasts(centred_TKD) if refined else _no_contrasts(centred_TKD)
        self.contrast_N3K[items_T] = contrast_T3K
        self.residual_N2[items_T] = residual_T2 + _FLOOR
        rows_T4D = torch.cat([mean_T1D, contrast_T3K @ centred_TKD / math.sqrt(n_heads)], dim=1)
        low_T4D, norm_T4, rounding_T4 = bfloat16_rows(rows_T4D[:, :, :width], rows_T4D[:, :, width])
        rounding_T4 += _MIXING * n_heads * whole_TKD.flatten(1).norm(dim=1, keepdim=True)
        self.row_N4D[items_T, :, :width], self.bias_N4[items_T] = low_T4D, rows_T4D[:, :, width]
        self.norm_N4[items_T], self.rounding_N4[items_T] = norm_T4, rounding_T4

    def of_mixture(self, mixture_K: Tensor) -> tuple[Tensor, Tensor]:
        """What the mixture α makes of each item: the contrasts' slopes √K (α·u_j), N×3, and c, N."""
        if native.why_not():
            return self.plain_of_mixture(mixture_K)
        n_items, _, n_heads = self.contrast_N3K.shape
        apart = float((mixture_K - 1 / n_heads).square().sum())
        slope_N3, rest_N = torch.empty(n_items, CONTRASTS), torch.empty(n_items)
        native.call(
            "valuerec_slopes", n_items, n_heads, self.contrast_N3K, mixture_K.contiguous(), apart, slope_N3, rest_N
        )
        return slope_N3, rest_N

    def plain_of_mixture(self, mixture_K: Tensor) -> tuple[Tensor, Tensor]:
        """The reference of `of_mixture`."""
        n_heads = len(mixture_K)
        along_N3 = self.contrast_N3K @ mixture_K
        apart = (mixture_K - 1 / n_heads).square().sum()
        rest_N = (apart - along_N3.square().sum(dim=1)).clamp_(min=0).add_(4e-7 * apart).sqrt_()
        return along_N3.mul_(math.sqrt(n_heads)), rest_N.mul_(math.sqrt(n_heads))


class MixtureSketch:
    """What the mixture alone says: no penalised value exceeds a mixture that is above 0, nor p-sub any mixture.

    Right for fresh heads, which differ in all directions alike, so that no contrast tells much: their spread is then
    of the size of their values, and few items have a mixture above the best penalised value. It has the fields of
    `Sketch` that the search reads, with no contrasts and nothing left of the mixture, made anew for each α.

    Args:
        weight_NKD: the heads' weights, which must stay as they are.
        bias_NK: their biases.
    """

    def __init__(self, weight_NKD: Tensor, bias_NK: Tensor) -> None:
        n_items, _, width = weight_NKD.shape
        self._heads = (weight_NKD, bias_NK)
        self.row_N4D = torch.zeros(n_items, 1 + CONTRASTS, width + width % 2, dtype=torch.bfloat16)
        self.bias_N4, self.rounding_N4, self.norm_N4 = torch.zeros(3, n_items, 1 + CONTRASTS).unbind(0)
        self.residual_N2 = torch.zeros(n_items, 2)
        self._size_N = torch.empty(n_items)
        for start in range(0, n_items, _BLOCK):
            part = slice(start, start + _BLOCK)
            square_T = weight_NKD[part].flatten(1).square().sum(dim=1) + bias_NK[part].square().sum(dim=1)
            self._size_N[part] = square_T.sqrt()
        self._nothing = torch.zeros(n_items, CONTRASTS), torch.zeros(n_items)

    def of_mixture(self, mixture_K: Tensor) -> tuple[Tensor, Tensor]:
        """Take the mixture α; slopes and c are 0."""
        weight_NKD, bias_NK = self._heads
        n_items, n_heads, width = weight_NKD.shape
        for start in range(0, n_items, _BLOCK):
            part = slice(start, start + _BLOCK)
            mixed_TD, bias_T = torch.einsum("tkd,k->td", weight_NKD[part], mixture_K), bias_NK[part] @ mixture_K
            low_TD, norm_T, rounding_T = bfloat16_rows(mixed_TD, bias_T)
            self.row_N4D[part, 0, :width], self.bias_N4[part, 0], self.norm_N4[part, 0] = low_TD, bias_T, norm_T
            self.rounding_N4[part, 0] = rounding_T + _MIXING * n_heads * self._size_N[part]
        return self._nothing


def bfloat16_rows(row_XD: Tensor, bias_X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows in bfloat16, their norms, and a bound on what a product may be off by for rounding them and its sums."""
    low_XD = row_XD.bfloat16()
    norm_X, off_X = low_XD.float().norm(dim=-1), (low_XD.float() - row_XD).norm(dim=-1)
    accumulation = 1e-7 * row_XD.shape[-1]  # of float32 sums of so many products
    return low_XD, norm_X, 1.001 * off_X + accumulation * (norm_X + bias_X.abs()) + _FLOOR


def _contrasts(centred_TKD: Tensor) -> tuple[Tensor, Tensor]:
    """The best contrasts of each item, T×3×K, and P without the last of them and with it, T×2."""
    n_heads = centred_TKD.shape[1]
    used = min(CONTRASTS, n_heads - 1)
    contrast_T3K, residual_T2 = _no_contrasts(centred_TKD)
    basis_JK = _contrast_basis(n_heads)
    inner_TJD = torch.matmul(basis_JK, centred_TKD)
    square_TJJ = inner_TJD @ inner_TJD.transpose(1, 2)
    fits_T = square_TJJ.isfinite().all(dim=2).all(dim=1)  # else float32 can't square the values: no contrasts
    try:
        square_TJ, vector_TJJ = torch.linalg.eigh(square_TJJ.nan_to_num(0.0, 0.0, 0.0))  # ascending
    except RuntimeError:  # seen with many equal eigenvalues
        return contrast_T3K, residual_T2
    own_TuK = vector_TJJ.flip(2)[:, :, :used].transpose(1, 2) @ basis_JK  # the best first
    contrast_T3K[fits_T, :used] = own_TuK[fits_T]
    for place, contrasts in enumerate((CONTRASTS - 1, CONTRASTS)):
        left_T = torch.zeros(len(square_TJ))
        if n_heads - 1 > contrasts:  # eigh is off by some rounding errors of the largest
            left_T = square_TJ[:, n_heads - 2 - contrasts].clamp(min=0) + 3e-5 * square_TJ[:, -1].clamp(min=0)
        residual_T2[fits_T, place] = (left_T / n_heads).sqrt()[fits_T]
    return contrast_T3K, residual_T2


def _no_contrasts(centred_TKD: Tensor) -> tuple[Tensor, Tensor]:
    """No contrasts, and what P is then: the norm of all that the heads differ by."""
    n_items, n_heads, _ = centred_TKD.shape
    residual_T1 = centred_TKD.flatten(1).norm(dim=1, keepdim=True) / math.sqrt(n_heads)
    residual_T2 = residual_T1.nan_to_num(_HUGE, _HUGE).clamp(max=_HUGE).repeat(1, 2)
    return torch.zeros(n_items, CONTRASTS, n_heads), residual_T2


def _contrast_basis(n_heads: int) -> Tensor:
    """Orthonormal rows, all orthogonal to (1, …, 1): Helmert's, (K−1)×K."""
    basis = torch.ones(n_heads - 1, n_heads).tril()
    row = torch.arange(n_heads - 1)
    basis[row, row + 1] = -(row + 1.0)
    return basis / basis.square().sum(dim=1, keepdim=True).sqrt()
