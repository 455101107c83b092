"""What every method shares: the batch it sees, the losses it gives, and the critic framework.

A method with a critic makes three small choices (docs/architecture.md):

1. how the target scores every item at s'   → `target_score`
2. what weighs the cross-entropy            → `importance`
3. what is added to the temporal difference → `regulariser`

Four more doors, each for few methods: `next_value` (SARSA has no maximum, SAC chooses and judges by two networks),
`confidence` (UWAC weighs the temporal difference), `goal` (the control `immediate` has no s') and `row_sparse` (CQL's
regulariser sees the catalogue). No method knows the backbone, and no backbone knows a method; nor does a method know
the protocol, which decides what its target is (`valuerec.target`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from valuerec import ops
from valuerec.backbones import Backbone
from valuerec.dataset import Rewards, Transitions
from valuerec.errors import UsageError
from valuerec.heads import ENSEMBLES
from valuerec.network import RECOMMEND, Network, Recommend
from valuerec.target import AnyTarget, View

USES: Final = ("off", "auxiliary", "reinforce")


class Batch(NamedTuple):
    """Transitions as tensors on the training device; see `valuerec.dataset.Transitions`.

    The last two are for the methods that look at them, and empty where nobody filled them.
    """

    state_BL: Tensor
    length_B: Tensor
    action_B: Tensor
    reward_B: Tensor
    next_state_BL: Tensor
    next_length_B: Tensor
    done_B: Tensor
    next_action_B: Tensor = torch.empty(0, dtype=torch.int64)
    return_B: Tensor = torch.empty(0)

    @classmethod
    def of(cls, rows: Transitions, device: torch.device) -> Batch:
        """Transitions, moved to a device."""
        return cls(**{name: torch.from_numpy(getattr(rows, name)).to(device) for name in cls._fields})


class Losses(NamedTuple):
    """What a step comes to.

    `total` is the scalar to descend, `parts` figures to log (scalars without gradient), `q_BK` the critic's values of
    the logged actions without gradient, None without a critic.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    q_BK: Tensor | None = None


class Bounds(NamedTuple):
    """The least and the largest that any true Q can be."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """How the weights are learned from transitions. Frozen; wrong values fail when it is made.

    `control` marks what is no method of the paper's but tells where a gain of one comes from.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    control: ClassVar[bool] = False

    @property
    def n_heads(self) -> int:
        """K, how many Q-heads the method needs; 0 without a critic."""
        return 0

    @property
    def recommends_by(self) -> Recommend:
        """What orders the catalogue, in validation and in use."""
        return "items"

    @property
    def return_discount(self) -> float | None:
        """γ of the logged returns (`Batch.return_B`), None for a method that does not look at them."""
        return None

    def network(self, backbone: Backbone, n_items: int, window: int, engine: ops.Engine = "tiled") -> Network:
        """A fresh network with the heads that the method needs."""
        return Network(backbone, n_items, window, self.n_heads, engine=engine)

    @property
    def needs_rewards_from_zero(self) -> bool:
        """Whether the method can't learn from a negative reward; most take any."""
        return False

    def bounds(self, rewards: Rewards) -> Bounds | None:
        """What every true Q lies between, None without a critic."""
        return None

    @abstractmethod
    def losses(self, network: Network, target: AnyTarget | None, batch: Batch, step: int = 0) -> Losses:
        """The loss of one batch.

        Args:
            network: what is trained.
            target: what the critic learns from, None for a method without one.
            batch: B transitions.
            step: steps done before this one.
        """


class Goal(NamedTuple):
    """What the critic regresses on.

    y_B; the weight of each row's squared difference, None for 1; and what the search for the maximum cost (`ops.Best`).
    """

    y_B: Tensor
    confidence_B: Tensor | None
    scored: float
    given_up: int


