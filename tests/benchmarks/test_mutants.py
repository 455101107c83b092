"""Some hundreds of the spoilt bundles of `benchmarks/mutants.py`; the full counts are its defaults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mutations
from mutants import __file__ as script
from mutants import large_bundle, small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("mutants"))


def run(bundle: Path, out: Path, *mode: str) -> dict[str, Any]:
    command = [sys.executable, script, "--bundle", str(bundle), "--out", str(out), "--json", *mode]
    done = subprocess.run(command, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["crashes"], told["executed"], told["too_large"]) == ([], [], [])
    assert told["good"] and done.returncode == 0
    return told


@pytest.mark.slow
def test_forged_bundles_are_refused_or_load_and_do_nothing_else(bundle: Path, tmp_path: Path) -> None:
    told = run(bundle, tmp_path / "tally.json", "--count", "300")
    assert told["next"] == 300 and set(told["outcomes"]) == {name for name, _ in mutations.FORGERIES}
    assert told["total"]["refused"] > 80 and told["total"]["equal"] > 40  # hashes do not hide what lies behind them


@pytest.mark.slow
def test_every_damaged_bundle_is_noticed_and_the_count_goes_on_where_it_was(bundle: Path, tmp_path: Path) -> None:
    assert run(bundle, tmp_path / "tally.json", "--count", "20", "--damaged")["total"] == {"refused": 20}
    told = run(bundle, tmp_path / "tally.json", "--count", "500", "--damaged")
    assert told["total"] == {"refused": 500}
    assert set(told["outcomes"]) == {name for name, _ in mutations.DAMAGES}


@pytest.mark.slow
def test_loading_takes_less_than_twice_the_bundle(tmp_path: Path) -> None:
    bundle = large_bundle(tmp_path / "bundle", 40_000, width=16)  # 6 MB: ids weigh most where vectors are short
    told = run(bundle, tmp_path / "tally.json", "--count", "12", "--large", "40000")
    assert told["next"] == 12 and 0.1 < told["largest_share"] < 2.5  # with what is the interpreter's own


def test_a_mutant_is_a_function_of_seed_and_number(bundle: Path) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    for forged in (False, True):
        made = [mutations.mutant(files, 0, number, forged) for number in range(50)]
        assert made == [mutations.mutant(files, 0, number, forged) for number in range(50)]
        assert all(spoilt != files for _, spoilt in made)
