from __future__ import annotations

from pathlib import Path

import pytest

from experiments.made_up import DATASET, cell, diverged
from valuerec.backbones import backbone_named
from valuerec.baselines import BASELINES
from valuerec.dataset import Dataset
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Cell
from valuerec.experiments.rows import CONTROLLED, PLAIN, UNTRAINED, Row, choose_rows, table_rows
from valuerec.experiments.tuning import SEED, as_released, chosen, grids, plain_trials, trials, tuned
from valuerec.methods import METHODS

LIMITS = {"epochs": 20}
DROPOUTS = grids()[PLAIN].values
PLAIN_SCORES: list[float | None] = [0.1, 0.2, 0.4, 0.3]
OF_SASREC, OF_CASER = ({"backbone_options": {"dropout": value}} for value in (DROPOUTS[2], DROPOUTS[0]))


def tried(folder: Path, scores: list[float | None] | None = None, method: str = "vpq") -> Book:
    """Trials of a method, and of SASRec and Caser, which choose other dropouts."""
    folder.mkdir(exist_ok=True)
    book = Book(folder / "tuning.json", DATASET["fingerprint"])
    add(book, PLAIN_SCORES, PLAIN)
    add(book, [0.4, 0.3, 0.2, 0.1], PLAIN, "caser")
    if scores is not None:
        add(book, scores, method)
    return book


def add(book: Book, scores: list[float | None], method: str, backbone: str = CONTROLLED) -> None:
    for value, score in zip(grids()[method].values, scores, strict=True):
        names = {"method": method, "seed": SEED, "variant": f"{grids()[method].option}={value}"}
        names["backbone"] = UNTRAINED if method in BASELINES else backbone
        book.add(diverged(**names) if score is None else cell(**names, score=score))


def trials_of(method: str, book: Book) -> list[Cell]:
    row = Row(UNTRAINED if method in BASELINES else "caser", method)
    return plain_trials([Row(CONTROLLED, PLAIN)], LIMITS) if method == PLAIN else trials([row], LIMITS, book)


def named(cells: list[Cell]) -> list[str]:
    return list(dict.fromkeys(Row(each.backbone, each.method).name for each in cells))


def test_every_method_gets_four_different_trials() -> None:
    choosers = set(METHODS) - {"immediate"}  # which has no option that its training turns on
    assert set(grids()) == {*choosers, "sknn", "vsknn"} and {"sknn", "vsknn"} <= set(BASELINES)
    for method, grid in grids().items():
        assert len({str(value) for value in grid.values}) == 4, method


@pytest.mark.parametrize("method", list(grids()))
def test_the_grids_options_exist_and_the_trials_differ_in_them_alone(
    small: Dataset, tmp_path: Path, method: str
) -> None:
    grid, cells = grids()[method], trials_of(method, tried(tmp_path))
    found = []
    for each in cells:
        options = each.options(small)
        found.append(options[grid.of].pop(grid.option))
        assert options == {**cells[0].options(small), grid.of: options[grid.of]}
        assert (each.seed, each.protocol, each.test) == (SEED, "ours", False)
    assert found == grid.values


def test_nothing_to_choose_is_no_trial(tmp_path: Path) -> None:
    book = tried(tmp_path)
    rows = [Row(UNTRAINED, "popularity"), Row(UNTRAINED, "repeat-last")]
    assert plain_trials(rows, LIMITS) == trials(rows, LIMITS, book) == []
    assert tuned(rows[0], book) == {}


