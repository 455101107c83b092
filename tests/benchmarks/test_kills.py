"""A few of the kills, failures and damages of which `benchmarks/` does many (docs/checkpoints.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

import damage
import kills


@pytest.mark.slow
def test_killed_and_failing_runs_end_as_undisturbed_ones_and_the_rest_is_done_later(tmp_path: Path) -> None:
    rows = kills.measure(12, 6, tmp_path / "rows")
    figures = kills.figures_of(rows)
    assert figures["troubles"] == []
    assert figures["kills"] >= 12 and figures["failures_told_and_gone_on_from"] == figures["failures"] == 6
    assert kills.read_rows(tmp_path / "rows") == rows
    more = kills.measure(figures["kills"] + 1, 6, tmp_path / "rows")
    assert more[: len(rows)] == rows and len(more) > len(rows)


@pytest.mark.slow
def test_damaged_checkpoints_are_noticed() -> None:
    figures = damage.measure(66, 3)
    assert figures["troubles"] == []
    assert figures["noticed"] == figures["damaged"] == 66 and figures["resumed_to_the_same_end"] == 3
