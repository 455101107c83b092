from __future__ import annotations

from pathlib import Path

import pytest

from experiments.made_up import DATASET, cell, diverged
from valuerec.baselines import BASELINES
from valuerec.dataset import Dataset
from valuerec.experiments.book import Book
from valuerec.experiments.rows import PLAIN, UNTRAINED, Row
from valuerec.experiments.tuning import SEED, chosen, grids, trials, tuned
from valuerec.methods import METHODS

LIMITS = {"epochs": 20}
PLAIN_SCORES: list[float | None] = [0.1, 0.2, 0.4, 0.3]
OF_PLAIN = {"backbone_options": {"dropout": grids()[PLAIN].values[2]}}


def tried(folder: Path, scores: list[float | None], method: str = "vpq") -> Book:
    folder.mkdir(exist_ok=True)
    book = Book(folder / "tuning.json", DATASET["fingerprint"])
    add(book, scores, method)
    if method != PLAIN:
        add(book, PLAIN_SCORES, PLAIN)
    return book


def add(book: Book, scores: list[float | None], method: str) -> None:
    for value, score in zip(grids()[method].values, scores, strict=True):
        names = {"method": method, "seed": SEED, "variant": f"{grids()[method].option}={value}"}
        if method in BASELINES:
            names["backbone"] = UNTRAINED
        book.add(diverged(**names) if score is None else cell(**names, score=score))


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
    assert tuned(Row("caser", "vpq"), tried(tmp_path / "d", [None] * 4)) == OF_PLAIN


def test_a_choice_holds_for_every_backbone_that_has_the_option(tmp_path: Path) -> None:
    book = tried(tmp_path, PLAIN_SCORES, PLAIN)
    assert tuned(Row("caser", PLAIN), book) == OF_PLAIN
    assert tuned(Row("nextitnet", PLAIN), book) == {"backbone_options": {}}
    assert tuned(Row("caser", PLAIN), None) == {}


def test_the_plain_backbones_choice_is_every_trained_methods(small: Dataset, tmp_path: Path) -> None:
    book = tried(tmp_path, [0.3, 0.2, 0.1, 0.1])
    add(book, [0.1, 0.2, 0.4, 0.3], "sknn")
    first = grids()["vpq"].values[0]
    assert tuned(Row("caser", "vpq"), book) == OF_PLAIN | {"method_options": {"penalty": first}}
    assert "dropout" not in tuned(Row("gru4rec", "vpq"), book)["backbone_options"]
    assert tuned(Row("untrained", "sknn"), book) == {"method_options": {"neighbours": grids()["sknn"].values[2]}}
    for each in trials(["vpq", "sarsa"], LIMITS, book):
        assert each.backbone_options == OF_PLAIN["backbone_options"]
    assert all(not each.backbone_options for each in trials(["sknn", "vsknn"], LIMITS, book))
    assert [each.backbone_options["dropout"] for each in trials([PLAIN], LIMITS, book)] == grids()[PLAIN].values
