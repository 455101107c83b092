from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.ops import LinearHead


def by_float64(state_BD: torch.Tensor, weight_ND: torch.Tensor, bias_N: torch.Tensor, k: int) -> list[list[int]]:
    """The full scan, row by row so that equal items have equal scores."""
    score_BN = (
        np.array([[(w * s).sum() for w in weight_ND.double().numpy()] for s in state_BD.double().numpy()])
        + bias_N.double().numpy()
    )
    return [sorted(range(len(row)), key=lambda item: (-row[item], item))[:k] for row in score_BN]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_items=st.integers(1, 90),
    width=st.integers(1, 20),
    k=st.integers(1, 90),
    kind=st.sampled_from(["apart", "close", "few values", "equal"]),
)
def test_it_is_the_full_scan_in_float64(seed: int, n_items: int, width: int, k: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight_ND = torch.randn(n_items, width, generator=generator)
    if kind == "close":
        weight_ND = weight_ND[:1] + 1e-7 * weight_ND
    elif kind == "few values":
        weight_ND = weight_ND[torch.randint(0, 2, (n_items,), generator=generator) % n_items]
    elif kind == "equal":
        weight_ND = weight_ND[:1].expand(n_items, -1).clone()
    bias_N = torch.zeros(n_items)
    state_BD = torch.randn(3, width, generator=generator, dtype=torch.float64)
    head = LinearHead(weight_ND, bias_N)
    best = head.top(state_BD, head.screen(state_BD), min(k, n_items))
    assert best.item_Bk.tolist() == by_float64(state_BD, weight_ND, bias_N, min(k, n_items))


def test_the_bound_holds_and_is_not_idle() -> None:
    weight_ND, bias_N = torch.randn(2000, 64), torch.randn(2000)
    state_BD = torch.randn(8, 64, dtype=torch.float64) * torch.logspace(-3, 3, 8, dtype=torch.float64)[:, None]
    head = LinearHead(weight_ND, bias_N)
    item_BN = torch.arange(2000).expand(8, -1)
    off_B = (head.screen(state_BD).double() - head.exact(state_BD, item_BN)).abs().amax(dim=1)
    assert (off_B <= head.error(state_BD)).all()
    assert (off_B > head.error(state_BD) / 1000).all()


def test_what_is_ruled_out_is_not_chosen_and_a_row_may_have_too_few() -> None:
    head = LinearHead(torch.randn(40, 4), torch.zeros(40))
    state_BD = torch.randn(2, 4, dtype=torch.float64)
    score_BN = head.screen(state_BD)
    score_BN[0, 3:] = -torch.inf
    best = head.top(state_BD, score_BN, 5)
    assert sorted(best.item_Bk[0, :3].tolist()) == [0, 1, 2]
    assert best.score_Bk[0, 3:].tolist() == [-torch.inf] * 2
    assert best.score_Bk.isfinite()[1].all()
