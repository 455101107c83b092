"""Control: cross-entropy weighted by the logged return, without a critic.

    L = CE(s,a) · G,     G = r + γ r' + γ² r'' + … to the session's end

It tells what is due to the long-term value that one can read off the log, with nothing learned.
"""

from __future__ import annotations

from dataclasses import dataclass

from valuerec.methods.base import Batch, Losses, Method, check, check_floor, weighted_losses
from valuerec.network import Network
from valuerec.target import AnyTarget


@dataclass(frozen=True, kw_only=True)
class ReturnWeighted(Method):
    """Cross-entropy weighted by the discounted return that was logged.

    Args:
        discount: γ of the return.
        floor: the least weight of a row; None for any.
    """

    discount: float = 0.5
    floor: float | None = 0.0

    name = "return-weighted"
    source = "no paper of its own"
    control = True

    def __post_init__(self) -> None:
        check(self, "discount", 0 <= self.discount < 1, "in [0, 1)")
        check_floor(self, self.floor)

    @property
    def return_discount(self) -> float:
        """γ."""
        return self.discount

    def losses(self, network: Network, target: AnyTarget | None, batch: Batch, step: int = 0) -> Losses:
        """G · CE(s,a), a mean over the batch."""
        return weighted_losses(network, batch, batch.return_B, self.floor)
