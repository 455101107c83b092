"""Runs that end in the midst of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import valuerec as vr
from valuerec.dataset import Dataset
from valuerec.training.trainer import Trainer

SMALL: dict[str, Any] = {"batch_size": 64, "quiet": True, "backbone": vr.SASRec(width=8), "method": vr.VPQ(heads=3)}


def crash_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """The process ends in a step, as no signal handler sees it."""
    real = Trainer._one_step

    def crashing(self: Trainer) -> None:
        if self.step == step:
            raise MemoryError
        real(self)

    patch.setattr(Trainer, "_one_step", crashing)


def crashed(data: Dataset, out: Path, step: int, **options: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, step)
        with pytest.raises(MemoryError):
            vr.train(data, out=out, **options)
    return out


def files(run: Path) -> dict[str, Any]:
    """All of a RUN but its checkpoints, without times."""
    answer: dict[str, Any] = {}
    for path in sorted(run.iterdir()):
        if path.name == "metrics.jsonl":
            answer[path.name] = [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        elif path.name == "metrics.json":
            answer[path.name] = json.loads(path.read_text()) | {"seconds": 0}
        elif path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            answer[path.name] = [manifest.get(name) for name in ("status", "step", "weights")]
        elif path.name not in ("checkpoints", "config.json", "environment.json"):
            answer[path.name] = path.read_bytes()
    return answer