def test_only_what_the_rows_need_is_tried(tmp_path: Path) -> None:
    book = tried(tmp_path)

    def tries(patterns: list[str] | None, controls: bool = False) -> tuple[list[str], list[str]]:
        rows = choose_rows(patterns, "ours", controls)
        return named(plain_trials(rows, LIMITS)), named(trials(rows, LIMITS, book))

    methods = [f"sasrec-{method}" for method in ("sac", "rem", "minus", "cql", "uwac", "vpq")]
    assert tries(["sasrec"]) == (["sasrec-supervised"], methods)
    assert tries(["caser-supervised"]) == (["caser-supervised"], [])
    assert tries(["caser-vpq"]) == (["caser-supervised", "sasrec-supervised"], ["sasrec-vpq"])
    assert tries(["nextitnet-supervised", "gru4rec-supervised"]) == ([], [])
    assert tries(["nextitnet-vpq"]) == (["sasrec-supervised"], ["sasrec-vpq"])
    assert tries(["popularity", "sknn"]) == ([], ["sknn"])
    plain, others = tries(None, controls=True)
    assert plain == ["caser-supervised", "sasrec-supervised"]
    controls = ["sasrec-reward-weighted", "sasrec-return-weighted", "sasrec-sarsa", "sasrec-shuffled"]
    assert others == [*methods, *controls, "sknn", "vsknn"]


def test_the_best_validation_score_is_chosen_and_the_first_of_equals(tmp_path: Path) -> None:
    vpq = Row(CONTROLLED, "vpq")
    assert chosen(vpq, tried(tmp_path / "a", [0.2, 0.3, 0.3, 0.1])) == grids()["vpq"].values[1]
    assert chosen(vpq, tried(tmp_path / "b", [0.2, None, 0.1, 0.4])) == grids()["vpq"].values[3]
    assert chosen(vpq, tried(tmp_path / "c", [None] * 4)) is None
    assert tuned(vpq, tried(tmp_path / "d", [None] * 4)) == OF_SASREC


def test_a_value_that_is_no_longer_in_the_grid_does_not_count(tmp_path: Path) -> None:
    book = tried(tmp_path, [0.2, 0.3, 0.1, 0.1])
    book.add(cell(method="vpq", seed=SEED, variant="penalty=0.125", score=0.9))
    assert chosen(Row("caser", "vpq"), book) == grids()["vpq"].values[1]


def test_each_backbone_has_its_own_choice_and_a_method_its_one(small: Dataset, tmp_path: Path) -> None:
    book = tried(tmp_path, [0.3, 0.2, 0.1, 0.1])
    add(book, [0.1, 0.2, 0.4, 0.3], "sknn")
    own = {"method_options": {"penalty": grids()["vpq"].values[0]}}
    assert tuned(Row("sasrec", "vpq"), book) == OF_SASREC | own
    assert tuned(Row("caser", "vpq"), book) == OF_CASER | own
    assert tuned(Row("gru4rec", "vpq"), book) == tuned(Row("nextitnet", "vpq"), book) == own
    assert tuned(Row("caser", PLAIN), book) == OF_CASER and tuned(Row("nextitnet", PLAIN), book) == {}
    assert tuned(Row(UNTRAINED, "sknn"), book) == {"method_options": {"neighbours": grids()["sknn"].values[2]}}
    for each in trials([Row("caser", "vpq"), Row("sasrec", "sarsa")], LIMITS, book):
        assert each.backbone == CONTROLLED and each.backbone_options == OF_SASREC["backbone_options"]
    for each in trials([Row(UNTRAINED, "sknn"), Row(UNTRAINED, "vsknn")], LIMITS, book):
        assert not each.backbone_options
    for backbone in ("sasrec", "caser"):
        found = [each for each in plain_trials(table_rows(), LIMITS) if each.backbone == backbone]
        assert [each.backbone_options["dropout"] for each in found] == DROPOUTS


def test_the_released_protocol_has_the_values_of_that_code(small: Dataset) -> None:
    """As ../shared/protocol.md gives them; "none given" is our default."""
    values = {"vpq": {"penalty": 20, "heads": 15, "discount": 0.5}, "rem": {"heads": 15}, "minus": {"heads": 15},
              "sac": {"heads": 1, "double": True, "warm_up": 0}, "cql": {"weight": 0.1, "heads": 15},
              "uwac": {"form": "released"}}  # fmt: skip
    for row in table_rows():
        options = Cell(**row._asdict(), protocol="released", **as_released(row)).options(small)
        assert values.get(row.method, {}).items() <= options["method"].items(), row.name
        assert options["backbone"].get("dropout", 0.1) == 0.1
        assert "dropout" in options["backbone"] or not hasattr(backbone_named(row.backbone)(), "dropout")
