from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import valuerec as vr
from valuerec.backbones import BACKBONES
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.methods import METHODS, Batch, Method
from valuerec.model import Model
from valuerec.training import TrainConfig, checkpoint
from valuerec.training.learners import fresh_network
from valuerec.training.order import BatchOrder
from valuerec.training.reporting import Reporter
from valuerec.training.run import Run
from valuerec.training.trainer import Trainer
from worlds import write_dataset

SMALL: dict[str, Any] = {"batch_size": 64, "quiet": True, "backbone": vr.SASRec(width=8), "learning_rate": 0.01}


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / json.loads((run / "manifest.json").read_text())["weights"])


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", list(METHODS))
def test_any_method_learns_and_leaves_a_whole_run(small: Dataset, tmp_path: Path, name: str) -> None:
    run = vr.train(small, out=tmp_path / "run", method=METHODS[name](), epochs=12, log_every=5, **SMALL)
    losses = [line["cross_entropy"] for line in lines(run) if "loss" in line]
    assert losses[-1] < losses[0] - 0.5
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("test", "validation"):
        for kind in ("purchase", "click"):
            assert set(metrics[split][kind]) == {f"{metric}@{k}" for metric in ("hr", "ndcg") for k in (5, 10, 20)}
    assert metrics["test"]["click"]["hr@20"] > 0.75  # of 30 items, by the pattern; 20/30 by chance
    best = max((line for line in lines(run) if "validation" in line), key=lambda line: line["score"])
    assert metrics["validation"] == best["validation"] == vr.evaluate(run, "validation")
    assert metrics["selection"]["step"] == best["step"]
    config = json.loads((run / "config.json").read_text())
    assert config["method"]["name"] == name and config["backbone"]["width"] == 8
    assert json.loads((run / "environment.json").read_text())["torch"] == torch.__version__
    assert vr.info(run)["damaged"] == [] and vr.info(run)["status"] in ("finished", "early stop")


@pytest.mark.parametrize("method", [vr.Supervised(), vr.VPQ(heads=4, target_every=10)], ids=lambda method: method.name)
@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_any_backbone_learns_with_any_method_and_comes_back_from_its_folder(
    small: Dataset, tmp_path: Path, backbone: str, method: Method
) -> None:
    config = TrainConfig(
        backbone=BACKBONES[backbone](width=8), method=method, batch_size=64, learning_rate=0.01, max_steps=50,
        validate_every=50, log_every=5,
    )  # fmt: skip
    device = torch.device("cpu")
    network = fresh_network(config, small.n_items, device)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    run = Run.create(tmp_path / "run", config, small, device)
    assert Trainer(config, small, network, run, Reporter(quiet=True)).fit() == "finished"
    losses = [line["cross_entropy"] for line in lines(run.path) if "loss" in line]
    assert len(losses) == 10 and losses[-1] < losses[0] - 0.3
    for name, value in network.state_dict().items():
        assert value.isfinite().all() and not torch.equal(value, fresh[name]), name
    sessions = [["i003", "i004"], [], ["i029"] * 12, ["i001", "nix", "i002"]]
    trained = Model(network, small.item_ids, run.config).recommend(sessions, k=30)
    assert vr.load(run.path).recommend(sessions, k=30) == trained


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(
    small: Dataset, tmp_path: Path, backbone: str
) -> None:
    options = SMALL | {"backbone": BACKBONES[backbone](width=8)}
    runs = [
        vr.train(small, out=tmp_path / name, method=vr.VPQ(heads=4), epochs=2, seed=seed, **options)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    first, second, other = (weights(run) for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["q_head.weight"], other["q_head.weight"])


def test_an_interrupted_and_resumed_run_is_the_same_run(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"method": vr.VPQ(heads=4, target_every=7), "epochs": 3, "validate_every": 11, "log_every": 4, **SMALL}
    whole = vr.train(small, out=tmp_path / "whole", **options)
    one_step = Trainer._one_step

    def interrupted_once(self: Trainer) -> None:
        one_step(self)
        if self.step == 18:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", interrupted_once)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            vr.train(small, out=tmp_path / "parts", checkpoint_every=5, **options)
    half = json.loads((tmp_path / "parts" / "metrics.json").read_text())
    assert half["status"] == "interrupted" and half["selection"]["step"] == 11
    vr.load(tmp_path / "parts").recommend([["i001"]], k=3)
    parts = vr.train(small, out=tmp_path / "parts", resume=True, **options)
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())

    def timeless(run: Path) -> list[dict[str, Any]]:
        return [{name: value for name, value in line.items() if name != "seconds"} for line in lines(run)]

    assert timeless(parts) == timeless(whole)


