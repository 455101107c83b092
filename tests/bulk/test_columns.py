"""The fast path gives what the plain one gives: the same items, the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from test_ranking import N, made_up
from valuerec.bulk.columns import Columns, Known, histories, rank
from valuerec.model import Model

MODELS = {
    "vpq": made_up(),
    "by values": made_up(recommend="values"),
    "factored": made_up(ensemble="factored"),
    "supervised": made_up("supervised", heads=0),
}
sessions = st.lists(st.lists(st.integers(0, N - 1), max_size=9), min_size=1, max_size=12)


def known_of(lists: list[list[int]]) -> Known:
    item_E = np.array([item for items in lists for item in items], dtype=np.int32)
    return Known(item_E, np.cumsum([0, *(len(items) for items in lists)]))


def listed(columns: Columns, model: Model) -> list[list[tuple[object, ...]]]:
    none = [None] * len(columns.item_F)
    rows = list(
        zip(
            [model.item_ids[item] for item in columns.item_F],
            columns.score_F.tolist(),
            none if columns.value_F is None else columns.value_F.tolist(),
            none if columns.spread_F is None else columns.spread_F.tolist(),
            strict=True,
        )
    )
    ends = np.cumsum(columns.count_B)
    return [rows[end - count : end] for count, end in zip(columns.count_B, ends, strict=True)]


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(MODELS)), lists=sessions, k=st.integers(1, N + 5), exclude_seen=st.booleans())
def test_columns_are_the_answers(name: str, lists: list[list[int]], k: int, exclude_seen: bool) -> None:
    model = MODELS[name]
    found = listed(rank(model, known_of(lists), k, exclude_seen), model)
    right = model.recommend([[model.item_ids[item] for item in items] for items in lists], k, exclude_seen)
    assert [[each[0] for each in rows] for rows in found] == [[item.id for item in answer] for answer in right]
    for rows, answer in zip(found, right, strict=True):
        for each, item in zip(
            rows, answer, strict=True
        ):  # factored heads are summed by shape: the last bits may differ
            for here, there in zip(each[1:], item[1:], strict=True):
                assert here == (there if there is None else pytest.approx(there, rel=1e-12, abs=1e-15))


@settings(max_examples=30, deadline=None)
@given(lists=sessions, size=st.integers(1, 5))
def test_portions_laid_end_to_end_are_the_whole(lists: list[list[int]], size: int) -> None:
    parts = list(known_of(lists).split(size))
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    again = [
        part.item_E[start:stop].tolist()
        for part in parts
        for start, stop in zip(part.offset_B, part.offset_B[1:], strict=False)
    ]
    assert again == lists


@settings(max_examples=30, deadline=None)
@given(lists=sessions)
def test_histories_are_those_of_lists(lists: list[list[int]]) -> None:
    model = MODELS["vpq"]
    for found, right in zip(histories(known_of(lists), model.network.window, N), model.histories(lists), strict=True):
        assert found.dtype == right.dtype and torch.equal(found, right)


@pytest.mark.parametrize("name", list(MODELS))
def test_where_all_is_excluded_nothing_is_recommended(name: str) -> None:
    columns = rank(MODELS[name], known_of([list(range(N)), [1]]), 3, exclude_seen=True)
    assert columns.count_B.tolist() == [0, 3] and len(columns.score_F) == 3
