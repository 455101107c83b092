"""On MDPs small enough to be solved: what the critics converge to, and what they make of what they have not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import valuerec as vr
from valuerec.experiments.analysis import expected_maximum, p_mul_maximum, p_sub_maximum
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


class Shared(OneHot):
    """A backbone whose states have features in common, as learned ones have: what one state teaches, others believe."""

    def __init__(self, n_items: int, width: int, seed: int) -> None:
        super().__init__(n_items, 1)
        features = np.abs(np.random.default_rng(seed).normal(size=(n_items + 1, width))).astype(np.float32)
        self.table = torch.from_numpy(features / np.linalg.norm(features, axis=1, keepdims=True))


class World:
    """A deterministic MDP: the action is the next state, the last item ends the session.

    `seen` pairs of state and action are logged. The others are neither better nor worse, but nobody is told.
    """

    def __init__(self, n_items: int, coverage: float, seed: int = 5) -> None:
        draw = np.random.default_rng(seed)
        self.n_items = n_items
        self.seen = draw.random((n_items, n_items)) < coverage
        self.reward = np.where(draw.random((n_items, n_items)) < 0.25, 1.0, 0.2)
        self.done = np.tile(np.arange(n_items) == n_items - 1, (n_items, 1))
        self.truth = self.true_values(DISCOUNT)

    def true_values(self, discount: float) -> np.ndarray:
        """Q*, states × actions, by value iteration."""
        truth = np.zeros((self.n_items, self.n_items))
        for _ in range(200):
            truth = self.reward + discount * np.where(self.done, 0.0, truth.max(axis=1)[None, :])
        return truth

    def batch(self) -> Batch:
        state, action = np.nonzero(self.seen)
        ones = torch.ones(len(state), dtype=torch.int32)
        return Batch(
            torch.from_numpy(state[:, None].astype(np.int32)), ones, torch.from_numpy(action),
            torch.from_numpy(self.reward[state, action].astype(np.float32)),
            torch.from_numpy(action[:, None].astype(np.int32)), ones, torch.from_numpy(self.done[state, action]),
        )  # fmt: skip

    def heads(self, network: Network) -> Tensor:
        """What each head says, states × actions × heads."""
        assert network.q_head is not None
        with torch.no_grad():
            state_SD = network.state(torch.arange(self.n_items)[:, None], torch.ones(self.n_items, dtype=torch.int32))
            weight_NKD, bias_NK = network.q_head.whole()
            return torch.einsum("nkd,sd->snk", weight_NKD.view(self.n_items, bias_NK.shape[1], -1), state_SD) + bias_NK

    def learned(self, network: Network) -> np.ndarray:
        """The mean of the heads, states × actions."""
        return self.heads(network).mean(dim=2).numpy()

    def expected(self, method: CriticMethod, network: Network) -> tuple[np.ndarray, np.ndarray]:
        """What the targets of logged pairs, once copied, expect of what comes next, and what it truly is worth."""
        batch = self.batch()
        live = ~batch.done_B
        y_B = method.goal(network, Target(network), batch, torch.full((method.heads,), 1 / method.heads)).y_B
        next_B = (y_B - batch.reward_B)[live] / method.discount
        return next_B.numpy(), self.truth.max(axis=1)[batch.action_B[live].numpy()]


def ours(method: CriticMethod, network: Network, batch: Batch, steps: int, rate: float = 0.01) -> None:
    target, optimiser = Target(network), Optimiser(network, rate)
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


def with_little_seen(method: CriticMethod, world: World, seed: int) -> Network:
    """What a method learns of a world of which 30 % is logged, with states that share their features."""
    torch.manual_seed(seed)
    network = method.network(lambda n_items, _: Shared(n_items, 8, 10 + seed), world.n_items, 1)
    ours(method, network, world.batch(), 250, rate=0.05)
    return network


HEADS, SEEDS = 10, (0, 1, 2)
SOME = {"discount": DISCOUNT, "target_every": 10}


def test_of_what_was_not_seen_plain_q_learning_expects_too_much_and_vpq_less(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the overestimation comes from: the maximum at s', and nothing else.

    Pairs that were not logged are worth what logged ones are, and fresh heads lie around zero: without a future (γ = 0)
    what was not seen is estimated right on average. With one, the maximum over 24 estimates picks those that err
    upwards, of actions that no reward ever corrects at s', and the shared features hand the error on to all actions.
    """
    methods = {
        "without a future": vr.SAC(double=False, discount=0.0, target_every=10),
        "plain": vr.SAC(double=False, **SOME),  # one head, the maximum by the target itself
        "rem": vr.REM(heads=HEADS, **SOME),  # VPQ without its penalty
        "vpq": vr.VPQ(heads=HEADS, penalty=1.0, **SOME),
    }
    unseen, logged, following = ({name: [] for name in methods} for _ in range(3))
    for seed in SEEDS:
        world = World(24, coverage=0.3, seed=seed)
        for name, method in methods.items():
            network = with_little_seen(method, world, seed)
            off = world.learned(network) - world.true_values(method.discount)
            unseen[name].append(float(off[~world.seen].mean()))
            logged[name].append(float(off[world.seen].mean()))
            if method.discount:
                expected, true = world.expected(method, network)
                following[name].append(float((expected - true).mean()))
    with capsys.disabled():
        print(f"\nMean of Q − Q* with 30 % of the pairs logged, seeds {SEEDS}:")
        for what, error in {"not logged": unseen, "logged": logged, "in the targets, of s'": following}.items():
            print(f"  {what}: " + "; ".join(f"{name} {np.round(each, 3).tolist()}" for name, each in error.items()))
    assert abs(np.mean(unseen["without a future"])) < 0.1
    for place in range(len(SEEDS)):
        assert unseen["plain"][place] > 0.1 + abs(unseen["without a future"][place])
        for error in (unseen, logged, following):
            assert error["plain"][place] > 0
            assert error["vpq"][place] < min(error["plain"][place], error["rem"][place]) - 0.2
    assert np.abs(unseen["vpq"]).mean() < np.mean(unseen["plain"]) - 0.1  # nor is as much too little expected instead


