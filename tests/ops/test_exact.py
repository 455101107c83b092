from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valuerec.ops import FloatScreen, LinearHead, LowScreen, native, plain_products, products
from valuerec.ops.exact import Screen

needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")
SCREENS = [FloatScreen, pytest.param(LowScreen, marks=needs_kernels)]
KINDS = ["apart", "close", "few values", "equal", "large"]


def case(seed: int, n_items: int, width: int, kind: str, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """States (float64), weights and biases."""
    generator = torch.Generator().manual_seed(seed)
    weight_ND = torch.randn(n_items, width, generator=generator)
    if kind == "close":
        weight_ND = weight_ND[:1] + 1e-7 * weight_ND
    elif kind == "few values":
        weight_ND = weight_ND[torch.randint(0, 2, (n_items,), generator=generator) % n_items]
    elif kind == "equal":
        weight_ND = weight_ND[:1].expand(n_items, -1).clone()
    elif kind == "large":
        weight_ND *= torch.logspace(-2, 2, n_items)[torch.randperm(n_items, generator=generator), None]
    bias_N = torch.zeros(n_items) if kind == "equal" else torch.randn(n_items, generator=generator).round()
    return torch.randn(batch, width, generator=generator, dtype=torch.float64), weight_ND, bias_N


def by_float64(state_BD: Tensor, weight_ND: Tensor, bias_N: Tensor) -> list[list[float]]:
    """The full scan, row by row so that equal items have equal scores."""
    pairs = list(zip(weight_ND.double().numpy(), bias_N.double().tolist(), strict=True))
    return [[float((w * s).sum()) + b for w, b in pairs] for s in state_BD.double().numpy()]


@pytest.mark.parametrize("screen", SCREENS)
@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_items=st.integers(1, 300),
    width=st.integers(1, 20),
    k_B=st.lists(st.integers(1, 90), min_size=1, max_size=70),
    kind=st.sampled_from(KINDS),
    data=st.data(),
)
def test_it_is_the_full_scan_in_float64(
    screen: Callable[[Tensor, Tensor], Screen],
    seed: int,
    n_items: int,
    width: int,
    k_B: list[int],
    kind: str,
    data: st.DataObject,
) -> None:
    state_BD, weight_ND, bias_N = case(seed, n_items, width, kind, len(k_B))
    some = st.sets(st.integers(0, n_items - 1), max_size=n_items)
    hidden_B = [data.draw(some) if row < 3 else set() for row in range(len(k_B))]
    best = LinearHead.of(weight_ND, bias_N, screen(weight_ND, bias_N)).best(state_BD, k_B, hidden_B)
    for row, score_N in enumerate(by_float64(state_BD, weight_ND, bias_N)):
        k = min(k_B[row], n_items)
        order = sorted(set(range(n_items)) - hidden_B[row], key=lambda item: (-score_N[item], item))[:k]
        found = [item for item, score in zip(best.item_Bk[row], best.score_Bk[row], strict=True) if score > -torch.inf]
        assert [int(item) for item in found[:k]] == order and (len(found) >= len(order))
        np.testing.assert_allclose(
            best.score_Bk[row, : len(order)], [score_N[item] for item in order], rtol=1e-12, atol=1e-12
        )
        exact = float(torch.tensor(score_N, dtype=torch.float64).logsumexp(dim=0))
        largest = float(weight_ND.norm(dim=1).max() * state_BD[row].norm()) + float(bias_N.abs().max())
        assert float(best.log_sum_B[row]) == pytest.approx(exact, abs=2**-8 * largest)  # all items' errors alike


@pytest.mark.parametrize("screen", SCREENS)
def test_a_row_does_not_depend_on_its_neighbours_nor_on_k(screen: Callable[[Tensor, Tensor], Screen]) -> None:
    state_BD, weight_ND, bias_N = case(1, 5000, 64, "apart", 70)
    head = LinearHead.of(weight_ND, bias_N, screen(weight_ND, bias_N))
    together = head.best(state_BD, [20] * 70, [set()] * 70)
    for row in range(0, 70, 9):
        alone = head.best(state_BD[row : row + 1], [60], [set()])
        assert alone.item_Bk[0, :20].tolist() == together.item_Bk[row].tolist()
        assert float(alone.log_sum_B) == pytest.approx(float(together.log_sum_B[row]), abs=1e-5)


