from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valuerec.errors import ValuerecError
from valuerec.serving.catalogue import Search, read_names, read_past

words = st.text(alphabet="abAB \n1İ", min_size=1, max_size=4)


@given(
    ids=st.lists(words, unique=True, max_size=12),
    names=st.dictionaries(words, words),
    query=words,
    limit=st.integers(1, 5),
)
def test_a_search_finds_what_a_look_at_each_item_finds(
    ids: list[str], names: dict[str, str], query: str, limit: int
) -> None:
    def plain(text: str) -> str:
        return text.lower().replace("\n", " ")

    found = Search(ids, names).find(query, limit)
    right = [item for item in ids if plain(query) in plain(item) or plain(query) in plain(names.get(item, ""))]
    right.sort(key=lambda item: item != query)  # that very id first
    assert found == right[:limit]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"item,name\na,b\n", "no columns id and name"),
        (b"id,name\n,b\n", "line 2 has no id"),
        (b"id,name\na\n", "line 2 has no id or no name"),
        (b"id,name\na,\xff\n", "not UTF-8"),
        (b'id,name\na,"b\n', "is not CSV"),
    ],
)
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "names.csv"
    file.write_bytes(content)
    with pytest.raises(ValuerecError, match=sentence):
        read_names(file)


@pytest.mark.parametrize(
    "line", ["{", '{"session": "a", "events": [{"item": "x", "event": "Wish!"}]}', '{"events": []}']
)
def test_a_session_that_is_none_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text('{"session": "a", "events": [{"item": "x", "event": "click"}]}\n' + line + "\n")
    with pytest.raises(ValuerecError, match="line 2 is no session"):
        read_past(file)
