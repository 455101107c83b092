"""Every method's loss and gradient against the oracle: values to 1e-9, derivatives by finite differences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from methods import oracle
from valuerec.methods import METHODS, Batch, CriticMethod, Method
from valuerec.network import Network
from valuerec.ops import Engine, native
from valuerec.target import Pair, Target

N, D, K, B = 5, 3, 3, 6

CASES: dict[str, dict[str, Any]] = {
    "supervised": {},
    "reward-weighted": {},
    "return-weighted": {},
    "sac": {},
    "sac single": {"double": False},
    "rem": {},
    "minus": {},
    "cql": {},
    "cql ensemble": {"heads": K},
    "uwac": {"beta": 0.05},
    "uwac released": {"beta": 0.05, "form": "released"},
    "vpq": {},
    "vpq unpenalised": {"penalty": 0.0},
    "sarsa": {},
    "shuffled": {},
    "immediate": {"discount": 0.0},
}


class LastItem(nn.Module):
    """The state is a row of a table, named by the last item."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(n_items + 1, D))

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        return self.table[items_BL[torch.arange(len(items_BL)), length_B.long() - 1].long()]


def method_of(case: str, **options: Any) -> Method:
    kind = METHODS[case.split()[0]]
    names = {field.name for field in dataclasses.fields(kind)}
    given_ = {"heads": K, **options} | CASES[case]
    if case in ("sac", "sac single", "cql"):
        given_["heads"] = 1
    return kind(**{name: value for name, value in given_.items() if name in names})


def network_of(method: Method, engine: Engine, scale: float) -> Network:
    network = method.network(LastItem, N, 2, engine).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=scale)
    return network


def numbers(network: nn.Module) -> dict[str, np.ndarray]:
    """What the oracle knows of a network, or of a target."""
    made = {"table": network.backbone.table}
    if isinstance(network, Network):
        made |= {"item": network.item_head.weight_ND, "item_bias": network.item_head.bias_N}
    if network.q_head is not None:
        made |= {"q": network.q_head.weight_NKD, "q_bias": network.q_head.bias_NK}
    return {name: value.detach().numpy().copy() for name, value in made.items()}


def rows_of(draw: np.random.Generator, least_reward: float) -> list[oracle.Row]:
    rewards = draw.choice([least_reward, 0.2, 1.0], B)
    item = draw.integers(0, N, (3, B))
    done = draw.random(B) < draw.choice([0.0, 0.3, 1.0])
    return [
        oracle.Row(int(draw.integers(0, N + 1)), int(item[0, b]), float(rewards[b]), int(item[1, b]), bool(done[b]),
                   int(item[2, b]), float(draw.normal()))
        for b in range(B)
    ]  # fmt: skip


