from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valuerec.ops import plain_weighted_cross_entropy, weighted_cross_entropy


def case(batch: int, items: int, width: int, scale: float, dtype: torch.dtype) -> list[Tensor]:
    return [
        (torch.randn(batch, width, dtype=dtype) * scale).requires_grad_(),
        torch.randn(items, width, dtype=dtype).requires_grad_(),
        torch.randn(items, dtype=dtype).requires_grad_(),
        torch.randint(0, items, (batch,)),
        torch.rand(batch, dtype=dtype),
    ]


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 6), items=st.integers(1, 17), width=st.integers(1, 5), scale=st.sampled_from([0.1, 1.0, 50.0])
)
def test_loss_and_gradients_equal_the_plain_ones(batch: int, items: int, width: int, scale: float) -> None:
    tensors = case(batch, items, width, scale, torch.float64)
    ours, ours_B = weighted_cross_entropy(*tensors)
    plain, plain_B = plain_weighted_cross_entropy(*tensors)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(ours_B, plain_B)
    for own, other in zip(
        torch.autograd.grad(ours * 3, tensors[:3]), torch.autograd.grad(plain * 3, tensors[:3]), strict=True
    ):
        torch.testing.assert_close(own, other)


def test_gradients_of_an_earlier_loss_survive_a_later_one() -> None:
    first, second = (case(4, 9, 3, 1.0, torch.float64) for _ in range(2))
    loss, _ = weighted_cross_entropy(*first)
    weighted_cross_entropy(*second)  # uses the shared buffer again
    expected = torch.autograd.grad(plain_weighted_cross_entropy(*first)[0], first[:3])
    for own, other in zip(torch.autograd.grad(loss, first[:3]), expected, strict=True):
        torch.testing.assert_close(own, other)


def test_the_importance_gets_no_gradient() -> None:
    tensors = case(4, 9, 3, 1.0, torch.float64)
    tensors[4].requires_grad_()
    loss, _ = weighted_cross_entropy(*tensors)
    (gradient,) = torch.autograd.grad(loss, [tensors[4]], allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_huge_logits_stay_finite(logit: float) -> None:
    weight_ND, bias_N = torch.zeros(3, 2), torch.tensor([logit, 0.0, -logit])
    loss, loss_B = weighted_cross_entropy(torch.ones(1, 2), weight_ND, bias_N, torch.tensor([0]), torch.ones(1))
    assert torch.isfinite(loss) and loss_B.item() == pytest.approx(0.0 if logit > 0 else 2e4)
