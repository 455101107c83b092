"""A row with one option changed, on a small log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import render
import valuerec as vr
import variant
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments import reproducing
from valuerec.experiments.cell import Cell
from valuerec.experiments.making import make_cell
from valuerec.experiments.results import Results
from valuerec.experiments.running import missing_cells
from worlds import random_sessions, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> vr.Dataset:
    draw = np.random.default_rng(0)
    splits = {
        name: random_sessions(draw, count, 30) for name, count in (("train", 60), ("validation", 20), ("test", 20))
    }
    return write_dataset(tmp_path_factory.mktemp("variant") / "data", splits, 30)


@pytest.fixture
def table(data: vr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def run(cells: list[Cell], book: Any, dataset: Any, *_: Any) -> None:
        for number, cell in enumerate(missing_cells(cells, book, dataset)):
            work = tmp_path / "work" / f"{book.path.parent.name}-{len(book.cells)}-{number}"
            work.mkdir(parents=True)
            book.add(make_cell(cell, dataset.path, work, "cpu") | {"wall_seconds": 1.0})
            (work / "ranks.parquet").replace(Results(book.path.parent).ranks(cell.slug))

    for module in (reproducing, variant):
        monkeypatch.setattr(module, "run_cells", run)
    options: dict[str, Any] = {"seeds": 2, "tuning": False, "max_steps": 4, "quiet": True}
    vr.reproduce("table1", data=data, out=tmp_path / "table", rows=["sasrec-vpq", "sasrec-shuffled"], **options)
    return tmp_path / "table"


def call(monkeypatch: pytest.MonkeyPatch, data: vr.Dataset, table: Path, *more: str) -> None:
    out = ["--out", str(table.parent / "runs"), "--json"]
    monkeypatch.setattr(sys, "argv", ["variant.py", str(data.path), str(table), *more, *out])
    variant.main()


@pytest.mark.parametrize(
    ("written", "value"), [("80", 80), ("0.5", 0.5), ("true", True), ("auxiliary", "auxiliary"), ("", "")]
)
def test_a_value_is_a_number_or_a_word(written: str, value: object) -> None:
    assert variant.value_of(written) == value


def test_one_option_is_changed_and_compared_by_the_kept_ranks(
    data: vr.Dataset, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ("--row", "sasrec-shuffled", "--against", "sasrec-vpq", "sasrec-shuffled")
    call(monkeypatch, data, table, *row, "--set", "penalty=5")
    told = json.loads(capsys.readouterr().out)
    before, made = (Results(path).cells("table1") for path in (table, table.parent / "runs"))
    assert [cell["options"]["method"]["penalty"] for cell in made] == [5.0, 5.0] and len(before) == 4
    for cell, old in zip(made, (cell for cell in before if cell["method"] == "shuffled"), strict=True):
        same = cell["options"] | {
            "method": cell["options"]["method"] | {"penalty": old["options"]["method"]["penalty"]}
        }
        assert same == old["options"] and cell["seed"] == old["seed"]
    mean = {name: np.mean([cell["test"]["click"]["hr@20"] for cell in cells]) for name, cells in
            (("own", made), ("vpq", [cell for cell in before if cell["method"] == "vpq"]))}  # fmt: skip
    assert told["click hr@20"]["mean"] == pytest.approx(mean["own"])
    assert told["less sasrec-vpq"]["click hr@20"]["difference"] == pytest.approx(mean["own"] - mean["vpq"])
    lines = render.variant_lines(told)
    assert lines[0].startswith("| sasrec-shuffled, penalty=5 | ") and len({line.count("|") for line in lines[:5]}) == 1


def test_an_unchanged_option_makes_the_same_runs(
    data: vr.Dataset, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, data, table, "--row", "sasrec-vpq", "--against", "sasrec-vpq", "--set", "penalty=20")
    assert {each["difference"] for each in json.loads(capsys.readouterr().out)["less sasrec-vpq"].values()} == {0.0}


def test_the_floor_can_be_taken_away(
    data: vr.Dataset, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, data, table, "--row", "sasrec-vpq", "--against", "sasrec-vpq", "--set", "floor=none")
    assert json.loads(capsys.readouterr().out)["floored"] == 0
    assert {cell["options"]["method"]["floor"] for cell in Results(table.parent / "runs").cells("table1")} == {None}


def test_what_can_not_be_is_told(data: vr.Dataset, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValuerecError, match="vpq has no option 'lambda'; it has: heads, "):
        call(monkeypatch, data, table, "--row", "sasrec-vpq", "--against", "sasrec-vpq", "--set", "lambda=1")
    with pytest.raises(ValuerecError, match="has no cells of caser-vpq under ours"):
        call(monkeypatch, data, table, "--row", "caser-vpq", "--against", "sasrec-vpq", "--set", "penalty=1")
    with pytest.raises(UsageError, match="'sasrec-vqp', and no row is named so"):
        call(monkeypatch, data, table, "--row", "sasrec-vqp", "--against", "sasrec-vpq", "--set", "penalty=1")
