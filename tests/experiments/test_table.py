from __future__ import annotations

import statistics

import pytest

from experiments.made_up import cell, diverged
from valuerec.experiments.cell import key_of
from valuerec.experiments.rows import Row
from valuerec.experiments.sheets import markdown
from valuerec.experiments.table import (
    COLUMNS,
    by_variant,
    lines_of,
    published_name,
    published_sheet,
    spread,
    table_sheet,
    troubles_of,
)


def with_test(values: tuple[float, float, float, float], **names: object) -> dict[str, object]:
    made = cell(**names)  # type: ignore[arg-type]
    metrics: dict[str, dict[str, float]] = {"purchase": {}, "click": {}}
    for (kind, name), value in zip(COLUMNS, values, strict=True):
        metrics[kind][name] = value
    return made | {"test": metrics}


def test_means_totals_and_gains_by_hand() -> None:
    cells = [
        with_test((0.6, 0.3, 0.4, 0.2), method="supervised", seed=0),
        with_test((0.7, 0.4, 0.4, 0.2), method="supervised", seed=1),
        with_test((0.8, 0.5, 0.4, 0.22), method="vpq", seed=0),
        diverged(method="vpq", seed=1),
        with_test((0.6, 0.5, 0.4, 0.22), method="vpq", backbone="caser", protocol="released"),
    ]
    plain, vpq, alone = lines_of(cells)
    assert (plain.row, vpq.row, alone.row) == (Row("sasrec", "supervised"), Row("sasrec", "vpq"), Row("caser", "vpq"))
    assert plain.totals == pytest.approx([1.5, 1.7]) and plain.gain == 0
    assert vpq.gain == pytest.approx(100 * (1.92 / 1.6 - 1)) and (len(vpq.values), vpq.diverged) == (1, 1)
    assert alone.gain is None  # its plain row is of another protocol
    sheet = table_sheet([plain, vpq], "Test")
    assert sheet.groups[0][0] == [
        "sasrec-supervised", "0.6500 ± 0.0707", "0.3500 ± 0.0707", "0.4000 ± 0.0000", "0.2000 ± 0.0000",
        "1.6000 ± 0.1414", "+0.00", "2",
    ]  # fmt: skip
    assert sheet.groups[0][1][-2:] == ["+20.00", "1 (1 diverged)"]
    assert sheet.best == {(0, 1, 1), (0, 1, 2), (0, 0, 3), (0, 1, 3), (0, 1, 4)}


def test_over_a_plain_backbone_that_finds_nothing_there_is_no_gain() -> None:
    nothing = with_test((0.0, 0.0, 0.0, 0.0), method="supervised")
    assert [line.gain for line in lines_of([nothing, cell(method="vpq")])] == [None, None]
    assert table_sheet(lines_of([nothing, cell(method="vpq")]), "Test").groups[0][1][-2] == "–"


def test_a_row_that_only_diverged_is_shown_without_figures() -> None:
    sheet = table_sheet(lines_of([diverged(method="sac"), cell(method="vpq")]), "Test")
    assert sheet.groups[0][0] == ["sasrec-sac", *["–"] * 5, "–", "0 (1 diverged)"]


def test_a_collapsed_run_is_marked_and_counts() -> None:
    collapsed = cell(method="cql", seed=1, trouble="collapsed: the best validation score, 0.0272, is below ...")
    sheet = table_sheet(lines_of([cell(method="cql"), collapsed, cell(method="vpq")]), "Test")
    assert sheet.groups[0][0][-1] == "2 (1 collapsed)" and sheet.groups[0][1][-1] == "1"
    assert sheet.notes[0].startswith("Collapsed:")
    assert not table_sheet(lines_of([cell(method="vpq")]), "Test").notes


