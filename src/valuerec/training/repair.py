"""A RUN whose small files were lost while its checkpoints are whole gets them back.

Each checkpoint holds copies of `config.json` and `environment.json` and names the SHA-256 of the former;
`items.parquet` is the dataset's, and what else the manifest says, which weights count, comes with the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from valuerec.dataset import Dataset
from valuerec.errors import NewerFormatError, UsageError, ValuerecError
from valuerec.folders import (
    CHECKPOINTS,
    MANIFEST,
    copy_file,
    damaged_files,
    explained_io,
    is_sealed,
    read_json,
    read_manifest,
    sha256,
    write_manifest,
)
from valuerec.training import checkpoint
from valuerec.training.run import FIXED, SCHEMA_VERSION, RunManifest, locked


def repair(path: Path, dataset: Dataset) -> list[str]:
    """Put back the lost or damaged ones of a RUN's small files, where a checkpoint tells what they were.

    Args:
        path: the RUN folder.
        dataset: the one it was trained on.

    Returns:
        The names of the files that were put back; none where nothing was lost, or no checkpoint tells.

    Raises:
        UsageError: where another process has the RUN, or it was trained on another dataset.
        ValuerecError: where it is a folder of another kind or from a newer valuerec.
    """
    if not (path / CHECKPOINTS).is_dir() or _whole(path):
        return []
    lock = locked(path)
    try:
        with explained_io(f"Writing {path}"):
            return _repair(path, dataset)
    finally:
        lock.release()


def _whole(path: Path) -> bool:
    manifest = _manifest(path)
    return manifest is not None and not _lost(path, manifest)


def _manifest(path: Path) -> dict[str, Any] | None:
    """The RUN's manifest; None where it is damaged."""
    try:
        return read_manifest(path, "run", SCHEMA_VERSION, RunManifest)
    except NewerFormatError:
        raise  # who seals it in what way is not known
    except ValuerecError:
        if is_sealed(path):
            raise  # it says what it was made to say
        return None


def _lost(path: Path, manifest: dict[str, Any]) -> list[str]:
    files = manifest["files"]
    return damaged_files(path, {"files": {name: files[name] for name in FIXED if name in files}})


def _repair(path: Path, dataset: Dataset) -> list[str]:
    manifest = _manifest(path)
    sources = _sources(path, manifest)
    if sources is None:
        return []
    fingerprint = read_json(sources["config.json"])["dataset"]["fingerprint"]
    if fingerprint != dataset.fingerprint:
        raise UsageError(
            f"{path} is damaged and was trained on another dataset than {dataset.path}; resume with the one it began "
            "with, which has a part of what was lost."
        )
    sources["items.parquet"] = dataset.path / "items.parquet"
    lost = [name for name in FIXED if not _same(path / name, sources[name])]
    for name in lost:
        copy_file(sources[name], path / name)
    if manifest is None:
        lost.append(MANIFEST)
        content = {"status": "running", "weights": None, "step": None}
        write_manifest(path, "run", SCHEMA_VERSION, content, [path / name for name in FIXED])
    return lost


def _sources(path: Path, manifest: dict[str, Any] | None) -> dict[str, Path] | None:
    """Where whole copies of the small files are, by what a checkpoint of this run says; None where none tells."""
    for folder in checkpoint.folders_of(path):
        try:
            told = read_manifest(folder, "checkpoint", checkpoint.SCHEMA_VERSION, checkpoint.CheckpointManifest)
        except ValuerecError:
            continue
        entries = {} if manifest is None else manifest["files"]
        wanted = {name: entry["sha256"] for name, entry in told["files"].items() if name in checkpoint.COPIES}
        wanted["config.json"] = told["run"]
        if any(name in entries and entries[name]["sha256"] != sha for name, sha in wanted.items()):
            continue  # of another run
        wanted = {name: entries[name]["sha256"] for name in checkpoint.COPIES if name in entries} | wanted
        found = {
            name: place / name
            for name, sha in wanted.items()
            for place in (folder, path)
            if (place / name).is_file() and sha256(place / name) == sha
        }
        if found.keys() == set(checkpoint.COPIES):
            return found
    return None


def _same(file: Path, other: Path) -> bool:
    return file.is_file() and sha256(file) == sha256(other)
