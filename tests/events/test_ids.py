"""Ids in, the same ids out, wherever they stand; what shows nothing is none; ids of two kinds are refused."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events import oracle
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.events import parquet, prepare, sources

TIME = 1_400_000_000
# Any text but half a surrogate pair, which is none.
UNSEEN = st.sampled_from("\ufeff\u200b\u00a0 ")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | UNSEEN, min_size=1, max_size=20)
ONE_LINE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n") | UNSEEN, min_size=1, max_size=20
)
PIECES = st.sampled_from([7, 64, 1 << 23])  # bytes of text, or rows of Parquet, that are read together
TRICKY = [
    "\ufeff7",
    "\ufeff",
    " ",
    "-",
    "\ufeff\ufeff7",
    "007",
    "7",
    " 7",
    "7 ",
    "1e3",
    "NULL",
    "null",
    "NaN",
    "true",
    "é",
    "e\u0301",
    "İ",
    "ß",
    'a"b',
    "a,b",
    "x" * 50_000,
]


def _csv(path: Path, ids: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["session", "item", "time"], *([name, name, TIME] for name in ids)])


def _json(path: Path, ids: Sequence[str]) -> None:
    lines = (json.dumps({"session": name, "item": name, "time": TIME}) for name in ids)
    path.write_text("\n".join(lines))


def _parquet(path: Path, ids: Sequence[str]) -> None:
    pq.write_table(pa.table({"session": ids, "item": ids, "time": [TIME] * len(ids)}), path)


def check_round_trip(write: Callable[[Path, Sequence[str]], None], ids: Sequence[str], piece: int) -> None:
    """Ids come out as they are, or are told to be none; a last one, that a log is left whatever the others are."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(sources, "_CHUNK_BYTES", piece),
        patch.object(parquet, "_BLOCK_ROWS", piece),
    ):
        log, data = Path(folder) / "log", Path(folder) / "data"
        write(log, [*ids, "last"])
        options = {"min_item_events": 1, "min_session_events": 1, "max_bad_fraction": 1}
        manifest = prepare([log], format="events", out=data, **options)
        bad = {
            name: "nul_byte" if "\x00" in name else "empty_session"
            for name in ids
            if "\x00" in name or oracle.is_blank(name)
        }
        assert manifest["account"]["bad"] == Counter(bad[name] for name in ids if name in bad)
        in_order = sorted({*ids, "last"} - set(bad), key=str.encode)
        assert Dataset(data).item_ids == in_order
        assert sorted(pq.read_table(data / "sessions.parquet")["session"].to_pylist(), key=str.encode) == in_order
        events = pq.read_table(data / "events.parquet")
        assert events["session"].to_pylist() == events["item"].to_pylist()


@settings(max_examples=10, deadline=None)
@given(st.lists(ONE_LINE), PIECES)
@example(TRICKY, 1 << 23)
@example(TRICKY, 64)
def test_ids_in_csv_come_out_byte_for_byte(ids: list[str], piece: int) -> None:
    check_round_trip(_csv, ids, piece)


@pytest.mark.parametrize("write", [_json, _parquet])
@settings(max_examples=10, deadline=None)
@given(st.lists(ANY_TEXT), PIECES)
@example([*TRICKY, "a\nb", "a\r\n", "nul\x00", "\x00"], 64)
def test_ids_in_json_and_parquet_come_out_byte_for_byte(
    write: Callable[[Path, Sequence[str]], None], ids: list[str], piece: int
) -> None:
    check_round_trip(write, ids, piece)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("beside", ["", ",x\ry", ",x\x00"], ids=["fast parser", "stray CR", "NUL"])
def test_a_mark_before_an_id_is_a_part_of_it_in_every_row(tmp_path: Path, place: int, beside: str) -> None:
    lines = [f"s0,i0,{TIME},click"] * 3
    lines.insert(place, f"\ufeffs0,i0,{TIME},click")
    log = tmp_path / "log.csv"
    log.write_text(
        "\n".join(["\ufeffsession,item,time,event", *lines, *([f"s0{beside}"] if beside else [])]), newline=""
    )
    manifest = prepare([log], format="events", out=tmp_path / "data", min_session_events=1, max_bad_fraction=1)
    assert pq.read_table(tmp_path / "data/sessions.parquet")["session"].to_pylist() == ["s0", "\ufeffs0"]
    assert manifest["findings"]["spellings"]["session"]["ids"] == 2


