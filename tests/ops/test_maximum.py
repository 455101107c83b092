from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from valuerec.methods import VPQ
from valuerec.ops import Penalty, Score, Sketch, full_tiles, linear_maximum, native, plain_maximum, pruned_maximum
from valuerec.ops import tiled_maximum as over_tiles
from valuerec.ops.sketch import MixtureSketch


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


def tiled_maximum(
    state_BD: Tensor, weight_NKD: Tensor, bias_NK: Tensor, mixture_K: Tensor, score: Score, tile: int | None = None
) -> tuple[Tensor, Tensor]:
    return over_tiles(full_tiles(state_BD, weight_NKD, bias_NK), mixture_K, score, tile)


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
    score = Penalty("p-mul", penalty)
    truth_BN = oracle(*(tensor.numpy() for tensor in case), penalty)
    value_B, item_B = tiled_maximum(*case, score, tile=tile)
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
    _, item_B = tiled_maximum(
        state_BD, weight_NKD, bias_NK, mixture_K, VPQ(penalty=penalty, heads=4).target_score, tile=tile
    )
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
    value_B, item_B = tiled_maximum(*case, score, tile=7)
    plain_value_B, plain_item_B = plain_maximum(*case, score)
    torch.testing.assert_close(value_B, plain_value_B)
    assert torch.equal(item_B, plain_item_B)


def test_the_whole_size_in_float32_agrees_within_rounding() -> None:
    state_BD, weight_NKD, bias_NK, mixture_K = (t.float() for t in random_case(4, 64, 3000, 15, 64, 0.05))
    score = VPQ().target_score
    value_B, item_B = tiled_maximum(state_BD, weight_NKD, bias_NK, mixture_K, score)
    exact_B, _ = plain_maximum(*(t.double() for t in (state_BD, weight_NKD, bias_NK, mixture_K)), score)
    torch.testing.assert_close(value_B.double(), exact_B, rtol=2e-5, atol=1e-7)
    q_BK = torch.einsum("bkd,bd->bk", weight_NKD[item_B], state_BD) + bias_NK[item_B]
    own_B = score(q_BK @ mixture_K, q_BK.std(dim=1, correction=0))
    torch.testing.assert_close(own_B, value_B, rtol=2e-5, atol=1e-7)


needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")


@needs_kernels
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 150),
    items=st.integers(1, 300),
    heads=st.integers(1, 17),
    width=st.integers(1, 70),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    common=st.sampled_from([0.0, 1.0, 10.0]),
    penalty=st.sampled_from([0.0, 0.5, 20.0, 1e4]),
    form=st.sampled_from(["p-mul", "p-sub"]),
)
def test_pruned_equals_plain(
    seed: int, batch: int, items: int, heads: int, width: int, scale: float, common: float, penalty: float, form: str
) -> None:
    case = random_case(seed, batch, items, heads, width, scale)
    case[1] += common * scale * torch.from_numpy(np.random.default_rng(seed).normal(size=(items, 1, width)))
    check_pruned(case, Penalty(form, penalty))  # type: ignore[arg-type]


def check_pruned(case: list[Tensor], penalty: Penalty) -> None:
    """The value found is the float64 maximum within float32's rounding, and the item found has it."""
    low = [tensor.float() for tensor in case]
    state_BD, weight_NKD, bias_NK, mixture_K = low
    best = pruned_maximum(*low, penalty, Sketch(weight_NKD, bias_NK))
    exact_B, exact_item_B = plain_maximum(*(tensor.double() for tensor in low), penalty)
    # A value is a difference of a mixture and (p-sub) λ times a spread, both of products that round by their own size.
    largest_BN = torch.einsum("bd,nkd->bnk", state_BD.abs(), weight_NKD.abs()).amax(dim=2) + bias_NK.abs().amax(dim=1)
    size_B = largest_BN.amax(dim=1).double() * (1 + penalty.scale * (penalty.form == "p-sub"))
    if penalty.form == "p-mul":  # rounding of SD moves a value by its share of it, the more the larger λ
        spread_B = torch.minimum(
            *(heads_of(low, item_B).std(dim=1, correction=0) for item_B in (best.item_B, exact_item_B))
        )
        size_B = size_B * (1 + exact_B.abs() * penalty.scale) / (1 + penalty.scale * spread_B)
    assert bool(((best.value_B.double() - exact_B).abs() <= 3e-6 * size_B + 1e-30).all())
    q_BK = heads_of(low, best.item_B)
    own_B = penalty(q_BK @ mixture_K.double(), q_BK.std(dim=1, correction=0))
    assert bool(((own_B - exact_B).abs() <= 3e-6 * size_B + 1e-30).all())


