"""Making a cell: training it, or ranking by a baseline, and taking its figures."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from valuerec.baselines import baseline_ranks
from valuerec.dataset import Dataset
from valuerec.evaluation import SessionRanks, metrics_of, selection_score, session_ranks
from valuerec.experiments.cell import Cell, Figures, options_of
from valuerec.experiments.histograms import Histogram, value_histograms
from valuerec.model import load
from valuerec.training import choose_device, train
from valuerec.training.run import Run, environment
from valuerec.training.trainer import DivergedError


def make_cell(cell: Cell, data: Path, folder: Path, device: str = "auto") -> Figures:
    """Make a cell and take its figures; a training run itself is dropped.

    Args:
        cell: what to train.
        data: the dataset's folder.
        folder: a folder for the work, in which `ranks.parquet` is left.
        device: auto, cpu or cuda.

    Returns:
        Names, seed, every option, dataset, test and validation metrics, selection score, best and last step, seconds,
        commit, machine, the share of Q-values outside what can be true, the validation score by step (`curve`),
        histograms of value, spread and weight, and whether it diverged; then there are no metrics (None) and `trouble`
        says what happened. What a baseline has not, is None.
    """
    dataset = Dataset(data)
    made = _trained(cell, dataset, folder, device) if cell.trained else _untrained(cell, dataset, folder)
    names = {name: getattr(cell, name) for name in ("backbone", "method", "protocol", "variant", "seed")}
    score = selection_score(made["validation"]) if made["validation"] else None
    return names | {"dataset": dataset.fingerprint, "score": score} | made


def _trained(cell: Cell, dataset: Dataset, folder: Path, device: str) -> Figures:
    path = folder / "run"
    try:
        train(dataset, out=path, config=cell.config(device), quiet=True)
        trouble = None
    except DivergedError as error:
        trouble = str(error)
    figures = _described(Run(path), trouble)
    if trouble is None:
        figures["histograms"] = _histograms(cell, path, dataset, choose_device(device))
        write_ranks(folder / "ranks.parquet", session_ranks(path, data=dataset.path, device=device))
    shutil.rmtree(path)
    return figures


def _described(run: Run, trouble: str | None) -> Figures:
    """What a run's own files say of it."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics: dict[str, Any] = {"test": None, "validation": None, "seconds": None}
    if trouble is None:
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    logged = [line for line in lines if "loss" in line]
    return {
        "options": options_of(run.config),
        "test": metrics["test"],
        "validation": metrics["validation"],
        "best_step": run.manifest.get("step"),
        "steps": metrics.get("steps", logged[-1]["step"] if logged else None),
        "seconds": metrics["seconds"],
        "diverged": trouble is not None,
        "trouble": trouble,
        "outside": metrics.get("outside", {}).get("share"),
        "curve": [[line["step"], round(line["score"], 6)] for line in lines if "validation" in line],
        "histograms": None,
    } | _machine(run.environment)


def _untrained(cell: Cell, dataset: Dataset, folder: Path) -> Figures:
    """Rank both held-out splits by a baseline."""
    started = time.perf_counter()
    splits = {}
    for split in ("validation", "test"):
        events = dataset.events_of(split)
        event_E = np.asarray(dataset.event_E[events.start : events.stop])
        rank_E = baseline_ranks(cell.method, dataset, split, **cell.method_options)
        splits[split] = metrics_of(rank_E, event_E)
    session_E = dataset.session_of(np.arange(events.start, events.stop))
    write_ranks(folder / "ranks.parquet", SessionRanks(session_E, event_E, rank_E))
    nothing = dict.fromkeys(("best_step", "steps", "trouble", "outside", "histograms"))
    return {
        "options": cell.options(dataset),
        **splits,
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


def write_ranks(path: Path, ranks: SessionRanks) -> None:
    """Keep the ranks of a split, a row an event: session (its index), event (0 click, 1 purchase), rank from 1."""
    columns = {
        "session": ranks.session_E.astype(np.int32),
        "event": ranks.event_E,
        "rank": ranks.rank_E.astype(np.int32),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")
