"""Making a cell: training it, or ranking by a baseline, and taking its figures."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from valuerec.baselines import baseline_ranks
from valuerec.dataset import Dataset, Split
from valuerec.evaluation import SessionRanks, metrics_of, selection_score, session_ranks
from valuerec.experiments.cell import COLLAPSED, Cell, Figures, options_of
from valuerec.experiments.histograms import Histogram, value_histograms
from valuerec.experiments.ranks import write_ranks
from valuerec.model import load
from valuerec.training import choose_device, train
from valuerec.training.run import Run, environment
from valuerec.training.trainer import DivergedError


def make_cell(cell: Cell, data: Path, folder: Path, device: str = "auto") -> Figures:
    """Make a cell and take its figures; a training run itself is dropped.

    Args:
        cell: what to train.
        data: the dataset's folder.
        folder: a folder for the work, in which `ranks.parquet` is left where the test split is read.
        device: auto, cpu or cuda.

    Returns:
        Names, seed, every option, dataset, test and validation metrics, selection score, best and last step, seconds,
        commit, machine, the share of Q-values outside what can be true (`outside`, before the best weights) and of
        rows whose weight by the critic was cut at the floor (`floored`, over the training), the validation score by
        step (`curve`), histograms of value, spread and weight, and whether it diverged; then there are no metrics
        (None) and `trouble` says what happened. `trouble` also tells a run that ended below popularity. What a baseline
        has not, is None, and so are the test metrics of a cell that must not read that split.
    """
    dataset = Dataset(data)
    made = _trained(cell, dataset, folder, device) if cell.trained else _untrained(cell, dataset, folder)
    names = {name: getattr(cell, name) for name in ("backbone", "method", "protocol", "variant", "seed")}
    score = selection_score(made["validation"]) if made["validation"] else None
    if cell.trained and score is not None:
        made["trouble"] = _collapsed(score, dataset)
    return names | {"dataset": dataset.fingerprint, "score": score} | made


def _collapsed(score: float, dataset: Dataset) -> str | None:
    """A sentence where a run's best is worse than one list for everybody: that is nobody's method at work."""
    popular = selection_score(metrics_of(*_ranked("popularity", dataset, "validation")))
    if score >= popular:
        return None
    return f"{COLLAPSED}: the best validation score, {score:.4f}, is below popularity's, {popular:.4f}."


def _ranked(
    name: str, dataset: Dataset, split: Split, options: Mapping[str, Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """A baseline's ranks of a split, and the kinds of its events."""
    events = dataset.events_of(split)
    event_E = np.asarray(dataset.event_E[events.start : events.stop])
    return baseline_ranks(name, dataset, split, **(options or {})), event_E


def _trained(cell: Cell, dataset: Dataset, folder: Path, device: str) -> Figures:
    path = folder / "run"
    try:
        train(dataset, out=path, config=cell.config(device), test=cell.test, quiet=True)
        trouble = None
    except DivergedError as error:
        trouble = str(error)
    figures = _described(Run(path), trouble)
    if trouble is None:
        figures["histograms"] = _histograms(cell, path, dataset, choose_device(device))
        if cell.test:
            write_ranks(folder / "ranks.parquet", session_ranks(path, data=dataset.path, device=device))
    shutil.rmtree(path)
    return figures


def _described(run: Run, trouble: str | None) -> Figures:
    """What a run's own files say of it."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics: dict[str, Any] = {"validation": None, "seconds": None}
    if trouble is None:
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    logged = [line for line in lines if "loss" in line]
    return {
        "options": options_of(run.config),
        "test": metrics.get("test"),
        "validation": metrics["validation"],
        "best_step": run.manifest.get("step"),
        "steps": metrics.get("steps", logged[-1]["step"] if logged else None),
        "seconds": metrics["seconds"],
        "diverged": trouble is not None,
        "trouble": trouble,
        "outside": metrics.get("outside", {}).get("share"),
        "floored": _floored(logged),
        "curve": [[line["step"], round(line["score"], 6)] for line in lines if "validation" in line],
        "histograms": None,
    } | _machine(run.environment)


def _floored(logged: Sequence[Mapping[str, float]]) -> float | None:
    """The share of a training's rows whose weight by the critic was cut at the floor; None without a critic.

    Args:
        logged: the log's lines of losses, each a mean over the steps since the one before.
    """
    lines = [line for line in logged if "td" in line]
    if not lines:
        return None
    steps = np.diff([0, *(line["step"] for line in lines)])
    return float(np.average([line["floored"] for line in lines], weights=steps))


def _untrained(cell: Cell, dataset: Dataset, folder: Path) -> Figures:
    """Rank the held-out splits by a baseline."""
    started = time.perf_counter()
    validation = metrics_of(*_ranked(cell.method, dataset, "validation", cell.method_options))
    test = None
    if cell.test:
        rank_E, event_E = _ranked(cell.method, dataset, "test", cell.method_options)
        test, events = metrics_of(rank_E, event_E), dataset.events_of("test")
        session_E = dataset.session_of(np.arange(events.start, events.stop))
        write_ranks(folder / "ranks.parquet", SessionRanks(session_E, event_E, rank_E))
    nothing = dict.fromkeys(("best_step", "steps", "trouble", "outside", "floored", "histograms"))
    return {
        "options": cell.options(dataset),
        "test": test,
        "validation": validation,
        "seconds": round(time.perf_counter() - started, 3),
        "diverged": False,
        "curve": [],
        **nothing,
    } | _machine(environment(torch.device("cpu"), "plain"))


def _machine(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("commit", "device", "threads", "engine", "torch")}


def _histograms(cell: Cell, path: Path, dataset: Dataset, device: torch.device) -> dict[str, Histogram] | None:
    """How the trained critic's values are spread."""
    model = load(path)
    penalty = model.config["method"]["penalty"] if cell.method == "vpq" else None
    return value_histograms(model.network.to(device), dataset, penalty)