@pytest.mark.parametrize("screen", SCREENS)
def test_the_sum_is_as_exact_where_one_item_has_nearly_all_of_it(screen: Callable[[Tensor, Tensor], Screen]) -> None:
    state_BD, weight_ND, bias_N = case(2, 20_000, 64, "apart", 4)
    weight_ND[7] = state_BD[0].float() * 0.4
    exact_B = (state_BD @ weight_ND.double().T + bias_N).logsumexp(dim=1)
    best = LinearHead.of(weight_ND, bias_N, screen(weight_ND, bias_N)).best(state_BD, [5] * 4, [set()] * 4)
    torch.testing.assert_close(best.log_sum_B, exact_B, rtol=0, atol=1e-3)


def test_the_bound_of_float32_holds_and_is_not_idle() -> None:
    weight_ND, bias_N = torch.randn(2000, 64), torch.randn(2000)
    state_BD = torch.randn(8, 64, dtype=torch.float64) * torch.logspace(-3, 3, 8, dtype=torch.float64)[:, None]
    screen = FloatScreen(weight_ND, bias_N)
    exact_BN = state_BD @ weight_ND.double().T + bias_N
    off_B = (screen.scores(state_BD).double() - exact_BN).abs().amax(dim=1)
    assert (off_B <= screen.error(state_BD)).all()
    assert (off_B > screen.error(state_BD) / 1000).all()


@needs_kernels
def test_the_bound_of_bfloat16_leaves_few_and_all_that_count() -> None:
    state_BD, weight_ND, bias_N = case(3, 20_000, 64, "apart", 20)
    left = LowScreen(weight_ND, bias_N)(state_BD, torch.full((20,), 64))
    exact_BN = state_BD @ weight_ND.double().T + bias_N
    kept_BN = torch.zeros_like(exact_BN, dtype=torch.bool)
    for row, item_M in enumerate(left.item_BM):
        kept_BN[row, item_M[item_M >= 0]] = True
    assert kept_BN.gather(1, exact_BN.topk(64, dim=1).indices).all()
    assert not left.whole and int(kept_BN.sum(dim=1).max()) < 200


@pytest.mark.parametrize("screen", SCREENS)
def test_equal_items_beyond_count_are_scored_as_a_whole(screen: Callable[[Tensor, Tensor], Screen]) -> None:
    state_BD, weight_ND, bias_N = case(4, 9000, 8, "equal", 2)
    weight_ND[8000] += 0.5 * state_BD[0].float()
    best = LinearHead.of(weight_ND, bias_N, screen(weight_ND, bias_N)).best(state_BD, [4, 4], [{0}, {1}])
    assert best.item_Bk[0].tolist() == [8000, 1, 2, 3]
    assert best.item_Bk[1].tolist() in ([8000, 0, 2, 3], [0, 2, 3, 4])
    exact_B = (state_BD @ weight_ND.double().T + bias_N).logsumexp(dim=1)
    torch.testing.assert_close(best.log_sum_B, exact_B, rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999), batch=st.integers(0, 4), many=st.integers(0, 9), heads=st.integers(1, 5),
    width=st.integers(1, 40),
)  # fmt: skip
def test_products_are_the_plain_ones(seed: int, batch: int, many: int, heads: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight_NKD, bias_NK = (
        torch.randn(50, heads, width, generator=generator),
        torch.randn(50, heads, generator=generator),
    )
    state_BD = torch.randn(batch, width, generator=generator, dtype=torch.float64)
    item_BM = torch.randint(0, 50, (batch, many), generator=generator)
    with torch.inference_mode():
        found_BMK = products(state_BD, weight_NKD, bias_NK, item_BM)
    torch.testing.assert_close(
        found_BMK, plain_products(state_BD, weight_NKD, bias_NK, item_BM), rtol=1e-12, atol=1e-12
    )


def test_items_beyond_the_catalogue_are_not_read() -> None:
    with torch.inference_mode(), pytest.raises(IndexError):
        products(torch.zeros(1, 4).double(), torch.zeros(3, 1, 4), torch.zeros(3, 1), torch.tensor([[3]]))
