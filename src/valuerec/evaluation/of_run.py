"""A trained run on a part of the dataset that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from valuerec.backbones import Backbone
from valuerec.dataset import PARTS, Dataset, Part
from valuerec.errors import UsageError
from valuerec.evaluation.ranking import ranks
from valuerec.folders import check_whole
from valuerec.network import RECOMMEND, Recommend


class SessionRanks(NamedTuple):
    """A row an event, in the dataset's order: its session's number, its kind (`valuerec.dataset.CLICK`), its rank."""

    session_E: NDArray[np.int64]
    event_E: NDArray[np.uint8]
    rank_E: NDArray[np.int64]


def session_ranks(
    run: str | Path,
    split: Part = "test",
    *,
    data: str | Path | None = None,
    device: str = "auto",
    backbone: Backbone | None = None,
    recommend: Recommend | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SessionRanks:
    """The rank, from 1, of every held-out item among the whole catalogue, with its session: for tests between runs.

    Args:
        run: the RUN folder, or a bundle, with `data`.
        split: train, validation, test, or held-out: validation and test together.
        data: the dataset, where it has moved since training.
        device: auto, cpu or cuda.
        backbone: the backbone's factory, where it is none of valuerec's own.
        recommend: rank by "items" or "values"; None for what the run was trained to recommend by.
        progress: told now and then how many events of how many are done.

    Returns:
        Sessions are numbered as in the dataset's `sessions.parquet`.

    Raises:
        UsageError: for an unknown split, a dataset that the run was not trained on, or values where it has no critic.
    """
    from valuerec.model import load
    from valuerec.training import choose_device

    if split not in PARTS:
        raise UsageError(f"There is no split named {split!r}; choose one of: {', '.join(PARTS)}.")
    if recommend not in (None, *RECOMMEND):
        raise UsageError(f"Nothing recommends by {recommend!r}; choose one of: {', '.join(RECOMMEND)}.")
    model = load(run, backbone)
    recorded = model.config["dataset"]
    if data is None and "path" not in recorded:
        raise UsageError(f"{run} does not say where its dataset is; say so with --data.")
    path = Path(data or recorded["path"])
    if data is None and not path.exists():
        raise UsageError(f"The dataset of {run} is no longer at {path}; say where it is with --data.")
    dataset = Dataset(path)
    check_whole(path, dataset.manifest, ("arrays.safetensors",))
    if dataset.fingerprint != recorded["fingerprint"]:
        here, known = set(dataset.item_ids), set(model.item_ids)
        named = "name the dataset it was trained on with --data"
        if here == known:
            raise UsageError(f"{run} was not trained on {path}; {named}.")
        raise UsageError(
            f"{run} was not trained on {path}, which has {len(here - known):,} items that are new to it and lacks "
            f"{len(known - here):,} of its own; {named}, or train on with this one: valuerec train {path} --from {run} "
            "--out NEW."
        )
    events = dataset.events_of(split)
    where = choose_device(device)
    told = (lambda done: progress(done, len(events))) if progress else None
    rank_E = ranks(model.network.to(where), dataset, split, where, told, recommend or model.recommends_by)
    session_E = dataset.session_of(np.arange(events.start, events.stop))
    return SessionRanks(session_E, np.asarray(dataset.event_E[events.start : events.stop]), rank_E)