def test_at_equal_strength_minus_goes_below_what_can_be_and_vpq_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Section 2.1.3: p-sub risks negative values, p-mul keeps them positive "even with a large scale factor".

    Strength is what is taken off the largest of n unstable predictions N(μ, σ²): Minus gets the λ for which equation 6
    is equation 7, at the mean and the disagreement that REM's heads have of what was not seen. No true value is below
    0 here, so what is negative is certainly wrong.
    """
    shares, lowest, spreads = [], [], []
    for seed in SEEDS:
        world = World(24, coverage=0.3, seed=seed)
        q_UK = world.heads(with_little_seen(vr.REM(heads=HEADS, **SOME), world, seed))[torch.from_numpy(~world.seen)]
        mean_U, spread_U = q_UK.mean(dim=1), q_UK.std(dim=1, correction=0)
        here = (world.n_items, float(mean_U.mean()), float(spread_U.mean()))
        vpq = vr.VPQ(heads=HEADS, penalty=20.0, **SOME)
        equal = (expected_maximum(*here) - p_mul_maximum(*here, vpq.penalty)) / here[2]
        assert p_sub_maximum(*here, equal) == pytest.approx(p_mul_maximum(*here, vpq.penalty))
        minus = vr.Minus(heads=HEADS, penalty=equal, **SOME)

        sub_U, mul_U = (method.target_score(mean_U, spread_U) for method in (minus, vpq))
        assert (mul_U[mean_U >= 0] >= 0).all()
        shares.append([float((score_U[mean_U >= 0] < 0).float().mean()) for score_U in (sub_U, mul_U)])
        spreads.append([float(score_U.std()) for score_U in (mean_U, sub_U, mul_U)])
        lowest.append(
            [float(world.expected(each, with_little_seen(each, world, seed))[0].min()) for each in (minus, vpq)]
        )
    with capsys.disabled():
        print(f"\nMinus and VPQ (λ = 20) at equal strength, seeds {SEEDS}:")
        print(f"  share of unseen predictions of at least 0 made negative: {np.round(shares, 2).tolist()}")
        print(f"  spread of these predictions, bare, by Minus, by VPQ: {np.round(spreads, 2).tolist()}")
        print(f"  the least that a target expects of s' once learned: {np.round(lowest, 3).tolist()}")
    for (sub, mul), (bare, by_sub, by_mul) in zip(shares, spreads, strict=True):
        assert sub > 0.2 and mul == 0
        assert by_mul < bare / 4 and by_sub > bare / 2
    assert min(mul for _, mul in lowest) > 0 > min(sub for sub, _ in lowest)
