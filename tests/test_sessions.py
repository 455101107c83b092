"""Files of sessions come from outside: what is read is what was written, or a sentence says why not."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from valuerec.errors import UsageError, ValuerecError
from valuerec.sessions import FORMATS, Session, read_sessions

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
csv_ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


def sessions_of(id_of: st.SearchStrategy[str]) -> st.SearchStrategy[list[Session]]:
    one = st.builds(Session, id_of, st.lists(id_of, max_size=4))
    return st.lists(one, min_size=1, max_size=5, unique_by=lambda session: session.id)


def write(path: Path, sessions: list[Session]) -> None:
    """The plainest writer of each format."""
    rows = [(session.id, item) for session in sessions for item in (session.items or [None])]
    if path.name == "lists.parquet":
        column = pa.array([session.items for session in sessions], pa.list_(pa.string()))
        pq.write_table(pa.table({"session": [session.id for session in sessions], "items": column}), path)
    elif path.suffix == ".parquet":
        column = pa.array([item for _, item in rows], pa.string())
        pq.write_table(pa.table({"session": [session for session, _ in rows], "item": column}), path)
    elif path.suffix in (".csv", ".tsv"):
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(["session", "item"])
        writer.writerows((session, item or "") for session, item in rows)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    else:
        path.write_text(
            "".join(json.dumps({"session": name, "items": items}) + "\n" for name, items in sessions), encoding="utf-8"
        )


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a.parquet", "lists.parquet"])
@QUICK
@given(sessions=sessions_of(ids))
def test_what_is_read_is_what_was_written(tmp_path: Path, name: str, sessions: list[Session]) -> None:
    write(tmp_path / name, sessions)
    assert read_sessions(tmp_path / name) == sessions


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@QUICK
@given(sessions=sessions_of(csv_ids))
def test_what_is_read_is_what_was_written_in_a_table_of_text(
    tmp_path: Path, name: str, sessions: list[Session]
) -> None:
    write(tmp_path / name, sessions)
    assert read_sessions(tmp_path / name) == sessions


def answer_or_sentence(path: Path) -> None:
    try:
        sessions = read_sessions(path)
    except ValuerecError as error:
        assert str(path) in str(error) and "\n" not in str(error) and str(error).endswith(".")
    else:
        assert sessions
        for session in sessions:
            for each in (session.id, *session.items):
                assert each and each.encode()


HEADERS = (b"", b"session,item\n", b"session\titem\n", b'{"session": "a", "items": [')
junk = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(['session', 'item', 'items', ',', '\t', '"', '\n', '\r', "1", "a", "é", "[", "]", "{", "}",
                              ":", "\\ud800", "NaN", "1e999", "\0", " ", "null", "-"]), max_size=25)
    .map(lambda parts: "".join(parts).encode()),
)  # fmt: skip


@pytest.mark.parametrize("ending", FORMATS)
@QUICK
@given(content=junk, header=st.sampled_from(HEADERS))
def test_whatever_a_file_holds_is_answered_or_refused_in_a_sentence(
    tmp_path: Path, ending: str, content: bytes, header: bytes
) -> None:
    path = tmp_path / f"junk{ending}"
    path.write_bytes(header + content)
    answer_or_sentence(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(line=values | st.fixed_dictionaries({"session": values, "items": values}))
def test_any_json_is_answered_or_refused_in_a_sentence(tmp_path: Path, line: object) -> None:
    path = tmp_path / "any.jsonl"
    path.write_text(json.dumps(line) + "\n")
    answer_or_sentence(path)


@settings(parent=QUICK, max_examples=150)
@given(place=st.integers(0, 10_000), mask=st.integers(1, 255), kept=st.integers(0, 10_000))
def test_a_damaged_parquet_file_is_answered_or_refused_in_a_sentence(
    tmp_path: Path, place: int, mask: int, kept: int
) -> None:
    path = tmp_path / "damaged.parquet"
    write(path, [Session("a", ["1", "2"]), Session("b", [])])
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= mask
    path.write_bytes(content if kept % 2 else content[: kept % len(content)])
    answer_or_sentence(path)


AT = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
COLUMNS = {
    "times as ids": ({"session": ["a"], "item": AT}, "column item is timestamp"),
    "fractions as ids": ({"session": [1.5], "item": ["a"]}, "column session is double"),
    "truth as ids": ({"session": [True], "item": ["a"]}, "column session is bool"),
    "bytes as ids": ({"session": ["a"], "item": [b"a"]}, "column item is binary"),
    "no list of items": ({"session": ["a"], "items": ["1"]}, "column items is string; write a list"),
    "a list as an item": ({"session": ["a"], "item": [["1"]]}, "column item is list"),
    "lists of lists": ({"session": ["a"], "items": [[["1"]]]}, "column items is list"),
    "nothing as a session": ({"session": pa.array([None], pa.string()), "item": ["1"]}, "row 1, session: None"),
    "nothing in a list": ({"session": ["a"], "items": [["1", None]]}, "row 1, items: None"),
    "another name": ({"visitor": ["a"], "item": ["1"]}, "no column session but visitor, item"),
    "no row": ({"session": pa.array([], pa.string()), "item": pa.array([], pa.string())}, "holds no session"),
}


@pytest.mark.parametrize("what", list(COLUMNS))
def test_a_column_that_holds_no_ids_is_named(tmp_path: Path, what: str) -> None:
    columns, says = COLUMNS[what]
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValuerecError, match=says):
        read_sessions(tmp_path / "a.parquet")


def test_whole_numbers_and_categories_are_ids(tmp_path: Path) -> None:
    categories = pa.array(["x", "y"]).dictionary_encode()
    pq.write_table(pa.table({"session": pa.array([7, 7], pa.uint64()), "item": categories}), tmp_path / "a.parquet")
    assert read_sessions(tmp_path / "a.parquet") == [Session("7", ["x", "y"])]
    (tmp_path / "a.jsonl").write_text('{"session": 7, "items": [12345678901234567890, "x"]}\n[]\n')
    assert read_sessions(tmp_path / "a.jsonl") == [Session("7", ["12345678901234567890", "x"]), Session("2", [])]


TEXTS = {
    "half.jsonl": ('{"session": "\\ud800", "items": []}', "half a character"),
    "digits.jsonl": ('{"session": "a", "items": [' + "9" * 5000 + "]}", "line 1 is not JSON"),
    "quote.csv": ('session,item\na,"1\nb,2\n', "line 3 is not CSV"),
    "twice.csv": ("session,item,item\na,1,2\n", "has the column item twice"),
    "header.tsv": ("session,item\na,1\n", "no column session"),
    "array.json": ('[["1", "2"], ["3"]]\n', "line 1, items"),
}


@pytest.mark.parametrize("name", list(TEXTS))
def test_text_that_would_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    content, says = TEXTS[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(ValuerecError, match=says):
        read_sessions(tmp_path / name)


def test_an_unknown_ending_is_a_wrong_call_and_a_missing_file_is_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use one of: \.jsonl"):
        read_sessions(tmp_path / "a.xlsx")
    with pytest.raises(ValuerecError, match="no such file") as caught:
        read_sessions(tmp_path / "a.csv")
    assert not isinstance(caught.value, UsageError)
