"""Cross-entropy over the whole catalogue, weighted per row: `mean_b w_b · CE(state_b, target_b)`.

The logits B×N are the only catalogue-sized thing, and they live in one buffer that is used again every step; fresh
buffers of that size would cost more than the arithmetic. Three ways, which agree:

- `plain_weighted_cross_entropy` is the reference, PyTorch's own;
- `float_weighted_cross_entropy` overwrites the logits with softmax and gradient, on any device, in their precision;
- `mixed_weighted_cross_entropy` multiplies in bfloat16, sums in float32, and never stores a logit: what it keeps is
  e^(logit − logit of the target) in bfloat16, B×N or, where that is large, some rows of it at a time.
"""

from __future__ import annotations

import threading
from typing import Final

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from valuerec.ops import native


class _Buffers(threading.local):
    """Each thread's own: two that train in one process must not write into one buffer."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}


_buffers: Final = _Buffers()
WEIGHTS_AT_ONCE: Final = 1 << 26  # numbers of the one B×N buffer: 128 MiB in bfloat16, 256 MiB in float32
_LARGEST_TOTAL: Final = 1e25  # beyond it a row's share of 1 / total is lost in bfloat16


def plain_weighted_cross_entropy(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, target_B: Tensor, importance_B: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference: PyTorch's own. See `float_weighted_cross_entropy`."""
    loss_B = functional.cross_entropy(functional.linear(state_BD, weight_ND, bias_N), target_B, reduction="none")
    return (importance_B * loss_B).mean(), loss_B.detach()


