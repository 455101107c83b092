"""On MDPs small enough to be solved: what the critics converge to, and what they make of what they have not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import valuerec as vr
from valuerec.methods import Batch, CriticMethod
from valuerec.network import Network
from valuerec.target import Pair, Target
from valuerec.training.optimiser import Optimiser

DISCOUNT = 0.5


class OneHot(nn.Module):
    """A tabular backbone: the state is the last item and nothing else."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(n_items + 1))

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        table: Tensor = self.table  # type: ignore[assignment]
        return table[items_BL[torch.arange(len(items_BL)), length_B.long() - 1].long()]


class World:
    """A deterministic MDP: the action is the next state, the last item ends the session.

    `seen` pairs of state and action are logged; all others earn nothing and end the session, which nobody is told.
    """

    def __init__(self, n_items: int, coverage: float) -> None:
        draw = np.random.default_rng(5)
        self.n_items = n_items
        self.seen = draw.random((n_items, n_items)) < coverage
        self.reward = np.where(draw.random((n_items, n_items)) < 0.25, 1.0, 0.2) * self.seen
        self.done = np.tile(np.arange(n_items) == n_items - 1, (n_items, 1)) | ~self.seen
        self.truth = np.zeros((n_items, n_items))
        for _ in range(200):  # value iteration
            self.truth = self.reward + DISCOUNT * np.where(self.done, 0.0, self.truth.max(axis=1)[None, :])

    def batch(self) -> Batch:
        state, action = np.nonzero(self.seen)
        ones = torch.ones(len(state), dtype=torch.int32)
        return Batch(
            torch.from_numpy(state[:, None].astype(np.int32)), ones, torch.from_numpy(action),
            torch.from_numpy(self.reward[state, action].astype(np.float32)),
            torch.from_numpy(action[:, None].astype(np.int32)), ones, torch.from_numpy(self.done[state, action]),
        )  # fmt: skip

    def learned(self, network: Network) -> np.ndarray:
        """The mean of the heads, states × actions."""
        assert network.q_head is not None
        with torch.no_grad():
            weight_ND, bias_N = network.q_head.mean()
            return (torch.eye(self.n_items + 1) @ weight_ND.t() + bias_N).numpy()[: self.n_items]


def ours(method: CriticMethod, network: Network, batch: Batch, steps: int) -> None:
    target, optimiser = Target(network), Optimiser(network, 0.01)
    for step in range(1, steps + 1):
        optimiser.step(method.losses(network, target, batch).total)
        if step % method.target_every == 0:
            target.copy_from(network)


def released(method: CriticMethod, network: Network, batch: Batch, steps: int) -> None:
    networks = (network, method.network(OneHot, network.n_items, 1))
    pair, optimisers = Pair(*networks), [Optimiser(each, 0.01) for each in networks]
    for step in range(2 * steps):
        optimisers[step % 2].step(method.losses(networks[step % 2], pair, batch).total)


METHODS = [vr.SAC, vr.REM, vr.VPQ, vr.Minus]


@pytest.mark.parametrize("learn", [ours, released])
@pytest.mark.parametrize("kind", METHODS)
def test_with_full_coverage_and_no_penalty_they_converge_to_the_true_q(
    kind: type[CriticMethod], learn: Callable[[CriticMethod, Network, Batch, int], None]
) -> None:
    world = World(6, coverage=1.0)
    options = {vr.SAC: {}, vr.REM: {"heads": 4}}.get(kind, {"heads": 4, "penalty": 0.0})
    method = kind(discount=DISCOUNT, target_every=25, **options)
    network = method.network(OneHot, world.n_items, 1)
    learn(method, network, world.batch(), 1500)
    np.testing.assert_allclose(world.learned(network), world.truth, atol=0.02)


def test_of_what_was_not_seen_q_learning_expects_too_much_and_the_penalties_less(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Minus gets the λ with which it takes as much as VPQ does where value and spread are as in a fresh network."""
    world, heads, spread = World(12, coverage=0.3), 10, 0.6
    strong = vr.VPQ(discount=DISCOUNT, heads=heads, penalty=5.0, target_every=25)
    equal = 1.0 * (1 - 1 / (1 + strong.penalty * spread)) / spread  # 1 − λσ = 1 / (1 + 5σ), at a value of 1
    error = {}
    for method in (
        vr.REM(discount=DISCOUNT, heads=heads, target_every=25),
        vr.Minus(discount=DISCOUNT, heads=heads, penalty=equal, target_every=25),
        strong,
    ):
        torch.manual_seed(3)
        network = method.network(OneHot, world.n_items, 1)
        assert network.q_head is not None
        with torch.no_grad():  # heads that expect something of everything, and disagree
            network.q_head.weight.normal_(0.5, spread)
        ours(method, network, world.batch(), 2000)
        off = world.learned(network) - world.truth
        error[method.name] = {
            "logged": round(float(off[world.seen].mean()), 3),
            "others": round(float(off[~world.seen].mean()), 3),
        }
    with capsys.disabled():
        print(f"\nMean error of the values, {world.seen.mean():.0%} of the actions logged: {error}")
    assert error["rem"]["logged"] > 0.05
    for penalised in ("minus", "vpq"):
        assert abs(error[penalised]["logged"]) < error["rem"]["logged"]
        assert error[penalised]["others"] < error["rem"]["others"]
