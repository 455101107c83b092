"""A few of the kills of which `benchmarks/recommend_kills.py` does many, and the measuring at a small count."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import recommend
import recommend_kills


@pytest.mark.slow
def test_killed_jobs_end_as_undisturbed_ones_and_the_rest_is_done_later(tmp_path: Path) -> None:
    rows = recommend_kills.measure(4, tmp_path / "rows")
    figures = recommend_kills.figures_of(rows)
    assert figures["troubles"] == [] and figures["kills"] >= 4
    assert figures["killed_runs_that_end_alike"] == figures["killed_runs"]
    assert recommend_kills.read_rows(tmp_path / "rows") == [row | {"formats": list(row["formats"])} for row in rows]


@pytest.mark.slow
def test_what_is_measured_is_of_all_sessions() -> None:
    options = argparse.Namespace(sessions=200, format="csv", items=50, model=None, data=None, compared=20)
    figures = recommend.measure(options)
    assert (figures["whole"]["sessions"], figures["tenth"]["sessions"]) == (200, 20)
    assert figures["peak_rss_megabytes"] > 50 and figures["sessions_per_second"] > 0
