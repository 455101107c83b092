from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from valuerec.plain import escaped, plain
from valuerec.printing import PlainConsole, whole_table

NAUGHTY = st.text(
    st.sampled_from('a\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\u061c\u200e\u202e\u2028\u2066\u2069[]0;\\"') | st.characters()
)
STEERING = {chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x202E, 0x2066, 0x2069)}


@given(NAUGHTY)
def test_nothing_steers_and_the_rest_stays(text: str) -> None:
    assert not set(plain(text, one_line=True)) & STEERING and not set(plain(text)) & (STEERING - {"\n", "\t"})
    assert len(plain(text)) == len(text)
    assert all(shown == meant for shown, meant in zip(plain(text), text, strict=True) if meant.isprintable())


@given(NAUGHTY)
def test_json_stays_what_it_is(text: str) -> None:
    shown = escaped(json.dumps({text: [text]}, indent=2, ensure_ascii=False))
    assert json.loads(shown) == {text: [text]} and not set(shown) & (STEERING - {"\n"})


@given(NAUGHTY)
def test_whatever_a_console_prints_goes_through(text: str) -> None:
    console = PlainConsole()
    console.file = io.StringIO()
    table = whole_table(text, text, title=text)
    table.add_row(text, text)
    console.print(text)
    console.print(table)
    assert not set(console.file.getvalue()) & (STEERING - {"\n", "\t"})
