"""How long cells will take: as their like took, else by trying some steps."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import torch

from valuerec.dataset import Dataset
from valuerec.experiments.cell import Cell, Figures
from valuerec.training import choose_device
from valuerec.training.planning import lengths_of, plan_run

if TYPE_CHECKING:
    from valuerec.experiments.running import Machine

Like = tuple[str, str, str]  # backbone, method, protocol

_AROUND: Final = 8.0  # seconds until a process trains, and to rank at its end


class Estimate:
    """Seconds of the cells to come.

    Args:
        cells: finished ones.
        dataset: what is trained on.
        machine: how many at a time.
    """

    def __init__(self, cells: Iterable[Figures], dataset: Dataset, machine: Machine) -> None:
        self.dataset, self.machine = dataset, machine
        self._known: defaultdict[Like, list[float]] = defaultdict(list)
        self._steps: list[int] = []
        self._step_seconds: dict[Like, float] = {}
        for cell in cells:
            self.learn(cell)

    def learn(self, figures: Figures) -> None:
        """Take note of a finished cell."""
        if not figures["diverged"]:
            like = figures["backbone"], figures["method"], figures["protocol"]
            self._known[like].append(figures["wall_seconds"])
            if figures["steps"]:
                self._steps.append(figures["steps"])

    def untried(self, cells: Iterable[Cell]) -> list[Cell]:
        """One cell of each kind of which nothing is known yet."""
        kinds = {_like(cell): cell for cell in cells if cell.trained}
        return [cell for like, cell in kinds.items() if like not in self._known and like not in self._step_seconds]

    def try_steps(self, cells: Iterable[Cell]) -> None:
        """Try some steps of each of these cells, which takes about a second each."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.machine.threads)
        for cell in cells:
            config = cell.config(self.machine.device)
            lengths = lengths_of(self.dataset, config.window)
            device = choose_device(config.device)
            planned = plan_run(config, self.dataset.n_items, len(self.dataset.item_E), device, length_E=lengths)
            assert planned.step_seconds is not None
            self._step_seconds[_like(cell)] = planned.step_seconds
        torch.set_num_threads(threads)

    def seconds(self, cell: Cell) -> float:
        """Of one cell: as its like took, else by the steps tried, so many as other cells took or as it may at most."""
        like = _like(cell)
        if like in self._known:
            return statistics.mean(self._known[like])
        if like not in self._step_seconds:
            return _AROUND
        config = cell.config(self.machine.device)
        batches = -(-len(self.dataset.events_of("train")) // config.batch_size)
        limit = min(config.epochs * batches, config.max_steps or config.epochs * batches)
        steps = min(limit, statistics.mean(self._steps)) if self._steps else limit
        return _AROUND + self._step_seconds[like] * steps

    def left(self, waiting: Sequence[Cell], running: Sequence[tuple[Cell, float]]) -> str:
        """In words, how long these cells will take.

        Args:
            waiting: cells that have not begun.
            running: cells that have, and for how many seconds.
        """
        total = sum(self.seconds(cell) for cell in waiting)
        total += sum(max(0.0, self.seconds(cell) - spent) for cell, spent in running)
        return f"{'about' if self._known else 'at most about'} {duration(total / self.machine.jobs)} left"


def _like(cell: Cell) -> Like:
    return cell.backbone, cell.method, cell.protocol


def duration(seconds: float) -> str:
    """3 h 20 min, 5 min, 12 s."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
