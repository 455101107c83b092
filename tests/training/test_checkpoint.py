"""What a checkpoint promises; `tests/benchmarks/` kills real processes for it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import valuerec as vr
from stopped import SMALL, crashed, files
from valuerec import training
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.training import TrainConfig, checkpoint
from valuerec.training.learners import fresh_network
from valuerec.training.reporting import Reporter
from valuerec.training.run import Run
from valuerec.training.trainer import Trainer

CPU = torch.device("cpu")


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_files_then_the_manifest_then_the_rename_each_flushed_before_the_next(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        told.append(("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        told.append(("rename", Path(target).name))
        replace(source, target)

    run = vr.train(small, out=tmp_path / "run", max_steps=3, validate_every=2, checkpoint_minutes=0, **SMALL)
    (run / "checkpoints").mkdir()
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    progress = checkpoint.Progress(
        seconds=1.0, summed=0, best_score=0.5, best_step=3, worse=0, validated=3, outside=None, best_outside=None
    )
    checkpoint.save(Run(run), 3, {"a": torch.ones(3)}, progress, keep=1)
    for place, (what, name) in enumerate(told):
        if what == "rename" and name != "step-000000003":
            assert told[place - 1] == ("flush", f".{name}.partial")
    moved = [name for what, name in told if what == "rename"]
    assert moved == [
        *("state.safetensors", "metrics.jsonl", "config.json", "environment.json", "best.safetensors"),
        *("manifest.json", "step-000000003"),
    ]
    end = told.index(("rename", "step-000000003"))
    assert told[end - 1][0] == "flush" and told[end - 1][1].startswith(".step-000000003.")
    assert {name for what, name in told[:end] if what == "flush"} >= set(moved[:6])
    assert told[end + 1 :] == [("flush", "checkpoints")]


def test_the_newest_n_are_kept(small: Dataset, tmp_path: Path) -> None:
    for keep in (1, 3):
        run = vr.train(small, out=tmp_path / str(keep), max_steps=9, checkpoint_every=2, keep_checkpoints=keep, **SMALL)
        assert names(run) == ["step-000000004", "step-000000006", "step-000000008", "step-000000009"][-keep:]


def test_by_minutes_and_never_more_than_a_fiftieth_of_the_time(small: Dataset, tmp_path: Path) -> None:
    often = vr.train(small, out=tmp_path / "often", max_steps=4, checkpoint_minutes=1e-12, **SMALL)
    assert names(often)[-1] == "step-000000004"
    config = TrainConfig(checkpoint_minutes=1e-12, backbone=vr.SASRec(width=8), method=vr.Supervised())
    run = Run.create(tmp_path / "run", config, small, CPU)
    trainer = Trainer(config, small, fresh_network(config, small.n_items, CPU), run, Reporter(quiet=True))
    assert trainer._checkpoint_due()
    trainer.save_checkpoint()
    assert trainer._saving > 0
    trainer._saving = 1e6
    assert not trainer._checkpoint_due()


def test_by_default_a_run_that_ended_can_be_extended_and_is_then_the_longer_run(small: Dataset, tmp_path: Path) -> None:
    options = {"validate_every": 4, "log_every": 3, **SMALL}
    vr.train(small, out=tmp_path / "parts", max_steps=10, **options)
    parts = vr.train(small, out=tmp_path / "parts", max_steps=17, resume=True, **options)
    whole = vr.train(small, out=tmp_path / "whole", max_steps=17, **options)
    assert files(parts) == files(whole)


def test_resuming_a_run_that_ended_without_more_to_do_changes_nothing(small: Dataset, tmp_path: Path) -> None:
    options = {"max_steps": 10, "validate_every": 4, **SMALL}
    run = vr.train(small, out=tmp_path / "run", **options)
    before = files(run)
    assert files(vr.train(small, out=run, resume=True, **options)) == before


def test_after_a_stop_between_validation_and_checkpoint_the_run_is_put_back(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 14, "validate_every": 4, "checkpoint_every": 5, "log_every": 3, **SMALL}
    whole = vr.train(small, out=tmp_path / "whole", **options)
    run = crashed(small, tmp_path / "parts", 9, **options)  # the checkpoint is of step 5, the best weights of step 8
    assert vr.info(run)["step"] == 8
    fit = Trainer.fit
    seen: list[Any] = []

    def looking(self: Trainer) -> str:
        seen.append((self.step, self.run.manifest["step"], sorted(path.name for path in run.glob("weights-*"))))
        seen.append([json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()])
        return fit(self)

    monkeypatch.setattr(Trainer, "fit", looking)
    assert files(vr.train(small, out=run, resume=True, **options)) == files(whole)
    assert seen == [(5, 4, ["weights-000000004.safetensors"]), [3, 4, 4]]


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SMALL | {"max_steps": 10, "validate_every": 4, "quiet": False}
    whole = vr.train(small, out=tmp_path / "whole", **options)
    run = crashed(small, tmp_path / "run", 6, **options)
    assert files(vr.train(small, out=run, resume=True, **options)) == files(whole)
    assert "holds no checkpoint yet: beginning again" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["finished", "never meant to have any"])
def test_where_something_would_be_lost_it_does_not_begin_again(small: Dataset, tmp_path: Path, how: str) -> None:
    options = SMALL | {"max_steps": 10, "validate_every": 4}
    if how == "finished":
        run = vr.train(small, out=tmp_path / "run", checkpoint_minutes=0, **options)
    else:
        run = crashed(small, tmp_path / "run", 6, checkpoint_minutes=0, **options)
    before = files(run)
    with pytest.raises(ValuerecError, match="it holds no checkpoint"):
        vr.train(small, out=run, resume=True, **options)
    assert files(run) == before


def test_what_was_skipped_is_told_set_aside_and_dropped_when_its_step_is_reached_again(
    small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SMALL | {"checkpoint_every": 5, "quiet": False}
    run = crashed(small, tmp_path / "run", 12, **options)
    assert names(run) == ["step-000000005", "step-000000010"]
    (run / "checkpoints" / "step-000000010" / "best.safetensors").unlink(missing_ok=True)
    (run / "checkpoints" / "step-000000010" / "metrics.jsonl").unlink()
    capsys.readouterr()
    crashed(small, run, 9, resume=True, **options)
    told = capsys.readouterr().err
    assert "Skipped step-000000010, set aside as damaged-step-000000010:" in told and "metrics.jsonl differs" in told
    assert "Resuming from step-000000005." in told
    assert names(run) == ["damaged-step-000000010", "step-000000005"]
    crashed(small, run, 11, resume=True, **options)
    assert names(run) == ["step-000000005", "step-000000010"]


def test_where_all_are_damaged_it_says_so_and_touches_nothing(small: Dataset, tmp_path: Path) -> None:
    run = crashed(small, tmp_path / "run", 12, checkpoint_every=5, **SMALL)
    for folder in (run / "checkpoints").iterdir():
        (folder / "state.safetensors").write_bytes(b"")
    before = files(run)
    with pytest.raises(ValuerecError, match=r"none of its 2 .* state\.safetensors differs"):
        vr.train(small, out=run, resume=True, **SMALL)
    assert files(run) == before and names(run) == ["step-000000005", "step-000000010"]


def test_a_checkpoint_of_another_run_or_step_is_no_checkpoint_of_this_one(small: Dataset, tmp_path: Path) -> None:
    run = crashed(small, tmp_path / "run", 12, checkpoint_every=5, **SMALL)
    other = crashed(small, tmp_path / "other", 12, checkpoint_every=5, seed=1, **SMALL)
    newest = run / "checkpoints" / "step-000000010"
    for source, says in ((other / "checkpoints" / newest.name, "of another run"), (
        run / "checkpoints" / "step-000000005", "is of step 5"
    )):  # fmt: skip
        shutil.rmtree(newest)
        shutil.copytree(source, newest)
        found = checkpoint.newest(Run(run), CPU)
        assert found is not None and found.step == 5 and says in found.skipped[newest]


def test_weights_that_were_damaged_are_put_back(small: Dataset, tmp_path: Path) -> None:
    options = {"max_steps": 14, "validate_every": 4, "checkpoint_every": 5, **SMALL}
    whole = vr.train(small, out=tmp_path / "whole", **options)
    run = crashed(small, tmp_path / "run", 12, **options)
    (weights,) = run.glob("weights-*")
    weights.write_bytes(b"")
    assert files(vr.train(small, out=run, resume=True, **options)) == files(whole)


def test_weights_that_change_while_training_never_get_into_a_checkpoint(small: Dataset, tmp_path: Path) -> None:
    run = Run(vr.train(small, out=tmp_path / "run", max_steps=4, validate_every=4, **SMALL))
    (run.path / run.manifest["weights"]).write_bytes(b"other")
    found = checkpoint.newest(run, CPU)
    assert found is not None
    with pytest.raises(ValuerecError, match="has changed since it was written"):
        checkpoint.save(run, 5, found.tensors, found.progress, keep=2)
    assert names(run.path) == ["step-000000004"]


def test_what_a_killed_process_left_is_cleared_and_never_counted(small: Dataset, tmp_path: Path) -> None:
    run = crashed(small, tmp_path / "run", 12, checkpoint_every=5, **SMALL)
    left = run / "checkpoints" / ".step-000000015.abcd0123.partial"
    shutil.copytree(run / "checkpoints" / "step-000000010", left)
    (run / ".weights-000000012.safetensors.partial").write_bytes(b"half")
    (run / "weights-000000011.safetensors").write_bytes(b"never named")
    crashed(small, run, 11, resume=True, checkpoint_every=5, **SMALL)
    assert not list(run.rglob("*.partial")) and not (run / "weights-000000011.safetensors").exists()
    assert names(run) == ["step-000000005", "step-000000010"]


def test_a_second_process_is_refused(small: Dataset, tmp_path: Path) -> None:
    run = crashed(small, tmp_path / "run", 12, checkpoint_every=5, **SMALL)
    first = Run(run)
    first.lock()
    with pytest.raises(UsageError, match="in use: another process trains into it"):
        vr.train(small, out=run, resume=True, **SMALL)
    first.release()
    vr.train(small, out=run, resume=True, max_steps=12, **SMALL)


@pytest.mark.parametrize("kind", ["link", "file", "link set aside before"])
def test_a_checkpoint_that_is_no_folder_leaves_nothing_behind(small: Dataset, tmp_path: Path, kind: str) -> None:
    run = crashed(small, tmp_path / "run", 12, checkpoint_every=5, **SMALL)
    newest = run / "checkpoints" / "step-000000010"
    (tmp_path / "mine").mkdir()
    newest.rename(tmp_path / "moved")
    if kind == "file":
        newest.write_text("no folder")
    else:
        newest.symlink_to(tmp_path / "nowhere")
    if kind == "link set aside before":
        newest.with_name(f"damaged-{newest.name}").symlink_to(tmp_path / "mine")
    crashed(small, run, 11, resume=True, checkpoint_every=5, **SMALL)
    assert names(run) == ["step-000000005", "step-000000010"] and (tmp_path / "mine").is_dir()


def test_the_log_of_a_resumed_run_is_that_of_the_whole_one_but_for_times(small: Dataset, tmp_path: Path) -> None:
    options = {"max_steps": 14, "validate_every": 9, "checkpoint_every": 5, "log_every": 4, **SMALL}
    whole = vr.train(small, out=tmp_path / "whole", **options)
    parts = vr.train(small, out=crashed(small, tmp_path / "parts", 12, **options), resume=True, **options)
    first, second = (
        [re.sub(r'"seconds": [\d.]+', "", line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, parts)
    )
    assert first == second  # the order of names too


def test_an_output_that_is_a_run_is_not_to_be_removed(small: Dataset, tmp_path: Path) -> None:
    run = crashed(small, tmp_path / "run", 2, **SMALL)
    with pytest.raises(UsageError, match="already in use by a run; go on with that by --resume"):
        vr.train(small, out=run, **SMALL)
    (tmp_path / "empty").mkdir()
    assert vr.train(small, out=tmp_path / "empty", max_steps=1, **SMALL).is_dir()


@pytest.mark.parametrize(
    ("place", "resume"),
    [
        *((place, False) for place in ("Trainer.__init__", "fresh_network", "Run.lock", "checkpoint.save")),
        *((place, True) for place in ("Trainer.__init__", "Trainer.resume", "Run.lock", "checkpoint.save")),
        ("fresh_network", True),
    ],
)
def test_an_interruption_before_the_first_step_says_how_to_go_on(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, resume: bool
) -> None:
    options = {"max_steps": 8, "checkpoint_every": 5, **SMALL}
    out = tmp_path / "run"
    whole = vr.train(small, out=tmp_path / "whole", **options)
    if resume:
        crashed(small, out, 7, **options)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    name = place if "." in place else f"training.{place}"
    owner, _, attribute = name.partition(".")
    owners = {"Trainer": Trainer, "Run": Run, "training": training, "checkpoint": checkpoint}
    with monkeypatch.context() as patch:
        patch.setattr(owners[owner], attribute, interrupted)
        left = resume or place != "fresh_network"
        with pytest.raises(KeyboardInterrupt, match="--resume" if left else "^$"):
            vr.train(small, out=out, **options, resume=resume)
    if left:
        assert files(vr.train(small, out=out, resume=True, **options)) == files(whole)
    else:
        assert not out.exists()


def test_an_interruption_that_leaves_nothing_to_go_on_from_says_so(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"nothing was learned yet; remove .*run and train again"):
        vr.train(small, out=tmp_path / "run", checkpoint_minutes=0, **SMALL)


def test_a_full_disk_says_how_to_go_on(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"max_steps": 8, "checkpoint_every": 5, **SMALL}
    whole = vr.train(small, out=tmp_path / "whole", **options)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_tensors", full)
        with pytest.raises(ValuerecError, match=r"no space is left .*; then go on with: .*run --resume \(and the same"):
            vr.train(small, out=tmp_path / "run", **options)
    assert files(vr.train(small, out=tmp_path / "run", resume=True, **options)) == files(whole)


def test_an_extended_run_says_what_it_was_trained_with(
    small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SMALL | {"validate_every": 3, "quiet": False}
    run = vr.train(small, out=tmp_path / "run", max_steps=6, **options)
    assert vr.info(run)["resumed_with"] is None
    vr.train(small, out=run, max_steps=12, resume=True, **options)
    capsys.readouterr()
    vr.train(small, out=run, max_steps=4, resume=True, **options)
    assert "is at step 12, and --epochs and --max-steps end it at step 4: nothing is left" in capsys.readouterr().err
    assert vr.info(run)["resumed_with"] == {"max_steps": 12} and vr.info(run)["config"]["training"]["max_steps"] == 6
    bundle = vr.export(run, out=tmp_path / "bundle", onnx=False)
    assert vr.info(bundle)["config"]["training"]["max_steps"] == 12
    assert "max_steps 12" in (bundle / "MODEL_CARD.md").read_text()
    vr.train(small, out=run, max_steps=6, resume=True, **options)
    assert vr.info(run)["resumed_with"] == {"max_steps": 12}  # it still has twelve


def test_another_machine_is_noted(small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = SMALL | {"quiet": False, "max_steps": 4}
    run = vr.train(small, out=tmp_path / "run", **options)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        vr.train(small, out=run, resume=True, **options)
    finally:
        torch.set_num_threads(threads)
    assert f"began with threads = {threads}, now it is {threads + 1}: the last bits" in capsys.readouterr().err