def heads_of(case: list[Tensor], item_B: Tensor) -> Tensor:
    """All heads' values of one item a state, in float64: B×K."""
    state_BD, weight_NKD, bias_NK, _ = (tensor.double() for tensor in case)
    return torch.einsum("bkd,bd->bk", weight_NKD[item_B], state_BD) + bias_NK[item_B]


@needs_kernels
@pytest.mark.parametrize("size", [2.0**18, 2.0**24, 2.0**25])
def test_heads_that_cancel_in_their_mean_are_not_ruled_out(size: float) -> None:
    """One item's heads are large, and what is left of them in the mean is of the size of their rounding."""
    weight_NKD, state_BD = torch.zeros(40, 3, 2), torch.ones(4, 2)
    weight_NKD[:, 1] = 0.01
    weight_NKD[30] = torch.tensor([[size, -size], [1.0, 1.0], [-size, size]])
    case = [state_BD, weight_NKD, torch.zeros(40, 3), torch.full((3,), 1 / 3)]
    best = pruned_maximum(*case, Penalty("p-mul", 20.0), Sketch(weight_NKD, case[2]))
    exact_B, item_B = plain_maximum(*(tensor.double() for tensor in case), Penalty("p-mul", 20.0))
    assert best.item_B.tolist() == item_B.tolist()
    torch.testing.assert_close(best.value_B.double(), exact_B, rtol=1e-5, atol=0)


@needs_kernels
@pytest.mark.parametrize("form", ["p-mul", "p-sub"])
@pytest.mark.parametrize("kind", ["all negative", "all equal", "one outlier", "denormal", "equal heads", "tiny"])
def test_pruned_on_adversarial_weights(kind: str, form: str) -> None:
    state_BD, weight_NKD, bias_NK, mixture_K = random_case(3, 130, 500, 15, 64, 0.3)
    if kind == "all negative":
        bias_NK = bias_NK - 100
    elif kind == "all equal":
        weight_NKD, bias_NK = weight_NKD * 0, bias_NK * 0 + 0.25
    elif kind == "one outlier":
        weight_NKD[17] *= 1e6
    elif kind == "denormal":
        weight_NKD, bias_NK = weight_NKD * 1e-40, bias_NK * 1e-40
    elif kind == "equal heads":
        weight_NKD, bias_NK = weight_NKD[:, :1].repeat(1, 15, 1), bias_NK[:, :1].repeat(1, 15)
    else:
        weight_NKD, bias_NK = weight_NKD * 1e-3, bias_NK * 1e-3
    check_pruned([state_BD, weight_NKD, bias_NK, mixture_K], Penalty(form, 20.0))  # type: ignore[arg-type]


@needs_kernels
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), items=st.integers(1, 200), penalty=st.sampled_from([0.0, 1.0]))
def test_pruned_ties_go_to_the_lowest_item(seed: int, items: int, penalty: float) -> None:
    draw = np.random.default_rng(seed)
    state_BD = torch.from_numpy(draw.integers(-2, 3, size=(70, 3)).astype(np.float32))
    weight_ND = torch.from_numpy(draw.integers(-1, 2, size=(items, 3)).astype(np.float32))
    weight_NKD = weight_ND.unsqueeze(1).expand(-1, 4, -1).contiguous()
    bias_NK, mixture_K = torch.zeros(items, 4), torch.full((4,), 0.25)
    best = pruned_maximum(
        state_BD, weight_NKD, bias_NK, mixture_K, Penalty("p-mul", penalty), Sketch(weight_NKD, bias_NK)
    )
    np.testing.assert_array_equal(best.item_B.numpy(), (state_BD @ weight_ND.T).numpy().argmax(axis=1))


@needs_kernels
def test_pruning_scores_few_items_where_the_heads_have_learned() -> None:
    # As in a trained network: values far above their spread, heads that differ along a few contrasts.
    draw = np.random.default_rng(0)
    state_BD, weight_NKD, bias_NK, mixture_K = random_case(0, 64, 3000, 15, 64, 0.002)
    weight_NKD += torch.from_numpy(draw.normal(size=(3000, 1, 64)) * 0.05)
    weight_NKD += torch.from_numpy(draw.normal(size=(3000, 15, 1)) * draw.normal(size=(3000, 1, 64)) * 0.005)
    low = [tensor.float() for tensor in (state_BD, weight_NKD, bias_NK, mixture_K)]
    best = pruned_maximum(*low, Penalty("p-mul", 20.0), Sketch(low[1], low[2]))
    assert best.given_up == 0 and best.scored < 100


