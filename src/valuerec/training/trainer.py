"""The training loop: steps, validations, checkpoints, and when to stop."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from valuerec.dataset import Dataset, Split
from valuerec.errors import ValuerecError
from valuerec.evaluation import Metrics, metrics_of, ranks, selection_score
from valuerec.methods import Batch, CriticMethod
from valuerec.network import Network, Target
from valuerec.ops import choose_engine, native
from valuerec.training import checkpoint
from valuerec.training.config import TrainConfig
from valuerec.training.optimiser import Optimiser
from valuerec.training.order import BatchOrder, step_seed
from valuerec.training.reporting import Reporter
from valuerec.training.run import Run


def fresh_network(config: TrainConfig, dataset: Dataset, device: torch.device) -> Network:
    """The network that a run begins with: a function of the configuration, seed included."""
    torch.manual_seed(step_seed(config.seed, -1))
    engine = choose_engine(config.engine, device)
    return config.method.network(config.backbone, dataset.n_items, config.window, engine).to(device)


class Trainer:
    """Trains one network into one RUN folder.

    Everything random in a step depends on (seed, step) alone, and everything else is in a checkpoint: a resumed run
    is the same run.

    Args:
        config: the run, whole.
        dataset: what to learn from.
        network: fresh, on the device to compute on; see `fresh_network`.
        run: its folder.
        reporter: tells a person how it goes.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, network: Network, run: Run, reporter: Reporter) -> None:
        self.config, self.dataset, self.run, self.reporter = config, dataset, run, reporter
        self.device = network.item_head.weight_ND.device
        self.network = network
        if network.engine == "native":
            native.keep_freed_memory()
        self.target = Target(network) if config.method.n_heads else None
        self.optimiser = Optimiser(self.network, config.learning_rate)
        self.order = BatchOrder(dataset.events_of("train"), config.batch_size, config.seed)
        limit = config.epochs * self.order.steps_per_epoch
        self.last_step = min(limit, config.max_steps or limit)
        self.validate_every = config.validate_every or self.order.steps_per_epoch
        self.step = 0
        self.best_score, self.best_step, self.worse = -math.inf, 0, 0
        self.seconds = 0.0
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._stop = False

    def fit(self) -> str:
        """Train until the end, until the score stops rising, or until interrupted; returns which."""
        started = time.perf_counter() - self.seconds
        self.network.train()
        with self._interruptible(), self.reporter.training(self):
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
            if self.best_step == 0:
                self.run.save_weights(self.network, self.step)  # never validated: what there is counts
            return "interrupted"
        return "early stop" if self.worse >= self.config.patience else "finished"

    def _one_step(self) -> None:
        torch.manual_seed(step_seed(self.config.seed, self.step))
        batch = self._batch(self.step)
        losses = self.config.method.losses(self.network, self.target, batch)
        self.optimiser.step(losses.total)
        self.step += 1
        if self.target is not None and self.step % self._target_every() == 0:
            self.target.copy_from(self.network)
        for name, value in losses.parts.items():
            self._sums[name] = value + self._sums.get(name, 0.0)
        self._summed += 1

    def _target_every(self) -> int:
        method = self.config.method
        return method.target_every if isinstance(method, CriticMethod) else 1

    def _batch(self, step: int) -> Batch:
        rows = self.dataset.transitions(self.order(step), self.config.window, self.config.rewards)
        wanted = {name: torch.from_numpy(getattr(rows, name)).to(self.device) for name in Batch._fields}
        return Batch(**wanted)

    def _log(self) -> dict[str, float]:
        means = {name: float(value) / self._summed for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        if not all(math.isfinite(value) for value in means.values()):
            raise ValuerecError(
                f"Training diverged before step {self.step}: a loss is not a finite number; lower --learning-rate "
                f"(now {self.config.learning_rate}) and train again."
            )
        line = {
            "step": self.step,
            "epoch": self.step / self.order.steps_per_epoch,
            "seconds": round(self.seconds, 3),
        }
        self.run.log(line | means)
        self.reporter.losses(means)
        return means

    def _validate(self) -> None:
        if self._summed:
            self._log()
        metrics = self.evaluate("validation")
        score = selection_score(metrics)
        better = score > self.best_score
        if better:
            self.best_score, self.best_step, self.worse = score, self.step, 0
            self.run.save_weights(self.network, self.step)
        else:
            self.worse += 1
        self.run.log({"step": self.step, "validation": metrics, "score": score, "best": better})
        self.reporter.validated(self, metrics, score, better)

    def evaluate(self, split: Split) -> Metrics:
        """The present weights' metrics on a split."""
        events = self.dataset.events_of(split)
        rank_E = ranks(self.network, self.dataset, split, self.device)
        return metrics_of(rank_E, self.dataset.event_E[events.start : events.stop])

    def save_checkpoint(self) -> Path:
        """Write all that `resume` needs."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        if self.target is not None:
            tensors |= {f"target/{name}": value for name, value in self.target.state_dict().items()}
        tensors |= {f"optimiser/{name}": value for name, value in self.optimiser.state().items()}
        tensors |= {f"sums/{name}": value for name, value in self._sums.items()}
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "summed": self._summed,
            "best_score": self.best_score if self.best_step else None,
            "best_step": self.best_step,
            "worse": self.worse,
        }
        return checkpoint.save(self.run.path, self.step, tensors, progress)

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole."""
        folder, tensors, progress, skipped = checkpoint.newest(self.run.path, self.device)
        self.network.load_state_dict(_under("network/", tensors))
        if self.target is not None:
            self.target.load_state_dict(_under("target/", tensors))
        self.optimiser.load(_under("optimiser/", tensors))
        self._sums = _under("sums/", tensors)
        self.step, self.seconds, self._summed = progress["step"], progress["seconds"], progress["summed"]
        self.best_step, self.worse = progress["best_step"], progress["worse"]
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


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
