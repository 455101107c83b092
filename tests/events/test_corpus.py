"""Malformed logs through the real command line: exact account or one sentence, the right reason, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from events.corpus import CORPUS, CSV, PATHS, Case
from events.test_bad_input import check_refusal
from valuerec import cli

SOME = ["UTF-16", "NUL byte in an id", "int64 overflow", "nested a hundred thousand deep", "xz cut", "a symlink loop"]


def command(case: Case) -> list[str]:
    options = [
        "--max-bad-fraction",
        str(case.most),
        "--min-item-events",
        "1",
        "--min-session-events",
        "1",
        *case.options,
    ]
    return ["prepare", "log", "--format", case.format, "--out", "data", "--json", *options]


def check(case: Case, folder: Path, code: int, out: str, err: str, before: set[str]) -> None:
    if case.refused:
        right, says = case.refused
        assert says in check_refusal(folder, out, err, may_stay=before)
        assert code == right
        return
    assert (code, err) == (0, "")
    account, rows = json.loads(out)["account"], case.kept + sum(case.bad.values())
    assert account == {"rows_read": rows, "kept": case.kept, "filtered": {}, "duplicates": 0, "bad": case.bad}
    assert sum(pq.read_metadata(folder / f"data/{name}.parquet").num_rows for name in files(case)) == rows


def files(case: Case) -> list[str]:
    return ["events", "quarantine"] if case.bad else ["events"]


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("name", CORPUS)
def test_every_malformed_log(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CORPUS[name]
    monkeypatch.chdir(tmp_path)
    case.build(tmp_path / "log")
    before = entries(tmp_path)
    code = cli.run(command(case))
    check(case, tmp_path, code, *capfd.readouterr(), before)


@pytest.mark.parametrize("name", SOME)
def test_some_malformed_logs_in_a_process_of_their_own(name: str, tmp_path: Path) -> None:
    case = CORPUS[name]
    case.build(tmp_path / "log")
    before = entries(tmp_path)
    line = [sys.executable, "-m", "valuerec.cli", *command(case)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    check(case, tmp_path, done.returncode, done.stdout, done.stderr, before)


def test_a_file_that_may_not_be_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so root becomes nobody for the moment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log").write_text(CSV)
    (tmp_path / "log").chmod(0)
    for folder in [tmp_path, *tmp_path.parents][:3]:  # pytest's own folders are for their owner only
        folder.chmod(folder.stat().st_mode | 0o755)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65_534)
        code = cli.run(command(PATHS["missing"]))
    finally:
        if root:
            os.seteuid(0)
    assert code == 1
    line = check_refusal(tmp_path, *capfd.readouterr(), may_stay={"log"})
    assert line.startswith("valuerec: Reading log failed: permission is denied")
