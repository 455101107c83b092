from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.baselines import BASELINES, baseline_named, baseline_ranks
from valuerec.dataset import Dataset
from valuerec.errors import UsageError
from valuerec.evaluation.ranking import plain_count_rank
from worlds import write_dataset

N = 7
_SESSION = st.lists(st.tuples(st.integers(0, N - 1), st.sampled_from("cp")), min_size=1, max_size=6)
_ENDS = st.integers(-3, 3)
_PARAMETERS = {
    "repeat-last": [{}],
    "popularity": [{}],
    "sknn": [{}, {"neighbours": 2}, {"neighbours": 3, "sample": 4}],
    "vsknn": [
        {"neighbours": 2},
        {"neighbours": 1, "decay": "reciprocal"},
        {"neighbours": 3, "sample": 4, "idf": True},
        {"decay": "reciprocal", "idf": True},
    ],
}
_CASES = [(name, parameters) for name, each in _PARAMETERS.items() for parameters in each]


def _scores(name: str, parameters: dict, train: list[list[int]], ends: list[int], history: list[int]) -> list[float]:
    """The score of each item, as the papers write it: sets, loops, no cleverness."""
    if name == "popularity":
        return [float(sum(session.count(item) for session in train)) for item in range(N)]
    score = [0.0] * N
    if name == "repeat-last":
        for place, item in enumerate(history):
            score[item] = place + 1.0
        return score
    weight: dict[int, float] = {}
    for place, item in enumerate(history, start=1):
        back = len(history) - place
        reciprocal = parameters.get("decay") == "reciprocal"
        weight[item] = 1.0 if name == "sknn" else 1 / (1 + back) if reciprocal else place / len(history)
    latest_first = sorted(range(len(train)), key=lambda session: (-ends[session], session))
    similar = []
    for place, session in enumerate(latest_first):
        shared = set(history) & set(train[session])
        if not shared:
            continue
        likeness = sum(weight[item] for item in shared)
        if name == "sknn":
            likeness /= math.sqrt(len(set(history)) * len(set(train[session])))
        similar.append((likeness, place, session))
    similar = similar[: parameters.get("sample", len(train))]
    similar.sort(key=lambda each: (-np.float32(each[0]), each[1]))
    for likeness, _, session in similar[: parameters.get("neighbours", 100)]:
        for item in set(train[session]):
            score[item] += likeness
    if parameters.get("idf"):
        holding = [sum(item in session for session in train) for item in range(N)]
        score = [each and each * math.log(len(train) / held) for each, held in zip(score, holding, strict=True)]
    return score


@pytest.mark.parametrize(("name", "parameters"), _CASES)
@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(_SESSION, min_size=1, max_size=9), test=st.lists(_SESSION, min_size=1, max_size=3), data=st.data()
)
def test_ranks_equal_the_papers_formulas_by_loops(name: str, parameters: dict, train, test, data) -> None:
    ends = data.draw(st.lists(_ENDS, min_size=len(train), max_size=len(train)))
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(
            Path(folder) / "data", {"train": train, "test": test}, N, ends=[*ends, *range(len(test))]
        )
        found = baseline_ranks(name, dataset, "test", **parameters)
    items = [[item for item, _ in session] for session in train]
    wanted = []
    for session in test:
        for place, (item, _) in enumerate(session):
            score = _scores(name, parameters, items, ends, [each for each, _ in session[:place]])
            rounded = torch.tensor([score], dtype=torch.float64).float()
            wanted.append(int(plain_count_rank(rounded, torch.tensor([item]))))
    assert found.tolist() == wanted and found.dtype == np.int64


@pytest.fixture
def by_hand(tmp_path: Path) -> Dataset:
    train = [[(0, "c"), (1, "c"), (2, "p")], [(1, "c"), (3, "c")], [(4, "c"), (3, "c")]]
    test = [[(0, "c"), (1, "c"), (3, "p"), (6, "c")]]
    return write_dataset(tmp_path / "data", {"train": train, "test": test}, N)


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("repeat-last", [N, N, N, N]),  # nothing is looked at twice
        ("popularity", [5, 2, 2, N]),  # 1 and 3 twice, 0, 2 and 4 once, 5 and 6 never
        # [] | 0: {0,1,2} all at 1/√3, a tie | 0, 1: {0,1,2} at 2/√6, {1,3} at 1/2 | 0, 1, 3: nobody holds 6
        ("sknn", [N, 3, 4, N]),
        ("vsknn", [N, 3, 4, N]),
    ],
)
def test_ranks_by_hand(by_hand: Dataset, name: str, ranks: list[int]) -> None:
    assert baseline_ranks(name, by_hand, "test").tolist() == ranks


def test_neighbours_are_training_sessions_only(tmp_path: Path) -> None:
    train, unseen = [[(0, "c"), (1, "c")]], [[(2, "c"), (3, "c")]]
    splits = {"train": train, "validation": unseen, "test": unseen}
    dataset = write_dataset(tmp_path / "data", splits, N)
    for name in ("sknn", "vsknn", "popularity"):
        assert baseline_ranks(name, dataset, "test").tolist() == [N, N]


def test_the_whole_session_counts_not_its_last_ten_events(tmp_path: Path) -> None:
    long = [(0, "c"), *[(6, "c")] * 300, (1, "c")]
    dataset = write_dataset(tmp_path / "data", {"train": [[(0, "c"), (1, "c")]], "test": [long]}, N)
    assert baseline_ranks("sknn", dataset, "test")[-1] == 2
    assert baseline_ranks("repeat-last", dataset, "test").tolist() == [N, N, *[1] * 299, N]


def test_without_a_clock_the_longest_session_is_not_the_latest(tmp_path: Path) -> None:
    train = [[(0, "c"), (1, "c")], [(0, "c"), *[(2, "c")] * 5]]
    for unit, first in (("s", 2), ("position", 1)):
        splits = {"train": train, "test": [[(0, "c"), (first, "c")]]}
        dataset = write_dataset(tmp_path / unit, splits, N, ends=[1, 5, 1], unit=unit)
        assert baseline_ranks("vsknn", dataset, "test", neighbours=1).tolist() == [
            N,
            2,
        ]  # at the place of the item before, and of the only neighbour


def test_an_empty_split_has_no_ranks(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", {"train": [[(0, "c")]]}, N)
    for name in BASELINES:
        assert baseline_ranks(name, dataset, "test").shape == (0,)


_WRONG = [
    ("knn", {}, "There is no baseline named 'knn'; choose one of: repeat-last, popularity, sknn, vsknn"),
    ("sknn", {"k": 3}, "sknn has no parameter 'k'; it has: neighbours, sample"),
    ("popularity", {"k": 3}, "popularity has no parameter 'k'; it has: none"),
    ("sknn", {"neighbours": 0}, "neighbours is 0; it must be at least 1"),
    ("vsknn", {"sample": 0}, "sample is 0; it must be at least 1"),
    ("vsknn", {"decay": "cubic"}, "decay is 'cubic'; choose one of: linear, reciprocal"),
]


@pytest.mark.parametrize(("name", "parameters", "sentence"), _WRONG)
def test_wrong_calls_are_one_sentence(name: str, parameters: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        baseline_named(name, **parameters)
