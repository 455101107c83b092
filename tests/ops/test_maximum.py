from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from valuerec.methods import VPQ
from valuerec.ops import maximum, plain_maximum


def oracle(
    state_BD: NDArray[np.float64],
    weight_NKD: NDArray[np.float64],
    bias_NK: NDArray[np.float64],
    mixture_K: NDArray[np.float64],
    penalty: float,
) -> NDArray[np.float64]:
    """Q·W of every item, written from equations 2 and 3, one number at a time."""
    batch, (items, heads, _) = len(state_BD), weight_NKD.shape
    value_BN = np.empty((batch, items))
    for b in range(batch):
        for a in range(items):
            q = [float(weight_NKD[a, k] @ state_BD[b] + bias_NK[a, k]) for k in range(heads)]
            mean = sum(q) / heads
            unc = (sum((x - mean) ** 2 for x in q) / heads) ** 0.5
            value_BN[b, a] = sum(alpha * x for alpha, x in zip(mixture_K, q, strict=True)) / (1 + penalty * unc)
    return value_BN


def random_case(seed: int, batch: int, items: int, heads: int, width: int, scale: float) -> list[Tensor]:
    draw = np.random.default_rng(seed)
    mixture_K = draw.random(heads) + 1e-3
    arrays = (
        draw.normal(size=(batch, width)),
        draw.normal(size=(items, heads, width)) * scale,
        draw.normal(size=(items, heads)) * scale,
        mixture_K / mixture_K.sum(),
    )
    return [torch.from_numpy(array) for array in arrays]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 5),
    items=st.integers(1, 23),
    heads=st.integers(1, 6),
    width=st.integers(1, 7),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    penalty=st.sampled_from([0.0, 0.5, 20.0, 1e4]),
    tile=st.integers(1, 29),
)
def test_tiled_equals_plain_equals_the_float64_oracle(
    seed: int, batch: int, items: int, heads: int, width: int, scale: float, penalty: float, tile: int
) -> None:
    case = random_case(seed, batch, items, heads, width, scale)
    score = VPQ(penalty=penalty, heads=heads).target_score
    truth_BN = oracle(*(tensor.numpy() for tensor in case), penalty)
    value_B, item_B = maximum(*case, score, tile=tile)
    plain_value_B, plain_item_B = plain_maximum(*case, score)
    np.testing.assert_allclose(plain_value_B.numpy(), truth_BN.max(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(value_B.numpy(), truth_BN.max(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(item_B.numpy(), truth_BN.argmax(axis=1))
    np.testing.assert_array_equal(plain_item_B.numpy(), truth_BN.argmax(axis=1))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), items=st.integers(1, 40), tile=st.integers(1, 41), penalty=st.sampled_from([0, 1])
)
def test_ties_go_to_the_lowest_item_whatever_the_tile(seed: int, items: int, tile: int, penalty: float) -> None:
    # Small whole numbers and four equal heads: float32 is exact, so equal values are equal to the bit.
    draw = np.random.default_rng(seed)
    state_BD = torch.from_numpy(draw.integers(-2, 3, size=(7, 3)).astype(np.float32))
    weight_ND = torch.from_numpy(draw.integers(-1, 2, size=(items, 3)).astype(np.float32))
    weight_NKD = weight_ND.unsqueeze(1).expand(-1, 4, -1).contiguous()
    bias_NK, mixture_K = torch.zeros(items, 4), torch.full((4,), 0.25)
    _, item_B = maximum(state_BD, weight_NKD, bias_NK, mixture_K, VPQ(penalty=penalty, heads=4).target_score, tile=tile)
    expected = (state_BD @ weight_ND.T).numpy().argmax(axis=1)
    np.testing.assert_array_equal(item_B.numpy(), expected)


@pytest.mark.parametrize("kind", ["all negative", "all equal", "one outlier", "denormal"])
def test_adversarial_weights(kind: str) -> None:
    state_BD, weight_NKD, bias_NK, mixture_K = random_case(3, 9, 50, 5, 8, 0.3)
    if kind == "all negative":
        bias_NK = bias_NK - 100
    elif kind == "all equal":
        weight_NKD, bias_NK = weight_NKD * 0, bias_NK * 0 + 0.25
    elif kind == "one outlier":
        weight_NKD[17] *= 1e6
    else:
        weight_NKD, bias_NK = weight_NKD * 1e-310, bias_NK * 1e-310
    case = (state_BD, weight_NKD, bias_NK, mixture_K)
    score = VPQ(heads=5).target_score
    value_B, item_B = maximum(*case, score, tile=7)
    plain_value_B, plain_item_B = plain_maximum(*case, score)
    torch.testing.assert_close(value_B, plain_value_B)
    assert torch.equal(item_B, plain_item_B)


def test_the_whole_size_in_float32_agrees_within_rounding() -> None:
    state_BD, weight_NKD, bias_NK, mixture_K = (t.float() for t in random_case(4, 64, 3000, 15, 64, 0.05))
    score = VPQ().target_score
    value_B, item_B = maximum(state_BD, weight_NKD, bias_NK, mixture_K, score)
    exact_B, _ = plain_maximum(*(t.double() for t in (state_BD, weight_NKD, bias_NK, mixture_K)), score)
    torch.testing.assert_close(value_B.double(), exact_B, rtol=2e-5, atol=1e-7)
    q_BK = torch.einsum("bkd,bd->bk", weight_NKD[item_B], state_BD) + bias_NK[item_B]
    own_B = score(q_BK @ mixture_K, q_BK.std(dim=1, correction=0))
    torch.testing.assert_close(own_B, value_B, rtol=2e-5, atol=1e-7)
