"""Everything that a training run depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from valuerec.backbones import Backbone, SASRec
from valuerec.dataset import LONGEST_WINDOW, Rewards
from valuerec.errors import UsageError
from valuerec.methods import VPQ, Method
from valuerec.ops import ENGINES

PROTOCOLS: Final = ("ours", "released")
TRANSFORMS: Final = ("none", "linear")
MAY_CHANGE: Final = (  # while a run is resumed
    *("epochs", "max_steps", "patience", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "log_every"),
    "device",
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run, whole.

    Args:
        backbone: makes the encoder.
        method: how weights are learned.
        protocol: "ours", one network and a frozen copy of it as target, or "released", two networks of which a coin
            says each step which one learns and which one is the target (`valuerec.training.learners`). The same for a
            method without a critic.
        rewards: of each kind of event (paper: click 0.2, purchase 1.0).
        reward_transform: "none", or "linear": learn from rewards shifted so that the least is 0, which for a negative
            one makes longer sessions look better (`Rewards.shifted`).
        window: L, past items in a state (paper: 10).
        batch_size: B (released code: 256).
        learning_rate: of Adam (released code: 0.005).
        epochs: passes over the training split, at most.
        max_steps: steps, at most; None for no limit beside epochs.
        validate_every: steps between two validations; None for each epoch.
        patience: validations in a row without a better score after which training stops.
        checkpoint_every: steps between two checkpoints; None for none by steps.
        checkpoint_minutes: minutes between two checkpoints, or more where writing them would take more than a fiftieth
            of the time; 0 for none by time. With neither there are none at all, and the run can't be resumed.
        keep_checkpoints: how many of the newest are kept.
        log_every: steps between two lines of metrics.jsonl.
        seed: of weights, batch order, dropout and mixtures.
        device: auto, cpu or cuda.
        engine: how the catalogue-sized work is done: auto, native, tiled or plain (`valuerec.ops.Engine`).
    """

    backbone: Backbone = field(default_factory=SASRec)
    method: Method = field(default_factory=VPQ)
    protocol: str = "ours"
    rewards: Rewards = field(default_factory=Rewards)
    reward_transform: str = "none"
    window: int = 10
    batch_size: int = 256
    learning_rate: float = 0.005
    epochs: int = 20
    max_steps: int | None = None
    validate_every: int | None = None
    patience: int = 3
    checkpoint_every: int | None = None
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2
    log_every: int = 50
    seed: int = 0
    device: str = "auto"
    engine: str = "auto"

    def __post_init__(self) -> None:
        self._check("method", isinstance(self.method, Method), "a method's configuration, such as VPQ()")
        for name in ("window", "batch_size", "epochs", "patience", "keep_checkpoints", "log_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("max_steps", "validate_every", "checkpoint_every"):
            value = getattr(self, name)
            self._check(name, value is None or value >= 1, "at least 1")
        minutes = self.checkpoint_minutes
        self._check("checkpoint_minutes", math.isfinite(minutes) and minutes >= 0, "at least 0")
        self._check("window", self.window <= LONGEST_WINDOW, f"at most {LONGEST_WINDOW}")
        self._check("learning_rate", math.isfinite(self.learning_rate) and self.learning_rate > 0, "above 0")
        self._check("seed", 0 <= self.seed < 1 << 63, "in [0, 2^63)")
        self._check("device", self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")
        self._check("protocol", self.protocol in PROTOCOLS, " or ".join(PROTOCOLS))
        self._check("reward_transform", self.reward_transform in TRANSFORMS, " or ".join(TRANSFORMS))
        if self.method.needs_rewards_from_zero and self.learned_rewards.least < 0:
            raise UsageError(
                f"A reward is {self.rewards.least}, and {self.method.name} raises negative values instead of lowering "
                "them; shift the rewards with --reward-transform linear, or choose another method, such as minus."
            )
        self._check("engine", self.engine in ("auto", *ENGINES), f"auto, {', '.join(ENGINES)}")

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether any are written, but for the one of an interruption."""
        return bool(self.checkpoint_every or self.checkpoint_minutes)

    @property
    def learned_rewards(self) -> Rewards:
        """What the method learns from."""
        return self.rewards.shifted() if self.reward_transform == "linear" else self.rewards

    def _check(self, name: str, allowed: bool, what: str) -> None:
        if not allowed:
            raise UsageError(f"The training option {name} is {getattr(self, name)!r}; it must be {what}.")
