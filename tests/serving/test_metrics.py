"""Numbers of several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_what_waits_is_added_up_over_processes_whichever_is_asked(tmp_path: Path) -> None:
    def run(script: str) -> str:
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
        start = "from valuerec.serving.metrics import Metrics; waiting = [0]; metrics = Metrics(lambda: waiting[0]);"
        command = [sys.executable, "-c", start + script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout

    run("waiting[0] = 7; metrics.text()")  # asked once, while seven waited
    run("waiting[0] = 5; metrics.tell('/v1/score', 200, 0.1); waiting[0] = 2; metrics.tell('/v1/score', 200, 0.1)")
    told = run("waiting[0] = 1; print(metrics.text().decode())")
    assert "valuerec_waiting_sessions 10.0" in told.splitlines()
