"""What is staged is what the plain reader gives, whatever the format and the order of the rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from test_sessions import csv_ids, sessions_of, write
from valuerec.bulk import staging
from valuerec.bulk.grouping import grouped
from valuerec.bulk.staging import read_part, stage
from valuerec.errors import ValuerecError
from valuerec.sessions import Session, read_sessions

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def staged(path: Path, index: dict[str, int], size: int) -> tuple[list[tuple[str, list[int], int]], staging.Staged]:
    target = path.with_name("staged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "PART", size)
        counts = stage(path, index, path.parent, target)
    rows = []
    with pq.ParquetFile(target) as file:
        for number in range(file.num_row_groups):
            part = read_part(file, number)
            assert len(part.known) == size or number == file.num_row_groups - 1
            bounds = zip(part.known.offset_B, part.known.offset_B[1:], strict=False)
            items = [part.known.item_E[start:stop].tolist() for start, stop in bounds]
            rows += list(zip(part.session_B.to_pylist(), items, part.unknown_B.tolist(), strict=True))
    return rows, counts


def plainly(sessions: list[Session], index: dict[str, int]) -> list[tuple[str, list[int], int]]:
    return [
        (name, [index[item] for item in items if item in index], sum(item not in index for item in items))
        for name, items in sessions
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "lists.parquet"])
@QUICK
@given(sessions=sessions_of(csv_ids), size=st.integers(1, 4), data=st.data())
def test_every_format_is_staged_as_it_is_read(
    tmp_path: Path, name: str, sessions: list[Session], size: int, data: st.DataObject
) -> None:
    items = sorted({item for session in sessions for item in session.items})
    index = {item: place for place, item in enumerate(items) if data.draw(st.booleans())}
    write(tmp_path / name, sessions)
    rows, counts = staged(tmp_path / name, index, size)
    assert rows == plainly(sessions, index) == plainly(read_sessions(tmp_path / name), index)
    assert counts == (
        len(sessions),
        sum(not session.items for session in sessions),
        sum(row[2] for row in rows),
        sum(not row[1] for row in rows),
    )


@QUICK
@given(rows=st.lists(st.tuples(csv_ids, csv_ids | st.just("")), min_size=1, max_size=30), size=st.integers(1, 4))
def test_rows_in_any_order_are_sessions_where_they_begin(
    tmp_path: Path, rows: list[tuple[str, str]], size: int
) -> None:
    path = tmp_path / "mixed.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("session", "item"), *rows])
    index = {item: place for place, item in enumerate(sorted({item for _, item in rows}))}
    assert staged(path, index, size)[0] == plainly(read_sessions(path), index)


def test_more_events_than_a_batch_are_sorted_and_nothing_is_left(tmp_path: Path) -> None:
    count, sessions = 200_000, 7_001
    found = dict(grouped(((str(row % sessions), row) for row in range(count)), tmp_path))
    assert list(found) == [str(session) for session in range(sessions)]
    assert all(items == list(range(int(name), count, sessions)) for name, items in found.items())
    assert list(tmp_path.iterdir()) == []


BAD = {
    "late.jsonl": ('{"session": "a", "items": ["1"]}\n' * 5000 + '{"session": "b", "items": [["1"]]}\n', "line 5001"),
    "null.jsonl": ('{"session": null, "items": ["1"]}\n', "line 1, session: None is no id"),
    "late.csv": ("session,item\n" + "a,1\n" * 5000 + ",1\n", "line 5002, session: '' is no id"),
    "long.jsonl": ("[" + "1," * (1 << 25) + "1]", "line 1 has 67108864 characters or more"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_row_is_named_however_late_it_comes(tmp_path: Path, name: str) -> None:
    content, says = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(ValuerecError, match=says) as caught:
        stage(tmp_path / name, {"1": 0}, tmp_path, tmp_path / "staged")
    assert str(tmp_path / name) in str(caught.value) and len(str(caught.value)) < 400
