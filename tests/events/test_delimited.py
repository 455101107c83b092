"""A row is a line, whatever quotes it holds: the fast parser and the slow one agree."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from valuerec.events import delimited, prepare, sources
from valuerec.events.delimited import fields_of, read_delimited
from valuerec.events.sources import Source

NAMES = ["a", "b", "c"]
WANTED = {"session": "a", "item": "b", "time": "c"}
PIECES = st.lists(
    st.sampled_from(['"', '""', ",", "x", "1", " ", "é", "\t", "\x00", "'", "🛒", "\ufeff", "\r", "\r\n", "\n"]),
    max_size=14,
)


def read(path: Path) -> tuple[list[int], list[tuple[str, ...]], list[tuple[int, str]]]:
    """All rows of a file: the numbers of the good, the good, and the bad."""
    rows: list[int] = []
    good: list[tuple[str, ...]] = []
    bad: list[tuple[int, str]] = []
    for block in read_delimited(Source(path), NAMES, WANTED, ",", header=False):
        rows += block.row.tolist()
        good += zip(*(block.columns[name].to_pylist() for name in WANTED), strict=True)
        bad += [(each.row, each.text) for each in block.bad]
        assert block.texts(np.arange(len(block.row))) == [text[:2000] for text in texts_of(path, block.row.tolist())]
    return rows, good, bad


def texts_of(path: Path, rows: list[int]) -> list[str]:
    lines = path.read_bytes().decode().removeprefix("\ufeff").removesuffix("\n").split("\n")
    return [lines[row - 1].rstrip("\r") for row in rows]


@given(
    st.lists(PIECES.map("".join), min_size=1, max_size=4)
    .map("\n".join)
    .filter(lambda text: text.removeprefix("\ufeff").strip()),
    st.sampled_from([1, 7, 1000]),
)
@example("1,2,3\n\ufeff1,2,3\n\ufeff1,2,3", 1)
@example("\ufeff\ufeff1,2,3\n\ufeff\n", 1000)
@example('a,"b\n1,2,3\n4,5,6', 1000)
@example('1,"2"x,3\n1,2,"3', 1000)
@example('"\n\n', 1000)
@example("1,2,3\r4,5,6\n7,8,9\r\n", 1000)
def test_every_line_is_a_row_good_or_bad_and_the_same_in_any_company(text: str, piece: int) -> None:
    """Read together by whichever parser, or each line alone by Python's: the same rows."""
    if "\x00" in text.lstrip("\r\n \t").split("\n")[0]:
        return  # refused as no text
    with tempfile.TemporaryDirectory() as folder, patch.object(sources, "_CHUNK_BYTES", piece):
        path = Path(folder) / "log"
        path.write_bytes(text.encode())
        rows, good, bad = read(path)
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    fields = {
        row: [] if "\x00" in line else fields_of(line.rstrip("\r"), ",") or [""] * 3
        for row, line in enumerate(lines, start=1)
    }
    assert rows == [row for row, each in fields.items() if len(each) == 3]
    assert good == [tuple(each) for each in fields.values() if len(each) == 3]
    assert [row for row, _ in bad] == [row for row, each in fields.items() if len(each) != 3]


@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=4)] * 3), min_size=1),
    st.lists(PIECES.map("".join), max_size=4),
    st.sampled_from([1, 7, 1000]),
)
def test_the_fast_parser_and_the_slow_one_say_the_same(
    rows: list[tuple[str, str, str]], others: list[str], piece: int
) -> None:
    text = "\n".join(["first,1,2", *map(",".join, rows), *others])
    with tempfile.TemporaryDirectory() as folder, patch.object(sources, "_CHUNK_BYTES", piece):
        path = Path(folder) / "log"
        path.write_bytes(text.encode())
        fast = read(path)
        with patch.object(delimited, "_parsed", return_value=None):
            assert read(path) == fast


def test_a_stray_quote_costs_its_own_row_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('1,2,3\n4,"5,6\n7,8,9\n"10","1""1","1,2"\n')
    rows, good, bad = read(path)
    assert rows == [1, 3, 4]
    assert good == [("1", "2", "3"), ("7", "8", "9"), ("10", '1"1', "1,2")]
    assert bad == [(2, '4,"5,6')]


@pytest.mark.parametrize("stray", ["", '"'], ids=["fast parser", "slow parser"])
def test_no_field_is_too_long_and_pythons_own_limit_is_left_as_it_was(tmp_path: Path, stray: str) -> None:
    limit, name = csv.field_size_limit(), "x" * 300_000
    log = tmp_path / "log.csv"
    log.write_text(f"session,item,time\n{name},i,1\n{name},i,2\n{name},i,3\n" + f"s,{stray}i,3\n" * 2)
    prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=0.5)
    assert pq.read_table(tmp_path / "data/sessions.parquet")["session"].to_pylist() == [name]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_in_the_header(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"\n  \nsession{delimiter}item{delimiter}time\n")
    assert delimited.header_of(Source(path)) == (["session", "item", "time"], delimiter)
