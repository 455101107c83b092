from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.ops import top


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.5000001, 2.0]), min_size=6, max_size=6), min_size=1, max_size=4
    ),
    k=st.integers(1, 6),
)
def test_equals_a_full_sort_with_ties_by_index(rows: list[list[float]], k: int) -> None:
    expected = [sorted(range(6), key=lambda item: (-row[item], item))[:k] for row in torch.tensor(rows).tolist()]
    assert top(torch.tensor(rows), k).tolist() == expected


def test_many_ties_at_the_cut() -> None:
    score_BN = torch.zeros(2, 1000)
    score_BN[1, 500] = 1
    assert top(score_BN, 3).tolist() == [[0, 1, 2], [500, 0, 1]]
