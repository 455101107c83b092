"""The stages by their command's name: each reads a folder, does its work elsewhere in the package, and answers.

`train` and `plan` live in `valuerec.training`; they are here by name so that all stages stand in one place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from valuerec.backbones import Backbone
from valuerec.dataset import SCHEMA_VERSION as DATASET_VERSION
from valuerec.dataset import Dataset, DatasetManifest, Part
from valuerec.errors import UsageError
from valuerec.folders import check_made, damaged_files, explained_io, kind_of, read_json, read_manifest
from valuerec.network import Recommend
from valuerec.training import plan, train

if TYPE_CHECKING:
    from valuerec.bulk.job import Recommended

__all__ = ["evaluate", "export", "info", "plan", "prepare", "recommend", "serve", "train"]


def prepare(sources: Sequence[str | Path], *, format: str, out: str | Path, **options: Any) -> Dataset:
    """Turn a raw event log into a dataset folder; see `valuerec.events.prepare` for the options.

    Returns:
        The dataset, opened; its `manifest` holds the exact account of every row.
    """
    from valuerec import events

    events.prepare(sources, format=format, out=out, **options)
    return Dataset(out)


def evaluate(
    run: str | Path,
    split: Part = "test",
    *,
    data: str | Path | None = None,
    device: str = "auto",
    backbone: Backbone | None = None,
    recommend: Recommend | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a run's weights on a held-out split: HR@k and NDCG@k, purchases and clicks apart.

    Args:
        run: the RUN folder.
        split: train, validation, test, or held-out: validation and test together.
        data: the dataset, where it has moved since training.
        device: auto, cpu or cuda.
        backbone: the backbone's factory, where it is none of valuerec's own.
        recommend: rank by "items" or "values"; None for what the run was trained to recommend by.
        progress: told now and then how many events of how many are done.

    Returns:
        `{"purchase": {"hr@5": ..., "ndcg@20": ...}, "click": {...}}`; None where a kind does not occur. What is behind
        it, event by event, is `valuerec.evaluation.session_ranks`.

    Raises:
        UsageError: for an unknown split, a dataset that the run was not trained on, or values where it has no critic.
    """
    from valuerec.evaluation import metrics_of, session_ranks

    found = session_ranks(
        run, split, data=data, device=device, backbone=backbone, recommend=recommend, progress=progress
    )
    return dict(metrics_of(found.rank_E, found.event_E))


def export(run: str | Path, *, out: str | Path, onnx: bool | None = None, backbone: Backbone | None = None) -> Path:
    """Write the model of a RUN as a bundle; see `valuerec.bundle.writing.export`."""
    from valuerec.bundle import writing

    return writing.export(run, out=out, onnx=onnx, backbone=backbone)


def recommend(
    model: str | Path,
    sessions: str | Path,
    *,
    out: str | Path,
    k: int = 20,
    exclude_seen: bool = False,
    resume: bool = False,
    backbone: Backbone | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Recommended:
    """Recommend for every session of a file, in memory that does not grow with it; for lists use `Model.recommend`.

    The work is kept part by part in a hidden folder beside `out`, from which a stopped call goes on.

    Args:
        model: a RUN or a bundle.
        sessions: JSON lines, CSV or Parquet; see `valuerec.sessions`.
        out: the file to write, in a format told by its ending; it appears whole or not at all.
        k: items a session.
        exclude_seen: leave out a session's own items.
        resume: go on from the last whole part of a call that was stopped, to the very same bytes; begins where there is
            none. Model, input and options must be the same.
        backbone: the backbone's factory, where it is none of valuerec's own.
        progress: told now and then how many sessions of how many are done.

    Raises:
        UsageError: for wrong options, an unknown ending, an output that exists, or where `resume` is given something
            else than the stopped call was.
        ValuerecError: for an unreadable file or a bad row in it, before anything is ranked.
    """
    from valuerec.bulk import job

    return job.recommend(
        model, sessions, out=out, k=k, exclude_seen=exclude_seen, resume=resume, backbone=backbone, progress=progress
    )


def serve(
    model: str | Path, *, host: str = "127.0.0.1", port: int = 8000, processes: int | None = None, **options: Any
) -> None:
    """Answer next-item requests over HTTP until asked to end (SIGTERM, Ctrl-C); see docs/serving.md.

    Args:
        model: a RUN or a bundle, or a symbolic link to one, which is looked at for another one now and then.
        host: to listen at.
        port: to listen at.
        processes: one thread each, each with its own copy of the model; None for one a core.
        options: of `valuerec.serving.settings.Settings`.

    Raises:
        UsageError: where an option is wrong, or valuerec[serve] is not installed.
        ValuerecError: where the model can't be loaded or the address can't be had.
    """
    check_can_serve()
    from valuerec.serving import starting

    starting.serve(Path(model), host, port, processes, options)


def check_can_serve() -> None:
    """Refuse to serve where what it needs is not installed.

    Raises:
        UsageError: naming what is missing.
    """
    if missing := [name for name in ("fastapi", "uvicorn", "httptools", "prometheus_client") if not find_spec(name)]:
        raise UsageError(f"Serving needs {', '.join(missing)}: pip install 'valuerec[serve]'.")


def info(path: str | Path) -> dict[str, Any]:
    """What a folder of valuerec's is: its manifest, for a run or a bundle also configuration, environment and metrics.

    Every file is compared with the size and SHA-256 that the manifest gives; `damaged` names those that differ.

    Raises:
        UsageError: where the folder is none of valuerec's.
    """
    from valuerec.bundle.reading import read_bundle_manifest
    from valuerec.recipe import LARGEST_CONFIG, read_config
    from valuerec.scores import read_metrics
    from valuerec.training.run import SCHEMA_VERSION as RUN_VERSION
    from valuerec.training.run import RunManifest

    folder = Path(path)
    check_made(folder, "dataset, run or bundle")
    kind = kind_of(folder)
    if kind == "bundle":
        answer = read_bundle_manifest(folder)
    elif kind == "run":
        answer = read_manifest(folder, kind, RUN_VERSION, RunManifest)
    elif kind == "dataset":
        answer = read_manifest(folder, kind, DATASET_VERSION, DatasetManifest)
    else:
        found = f"a {kind[:30]}" if kind else "something else"
        raise UsageError(f"{path} is {found}, not a dataset, run or bundle; name one of these.")
    with explained_io(f"Reading {path}"):
        answer["damaged"] = damaged_files(folder, answer)
    described: dict[str, Callable[[Path], Any]] = {}
    if kind == "run":
        described = {name: functools.partial(read_json, largest=LARGEST_CONFIG) for name in ("config", "environment")}
    elif kind == "bundle":
        described = {"config": read_config}
    if kind != "dataset":
        described["metrics"] = read_metrics
    for name, read in described.items():
        file = folder / f"{name}.json"
        answer[name] = read(file) if file.is_file() and file.name not in answer["damaged"] else None
    return answer