def test_less_than_half_of_the_plain_backbones_is_a_collapse() -> None:
    scores = (("supervised", 0, 0.3), ("supervised", 1, 0.2), ("cql", 0, 0.13), ("cql", 1, 0.12), ("rem", 0, 0.24))
    cells = [cell("caser", method, seed, score=score) for method, seed, score in scores]
    cells += [cell("caser", "vpq", protocol="released", score=0.01), diverged(backbone="caser", method="sac")]
    told = troubles_of(cells)
    assert told[key_of(cells[3])].startswith("collapsed: the best validation score, 0.1200, is below half of the plain")
    assert told[key_of(cells[-1])] == cells[-1]["trouble"] and len(told) == 2
    assert {line.row.method: line.collapsed for line in lines_of(cells)} == {
        "supervised": 0, "sac": 0, "rem": 0, "cql": 1, "vpq": 0,
    }  # fmt: skip


def test_markdown_marks_the_best_and_breaks_nothing() -> None:
    head, rule, *rows = markdown(table_sheet(lines_of([cell(method="rem", shift=0.5), cell(method="vpq")]), "Test"))
    assert {line.count("|") for line in (head, rule, *rows)} == {9}
    assert "**" in rows[1] and "**" not in rows[0]


def test_spread() -> None:
    assert (spread([]), spread([0.5]), spread([1.0, 2.0, 3.0], 1)) == ("–", "0.5000", "2.0 ± 1.0")


def test_variants_come_in_order_and_without_what_diverged() -> None:
    cells = [cell(variant="b"), cell(variant="a", seed=1), cell(variant="a"), diverged(variant="c")]
    found = by_variant(cells, ("a", "b", "c", "d"))
    assert list(found) == ["a", "b"] and [len(column) for column in found["a"]] == [2] * 4
    assert found["b"][0] == [cell()["test"]["purchase"]["hr@20"]]


PRINTED = {  # the paper's Total and gain
    "caser-supervised": (2.9665, 0.0), "caser-uwac": (2.8893, -2.60), "nextitnet-vpq": (3.6175, 6.64),
    "sasrec-supervised": (3.4861, 0.0), "sasrec-cql": (3.6997, 6.12), "sasrec-vpq": (3.8153, 9.44),
}  # fmt: skip


def published(row: str) -> list[float]:
    """A row's eight numbers, from the two tables that a reader sees."""
    found = []
    for name in ("retailrocket", "yoochoose"):
        groups = published_sheet(name, []).groups
        (cells,) = (cells for group in groups for cells in group if cells[0] == row)
        found += [float(text.partition(" / ")[0]) for text in cells[1:]]
    return found


@pytest.mark.parametrize("row", list(PRINTED))
def test_the_published_numbers_add_up_to_the_printed_totals_and_gains(row: str) -> None:
    total, gain = PRINTED[row]
    plain = published(f"{row.partition('-')[0]}-supervised")
    assert len(published(row)) == 8
    assert sum(published(row)) == pytest.approx(total, abs=2e-4)
    assert 100 * (sum(published(row)) / sum(plain) - 1) == pytest.approx(gain, abs=0.02)


def test_the_published_datasets_are_known_by_their_counts() -> None:
    counts = {"sessions": 200_000, "items": 26_500, "clicks": 1_112_000, "purchases": 43_500}
    assert published_name(counts) == "yoochoose"
    assert published_name({"sessions": 195_523, "items": 70_852, "clicks": 1_176_680, "purchases": 57_269}) == (
        "retailrocket"
    )
    assert published_name({"sessions": 43_051, "items": 11_811, "clicks": 235_939, "purchases": 9_981}) is None
    assert published_name(counts | {"items": 11_811}) is None and published_name({}) is None


def test_published_numbers_stand_beside_ours() -> None:
    lines = lines_of([cell(method="vpq", seed=seed) for seed in range(2)])
    groups = published_sheet("yoochoose", lines).groups
    ours = statistics.mean(lines[0].column(0))
    assert sum(len(group) for group in groups) == 21
    assert groups[2][-1][:2] == ["sasrec-vpq", f"0.6841 / {ours:.4f}"] and groups[2][0][1] == "0.6630 / –"
