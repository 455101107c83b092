"""Cross-entropy over the whole catalogue, weighted per row: `mean_b w_b · CE(state_b, target_b)`.

The logits B×N are the only catalogue-sized thing, and they live in one buffer that is used again every step:
softmax and gradient overwrite them in place. Fresh buffers of that size would cost more than the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

_buffers: dict[tuple[torch.device, torch.dtype], Tensor] = {}


def plain_weighted_cross_entropy(
    state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor, target_B: Tensor, importance_B: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference: PyTorch's own. See `weighted_cross_entropy`."""
    loss_B = functional.cross_entropy(functional.linear(state_BD, weight_ND, bias_N), target_B, reduction="none")
    return (importance_B * loss_B).mean(), loss_B.detach()


def weighted_cross_entropy(
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
    loss, loss_B = _WeightedCrossEntropy.apply(state_BD, weight_ND, bias_N, target_B, importance_B)  # type: ignore[no-untyped-call]
    return loss, loss_B


class _WeightedCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass, so that the logits' buffer is free again when it returns."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        state_BD: Tensor,
        weight_ND: Tensor,
        bias_N: Tensor,
        target_B: Tensor,
        importance_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch = len(state_BD)
        logits_BN = _buffer(state_BD, batch * len(weight_ND)).view(batch, len(weight_ND))
        torch.addmm(bias_N, state_BD, weight_ND.t(), out=logits_BN)
        chosen_B1 = target_B.unsqueeze(1)
        chosen_logit_B = logits_BN.gather(1, chosen_B1).squeeze(1)
        highest_B1 = logits_BN.amax(dim=1, keepdim=True)
        weights_BN = logits_BN.sub_(highest_B1).exp_()
        total_B1 = weights_BN.sum(dim=1, keepdim=True)
        loss_B = total_B1.log().add_(highest_B1).squeeze(1) - chosen_logit_B
        scale_B1 = importance_B.unsqueeze(1) / batch
        gradient_BN = weights_BN.mul_(scale_B1 / total_B1)  # d loss / d logits: w (softmax − 1[a = target]) / B
        gradient_BN.scatter_add_(1, chosen_B1, -scale_B1)
        ctx.save_for_backward(gradient_BN @ weight_ND, gradient_BN.t() @ state_BD, gradient_BN.sum(dim=0))
        ctx.mark_non_differentiable(loss_B)
        return (importance_B * loss_B).mean(), loss_B

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        state_BD, weight_ND, bias_N = ctx.saved_tensors  # type: ignore[attr-defined]
        by_loss = gradient[0]
        return state_BD * by_loss, weight_ND * by_loss, bias_N * by_loss, None, None


def _buffer(like: Tensor, size: int) -> Tensor:
    key = (like.device, like.dtype)
    if key not in _buffers or _buffers[key].numel() < size:
        _buffers[key] = like.new_empty(size)
    return _buffers[key][:size]
