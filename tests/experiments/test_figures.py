"""Figures 2 and 3: which cells they are of, and what is drawn."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from experiments.made_up import cell, diverged
from valuerec.dataset import Dataset
from valuerec.experiments import figure2, figure3
from valuerec.experiments.plotting import save


def test_the_four_ways_differ_in_the_use_of_the_critic_alone(small: Dataset) -> None:
    chosen = {"method_options": {"penalty": 10}, "backbone_options": {"dropout": 0.3}}
    cells = figure2.cells("sasrec", 2, {"epochs": 20}, chosen)
    assert [(each.variant, each.seed) for each in cells] == [(way, seed) for seed in (0, 1) for way in figure2.WAYS]
    options = {each.variant: each.options(small)["method"] for each in cells}
    used = {way: (own.pop("critic"), own.pop("recommend")) for way, own in options.items()}
    assert used == {
        "Q-only": ("reinforce", "values"),
        "CE": ("off", "items"),
        "Q-aux": ("auxiliary", "items"),
        "Q-critic": ("reinforce", "items"),
    }
    assert all(own == options["CE"] and own["penalty"] == 10 for own in options.values())
    assert {each.options(small)["backbone"]["dropout"] for each in cells} == {0.3}


def test_the_sweep_has_both_ends(small: Dataset) -> None:
    cells = figure3.cells("sasrec", 1, {"epochs": 20}, {"backbone_options": {"dropout": 0.3}})
    methods = [each.options(small)["method"] for each in cells]
    assert [(own["penalty"], own["discount"]) for own in methods[:-1]] == [
        (penalty, 0.5) for penalty in (0, 1, 5, 10, 20, 40, 60, 80, 100)
    ]
    assert {each.options(small)["backbone"]["dropout"] for each in cells} == {0.3}
    assert (cells[-1].variant, methods[-1]["discount"]) == (figure3.IMMEDIATE, 0.0)
    assert len({each.key for each in cells}) == len(cells) == 10


def test_the_bars_are_the_means(tmp_path: Path) -> None:
    finished = [cell(variant=way, seed=seed, shift=0.1 * place) for place, way in enumerate(figure2.WAYS)
                for seed in range(3)]  # fmt: skip
    figure = figure2.draw(finished)
    heights = [bar.get_height() for axes in figure.axes for bar in axes.patches]
    means = [
        sum(each["test"][kind][name] for each in finished if each["variant"] == way) / 3
        for kind in ("purchase", "click")
        for way in figure2.WAYS
        for name in ("hr@20", "ndcg@20")
    ]
    assert heights == pytest.approx(means)
    bars = [segment for axes in figure.axes for each in axes.collections for segment in each.get_segments()]  # type: ignore[attr-defined]
    deviations = [
        statistics.stdev(each["test"][kind][name] for each in finished if each["variant"] == way)
        for kind in ("purchase", "click")
        for way in figure2.WAYS
        for name in ("hr@20", "ndcg@20")
    ]
    assert max(deviations) > 0
    assert [low[1] for low, _ in bars] == pytest.approx(np.subtract(means, deviations))
    assert [high[1] for _, high in bars] == pytest.approx(np.add(means, deviations))
    png, pdf = save(figure, tmp_path / "figure2")
    assert png.read_bytes().startswith(b"\x89PNG") and pdf.read_bytes().startswith(b"%PDF")
    assert [row[0] for row in figure2.sheet(finished).groups[0]] == list(figure2.WAYS)


def test_the_line_is_the_means_and_the_ends_are_marked(tmp_path: Path) -> None:
    finished = [cell("nextitnet", variant=name, seed=seed, shift=0.01 * place)
                for place, name in enumerate(figure3.NAMES) for seed in range(2)]  # fmt: skip
    figure = figure3.draw(finished)
    panel = figure.axes[1]
    line = next(each for each in panel.lines if each.get_label() == "VPQ")
    assert list(line.get_ydata()) == pytest.approx(
        [
            sum(each["test"]["purchase"]["ndcg@20"] for each in finished if each["variant"] == name) / 2
            for name in figure3.NAMES[:-1]
        ]
    )
    values = [
        [each["test"]["purchase"]["ndcg@20"] for each in finished if each["variant"] == name] for name in figure3.NAMES
    ]
    means, deviations = list(map(statistics.mean, values)), list(map(statistics.stdev, values))
    band, whisker = panel.collections
    edges = {(x, round(y, 9)) for x, y in band.get_paths()[0].vertices}
    assert min(deviations) > 0
    for sign in (-1, 1):
        assert {
            (x, round(m + sign * d, 9)) for x, (m, d) in enumerate(zip(means[:-1], deviations, strict=False))
        } <= edges
    ((low, high),) = whisker.get_segments()  # type: ignore[attr-defined]
    assert (low[1], high[1]) == (pytest.approx(means[-1] - deviations[-1]), pytest.approx(means[-1] + deviations[-1]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "VPQ", "λ = 0: REM", "γ = 0: immediate reward alone",
    ]  # fmt: skip
    rows = figure3.sheet(finished).groups[0]
    assert (rows[0][0], rows[-1][0], len(rows)) == ("λ = 0", "γ = 0", 10)


def test_an_unfinished_figure_is_drawn_of_what_there_is() -> None:
    one = figure2.draw([cell(variant="CE"), diverged(variant="Q-aux")])
    assert len(one.axes[0].patches) == 2
    assert figure3.draw([cell(variant="penalty=5"), diverged(variant="penalty=0")]).axes
    assert figure2.draw([diverged(variant="CE")]).axes and figure3.draw([]).axes
