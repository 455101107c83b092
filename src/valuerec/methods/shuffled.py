"""Control: VPQ, but each row's cross-entropy is weighed by another row's value.

    L_φ = CE(s,a) · stop_gradient(Q(s,a) of a row drawn without return from the batch)

The weights have VPQ's distribution and say nothing of the row they stand at. It tells what is due to weights that vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from valuerec.methods.vpq import VPQ


@dataclass(frozen=True, kw_only=True)
class Shuffled(VPQ):
    """VPQ with the values that weigh the cross-entropy shuffled within the batch."""

    name = "shuffled"
    source = "no paper of its own"
    control = True

    def importance(self, value_B: Tensor, q_BK: Tensor) -> Tensor:
        """VPQ's weights, permuted."""
        return super().importance(value_B, q_BK)[torch.randperm(len(value_B), device=value_B.device)]
