from __future__ import annotations

from pathlib import Path

import pytest

from experiments.made_up import DATASET, cell, diverged
from valuerec.baselines import BASELINES
from valuerec.dataset import Dataset
from valuerec.experiments.book import Book
from valuerec.experiments.rows import Row
from valuerec.experiments.tuning import SEED, chosen, grids, trials, tuned
from valuerec.methods import METHODS

LIMITS = {"epochs": 20}


def tried(folder: Path, scores: list[float | None], method: str = "vpq") -> Book:
    folder.mkdir(exist_ok=True)
    book = Book(folder / "tuning.json", DATASET["fingerprint"])
    for value, score in zip(grids()[method].values, scores, strict=True):
        names = {"method": method, "seed": SEED, "variant": f"{grids()[method].option}={value}"}
        book.add(diverged(**names) if score is None else cell(**names, score=score))
    return book


def test_every_method_gets_four_different_trials() -> None:
    assert set(grids()) == {*METHODS, "sknn", "vsknn"} and {"sknn", "vsknn"} <= set(BASELINES)
    for method, grid in grids().items():
        assert len({str(value) for value in grid.values}) == 4, method


@pytest.mark.parametrize("method", list(grids()))
def test_the_grids_options_exist_and_the_trials_differ_in_them_alone(small: Dataset, method: str) -> None:
    grid = grids()[method]
    found = []
    for each in trials([method], LIMITS):
        options = each.options(small)
        found.append(options[grid.of].pop(grid.option))
        assert options == {**trials([method], LIMITS)[0].options(small), grid.of: options[grid.of]}
        assert each.seed == SEED and each.protocol == "ours"
    assert found == grid.values


def test_nothing_to_choose_is_no_trial() -> None:
    assert trials(["popularity", "repeat-last"], LIMITS) == []
    assert tuned(Row("untrained", "popularity"), None) == {}


def test_the_best_validation_score_is_chosen_and_the_first_of_equals(tmp_path: Path) -> None:
    assert chosen("vpq", tried(tmp_path / "a", [0.2, 0.3, 0.3, 0.1])) == grids()["vpq"].values[1]
    assert chosen("vpq", tried(tmp_path / "b", [0.2, None, 0.1, 0.4])) == grids()["vpq"].values[3]
    assert chosen("vpq", tried(tmp_path / "c", [None] * 4)) is None
    assert tuned(Row("caser", "vpq"), tried(tmp_path / "d", [None] * 4)) == {}


def test_a_choice_holds_for_every_backbone_that_has_the_option(tmp_path: Path) -> None:
    book = tried(tmp_path, [0.1, 0.2, 0.4, 0.3], "supervised")
    rate = grids()["supervised"].values[2]
    assert tuned(Row("caser", "supervised"), book) == {"backbone_options": {"dropout": rate}}
    assert tuned(Row("nextitnet", "supervised"), book) == {"backbone_options": {}}
    assert tuned(Row("caser", "supervised"), None) == {}
