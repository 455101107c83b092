"""An audit that could not be is never told as a good one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "audit.py"


def audit(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments, "--home", str(home)], capture_output=True, text=True)


def tool(home: Path, name: str, script: str) -> None:
    path = home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def answer(*packages: dict[str, Any]) -> str:
    return f"echo '{json.dumps({'dependencies': packages})}'"


CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("script", "code", "out", "err"),
    [
        (answer(CLEAN), 0, "audit: 1 packages looked at, 0 known vulnerabilities.", ""),
        (answer(CLEAN, BAD) + "; exit 1", 1, "b 2: CVE-1; fixed in: 3", ""),
        (answer(CLEAN, {"name": "c", "skip_reason": "unknown"}), 0, "c: not looked at (unknown)", ""),
        ("echo 'could not connect' >&2; exit 1", 0, "", "NOT RUN: pip-audit had no answer (could not connect)"),
        ("exit 0", 0, "", "NOT RUN: pip-audit had no answer (exit code 0)"),
    ],
)
def test_the_audit_says_what_it_found_or_that_it_was_not_run(
    tmp_path: Path, script: str, code: int, out: str, err: str
) -> None:
    tool(tmp_path, "pip-audit", script)
    done = audit(tmp_path, "vulnerabilities")
    assert done.returncode == code and out in done.stdout and err in done.stderr
    assert bool(done.stdout) != bool(done.stderr)


def test_tools_that_can_not_be_installed_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    for what, code in (("vulnerabilities", 0), ("sbom", 1)):
        done = audit(tmp_path / "home", what)
        assert done.returncode == code and "NOT RUN" in done.stderr and done.stderr.count("\n") == 1


def test_a_bill_of_materials_is_counted_and_a_failure_is_one(tmp_path: Path) -> None:
    tool(tmp_path, "cyclonedx-py", 'for out; do :; done; echo \'{"components": [{}, {}]}\' > "$out"')
    done = audit(tmp_path, "sbom", "--out", str(tmp_path / "sbom.json"))
    assert done.returncode == 0 and "2 components" in done.stdout
    tool(tmp_path, "cyclonedx-py", "echo 'no environment' >&2; exit 1")
    done = audit(tmp_path, "sbom", "--out", str(tmp_path / "sbom.json"))
    assert done.returncode == 1 and "NOT RUN: cyclonedx-py gave no bill of materials (no environment)" in done.stderr
