"""Dropout whose mask is drawn sixteen bits a number: PyTorch's takes as long as the rest of a small encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEPS = 1 << 16
_LEAST = torch.iinfo(torch.int64).min


class Dropout(nn.Module):
    """`torch.nn.Dropout` on any device; on the CPU four numbers are decided by one draw of the generator.

    The rate is kept to 2^-16, and what is left is scaled by the exact share that is left.

    Args:
        rate: of numbers set to zero, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self._dropped = min(round(rate * _STEPS), _STEPS - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Zero some numbers and scale the others, so that the mean stays; the identity in evaluation mode."""
        if not self.training or self._dropped == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.rate)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(_LEAST, None)
        kept = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= self._dropped - _STEPS // 2
        return x * kept.to(x.dtype).mul_(_STEPS / (_STEPS - self._dropped))
