from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.made_up import DATASET, cell
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.book import Book
from valuerec.experiments.cell import key_of


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


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"backbone": "sasrec"}]', "["])
def test_what_is_no_list_of_cells_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "table1.json").write_text(content)
    with pytest.raises(ValuerecError, match=r"table1\.json is (no list of cells|not readable)"):
        book(tmp_path)
    assert (tmp_path / "table1.json").read_text() == content


def test_a_figure_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    book(tmp_path).add(cell(seed=0))
    with pytest.raises(ValueError, match="JSON compliant"):
        book(tmp_path).add(cell(seed=1, score=float("nan")))
    assert len(json.loads((tmp_path / "table1.json").read_text())) == 1
