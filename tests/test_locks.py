from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from valuerec.locks import try_lock


def test_one_at_a_time(tmp_path: Path) -> None:
    first = try_lock(tmp_path)
    assert first is not None and first.sure and try_lock(tmp_path) is None
    first.release()
    assert try_lock(tmp_path) is not None


def test_a_lock_goes_along_when_its_folder_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lock = try_lock(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert lock is not None and try_lock(tmp_path / "b") is None


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from valuerec.locks import try_lock\n"
        "lock = try_lock(pathlib.Path(sys.argv[1]), create=True); print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert try_lock(path) is None
    process.kill()
    process.wait()
    assert try_lock(path) is not None


def test_a_file_system_without_locks_keeps_nobody_out_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = try_lock(tmp_path)
    assert lock is not None and not lock.sure