@dataclass(frozen=True, kw_only=True)
class CriticMethod(Method):
    """The critic framework (paper, Algorithm 1 and equation 9), open at the three choices above.

    Args:
        heads: K, Q-heads of the ensemble (released code: 15).
        discount: γ of the return (released code: 0.5).
        target_every: under the protocol `ours`, steps between two copies of the network into the target. The paper
            says "frozen parameters" and no more; the released code swaps two networks by a coin.
        ensemble: "full" heads, one N·K × D matrix as in the paper's code, or "factored" ones, for catalogues whose
            full heads do not fit (`valuerec.heads`).
        floor: the least weight of a row's cross-entropy that the critic weighs; a negative one would push a logged item
            away. None leaves equation 9 bare, as the released code does.
        critic: what the critic does for the recommender (paper, Figure 2): "reinforce" weighs the cross-entropy by it
            (Q-critic), "auxiliary" adds its loss alone (Q-aux), "off" leaves it out (CE).
        warm_up: steps of unweighted cross-entropy before the critic, which learns meanwhile, weighs it.
        recommend: what orders the catalogue: the item head ("items"), or the mean of the Q-heads ("values", Figure 2's
            Q-only). Validation selects by it too.
    """

    heads: int = 15
    discount: float = 0.5
    target_every: int = 100
    ensemble: str = "full"
    floor: float | None = 0.0
    critic: str = "reinforce"
    warm_up: int = 0
    recommend: Recommend = "items"

    def __post_init__(self) -> None:
        check(self, "heads", self.heads >= 1, "at least 1")
        check(self, "discount", 0 <= self.discount < 1, "in [0, 1)")
        check(self, "target_every", self.target_every >= 1, "at least 1")
        check(self, "ensemble", self.ensemble in ENSEMBLES, " or ".join(ENSEMBLES))
        check_floor(self, self.floor)
        check(self, "critic", self.critic in USES, ", ".join(USES))
        check(self, "warm_up", self.warm_up >= 0, "at least 0")
        check(self, "recommend", self.recommend in RECOMMEND, " or ".join(RECOMMEND))
        if self.critic == "off" and self.recommend == "values":
            raise UsageError(f"{type(self).__name__} has no values to recommend by with its critic off.")

    @property
    def n_heads(self) -> int:
        """K, or 0 with the critic off."""
        return 0 if self.critic == "off" else self.heads

    @property
    def recommends_by(self) -> Recommend:
        """As configured."""
        return self.recommend

    @property
    def row_sparse(self) -> bool:
        """Whether a step touches the logged items' Q-heads alone; not so where the regulariser sees the catalogue."""
        return True

    def network(self, backbone: Backbone, n_items: int, window: int, engine: ops.Engine = "tiled") -> Network:
        """A fresh network with K Q-heads of the form `ensemble`."""
        return Network(backbone, n_items, window, self.n_heads, self.ensemble, engine, self.row_sparse)

    def bounds(self, rewards: Rewards) -> Bounds | None:
        """Where sums of discounted rewards in [r_min, r_max] lie, however soon or late the session ends."""
        if not self.n_heads:
            return None
        return Bounds(*(reward / (1 - self.discount) for reward in (min(0.0, rewards.least), max(0.0, rewards.most))))

    def mixture(self, like: Tensor) -> Tensor:
        """α_K ~ U(0,1)^K, normalised: the random ensemble mixture, one draw a batch (REM; released code)."""
        if self.heads == 1:
            return like.new_ones(1)
        draw_K = torch.rand(self.heads, dtype=like.dtype, device=like.device)
        return draw_K / draw_K.sum()

    @abstractmethod
    def target_score(self, mixture: Tensor, spread: Tensor) -> Tensor:
        """Choice 1: what the target maximises over items, of `mixture` Σ α_k Q_k and `spread` SD_k Q_k at s'."""

    @property
    def prunable(self) -> ops.Penalty | None:
        """`target_score` in a form that the fast search can prune, where it has one; else all items are scored."""
        return None

    def importance(self, value_B: Tensor, q_BK: Tensor) -> Tensor:
        """Choice 2: the weight of each row's cross-entropy, of Q(s,a) and its heads without gradient (equation 9)."""
        return value_B

    def regulariser(self, network: Network, state_BD: Tensor, batch: Batch, mixture_K: Tensor) -> Tensor | None:
        """Choice 3: a scalar added to the critic's loss; nothing by default."""
        return None

    def next_value(self, view: View, batch: Batch, live_R: Tensor, mixture_K: Tensor) -> ops.Best:
        """What s' is worth in the rows that have one, and by which item: by the maximum over the catalogue."""
        return view.best(mixture_K, self.target_score, self.prunable)

    def confidence(self, view: View | None, item_R: Tensor, live_R: Tensor, batch: Batch) -> Tensor | None:
        """The weight of each row's squared difference, of the items that `next_value` chose; None for 1.

        `view` is None where no row has an s'.
        """
        return None

    @torch.no_grad()
    def goal(self, network: Network, target: AnyTarget, batch: Batch, mixture_K: Tensor) -> Goal:
        """Y = r + γ · `next_value`, and y = r on a session's last event."""
        y_B = batch.reward_B.clone()
        live_R = (~batch.done_B).nonzero().flatten()  # a session's last event has no s' to search at
        if not len(live_R):
            return Goal(y_B, self.confidence(None, live_R, live_R, batch), 0.0, 0)
        view = target.look(network, batch.next_state_BL[live_R], batch.next_length_B[live_R])
        best = self.next_value(view, batch, live_R, mixture_K)
        y_B[live_R] += self.discount * best.value_B
        return Goal(y_B, self.confidence(view, best.item_B, live_R, batch), best.scored, best.given_up)

    def losses(self, network: Network, target: AnyTarget | None, batch: Batch, step: int = 0) -> Losses:
        """½ (y − Σ α_k Q_k(s,a))² + regulariser + importance · CE(s,a), each a mean over the batch."""
        if self.critic == "off":
            return plain_losses(network, batch)
        assert target is not None and network.q_head is not None
        state_BD = network.state(batch.state_BL, batch.length_B)
        mixture_K = self.mixture(state_BD)
        goal = self.goal(network, target, batch, mixture_K)
        q_BK = network.q_head.of(state_BD, batch.action_B)
        value_B = q_BK @ mixture_K
        squared_B = 0.5 * (goal.y_B - value_B).square()
        temporal_difference = (squared_B if goal.confidence_B is None else goal.confidence_B * squared_B).mean()
        extra = self.regulariser(network, state_BD, batch, mixture_K)
        q_BK, value_B = q_BK.detach(), value_B.detach()
        if self.critic == "auxiliary" or step < self.warm_up:
            weight_B = floored_B = torch.ones_like(value_B)
        else:
            weight_B = self.importance(value_B, q_BK)
            floored_B = weight_B if self.floor is None else weight_B.clamp(min=self.floor)
        actor, cross_entropy_B = network.cross_entropy(state_BD, batch.action_B, floored_B)
        total = temporal_difference + actor if extra is None else temporal_difference + extra + actor
        parts = {
            "loss": total.detach(),
            "cross_entropy": cross_entropy_B.mean(),
            "td": temporal_difference.detach(),
            "q": value_B.mean(),
            "target": goal.y_B.mean(),
            "floored": (floored_B > weight_B).float().mean(),
            "scored": torch.tensor(goal.scored),
            "fallback_rows": torch.tensor(float(goal.given_up)),
        }
        if extra is not None:
            parts["regulariser"] = extra.detach()
        if goal.confidence_B is not None:
            parts["confidence"] = goal.confidence_B.mean()
        return Losses(total, parts, q_BK)


