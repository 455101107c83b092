"""Recommenders without training, which a trained one has to beat: the controls beside the paper's rows.

The library wsknn has a weighted session-kNN, but is archived and answers with lists, not with ranks over the whole
catalogue with ties against us; so these are small and our own.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from valuerec.baselines.base import Baseline
from valuerec.baselines.popularity import Popularity
from valuerec.baselines.repeat_last import RepeatLast
from valuerec.baselines.sknn import SKNN
from valuerec.baselines.vsknn import VSKNN
from valuerec.dataset import Dataset, Split
from valuerec.errors import UsageError

BASELINES: Final[dict[str, type[Baseline]]] = {each.name: each for each in (RepeatLast, Popularity, SKNN, VSKNN)}


def baseline_named(name: str, **parameters: Any) -> Baseline:
    """A baseline by its name, with its parameters where they are not the defaults.

    Raises:
        UsageError: where there is no such baseline or parameter, or the parameter has a wrong value.
    """
    if name not in BASELINES:
        raise UsageError(f"There is no baseline named {name!r}; choose one of: {', '.join(BASELINES)}.")
    known = [field.name for field in fields(BASELINES[name])]  # type: ignore[arg-type]
    for parameter in parameters:
        if parameter not in known:
            raise UsageError(f"{name} has no parameter {parameter!r}; it has: {', '.join(known) or 'none'}.")
    return BASELINES[name](**parameters)


def baseline_ranks(name: str, dataset: Dataset, split: Split, **parameters: Any) -> NDArray[np.int64]:
    """The rank, 1..N, of each held-out event's item, in the order of the split. See `Baseline.ranks`.

    Args:
        name: one of `BASELINES`.
        dataset: whose training split is counted.
        split: which events to rank.
        parameters: of the baseline, e.g. neighbours=500.

    Raises:
        UsageError: where there is no such baseline or parameter, or the parameter has a wrong value.
    """
    return baseline_named(name, **parameters).ranks(dataset, split)


__all__ = ["BASELINES", "SKNN", "VSKNN", "Baseline", "Popularity", "RepeatLast", "baseline_named", "baseline_ranks"]
