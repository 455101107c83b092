from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.made_up import DATASET, cell, diverged
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


def test_what_older_trials_read_of_the_test_split_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text(json.dumps([cell(seed=1000), {**cell(seed=1001), "test": None}]))
    read = Book(tmp_path / "tuning.json", DATASET["fingerprint"])
    assert [each["test"] for each in read.cells.values()] == [None, None]
    assert next(iter(read.cells.values())) == cell(seed=1000, test=None)


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
        ("histograms.value.counts", []),
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
