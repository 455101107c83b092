"""Repeat-last: what the visitor has just looked at, again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valuerec.baselines.base import Baseline, histories
from valuerec.dataset import Dataset, Split


@dataclass(frozen=True)
class RepeatLast(Baseline):
    """The items of the session so far, the latest first; HR@1 is what repeating the very last item scores."""

    name = "repeat-last"
    source = "counting"

    def ranks(self, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        """See `Baseline.ranks`; nothing is learned from the training split."""
        return np.array(
            [_rank(history, item, dataset.n_items) for history, item in histories(dataset, split)], dtype=np.int64
        )


def _rank(history_H: NDArray[np.int32], item: int, n_items: int) -> int:
    (places,) = np.nonzero(history_H == item)
    return len(np.unique(history_H[places[-1] :])) if len(places) else n_items
