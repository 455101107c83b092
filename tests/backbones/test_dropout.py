from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.backbones.dropout import Dropout


@settings(deadline=None)
@given(rate=st.floats(0, 0.999), size=st.integers(0, 33), seed=st.integers(0, 9))
def test_a_number_is_zero_or_scaled_and_so_is_its_gradient(rate: float, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.ones(size, requires_grad=True)
    y = Dropout(rate)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=2e-2, atol=0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_and_the_mean_are_kept_and_numbers_fall_independently(rate: float) -> None:
    torch.manual_seed(1)
    y = Dropout(rate)(torch.ones(1_000_000))
    zero = (y == 0).double()
    assert float(zero.mean()) == pytest.approx(rate, abs=0.002)
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    for apart in range(1, 9):  # four numbers share a draw
        together = float((zero[:-apart] * zero[apart:]).mean())
        assert together == pytest.approx(rate * rate, abs=0.002)


def test_nothing_falls_in_evaluation_mode_or_at_rate_nought() -> None:
    x = torch.randn(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
