from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from valuerec.backbones import SASRec
from valuerec.errors import UsageError
from valuerec.methods import VPQ, Batch, Supervised
from valuerec.methods.base import Goal
from valuerec.network import Network
from valuerec.target import AnyTarget, Target
from valuerec.training.optimiser import Optimiser


def batch_of(n_items: int, rows: int = 12, window: int = 4) -> Batch:
    return Batch(
        state_BL=torch.randint(0, n_items, (rows, window), dtype=torch.int32),
        length_B=torch.full((rows,), window, dtype=torch.int32),
        action_B=torch.randint(0, n_items, (rows,)),
        reward_B=torch.where(torch.rand(rows) < 0.3, 1.0, 0.2),
        next_state_BL=torch.randint(0, n_items, (rows, window), dtype=torch.int32),
        next_length_B=torch.full((rows,), window, dtype=torch.int32),
        done_B=torch.rand(rows) < 0.3,
    )


@pytest.fixture
def world() -> tuple[Network, Target, Batch]:
    network = Network(SASRec(width=8, dropout=0.0), n_items=9, window=4, n_heads=5)
    assert network.q_head is not None
    with torch.no_grad():  # values as of a trained network: positive, heads apart
        network.q_head.bias_NK.uniform_(0, 1)
        network.q_head.weight.mul_(5)
        network.item_head.bias_N.normal_()
    target = Target(network)
    with torch.no_grad():
        target.q_head.weight.mul_(0.7)
        target.backbone.position.add_(0.1)
    return network, target, batch_of(9)


@pytest.mark.parametrize("penalty", [0.0, 20.0])
def test_losses_equal_a_float64_oracle_of_algorithm_1(world: tuple[Network, Target, Batch], penalty: float) -> None:
    network, target, batch = world
    assert network.q_head is not None
    method = VPQ(penalty=penalty, heads=5, discount=0.5)
    torch.manual_seed(7)
    mixture = method.mixture(torch.zeros(1)).double().numpy()
    torch.manual_seed(7)
    losses = method.losses(network, target, batch)

    def numbers(tensor: Tensor) -> np.ndarray:
        return tensor.detach().double().numpy()

    heads, frozen = network.q_head, target.q_head
    state = numbers(network.state(batch.state_BL, batch.length_B))
    next_state = numbers(target.backbone(batch.next_state_BL, batch.next_length_B))
    item_weight, item_bias = numbers(network.item_head.weight_ND), numbers(network.item_head.bias_N)
    td = actor = 0.0
    for b in range(12):
        best = -math.inf
        for a in range(9):
            q = numbers(frozen.weight_NKD)[a] @ next_state[b] + numbers(frozen.bias_NK)[a]
            weight = 1 / (1 + penalty * q.std())
            best = max(best, float(mixture @ q) * weight)
        y = float(batch.reward_B[b]) + (0.0 if batch.done_B[b] else 0.5 * best)
        action = int(batch.action_B[b])
        value = float(mixture @ (numbers(heads.weight_NKD)[action] @ state[b] + numbers(heads.bias_NK)[action]))
        logits = item_weight @ state[b] + item_bias
        cross_entropy = float(np.log(np.exp(logits).sum()) - logits[action])
        td += 0.5 * (y - value) ** 2 / 12
        actor += max(value, 0.0) * cross_entropy / 12
    assert float(losses.parts["td"]) == pytest.approx(td, rel=1e-5)
    assert float(losses.total) == pytest.approx(td + actor, rel=1e-5)


def test_equation_3_of_known_numbers() -> None:
    weight = VPQ(penalty=20.0).weight(torch.tensor([0.0, 0.05, 0.45]))
    torch.testing.assert_close(weight, torch.tensor([1.0, 0.5, 0.1]))


def test_no_gradient_reaches_the_target_or_flows_through_the_weight(world: tuple[Network, Target, Batch]) -> None:
    network, target, batch = world
    assert network.q_head is not None
    VPQ(heads=5).losses(network, target, batch).total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in target.parameters())
    # Equation 9 holds Q fixed: with the temporal difference at zero, nothing may reach the Q heads.
    network.zero_grad()

    class Satisfied(VPQ):
        def goal(self, network: Network, target: AnyTarget, batch: Batch, mixture_K: Tensor) -> Goal:
            assert network.q_head is not None
            state_BD = network.state(batch.state_BL, batch.length_B)
            y_B = (network.q_head.of(state_BD, batch.action_B) @ mixture_K).detach()
            return Goal(y_B, None, 0.0, 0)

    Satisfied(heads=5).losses(network, target, batch).total.backward()  # type: ignore[no-untyped-call]
    assert network.q_head.weight.grad is not None
    assert float(network.q_head.weight.grad.to_dense().abs().max()) == 0.0
    assert network.item_head.weight_ND.grad is not None and network.item_head.weight_ND.grad.abs().max() > 0


