"""The check of made-up logs runs, goes on where it stopped, and finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

import made_up_logs_check


def test_a_few_logs_of_every_kind_and_none_of_them_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up_logs_check, "UNIT", 2)
    out, kinds = tmp_path / "units.jsonl", len(made_up_logs_check.CHECKS)
    first = made_up_logs_check.check_all(2 * kinds, out)
    assert (first["logs"], first["failures"]) == (2 * kinds, [])
    lines = out.read_text()
    assert made_up_logs_check.check_all(2 * kinds, out) == first
    assert out.read_text() == lines


def test_a_failure_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        assert number < 7, "seven is too many"

    monkeypatch.setattr(made_up_logs_check, "CHECKS", {"numbers": (st.tuples(st.integers(0, 9)), refuse)})
    (failure,) = made_up_logs_check.check_all(25, tmp_path / "units.jsonl")["failures"]
    assert "seven is too many" in failure["failure"]
