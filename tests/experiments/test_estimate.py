from __future__ import annotations

import pytest

from experiments.made_up import cell, diverged
from valuerec.dataset import Dataset
from valuerec.experiments.cell import Cell
from valuerec.experiments.estimate import Estimate, duration
from valuerec.experiments.running import Machine
from valuerec.training.planning import Plan

TWO = Machine(jobs=2, device="cpu", threads=1)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min")]
)
def test_duration(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_cells_take_what_their_like_took(small: Dataset) -> None:
    known = [cell(wall_seconds=100.0), cell(seed=1, wall_seconds=140.0), diverged(seed=2, wall_seconds=1.0)]
    estimate = Estimate(known, small, TWO)
    vpq = Cell(backbone="sasrec", method="vpq", seed=5)
    assert estimate.seconds(vpq) == 120.0 and estimate.untried([vpq]) == []
    assert estimate.left([vpq] * 3, [(vpq, 100.0), (vpq, 500.0)]) == "about 3 min left"  # (3 × 120 + 20 + 0) / 2


def test_what_was_never_run_is_tried(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(1, 1, "native", {}, 0, None, step_seconds=0.5)
    monkeypatch.setattr("valuerec.experiments.estimate.plan_run", lambda *a, **k: plan)
    estimate = Estimate([], small, TWO)
    batches = -(-len(small.events_of("train")) // 256)
    long, short, other = (
        Cell(backbone="sasrec", method="rem", seed=seed, training={"epochs": 10, "max_steps": limit})
        for seed, limit in enumerate((None, 3, None))
    )
    baseline = Cell(backbone="untrained", method="sknn")
    assert estimate.untried([long, short, other, baseline]) == [other]
    estimate.try_steps([other])
    around = estimate.seconds(baseline)
    assert estimate.seconds(long) == pytest.approx(around + 0.5 * 10 * batches)
    assert estimate.seconds(short) == pytest.approx(around + 0.5 * 3)
    assert estimate.left([long], []).startswith("at most about ")
    estimate.learn(cell(method="cql", wall_seconds=7.0, steps=6))  # another kind, which tells when runs stop
    assert estimate.seconds(long) == pytest.approx(around + 0.5 * 6)
    assert estimate.left([long], []).startswith("about ")
    estimate.learn(cell(method="rem", wall_seconds=7.0))
    assert estimate.seconds(long) == 7.0