@needs_kernels
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), heads=st.integers(1, 16), width=st.integers(1, 20))
def test_the_sketch_bounds_mixture_and_spread(seed: int, heads: int, width: int) -> None:
    state_BD, weight_NKD, bias_NK, mixture_K = (t.float() for t in random_case(seed, 5, 9, heads, width, 1.0))
    sketch = Sketch(weight_NKD, bias_NK)
    q_BNK = torch.einsum("bd,nkd->bnk", state_BD.double(), weight_NKD.double()) + bias_NK
    mixture_BN, spread_BN = q_BNK @ mixture_K.double(), q_BNK.std(dim=2, correction=0)
    length_B1 = (state_BD.square().sum(dim=1, keepdim=True) + 1).sqrt()
    row_N4D = sketch.row_N4D[:, :, :width].float()
    product_BN4 = torch.einsum("bd,njd->bnj", state_BD.bfloat16().float(), row_N4D) + sketch.bias_N4
    apart = float(((state_BD.bfloat16() - state_BD).norm(dim=1, keepdim=True) / length_B1).max())
    slack_BN4 = (sketch.rounding_N4 + apart * sketch.norm_N4) * length_B1.unsqueeze(2)
    slope_N3, rest_N = sketch.of_mixture(mixture_K)
    plain_slope_N3, plain_rest_N = sketch.plain_of_mixture(mixture_K)
    torch.testing.assert_close(slope_N3, plain_slope_N3, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rest_N.square(), plain_rest_N.square(), rtol=1e-4, atol=1e-5)
    low_BN = (product_BN4[:, :, 1:].abs() - slack_BN4[:, :, 1:]).clamp(min=0).square().sum(dim=2).sqrt()
    high_BN = product_BN4[:, :, 1:].abs().add(slack_BN4[:, :, 1:]).square().sum(dim=2)
    high_BN = (high_BN + (sketch.residual_N2[:, 1] * length_B1).square()).sqrt()
    assert bool((low_BN <= spread_BN + 1e-5).all()) and bool((spread_BN <= high_BN + 1e-5).all())
    most_BN = product_BN4[:, :, 0] + (product_BN4[:, :, 1:] * slope_N3).sum(dim=2) + slack_BN4[:, :, 0]
    most_BN = (
        most_BN + (slack_BN4[:, :, 1:] * slope_N3.abs()).sum(dim=2) + rest_N * sketch.residual_N2[:, 1] * length_B1
    )
    assert bool((mixture_BN <= most_BN + 1e-5).all())


@needs_kernels
@pytest.mark.parametrize("form", ["p-mul", "p-sub"])
@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e-21, 1e-15, 1e15, 1e19])
def test_pruned_agrees_with_tiles_at_any_scale(scale: float, form: str) -> None:
    case = [tensor.float() for tensor in random_case(5, 64, 300, 15, 16, 1.0)]
    case[1], case[2] = case[1] * scale, case[2] * scale
    penalty = Penalty(form, 20.0)  # type: ignore[arg-type]
    best = pruned_maximum(*case, penalty, Sketch(case[1], case[2]))
    value_B, _ = tiled_maximum(*case, penalty)
    finite_B = value_B.isfinite()
    torch.testing.assert_close(best.value_B[finite_B], value_B[finite_B], rtol=2e-4, atol=0)


@needs_kernels
def test_what_cannot_be_pruned_is_refused() -> None:
    case = [tensor.float() for tensor in random_case(5, 3, 9, 65, 4, 1.0)]
    assert native.library().valuerec_most_heads() == 64
    sketch = Sketch(case[1], case[2])
    with pytest.raises(ValueError, match="65 heads"):
        pruned_maximum(*case, Penalty("p-mul", 20.0), sketch)
    fitting = [case[0], case[1][:, :9].contiguous(), case[2][:, :9].contiguous(), case[3][:9]]
    for penalty in (Penalty("p-mul", 1e19), Penalty("p-sub", float("inf"))):
        with pytest.raises(ValueError, match="can't be pruned"):
            pruned_maximum(*fitting, penalty, Sketch(fitting[1], fitting[2]))
    with pytest.raises(TypeError, match=r"takes torch\.float32"):
        native.call("valuerec_count_not_below", 1, 1, torch.zeros(1, 1).double(), torch.zeros(1), torch.zeros(1).long())


