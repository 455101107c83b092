"""The whole way from raw log to dataset, against an oracle in plain Python."""

from __future__ import annotations

import csv
import json
import lzma
import random
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import oracle
from events.logs import START, STYLES, Bad, Row, Style, rows_of
from events.oracle import Event
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.events import parquet, prepare, sources

OPTIONS = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["random", "temporal"]),
        "seed": st.integers(0, 3),
        "min_item_events": st.integers(1, 4),
        "min_session_events": st.integers(1, 4),
        "sample_sessions": st.none() | st.integers(1, 4),
        "drop_duplicates": st.booleans(),
    }
)


def check_account_and_data(style: Style, rows: Sequence[Row], options: dict[str, Any], piece: int, order: Any) -> None:
    """What `prepare` says and writes is what the oracle says, whatever the order of rows and files and the pieces."""
    events = [row for row in rows if isinstance(row, Event)]
    bad = Counter([row.reason for row in rows if isinstance(row, Bad)] + list(style.own_bad))
    right = oracle.expected(events, style.format, **options)
    with (
        tempfile.TemporaryDirectory() as name,
        patch.object(sources, "_CHUNK_BYTES", piece),
        patch.object(parquet, "_BLOCK_ROWS", piece),
    ):
        shuffled = list(rows)
        order.shuffle(shuffled)
        written = []
        for log, log_rows in (("a", rows), ("b", shuffled)):
            folder = Path(name) / log
            folder.mkdir()
            files = style.write(folder, log_rows)
            if log == "b":
                files.reverse()

            def go(files: Sequence[Path] = files, out: Path = folder / "data") -> dict[str, Any]:
                return prepare(
                    files, format=style.format, out=out, max_bad_fraction=1, max_memory=None, **style.options, **options
                )

            if not right.events:
                with pytest.raises(ValuerecError, match="No event is left"):
                    go()
                assert not (folder / "data").exists()
                continue
            manifest = go()
            account = manifest["account"]
            assert account["bad"] == bad
            assert account["rows_read"] == len(rows) + len(style.own_bad)
            gone = sum(account["filtered"].values()) + account["duplicates"] + bad.total()
            assert account["rows_read"] == account["kept"] + gone
            assert oracle.found(folder / "data", manifest) == right
            check_counts(manifest, right)
            check_findings(manifest, oracle.noticed(events, right.events, options["drop_duplicates"]))
            check_quarantine(folder / "data", bad)
            Dataset(folder / "data")
            written.append(oracle.bytes_of(folder / "data"))
            assert manifest["fingerprint"] == json.loads((folder / "data/manifest.json").read_text())["fingerprint"]
        assert not written or written[0] == written[1]


def check_counts(manifest: dict[str, Any], right: oracle.Prepared, others: Sequence[str] = ()) -> None:
    parts: dict[str, Any] = {}
    for name in oracle.SPLITS:
        kinds = Counter(kind for *_, kind, split in right.events if split == name)
        parts[name] = {
            "sessions": sum(split == name for _, split, *_ in right.sessions),
            "events": kinds.total(),
            "clicks": kinds["click"],
            "purchases": kinds["purchase"],
            **{kind: kinds[kind] for kind in others},
        }
    assert manifest["splits"] == parts
    sums = {key: sum(part[key] for part in parts.values()) for key in parts["train"]}
    assert manifest["counts"] == sums | {"items": len(right.items)}
    assert manifest["account"]["kept"] == len(right.events)


def check_findings(manifest: dict[str, Any], right: dict[str, Any]) -> None:
    found = manifest["findings"]
    spellings = {field: (each["ids"], each["groups"]) for field, each in found["spellings"].items()}
    assert {name: found[name] for name in right} | {"spellings": spellings} == right


def check_quarantine(folder: Path, bad: Counter[str]) -> None:
    path = folder / "quarantine.parquet"
    assert path.exists() == bool(bad)
    if bad:
        assert Counter(pq.read_table(path)["reason"].to_pylist()) == bad


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=6, deadline=None)
@given(data=st.data(), options=OPTIONS, piece=st.sampled_from([5, 64, 1 << 23]), order=st.randoms())
def test_account_and_data_are_the_oracles_and_the_order_of_rows_is_nothing(
    name: str, data: st.DataObject, options: dict[str, Any], piece: int, order: Any
) -> None:
    style = STYLES[name]
    check_account_and_data(style, data.draw(rows_of(style)), options, piece, order)


