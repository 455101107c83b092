from __future__ import annotations

import pytest
import torch

from valuerec import ops
from valuerec.heads import FactoredHeads, FullHeads, ItemHead
from valuerec.methods import VPQ


@pytest.mark.parametrize(("n_items", "published"), [(26_702, 0.75), (70_852, 0.83)])
def test_the_first_mean_weight_is_the_published_one(n_items: int, published: float) -> None:
    """The protocol: mean W at λ = 20 starts at about .75 to .83 with a fan-out of N·K (the two catalogues' sizes)."""
    state_BD = torch.nn.functional.layer_norm(torch.randn(32, 64), (64,))
    some_NKD = FullHeads(n_items, 64, 15).weight_NKD[:1000]
    spread = torch.einsum("bd,nkd->bnk", state_BD, some_NKD).std(dim=2, correction=0)
    assert VPQ(penalty=20.0).weight(spread).mean().item() == pytest.approx(published, abs=0.01)


def test_torchs_default_would_start_elsewhere() -> None:
    """The protocol: about .09, so the initialisation matters."""
    state_BD = torch.nn.functional.layer_norm(torch.randn(32, 64), (64,))
    spread = torch.nn.Linear(64, 1000 * 15)(state_BD).view(32, 1000, 15).std(dim=2, correction=0)
    assert VPQ(penalty=20.0).weight(spread).mean().item() == pytest.approx(0.09, abs=0.01)


def test_one_item_many_items_and_all_items_agree() -> None:
    heads, state_BD = FullHeads(7, 4, 3), torch.randn(5, 4)
    torch.nn.init.normal_(heads.bias_NK)
    all_BNK = torch.einsum("bd,nkd->bnk", state_BD, heads.weight_NKD) + heads.bias_NK
    item_B = torch.tensor([0, 6, 3, 3, 1])
    torch.testing.assert_close(heads.of(state_BD, item_B), all_BNK[torch.arange(5), item_B])
    torch.testing.assert_close(heads.of_each(state_BD, item_B.expand(5, 5)), all_BNK[:, item_B])


def test_the_item_head_starts_xavier_uniform_without_bias() -> None:
    head = ItemHead(500, 64)
    assert head.bias_N.abs().max() == 0
    assert 0.95 < head.weight_ND.abs().max().item() / (6 / 564) ** 0.5 <= 1


def test_factored_heads_equal_the_full_heads_they_stand_for() -> None:
    heads, state_BD = FactoredHeads(7, 4, 3), torch.randn(5, 4)
    with torch.no_grad():
        heads.bias_N1.normal_()
    weight_NKD, bias_NK = heads.whole()
    q_BNK = torch.einsum("bd,nkd->bnk", state_BD, weight_NKD) + bias_NK
    every_BM = torch.arange(7).expand(5, 7)
    torch.testing.assert_close(heads.of_each(state_BD, every_BM), q_BNK)
    torch.testing.assert_close(heads.of(state_BD, torch.arange(5)), q_BNK[torch.arange(5), torch.arange(5)])
    mixture_K = torch.tensor([0.2, 0.3, 0.5])
    score = VPQ(heads=3).target_score
    with torch.no_grad():
        value_B, item_B = ops.tiled_maximum(heads.tiles(state_BD), mixture_K, score, tile=2)
        plain_B, plain_item_B = ops.plain_maximum(state_BD, weight_NKD, bias_NK, mixture_K, score)
    torch.testing.assert_close(value_B, plain_B)
    assert torch.equal(item_B, plain_item_B)


def test_fresh_factored_heads_begin_with_the_values_of_fresh_full_heads() -> None:
    state_BD = torch.randn(64, 64)
    spreads = []
    for kind in (FullHeads, FactoredHeads):
        q_BMK = kind(2000, 64, 15).of_each(state_BD, torch.arange(500).expand(64, 500))
        spreads.append(float(q_BMK.std(dim=2, correction=0).mean()))
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1)


@pytest.mark.parametrize("kind", [FullHeads, FactoredHeads])
def test_the_gradients_of_item_tables_are_sparse(kind: type[FullHeads | FactoredHeads]) -> None:
    heads = kind(9, 4, 3)
    heads.of(torch.randn(5, 4), torch.tensor([1, 1, 3, 4, 8])).sum().backward()  # type: ignore[no-untyped-call]
    for table in heads.tables():
        assert table.grad is not None and table.grad.is_sparse
        assert set(table.grad.coalesce().indices()[0].tolist()) == {1, 3, 4, 8}


@pytest.mark.parametrize("n_heads", [1, 3])
@pytest.mark.parametrize("kind", [FullHeads, FactoredHeads])
def test_linear_heads_mix_into_a_linear_head(kind: type[FullHeads | FactoredHeads], n_heads: int) -> None:
    heads, state_BD = kind(7, 4, n_heads), torch.randn(5, 4)
    with torch.no_grad():
        list(heads.tables())[1].normal_()
    q_BNK = heads.of_each(state_BD, torch.arange(7).expand(5, 7))
    mixture_K = torch.tensor([0.2, 0.3, 0.5])[:n_heads] if n_heads > 1 else torch.ones(1)
    weight_ND, bias_N = heads.mixed(mixture_K)
    torch.testing.assert_close(state_BD @ weight_ND.t() + bias_N, q_BNK @ mixture_K)
    weight_ND, bias_N = heads.mean()
    torch.testing.assert_close(state_BD @ weight_ND.t() + bias_N, q_BNK.mean(dim=2))


@pytest.mark.parametrize("kind", [FullHeads, FactoredHeads])
def test_heads_that_a_loss_reaches_everywhere_have_dense_gradients_and_no_tables(
    kind: type[FullHeads | FactoredHeads],
) -> None:
    heads = kind(9, 4, 3, sparse=False)
    heads.of(torch.randn(5, 4), torch.tensor([1, 1, 3, 4, 8])).sum().backward()  # type: ignore[no-untyped-call]
    assert heads.tables() == [] and not any(each.grad is None or each.grad.is_sparse for each in heads.parameters())
