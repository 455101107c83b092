"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.folders import Manifest, damaged_files, explained_io, new_folder, read_manifest, write_manifest
from valuerec.tensors import load_tensors, save_tensors

SCHEMA_VERSION: Final = 1


class CheckpointManifest(Manifest):
    """What the manifest of a checkpoint must hold."""

    step: int
    progress: dict[str, float | int | None]


KEPT: Final = 2


def save(run: Path, step: int, tensors: dict[str, Tensor], progress: dict[str, Any]) -> Path:
    """Write a checkpoint beside the older ones and drop all but the newest two.

    Args:
        run: the RUN folder.
        step: steps done.
        tensors: weights, target and optimiser state.
        progress: what else the run must remember (JSON).
    """
    folder = run / "checkpoints" / f"step-{step:09d}"
    with explained_io(f"Writing {folder}"):
        if folder.exists():
            shutil.rmtree(folder)
    with new_folder(folder) as partial:
        save_tensors(partial / "state.safetensors", tensors)
        write_manifest(partial, "checkpoint", SCHEMA_VERSION, {"step": step, "progress": progress})
    for old in _folders(run)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def newest(run: Path, device: torch.device) -> tuple[Path, dict[str, Tensor], dict[str, Any], list[Path]]:
    """The newest checkpoint that is whole: its folder, tensors and progress, and the folders skipped before it.

    Raises:
        ValuerecError: where there is none.
    """
    skipped = []
    for folder in _folders(run):
        try:
            manifest = read_manifest(folder, "checkpoint", SCHEMA_VERSION, CheckpointManifest)
            if damaged_files(folder, manifest):
                raise ValuerecError(f"{folder} is damaged.")
            tensors = load_tensors(folder / "state.safetensors", device)
        except ValuerecError:
            skipped.append(folder)
            continue
        return folder, tensors, manifest["progress"], skipped
    trouble = f"all {len(skipped)} checkpoints there are damaged" if skipped else "it holds no checkpoint"
    raise ValuerecError(f"{run} can't be resumed: {trouble}; train anew into another folder.")


def _folders(run: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((run / "checkpoints").glob("step-*"), reverse=True)
