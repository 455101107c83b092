from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.made_up import DATASET, OPTIONS, cell, diverged, write_results
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.book import Book
from valuerec.experiments.cell import key_of
from valuerec.experiments.results import BOOKS, Results


def book(path: Path) -> Book:
    return Book(path / "table1.json", DATASET["fingerprint"])


def test_cells_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    cells = [cell(seed=seed) for seed in range(3)]
    for each in cells:
        book(tmp_path).add(each)
    assert list(book(tmp_path).cells.values()) == cells
    lines = (tmp_path / "table1.json").read_text().splitlines()
    assert len(lines) == 5  # a line a cell: what a commit adds is what was run


def test_a_cell_replaces_one_of_its_key(tmp_path: Path) -> None:
    book(tmp_path).add(cell(shift=0.1))
    book(tmp_path).add(cell(shift=0.2))
    assert list(book(tmp_path).cells.values()) == [cell(shift=0.2)]


def test_a_cell_is_taken_out(tmp_path: Path) -> None:
    for seed in range(2):
        book(tmp_path).add(cell(seed=seed))
    book(tmp_path).remove(key_of(cell(seed=0)))
    assert list(book(tmp_path).cells.values()) == [cell(seed=1)]


def test_cells_of_another_dataset_are_refused(tmp_path: Path) -> None:
    book(tmp_path).add(cell())
    with pytest.raises(UsageError, match=r"table1.json holds cells of another dataset; name another folder"):
        Book(tmp_path / "table1.json", "another")


@pytest.mark.parametrize("content", ["{}", "[1]", "["])
def test_what_is_no_list_of_cells_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "table1.json").write_text(content)
    with pytest.raises(ValuerecError, match=r"table1\.json is (no list of cells|not readable)"):
        book(tmp_path)
    assert (tmp_path / "table1.json").read_text() == content


@pytest.mark.parametrize("name", sorted(cell().keys() - {"floored"}))
def test_a_cell_that_lacks_a_field_is_named_with_it(tmp_path: Path, name: str) -> None:
    whole = cell(seed=1)
    (tmp_path / "table1.json").write_text(
        json.dumps([cell(), {field: whole[field] for field in whole if field != name}])
    )
    with pytest.raises(
        ValuerecError, match=rf"table1\.json, cell 2 \(.*\), field {name}: .*; correct it, or remove the"
    ):
        book(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("backbone", 1),
        ("variant", "../../x"),  # which names a file
        ("seed", "0"),
        ("seed", -7),
        ("dataset", None),
        ("options.training", {}),
        ("options.training.batch_size", 0),
        ("options.rewards.click", "much"),
        ("test", None),
        ("test", {"purchase": {}}),
        ("test.click.ndcg@20", None),
        ("validation.purchase.hr@20", "0.5"),
        ("score", True),
        ("steps", "600"),
        ("seconds", "long"),
        ("wall_seconds", None),
        ("diverged", "no"),
        ("trouble", 3),
        ("floored", "0.5"),
        ("curve", [[100]]),
        ("curve", [[1, 1e308], [2, -1e308]]),
        ("test.click.hr@20", 1.5),
        ("histograms.value.counts", []),
        ("histograms.value", {"low": 0.0, "high": 1.0, "mean": 0.5, "counts": [0, 0]}),
        ("histograms.value", {"low": -3.0, "high": 1e300, "mean": 0.5, "counts": [1, 2]}),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path: Path, place: str, value: object) -> None:
    changed = json.loads(json.dumps(cell()))
    *path, last = place.split(".")
    inner = changed
    for name in path:
        inner = inner[name]
    inner[last] = value
    (tmp_path / "figure2.json").write_text(json.dumps([changed]))
    with pytest.raises(ValuerecError, match=rf"figure2\.json, cell 1 \(.*\), field {place}\b.*: "):
        Book(tmp_path / "figure2.json", DATASET["fingerprint"])


def test_a_cell_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "table1.json").write_text(json.dumps([cell(seed=3), cell(seed=1), cell(seed=3, shift=0.5)]))
    with pytest.raises(
        ValuerecError, match=r"table1\.json has the cell sasrec vpq ours 3 more than once; remove all but"
    ):
        book(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "table1.json").mkdir()
    with pytest.raises(ValuerecError, match=r"table1\.json is a folder, .*; restore it from a copy, or move it away"):
        book(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("table1", {"method": "dqn"}, "sasrec-dqn ours"),
        ("table1", {"backbone": "bert4rec"}, "bert4rec-vpq ours"),
        ("table1", {"backbone": "caser", "method": "sarsa"}, "caser-sarsa ours"),
        ("table1", {"protocol": "theirs"}, "sasrec-vpq theirs"),
        ("table1", {"variant": "penalty=5"}, "sasrec-vpq ours penalty=5"),
        ("figure2", {"variant": "<b>$x^$"}, r"sasrec-vpq ours <b>\$x\^\$"),
        ("figure2", {"method": "sac", "variant": "CE"}, "sasrec-sac ours CE"),
        ("figure2", {"protocol": "released", "variant": "CE"}, "sasrec-vpq released CE"),
        ("figure3", {"variant": "penalty=3"}, "sasrec-vpq ours penalty=3"),
        ("tuning", {"variant": "penalty=x"}, "sasrec-vpq ours penalty=x"),
        ("tuning", {"variant": "penalty=nan"}, "sasrec-vpq ours penalty=nan"),
        ("tuning", {"variant": "heads=3"}, "sasrec-vpq ours heads=3"),
        ("tuning", {"variant": ""}, "sasrec-vpq ours"),
    ],
)
def test_cells_that_are_nothing_of_ours_are_named(tmp_path: Path, name: str, change: dict[str, str], told: str) -> None:
    results = write_results(tmp_path, **{name: [cell() | change]})
    with pytest.raises(
        ValuerecError, match=rf"{name}\.json has cells that .* not know, {told}; remove them, or upgrade"
    ):
        results.cells(name)


def test_an_option_that_is_no_number_is_named(tmp_path: Path) -> None:
    results = write_results(tmp_path, table1=[cell(options=OPTIONS | {"method": {"penalty": "a"}})])
    with pytest.raises(ValuerecError, match=r"a cell of sasrec-vpq whose option penalty is no number; correct it, or"):
        results.cells("table1")


def test_what_diverged_and_what_is_not_trained_need_no_more_than_they_have(tmp_path: Path) -> None:
    options = {"backbone": {}, "method": {}, "rewards": {}, "training": {}}
    untrained = cell("untrained", "sknn", steps=None, best_step=None, curve=[], histograms=None, options=options)
    cells = [diverged(), untrained]
    (tmp_path / "table1.json").write_text(json.dumps(cells))
    assert list(book(tmp_path).cells.values()) == cells


@pytest.mark.parametrize("folder", sorted((Path(__file__).parents[2] / "results").glob("*/dataset.json")))
def test_the_committed_cells_are_read(folder: Path) -> None:
    results = Results(folder.parent)
    assert any(results.cells(name) for name in BOOKS)


def test_a_figure_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    book(tmp_path).add(cell(seed=0))
    with pytest.raises(ValueError, match="JSON compliant"):
        book(tmp_path).add(cell(seed=1, score=float("nan")))
    assert len(json.loads((tmp_path / "table1.json").read_text())) == 1
