from __future__ import annotations

import io

import pytest
from rich.console import Console

from valuerec import printing


def test_progress_elsewhere_than_on_a_terminal_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, text = [0.0], io.StringIO()
    monkeypatch.setattr(printing.time, "monotonic", lambda: now[0])
    with printing.progress(Console(file=text), "Recommending", "sessions") as told:
        for seconds, done in ((0, 500), (10, 1_000), (31, 3_600), (40, 4_000), (50, 10_000)):
            now[0] = seconds
            told(done, 10_000)
    assert text.getvalue() == "  Recommending: 3,600 of 10,000 sessions (100/s, 1 min left)\n"


def test_progress_on_a_terminal_is_a_bar_with_rate_and_time_left() -> None:
    text = io.StringIO()
    with printing.progress(Console(file=text, force_terminal=True, width=100), "Ranking", "events") as told:
        for done in range(0, 1_001, 100):
            told(done, 1_000)
    assert "Ranking" in text.getvalue() and "1000/1000" in text.getvalue() and "events/s" in text.getvalue()