def test_resuming_falls_back_to_the_newest_whole_checkpoint(small: Dataset, tmp_path: Path) -> None:
    options = {"method": vr.Supervised(), "checkpoint_every": 5, **SMALL}
    run = vr.train(small, out=tmp_path / "run", max_steps=14, **options)
    older, newest = sorted((run / "checkpoints").iterdir())
    assert newest.name == "step-000000014"  # of the end
    state = newest / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"\x55")
    found = checkpoint.newest(Run(run), torch.device("cpu"))
    assert found is not None and (found.folder.name, found.step, list(found.skipped)) == (older.name, 10, [newest])
    assert "state.safetensors differs" in found.skipped[newest]
    again = vr.train(small, out=run, resume=True, max_steps=20, **options)
    direct = vr.train(small, out=tmp_path / "direct", max_steps=20, **options)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(direct).items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"method": vr.VPQ(heads=4)}, "method name"),
        ({"seed": 5}, "seed"),
    ],
)
def test_resuming_with_other_options_is_refused(
    small: Dataset, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    options = {"method": vr.Supervised(), "max_steps": 2, "checkpoint_every": 1, **SMALL}
    run = vr.train(small, out=tmp_path / "run", **options)
    with pytest.raises(UsageError, match=says):
        vr.train(small, out=run, resume=True, **(options | change))


def test_early_stopping_keeps_the_best_weights(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    monkeypatch.setattr("valuerec.training.trainer.selection_score", lambda metrics: next(scores))
    run = vr.train(small, out=tmp_path / "run", validate_every=3, patience=2, epochs=50, **SMALL)
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["status"], metrics["steps"], metrics["selection"]["step"]) == ("early stop", 12, 6)
    assert [path.name for path in run.glob("weights-*")] == ["weights-000000006.safetensors"]


def test_a_run_that_diverges_says_so_and_keeps_what_it_had(small: Dataset, tmp_path: Path) -> None:
    options = SMALL | {"learning_rate": 1e30}
    with pytest.raises(ValuerecError, match=r"diverged before step \d+: .* lower --learning-rate"):
        vr.train(small, out=tmp_path / "run", epochs=3, log_every=1, **options)
    assert vr.info(tmp_path / "run")["status"] == "diverged" and vr.info(tmp_path / "run")["metrics"] is None


def test_values_far_beyond_the_bounds_end_a_run_whose_best_weights_are_scored(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valuerec.training.trainer._BEYOND", 0.05)  # of 2: every critic gets there
    with pytest.raises(
        ValuerecError, match=r"diverged before step \d+: the mean Q-value is 0\.\d+, and no true one is"
    ):
        vr.train(small, out=tmp_path / "run", epochs=30, log_every=1, validate_every=1, **SMALL)
    told = vr.info(tmp_path / "run")
    assert (told["status"], told["metrics"]["status"], told["damaged"]) == ("diverged", "diverged", [])
    assert told["metrics"]["selection"]["step"] == told["step"] > 0
    assert vr.evaluate(tmp_path / "run") == told["metrics"]["test"]


def test_values_outside_the_certain_bounds_are_counted(small: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(method=vr.VPQ(heads=4), backbone=vr.SASRec(width=8, dropout=0.0), batch_size=64, max_steps=3)
    run = vr.train(
        small, out=tmp_path / "run", config=dataclasses.replace(config, log_every=1, validate_every=1), quiet=True
    )
    network = fresh_network(config, small.n_items, torch.device("cpu"))
    order = BatchOrder(small.events_of("train"), 64, 0)
    batch = Batch.of(small.transitions(order(0), 10), torch.device("cpu"))
    assert network.q_head is not None
    q_BK = network.q_head.of(network.state(batch.state_BL, batch.length_B), batch.action_B)
    logged = [line for line in lines(run) if "loss" in line]
    assert logged[0]["outside"] == pytest.approx(float(((q_BK < 0) | (q_BK > 2)).float().mean()), abs=0.01)
    metrics = json.loads((run / "metrics.json").read_text())
    best = metrics["selection"]["step"]
    assert metrics["outside"] == {"share": logged[best - 1]["outside"], "bounds": [0.0, 2.0]}


def test_a_method_without_a_critic_has_no_bounds(small: Dataset, tmp_path: Path) -> None:
    run = vr.train(small, out=tmp_path / "run", **(SMALL | {"method": vr.Supervised(), "max_steps": 2}))
    assert "outside" not in json.loads((run / "metrics.json").read_text())


def test_a_trial_is_scored_on_validation_alone(small: Dataset, tmp_path: Path) -> None:
    scored, trial = (
        vr.train(small, out=tmp_path / str(test), method=vr.Supervised(), max_steps=3, test=test, quiet=True)
        for test in (True, False)
    )
    whole, part = (json.loads((run / "metrics.json").read_text()) for run in (scored, trial))
    assert "test" in whole and "test" not in part and part["validation"] == whole["validation"]


def test_negative_rewards_are_refused_or_shifted(small: Dataset, tmp_path: Path) -> None:
    options = SMALL | {"rewards": vr.Rewards(click=-0.2, purchase=1.0), "max_steps": 2, "log_every": 1}
    with pytest.raises(UsageError, match="--reward-transform linear"):
        vr.train(small, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    for name, change in {"shifted": {"reward_transform": "linear"}, "minus": {"method": vr.Minus(heads=3)}}.items():
        run = vr.train(small, out=tmp_path / name, **(options | change))
        bounds = json.loads((run / "metrics.json").read_text())["outside"]["bounds"]
        assert bounds == pytest.approx([0.0, 2.4] if name == "shifted" else [-0.4, 2.0])
        assert json.loads((run / "config.json").read_text())["rewards"] == {"click": -0.2, "purchase": 1.0}


def test_a_kind_of_its_own_is_learned_from_with_its_reward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    kinds = ["view", "cart", "order"]
    rows = [f"s{i // 4},i{(i * 7) % 11},{1_400_000_000 + i},{kinds[i % 3]}\n" for i in range(400)]
    log.write_text("session,item,time,event\n" + "".join(rows))
    meanings = {"view": "click", "cart": "cart", "order": "purchase"}
    vr.prepare([log], format="events", out=tmp_path / "data", events=meanings)
    options = SMALL | {"max_steps": 2, "quiet": False}
    with pytest.raises(UsageError, match=r"--reward-others cart=0\.5"):
        vr.train(tmp_path / "data", out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    options["rewards"] = vr.Rewards(others={"cart": 4.0})
    run = vr.train(tmp_path / "data", out=tmp_path / "run", **options)
    assert "events of the kind cart are learned from and not scored" in capsys.readouterr().err
    assert json.loads((run / "config.json").read_text())["rewards"] == {"click": 0.2, "purchase": 1.0, "cart": 4.0}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["outside"]["bounds"] == [0.0, 8.0] and set(metrics["test"]) == {"purchase", "click"}
    assert vr.load(run).recommend([["i1", "i2"]], k=3)
    vr.prepare([log], format="events", out=tmp_path / "carts", events=dict.fromkeys(meanings, "cart"))
    with pytest.raises(ValuerecError, match="neither clicks nor purchases in its validation split"):
        vr.train(tmp_path / "carts", out=tmp_path / "no run", **options)


def test_a_log_of_clicks_alone_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sessions = [[((start + step) % 9, "c") for step in range(4)] for start in range(30)]
    data = write_dataset(tmp_path / "data", {"train": sessions, "validation": sessions, "test": sessions}, 9)
    run = vr.train(data, out=tmp_path / "run", **(SMALL | {"max_steps": 2, "quiet": False}))
    told = capsys.readouterr().err
    assert "has no purchases to train on" in told and "selects by clicks alone." in told
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["purchase"]["hr@20"] is None and metrics["test"]["click"]["hr@20"] is not None


def test_by_values_the_mean_q_selects_recommends_and_is_evaluated(small: Dataset, tmp_path: Path) -> None:
    options = SMALL | {"epochs": 2}
    run = vr.train(small, out=tmp_path / "run", method=vr.VPQ(heads=4, recommend="values"), **options)
    metrics = json.loads((run / "metrics.json").read_text())
    assert vr.evaluate(run) == vr.evaluate(run, recommend="values") == metrics["test"]
    assert vr.evaluate(run, recommend="items") != metrics["test"]
    (answer,) = vr.load(run).recommend([["i003", "i004"]], k=30)
    assert len(answer) == 30 and all(item.score == pytest.approx(item.value, abs=1e-6) for item in answer)
    assert [item.score for item in answer] == sorted((item.score for item in answer), reverse=True)
    (unseen,) = vr.load(run).recommend([["i003", "i004"]], k=30, exclude_seen=True)
    assert [item.id for item in unseen] == [item.id for item in answer if item.id not in ("i003", "i004")]


class LastItem(nn.Module):
    """Somebody's own backbone."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items + 1, 12)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        return self.table(items_BL[torch.arange(len(items_BL)), length_B.long() - 1])


def test_somebodys_own_backbone_trains_with_vpq_and_loads(small: Dataset, tmp_path: Path) -> None:
    run = vr.train(small, out=tmp_path / "run", backbone=LastItem, method=vr.VPQ(heads=3), epochs=3, quiet=True)
    assert len(vr.load(run, backbone=LastItem).recommend([["i001", "i002"]], k=4)[0]) == 4
    with pytest.raises(UsageError, match="LastItem"):
        vr.load(run)


def test_a_backbone_of_the_wrong_shape_is_refused(small: Dataset, tmp_path: Path) -> None:
    class Wrong(LastItem):
        def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
            return self.table(items_BL)

    with pytest.raises(UsageError, match="one state a row"):
        vr.train(small, out=tmp_path / "run", backbone=Wrong, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("backbone", "says"),
    [
        (vr.SASRec, r"The backbone is the class SASRec; give its configuration, SASRec\(\)\."),
        ("sasrec", r"The backbone is a str; give a class or a function that is called with \(n_items, window\)"),
        (torch.nn.Linear(2, 2), "The backbone is a Linear; give a class or a function"),
        (
            lambda n_items: torch.nn.Linear(n_items, 2),
            r"The backbone <lambda> can't be built by \(n_items, window\): .*",
        ),
        (lambda n_items, window: n_items, "The backbone <lambda> answered int, and no torch.nn.Module"),
    ],
)
def test_what_is_no_backbone_is_told(small: Dataset, tmp_path: Path, backbone: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        vr.train(small, out=tmp_path / "run", backbone=backbone, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_method_is_given_with_its_configuration(small: Dataset, tmp_path: Path) -> None:
    for method in (vr.VPQ, "vpq"):
        with pytest.raises(
            UsageError, match=r"option method is .*; it must be a method's configuration, such as VPQ\(\)"
        ):
            vr.train(small, out=tmp_path / "run", method=method, quiet=True)  # type: ignore[arg-type]


def test_a_backbone_that_fails_on_what_it_is_given_is_named(small: Dataset, tmp_path: Path) -> None:
    class Hot(LastItem):
        def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(items_BL).float()[:, 0]

    with pytest.raises(
        UsageError, match=r"The backbone Hot failed on items of shape \(2, 10\).*both int32; .*: one_hot is"
    ):
        vr.train(small, out=tmp_path / "run", backbone=Hot, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_and_a_dataset_without_a_split_are_refused(small: Dataset, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="in use"):
        vr.train(small, out=tmp_path / "used", **SMALL)
    tiny = write_dataset(tmp_path / "tiny", {"train": [[(0, "c")]]}, 1)
    with pytest.raises(ValuerecError, match="validation split"):
        vr.train(tiny, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["batch_size", "epochs", "patience", "window", "learning_rate", "seed", "device"])
def test_wrong_options_are_named(small: Dataset, tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match=option):
        vr.train(small, out=tmp_path / "run", **(SMALL | {option: "tpu" if option == "device" else -1}))


def test_interrupting_the_command_leaves_a_usable_run(small: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "valuerec.cli", "train", str(small.path), "--out", str(run), "--epochs", "100000",
               "--patience", "100000", "--width", "8", "--heads", "3"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while " step " not in (line := process.stderr.readline()):
        assert line, "it ended before its first validation"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in told and "Traceback" not in told
    assert vr.info(run)["status"] == "interrupted" and vr.evaluate(run)["click"]["hr@20"] is not None
