from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.heads import FullHeads
from valuerec.ops import MixtureSketch, Penalty, full_tiles, native, pruned_maximum, tiled_maximum
from valuerec.target import Search

needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    items=st.integers(1, 300),
    heads=st.integers(1, 20),
    width=st.integers(1, 40),
    scale=st.sampled_from([1e-12, 1e-3, 0.1, 1.0, 1e4]),
    shift=st.sampled_from([-1.0, 0.0, 1.0]),
    form=st.sampled_from(["p-mul", "p-sub"]),
    penalty=st.sampled_from([0.01, 1.0, 20.0, 1e4]),
)
def test_the_mixture_rules_out_no_winner(
    seed: int, items: int, heads: int, width: int, scale: float, shift: float, form: str, penalty: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    state_BD = torch.randn(70, width, generator=draw)
    weight_NKD = scale * torch.randn(items, heads, width, generator=draw)
    bias_NK = scale * (shift + torch.randn(items, heads, generator=draw))
    mixture_K = torch.rand(heads, generator=draw)
    mixture_K /= mixture_K.sum()
    rule = Penalty(form, penalty)  # type: ignore[arg-type]
    best = pruned_maximum(state_BD, weight_NKD, bias_NK, mixture_K, rule, MixtureSketch(weight_NKD, bias_NK))
    value_B, _ = tiled_maximum(full_tiles(state_BD, weight_NKD, bias_NK), mixture_K, rule)
    size = scale * (width + 1) * (1 + (penalty if form == "p-sub" else 0))
    torch.testing.assert_close(best.value_B, value_B, rtol=2e-5, atol=1e-5 * size)


@needs_kernels
@torch.no_grad()
def test_fresh_heads_are_searched_by_the_mixture_and_cheaply() -> None:
    torch.manual_seed(0)
    heads = FullHeads(5000, 16, 15)
    search, state_BD, mixture_K = Search(heads, "native"), torch.randn(64, 16), torch.full((15,), 1 / 15)
    rule = Penalty("p-mul", 20.0)
    best = search.best(state_BD, mixture_K, rule, rule)
    value_B, item_B = tiled_maximum(heads.tiles(state_BD), mixture_K, rule)
    torch.testing.assert_close(best.value_B, value_B)
    assert torch.equal(best.item_B, item_B)
    assert best.given_up == 0
    assert best.scored < 0.1 * 5000
