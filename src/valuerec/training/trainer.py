"""The training loop: steps, validations, checkpoints, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from valuerec.dataset import Dataset, Split
from valuerec.errors import ValuerecError
from valuerec.evaluation import Metrics, metrics_of, ranks, selection_score
from valuerec.interrupts import Asked
from valuerec.methods import Batch, Losses
from valuerec.network import Network
from valuerec.ops import native
from valuerec.tensors import under
from valuerec.training import checkpoint
from valuerec.training.config import TrainConfig
from valuerec.training.learners import learner_of
from valuerec.training.order import BatchOrder, step_seed
from valuerec.training.reporting import Reporter
from valuerec.training.run import LOG, Run

_WRITING = 50  # times the seconds that a checkpoint took: the least between two by time, so at most 2 % go into them
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
        self.step, self.validated = 0, 0  # steps done, and those at the latest validation
        self.best_score, self.best_step, self.worse = -math.inf, 0, 0
        self.outside: float | None = None  # of the latest log interval, and of the one before the best weights
        self.best_outside: float | None = None
        self.seconds = 0.0
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._stop, self._started = Asked(), False
        self._saved: int | None = None  # the step of the latest checkpoint, when it was written, how long it took
        self._saved_at, self._saving = 0.0, 0.0

    @property
    def has_best(self) -> bool:
        """Whether there are weights that a validation has chosen."""
        return self.best_score > -math.inf

    def start(self, weights: Callable[[Network], Mapping[str, Tensor]]) -> None:
        """Begin with other weights than fresh ones (`Learner.start`); they are validated before the first step."""
        self.learner.start(weights)
        self._started = True

    def fit(self) -> str:
        """Train until the end, until the score stops rising, or until interrupted; returns which.

        The last checkpoint is written before a validation that only the end of training brings, so that a run that is
        extended later is the longer run.
        """
        self._saved_at = time.perf_counter()
        started = self._saved_at - self.seconds
        self.learner.train()
        with self._stop.listening(), self.reporter.training(self):
            if self._started:
                self._validate()
                if self.config.keeps_checkpoints:
                    self.save_checkpoint()  # the weights begun with are nowhere else: fresh ones could be made again
            while self.step < self.last_step and self.worse < self.config.patience and not self._stop:
                self._one_step()
                self.seconds = time.perf_counter() - started
                if self.step % self.config.log_every == 0:
                    self._log()
                if self.step % self.validate_every == 0:
                    self._validate()
                if self._checkpoint_due():
                    self.save_checkpoint()
            if self.config.keeps_checkpoints and not self._stop:
                self.save_checkpoint()
            if self.validated < self.step and not self._stop:
                self._validate()
        self.seconds = time.perf_counter() - started
        if self._stop:
            self.save_checkpoint()
            if not self.has_best:
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
        self.validated = self.step
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

    def _checkpoint_due(self) -> bool:
        every, minutes = self.config.checkpoint_every, self.config.checkpoint_minutes
        if every and self.step % every == 0:
            return True
        return minutes > 0 and time.perf_counter() - self._saved_at >= max(60 * minutes, _WRITING * self._saving)

    def save_checkpoint(self) -> None:
        """Write all that `resume` needs, unless this step's is there."""
        if self._saved == self.step:
            return
        started = time.perf_counter()
        tensors = self.learner.state() | {f"sums/{name}": value for name, value in self._sums.items()}
        progress = checkpoint.Progress(
            seconds=self.seconds,
            summed=self._summed,
            best_score=self.best_score if self.has_best else None,
            best_step=self.best_step,
            worse=self.worse,
            validated=self.validated,
            outside=self.outside,
            best_outside=self.best_outside,
            sums=list(self._sums),
        )
        checkpoint.save(self.run, self.step, tensors, progress, self.config.keep_checkpoints)
        self._saved, self._saved_at = self.step, time.perf_counter()
        self._saving = self._saved_at - started

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole, or, where none was written yet, from the beginning.

        The RUN is put back to what it was then: its log, its best weights.

        Raises:
            ValuerecError: where all checkpoints are damaged, or there is none and something would be lost.
        """
        found = checkpoint.newest(self.run, self.device)
        if found is None:
            self._begin_again()
            return
        progress = found.progress
        try:
            self.learner.load(found.tensors)
        except (RuntimeError, KeyError) as error:
            first = " ".join(str(error).split())
            raise ValuerecError(
                f"{found.folder} does not hold the state of this run ({first}); resume with the valuerec that wrote it."
            ) from error
        sums = under("sums/", found.tensors)
        self._sums = {name: sums[name] for name in progress.sums if name in sums} | sums
        self.step, self._saved = found.step, found.step
        self.seconds, self._summed = progress.seconds, progress.summed
        self.best_step, self.worse, self.validated = progress.best_step, progress.worse, progress.validated
        self.outside, self.best_outside = progress.outside, progress.best_outside
        self.best_score = -math.inf if progress.best_score is None else progress.best_score
        checkpoint.tidy(self.run, found.skipped)
        if self.step <= self.last_step:
            self.run.resume_with(self.config)
        best = found.folder / checkpoint.BEST if progress.best_score is not None else None
        self.run.restore(found.step, found.folder / LOG, best, progress.best_step)
        self.reporter.resumed(found.folder, found.skipped)
        if self.step >= self.last_step:
            self.reporter.say(
                f"Note: {self.run.path} is at step {self.step}, and --epochs and --max-steps end it at step "
                f"{self.last_step}: nothing is left to train; give more of them to go on."
            )

    def _begin_again(self) -> None:
        began = self.run.config["training"]
        unfinished = self.run.manifest["status"] in ("running", "failed")
        if not unfinished or not (began.get("checkpoint_every") or began.get("checkpoint_minutes")):
            raise ValuerecError(
                f"{self.run.path} can't be resumed: it holds no checkpoint; train anew into another folder."
            )
        if "start" in self.run.config:
            raise ValuerecError(
                f"{self.run.path} can't be resumed: it was stopped before the weights of --from were kept; train anew "
                "into another folder."
            )
        self.run.resume_with(self.config)
        self.run.restore(0, None, None, 0)
        self.reporter.say(f"{self.run.path} holds no checkpoint yet: beginning again at its first step.")