@pytest.mark.parametrize("beside", ["", "x\ry", "x\x00"], ids=["fast parser", "stray CR", "NUL"])
def test_a_line_that_is_a_mark_alone_has_too_few_fields(tmp_path: Path, beside: str) -> None:
    log = tmp_path / "log.csv"
    log.write_text(f"session,item,time\n\ufeff\n{beside or 'x'}\n" + f"s,i,{TIME}\n" * 3, newline="")
    manifest = prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=1)
    assert manifest["account"]["bad"] == Counter(
        ["wrong_field_count", "nul_byte" if "\x00" in beside else "wrong_field_count"]
    )


def test_whole_numbers_become_their_digits_however_large(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f'{{"session": 1, "item": {item}, "time": {TIME}}}\n' for item in (2**70, -5, 0, 0)))
    prepare([log], format="events", out=tmp_path / "data", min_item_events=1)
    assert Dataset(tmp_path / "data").item_ids == sorted([str(2**70), "-5", "0"])
    pq.write_table(
        pa.table({"session": [1] * 3, "item": pa.array([2**64 - 1, 5, 0], "uint64"), "time": [TIME] * 3}), log
    )
    prepare([log], format="events", out=tmp_path / "more", min_item_events=1)
    assert Dataset(tmp_path / "more").item_ids == ["0", str(2**64 - 1), "5"]


def _rows(path: Path, session: object, item: object, count: int = 3) -> Path:
    """A log of one event, several times, in the format that the path's ending says."""
    if path.suffix == ".csv":
        path.write_text("session,item,time\n" + f"{session},{item},{TIME}\n" * count)
    elif path.suffix == ".jsonl":
        path.write_text(f"{json.dumps({'session': session, 'item': item, 'time': TIME})}\n" * count)
    else:
        pq.write_table(pa.table({"session": [session] * count, "item": [item] * count, "time": [TIME] * count}), path)
    return path


@pytest.mark.parametrize("field", ["session", "item"])
@pytest.mark.parametrize(
    ("one", "other", "number", "text"),
    [
        ("a.csv", "b.csv", 7, "x"),
        ("a.parquet", "b.parquet", 7, "7"),
        ("a.jsonl", "b.jsonl", 7, "7"),
        ("a.parquet", "b.jsonl", 7, "7"),
        ("a.jsonl", "b.csv", 7, "x"),
    ],
)
def test_ids_that_are_numbers_in_one_file_and_text_in_another_are_refused(
    tmp_path: Path, field: str, one: str, other: str, number: int, text: str
) -> None:
    logs = [
        _rows(tmp_path / name, **({"session": 1, "item": 1} | {field: value}))
        for name, value in ((one, number), (other, text))
    ]
    for files in (logs, logs[::-1]):
        with pytest.raises(ValuerecError) as caught:
            prepare(files, format="events", out=tmp_path / "data")
        assert f"The {field} ids are numbers in {logs[0]} and text in {logs[1]}" in str(caught.value)
        assert not (tmp_path / "data").exists()


def test_ids_that_mean_the_same_meet_across_files_of_different_kinds(tmp_path: Path) -> None:
    logs = [_rows(tmp_path / name, 7, 9, count=1) for name in ("a.csv", "b.jsonl", "c.parquet")]
    manifest = prepare(logs, format="events", out=tmp_path / "data")
    assert (manifest["counts"]["sessions"], manifest["counts"]["items"], manifest["counts"]["events"]) == (1, 1, 3)


@pytest.mark.parametrize("other", ['"7"', "7.0", "true", "[7]"])
def test_in_one_json_file_ids_are_of_one_kind(tmp_path: Path, other: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(
        f'{{"session": 7, "item": 1, "time": {TIME}}}\n' * 3 + f'{{"session": {other}, "item": 1, "time": 1}}\n'
    )
    if other == '"7"':
        with pytest.raises(ValuerecError, match="a number in row 1, text in row 4"):
            prepare([log], format="events", out=tmp_path / "data")
    else:
        manifest = prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=0.5)
        assert manifest["account"]["bad"] == {"unreadable_id": 1}


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.binary(), pa.list_(pa.int64())], ids=str)
def test_a_parquet_column_that_holds_no_ids_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    values = {pa.float64(): 1.0, pa.bool_(): True, pa.binary(): b"1", pa.list_(pa.int64()): [1]}
    table = pa.table({"session": pa.array([values[kind]], kind), "item": ["i"], "time": [TIME]})
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(UsageError, match="column session holds"):
        prepare([tmp_path / "log.parquet"], format="events", out=tmp_path / "data")
