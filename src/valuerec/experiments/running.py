"""Cells run in processes of their own, several at a time, each written down as soon as it is finished."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from valuerec.dataset import Dataset
from valuerec.errors import ValuerecError
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Cell, Figures, collapsed_in, refuse_other_options
from valuerec.experiments.estimate import Estimate, duration
from valuerec.experiments.ranks import ranks_file
from valuerec.folders import explained_io, read_json
from valuerec.printing import PlainConsole

_LOOK_EVERY = 0.1  # seconds


class Machine(NamedTuple):
    """What cells are run with: how many at a time, where, and with how many threads each."""

    jobs: int
    device: str
    threads: int


def machine(jobs: int | None, device: str) -> Machine:
    """By default as many jobs as cores, each with one thread; on a GPU one.

    Raises:
        UsageError: for a device that is not there.
    """
    from valuerec.training import choose_device

    chosen = choose_device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs is None:
        jobs = 1 if chosen.type == "cuda" else cores
    return Machine(jobs, device, max(1, cores // jobs))


def missing_cells(cells: Sequence[Cell], book: Book, dataset: Dataset) -> list[Cell]:
    """The cells that the book does not hold yet.

    Raises:
        UsageError: where it holds one with other options.
    """
    missing = []
    for cell in cells:
        recorded = book.cells.get(cell.key)
        if recorded is None:
            missing.append(cell)
        else:
            refuse_other_options(cell, dataset, recorded, book.path)
    return missing


def run_cells(
    cells: Sequence[Cell],
    book: Book,
    dataset: Dataset,
    machine: Machine,
    known: Iterable[Figures] = (),
    quiet: bool = False,
) -> None:
    """Run the cells that the book does not hold yet, in their order.

    A cell that diverges is written down as such. Any other failure is told at the end, when all cells had their turn.

    Args:
        cells: all that are wanted.
        book: where finished ones are written; nobody else may write to its folder (`Results.locked`).
        dataset: what to train on.
        machine: how.
        known: finished cells of other books, which tell how long theirs will take.
        quiet: print nothing.

    Raises:
        KeyboardInterrupt: when interrupted; says how much is done.
        ValuerecError: where cells failed for another reason than divergence.
    """
    waiting = missing_cells(cells, book, dataset)
    if not waiting:
        return
    console = PlainConsole(stderr=True, quiet=quiet)
    estimate = Estimate([*known, *book.cells.values()], dataset, machine)
    work = _Work(waiting, len(cells), book, dataset, machine, estimate, console)
    try:
        with work.shown():
            work.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{work.done} of {len(cells)} cells are in {book.path}; go on with the same command"
        ) from None
    finally:
        work.end()
    if work.failures:
        cell, sentence = work.failures[0]
        raise ValuerecError(
            f"{len(work.failures)} of {len(cells)} cells failed, {cell.name} first: {sentence.rstrip('.')}; run the "
            "same command to try them again."
        )


class _Running(NamedTuple):
    cell: Cell
    process: subprocess.Popen[str]
    folder: Path
    started: float


class _Work:
    """The cells that wait, those that run, and what a person sees of them."""

    def __init__(
        self,
        waiting: list[Cell],
        total: int,
        book: Book,
        dataset: Dataset,
        machine: Machine,
        estimate: Estimate,
        console: PlainConsole,
    ) -> None:
        self.waiting, self.total, self.done = deque(waiting), total, total - len(waiting)
        self.book, self.dataset, self.machine, self.estimate, self.console = book, dataset, machine, estimate, console
        self.running: list[_Running] = []
        self.failures: list[tuple[Cell, str]] = []
        self.folder = _work_folder(book.path.parent)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """A bar while the block runs, on a terminal."""
        columns = (TextColumn("cells"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        hidden = self.console.quiet or not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as self.bar:
            self.task = self.bar.add_task("", total=self.total, completed=self.done)
            yield

    def run(self) -> None:
        """Until nothing waits and nothing runs."""
        if untried := self.estimate.untried(self.waiting):
            kinds = f"{len(untried)} kinds of cell" if len(untried) > 1 else "one kind of cell"
            self.console.print(f"Trying some steps of {kinds}, to tell how long they take.", soft_wrap=True)
            self.estimate.try_steps(untried)
        self.console.print(
            f"{self.book.path.name}: {len(self.waiting)} of {self.total} cells to run, {self.machine.jobs} at a time "
            f"with {self.machine.threads} threads each; {self._left()}.",
            soft_wrap=True,
        )
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.machine.jobs:
                self._start(self.waiting.popleft())
            ended = [each for each in self.running if each.process.poll() is not None]
            for each in ended:
                self.running.remove(each)
                self._finish(each)
            if not ended:
                self.bar.update(self.task, completed=self.done, description=self._left())
                time.sleep(_LOOK_EVERY)

    def _start(self, cell: Cell) -> None:
        folder = self.folder / cell.slug
        folder.mkdir()
        job = {
            "cell": dataclasses.asdict(cell),
            "data": str(self.dataset.path.resolve()),
            "folder": str(folder.resolve()),
            "device": self.machine.device,
            "threads": self.machine.threads,
        }
        threads = {name: str(self.machine.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        with (folder / "stderr").open("w") as trouble:
            process = subprocess.Popen(
                [sys.executable, "-m", "valuerec.experiments.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=trouble,
                text=True,
                env=os.environ | threads,
                start_new_session=True,  # Ctrl-C is for us; we end what we started
            )
        self.running.append(_Running(cell, process, folder, time.monotonic()))
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, which `_finish` tells
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()

    def _finish(self, ended: _Running) -> None:
        """Write a finished cell down, its ranks first."""
        assert ended.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            ended.process.stdin.close()
        answer = ended.folder / "cell.json"
        if not answer.is_file():
            self.failures.append((ended.cell, _why(ended)))
            self.console.print(f"  {ended.cell.name} failed: {self.failures[-1][1]}", soft_wrap=True)
        else:
            figures: Figures = read_json(answer)
            figures["wall_seconds"] = round(time.monotonic() - ended.started, 1)
            ranks = ended.folder / "ranks.parquet"
            if ranks.is_file():
                ranks.replace(ranks_file(self.book.path.parent, ended.cell.slug))
            self.book.add(figures)
            self.estimate.learn(figures)
            self.done += 1
            self.console.print(
                f"  {ended.cell.name}: {_told(figures)}, {duration(figures['wall_seconds'])} ({self.done} of "
                f"{self.total}; {self._left()})",
                soft_wrap=True,
            )
        shutil.rmtree(ended.folder)

    def _left(self) -> str:
        """How long it will take, in words."""
        busy = [(each.cell, time.monotonic() - each.started) for each in self.running]
        return self.estimate.left(list(self.waiting), busy)

    def end(self) -> None:
        """End what still runs and remove its work."""
        for each in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _work_folder(results: Path) -> Path:
    """A folder for the runs in progress; those that killed processes left are removed."""
    with explained_io(f"Writing {results}"):
        for old in results.glob(".cells-*"):
            shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=".cells-", dir=results))


def _why(ended: _Running) -> str:
    """In a sentence, why a process left no cell."""
    told = ended.folder / "failed.json"
    if told.is_file():
        return str(read_json(told)["sentence"])
    last = (ended.folder / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
    if ended.process.returncode < 0:
        return f"its process was ended by signal {-ended.process.returncode}, perhaps for want of memory"
    return f"its process ended with code {ended.process.returncode} ({' '.join(last) or 'no message'})"


def _told(figures: Figures) -> str:
    """A cell's outcome in a few words; of validation, so that nobody chooses by test."""
    if figures["diverged"]:
        return "diverged"
    collapsed = "collapsed, " if collapsed_in(figures) else ""
    kinds = figures["validation"].items()
    return f"{collapsed}validation HR@20/NDCG@20 " + ", ".join(
        f"{kind} {values['hr@20']:.4f}/{values['ndcg@20']:.4f}" for kind, values in kinds
    )
