from __future__ import annotations

import pytest
import torch

import valuerec as vr
from valuerec.errors import UsageError
from valuerec.methods import Method
from valuerec.ops.engine import ENGINES
from valuerec.training import TrainConfig
from valuerec.training.learners import fresh_network, learner_of
from valuerec.training.planning import _made_up, plan_run

CPU = torch.device("cpu")


@pytest.mark.parametrize("protocol", ["ours", "released"])
@pytest.mark.parametrize(
    "method", [vr.Supervised(), vr.VPQ(heads=5), vr.VPQ(heads=5, ensemble="factored"), vr.CQL(), vr.VPQ(critic="off")]
)
def test_the_counted_arrays_are_those_that_a_step_makes(method: Method, protocol: str) -> None:
    items = 3000
    config = TrainConfig(method=method, protocol=protocol, backbone=vr.SASRec(width=16), engine="tiled")
    parts = plan_run(config, items, 0, CPU, timed=False).parts
    learner = learner_of(config, fresh_network(config, items, CPU))
    for step in range(4):  # so many that the coin has fallen on either side
        learner.learn(step, _made_up(config, items, CPU))
    sizes = {"network": 0, "optimiser": 0, "target": 0}
    for name, value in learner.state().items():
        sizes[name.split("/")[0].split()[-1]] += value.numel() * value.element_size()
    assert parts["weights"] == sizes["network"]
    assert parts["optimiser"] == pytest.approx(sizes["optimiser"], rel=0.01)
    assert parts.get("target", 0) == pytest.approx(sizes["target"], rel=0.01)


def test_a_larger_catalogue_needs_more_and_more_than_there_is_does_not_fit() -> None:
    small, large = (vr.plan({"items": items}, timed=False, method=vr.VPQ()) for items in (10_000, 100_000_000))
    assert small.peak_bytes < large.peak_bytes
    assert small.fits and not large.fits


def test_two_networks_are_planned_as_two() -> None:
    one, two = (vr.plan({"items": 400}, method=vr.VPQ(heads=3), protocol=protocol) for protocol in ("ours", "released"))
    assert two.parts["weights"] == 2 * one.parts["weights"] and "target" not in two.parts
    assert two.step_seconds is not None and two.step_seconds > 0


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
