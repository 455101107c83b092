"""Control: cross-entropy weighted by the immediate reward, without a critic.

    L = CE(s,a) · r(s,a)

It tells what is due to purchases weighing more than clicks.
"""

from __future__ import annotations

from dataclasses import dataclass

from valuerec.methods.base import Batch, Losses, Method, check_floor, weighted_losses
from valuerec.network import Network
from valuerec.target import AnyTarget


@dataclass(frozen=True, kw_only=True)
class RewardWeighted(Method):
    """Cross-entropy weighted by the reward.

    Args:
        floor: the least weight of a row; None for any.
    """

    floor: float | None = 0.0

    name = "reward-weighted"
    source = "no paper of its own"
    control = True

    def __post_init__(self) -> None:
        check_floor(self, self.floor)

    def losses(self, network: Network, target: AnyTarget | None, batch: Batch, step: int = 0) -> Losses:
        """R · CE(s,a), a mean over the batch."""
        return weighted_losses(network, batch, batch.reward_B, self.floor)
