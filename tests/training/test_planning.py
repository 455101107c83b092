from __future__ import annotations

import pytest
import torch

import valuerec as vr
from valuerec.errors import UsageError
from valuerec.ops.engine import ENGINES
from valuerec.target import Target
from valuerec.training import TrainConfig
from valuerec.training.optimiser import Optimiser
from valuerec.training.planning import _made_up, plan_run

CPU = torch.device("cpu")


@pytest.mark.parametrize("method", [vr.Supervised(), vr.VPQ(heads=5), vr.VPQ(heads=5, ensemble="factored")])
def test_the_counted_arrays_are_those_that_a_step_makes(method: vr.VPQ | vr.Supervised) -> None:
    items = 3000
    config = TrainConfig(method=method, backbone=vr.SASRec(width=16), engine="tiled")
    parts = plan_run(config, items, 0, CPU, timed=False).parts
    network = method.network(config.backbone, items, config.window)
    optimiser = Optimiser(network, 0.01)
    target = Target(network) if network.q_head is not None else None
    optimiser.step(method.losses(network, target, _made_up(config, items, CPU)).total)
    assert parts["weights"] == sum(4 * parameter.numel() for parameter in network.parameters())
    state = sum(value.numel() * value.element_size() for value in optimiser.state().values())
    assert parts["optimiser"] == pytest.approx(state, rel=0.01)
    if target is not None:
        own = sum(value.numel() * 4 for value in target.state_dict().values())
        assert parts["target"] == pytest.approx(own, rel=0.01)


def test_a_larger_catalogue_needs_more_and_more_than_there_is_does_not_fit() -> None:
    small, large = (vr.plan({"items": items}, timed=False, method=vr.VPQ()) for items in (10_000, 100_000_000))
    assert small.peak_bytes < large.peak_bytes
    assert small.fits and not large.fits


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_are_tried_with_every_engine(engine: str) -> None:
    if engine == "native" and vr.plan({"items": 10}, timed=False).engine != "native":
        pytest.skip("no compiled kernels here")
    planned = vr.plan({"items": 300}, method=vr.VPQ(heads=3), engine=engine)
    assert planned.engine == engine and planned.step_seconds is not None and planned.step_seconds > 0


@pytest.mark.parametrize("numbers", [{"items": 0}, {"events": 3}, {"items": 5, "events": -1}, {"items": 5, "x": 1}])
def test_wrong_numbers_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="plan was given"):
        vr.plan(numbers, timed=False)
