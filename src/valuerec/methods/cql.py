"""CQL(H), conservative Q-learning (Kumar et al., NeurIPS 2020), in the critic framework of equation 9.

    L = ½ ( y − Q(s,a) )² + w · ( log Σ_a' exp Q(s,a') − Q(s,a) ) + CE(s,a) · stop_gradient(Q(s,a))
    y = r + γ max_a Q_T(s',a)

The conservative term is the cross-entropy of the logged item with Q as logits, over the whole catalogue, and so it is
computed: with K heads of the mixed head Σ α_k Q_k, which is a linear head too. Its gradient reaches all items, so the
heads are stepped by dense Adam. With the engine `native` it is that of values rounded to bfloat16 (2^-8 of a value).
Deviations: the frozen target as in `vpq`; no Lagrange multiplier; the weight of equation 9 has a floor at zero
(`floor`). The paper's code has K = 15 heads (`heads`), and in some scripts scales Q or the logarithm: not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from valuerec import ops
from valuerec.methods.base import Batch, MixtureMethod, check_penalty
from valuerec.network import Network


@dataclass(frozen=True, kw_only=True)
class CQL(MixtureMethod):
    """Conservative Q-learning, CQL(H): values of items that were not logged are pressed down.

    Args:
        weight: w of the conservative term (released code: 0.1).
    """

    heads: int = 1
    weight: float = 0.1

    name = "cql"
    source = "Kumar, Zhou, Tucker & Levine, Conservative Q-Learning for Offline Reinforcement Learning, NeurIPS 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_penalty(self, "weight")

    @property
    def row_sparse(self) -> bool:
        """No: the conservative term reaches every item's heads."""
        return False

    def regulariser(self, network: Network, state_BD: Tensor, batch: Batch, mixture_K: Tensor) -> Tensor:
        """W · ( logsumexp_a' Q(s,a') − Q(s,a) ), a mean over the batch."""
        assert network.q_head is not None
        weight_ND, bias_N = network.q_head.mixed(mixture_K)
        everyone_B = torch.ones(len(state_BD), dtype=state_BD.dtype, device=state_BD.device)
        gap, _ = ops.CROSS_ENTROPY[network.engine](state_BD, weight_ND, bias_N, batch.action_B, everyone_B)
        return self.weight * gap
