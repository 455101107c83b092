from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.ops import native, native_row_step, plain_row_step

needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")


@needs_kernels
@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 70),
    steps=st.lists(st.lists(st.integers(0, 39), max_size=60), min_size=1, max_size=4),
    scale=st.sampled_from([2.0**-66, 2.0**-20, 1.0, 2.0**20]),
    seed=st.integers(0, 99),
)
def test_both_ways_move_the_same_rows_alike(
    rows: int, width: int, steps: list[list[int]], scale: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    start = torch.randn(rows, width, generator=draw)
    states = [(start.clone(), torch.zeros(rows, width), torch.zeros(rows, dtype=torch.int32)) for _ in range(2)]
    for number, touched in enumerate(steps):
        index = torch.tensor([[row % rows for row in touched]], dtype=torch.int64).reshape(1, -1)
        # Whole numbers, whose sums have no rounding: the ways add them in different orders.
        values = scale * torch.randint(-9, 10, (index.shape[1], width), generator=draw).float()
        gradient = torch.sparse_coo_tensor(index, values, (rows, width))
        for (table, moment, last), way in zip(states, (plain_row_step, native_row_step), strict=True):
            way(table, moment, last, gradient, 3 * number + 1, 0.005)
    for plain, fast in zip(*states, strict=True):
        torch.testing.assert_close(fast, plain, rtol=2e-5, atol=2e-6 if plain is states[0][0] else 1e-37)
    never = sorted(set(range(rows)) - {row % rows for touched in steps for row in touched})
    assert torch.equal(states[1][0][never], start[never])
    assert not states[1][2][never].any()


@needs_kernels
def test_a_table_that_the_kernels_do_not_know_is_moved_all_the_same() -> None:
    for table in (torch.ones(3, 2, dtype=torch.float64), torch.ones(2, 3).t()):
        moment, last = torch.zeros_like(table), torch.zeros(3, dtype=torch.int32)
        gradient = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2, dtype=table.dtype), (3, 2))
        native_row_step(table, moment, last, gradient, 1, 0.1)
        torch.testing.assert_close(table[1], torch.full((2,), 0.9, dtype=table.dtype))
