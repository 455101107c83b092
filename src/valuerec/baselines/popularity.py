"""Popularity: the same list for everybody, the items with the most training events first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valuerec.baselines.base import Baseline
from valuerec.dataset import Dataset, Split


@dataclass(frozen=True)
class Popularity(Baseline):
    """The most popular items, all events of the training split counted alike."""

    name = "popularity"
    source = "counting"

    def ranks(self, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        """See `Baseline.ranks`; the history of an event does not matter."""
        train, held_out = dataset.events_of("train"), dataset.events_of(split)
        count_N = np.bincount(dataset.item_E[train.start : train.stop], minlength=dataset.n_items)
        rank_N = dataset.n_items - np.searchsorted(np.sort(count_N), count_N, side="left")
        return np.asarray(rank_N[dataset.item_E[held_out.start : held_out.stop]], dtype=np.int64)
