"""The folder of a training run: configuration, environment, log, best weights, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import valuerec
from valuerec.backbones import BACKBONES
from valuerec.dataset import Dataset, read_item_ids
from valuerec.evaluation import SELECTION
from valuerec.folders import (
    Manifest,
    check_unused,
    explained_io,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
)
from valuerec.network import Network
from valuerec.ops import choose_engine, native
from valuerec.tensors import save_tensors
from valuerec.training.config import TrainConfig

SCHEMA_VERSION: Final = 1
_FIXED: Final = ("config.json", "environment.json", "items.parquet")


class RunManifest(Manifest):
    """What the manifest of a run must hold; `weights` names the file that counts."""

    status: str
    weights: str | None


class Run:
    """A RUN folder. `Run.create` starts one, `Run(path)` opens one.

    `manifest.json` names the weights that count and their SHA-256; it is replaced in one step after they are on the
    disk, so whatever moment the process dies at, the folder holds a whole model.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path, "run", SCHEMA_VERSION, RunManifest)
        self.config: dict[str, Any] = read_json(self.path / "config.json")
        self.environment: dict[str, Any] = read_json(self.path / "environment.json")

    @cached_property
    def item_ids(self) -> list[str]:
        """The items' own ids; the position is the internal index."""
        return read_item_ids(self.path)

    @classmethod
    def create(
        cls,
        path: Path,
        config: TrainConfig,
        dataset: Dataset,
        device: torch.device,
        start: dict[str, Any] | None = None,
    ) -> Run:
        """Start a run in a folder of its own; `start` says which weights it begins with, None for fresh ones."""
        with explained_io(f"Writing {path}"):
            check_unused(path)
            path.mkdir(parents=True, exist_ok=True)
            content = describe(config, dataset) | ({} if start is None else {"start": start})
            write_json(path / "config.json", content)
            write_json(path / "environment.json", environment(device, choose_engine(config.engine, device)))
            shutil.copyfile(dataset.path / "items.parquet", path / "items.parquet")
            (path / "metrics.jsonl").touch()
            state = {"status": "running", "weights": None}
            write_manifest(path, "run", SCHEMA_VERSION, state, [path / name for name in _FIXED])
        return cls(path)

    def reopen(self) -> None:
        """Say that training goes on: what an earlier end was worth holds no longer."""
        with explained_io(f"Writing {self.path}"):
            self._update(status="running", scored=False)
            (self.path / "metrics.json").unlink(missing_ok=True)

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (
            explained_io(f"Writing {self.path}"),
            (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def cut_log(self, step: int) -> None:
        """Drop what metrics.jsonl says of later steps than `step`."""
        path = self.path / "metrics.jsonl"
        with explained_io(f"Writing {path}"):
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            partial.replace(path)

    def save_weights(self, network: Network, step: int) -> None:
        """Make the network's present weights those that count."""
        with explained_io(f"Writing {self.path}"):
            name = f"weights-{step:09d}.safetensors"
            save_tensors(self.path / name, network.state_dict())
            previous = self.manifest["weights"]
            self._update(weights=name, step=step)
            if previous and previous != name:
                (self.path / previous).unlink(missing_ok=True)

    def finish(self, status: str, metrics: dict[str, Any] | None) -> None:
        """Say how the run ended, and what its model scores."""
        with explained_io(f"Writing {self.path}"):
            if metrics is not None:
                write_json(self.path / "metrics.json", metrics)
            self._update(status=status)

    def _update(self, scored: bool = True, **changes: Any) -> None:
        content = {key: self.manifest.get(key) for key in ("status", "weights", "step")} | changes
        files = [self.path / name for name in (*_FIXED, content["weights"]) if name]
        if scored and (self.path / "metrics.json").is_file():
            files.append(self.path / "metrics.json")
        self.manifest = write_manifest(self.path, "run", SCHEMA_VERSION, content, files)


def describe(config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """The resolved configuration as JSON: what `config.json` holds."""
    training = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in ("backbone", "method", "rewards")
    }
    return {
        "dataset": {
            "path": str(dataset.path.resolve()),
            "fingerprint": dataset.fingerprint,
            "items": dataset.n_items,
        },
        "backbone": {"name": backbone_name(config.backbone), **_options(config.backbone)},
        "method": {"name": config.method.name, **_options(config.method)},
        "rewards": _options(config.rewards),
        "training": training,
        "selection": SELECTION,
    }


def backbone_name(backbone: Any) -> str:
    """The command-line name of a backbone of ours, `module:name` of somebody's own."""
    for name, known in BACKBONES.items():
        if isinstance(known, type) and isinstance(backbone, known):
            return name
    own = backbone if hasattr(backbone, "__qualname__") else type(backbone)
    return f"{own.__module__}:{own.__qualname__}"


def _options(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else {}


def environment(device: torch.device, engine: str) -> dict[str, Any]:
    """Versions, machine and commit: what a figure must be read with."""
    return {
        "valuerec": valuerec.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "engine": engine,
        "not_native_because": None
        if engine == "native"
        else native.why_not()
        if engine == "tiled"
        else "not asked for",
    }


def commit() -> str | None:
    """The commit of the source tree that runs, "-dirty" where it was changed; None for an installed package."""
    source = Path(__file__).parent
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(source), "ls-files", "--error-unmatch", __file__], capture_output=True
        )
        if tracked.returncode:
            return None
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
