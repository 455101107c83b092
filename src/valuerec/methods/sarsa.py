"""Control: the critic of the logged behaviour (SARSA) where VPQ has a maximum.

    y = r + γ Σ_k α_k Q_T,k(s',a'),     a' the item that was logged at s'
    L = ½ ( y − Σ_k α_k Q_k(s,a) )² + CE(s,a) · stop_gradient(Q(s,a))

Everything else as in `vpq` and `rem`. It tells what the maximum over the catalogue adds, and with it the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from valuerec import ops
from valuerec.methods.base import Batch, MixtureMethod
from valuerec.target import View


@dataclass(frozen=True, kw_only=True)
class SARSA(MixtureMethod):
    """Cross-entropy weighted by the value of going on as people did."""

    name = "sarsa"
    source = "Rummery & Niranjan, On-Line Q-Learning Using Connectionist Systems, 1994"
    control = True

    def next_value(self, view: View, batch: Batch, live_R: Tensor, mixture_K: Tensor) -> ops.Best:
        """The target's value of the logged next item."""
        action_R = batch.next_action_B[live_R]
        return ops.Best(view.of(action_R) @ mixture_K, action_R, 0.0, 0)
