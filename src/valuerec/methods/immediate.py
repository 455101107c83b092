"""Control: VPQ's critic without a future, a regression on the immediate reward.

    L = ½ ( r − Σ_k α_k Q_k(s,a) )² + CE(s,a) · stop_gradient(Q(s,a))

What VPQ is where its penalty is without end (paper, section 3.3), and nearly is where W is small. It tells what the
value of what comes later adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from valuerec.methods.base import Batch, Goal, MixtureMethod, check
from valuerec.network import Network
from valuerec.target import AnyTarget


@dataclass(frozen=True, kw_only=True)
class Immediate(MixtureMethod):
    """Cross-entropy weighted by the predicted immediate reward."""

    discount: float = 0.0

    name = "immediate"
    source = "Value Penalized Q-Learning for Recommender Systems, SIGIR 2022, the end of the sweep in section 3.3"
    control = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "discount", self.discount == 0, "0: its target is the reward alone")

    def goal(self, network: Network, target: AnyTarget, batch: Batch, mixture_K: Tensor) -> Goal:
        """The reward; nothing is searched for."""
        return Goal(batch.reward_B, None, 0.0, 0)
