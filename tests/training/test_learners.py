"""The protocols: which network learns, and from what."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import valuerec as vr
from valuerec.dataset import Dataset
from valuerec.methods import METHODS, Batch, Method
from valuerec.training import TrainConfig
from valuerec.training.learners import OneNetwork, TwoNetworks, fresh_network, learner_of
from valuerec.training.order import coin

CPU = torch.device("cpu")


def learner(small: Dataset, protocol: str, method: Method | None = None) -> OneNetwork | TwoNetworks:
    config = TrainConfig(
        method=method or vr.VPQ(heads=4, target_every=3), protocol=protocol, backbone=vr.SASRec(width=8)
    )
    made = learner_of(config, fresh_network(config, small.n_items, CPU))
    assert isinstance(made, OneNetwork | TwoNetworks)
    made.train()
    return made


def batch(small: Dataset, step: int) -> Batch:
    events = np.arange(step * 16, step * 16 + 16)
    return Batch.of(small.transitions(events, 10, discount=0.5), CPU)


def state(network: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_coin_is_fair_and_a_function_of_seed_and_step() -> None:
    tosses = [coin(0, step) for step in range(2000)]
    assert 900 < sum(tosses) < 1100
    assert 900 < sum(now == then for now, then in itertools.pairwise(tosses)) < 1100
    assert tosses == [coin(0, step) for step in range(2000)] != [coin(1, step) for step in range(2000)]


def test_the_released_protocol_trains_the_network_that_the_coin_names_and_no_other(small: Dataset) -> None:
    made = learner(small, "released")
    assert isinstance(made, TwoNetworks)
    assert not same(state(made.networks[0]), state(made.networks[1]))  # two draws, not two copies
    for step in range(12):
        before = [state(each) for each in made.networks]
        made.learn(step, batch(small, step))
        main = coin(0, step)
        assert not same(before[main], state(made.networks[main]))
        assert same(before[1 - main], state(made.networks[1 - main]))
    assert made.network is made.networks[0]


def test_ours_copies_its_target_when_it_is_time(small: Dataset) -> None:
    made = learner(small, "ours")
    assert isinstance(made, OneNetwork) and made.target is not None
    for step in range(7):
        before = state(made.target)
        made.learn(step, batch(small, step))
        assert same(before, state(made.target)) == ((step + 1) % 3 != 0)
        now = [value for key, value in made.network.state_dict().items() if not key.startswith("item_head.")]
        assert same(now, state(made.target)) == ((step + 1) % 3 == 0)


def test_a_method_without_a_critic_has_one_network(small: Dataset) -> None:
    made = learner(small, "released", vr.VPQ(critic="off"))
    assert isinstance(made, OneNetwork) and made.target is None and made.searches == []


def test_what_is_put_back_goes_on_as_if_nothing_had_happened(small: Dataset) -> None:
    for protocol in ("ours", "released"):
        first, second = learner(small, protocol), learner(small, protocol)
        for step in range(5):
            torch.manual_seed(step)
            first.learn(step, batch(small, step))
        second.load({name: value.clone() for name, value in first.state().items()})
        for step in range(5, 12):
            parts = []
            for each in (first, second):
                torch.manual_seed(step)
                parts.append(each.learn(step, batch(small, step)).parts)
            assert {name: float(value) for name, value in parts[0].items()} == {
                name: float(value) for name, value in parts[1].items()
            }
        assert same(list(first.state().values()), list(second.state().values()))


@pytest.mark.parametrize("protocol", ["ours", "released"])
@pytest.mark.parametrize("method", METHODS)
def test_no_tensor_of_a_step_outlives_the_next_ones(small: Dataset, method: str, protocol: str) -> None:
    made = learner(small, protocol, METHODS[method]())
    alive = []
    for end in (8, 24):
        for step in range(end - 8, end):
            made.learn(step, batch(small, step))
        gc.collect()
        alive.append(sum(issubclass(type(each), Tensor) for each in gc.get_objects()))
    assert alive[1] <= alive[0]
