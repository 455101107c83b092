"""What is noticed across rows is reported; nothing is dropped for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from valuerec.events import prepare
from valuerec.events.findings import folded

TIME = 1_400_000_000


def prepared(folder: Path, rows: list[tuple[object, ...]], name: str = "data", **options: Any) -> dict[str, Any]:
    log = folder / "log.csv"
    log.write_text("session,item,time,event\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return prepare([log], format="events", out=folder / name, min_item_events=1, min_session_events=1, **options)


@pytest.mark.parametrize(
    ("ids", "right"),
    [
        (["A1", "a1"], "a1"),
        (["a1 ", "\ta1", "a1"], "a1"),
        (["007", "7", "7.0", "7.00"], "7"),
        (["0", "000", "0.0"], "0"),
        (["é", "e\u0301", "É"], "é"),
        (["\uff21", "a"], "a"),
        (["7a", "7A"], "7a"),
        (["\ufeff7a", "7\u200ba", "7a \u2060"], "7a"),
    ],
)
def test_spellings_fold_to_one(ids: list[str], right: str) -> None:
    assert set(folded(pa.array(ids)).to_pylist()) == {right}


def test_other_ids_do_not_fold_together() -> None:
    ids = ["7", "70", "0.7", "07a", "7a", "a-1", "a1", "a 1", "1.50", "1.5"]
    assert folded(pa.array(ids)).to_pylist() == ids


def test_ids_in_more_than_one_spelling_are_counted_shown_and_kept_apart(tmp_path: Path) -> None:
    items = ["B2", "b2", " b2", "7", "07", "solo", "UPPER", "x" * 100 + "Y", "x" * 100 + "y"]
    manifest = prepared(tmp_path, [("s", item, TIME, "click") for item in items])
    assert manifest["counts"]["items"] == len(items)
    assert manifest["findings"]["spellings"] == {
        "item": {"ids": 7, "groups": 3, "examples": [["07", "7"], [" b2", "b2"], ["x" * 60 + "…"] * 2]}
    }
    (note,) = (note for note in manifest["notes"] if "spelling" in note)
    assert note.startswith("7 item ids in 3 groups differ only in spelling ('07' and '7'")


def test_purchases_of_what_was_never_clicked_are_reported_before_filters_hide_them(tmp_path: Path) -> None:
    rows = [("s", "i", TIME, "click"), ("s", "j", TIME, "purchase"), ("t", "i", TIME, "purchase")]
    findings = prepared(tmp_path, rows)["findings"]
    assert findings["purchases_of_unseen_items"] == 1
    assert findings["purchases_in_unseen_sessions"] == 1


def test_repetitions_are_counted_and_dropped_only_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = [("s", "i", TIME, "click")] * 3 + [("s", "i", TIME, "purchase"), ("s", "i", TIME + 1, "click")]
    kept = prepared(tmp_path, rows, "kept")
    assert (kept["account"]["kept"], kept["findings"]["repetitions"]) == (5, 2)
    assert any(note.startswith("2 of the events kept repeat another exactly") for note in kept["notes"])
    dropped = prepared(tmp_path, rows, "dropped", drop_duplicates=True)
    assert dropped["account"] == {"rows_read": 5, "kept": 3, "filtered": {}, "duplicates": 2, "bad": {}}
    assert dropped["findings"]["repetitions"] == 0


def test_the_same_event_in_two_files_of_two_formats_and_units_is_a_repetition(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"session,item,time\ns,i,{TIME}\ns,j,{TIME}\n")
    (tmp_path / "b.jsonl").write_text('{"session": "s", "item": "i", "time": "2014-05-13T18:53:20+02:00"}\n')
    times = pa.array([TIME * 10**9], pa.timestamp("ns", "Asia/Tokyo"))
    pq.write_table(pa.table({"session": ["s"], "item": ["i"], "time": times}), tmp_path / "c.parquet")
    files = [tmp_path / name for name in ("a.csv", "b.jsonl", "c.parquet")]
    options: dict[str, Any] = {"format": "events", "min_item_events": 1, "min_session_events": 1}
    assert prepare(files, out=tmp_path / "kept", **options)["findings"]["repetitions"] == 2
    manifest = prepare(files, out=tmp_path / "dropped", drop_duplicates=True, **options)
    assert manifest["account"] == {"rows_read": 4, "kept": 2, "filtered": {}, "duplicates": 2, "bad": {}}


def test_words_for_nothing_are_kept_as_ids_and_reported(tmp_path: Path) -> None:
    manifest = prepared(
        tmp_path, [("NULL", "nan", TIME, "click"), ("NULL", "i", TIME, "click"), ("s", "i", TIME, "click")]
    )
    assert manifest["findings"]["no_ids"] == {"session": {"NULL": 2}, "item": {"nan": 1}}
    assert manifest["account"]["kept"] == 3


@pytest.mark.parametrize("word", ["-", " NaN ", "?", "NA"])
def test_more_words_for_nothing(tmp_path: Path, word: str) -> None:
    manifest = prepared(tmp_path, [("s", word, TIME, "click"), ("s", "i-", TIME, "click")])
    assert manifest["findings"]["no_ids"] == {"item": {word: 1}}


@pytest.mark.parametrize("blank", [" ", "\t ", "\u00a0", "\ufeff", "\u200b\u3000", "\u2028", "\u3164\ufe0f", "\x1f"])
def test_an_id_that_shows_nothing_is_missing(tmp_path: Path, blank: str) -> None:
    rows = [("s", blank, TIME, "click"), (blank, "i", TIME, "click"), ("s", f"{blank}i", TIME, "click")]
    manifest = prepared(tmp_path, rows, max_bad_fraction=1)
    assert manifest["account"]["bad"] == {"empty_session": 1, "empty_item": 1}
    assert manifest["account"]["kept"] == 1


def test_a_log_without_anything_to_notice_has_no_notes(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, [(f"s{i}", "item-1_x", TIME, "click") for i in range(5)])
    assert manifest["notes"] == []
