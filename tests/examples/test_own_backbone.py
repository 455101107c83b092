"""The example is run as its reader would run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import valuerec as vr

SCRIPT = Path(__file__).parents[2] / "examples" / "own_backbone.py"


def called(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True)


def test_somebodys_own_model_learns_with_vpq_and_recommends(tmp_path: Path) -> None:
    done = called(tmp_path / "own")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = [
        re.fullmatch(r"(\S+-(?:good|lure)-\d\d) +score (0\.\d{3}), value -?\d\.\d{3} ± \d\.\d{3}", x) for x in lines
    ]
    assert len(told) == 5 and all(told)
    scores = [float(match[2]) for match in told if match]
    assert scores == sorted(scores, reverse=True)
    run = vr.info(tmp_path / "own" / "run")
    assert run["config"]["backbone"]["name"].endswith(":MeanAndLast") and run["config"]["method"]["name"] == "vpq"
    assert run["metrics"]["test"]["click"]["hr@20"] > 0.1  # 20 of 2,000 items are .01
    losses = [json.loads(line) for line in (tmp_path / "own" / "run" / "metrics.jsonl").read_text().splitlines()]
    entropy = [line["cross_entropy"] for line in losses if "loss" in line]
    assert entropy[-1] < entropy[0] - 1

    again = called(tmp_path / "own")
    assert again.returncode == 1 and "already in use" in again.stderr and "Traceback" not in again.stderr
