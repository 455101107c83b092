from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valuerec.errors import UsageError
from valuerec.experiments.rows import Row, all_rows, choose_rows, control_rows, table_rows, untrained_rows
from valuerec.methods import METHODS


def test_the_table_is_the_papers_and_gru4rec() -> None:
    rows = table_rows()
    assert len(rows) == len(set(rows)) == 28
    assert [row.method for row in rows[:7]] == ["supervised", "sac", "rem", "minus", "cql", "uwac", "vpq"]
    assert list(dict.fromkeys(row.backbone for row in rows)) == ["caser", "nextitnet", "sasrec", "gru4rec"]
    assert {row.method for row in table_rows() + control_rows()} == set(METHODS)


def test_patterns() -> None:
    assert choose_rows(None, "ours", controls=False) == table_rows()
    assert choose_rows(None, "ours", controls=True) == all_rows()
    assert choose_rows(["sasrec-vpq"], "ours", controls=False) == [Row("sasrec", "vpq")]
    assert [row.backbone for row in choose_rows(["vpq"], "ours", controls=False)] == [
        "caser",
        "nextitnet",
        "sasrec",
        "gru4rec",
    ]
    assert len(choose_rows(["sasrec"], "ours", controls=False)) == 7
    for pattern, own in (("sasrec", 7), ("nextitnet", 7), ("vpq", 4), ("sasrec-vpq", 1), ("untrained", 0)):
        rows = choose_rows([pattern], "ours", controls=True)
        assert rows[own:] == control_rows() + untrained_rows()
    assert choose_rows(["sarsa", "sknn"], "ours", controls=False) == [Row("sasrec", "sarsa"), Row("untrained", "sknn")]
    assert [row.name for row in untrained_rows()] == ["repeat-last", "popularity", "sknn", "vsknn"]


def test_the_released_protocol_is_sasrecs_and_trains() -> None:
    rows = choose_rows(None, "released", controls=True)
    assert {row.backbone for row in rows} == {"sasrec"} and len(rows) == 7 + len(control_rows())
    assert choose_rows(["vpq"], "released", controls=True)[4:] == control_rows()
    assert choose_rows(["caser-vpq"], "released", controls=False) == [Row("caser", "vpq")]
    with pytest.raises(UsageError, match="'sknn'"):
        choose_rows(["sknn"], "released", controls=True)


@given(st.sets(st.sampled_from([row.name for row in all_rows()]), min_size=1))
def test_any_subset_comes_in_the_tables_order_and_once(names: set[str]) -> None:
    rows = choose_rows([*sorted(names), *names], "ours", controls=False)
    assert [row.name for row in rows] == [row.name for row in all_rows() if row.name in names]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("sasrec-vqp", "sasrec-vpq"), ("SASRec-VPQ", "sasrec-vpq"), ("casr", "caser"), ("vsknm", "vsknn")],
)
def test_a_misspelt_row_is_told_with_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"{written!r}.* nearest is {meant}"):
        choose_rows(["sasrec", written], "ours", controls=False)


@pytest.mark.parametrize(
    ("patterns", "protocol", "said"),
    [
        ([], "ours", "--rows is empty"),
        ([""], "ours", "--rows is empty"),
        (["sasrec", ""], "ours", "--rows has an empty part"),
        (["popularity"], "released", "'popularity', which is not trained.* under --protocol ours"),
        (["untrained"], "released", "'untrained', which is not trained"),
        (["untrained"], "ours", "'untrained', which are controls.* with --controls"),
    ],
)
def test_rows_that_say_nothing_or_that_cannot_be_had(patterns: list[str], protocol: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose_rows(patterns, protocol, controls=False)