@needs_kernels
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e25])
def test_heads_that_have_diverged_are_no_error(broken: float) -> None:
    case = [tensor.float() for tensor in random_case(5, 64, 300, 15, 16, 1.0)]
    case[1][7] = broken
    best = pruned_maximum(*case, Penalty("p-mul", 20.0), Sketch(case[1], case[2]))
    assert len(best.value_B) == 64


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), broken=st.sets(st.integers(0, 99), min_size=1, max_size=3), tile=st.integers(1, 120))
def test_nan_is_the_maximum_whatever_the_way(seed: int, broken: set[int], tile: int) -> None:
    case = [tensor.float() for tensor in random_case(seed, 6, 100, 15, 16, 1.0)]
    for item in broken:
        case[1][item, item % 15, item % 16] = float("nan")
    plain_B, item_B = plain_maximum(*case, Penalty("p-mul", 20.0))
    assert plain_B.isnan().all() and item_B.tolist() == [min(broken)] * 6
    mixed = torch.einsum("k,nkd->nd", case[3], case[1]), case[2] @ case[3]
    ways = [tiled_maximum(*case, Penalty("p-mul", 20.0), tile), linear_maximum(case[0], *mixed, tile)]
    if not native.why_not():
        for form in ("p-mul", "p-sub"):
            for sketch in (Sketch(case[1], case[2]), MixtureSketch(case[1], case[2])):
                ways.append(pruned_maximum(*case, Penalty(form, 20.0), sketch)[:2])  # type: ignore[arg-type]
    for value_B, found_B in ways:
        assert value_B.isnan().all() and found_B.tolist() == item_B.tolist()


@needs_kernels
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), penalty=st.sampled_from([0.0, 20.0]), form=st.sampled_from(["p-mul", "p-sub"]))
def test_a_sketch_without_contrasts_rules_out_no_winner(seed: int, penalty: float, form: str) -> None:
    case = [tensor.float() for tensor in random_case(seed, 70, 200, 15, 16, 0.1)]
    rough = Sketch(case[1], case[2], refined=False)
    half = torch.arange(0, 200, 2)
    chosen = Penalty(form, penalty)  # type: ignore[arg-type]
    exact_B, _ = tiled_maximum(*case, chosen)
    torch.testing.assert_close(pruned_maximum(*case, chosen, rough).value_B, exact_B, rtol=1e-4, atol=1e-5)
    rough.update(case[1], case[2], half)
    torch.testing.assert_close(pruned_maximum(*case, chosen, rough).value_B, exact_B, rtol=1e-4, atol=1e-5)


def test_vpq_is_its_prunable_form() -> None:
    mixture, spread = torch.randn(1000), torch.rand(1000)
    torch.testing.assert_close(VPQ().prunable(mixture, spread), VPQ().target_score(mixture, spread))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 5),
    items=st.integers(1, 23),
    heads=st.integers(1, 4),
    tile=st.one_of(st.none(), st.integers(1, 30)),
)
def test_one_product_finds_the_maximum_of_a_mixture(
    seed: int, batch: int, items: int, heads: int, tile: int | None
) -> None:
    state_BD, weight_NKD, bias_NK, mixture_K = random_case(seed, batch, items, heads, 4, 1.0)
    mixed_ND, mixed_N = torch.einsum("k,nkd->nd", mixture_K, weight_NKD), bias_NK @ mixture_K
    value_B, item_B = linear_maximum(state_BD, mixed_ND, mixed_N, tile)
    expected_BN = oracle(*(each.numpy() for each in (state_BD, weight_NKD, bias_NK, mixture_K)), penalty=0.0)
    np.testing.assert_allclose(value_B.numpy(), expected_BN.max(axis=1), rtol=1e-9)
    assert item_B.tolist() == expected_BN.argmax(axis=1).tolist()


def test_one_product_gives_ties_to_the_lowest_item() -> None:
    value_B, item_B = linear_maximum(torch.ones(3, 2), torch.ones(7, 2), torch.zeros(7), tile=3)
    assert value_B.tolist() == [2.0] * 3 and item_B.tolist() == [0] * 3
