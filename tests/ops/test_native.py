"""Building, keeping and loading the kernels: each in a process and a cache of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from valuerec.ops import native

needs_kernels = pytest.mark.skipif(bool(native.why_not()), reason=f"no compiled kernels here: {native.why_not()}")
ASK = "from valuerec.ops import native; print(native.why_not() or 'loaded')"


def asked(cache: Path, **variables: str) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **variables}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_kernels
def test_a_damaged_library_is_built_again(tmp_path: Path) -> None:
    assert asked(tmp_path) == "loaded"
    (built,) = (tmp_path / "valuerec").glob("*.so")
    for content in (b"", built.read_bytes()[:12_000], b"\x7fELF" + bytes(5000)):
        built.write_bytes(content)
        assert asked(tmp_path) == "loaded"


@needs_kernels
@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"CXX": "false"}, "false"),
        ({"CXX": "g++ -std=no-such-standard"}, "failed"),
        ({"PATH": "", "CXX": ""}, "no C++ compiler"),
        ({"CXX": "g++ -DNOTHING"}, "loaded"),
    ],
)
def test_a_compiler_that_fails_is_told_and_no_error(tmp_path: Path, variables: dict[str, str], says: str) -> None:
    assert says in asked(tmp_path, **variables)


def test_a_cache_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "valuerec").mkdir()
    (tmp_path / "valuerec").chmod(0o777)
    if native.why_not():
        pytest.skip(f"no compiled kernels here: {native.why_not()}")
    assert "may be written to by others" in asked(tmp_path)


def test_no_cache_at_all_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    if native.why_not():
        pytest.skip(f"no compiled kernels here: {native.why_not()}")
    assert asked(tmp_path / "file") != "loaded"


@needs_kernels
def test_an_image_without_a_compiler_has_what_was_built_with_it(tmp_path: Path) -> None:
    package = tmp_path / "package" / "valuerec"
    shutil.copytree(native._HERE.parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    path = {"PYTHONPATH": str(package.parent)}
    bare = path | {"PATH": "", "CXX": "", "HOME": "/nowhere"}  # another user, who may write nothing and has no compiler
    assert "no C++ compiler" in asked(tmp_path / "nothing", **bare)
    command = [sys.executable, "-m", "valuerec.ops.native"]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **path}, check=True)
    library = Path(built.stdout.strip())
    assert library.parent == package / "ops" / "native" and library.stat().st_mode & 0o555 == 0o555
    assert asked(tmp_path / "nothing", **bare) == "loaded" and not (tmp_path / "nothing").exists()
    library.parent.joinpath("kernels.cpp").open("a").write("// another source\n")
    assert "no C++ compiler" in asked(tmp_path / "nothing", **bare)
