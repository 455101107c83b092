from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from valuerec.training.order import BatchOrder, step_seed


@given(start=st.integers(0, 50), count=st.integers(1, 60), batch=st.integers(1, 70), seed=st.integers(0, 2**63 - 1))
def test_every_event_once_an_epoch(start: int, count: int, batch: int, seed: int) -> None:
    order = BatchOrder(range(start, start + count), batch, seed)
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        seen = np.concatenate([order(step) for step in steps])
        assert sorted(seen.tolist()) == list(range(start, start + count))


@given(seed=st.integers(0, 1000), steps=st.lists(st.integers(0, 40), min_size=1, max_size=10))
def test_a_batch_depends_on_seed_and_step_and_not_on_what_was_asked_before(seed: int, steps: list[int]) -> None:
    events = range(3, 60)
    order = BatchOrder(events, 8, seed)
    for step in steps:
        np.testing.assert_array_equal(order(step), BatchOrder(events, 8, seed)(step))


def test_epochs_and_seeds_differ() -> None:
    order = BatchOrder(range(1000), 1000, 0)
    assert not np.array_equal(order(0), order(1))
    assert not np.array_equal(order(0), BatchOrder(range(1000), 1000, 1)(0))
    assert len({step_seed(seed, step) for seed in range(20) for step in range(-1, 200)}) == 20 * 201
