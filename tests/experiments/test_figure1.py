from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from valuerec.errors import UsageError
from valuerec.experiments.figure1 import PENALTIES, figure1, simulate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("figure") / "new"
    return out, figure1(out)


def test_it_writes_the_figure_and_the_data_behind_it(made: tuple[Path, dict]) -> None:
    out, data = made
    assert sorted(file.name for file in out.iterdir()) == ["figure1.json", "figure1.pdf", "figure1.png"]
    assert json.loads((out / "figure1.json").read_text()) == data
    assert (out / "figure1.png").read_bytes().startswith(b"\x89PNG")


def test_the_points_are_penalised_as_the_equations_say(made: tuple[Path, dict]) -> None:
    predictions = made[1]["predictions"]
    value, uncertainty = np.array(predictions["value"]), np.array(predictions["uncertainty"])
    assert (np.diff(value) >= 0).all()
    drawn = {(row["form"], row["penalty"]): np.array(row["value"]) for row in predictions["penalised"]}
    assert len(drawn) == 2 * len(PENALTIES)
    for penalty in PENALTIES:
        np.testing.assert_allclose(drawn["p-sub", penalty], value - penalty * uncertainty, atol=1e-4)
        np.testing.assert_allclose(drawn["p-mul", penalty], value / (1 + penalty * uncertainty), atol=1e-4)


def test_monte_carlo_falls_on_the_equations_where_they_hold_and_above_them_elsewhere(made: tuple[Path, dict]) -> None:
    rows = made[1]["maximum_against_n"] + made[1]["maximum_against_penalty"]
    for row in rows:
        assert row["same_uncertainty"] == pytest.approx(row["equation"], abs=0.03)
        if row["penalty"]:
            assert row["own_uncertainty"] > row["equation"] + 0.1
    assert {row["n"] for row in rows} >= {10, 100_000}


def test_the_seed_decides(made: tuple[Path, dict]) -> None:
    assert simulate(0) == made[1]
    assert simulate(1)["predictions"]["value"] != made[1]["predictions"]["value"]


def test_without_matplotlib_nothing_is_simulated_and_a_sentence_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="Figures need matplotlib"):
        figure1(tmp_path)
    assert not list(tmp_path.iterdir())
