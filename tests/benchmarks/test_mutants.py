"""Some hundreds of the spoilt bundles of `benchmarks/mutants.py`; the full counts are its defaults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mutations
from mutants import __file__ as script
from mutants import small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("mutants"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [["--count", "400"], ["--count", "400", "--damaged"]], ids=["forged", "damaged"])
def test_spoilt_bundles_are_refused_or_load_and_do_nothing_else(bundle: Path, tmp_path: Path, mode: list[str]) -> None:
    out = tmp_path / "tally.json"
    command = [sys.executable, script, "--bundle", str(bundle), "--out", str(out), "--json", *mode]
    done = subprocess.run(command, capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert (told["crashes"], told["executed"], told["too_large"]) == ([], [], [])
    assert done.returncode == 0 and told["good"] and sum(told["total"].values()) == 400
    if "--damaged" in mode:
        assert told["total"] == {"refused": 400}
        assert set(told["outcomes"]) == {name for name, _ in mutations.DAMAGES}
    else:
        assert set(told["outcomes"]) == {name for name, _ in mutations.FORGERIES}
        assert told["total"]["refused"] > 100 and told["total"]["equal"] > 50  # hashes do not hide what lies behind them
    again = subprocess.run(command, capture_output=True, text=True)  # nothing is left to do
    assert json.loads(again.stdout)["outcomes"] == told["outcomes"]


def test_a_mutant_is_a_function_of_seed_and_number(bundle: Path) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    for forged in (False, True):
        made = [mutations.mutant(files, 0, number, forged) for number in range(50)]
        assert made == [mutations.mutant(files, 0, number, forged) for number in range(50)]
        assert all(spoilt != files for _, spoilt in made)