def batch_of(rows: list[oracle.Row]) -> Batch:
    def column(name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([getattr(row, name) for row in rows], dtype=dtype)

    twos = torch.full((B,), 2, dtype=torch.int32)
    other_B1 = torch.zeros(B, 1, dtype=torch.int32)
    return Batch(
        torch.cat([other_B1, column("state", torch.int32).unsqueeze(1)], dim=1),
        twos,
        column("action", torch.int64),
        column("reward", torch.float64),
        torch.cat([other_B1, column("next_state", torch.int32).unsqueeze(1)], dim=1),
        twos,
        column("done", torch.bool),
        column("next_action", torch.int64),
        column("logged_return", torch.float64),
    )


def drawn(method: Method, seed: int, dtype: torch.dtype = torch.float64) -> oracle.Draws:
    """What the step will draw from the same seed."""
    torch.manual_seed(seed)
    heads = method.n_heads
    alpha = torch.rand(heads, dtype=dtype) if heads > 1 else torch.ones(1, dtype=dtype)
    return oracle.Draws((alpha / alpha.sum()).numpy(), torch.randperm(B).tolist())


@pytest.mark.parametrize("engine", ["tiled", "plain"])
@pytest.mark.parametrize("released", [False, True], ids=["ours", "released"])
@pytest.mark.parametrize("case", list(CASES))
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([0.1, 0.7, 1.5]),
    least_reward=st.sampled_from([0.0, 0.2, -0.5]),
    penalty=st.floats(0, 20),
    discount=st.floats(0, 0.99),
    floor=st.sampled_from([0.0, 0.3, 3.0, None]),
    use=st.sampled_from(["reinforce", "reinforce", "auxiliary", "off"]),
    warm_up=st.sampled_from([0, 3]),
)
def test_loss_and_gradient_equal_the_oracles(
    case: str, released: bool, engine: Engine, seed: int, scale: float, least_reward: float, **options: Any
) -> None:
    options["critic"] = options.pop("use")
    method = method_of(case, **options)
    name, chosen = method.name, dataclasses.asdict(method)
    torch.manual_seed(seed)
    network, other = network_of(method, engine, scale), network_of(method, engine, scale)
    critic = method.n_heads > 0
    target: Target | Pair | None = None
    if critic:
        target = Pair(network, other) if released else Target(other)
    rows, draws = rows_of(np.random.default_rng(seed), least_reward), drawn(method, seed)
    torch.manual_seed(seed)
    losses = method.losses(network, target, batch_of(rows), step=2)
    losses.total.backward()  # type: ignore[no-untyped-call]
    fixed, frozen = numbers(network), numbers(other) if critic else None

    def objective(theta: dict[str, np.ndarray]) -> float:
        return oracle.objective(name, chosen, theta, fixed, frozen, rows, draws, released, step=2)

    assert float(losses.total.detach()) == pytest.approx(objective(fixed), rel=1e-9, abs=1e-9)
    gradients = {
        "table": network.backbone.table.grad,
        "item": network.item_head.weight_ND.grad,
        "item_bias": network.item_head.bias_N.grad,
    }
    if network.q_head is not None:
        gradients |= {"q": network.q_head.weight.grad, "q_bias": network.q_head.bias_NK.grad}
    draw = np.random.default_rng(seed + 1)
    for part, gradient in gradients.items():
        assert gradient is not None
        direction = draw.normal(size=fixed[part].shape)
        ends = [objective(fixed | {part: fixed[part] + sign * 1e-5 * direction}) for sign in (1, -1)]
        along = float((gradient.to_dense().numpy().reshape(direction.shape) * direction).sum())
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6), part
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")
@pytest.mark.parametrize("released", [False, True], ids=["ours", "released"])
@pytest.mark.parametrize("case", list(CASES))
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([0.1, 0.7]),
    penalty=st.floats(0, 20),
    floor=st.sampled_from([0.0, 0.3, 3.0, None]),
    warm_up=st.sampled_from([0, 3]),
)
def test_with_the_kernels_they_equal_the_oracles_but_for_rounding(
    case: str, released: bool, seed: int, scale: float, **options: Any
) -> None:
    """The native cross-entropy is that of states and weights rounded to bfloat16; all else is float32."""
    method = method_of(case, **options)
    name, chosen = method.name, dataclasses.asdict(method)
    torch.manual_seed(seed)
    network, other = (network_of(method, "native", scale).float() for _ in range(2))
    critic = method.n_heads > 0
    target = (Pair(network, other) if released else Target(other)) if critic else None
    rows, draws = rows_of(np.random.default_rng(seed), 0.2), drawn(method, seed, torch.float32)
    torch.manual_seed(seed)
    batch = batch_of(rows)
    batch = batch._replace(reward_B=batch.reward_B.float(), return_B=batch.return_B.float())
    losses = method.losses(network, target, batch, step=2)
    losses.total.backward()  # type: ignore[no-untyped-call]
    fixed, frozen = numbers(network), numbers(other) if critic else None

    def objective(theta: dict[str, np.ndarray]) -> float:
        return oracle.objective(name, chosen, theta, fixed, frozen, rows, draws, released, step=2)

    assert float(losses.total.detach()) == pytest.approx(objective(fixed), rel=0.01, abs=0.01)
    gradients = {"table": network.backbone.table.grad, "item": network.item_head.weight_ND.grad}
    if network.q_head is not None:
        gradients["q"] = network.q_head.weight.grad
    for part, gradient in gradients.items():
        assert gradient is not None
        found = gradient.to_dense().double().numpy().reshape(fixed[part].shape)
        for place in np.ndindex(found.shape):
            step = np.zeros_like(found)
            step[place] = 1e-4
            ends = [objective(fixed | {part: fixed[part] + sign * step}) for sign in (1, -1)]
            assert found[place] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=0.03, abs=0.005), (part, place)


@pytest.mark.parametrize("case", [case for case in CASES if issubclass(METHODS[case.split()[0]], CriticMethod)])
def test_what_is_logged_is_what_was_learned_from(case: str) -> None:
    method = method_of(case, floor=0.3)
    assert isinstance(method, CriticMethod)
    network, other = network_of(method, "tiled", 0.7), network_of(method, "tiled", 0.7)
    rows, draws = rows_of(np.random.default_rng(0), 0.2), drawn(method, 5)
    torch.manual_seed(5)
    losses = method.losses(network, Target(other), batch_of(rows))
    fixed, frozen, options = numbers(network), numbers(other), dataclasses.asdict(method)
    q_BK = np.array([oracle.heads(fixed, row.state, row.action) for row in rows])
    assert losses.q_BK is not None
    np.testing.assert_allclose(losses.q_BK.numpy(), q_BK)
    weights = oracle.actor_weights(method.name, options, fixed, rows, draws, 0)

    def goal(row: oracle.Row) -> float:
        value, _ = oracle.follow(method.name, options, fixed, frozen, row, draws.alpha, released=False)
        return row.reward + (0.0 if row.done else method.discount * value)

    parts = {name: float(value) for name, value in losses.parts.items()}
    assert parts["q"] == pytest.approx((q_BK @ draws.alpha).mean())
    assert parts["target"] == pytest.approx(np.mean([goal(row) for row in rows]))
    assert parts["floored"] == pytest.approx(np.mean(np.array(weights) < 0.3))
    plain = np.mean([oracle.cross_entropy(fixed, row.state, row.action) for row in rows])
    assert parts["cross_entropy"] == pytest.approx(plain)
