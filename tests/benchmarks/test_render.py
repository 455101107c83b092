"""RESULTS.md from folders of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import render
from experiments.made_up import cell, diverged, write_results
from valuerec.experiments import figure3
from valuerec.experiments.plotting import save


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(render, "ROOT", tmp_path)
    monkeypatch.setattr(render, "RESULTS", tmp_path / "results")
    (tmp_path / "results" / "speed").mkdir(parents=True)
    (tmp_path / "results" / "introduction.md").write_text("# Results\n")
    (tmp_path / "results" / "speed.md").write_text("## Speed\n")
    return tmp_path / "results"


def test_tables_figures_and_prose_stand_together(results: Path) -> None:
    cells = [cell(method=method, seed=seed) for method in ("supervised", "vpq") for seed in range(2)]
    swept = [cell("nextitnet", variant=name) for name in figure3.NAMES]
    write_results(results / "shop", table1=[*cells, diverged(method="sac")], figure3=swept)
    save(figure3.draw(swept), results / "shop" / "figure3")
    (results / "shop" / "notes.md").write_text("**What this supports.** Little.\n")
    text = render.render()
    parts = ["# Results", "## shop", "Little.", "### Table 1", "sasrec-vpq", "figure3.png", "| λ = 20 |", "## Speed"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "![Figure 3: the penalty's strength](results/shop/figure3.png)" in text
    assert text.count("<details>") == text.count("</details>") > 0


def test_what_the_service_did_is_a_table_and_not_a_dataset(results: Path) -> None:
    (results / "serving").mkdir()
    told = {"goodput_kept": 0.95, "overload": {"p99_ms": 12.345}, "steps": [{"rate": 50}]}
    (results / "serving" / "overload.json").write_text(json.dumps(told))
    text = render.render()
    assert "## serving" not in text and "### The service: overload" in text
    assert "| overload: p99_ms | 12.35 |" in text or "| overload: p99_ms | 12.34 |" in text
    assert "rate" not in text


def test_every_row_has_the_cells_of_its_head(results: Path) -> None:
    cells = [cell(method=method, seed=seed) for method in ("supervised", "vpq") for seed in range(2)]
    write_results(results / "shop", table1=cells, tuning=[cell(method="vpq", seed=1000, variant="penalty=5")])
    width = 0
    for line in render.render().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line


def test_a_folder_of_prose_alone_and_speed_are_kept(results: Path) -> None:
    (results / "words").mkdir()
    (results / "words" / "notes.md").write_text("Only words.\n")
    (results / "speed" / "startup.json").write_text(json.dumps([{"command": "valuerec", "seconds": 0.25}]))
    text = render.render()
    assert "## words\n\nOnly words." in text and "| valuerec | 0.25 |" in text
