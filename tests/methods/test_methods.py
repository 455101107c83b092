"""What the configurations of the methods promise and refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import valuerec as vr
from valuerec.dataset import Rewards
from valuerec.errors import UsageError
from valuerec.methods import METHODS, CriticMethod, Method
from valuerec.training import TrainConfig

CONTROLS = {"reward-weighted", "return-weighted", "sarsa", "shuffled", "immediate"}


def test_the_paper_has_seven_methods_and_the_rest_are_controls() -> None:
    paper = [name for name, method in METHODS.items() if not method.control]
    assert paper == ["supervised", "sac", "rem", "minus", "cql", "uwac", "vpq"]
    assert {name for name, method in METHODS.items() if method.control} == CONTROLS
    listed = {entry["name"]: entry for entry in vr.methods()}
    assert list(listed) == list(METHODS)
    assert all(entry["control"] == (name in CONTROLS) for name, entry in listed.items())
    assert all(entry["summary"].endswith(".") and entry["source"] for entry in listed.values())


def test_every_class_is_at_the_top_of_the_package() -> None:
    for method in METHODS.values():
        assert getattr(vr, method.__name__) is method and method.__name__ in vr.__all__


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *((vr.VPQ, {"penalty": value}) for value in (-1.0, math.nan)),
        *((vr.VPQ, {"discount": value}) for value in (1.0, -0.1, math.nan)),
        (vr.VPQ, {"heads": 0}),
        *((kind, {"heads": 1}) for kind in (vr.VPQ, vr.Minus, vr.UWAC, vr.Shuffled)),
        (vr.VPQ, {"target_every": 0}),
        (vr.VPQ, {"floor": -0.1}),
        (vr.VPQ, {"floor": math.nan}),
        (vr.VPQ, {"ensemble": "half"}),
        (vr.VPQ, {"critic": "on"}),
        (vr.VPQ, {"warm_up": -1}),
        (vr.VPQ, {"recommend": "clicks"}),
        (vr.Minus, {"penalty": math.inf}),
        (vr.SAC, {"heads": 2}),
        (vr.CQL, {"weight": -0.1}),
        (vr.UWAC, {"beta": 0.0}),
        (vr.UWAC, {"clip": -1.5}),
        (vr.UWAC, {"form": "new"}),
        (vr.ReturnWeighted, {"discount": 1.0}),
        (vr.RewardWeighted, {"floor": -1.0}),
    ],
)
def test_wrong_values_fail_when_it_is_made(kind: type[Method], change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UsageError, match=f"{kind.__name__}'s {name} is"):
        kind(**change)


def test_one_head_is_enough_where_nothing_looks_at_how_far_heads_differ() -> None:
    for method in (
        vr.VPQ(penalty=0, heads=1),
        vr.Minus(penalty=0, heads=1),
        vr.UWAC(critic="off", heads=1),
        vr.REM(heads=1),
    ):
        assert method.heads == 1


def test_the_defaults_are_the_protocols() -> None:
    config = TrainConfig()
    assert (config.learning_rate, config.batch_size, config.window) == (0.005, 256, 10)
    assert (vr.VPQ().heads, vr.VPQ().discount, vr.VPQ().penalty, vr.CQL().weight) == (15, 0.5, 20.0, 0.1)
    assert (config.rewards.click, config.rewards.purchase) == (0.2, 1.0)


def test_values_cannot_recommend_without_a_critic() -> None:
    with pytest.raises(UsageError, match="no values to recommend by"):
        vr.VPQ(critic="off", recommend="values")
    assert vr.VPQ(critic="off").n_heads == 0


@pytest.mark.parametrize(
    ("rewards", "discount", "low", "high"),
    [
        (Rewards(), 0.5, 0.0, 2.0),  # the protocol's [0, 2]
        (Rewards(click=-0.5, purchase=1.0), 0.5, -1.0, 2.0),
        (Rewards(click=-0.5, purchase=-1.0), 0.9, -10.0, 0.0),
        (Rewards(click=0.2, purchase=3.0), 0.0, 0.0, 3.0),
    ],
)
def test_the_certain_bounds(rewards: Rewards, discount: float, low: float, high: float) -> None:
    for name, kind in METHODS.items():
        if name == "immediate" and discount:
            with pytest.raises(UsageError, match="its target is the reward alone"):
                kind(discount=discount)  # type: ignore[call-arg]
            continue
        method = kind(**({"discount": discount} if issubclass(kind, CriticMethod) else {}))
        bounds = method.bounds(rewards)
        assert (bounds is None) == (method.n_heads == 0), name
        if bounds is not None:
            assert bounds == pytest.approx((low, high))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_negative_reward_is_for_methods_that_lower_what_is_negative(name: str) -> None:
    rewards, method = Rewards(click=-0.1), METHODS[name]()
    if name in ("vpq", "shuffled"):
        with pytest.raises(UsageError, match=rf"A reward is -0\.1, and {name} raises .* --reward-transform linear"):
            TrainConfig(method=method, rewards=rewards)
        assert TrainConfig(method=METHODS[name](penalty=0.0), rewards=rewards).learned_rewards == rewards
        assert TrainConfig(method=METHODS[name](critic="off"), rewards=rewards).learned_rewards == rewards
    else:
        assert TrainConfig(method=method, rewards=rewards).learned_rewards == rewards
    shifted = TrainConfig(method=method, rewards=rewards, reward_transform="linear").learned_rewards
    assert (shifted.click, shifted.purchase) == pytest.approx((0.0, 1.1))


def test_a_mixture_is_on_the_simplex_and_of_one_head_it_is_that_head() -> None:
    mixture_K = vr.REM(heads=7).mixture(torch.zeros(1))
    assert len(mixture_K) == 7 and float(mixture_K.min()) >= 0 and float(mixture_K.sum()) == pytest.approx(1)
    assert vr.REM(heads=1).mixture(torch.zeros(1)).tolist() == [1.0]