@dataclass(frozen=True, kw_only=True)
class MixtureMethod(CriticMethod):
    """A critic whose target takes the random mixture of the heads as it is; with one head, that head."""

    def target_score(self, mixture: Tensor, spread: Tensor) -> Tensor:
        """Σ α_k Q_k, whatever the heads' spread."""
        return mixture

    @property
    def prunable(self) -> ops.Penalty:
        """The same: a penalty of weight 0."""
        return ops.Penalty("p-mul", 0.0)


def plain_losses(network: Network, batch: Batch) -> Losses:
    """CE(s,a), a mean over the batch."""
    state_BD = network.state(batch.state_BL, batch.length_B)
    everyone_B = torch.ones(len(state_BD), dtype=state_BD.dtype, device=state_BD.device)
    loss, _ = network.cross_entropy(state_BD, batch.action_B, everyone_B)
    return Losses(loss, {"loss": loss.detach(), "cross_entropy": loss.detach()})


def weighted_losses(network: Network, batch: Batch, weight_B: Tensor, floor: float | None) -> Losses:
    """Weight · CE(s,a), a mean over the batch; a weight is at least `floor`."""
    state_BD = network.state(batch.state_BL, batch.length_B)
    floored_B = weight_B if floor is None else weight_B.clamp(min=floor)
    loss, cross_entropy_B = network.cross_entropy(state_BD, batch.action_B, floored_B)
    parts = {
        "loss": loss.detach(),
        "cross_entropy": cross_entropy_B.mean(),
        "weight": weight_B.mean(),
        "floored": (floored_B > weight_B).float().mean(),
    }
    return Losses(loss, parts)


def check(config: object, field: str, allowed: bool, what: str) -> None:
    """Refuse a field's value in a sentence; NaN passes no comparison and so is refused too."""
    if not allowed:
        value = getattr(config, field)
        raise UsageError(f"{type(config).__name__}'s {field} is {value}; it must be {what}.")


def check_floor(config: object, floor: float | None) -> None:
    """Refuse a floor that is negative or NaN."""
    check(config, "floor", floor is None or floor >= 0, "None or at least 0")


def check_penalty(config: object, field: str) -> None:
    """Refuse a penalty scale that is negative or not finite."""
    value = getattr(config, field)
    check(config, field, math.isfinite(value) and value >= 0, "a number of at least 0")


def check_ensemble(config: CriticMethod) -> None:
    """Refuse a critic of one head to a method that looks at how far the heads differ."""
    check(config, "heads", config.n_heads != 1, "at least 2, as one head can't disagree with itself (rem takes one)")


def check_positive(config: object, field: str) -> None:
    """Refuse a number that is not above 0, or not finite."""
    value = getattr(config, field)
    check(config, field, math.isfinite(value) and value > 0, "a number above 0")