def float_weighted_cross_entropy(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, target_B: Tensor, importance_B: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted mean cross-entropy of a linear item head, differentiable in state, weight and bias.

    Args:
        state_BD: states.
        weight_ND: the item head's weights.
        bias_N: its biases.
        target_B: the logged items (int64).
        importance_B: the weight of each row; a constant, no gradient reaches it.

    Returns:
        The scalar loss, and the unweighted loss_B without gradient.
    """
    return _InForward.apply(_float_gradients, state_BD, weight_ND, bias_N, target_B, importance_B)  # type: ignore[no-any-return,no-untyped-call]


def mixed_weighted_cross_entropy(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, target_B: Tensor, importance_B: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with bfloat16 products and float32 sums, by the compiled kernels; see `float_weighted_cross_entropy`.

    It is the cross-entropy of states and weights rounded to bfloat16 (relative error 2^-8), biases as they are.
    """
    return _InForward.apply(_mixed_gradients, state_BD, weight_ND, bias_N, target_B, importance_B)  # type: ignore[no-any-return,no-untyped-call]


class _InForward(torch.autograd.Function):
    """Computes the gradients in the forward pass, so that the buffers are free again when it returns."""

    @staticmethod
    def forward(ctx: FunctionCtx, gradients: object, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        loss_B, *by_input = gradients(*inputs)  # type: ignore[operator]
        ctx.save_for_backward(*by_input)
        ctx.mark_non_differentiable(loss_B)
        return (inputs[4] * loss_B).mean(), loss_B

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_input = ctx.saved_tensors  # type: ignore[attr-defined]
        by_loss = gradient[0]
        if by_loss.device.type == "cuda" or float(by_loss) != 1.0:  # a pass over N×D that the usual case can spare
            by_input = tuple(tensor * by_loss for tensor in by_input)
        return None, *by_input, None, None


def _float_gradients(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, target_B: Tensor, importance_B: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, n_items = len(state_BD), len(weight_ND)
    loss_B, by_state_BD = state_BD.new_empty(batch), torch.empty_like(state_BD)
    by_weight_ND, by_bias_N = torch.zeros_like(weight_ND), torch.zeros_like(bias_N)
    rows = max(1, WEIGHTS_AT_ONCE // n_items)
    for start in range(0, batch, rows):
        part = slice(start, min(start + rows, batch))
        count = part.stop - start
        logits_BN = _buffer("float", state_BD, count * n_items).view(count, n_items)
        torch.addmm(bias_N, state_BD[part], weight_ND.t(), out=logits_BN)
        chosen_B1 = target_B[part].unsqueeze(1)
        chosen_logit_B = logits_BN.gather(1, chosen_B1).squeeze(1)
        highest_B1 = logits_BN.amax(dim=1, keepdim=True)
        weights_BN = logits_BN.sub_(highest_B1).exp_()
        total_B1 = weights_BN.sum(dim=1, keepdim=True)
        loss_B[part] = total_B1.log().add_(highest_B1).squeeze(1) - chosen_logit_B
        scale_B1 = importance_B[part].unsqueeze(1) / batch
        gradient_BN = weights_BN.mul_(scale_B1 / total_B1)  # d loss / d logits: w (softmax − 1[a = target]) / B
        gradient_BN.scatter_add_(1, chosen_B1, -scale_B1)
        by_state_BD[part] = gradient_BN @ weight_ND
        by_weight_ND.addmm_(gradient_BN.t(), state_BD[part])
        by_bias_N.add_(gradient_BN.sum(dim=0))
    return loss_B, by_state_BD, by_weight_ND, by_bias_N


def _mixed_gradients(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, target_B: Tensor, importance_B: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if {tensor.dtype for tensor in (state_BD, weight_ND, bias_N, importance_B)} != {torch.float32}:
        return _float_gradients(state_BD, weight_ND, bias_N, target_B, importance_B)
    batch, width = state_BD.shape
    n_items = len(weight_ND)
    pairs = (width + 1) // 2
    state_BD, weight_ND, bias_N = state_BD.contiguous(), weight_ND.contiguous(), bias_N.contiguous()
    # e^(logit − logit of the target): no maximum is needed, as each row's sum holds e^0.
    low_BD = weight_ND[target_B].bfloat16().float()
    offset_B = (low_BD * state_BD.bfloat16().float()).sum(dim=1) + bias_N[target_B]
    loss_B, state_gradient_BD = torch.empty(batch), torch.empty(batch, width)
    gradient_ND, gradient_N = torch.empty(n_items, width), torch.empty(n_items)
    rows = max(64, WEIGHTS_AT_ONCE // n_items // 64 * 64)
    for start in range(0, batch, rows):
        part = slice(start, min(start + rows, batch))
        count = part.stop - start
        stride = -(-count // 64) * 64
        weight_NB = _buffer("weights", low_BD.bfloat16(), n_items * stride).view(n_items, stride)
        packed = torch.empty(max(stride * pairs * 2, (-(-width // 64) * 64 + 1) * stride), dtype=torch.bfloat16)
        total_B, by_state_BD = torch.empty(count, dtype=torch.float64), torch.empty(count, width)
        native.call(
            "valuerec_softmax_weights", n_items, count, width, weight_ND, bias_N, state_BD[part], offset_B[part],
            packed, weight_NB, stride, total_B, by_state_BD,
        )  # fmt: skip
        if not bool((total_B < _LARGEST_TOTAL).all()):  # a hopeless target, or NaN
            return _float_gradients(state_BD, weight_ND, bias_N, target_B, importance_B)
        loss_B[part] = total_B.log()
        place = target_B[part], torch.arange(count)
        own_B = weight_NB[place].double()
        weight_NB[place] = (own_B - total_B).bfloat16()  # times 1 / total: softmax − 1[a = target]
        change_B = (weight_NB[place].double() - own_B).float()
        by_state_BD += change_B.unsqueeze(1) * low_BD[part]
        scale_B = (importance_B[part] / batch / total_B).float()
        native.call(
            "valuerec_item_gradient", n_items, count, width, weight_NB, stride, scale_B, state_BD[part], packed,
            gradient_ND, gradient_N, int(start > 0),
        )  # fmt: skip
        state_gradient_BD[part] = by_state_BD * scale_B.unsqueeze(1)
    return loss_B, state_gradient_BD, gradient_ND, gradient_N


def _buffer(use: str, like: Tensor, size: int) -> Tensor:
    key = (use, like.device, like.dtype)
    kept = _buffers.kept
    if key not in kept or kept[key].numel() < size:
        with torch.inference_mode(False):  # or training could not write to it later
            kept[key] = torch.empty(size, dtype=like.dtype, device=like.device)
    return kept[key][:size]
