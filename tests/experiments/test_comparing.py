from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.made_up import cell, diverged, ranks_of, write_ranks_of, write_results
from valuerec.errors import ValuerecError
from valuerec.evaluation.significance import holm
from valuerec.experiments import comparing
from valuerec.experiments.cell import Figures, slug_of
from valuerec.experiments.comparing import compare, comparisons_of, pairs, significance_sheets
from valuerec.experiments.ranks import write_ranks
from valuerec.experiments.results import Results
from valuerec.experiments.table import lines_of

SHIFTS = {"supervised": 0.6, "rem": 0.3, "vpq": -0.2, "sarsa": 0.1, "shuffled": 0.5}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "RESAMPLES", 400)


def filled(folder: Path, shifts: dict[str, float], seeds: int = 3, **more: Any) -> Results:
    """Results with ranks, of SASRec's methods."""
    made = [(cell(method=method, seed=seed, shift=shift), shift) for method, shift in shifts.items()
            for seed in range(seeds)]  # fmt: skip
    results = write_results(folder, table1=[*(each for each, _ in made), *more.get("cells", [])])
    for each, shift in made:
        write_ranks_of(folder, each, shift)
    return results


def names(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["method"], entry["against"]) for entry in entries]


def test_each_with_plain_and_with_the_next_best_and_vpq_with_every_control(tmp_path: Path) -> None:
    # By Total: vpq, sarsa, rem, shuffled, supervised.
    found = names(compare(filled(tmp_path, SHIFTS)))
    assert found == [
        ("vpq", "supervised"),
        ("vpq", "sarsa"),  # the next best, and a control
        ("vpq", "shuffled"),
        ("sarsa", "supervised"),
        ("sarsa", "rem"),
        ("rem", "supervised"),
        ("rem", "shuffled"),
        ("shuffled", "supervised"),
    ]


def test_a_control_may_be_a_baseline_without_a_seed(tmp_path: Path) -> None:
    baseline = cell("untrained", "sknn", shift=-0.1)
    results = filled(tmp_path, SHIFTS, cells=[baseline])
    write_ranks_of(tmp_path, baseline, -0.1)
    entries = compare(results)
    (entry,) = (entry for entry in entries if entry["against"] == "sknn")
    assert (entry["backbone"], entry["method"], entry["runs"]) == ("sasrec", "vpq", [3, 1])
    assert entry["columns"]["click ndcg@20"]["difference"] == pytest.approx(
        sum(each["test"]["click"]["ndcg@20"] for each in results.cells("table1") if each["method"] == "vpq") / 3
        - baseline["test"]["click"]["ndcg@20"]
    )


def test_one_seed_and_what_diverged_are_not_compared(tmp_path: Path) -> None:
    lines = lines_of([cell(method="vpq"), *(cell(method="rem", seed=seed) for seed in range(2)),
                      cell(method="supervised"), diverged(method="supervised", seed=1)])  # fmt: skip
    assert list(pairs(lines)) == []
    assert compare(filled(tmp_path, {"vpq": 0.0}, seeds=1)) == []


def test_backbones_and_protocols_stay_apart() -> None:
    cells: list[Figures] = [
        cell(backbone, method, seed, shift, protocol=protocol)
        for backbone, protocol in (("caser", "ours"), ("sasrec", "ours"), ("sasrec", "released"))
        for method, shift in (("supervised", 0.3), ("vpq", 0.0))
        for seed in range(2)
    ]
    found = list(pairs(lines_of(cells)))
    assert len(found) == 3
    assert all(a.row.backbone == b.row.backbone and a.protocol == b.protocol for a, b in found)


