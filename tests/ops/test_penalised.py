from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valuerec.heads import FactoredHeads, FullHeads, QEnsemble
from valuerec.ops import penalised_candidates

KINDS = ["apart", "close", "equal", "large", "agreeing", "negative"]


def heads_of(seed: int, n_items: int, width: int, n_heads: int, kind: str, form: str) -> QEnsemble:
    """An ensemble, its weights of some kind."""
    torch.manual_seed(seed)
    heads: QEnsemble = (FullHeads if form == "full" else FactoredHeads)(n_items, width, n_heads)
    with torch.no_grad():
        for weight in heads.parameters():
            weight.normal_()
            if kind == "close":
                weight.mul_(1e-6).add_(1)
            elif kind == "equal":
                weight.fill_(0.3)
            elif kind == "large":
                weight.mul_(10.0 ** float(torch.randint(-3, 15, ())))
            elif kind == "agreeing" and weight.dim() > 1 and weight.shape[1] != width:
                weight.copy_(weight[:, :1].clone())
            elif kind == "negative":
                weight.abs_().neg_()
    return heads


def by_float64(heads: QEnsemble, state_BD: Tensor, penalty_B: Tensor) -> Tensor:
    """The scores of all items, B×N."""
    with torch.no_grad():
        every_BN = torch.arange(heads.n_items).expand(len(state_BD), -1)
        q_BNK = heads.of_each(state_BD, every_BN)
        return q_BNK.mean(dim=2) / (1 + penalty_B[:, None] * q_BNK.std(dim=2, correction=0))


def candidates(
    heads: QEnsemble, state_BD: Tensor, penalty_B: Tensor, k_B: list[int], hidden_B: list[set[int]]
) -> list[Tensor]:
    reach = heads.reach()
    with torch.no_grad():
        reach_B = reach.longest * state_BD.norm(dim=1) + reach.largest
        return penalised_candidates(heads.tiles(state_BD.float()), reach.roundings, reach_B, penalty_B, k_B, hidden_B)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_items=st.integers(1, 300),
    width=st.integers(1, 20),
    n_heads=st.integers(1, 15),
    kind=st.sampled_from(KINDS),
    form=st.sampled_from(["full", "factored"]),
    penalties=st.lists(st.sampled_from([1e-6, 1.0, 20.0, 1e6]), min_size=1, max_size=4),
    data=st.data(),
)
def test_none_of_the_best_is_missing(
    seed: int,
    n_items: int,
    width: int,
    n_heads: int,
    kind: str,
    form: str,
    penalties: list[float],
    data: st.DataObject,
) -> None:
    heads = heads_of(seed, n_items, width, n_heads, kind, form)
    state_BD = torch.randn(len(penalties), width, dtype=torch.float64)
    penalty_B = torch.tensor(penalties, dtype=torch.float64)
    hidden_B = [data.draw(st.sets(st.integers(0, n_items - 1), max_size=n_items - 1)) for _ in penalties]
    k_B = [data.draw(st.integers(1, n_items - len(hidden))) for hidden in hidden_B]
    found = candidates(heads, state_BD, penalty_B, k_B, hidden_B)
    score_BN = by_float64(heads, state_BD, penalty_B)
    for item_M, score_N, k, hidden in zip(found, score_BN, k_B, hidden_B, strict=True):
        score_N[sorted(hidden)] = -torch.inf
        best = score_N.sort(descending=True, stable=True).indices[:k].tolist()
        assert set(best) <= set(item_M.tolist())
        assert not hidden & set(item_M.tolist()) and item_M.tolist() == sorted(item_M.tolist())


@pytest.mark.parametrize("form", ["full", "factored"])
def test_few_are_left(form: str) -> None:
    heads = heads_of(1, 20_000, 16, 5, "apart", form)
    state_BD, penalty_B = torch.randn(3, 16, dtype=torch.float64), torch.full((3,), 20.0).double()
    found = candidates(heads, state_BD, penalty_B, [20, 20, 1000], [set(), {1, 2}, set()])
    few, few_too, many = (len(item_M) for item_M in found)
    assert 20 <= few < 60 and 20 <= few_too < 60 and 1000 <= many < 2000