@pytest.mark.slow
@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), options=OPTIONS, piece=st.sampled_from([5, 64, 1 << 23]), order=st.randoms())
def test_account_and_data_are_the_oracles_in_many_more_logs(
    name: str, data: st.DataObject, options: dict[str, Any], piece: int, order: Any
) -> None:
    style = STYLES[name]
    check_account_and_data(style, data.draw(rows_of(style)), options, piece, order)


def write_csv(path: Path, rows: Sequence[tuple[object, ...]]) -> Path:
    lines = ["session,item,time,event", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_random_split_is_80_10_10_and_a_session_keeps_its_place_when_the_log_grows(tmp_path: Path) -> None:
    few, many = (
        [(f"s{number}", "i", 1_400_000_000, "click") for number in range(count) for _ in range(3)]
        for count in (500, 4000)
    )
    places = []
    for name, rows in (("few", few), ("many", many)):
        log = write_csv(tmp_path / f"{name}.csv", rows)
        manifest = prepare([log], format="events", out=tmp_path / name)
        table = pq.read_table(tmp_path / name / "sessions.parquet")
        places.append(dict(zip(table["session"].to_pylist(), table["split"].to_pylist(), strict=True)))
    assert places[0].items() <= places[1].items()
    sizes = {name: part["sessions"] / 4000 for name, part in manifest["splits"].items()}
    assert sizes == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.02)


def test_the_bounds_of_the_random_split_are_where_they_should_be(tmp_path: Path) -> None:
    """Of six million sessions, those whose md5 lies closest to .8 and .9 on either side (within 5e-7)."""
    right = {"s519103": "train", "s4903756": "validation", "s1889973": "validation", "s3141393": "test"}
    log = write_csv(tmp_path / "log.csv", [(name, "i", 1_400_000_000, "click") for name in right for _ in range(3)])
    prepare([log], format="events", out=tmp_path / "data")
    table = pq.read_table(tmp_path / "data/sessions.parquet")
    assert dict(zip(table["session"].to_pylist(), table["split"].to_pylist(), strict=True)) == right


def test_a_temporal_split_goes_by_the_end_of_a_session_and_ties_by_id(tmp_path: Path) -> None:
    start = START // 1_000_000
    # All sessions begin alike; a and b end last, with the others tied so that ids decide, in byte order.
    rows = [(name, "i", start, "click") for name in ("a", "b", "Z", "é", "c", "d", "e", "f", "10", "9")]
    rows += [("a", "i", start + 100, "click"), ("b", "i", start + 50, "click")]
    log = write_csv(tmp_path / "log.csv", rows)
    prepare([log], format="events", out=tmp_path / "data", split="temporal", min_session_events=1)
    table = pq.read_table(tmp_path / "data/sessions.parquet")
    places = list(zip(table["session"].to_pylist(), table["split"].to_pylist(), strict=True))
    train = ["10", "9", "Z", "c", "d", "e", "f", "é"]
    assert places == [*((name, "train") for name in train), ("b", "validation"), ("a", "test")]


