"""What a recommender without training is: its parameters, and the ranks it gives to held-out items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from valuerec.dataset import Dataset, Split


class Baseline(ABC):
    """A recommender that only counts. A subclass is a frozen dataclass of its parameters."""

    name: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def ranks(self, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        """The rank of each event's item among the whole catalogue, in the order of the split.

        rank = 1 + how many other items score at least as much, as in `valuerec.evaluation.ranks`. What gets no score
        scores 0, and so does everything before the first event of a session: rank N.
        """


def histories(dataset: Dataset, split: Split) -> Iterator[tuple[NDArray[np.int32], int]]:
    """All earlier events of its session, however many, and the item, of each event of a split."""
    events = dataset.events_of(split)
    start_E = dataset.offset_S[dataset.session_of(np.arange(events.start, events.stop))]
    for number, start in zip(events, start_E.tolist(), strict=True):
        yield dataset.item_E[start:number], int(dataset.item_E[number])
