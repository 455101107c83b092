"""What a person sees while training: a bar on a terminal, a line a validation elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from valuerec.evaluation import Metrics
from valuerec.printing import PlainConsole

if TYPE_CHECKING:
    from valuerec.training.trainer import Trainer

_SHOWN = ("cross_entropy", "td", "q", "outside")  # in the bar; metrics.jsonl has more


class Reporter:
    """Writes to standard error; `quiet` silences it."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = PlainConsole(stderr=True, quiet=quiet)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._trainer: Trainer | None = None
        self._first_step, self._first_seconds = 0, 0.0

    @contextlib.contextmanager
    def training(self, trainer: Trainer) -> Iterator[None]:
        """Show the bar while the block runs, on a terminal."""
        self._trainer = trainer
        self._first_step, self._first_seconds = trainer.step, trainer.seconds
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} steps/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            name = trainer.config.method.name
            self._task = self._bar.add_task(name, total=trainer.last_step, completed=trainer.step, rate=0, losses="")
            yield
        self._bar = None

    def losses(self, means: dict[str, float]) -> None:
        """Show the latest loss parts."""
        if self._bar is not None and self._trainer is not None:
            text = " ".join(f"{name} {means[name]:.3f}" for name in _SHOWN if name in means)
            self._bar.update(self._task, completed=self._trainer.step, rate=self._rate(), losses=text)

    def validated(self, trainer: Trainer, metrics: Metrics, score: float, better: bool) -> None:
        """Tell a validation's outcome in a line."""
        epoch = trainer.step / trainer.order.steps_per_epoch
        shown = ", ".join(
            f"{kind} {values['hr@20']:.4f}/{values['ndcg@20']:.4f}"
            for kind, values in metrics.items()
            if values["hr@20"] is not None
        )
        mark = "best" if better else f"{trainer.worse} without a better one"
        self.console.print(
            f"  step {trainer.step} (epoch {epoch:.1f}, {self._rate():.1f} steps/s): validation HR@20/NDCG@20 "
            f"{shown}; score {score:.4f}, {mark}",
            soft_wrap=True,
        )

    def resumed(self, folder: Path, skipped: dict[Path, str]) -> None:
        """Tell where a run goes on from, and what was passed over and why."""
        for path, reason in skipped.items():
            self.say(f"Skipped {path.name}, set aside as damaged-{path.name}: {reason}")
        self.say(f"Resuming from {folder.name}.")

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True)

    def _rate(self) -> float:
        assert self._trainer is not None
        seconds = self._trainer.seconds - self._first_seconds
        return (self._trainer.step - self._first_step) / seconds if seconds > 0 else 0.0
