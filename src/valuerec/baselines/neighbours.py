"""Session-kNN: what the training sessions most like the present one hold besides.

Shapes: H distinct items of a history, C sessions that share one of them, S training sessions by recency, the latest
first, N items, P distinct (session, item) pairs.

The papers sample the most recent sessions to save time; here all can be used, and are by default. Similarities and
scores are summed in float64 and compared in float32, so that what is equal but for rounding is a tie.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valuerec.baselines.base import Baseline, histories
from valuerec.dataset import Dataset, Split
from valuerec.errors import UsageError
from valuerec.folders import explained_io


class Ragged(NamedTuple):
    """Rows of different lengths, end to end."""

    value_P: NDArray[np.int64]
    offset_R: NDArray[np.int64]

    def rows(self, row_H: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values of some rows end to end, and how many there are of each."""
        length_H = self.offset_R[row_H + 1] - self.offset_R[row_H]
        shift_H = self.offset_R[row_H] - (np.cumsum(length_H) - length_H)
        return self.value_P[np.arange(length_H.sum()) + np.repeat(shift_H, length_H)], length_H


class Sessions(NamedTuple):
    """The training sessions as sets of items, and for each item the sessions that hold it."""

    items: Ragged
    holders: Ragged
    size_S: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SessionNeighbours(Baseline):
    """What the session-kNNs share.

    Args:
        neighbours: k, how many sessions vote; of equally similar ones the latest (of a log without a clock the first).
        sample: only so many of the latest sessions that share an item are considered (the papers: 500 to 10,000); None
            considers all.
    """

    neighbours: int = 100
    sample: int | None = None

    def __post_init__(self) -> None:
        for name in ("neighbours", "sample"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1.")

    @abstractmethod
    def weights(self, history: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The distinct items of a history that is not empty, and how much each of them counts."""

    @abstractmethod
    def similarity(self, shared_C: NDArray[np.float64], items: int, size_C: NDArray[np.int64]) -> NDArray[np.float64]:
        """How alike sessions are, from the weight of what they share and their numbers of distinct items."""

    def item_weight(self, sessions: Sessions) -> NDArray[np.float64]:
        """What the score of each item is multiplied with."""
        return np.ones(len(sessions.holders.offset_R) - 1)

    def ranks(self, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        """See `Baseline.ranks`.

        Neighbours are training sessions only, and the history is the whole session so far, not its last ten events.
        """
        sessions = training_sessions(dataset)
        weight_N = self.item_weight(sessions)
        rank_E = np.full(len(dataset.events_of(split)), dataset.n_items, dtype=np.int64)
        for place, (history, item) in enumerate(histories(dataset, split)):
            if len(history):
                score_N = (self._scores(history, sessions, dataset.n_items) * weight_N).astype(np.float32)
                rank_E[place] = np.count_nonzero(score_N >= score_N[item])
        return rank_E

    def _scores(self, history: NDArray[np.int32], sessions: Sessions, n_items: int) -> NDArray[np.float64]:
        item_H, weight_H = self.weights(history)
        holder_P, length_H = sessions.holders.rows(item_H)
        session_C, place_P = np.unique(holder_P, return_inverse=True)
        shared_C = _sums(place_P, np.repeat(weight_H, length_H), len(session_C))
        if self.sample is not None:
            session_C, shared_C = session_C[: self.sample], shared_C[: self.sample]
        similarity_C = self.similarity(shared_C, len(item_H), sessions.size_S[session_C])
        chosen = _first(similarity_C.astype(np.float32), self.neighbours)
        item_P, length_K = sessions.items.rows(session_C[chosen])
        return _sums(item_P, np.repeat(similarity_C[chosen], length_K), n_items)


def _sums(place_P: NDArray[np.int64], weight_P: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(place_P, weight_P, minlength=count), dtype=np.float64)


def _first(value_C: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` largest values, in order of place; of equal ones the first."""
    if len(value_C) <= count:
        return np.arange(len(value_C))
    least = np.partition(value_C, len(value_C) - count)[len(value_C) - count]
    above, equal = np.flatnonzero(value_C > least), np.flatnonzero(value_C == least)
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))


def training_sessions(dataset: Dataset) -> Sessions:
    """The training sessions, the latest first (by the time of their last event, then in the order of the dataset).

    Of a log without a clock, whose times are positions in the session, they stay in the order of the dataset.
    """
    n_sessions = int(dataset.session_of(np.array([dataset.events_of("train").stop - 1]))[0]) + 1
    path = dataset.path / "sessions.parquet"
    with explained_io(f"Reading {path}"):
        end_S = pq.read_table(path, columns=["end"])["end"].slice(0, n_sessions).cast(pa.int64()).to_numpy()
    if dataset.manifest.get("time", {}).get("unit") == "position":
        end_S = np.zeros_like(end_S)  # the last position says how long a session is, not when it was
    recency_S = np.empty(n_sessions, dtype=np.int64)
    recency_S[np.argsort(-end_S, kind="stable")] = np.arange(n_sessions)
    number_E = np.arange(dataset.offset_S[n_sessions])
    session_E = recency_S[dataset.session_of(number_E)]
    pair_P = np.unique(session_E * dataset.n_items + dataset.item_E[number_E])
    session_P, item_P = np.divmod(pair_P, dataset.n_items)
    size_S = np.bincount(session_P, minlength=n_sessions)
    count_N = np.bincount(item_P, minlength=dataset.n_items)
    return Sessions(
        items=Ragged(item_P, _offsets(size_S)),
        holders=Ragged(session_P[np.argsort(item_P, kind="stable")], _offsets(count_N)),
        size_S=size_S,
    )


def _offsets(length_R: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(length_R)])
