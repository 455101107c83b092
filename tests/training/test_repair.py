"""Small files of a RUN that are lost while its checkpoints are whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import valuerec as vr
from stopped import SMALL, crashed, files
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import write_manifest
from valuerec.training.repair import repair
from valuerec.training.run import FIXED, Run
from worlds import random_sessions, write_dataset

OPTIONS: dict[str, Any] = {"max_steps": 14, "validate_every": 4, "checkpoint_every": 5, "log_every": 3, **SMALL}
SMALL_FILES = ["manifest.json", *FIXED]


@pytest.fixture(scope="module")
def whole(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vr.train(small, out=tmp_path_factory.mktemp("whole") / "run", **OPTIONS)


@pytest.fixture(scope="module")
def stopped(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crashed(small, tmp_path_factory.mktemp("stopped") / "run", 12, **OPTIONS)


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "a bit"])
@pytest.mark.parametrize("name", [*SMALL_FILES, "all"])
def test_small_files_are_put_back_and_the_end_is_the_same(
    small: Dataset, whole: Path, run: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {each: (run / each).read_bytes() for each in SMALL_FILES}
    lost = SMALL_FILES if name == "all" else [name]
    for each in lost:
        spoil(run / each, how)
    for open_it in (Run, vr.load, vr.info):
        if open_it is not vr.info or "manifest.json" in lost:
            with pytest.raises(
                ValuerecError, match="train with --resume and the options of the first time puts it back"
            ):
                open_it(run)
                assert name == "items.parquet" and open_it is Run  # which reads it when it is asked for
                vr.load(run)
    vr.train(small, out=run, resume=True, **(OPTIONS | {"quiet": False}))
    told = capsys.readouterr().err
    assert "was damaged; put back from a checkpoint and the dataset: " in told and all(each in told for each in lost)
    assert files(run) == files(whole) and vr.info(run)["damaged"] == []
    assert all((run / each).read_bytes() == before[each] for each in FIXED)


def test_a_grown_run_gets_them_back_too(small: Dataset, whole: Path, tmp_path: Path) -> None:
    run = vr.train(small, out=tmp_path / "run", start=whole, **OPTIONS)
    before = json.loads((run / "config.json").read_text())
    for name in SMALL_FILES:
        (run / name).unlink()
    vr.train(small, out=run, resume=True, **OPTIONS)
    assert json.loads((run / "config.json").read_text()) == before and "start" in before


def test_other_options_and_another_dataset_are_refused_still(small: Dataset, run: Path, tmp_path: Path) -> None:
    (run / "config.json").unlink()
    (run / "manifest.json").unlink()
    other = write_dataset(
        tmp_path / "other", {split: random_sessions(_draw(), 20, 30) for split in ("train", "validation", "test")}, 30
    )
    with pytest.raises(UsageError, match="was trained on another dataset"):
        vr.train(other, out=run, resume=True, **OPTIONS)
    assert not (run / "config.json").exists()
    with pytest.raises(UsageError, match="was trained with training seed = 0, now it is 1"):
        vr.train(small, out=run, resume=True, seed=1, **OPTIONS)


def test_a_checkpoint_of_another_run_puts_nothing_back(small: Dataset, run: Path, tmp_path: Path) -> None:
    other = crashed(small, tmp_path / "other", 12, seed=1, **OPTIONS)
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    (run / "config.json").unlink()
    assert repair(run, small) == []
    with pytest.raises(ValuerecError, match=r"config\.json differs"):
        vr.train(small, out=run, resume=True, **OPTIONS)


def test_a_damaged_checkpoint_puts_nothing_back_and_one_in_use_neither(small: Dataset, run: Path) -> None:
    first = Run(run)
    first.lock()
    (run / "config.json").unlink()
    with pytest.raises(UsageError, match="in use"):
        vr.train(small, out=run, resume=True, **OPTIONS)
    first.release()
    for folder in (run / "checkpoints").iterdir():
        (folder / "config.json").write_text("{}")
    with pytest.raises(ValuerecError, match=r"config\.json differs"):
        vr.train(small, out=run, resume=True, **OPTIONS)


def test_what_a_newer_valuerec_made_is_not_put_back_over(small: Dataset, run: Path) -> None:
    (run / "config.json").unlink()
    write_manifest(run, "run", 99, {"status": "running", "weights": None})
    before = (run / "manifest.json").read_bytes()
    with pytest.raises(ValuerecError, match="schema version 99"):
        vr.train(small, out=run, resume=True, **OPTIONS)
    assert (run / "manifest.json").read_bytes() == before


def test_whole_runs_are_left_alone(small: Dataset, run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    assert repair(run, small) == []
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def _draw() -> Any:
    import numpy as np

    return np.random.default_rng(9)
