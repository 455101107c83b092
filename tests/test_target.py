"""The target's view of s': who chooses, who judges, and what may be kept between two searches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from valuerec import ops
from valuerec.backbones import SASRec
from valuerec.network import Network
from valuerec.ops import ENGINES, native
from valuerec.target import Pair, Search, Target, rows_that_differ

N, K = 40, 5
ITEMS_BL, LENGTH_B = torch.randint(0, N, (16, 4), dtype=torch.int32), torch.full((16,), 4, dtype=torch.int32)
P_MUL, MIXTURE = ops.Penalty("p-mul", 3.0), ops.Penalty("p-mul", 0.0)


def network_of(dropout: float = 0.0, heads: int = K, engine: ops.Engine = "tiled") -> Network:
    network = Network(SASRec(width=8, dropout=dropout), N, 4, heads, engine=engine)
    disturb(network, torch.arange(N))
    return network


@torch.no_grad()
def disturb(network: Network, items: Tensor) -> None:
    """Give some items values as of a trained network: positive, heads apart."""
    assert network.q_head is not None
    network.q_head.weight[items] += 0.3 * torch.randn(len(items), network.q_head.weight.shape[1])  # type: ignore[union-attr, operator]
    network.q_head.bias_NK[items] += torch.rand(len(items), network.q_head.n_heads)  # type: ignore[union-attr, operator]


def plain(network: Network | Target, mixture_K: Tensor, penalty: ops.Penalty) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        state_BD = network.backbone(ITEMS_BL, LENGTH_B)
        return ops.plain_maximum(state_BD, *network.q_head.whole(), mixture_K, penalty)


def alpha() -> Tensor:
    draw_K = torch.rand(K)
    return draw_K / draw_K.sum()


@pytest.mark.parametrize("penalty", [P_MUL, MIXTURE])
def test_a_frozen_copy_chooses_and_judges(penalty: ops.Penalty) -> None:
    network, frozen = network_of(), network_of()
    target, alpha_K = Target(frozen), alpha()
    best = target.look(network, ITEMS_BL, LENGTH_B).best(alpha_K, penalty, penalty)
    value_B, item_B = plain(target, alpha_K, penalty)
    torch.testing.assert_close(best.value_B, value_B)
    assert torch.equal(best.item_B, item_B)


@pytest.mark.parametrize("make", [lambda network, other: Target(other), Pair])
def test_in_double_q_learning_the_trained_network_chooses_and_the_target_judges(
    make: Callable[[Network, Network], Target | Pair],
) -> None:
    network, other, alpha_K = network_of(), network_of(), alpha()
    view = make(network, other).look(network, ITEMS_BL, LENGTH_B)
    best = view.best(alpha_K, P_MUL, P_MUL, double=True)
    _, chosen_B = plain(network, torch.full((K,), 1 / K), P_MUL)
    assert torch.equal(best.item_B, chosen_B)
    q_BK = other.q_head.of(other.backbone(ITEMS_BL, LENGTH_B), chosen_B)
    torch.testing.assert_close(best.value_B, P_MUL(q_BK @ alpha_K, q_BK.std(dim=1, correction=0)))
    torch.testing.assert_close(view.of(chosen_B), q_BK.detach())


def test_each_of_a_pair_is_the_others_target() -> None:
    pair = Pair(network_of(), network_of())
    for main, other in (pair.networks, pair.networks[::-1]):
        view = pair.look(main, ITEMS_BL, LENGTH_B)
        value_B, _ = plain(other, alpha_K := alpha(), P_MUL)
        torch.testing.assert_close(view.best(alpha_K, P_MUL, P_MUL, double=False).value_B, value_B)


def test_dropout_is_off_in_a_frozen_copys_view_and_on_in_a_pairs() -> None:
    network, other = network_of(dropout=0.5).train(), network_of(dropout=0.5).train()

    def states(target: Target | Pair, chooser: bool) -> Tensor:
        view = target.look(network, ITEMS_BL, LENGTH_B)
        return view.chooser().state_RD if chooser else view.judge.state_RD

    for chooser in (False, True):
        target, pair = Target(other), Pair(network, other)
        assert torch.equal(states(target, chooser), states(target, chooser))
        assert not torch.equal(states(pair, chooser), states(pair, chooser))
    assert network.training and other.training


def test_a_copy_takes_over_what_changed_and_knows_which_rows_those_are() -> None:
    network = network_of()
    target = Target(network)
    some = torch.tensor([3, 7, 39])
    disturb(network, some)
    assert network.q_head is not None
    assert torch.equal(rows_that_differ(target.q_head, dict(network.q_head.named_parameters())), some)
    target.copy_from(network)
    for name, own in target.q_head.named_parameters():
        assert torch.equal(own, dict(network.q_head.named_parameters())[name])
    assert len(rows_that_differ(target.q_head, dict(network.q_head.named_parameters()))) == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("penalty", [P_MUL, MIXTURE])
@pytest.mark.parametrize("heads", [K, 1])
def test_a_search_follows_the_rows_that_change(engine: ops.Engine, penalty: ops.Penalty, heads: int) -> None:
    if engine == "native" and native.why_not():
        pytest.skip("no compiled kernels here")
    network = network_of(heads=heads, engine=engine)
    assert network.q_head is not None
    search = Search(network.q_head, engine)
    alpha_K = alpha() if heads > 1 else torch.ones(1)
    with torch.no_grad():
        state_BD = network.state(ITEMS_BL, LENGTH_B)
    for step in range(6):
        found = search.best(state_BD, alpha_K, penalty, penalty)
        value_B, item_B = plain(network, alpha_K, penalty)
        torch.testing.assert_close(found.value_B, value_B)
        assert torch.equal(found.item_B, item_B)
        some = torch.randperm(N)[:9]
        disturb(network, some)
        search.replaced(some) if step == 3 else search.changed(some)


def test_a_loaded_target_searches_what_it_loaded() -> None:
    if native.why_not():
        pytest.skip("no compiled kernels here")
    network = network_of(engine="native")
    target, other, alpha_K = Target(network), Target(network), alpha()
    disturb(network, torch.arange(0, N, 3))
    other.copy_from(network)
    target.load_state_dict(other.state_dict())
    for each in (target, other):
        best = each.look(network, ITEMS_BL, LENGTH_B).best(alpha_K, P_MUL, P_MUL)
        torch.testing.assert_close(best.value_B, plain(network, alpha_K, P_MUL)[0])
    first, second = (each.look(network, ITEMS_BL, LENGTH_B).best(alpha_K, P_MUL, P_MUL) for each in (target, other))
    assert first.scored == second.scored  # the sketches are alike, so a resumed run searches alike
