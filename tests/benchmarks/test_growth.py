"""The comparison of going on with training anew, on a made-up log whose items come and go."""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import pytest

import growth


def test_it_compares_the_two_on_a_log_whose_items_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, buys = tmp_path / "clicks.dat.xz", tmp_path / "buys.dat.xz"
    with lzma.open(clicks, "wt") as click_file, lzma.open(buys, "wt") as buy_file:
        for session in range(200):
            for place in range(5):
                stamp = f"2014-04-{1 + session // 24:02d}T{session % 24:02d}:{place:02d}:00.000Z"
                item = 214_500_000 + session // 8 + place
                click_file.write(f"{session},{stamp},{item},0\n")
                if place == 4:
                    buy_file.write(f"{session},{stamp},{item},100,1\n")
    line = ["growth.py", str(clicks), str(buys), "--methods", "vpq", "--epochs", "1", "--steps", "4", "--every", "2"]
    monkeypatch.setattr(sys, "argv", [*line, "--json"])
    growth.main()
    found = json.loads(capsys.readouterr().out)["methods"]["vpq"]
    assert found["items"] == {"stayed": 17, "new": 6, "retired": 6}
    assert [step for step, _ in found["curve_from"]] == [0, 2, 4] and found["curve_from"][0][1] > 0
    assert [step for step, _ in found["curve_anew"]] == [2, 4]
    assert found["click_hr@20"]["before any step"]["share_of_new"] > 0
