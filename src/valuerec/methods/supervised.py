"""The classic recommender: cross-entropy of the logged item, no critic (the paper's plain rows)."""

from __future__ import annotations

from dataclasses import dataclass

from valuerec.methods.base import Batch, Losses, Method, plain_losses
from valuerec.network import Network
from valuerec.target import AnyTarget


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """Cross-entropy over the whole catalogue."""

    name = "supervised"
    source = "the plain rows of Table 1; Kang & McAuley, ICDM 2018, with a full softmax"

    def losses(self, network: Network, target: AnyTarget | None, batch: Batch, step: int = 0) -> Losses:
        """CE(s,a), a mean over the batch."""
        return plain_losses(network, batch)
