"""The classic recommender: cross-entropy of the logged item, no critic (the paper's plain rows)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from valuerec.methods.base import Batch, Losses, Method
from valuerec.network import Network, Target


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """Cross-entropy over the whole catalogue."""

    name = "supervised"
    source = "the plain rows of Table 1; Kang & McAuley, ICDM 2018, with a full softmax"

    def losses(self, network: Network, target: Target | None, batch: Batch) -> Losses:
        """CE(s,a), a mean over the batch."""
        state_BD = network.state(batch.state_BL, batch.length_B)
        everyone_B = torch.ones(len(state_BD), dtype=state_BD.dtype, device=state_BD.device)
        loss, _ = network.cross_entropy(state_BD, batch.action_B, everyone_B)
        return Losses(loss, {"loss": loss.detach(), "cross_entropy": loss.detach()})
