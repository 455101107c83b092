from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import pytest

from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments import plotting


def _draw(path: Path) -> list[bytes]:
    with plotting.styled():
        figure = plotting.new_figure(4, 3)
        figure.add_subplot().plot([0, 1], [1, 0], color=plotting.PALETTE["blue"], label="λσ")
    return [file.read_bytes() for file in plotting.save(figure, path)]


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _draw(tmp_path / "a" / "figure.v1")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")  # another day
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 31)  # another user's settings
    assert _draw(tmp_path / "b" / "figure.v1") == first
    assert first[0].startswith(b"\x89PNG") and first[1].startswith(b"%PDF")
    assert b"Date" not in first[1]


def test_the_users_own_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    with plotting.styled():
        assert matplotlib.rcParams["legend.frameon"] is False
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"install it with: pip install 'valuerec\[report\]'"), plotting.styled():
        pass


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValuerecError, match="failed: "):
        _draw(tmp_path / "file" / "figure")
