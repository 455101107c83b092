"""Cells that nobody trained, with figures that are known, for tests of what is made of cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from valuerec.dataset import CLICK, PURCHASE
from valuerec.evaluation import SessionRanks, metrics_of, selection_score
from valuerec.experiments.cell import Figures, slug_of
from valuerec.experiments.ranks import ranks_file, write_ranks
from valuerec.experiments.results import Results

DATASET: dict[str, Any] = {
    "name": "made-up",
    "fingerprint": "a made-up fingerprint",
    "counts": {"sessions": 100, "items": 200, "events": 600, "clicks": 500, "purchases": 100},
    "splits": {"train": {"events": 400}, "validation": {"events": 100}, "test": {"events": 100}},
    "config": {"format": "events", "seed": 0},
    "sources": [],
}
OPTIONS: dict[str, Any] = {
    "backbone": {},
    "method": {},
    "rewards": {"click": 0.2, "purchase": 1.0},
    "training": {"window": 10, "batch_size": 256, "learning_rate": 0.005, "epochs": 20, "max_steps": None},
}


def ranks_of(seed: int, shift: float, sessions: int = 60) -> SessionRanks:
    """Ranks of some sessions; the smaller `shift`, the better, and the same events for any."""
    draw = np.random.default_rng(0)
    length_S = draw.integers(2, 9, sessions)
    session_E = np.repeat(np.arange(sessions), length_S)
    event_E = np.where(draw.random(len(session_E)) < 0.25, PURCHASE, CLICK).astype(np.uint8)
    hard_E = draw.normal(2.2, 1.4, len(session_E))
    noise_E = np.random.default_rng([seed, 1]).normal(0, 0.15, len(session_E))
    return SessionRanks(session_E, event_E, np.clip(np.exp(hard_E + shift + noise_E), 1, 200).astype(np.int64))


def cell(backbone: str = "sasrec", method: str = "vpq", seed: int = 0, shift: float = 0.0, **changes: Any) -> Figures:
    """A finished cell with the metrics of `ranks_of`."""
    ranks = ranks_of(seed, shift)
    metrics = metrics_of(ranks.rank_E, ranks.event_E)
    score = selection_score(metrics)
    critic = method not in ("supervised", "reward-weighted", "return-weighted")
    draw = np.random.default_rng(seed)
    bump = np.histogram(draw.gamma(4, 0.1, 5000), bins=24, range=(0, 1.2))[0].tolist()
    histogram = {"low": 0.0, "high": 1.2, "mean": 0.4, "counts": bump}
    names = ["value", "spread", *(["weight"] if method == "vpq" else [])]
    return {
        "backbone": backbone,
        "method": method,
        "protocol": "ours",
        "variant": "",
        "seed": seed,
        "options": OPTIONS | {"method": {"penalty": 20.0} if method == "vpq" else {}},
        "dataset": DATASET["fingerprint"],
        "test": metrics,
        "validation": metrics,
        "score": score,
        "best_step": 300,
        "steps": 600,
        "seconds": 12.5,
        "wall_seconds": 20.0,
        "diverged": False,
        "trouble": None,
        "outside": 0.01 if critic else None,
        "floored": 0.02 if critic else None,
        "curve": [[100 * n, round(score * (1 - 0.8 ** (3 * n)) - 0.001 * max(0, n - 3), 6)] for n in range(1, 7)],
        "histograms": dict.fromkeys(names, histogram) if critic else None,
        "commit": "abc",
        "device": "cpu",
        "threads": 1,
        "engine": "native",
        "torch": "2.13.0",
    } | changes


def diverged(**names: Any) -> Figures:
    """A cell that came to nothing."""
    nothing = dict.fromkeys(("test", "validation", "score", "seconds", "outside", "floored", "histograms"))
    return cell(**names, diverged=True, trouble="Training diverged before step 50: a loss is not a finite number.",
                curve=[], **nothing)  # fmt: skip


def write_results(folder: Path, ranks: bool = False, **books: Sequence[Figures]) -> Results:
    """A folder of results as `reproduce` leaves it: write_results(folder, table1=[...], figure2=[...])."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    (folder / "ranks").mkdir(exist_ok=True)
    for name, cells in books.items():
        (folder / f"{name}.json").write_text(json.dumps(list(cells)))
    return Results(folder)


def write_ranks_of(folder: Path, figures: Figures, shift: float) -> None:
    """The ranks file of a cell that was made with this shift."""
    write_ranks(ranks_file(folder, slug_of(figures)), ranks_of(figures["seed"], shift))
