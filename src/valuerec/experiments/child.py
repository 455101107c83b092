"""One cell in a process of its own: `python -m valuerec.experiments.child`, told by `valuerec.experiments.running`.

The job comes as a line of JSON on standard input, which stays open: when it closes, the parent is gone and so is this
process. In the job's folder it leaves `cell.json` and `ranks.parquet`, or `failed.json` with a sentence.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from valuerec.dataset import Dataset
from valuerec.errors import ValuerecError
from valuerec.evaluation import SessionRanks, selection_score, session_ranks
from valuerec.experiments.cell import Cell, Figures, options_of
from valuerec.experiments.histograms import Histogram, value_histograms
from valuerec.folders import write_json
from valuerec.model import load
from valuerec.training import choose_device, train
from valuerec.training.run import Run
from valuerec.training.trainer import DivergedError


def main() -> None:
    """Do the job that standard input names."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    try:
        figures = run_cell(Cell(**job["cell"]), Path(job["data"]), folder, job["device"])
    except ValuerecError as error:
        write_json(folder / "failed.json", {"sentence": str(error)})
    else:
        write_json(folder / "cell.json", figures)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def run_cell(cell: Cell, data: Path, folder: Path, device: str = "auto") -> Figures:
    """Train a cell and take its figures; the run itself is dropped.

    Args:
        cell: what to train.
        data: the dataset's folder.
        folder: a folder for the work, in which `ranks.parquet` is left.
        device: auto, cpu or cuda.

    Returns:
        Names, seed, every option, dataset, test and validation metrics, selection score, best and last step, seconds,
        commit, machine, the share of Q-values outside what can be true, the validation score by step (`curve`),
        histograms of value, spread and weight, and whether it diverged; then there are no metrics (None) and `trouble`
        says what happened.
    """
    dataset = Dataset(data)
    path = folder / "run"
    try:
        train(dataset, out=path, config=cell.config(device), quiet=True)
        trouble = None
    except DivergedError as error:
        trouble = str(error)
    figures = _described(cell, Run(path), trouble)
    if trouble is None:
        figures["histograms"] = _histograms(cell, path, dataset, choose_device(device))
        write_ranks(folder / "ranks.parquet", session_ranks(path, data=data, device=device))
    shutil.rmtree(path)
    return figures


def _described(cell: Cell, run: Run, trouble: str | None) -> Figures:
    """What a run's own files say of it."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics: dict[str, Any] = {"test": None, "validation": None, "seconds": None}
    if trouble is None:
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    named = dataclasses.asdict(cell)
    logged = [line for line in lines if "loss" in line]
    return {
        **{name: named[name] for name in ("backbone", "method", "protocol", "variant", "seed")},
        "options": options_of(run.config),
        "dataset": run.config["dataset"]["fingerprint"],
        "test": metrics["test"],
        "validation": metrics["validation"],
        "score": selection_score(metrics["validation"]) if metrics["validation"] else None,
        "best_step": run.manifest.get("step"),
        "steps": metrics.get("steps", logged[-1]["step"] if logged else None),
        "seconds": metrics["seconds"],
        "diverged": trouble is not None,
        "trouble": trouble,
        "outside": metrics.get("outside", {}).get("share"),
        "curve": [[line["step"], round(line["score"], 6)] for line in lines if "validation" in line],
        **{name: run.environment[name] for name in ("commit", "device", "threads", "engine", "torch")},
    }


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


if __name__ == "__main__":
    main()
