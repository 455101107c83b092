"""Checkpoints: all that a run needs to go on as if it had never stopped.

A folder `RUN/checkpoints/step-N`: the state, and the log and the best weights as they were at that step, which put the
RUN back to it. A checkpoint that is damaged is never chosen; one that a killed process was writing is never seen.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final, NamedTuple

import torch
from pydantic import BaseModel
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.folders import (
    CHECKPOINTS,
    Manifest,
    copy_file,
    damaged_files,
    discard,
    explained_io,
    new_folder,
    read_manifest,
    remove_folder,
    write_manifest,
)
from valuerec.tensors import load_tensors, save_tensors
from valuerec.training.run import LOG, Run

SCHEMA_VERSION: Final = 3
STATE: Final = "state.safetensors"
BEST: Final = "best.safetensors"
COPIES: Final = ("config.json", "environment.json")  # what a run that lost them gets back (`valuerec.training.repair`)


class Progress(BaseModel, extra="forbid", strict=True):
    """What the trainer remembers beside tensors.

    `summed` steps lie in the sums of the open log interval; `validated` is the step of the latest validation; `worse`
    counts validations since the best; `outside` and `best_outside` are shares of Q-values; `sums` names the sums in
    the order in which they are logged.
    """

    seconds: float
    summed: int
    best_score: float | None
    best_step: int
    worse: int
    validated: int
    outside: float | None
    best_outside: float | None
    sums: list[str] = []


class CheckpointManifest(Manifest):
    """What the manifest of a checkpoint must hold; `run` is the SHA-256 of the run's configuration."""

    step: int
    run: str
    progress: Progress
    digest: str


class Found(NamedTuple):
    """A whole checkpoint, and why newer ones were passed over."""

    folder: Path
    step: int
    tensors: dict[str, Tensor]
    progress: Progress
    skipped: dict[Path, str]


def save(run: Run, step: int, tensors: dict[str, Tensor], progress: Progress, keep: int) -> Path:
    """Write a checkpoint; then drop all but the newest `keep`, and damaged ones whose step is reached again.

    The order: files into a temporary folder, each flushed, the manifest last, the folder renamed, its parent flushed.

    Args:
        run: the run; its log, its best weights and the small files that no other could tell are copied.
        step: steps done.
        tensors: weights, target and optimiser state.
        progress: what else the run must remember.
        keep: at least 1.

    Raises:
        ValuerecError: where the disk is full or fails, or the run's weights file has changed.
    """
    folder = run.path / CHECKPOINTS / f"step-{step:09d}"
    with new_folder(folder) as partial:
        save_tensors(partial / STATE, tensors)
        for name in (LOG, *COPIES):
            copy_file(run.path / name, partial / name)
        if progress.best_score is not None:
            copy_file(run.path / run.manifest["weights"], partial / BEST)
        content = {"step": step, "run": _identity(run), "progress": progress.model_dump()}
        files = write_manifest(partial, "checkpoint", SCHEMA_VERSION, content)["files"]
        if progress.best_score is not None and files[BEST] != run.manifest["files"][run.manifest["weights"]]:
            raise ValuerecError(f"{run.path / run.manifest['weights']} has changed since it was written; "
                                "go on with --resume, which puts it back.")  # fmt: skip
    superseded = [old for old in _aside(run.path) if _step_of(old) <= step]
    for old in folders_of(run.path)[keep:] + superseded:
        with contextlib.suppress(OSError):  # it stays, and is tried again next time
            remove_folder(old)
    return folder


def newest(run: Run, device: torch.device) -> Found | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Raises:
        ValuerecError: where there are some and all are damaged.
    """
    skipped: dict[Path, str] = {}
    for folder in folders_of(run.path):
        try:
            with explained_io(f"Reading {folder}"):
                return Found(folder, *_read(run, folder, device), skipped)
        except ValuerecError as error:
            skipped[folder] = str(error)
    if not skipped:
        return None
    raise ValuerecError(
        f"{run.path} can't be resumed: none of its {len(skipped)} checkpoints is whole (of the newest: "
        f"{next(iter(skipped.values())).rstrip('.')}); train anew into another folder."
    )


def tidy(run: Run, skipped: dict[Path, str]) -> None:
    """Set damaged checkpoints aside, as `damaged-step-N`, and clear what killed processes left; the run is locked."""
    with explained_io(f"Writing {run.path / 'checkpoints'}"):
        for folder in skipped:
            aside = folder.with_name(f"damaged-{folder.name}")
            if aside.is_symlink() or aside.exists():
                remove_folder(aside)
            folder.rename(aside)
        for each in (run.path / CHECKPOINTS).glob(".*.partial"):
            with contextlib.suppress(OSError):  # it is in nobody's way
                discard(each)


def _read(run: Run, folder: Path, device: torch.device) -> tuple[int, dict[str, Tensor], Progress]:
    manifest = read_manifest(folder, "checkpoint", SCHEMA_VERSION, CheckpointManifest)
    progress = Progress.model_validate(manifest["progress"])
    if manifest["run"] != _identity(run):
        raise ValuerecError(f"{folder} is of another run.")
    if manifest["step"] != _step_of(folder):
        raise ValuerecError(f"{folder} is of step {manifest['step']}.")
    wanted = {STATE, LOG} | ({BEST} if progress.best_score is not None else set())
    damaged = [*damaged_files(folder, manifest), *(wanted - set(manifest["files"]))]
    if damaged:
        raise ValuerecError(f"{folder} is damaged: {', '.join(damaged)} differs from its manifest.")
    return manifest["step"], load_tensors(folder / STATE, device), progress


def _identity(run: Run) -> str:
    sha256: str = run.manifest["files"]["config.json"]["sha256"]
    return sha256


def folders_of(run: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return _sorted(run, r"step-\d+")


def _aside(run: Path) -> list[Path]:
    """Those set aside as damaged."""
    return _sorted(run, r"damaged-step-\d+")


def _sorted(run: Path, pattern: str) -> list[Path]:
    found = (path for path in (run / CHECKPOINTS).glob("*") if re.fullmatch(pattern, path.name))
    return sorted(found, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
