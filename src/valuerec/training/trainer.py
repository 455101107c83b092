"""The training loop: steps, validations, checkpoints, and when to stop."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from valuerec.dataset import Dataset, Split
from valuerec.errors import ValuerecError
from valuerec.evaluation import Metrics, metrics_of, ranks, selection_score
from valuerec.methods import Batch, Losses
from valuerec.network import Network
from valuerec.ops import native
from valuerec.tensors import under
from valuerec.training import checkpoint
from valuerec.training.config import TrainConfig
from valuerec.training.learners import learner_of
from valuerec.training.order import BatchOrder, step_seed
from valuerec.training.reporting import Reporter
from valuerec.training.run import Run

_BEYOND = 100  # times the certain bound, where the mean value can't come back from


class DivergedError(ValuerecError):
    """Training went where no true value is; the best weights so far are whole."""


class Trainer:
    """Trains one network into one RUN folder.

    Everything random in a step depends on (seed, step) alone, and everything else is in a checkpoint: a resumed run
    is the same run.

    Args:
        config: the run, whole.
        dataset: what to learn from.
        network: fresh, on the device to compute on; see `learners.fresh_network`.
        run: its folder.
        reporter: tells a person how it goes.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, network: Network, run: Run, reporter: Reporter) -> None:
        self.config, self.dataset, self.run, self.reporter = config, dataset, run, reporter
        self.device = network.item_head.weight_ND.device
        self.network = network
        if network.engine == "native":
            native.keep_freed_memory()
        self.learner = learner_of(config, network)
        self.rewards = config.learned_rewards
        self.bounds = config.method.bounds(self.rewards)
        self.order = BatchOrder(dataset.events_of("train"), config.batch_size, config.seed)
        limit = config.epochs * self.order.steps_per_epoch
        self.last_step = min(limit, config.max_steps or limit)
        self.validate_every = config.validate_every or self.order.steps_per_epoch
        self.step = 0
        self.best_score, self.best_step, self.worse = -math.inf, 0, 0
        self.outside: float | None = None  # of the latest log interval, and of the one before the best weights
        self.best_outside: float | None = None
        self.seconds = 0.0
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._stop = self._started = False

    @property
    def validated(self) -> bool:
        """Whether there are weights that a validation has chosen."""
        return self.best_score > -math.inf

    def start(self, weights: Callable[[Network], Mapping[str, Tensor]]) -> None:
        """Begin with other weights than fresh ones (`Learner.start`); they are validated before the first step."""
        self.learner.start(weights)
        self._started = True

    def fit(self) -> str:
        """Train until the end, until the score stops rising, or until interrupted; returns which."""
        started = time.perf_counter() - self.seconds
        self.learner.train()
        with self._interruptible(), self.reporter.training(self):
            if self._started:
                self._validate()
            while self.step < self.last_step and self.worse < self.config.patience and not self._stop:
                self._one_step()
                self.seconds = time.perf_counter() - started
                if self.step % self.config.log_every == 0:
                    self._log()
                if self.step % self.validate_every == 0 or self.step == self.last_step:
                    self._validate()
                if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
                    self.save_checkpoint()
        self.seconds = time.perf_counter() - started
        if self._stop:
            self.save_checkpoint()
            if not self.validated:
                self.run.save_weights(self.network, self.step)  # never validated: what there is counts
            return "interrupted"
        return "early stop" if self.worse >= self.config.patience else "finished"

    def _one_step(self) -> None:
        torch.manual_seed(step_seed(self.config.seed, self.step))
        batch = self._batch(self.step)
        losses = self.learner.learn(self.step, batch)
        self.step += 1
        for name, value in (dict(losses.parts) | self._outside(losses)).items():
            self._sums[name] = value + self._sums.get(name, 0.0)
        self._summed += 1

    def _outside(self, losses: Losses) -> dict[str, Tensor]:
        """The share of the logged actions' Q-values that are certainly wrong, by more than rounding."""
        if self.bounds is None or losses.q_BK is None:
            return {}
        low, high = self.bounds
        slack = 1e-5 * (high - low)
        outside_BK = (losses.q_BK < low - slack) | (losses.q_BK > high + slack)
        return {"outside": outside_BK.float().mean()}

    def _batch(self, step: int) -> Batch:
        config = self.config
        rows = self.dataset.transitions(self.order(step), config.window, self.rewards, config.method.return_discount)
        return Batch.of(rows, self.device)

    def _log(self) -> dict[str, float]:
        means = {name: float(value) / self._summed for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        self._check_sane(means)
        self.outside = means.get("outside")
        line = {
            "step": self.step,
            "epoch": self.step / self.order.steps_per_epoch,
            "seconds": round(self.seconds, 3),
        }
        self.run.log(line | means)
        self.reporter.losses(means)
        return means

    def _check_sane(self, means: dict[str, float]) -> None:
        trouble = ""
        if not all(math.isfinite(value) for value in means.values()):
            trouble = "a loss is not a finite number"
        elif self.bounds is not None:
            furthest = max(-self.bounds.low, self.bounds.high) or 1.0
            if abs(means["q"]) > _BEYOND * furthest:
                trouble = f"the mean Q-value is {means['q']:.4g}, and no true one is beyond {furthest:.4g}"
        if trouble:
            rate = self.config.learning_rate
            raise DivergedError(
                f"Training diverged before step {self.step}: {trouble}; lower --learning-rate (now {rate}) and train "
                "again."
            )

    def _validate(self) -> None:
        if self._summed:
            self._log()
        metrics = self.evaluate("validation")
        score = selection_score(metrics)
        better = score > self.best_score
        if better:
            self.best_score, self.best_step, self.worse = score, self.step, 0
            self.best_outside = self.outside
            self.run.save_weights(self.network, self.step)
        else:
            self.worse += 1
        self.run.log({"step": self.step, "validation": metrics, "score": score, "best": better})
        self.reporter.validated(self, metrics, score, better)

    def evaluate(self, split: Split) -> Metrics:
        """The present weights' metrics on a split."""
        events = self.dataset.events_of(split)
        rank_E = ranks(self.network, self.dataset, split, self.device, by=self.config.method.recommends_by)
        return metrics_of(rank_E, self.dataset.event_E[events.start : events.stop])

    def end(self) -> None:
        """Let go of what only training needs, the optimiser's state and the target; evaluating still works."""
        del self.learner
        native.return_freed_memory()

    def save_checkpoint(self) -> Path:
        """Write all that `resume` needs."""
        tensors = self.learner.state() | {f"sums/{name}": value for name, value in self._sums.items()}
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "summed": self._summed,
            "best_score": self.best_score if self.validated else None,
            "best_step": self.best_step,
            "worse": self.worse,
            "outside": self.outside,
            "best_outside": self.best_outside,
        }
        return checkpoint.save(self.run.path, self.step, tensors, progress)

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole."""
        folder, tensors, progress, skipped = checkpoint.newest(self.run.path, self.device)
        self.learner.load(tensors)
        self._sums = under("sums/", tensors)
        self.step, self.seconds, self._summed = progress["step"], progress["seconds"], progress["summed"]
        self.best_step, self.worse = progress["best_step"], progress["worse"]
        self.outside, self.best_outside = progress["outside"], progress["best_outside"]
        self.best_score = -math.inf if progress["best_score"] is None else progress["best_score"]
        self.run.cut_log(self.step)
        self.reporter.resumed(folder, skipped)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends training after the present step; a second one ends the program."""

        def ask_to_stop(number: int, frame: FrameType | None) -> None:
            self._stop = True
            for each, handler in previous.items():
                signal.signal(each, handler)

        previous: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's
                    previous[number] = signal.signal(number, ask_to_stop)
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)