def test_only_the_logged_actions_heads_get_a_gradient_and_it_equals_the_dense_one(
    world: tuple[Network, Target, Batch],
) -> None:
    network, _, batch = world
    assert network.q_head is not None
    state_BD = torch.randn(12, 8)
    network.q_head.of(state_BD, batch.action_B).square().sum().backward()  # type: ignore[no-untyped-call]
    gradient = network.q_head.weight.grad
    assert gradient is not None and gradient.is_sparse
    assert set(gradient.coalesce().indices()[0].tolist()) == set(batch.action_B.tolist())
    dense = network.q_head.weight_NKD.detach().clone().requires_grad_()
    (torch.einsum("bd,nkd->bnk", state_BD, dense) + network.q_head.bias_NK.detach())[
        torch.arange(12), batch.action_B
    ].square().sum().backward()
    assert dense.grad is not None
    torch.testing.assert_close(gradient.to_dense().view_as(dense), dense.grad)


def test_a_negative_value_never_pushes_a_logged_item_away(world: tuple[Network, Target, Batch]) -> None:
    network, target, batch = world
    assert network.q_head is not None
    with torch.no_grad():
        network.q_head.bias_NK.sub_(10)
    floored, bare = VPQ(heads=5), VPQ(heads=5, floor=None)
    torch.manual_seed(1)
    with_floor = floored.losses(network, target, batch)
    torch.manual_seed(1)
    without = bare.losses(network, target, batch)
    assert float(with_floor.parts["floored"]) == 1.0 and float(without.parts["floored"]) == 0.0
    torch.testing.assert_close(with_floor.total.detach(), with_floor.parts["td"])
    assert without.total < without.parts["td"]


class OneHot(nn.Module):
    """A tabular backbone: the state is the last item and nothing else."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(n_items + 1))

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        table: Tensor = self.table  # type: ignore[assignment]
        return table[items_BL[torch.arange(len(items_BL)), length_B.long() - 1].long()]


def tabular(n_items: int) -> tuple[Batch, np.ndarray, np.ndarray]:
    """Every (state, action) of a deterministic MDP: the action is the next state, the last item ends the session."""
    draw = np.random.default_rng(5)
    reward = np.where(draw.random((n_items, n_items)) < 0.25, 1.0, 0.2)
    pairs = np.array([(s, a) for s in range(n_items) for a in range(n_items)])
    done = pairs[:, 1] == n_items - 1
    states, actions = torch.from_numpy(pairs[:, :1].astype(np.int32)), torch.from_numpy(pairs[:, 1])
    ones = torch.ones(len(pairs), dtype=torch.int32)
    rewards = torch.from_numpy(reward[pairs[:, 0], pairs[:, 1]].astype(np.float32))
    batch = Batch(states, ones, actions, rewards, actions.int().unsqueeze(1), ones, torch.from_numpy(done))
    return batch, reward, done.reshape(n_items, n_items)


def test_without_penalty_it_converges_to_the_true_q_on_a_fully_covered_mdp() -> None:
    n_items, discount = 6, 0.5
    batch, reward, done = tabular(n_items)
    truth = np.zeros((n_items, n_items))
    for _ in range(200):  # value iteration
        truth = reward + discount * np.where(done, 0.0, truth.max(axis=1)[None, :])
    method = VPQ(penalty=0.0, heads=4, discount=discount, target_every=25)
    network = Network(OneHot, n_items, 1, 4)
    target, optimiser = Target(network), Optimiser(network, 0.005)
    for step in range(1, 3001):
        optimiser.step(method.losses(network, target, batch).total)
        if step % method.target_every == 0:
            target.copy_from(network)
    assert network.q_head is not None
    state_BD = network.state(batch.state_BL, batch.length_B)
    learned = network.q_head.of(state_BD, batch.action_B).mean(dim=1).detach().numpy().reshape(n_items, n_items)
    np.testing.assert_allclose(learned, truth, atol=0.02)


def test_a_huge_penalty_regresses_on_the_immediate_reward(world: tuple[Network, Target, Batch]) -> None:
    network, target, batch = world
    goal = VPQ(penalty=1e9, heads=5).goal(network, target, batch, torch.full((5,), 0.2))
    torch.testing.assert_close(goal.y_B, batch.reward_B)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"penalty": -1.0}, "penalty"),
        ({"penalty": math.nan}, "penalty"),
        ({"heads": 0}, "heads"),
        ({"discount": 1.0}, "discount"),
        ({"discount": math.nan}, "discount"),
        ({"target_every": 0}, "target_every"),
        ({"floor": -0.1}, "floor"),
    ],
)
def test_wrong_values_fail_when_it_is_made(change: dict[str, float], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        replace(VPQ(), **change)  # type: ignore[arg-type]


def test_supervised_is_plain_cross_entropy(world: tuple[Network, Target, Batch]) -> None:
    network, _, batch = world
    logits_BN = network.item_head(network.state(batch.state_BL, batch.length_B))
    expected = nn.functional.cross_entropy(logits_BN, batch.action_B)
    torch.testing.assert_close(Supervised().losses(network, None, batch).total, expected)
