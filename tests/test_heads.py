from __future__ import annotations

import pytest
import torch

from valuerec.heads import ItemHead, QEnsemble
from valuerec.methods import VPQ


@pytest.mark.parametrize(("n_items", "published"), [(26_702, 0.75), (70_852, 0.83)])
def test_the_first_mean_weight_is_the_published_one(n_items: int, published: float) -> None:
    """The protocol: mean W at λ = 20 starts at about .75 to .83 with a fan-out of N·K (the two catalogues' sizes)."""
    state_BD = torch.nn.functional.layer_norm(torch.randn(32, 64), (64,))
    some_NKD = QEnsemble(n_items, 64, 15).weight_NKD[:1000]
    spread = torch.einsum("bd,nkd->bnk", state_BD, some_NKD).std(dim=2, correction=0)
    assert VPQ(penalty=20.0).weight(spread).mean().item() == pytest.approx(published, abs=0.01)


def test_torchs_default_would_start_elsewhere() -> None:
    """The protocol: about .09, so the initialisation matters."""
    state_BD = torch.nn.functional.layer_norm(torch.randn(32, 64), (64,))
    spread = torch.nn.Linear(64, 1000 * 15)(state_BD).view(32, 1000, 15).std(dim=2, correction=0)
    assert VPQ(penalty=20.0).weight(spread).mean().item() == pytest.approx(0.09, abs=0.01)


def test_one_item_many_items_and_all_items_agree() -> None:
    heads, state_BD = QEnsemble(7, 4, 3), torch.randn(5, 4)
    torch.nn.init.normal_(heads.bias_NK)
    all_BNK = torch.einsum("bd,nkd->bnk", state_BD, heads.weight_NKD) + heads.bias_NK
    item_B = torch.tensor([0, 6, 3, 3, 1])
    torch.testing.assert_close(heads.of(state_BD, item_B), all_BNK[torch.arange(5), item_B])
    torch.testing.assert_close(heads.of_each(state_BD, item_B.expand(5, 5)), all_BNK[:, item_B])


def test_the_item_head_starts_xavier_uniform_without_bias() -> None:
    head = ItemHead(500, 64)
    assert head.bias_N.abs().max() == 0
    assert 0.95 < head.weight_ND.abs().max().item() / (6 / 564) ** 0.5 <= 1
