from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import valuerec as vr
from valuerec.backbones import BACKBONES
from valuerec.dataset import Dataset
from valuerec.errors import UsageError
from valuerec.ops.engine import ENGINES
from valuerec.target import Target
from valuerec.training import TrainConfig
from valuerec.training.optimiser import Optimiser
from valuerec.training.planning import _made_up, lengths_of, plan_run, usual_lengths

CPU = torch.device("cpu")


METHODS = [vr.Supervised(), vr.VPQ(heads=5), vr.VPQ(heads=5, ensemble="factored")]


@pytest.mark.parametrize(
    ("backbone", "method"),
    [*(("sasrec", method) for method in METHODS), *((name, METHODS[1]) for name in BACKBONES if name != "sasrec")],
)
def test_the_counted_arrays_are_those_that_a_step_makes(backbone: str, method: vr.VPQ | vr.Supervised) -> None:
    items = 3000
    config = TrainConfig(method=method, backbone=BACKBONES[backbone](width=16), engine="tiled")
    parts = plan_run(config, items, 0, CPU, timed=False).parts
    network = method.network(config.backbone, items, config.window)
    optimiser = Optimiser(network, 0.01)
    target = Target(network) if network.q_head is not None else None
    optimiser.step(method.losses(network, target, _made_up(config, items, CPU, usual_lengths(10))).total)
    assert parts["weights"] == sum(4 * parameter.numel() for parameter in network.parameters())
    state = sum(value.numel() * value.element_size() for value in optimiser.state().values())
    assert parts["optimiser"] == pytest.approx(state, rel=0.01)
    if target is not None:
        own = sum(value.numel() * 4 for value in target.state_dict().values())
        assert parts["target"] == pytest.approx(own, rel=0.01)


class Exponential(nn.Module):
    """Keeps one array of B·L·8 numbers for its backward pass, and an index of B·L."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items + 1, 8)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        return self.table(items_BL).exp().sum(dim=1)


def test_what_a_backbone_keeps_for_its_backward_pass_is_counted() -> None:
    config = TrainConfig(backbone=Exponential, window=7, batch_size=50)
    parts = plan_run(config, 3000, 0, CPU, timed=False).parts
    assert parts["activations"] == 4 * 50 * 7 * 8 + 4 * 50 * 7


def test_states_are_tried_as_long_as_the_log_has_them(small: Dataset) -> None:
    lengths = [1 if place == 0 else min(place, 3) for session in np.diff(small.offset_S) for place in range(session)]
    assert lengths_of(small, 3).tolist() == lengths
    config = TrainConfig(window=3, batch_size=4000)
    batch = _made_up(config, 30, CPU, lengths_of(small, 3))
    assert batch.length_B.float().mean().item() == pytest.approx(np.mean(lengths), abs=0.05)
    assert torch.equal((batch.state_BL != 30).sum(dim=1), batch.length_B)
    usual = usual_lengths(10).float()
    assert usual.min() == 1 and usual.max() == 10 and usual.mean().item() == pytest.approx(3.54, abs=0.1)


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