def test_differences_are_the_tables_and_holm_corrects_over_all_of_a_backbone(tmp_path: Path) -> None:
    results = filled(tmp_path, {"supervised": 0.8, "vpq": 0.0, "rem": 0.02})
    entries = compare(results)
    lines = {line.row.method: line for line in lines_of(results.cells("table1"))}
    for entry in entries:
        means = [sum(lines[entry[name]].column(0)) / 3 for name in ("method", "against")]
        assert entry["columns"]["purchase hr@20"]["difference"] == pytest.approx(means[0] - means[1])
    columns = [column for entry in entries for column in entry["columns"].values()]
    assert [column["p_holm"] for column in columns] == holm([column["p_value"] for column in columns])
    assert len(columns) == 4 * len(entries)
    assert entries[0]["columns"]["click ndcg@20"]["p_holm"] < 0.05
    (close,) = (entry for entry in entries if {entry["method"], entry["against"]} == {"vpq", "rem"})
    assert close["columns"]["click ndcg@20"]["p_holm"] > 0.05
    assert json.loads((tmp_path / "significance.json").read_text()) == entries == comparisons_of(results)


def test_what_was_compared_is_not_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = filled(tmp_path, SHIFTS)
    first = compare(results)
    calls = []
    once = comparing.paired_bootstrap
    monkeypatch.setattr(comparing, "paired_bootstrap", lambda *a, **k: calls.append(1) or once(*a, **k))
    assert compare(results) == first and not calls
    changed = cell(method="rem", seed=0, shift=0.35)
    results.book("table1").add(changed)
    write_ranks_of(tmp_path, changed, 0.35)
    compare(results)
    assert len(calls) == sum("rem" in pair for pair in names(first))


def test_a_comparison_outlives_its_ranks(tmp_path: Path) -> None:
    results = filled(tmp_path, SHIFTS)
    first = compare(results)
    for path in (tmp_path / "ranks").iterdir():
        path.unlink()
    assert compare(results) == first


def test_a_comparison_without_ranks_does_not_outlive_its_cells(tmp_path: Path) -> None:
    results = filled(tmp_path, {"supervised": 0.6, "vpq": -0.2})
    assert compare(results)
    results.ranks(slug_of(cell(method="supervised", seed=0))).unlink()
    for seed in range(3):
        results.book("table1").add(worse := cell(method="vpq", seed=seed, shift=0.9))
        write_ranks_of(tmp_path, worse, 0.9)
    assert compare(results) == []


def test_ranks_of_other_events_are_refused(tmp_path: Path) -> None:
    results = filled(tmp_path, {"supervised": 0.3, "vpq": 0.0})
    path = results.ranks(slug_of(cell(method="vpq", seed=1)))
    write_ranks(path, ranks_of(1, 0.0, sessions=50))
    with pytest.raises(ValuerecError, match="not of the same events"):
        compare(results)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda entries: {"all": entries}, r"\(Input should be a valid list\)"),
        (lambda entries: [7], r"field 0: "),
        (lambda entries: [entries[0] | {"runs": [3]}], r"field 0\.runs: "),
        (lambda entries: [{name: value for name, value in entries[0].items() if name != "columns"}], r"0\.columns: "),
        (lambda entries: [entries[0] | {"columns": {"click hr@20": {"low": 0.0}}}], r"0\.columns\.click hr@20\.diff"),
    ],
)
def test_damaged_comparisons_are_refused(tmp_path: Path, change: Callable[[Any], Any], says: str) -> None:
    results = filled(tmp_path, {"supervised": 0.8, "vpq": 0.0})
    (tmp_path / "significance.json").write_text(json.dumps(change(compare(results))))
    with pytest.raises(ValuerecError, match=rf"significance\.json holds no comparisons .*{says}.*; remove it, "):
        comparisons_of(results)


def test_the_sheet_marks_what_survives(tmp_path: Path) -> None:
    (sheet,) = significance_sheets(compare(filled(tmp_path, {"supervised": 0.8, "vpq": 0.0})))
    ((row,),) = sheet.groups
    assert row[0] == "sasrec-vpq − supervised" and row[-1] == "3 / 3"
    assert row[4].startswith("+.") and (0, 0, 4) in sheet.best