def test_another_seed_splits_and_samples_otherwise_but_keeps_the_events(tmp_path: Path) -> None:
    log = write_csv(tmp_path / "log.csv", [(i // 3, i % 3, 1_400_000_000 + i, "click") for i in range(300)])
    account, split, sample = set(), set(), set()
    for seed in range(3):
        manifest = prepare([log], format="events", out=tmp_path / f"{seed}", seed=seed)
        account.add(json.dumps(manifest["account"]))
        split.add(manifest["fingerprint"])
        manifest = prepare([log], format="events", out=tmp_path / f"{seed}s", seed=seed, sample_sessions=20)
        assert manifest["counts"]["sessions"] == 20
        assert manifest["account"]["filtered"] == {"not_sampled": 240}
        sample.add(tuple(pq.read_table(tmp_path / f"{seed}s/sessions.parquet")["session"].to_pylist()))
    assert (len(account), len(split), len(sample)) == (1, 3, 3)


def test_an_unknown_kind_of_event_is_bad_unless_the_map_says_what_it_is(tmp_path: Path) -> None:
    rows = [("s", "i", 1_400_000_000 + place, kind) for place, kind in enumerate(["click", "buy", "wish", "view"] * 3)]
    log = write_csv(tmp_path / "log.csv", rows)
    manifest = prepare([log], format="events", out=tmp_path / "a", max_bad_fraction=0.5)
    assert manifest["account"]["bad"] == {"unknown_event": 3}
    assert manifest["counts"]["purchases"] == 3
    # The user's map stands alone: "buy" and "view" are nothing that it names.
    manifest = prepare(
        [log], format="events", out=tmp_path / "b", events={"wish": "purchase", "click": "ignore"}, max_bad_fraction=1
    )
    assert manifest["account"] == {
        "rows_read": 12,
        "kept": 3,
        "filtered": {"ignored_event": 3},
        "duplicates": 0,
        "bad": {"unknown_event": 6},
    }


@settings(max_examples=25, deadline=None)
@given(
    events=st.lists(
        st.builds(
            Event,
            session=st.sampled_from("abcd"),
            item=st.sampled_from("xyz"),
            time=st.integers(START, START + 3).map(lambda time: time // 1_000_000 * 1_000_000),
            kind=st.sampled_from(["click", "purchase", "cart", "wish_list", "ignore"]),
        ),
        min_size=1,
        max_size=40,
    ),
    options=OPTIONS,
)
def test_a_log_may_have_kinds_of_events_of_its_own(events: list[Event], options: dict[str, Any]) -> None:
    meanings = {"view": "click", "basket": "cart", "Wish": "wish_list", "order": "purchase", "nothing": "ignore"}
    said = {meaning: name for name, meaning in meanings.items()}
    right = oracle.expected(events, "events", others=("cart", "wish_list"), **options)
    with tempfile.TemporaryDirectory() as name:
        rows = [(session, item, time // 1_000_000, said[kind]) for session, item, time, kind in events]
        log, out = write_csv(Path(name) / "log.csv", rows), Path(name) / "data"
        go = partial(prepare, [log], format="events", out=out, events=meanings, max_memory=None, **options)
        if not right.events:
            with pytest.raises(ValuerecError, match="No event is left"):
                go()
            return
        manifest = go()
        assert manifest["event_kinds"] == ["click", "purchase", "cart", "wish_list"] == list(Dataset(out).kinds)
        assert oracle.found(out, manifest) == right
        check_counts(manifest, right, ("cart", "wish_list"))
        check_findings(manifest, oracle.noticed(events, right.events, options["drop_duplicates"]))


@pytest.mark.parametrize(
    ("meaning", "sentence"),
    [
        ("buy", "--events says x=buy, which is another word for purchase; write purchase, or name"),
        ("purchse", "--events says x=purchse, which looks like purchase; name"),
        ("Clik", "an event is a click, a purchase, ignore, or a kind of its own"),
        ("clik", "looks like click"),
        ("ignored", "looks like ignore"),
        ("sessions", "(not events, items, sessions)"),
        ("a b", "by up to 30 small letters"),
        ("x" * 31, "by up to 30 small letters"),
        ("cart\n", "by up to 30 small letters"),
        ("", "by up to 30 small letters"),
        (None, "write a name, such as click or cart"),
        (["cart"], "write a name, such as click or cart"),
    ],
)
def test_what_can_be_no_kind_or_looks_misspelt_is_refused(tmp_path: Path, meaning: Any, sentence: str) -> None:
    log = write_csv(tmp_path / "log.csv", [("s", "i", 1_400_000_000, "x")])
    with pytest.raises(UsageError, match=re.escape(sentence)):
        prepare([log], format="events", out=tmp_path / "out", events={"x": meaning})
    assert not (tmp_path / "out").exists()


def test_there_is_a_most_of_kinds(tmp_path: Path) -> None:
    log = write_csv(tmp_path / "log.csv", [("s", "i", 1_400_000_000 + place, f"e{place}") for place in range(126)] * 3)
    meanings = {f"e{place}": f"kind{place}q{place}" for place in range(126)}
    prepare([log], format="events", out=tmp_path / "most", events=meanings)
    dataset = Dataset(tmp_path / "most")
    assert dataset.kinds[2:] == tuple(meanings.values()) and set(dataset.event_E.tolist()) == set(range(2, 128))
    with pytest.raises(UsageError, match="names 129 kinds of events, and 128 are allowed"):
        prepare([log], format="events", out=tmp_path / "more", events=meanings | {"x": "zzz"})


def test_a_formats_own_meanings_can_be_changed(tmp_path: Path) -> None:
    log = tmp_path / "events.csv"
    kinds = ["view,i,", "addtocart,i,", "transaction,i,5", "view,i,6"]
    rows = [f"{1_400_000_000_000 + place},1,{kind}" for place, kind in enumerate(kinds * 3)]
    log.write_text("timestamp,visitorid,event,itemid,transactionid\n" + "\n".join(rows) + "\n")
    manifest = prepare([log], format="retailrocket", out=tmp_path / "a")
    assert manifest["account"]["filtered"] == {"transaction_row": 6}, "whatever its event, a row with an id is one"
    assert (manifest["counts"]["clicks"], manifest["counts"]["purchases"]) == (3, 3)
    meanings = {"transaction": "purchase", "addtocart": "ignore"}
    manifest = prepare([log], format="retailrocket", out=tmp_path / "b", events=meanings)
    assert manifest["account"]["filtered"] == {"ignored_event": 3}
    assert (manifest["counts"]["clicks"], manifest["counts"]["purchases"]) == (6, 3)


@pytest.mark.parametrize("column", ["session", "item", "time", "event", "number"])
def test_a_folder_named_like_a_column_and_a_value_changes_nothing(tmp_path: Path, column: str) -> None:
    """Engines may take such folders, which Hive makes, for columns."""
    log = write_csv(tmp_path / "log.csv", [(i // 3, i % 3, 1_400_000_000 + i, "click") for i in range(30)])
    right = prepare([log], format="events", out=tmp_path / "data")
    found = prepare([log], format="events", out=tmp_path / f"{column}=1" / "data")
    assert found["fingerprint"] == right["fingerprint"]


def test_progress_is_told_and_the_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    log = write_csv(tmp_path / "log.csv", [("s", "i", 1_400_000_000, "click")] * 3)
    told: list[str] = []
    manifest = prepare([log], format="events", out=tmp_path / "data", progress=told.append)
    assert told[0] == "reading the files"
    assert manifest["config"]["format"] == "events"
    assert manifest["sources"][0]["name"] == "log.csv"
    assert manifest["time"] == {
        "unit": "s",
        "first": "2014-05-13T16:53:20.000000Z",
        "last": "2014-05-13T16:53:20.000000Z",
    }
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        *oracle.DATA_FILES[:3],
        "manifest.json",
        "sessions.parquet",
    ]


@pytest.mark.real
def test_the_yoochoose_sample_has_its_counts_and_its_shuffled_rows_give_the_same_bytes(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "yoochoose-1pct"
    names = ["yoochoose-clicks.dat.xz", "yoochoose-buys.dat.xz"]
    manifest = prepare([folder / name for name in names], format="yoochoose", out=tmp_path / "data")
    counts = {key: manifest["counts"][key] for key in ("sessions", "items", "clicks", "purchases")}
    assert counts == {"sessions": 43_051, "items": 11_811, "clicks": 235_939, "purchases": 9_981}
    assert manifest["account"]["rows_read"] == 329_537 + 11_825
    assert manifest["account"]["bad"] == {}

    draw, shuffled = random.Random(0), []
    for name in names:
        lines = lzma.decompress((folder / name).read_bytes()).splitlines(keepends=True)
        draw.shuffle(lines)
        shuffled.append(tmp_path / name.removesuffix(".xz"))
        shuffled[-1].write_bytes(b"".join(lines))
    again = prepare(shuffled[::-1], format="yoochoose", out=tmp_path / "again")
    assert again["fingerprint"] == manifest["fingerprint"]
    assert oracle.bytes_of(tmp_path / "again") == oracle.bytes_of(tmp_path / "data")


@pytest.mark.real
@pytest.mark.parametrize("split", ["temporal", pytest.param("random", marks=pytest.mark.slow)])
def test_the_yoochoose_sample_is_what_the_oracle_makes_of_it(shared_data: Path, tmp_path: Path, split: str) -> None:
    """Through a CSV reader and a clock of Python's own."""
    folder, events = shared_data / "yoochoose-1pct", []
    for name, kind in (("clicks", "click"), ("buys", "purchase")):
        with lzma.open(folder / f"yoochoose-{name}.dat.xz", "rt", newline="") as file:
            for session, time, item, *_ in csv.reader(file):
                milliseconds = round(datetime.fromisoformat(time).timestamp() * 1000)
                events.append(Event(session, item, milliseconds * 1000, kind))
    files = sorted(folder.glob("*.xz"))
    manifest = prepare(files, format="yoochoose", out=tmp_path / "data", split=split)
    assert oracle.found(tmp_path / "data", manifest) == oracle.expected(events, "yoochoose", split=split)


@pytest.mark.real
def test_ottos_own_sample_is_what_the_oracle_makes_of_it(shared_data: Path, tmp_path: Path) -> None:
    log = shared_data / "otto-sample/train.jsonl"
    kinds = {"clicks": "click", "carts": "ignore", "orders": "purchase"}
    events = [
        Event(str(line["session"]), str(event["aid"]), event["ts"] * 1000, kinds[event["type"]])
        for line in map(json.loads, log.read_text().splitlines())
        for event in line["events"]
    ]
    manifest = prepare([log], format="otto", out=tmp_path / "data", min_item_events=1)
    assert manifest["account"]["rows_read"] == 862
    assert oracle.found(tmp_path / "data", manifest) == oracle.expected(events, "otto", min_item_events=1)
