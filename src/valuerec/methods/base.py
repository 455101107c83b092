"""What every method shares: the batch it sees, the losses it gives, and the critic framework.

A method with a critic makes three small choices (docs/architecture.md):

1. how the target scores every item at s'   → `target_score`
2. what weighs the cross-entropy            → `importance`
3. what is added to the temporal difference → `regulariser`

No method knows the backbone, and no backbone knows a method.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from valuerec import ops
from valuerec.backbones import Backbone
from valuerec.errors import UsageError
from valuerec.heads import ENSEMBLES
from valuerec.network import Network, Target


class Batch(NamedTuple):
    """Transitions as tensors on the training device; see `valuerec.dataset.Transitions`."""

    state_BL: Tensor
    length_B: Tensor
    action_B: Tensor
    reward_B: Tensor
    next_state_BL: Tensor
    next_length_B: Tensor
    done_B: Tensor


class Losses(NamedTuple):
    """The scalar to descend, and figures to log (scalars without gradient)."""

    total: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """How the weights are learned from transitions. Frozen; wrong values fail when it is made."""

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def n_heads(self) -> int:
        """K, how many Q-heads the method needs; 0 without a critic."""
        return 0

    def network(self, backbone: Backbone, n_items: int, window: int, engine: ops.Engine = "tiled") -> Network:
        """A fresh network with the heads that the method needs."""
        return Network(backbone, n_items, window, self.n_heads, engine=engine)

    @abstractmethod
    def losses(self, network: Network, target: Target | None, batch: Batch) -> Losses:
        """The loss of one batch. `target` is the frozen critic, None for a method without one."""


@dataclass(frozen=True, kw_only=True)
class CriticMethod(Method):
    """The critic framework (paper, Algorithm 1 and equation 9), open at the three choices above.

    Args:
        heads: K, Q-heads of the ensemble (released code: 15).
        discount: γ of the return (released code: 0.5).
        target_every: steps between two copies of the network into the target. The paper says "frozen parameters"
            and no more; the released code swaps two networks by a coin.
        ensemble: "full" heads, one N·K × D matrix as in the paper's code, or "factored" ones, for catalogues whose
            full heads do not fit (`valuerec.heads`).
        floor: the least weight of a row's cross-entropy; a negative one would push a logged item away.
            None leaves equation 9 bare.
    """

    heads: int = 15
    discount: float = 0.5
    target_every: int = 100
    ensemble: str = "full"
    floor: float | None = 0.0

    def __post_init__(self) -> None:
        _check(self, "heads", self.heads >= 1, "at least 1")
        _check(self, "discount", 0 <= self.discount < 1, "in [0, 1)")
        _check(self, "target_every", self.target_every >= 1, "at least 1")
        _check(self, "ensemble", self.ensemble in ENSEMBLES, " or ".join(ENSEMBLES))
        _check(self, "floor", self.floor is None or self.floor >= 0, "None or at least 0")

    @property
    def n_heads(self) -> int:
        """K."""
        return self.heads

    def network(self, backbone: Backbone, n_items: int, window: int, engine: ops.Engine = "tiled") -> Network:
        """A fresh network with K Q-heads of the form `ensemble`."""
        return Network(backbone, n_items, window, self.heads, self.ensemble, engine)

    def mixture(self, like: Tensor) -> Tensor:
        """α_K ~ U(0,1)^K, normalised: the random ensemble mixture, one draw a batch (REM; released code)."""
        draw_K = torch.rand(self.heads, dtype=like.dtype, device=like.device)
        return draw_K / draw_K.sum()

    @abstractmethod
    def target_score(self, mixture: Tensor, spread: Tensor) -> Tensor:
        """Choice 1: what the target maximises over items, of `mixture` Σ α_k Q_k and `spread` SD_k Q_k at s'."""

    @property
    def prunable(self) -> ops.Penalty | None:
        """`target_score` in a form that the fast search can prune, where it has one; else all items are scored."""
        return None

    def importance(self, value_B: Tensor) -> Tensor:
        """Choice 2: the weight of each row's cross-entropy, of Q(s,a) without gradient (equation 9)."""
        return value_B if self.floor is None else value_B.clamp(min=self.floor)

    def regulariser(self, network: Network, state_BD: Tensor, batch: Batch, value_B: Tensor) -> Tensor:
        """Choice 3: a scalar added to the critic's loss; nothing by default."""
        return value_B.new_zeros(())

    @torch.no_grad()
    def regression_target(self, target: Target, batch: Batch, mixture_K: Tensor) -> tuple[Tensor, ops.Best]:
        """Y = r + γ max_a target_score at s', and y = r on a session's last event; and how the maximum was found."""
        y_B = batch.reward_B.clone()
        live_R = (~batch.done_B).nonzero().flatten()  # a session's last event has no s' to search at
        if not len(live_R):
            return y_B, ops.Best(y_B[:0], batch.action_B[:0], 0.0, 0)
        next_state_RD = target.backbone(batch.next_state_BL[live_R], batch.next_length_B[live_R])
        best = target.best(next_state_RD, mixture_K, self.target_score, self.prunable)
        y_B[live_R] += self.discount * best.value_B
        return y_B, best

    def losses(self, network: Network, target: Target | None, batch: Batch) -> Losses:
        """½ (y − Σ α_k Q_k(s,a))² + regulariser + importance · CE(s,a), each a mean over the batch."""
        assert target is not None and network.q_head is not None
        state_BD = network.state(batch.state_BL, batch.length_B)
        mixture_K = self.mixture(state_BD)
        y_B, best = self.regression_target(target, batch, mixture_K)
        value_B = network.q_head.of(state_BD, batch.action_B) @ mixture_K
        temporal_difference = 0.5 * (y_B - value_B).square().mean()
        critic = temporal_difference + self.regulariser(network, state_BD, batch, value_B)
        importance_B = self.importance(value_B.detach())
        actor, cross_entropy_B = network.cross_entropy(state_BD, batch.action_B, importance_B)
        total = critic + actor
        known_B = value_B.detach()
        parts = {
            "loss": total.detach(),
            "cross_entropy": cross_entropy_B.mean(),
            "td": temporal_difference.detach(),
            "q": known_B.mean(),
            "target": y_B.mean(),
            "floored": (importance_B > known_B).float().mean(),
            "scored": torch.tensor(best.scored),
            "fallback_rows": torch.tensor(float(best.given_up)),
        }
        return Losses(total, parts)


def _check(config: object, field: str, allowed: bool, what: str) -> None:
    """Refuse a field's value in a sentence; NaN passes no comparison and so is refused too."""
    if not allowed:
        value = getattr(config, field)
        raise UsageError(f"{type(config).__name__}'s {field} is {value}; it must be {what}.")


def check_penalty(config: object, field: str) -> None:
    """Refuse a penalty scale that is negative or not finite."""
    value = getattr(config, field)
    _check(config, field, math.isfinite(value) and value >= 0, "a number of at least 0")
