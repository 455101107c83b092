"""How long cells will take: as their like took, else by trying some steps."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from valuerec.dataset import Dataset
from valuerec.experiments.cell import Cell, Figures
from valuerec.training import choose_device
from valuerec.training.planning import lengths_of, plan_run

if TYPE_CHECKING:
    from valuerec.experiments.running import Machine

Like = tuple[str, str, str]  # backbone, method, protocol


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
        self._planned: dict[Like, float] = {}
        for cell in cells:
            self.learn(cell)

    def learn(self, figures: Figures) -> None:
        """Take note of a finished cell."""
        if not figures["diverged"]:
            like = figures["backbone"], figures["method"], figures["protocol"]
            self._known[like].append(figures["wall_seconds"])

    def seconds(self, cell: Cell) -> tuple[float, bool]:
        """Of one cell, and whether its like was measured; else it is what all its epochs would take."""
        like = cell.backbone, cell.method, cell.protocol
        if like in self._known:
            return statistics.mean(self._known[like]), True
        if like not in self._planned:
            self._planned[like] = self._plan(cell)
        return self._planned[like], False

    def _plan(self, cell: Cell) -> float:
        if not cell.trained:
            return 0.0  # seconds, at most a few minutes: not worth trying
        config = cell.config(self.machine.device)
        batches = -(-len(self.dataset.events_of("train")) // config.batch_size)
        steps = min(config.epochs * batches, config.max_steps or config.epochs * batches)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.machine.threads)
        planned = plan_run(
            config,
            self.dataset.n_items,
            len(self.dataset.item_E),
            choose_device(config.device),
            length_E=lengths_of(self.dataset, config.window),
        )
        torch.set_num_threads(threads)
        assert planned.step_seconds is not None
        return planned.step_seconds * steps

    def left(self, waiting: Sequence[Cell], running: Sequence[tuple[Cell, float]]) -> str:
        """In words, how long these cells will take.

        Args:
            waiting: cells that have not begun.
            running: cells that have, and for how many seconds.
        """
        told = [self.seconds(cell) for cell in waiting]
        begun = [(self.seconds(cell), spent) for cell, spent in running]
        total = sum(seconds for seconds, _ in told) + sum(max(0.0, seconds - spent) for (seconds, _), spent in begun)
        sure = all(known for _, known in told) and all(known for (_, known), _ in begun)
        return f"{'about' if sure else 'at most about'} {duration(total / self.machine.jobs)} left"


def duration(seconds: float) -> str:
    """3 h 20 min, 5 min, 12 s."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
