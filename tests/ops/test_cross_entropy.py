from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valuerec.ops import cross_entropy as module
from valuerec.ops import (
    float_weighted_cross_entropy,
    mixed_weighted_cross_entropy,
    native,
    plain_weighted_cross_entropy,
)


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
    ours, ours_B = float_weighted_cross_entropy(*tensors)
    plain, plain_B = plain_weighted_cross_entropy(*tensors)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(ours_B, plain_B)
    for own, other in zip(
        torch.autograd.grad(ours * 3, tensors[:3]), torch.autograd.grad(plain * 3, tensors[:3]), strict=True
    ):
        torch.testing.assert_close(own, other)


def test_gradients_of_an_earlier_loss_survive_a_later_one() -> None:
    first, second = (case(4, 9, 3, 1.0, torch.float64) for _ in range(2))
    loss, _ = float_weighted_cross_entropy(*first)
    float_weighted_cross_entropy(*second)  # uses the shared buffer again
    expected = torch.autograd.grad(plain_weighted_cross_entropy(*first)[0], first[:3])
    for own, other in zip(torch.autograd.grad(loss, first[:3]), expected, strict=True):
        torch.testing.assert_close(own, other)


def test_the_importance_gets_no_gradient() -> None:
    tensors = case(4, 9, 3, 1.0, torch.float64)
    tensors[4].requires_grad_()
    loss, _ = float_weighted_cross_entropy(*tensors)
    (gradient,) = torch.autograd.grad(loss, [tensors[4]], allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_huge_logits_stay_finite(logit: float) -> None:
    weight_ND, bias_N = torch.zeros(3, 2), torch.tensor([logit, 0.0, -logit])
    loss, loss_B = float_weighted_cross_entropy(torch.ones(1, 2), weight_ND, bias_N, torch.tensor([0]), torch.ones(1))
    assert torch.isfinite(loss) and loss_B.item() == pytest.approx(0.0 if logit > 0 else 2e4)


needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 200),
    items=st.integers(1, 700),
    width=st.integers(1, 130),
    scale=st.sampled_from([0.01, 0.1, 0.5]),
    seed=st.integers(0, 1000),
)
def test_mixed_equals_the_plain_one_of_rounded_states_and_weights(
    batch: int, items: int, width: int, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    tensors = case(batch, items, width, scale, torch.float32)
    loss, loss_B = mixed_weighted_cross_entropy(*tensors)
    exact = [tensor.detach().bfloat16().double().requires_grad_() for tensor in tensors[:2]]
    exact += [tensors[2].detach().double().requires_grad_(), tensors[3], tensors[4].double()]
    plain, plain_B = plain_weighted_cross_entropy(*exact)
    torch.testing.assert_close(loss_B.double(), plain_B, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(loss.double(), plain, rtol=2e-5, atol=2e-5)
    own = torch.autograd.grad(loss * 3, tensors[:3])
    for mine, other in zip(own, torch.autograd.grad(plain * 3, exact[:3]), strict=True):
        # bfloat16 gradients: each term is off by 2^-8 of itself at most, so the sum by that of the terms' sizes.
        assert float((mine - other).abs().max()) <= 2**-7 * float(other.abs().max()) + 2**-8 * 3 / batch


@needs_kernels
def test_mixed_in_parts_equals_mixed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = case(200, 300, 16, 1.0, torch.float32)
    whole = torch.autograd.grad(mixed_weighted_cross_entropy(*tensors)[0], tensors[:3])
    monkeypatch.setattr(module, "WEIGHTS_AT_ONCE", 300 * 64)
    parts = torch.autograd.grad(mixed_weighted_cross_entropy(*tensors)[0], tensors[:3])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-5)


@needs_kernels
def test_mixed_falls_back_where_a_target_is_hopeless() -> None:
    weight_ND, bias_N = torch.zeros(3, 2), torch.tensor([-1e4, 0.0, 1e4])
    loss, loss_B = mixed_weighted_cross_entropy(
        torch.ones(1, 2, requires_grad=True), weight_ND, bias_N, torch.tensor([0]), torch.ones(1)
    )
    assert torch.isfinite(loss) and loss_B.item() == pytest.approx(2e4)


@needs_kernels
@pytest.mark.parametrize("batch", [1, 63, 64, 100])
@pytest.mark.parametrize("bias", [100.0, -100.0])
def test_mixed_does_not_mind_a_shift_of_all_logits(batch: int, bias: float) -> None:
    tensors = case(batch, 200, 16, 0.1, torch.float32)
    plain = torch.autograd.grad(plain_weighted_cross_entropy(*tensors)[0], tensors[:3])
    tensors[2].data.add_(bias)
    for own, other in zip(
        torch.autograd.grad(mixed_weighted_cross_entropy(*tensors)[0], tensors[:3]), plain, strict=True
    ):
        torch.testing.assert_close(own, other, rtol=0.05, atol=2e-2 / batch)


@needs_kernels
@pytest.mark.parametrize("gap", [10.0, 50.0, 70.0, 80.0, 86.0, 95.0])
def test_mixed_keeps_the_gradients_of_unlikely_targets(gap: float) -> None:
    tensors = case(64, 200, 16, 0.1, torch.float32)
    tensors[2].data[199] += gap
    tensors[3] = torch.randint(0, 199, (64,))
    for own, other in zip(
        torch.autograd.grad(mixed_weighted_cross_entropy(*tensors)[0], tensors[:3]),
        torch.autograd.grad(plain_weighted_cross_entropy(*tensors)[0], tensors[:3]),
        strict=True,
    ):
        assert float((own - other).abs().max()) <= 0.01 * float(other.abs().max())


def test_float_in_parts_equals_float_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = case(11, 30, 4, 1.0, torch.float64)
    whole = torch.autograd.grad(float_weighted_cross_entropy(*tensors)[0], tensors[:3])
    monkeypatch.setattr(module, "WEIGHTS_AT_ONCE", 30 * 3)
    parts = torch.autograd.grad(float_weighted_cross_entropy(*tensors)[0], tensors[:3])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


@needs_kernels
def test_mixed_of_other_types_is_the_float_one() -> None:
    tensors = case(5, 30, 4, 1.0, torch.float64)
    torch.testing.assert_close(mixed_weighted_cross_entropy(*tensors)[0], plain_weighted_cross_entropy(*tensors)[0])


@needs_kernels
def test_buffers_made_for_inference_can_be_trained_with() -> None:
    module._buffers.kept.clear()
    tensors = case(64, 50, 4, 1.0, torch.float32)
    with torch.inference_mode():
        mixed_weighted_cross_entropy(*tensors)
        float_weighted_cross_entropy(*tensors)
    for form in (mixed_weighted_cross_entropy, float_weighted_cross_entropy):
        torch.autograd.grad(form(*tensors)[0], tensors[:3])


@pytest.mark.parametrize("loss", [mixed_weighted_cross_entropy, float_weighted_cross_entropy])
def test_two_threads_do_not_write_into_one_buffer(loss: Callable[..., tuple[Tensor, Tensor]]) -> None:
    if loss is mixed_weighted_cross_entropy and native.why_not():
        pytest.skip(native.why_not())
    buffers = []

    def compute() -> None:
        case = [torch.randn(5, 4), torch.randn(9, 4), torch.zeros(9), torch.arange(5), torch.ones(5)]
        loss(*case)
        buffers.extend(buffer.data_ptr() for buffer in module._buffers.kept.values())
        both.wait(30)  # or the second could be given the memory that the first has freed

    both = threading.Barrier(2)
    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(buffers) == 2 and len(set(buffers)) == 2
