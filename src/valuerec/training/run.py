"""The folder of a training run: configuration, environment, log, best weights, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import valuerec
from valuerec.backbones import BACKBONES
from valuerec.dataset import Dataset, read_item_ids
from valuerec.errors import UsageError
from valuerec.evaluation import SELECTION
from valuerec.folders import (
    Manifest,
    check_whole,
    copy_file,
    damaged_files,
    explained_io,
    new_folder,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from valuerec.locks import Lock, try_lock
from valuerec.network import Network
from valuerec.ops import choose_engine, native
from valuerec.tensors import save_tensors
from valuerec.training.config import MAY_CHANGE, TrainConfig

SCHEMA_VERSION: Final = 1
LOG: Final = "metrics.jsonl"
FIXED: Final = ("config.json", "environment.json", "items.parquet")
_LOCK: Final = ".lock"


class RunManifest(Manifest):
    """What the manifest of a run must hold.

    `weights` names the file that counts; `resumed_with` has the training options that are no longer those of
    `config.json`, which a run keeps as it was begun with.
    """

    status: str
    weights: str | None
    resumed_with: dict[str, Any] | None = None


class Run:
    """A RUN folder. `Run.create` starts one, `Run(path)` opens one; who writes to it holds its lock.

    `manifest.json` names the weights that count and their SHA-256; it is replaced in one step after they are on the
    disk, so whatever moment the process dies at, the folder holds a whole model.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: Lock | None = None
        self.manifest: dict[str, Any] = read_manifest(self.path, "run", SCHEMA_VERSION, RunManifest)
        check_whole(self.path, self.manifest, ("config.json", "environment.json"))
        self.config: dict[str, Any] = read_json(self.path / "config.json")
        self.environment: dict[str, Any] = read_json(self.path / "environment.json")

    @property
    def used_config(self) -> dict[str, Any]:
        """The configuration with the limits of the call that trained last."""
        return self.config | {"training": self.config["training"] | (self.manifest.get("resumed_with") or {})}

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
        """Start a run in a folder of its own, which appears whole, and lock it.

        Args:
            path: the folder.
            config: the run.
            dataset: what it learns from.
            device: where it computes.
            start: which weights it begins with; None for fresh ones.
        """
        described = describe(config, dataset) | ({} if start is None else {"start": start})
        with new_folder(path) as partial:
            write_json(partial / "config.json", described)
            write_json(partial / "environment.json", environment(device, choose_engine(config.engine, device)))
            copy_file(dataset.path / "items.parquet", partial / "items.parquet")
            (partial / LOG).touch()
            content = {"status": "running", "weights": None}
            write_manifest(partial, "run", SCHEMA_VERSION, content, [partial / name for name in FIXED])
        run = cls(path)
        run.lock()
        return run

    def lock(self) -> None:
        """Keep others from training into this folder, until `release` or the end of the process.

        Raises:
            UsageError: where another process does.
        """
        self._lock = locked(self.path)
        self.manifest = read_manifest(self.path, "run", SCHEMA_VERSION, RunManifest)

    def release(self) -> None:
        """Let others train into this folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def resume_with(self, config: TrainConfig) -> None:
        """Note the options that are others from now on; `restore` writes it down."""
        began = self.config["training"]
        now = {name: getattr(config, name) for name in MAY_CHANGE}
        self.manifest["resumed_with"] = {name: value for name, value in now.items() if value != began.get(name)} or None

    def restore(self, step: int, log: Path | None, best: Path | None, best_step: int) -> None:
        """Put the folder back to how it was at a step; what an earlier end was worth holds no longer.

        A process that dies in here leaves a whole run and whole checkpoints. Weights of a step before the first
        validation, of an interrupted run, go on counting until that comes.

        Args:
            step: steps done.
            log: a copy of the log as it was then; None for an empty one.
            best: a copy of the weights that counted then, None before the first validation.
            best_step: their step.
        """
        with explained_io(f"Writing {self.path}"):
            kept: dict[str, Any] = {"weights": None, "step": None}
            if best is not None:
                kept = {"weights": f"weights-{best_step:09d}.safetensors", "step": best_step}
                copy_file(best, self.path / kept["weights"])
            elif self._whole_weights_of(step):
                kept = {name: self.manifest[name] for name in kept}
            write_text(self.path / LOG, "" if log is None else log.read_text(encoding="utf-8"))
            self._update(scored=False, status="running", **kept)
            (self.path / "metrics.json").unlink(missing_ok=True)
            for left in (*self.path.glob("weights-*.safetensors"), *self.path.glob(".*.partial")):
                if left.name != self.manifest["weights"]:
                    left.unlink(missing_ok=True)

    def _whole_weights_of(self, step: int) -> bool:
        """Whether the weights that count are of that step or an earlier one, and whole."""
        name = self.manifest["weights"]
        if not name or self.manifest["step"] > step:
            return False
        return not damaged_files(self.path, {"files": {name: self.manifest["files"][name]}})

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (
            explained_io(f"Writing {self.path}"),
            (self.path / LOG).open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(line, allow_nan=False) + "\n")

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
        content = {key: self.manifest.get(key) for key in ("status", "weights", "step", "resumed_with")} | changes
        files = [self.path / name for name in (*FIXED, content["weights"]) if name]
        if scored and (self.path / "metrics.json").is_file():
            files.append(self.path / "metrics.json")
        self.manifest = write_manifest(self.path, "run", SCHEMA_VERSION, content, files)


def locked(path: Path) -> Lock:
    """The lock of a RUN folder.

    Raises:
        UsageError: where another process has it.
    """
    with explained_io(f"Writing {path}"):
        lock = try_lock(path / _LOCK, create=True)
    if lock is None:
        raise UsageError(f"{path} is in use: another process trains into it; wait for its end or stop it.")
    return lock


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
        "rewards": config.rewards.by_kind,
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
