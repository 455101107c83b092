from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from valuerec.bundle.vocabulary import read_vocabulary, write_vocabulary
from valuerec.errors import ValuerecError

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(IDS, min_size=1, max_size=20, unique=True))
def test_any_ids_come_back_and_anybody_can_read_them(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "vocabulary.json"
    write_vocabulary(path, ids)
    assert read_vocabulary(path, len(ids)) == ids == json.loads(path.read_text(encoding="utf-8"))
    for other in {len(ids) - 1, len(ids) + 1} - {0}:
        with pytest.raises(ValuerecError, match="here should be"):
            read_vocabulary(path, other)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "line 1: here should be a bracket alone"),
        (b'["a",\n"b"]\n', "line 1"),
        (b'[\n"a"\n"b"\n]\n', "line 2: here should be an id"),
        (b'[\n"a",\n5\n]\n', "line 3: here should be an id"),
        (b'[\n"a",\nnull\n]\n', "line 3"),
        (b'[\n"a",\n"b",\n]\n', "line 3"),
        (b'[\n"a",\n"b"]\n', "line 3"),
        (b'[\n"a",\n"\\ud800"\n]\n', "line 3"),
        (b'[\n"a",\n"\xff"\n]\n', "line 3"),
        (b'[\n"a",\n' + b"[" * 100_000 + b"\n]\n", "line 3"),
        (b'[\n"a",\n"b"\n]\nmore', "line 4: here should be the end, after 2 ids"),
        (b'[\n"a",\n"b"\n', "line 4"),
        (b'[\n"a",\n"a"\n]\n', "an id that stands twice"),
    ],
)
def test_anything_else_is_refused_by_its_line(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(text)
    with pytest.raises(ValuerecError, match=says) as caught:
        read_vocabulary(path, 2)
    assert str(path) in str(caught.value)
