"""All backbones × methods × protocols, through the same door: a small log, fifty steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import valuerec as vr
from valuerec.backbones import BACKBONES
from valuerec.dataset import Dataset
from valuerec.methods import METHODS, Method
from valuerec.training import TrainConfig
from valuerec.training.learners import fresh_network
from valuerec.training.trainer import Trainer
from worlds import random_sessions, write_dataset

ITEMS, NEVER_SEEN, STEPS = 34, [30, 31, 32, 33], 50
PROTOCOLS = ("ours", "released")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 sessions over 30 of 34 items."""
    draw = np.random.default_rng(0)
    sessions = {
        split: random_sessions(draw, count, 30) for split, count in {"train": 240, "validation": 30, "test": 30}.items()
    }
    return write_dataset(tmp_path_factory.mktemp("log") / "data", sessions, ITEMS)


def options_of(backbone: str, method: Method, protocol: str) -> dict[str, Any]:
    return {
        "backbone": BACKBONES[backbone](),
        "method": method,
        "protocol": protocol,
        "batch_size": 64,
        "learning_rate": 0.01,
        "validate_every": 25,
        "patience": 9,
        "log_every": 10,
        "epochs": 99,
        "quiet": True,
    }


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / json.loads((run / "manifest.json").read_text())["weights"])


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def crash_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """The process dies in a step, as no signal handler sees it."""
    real = Trainer._one_step

    def crashing(self: Trainer) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        real(self)

    patch.setattr(Trainer, "_one_step", crashing)


def cases() -> list[tuple[str, str, str]]:
    """A method without a critic has one protocol: see the test of it below."""
    made = [
        (name, protocol) for name in METHODS for protocol in PROTOCOLS if protocol == "ours" or METHODS[name]().n_heads
    ]
    return [(backbone, name, protocol) for backbone in BACKBONES for name, protocol in made]


@pytest.mark.parametrize(("backbone", "name", "protocol"), cases())
def test_it_learns_keeps_what_it_learned_and_goes_on_where_it_stopped(
    log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, name: str, protocol: str
) -> None:
    kind = METHODS[name]
    small = {"heads": 4} if "heads" in kind.__dataclass_fields__ and kind().n_heads > 1 else {}
    method = kind(**small, **({"target_every": 10} if kind().n_heads else {}))
    options = options_of(backbone, method, protocol)
    run = vr.train(log, out=tmp_path / "run", max_steps=STEPS, **options)

    learned = [line["cross_entropy"] for line in lines(run) if "loss" in line]
    assert learned[-1] < learned[0] - 0.1
    config = TrainConfig(**{key: value for key, value in options.items() if key != "quiet"})
    after, before = weights(run), fresh_network(config, ITEMS, torch.device("cpu")).state_dict()
    changed = {key: (value != before[key]) for key, value in after.items()}
    assert changed["item_head.weight_ND"].any(dim=1).all()  # the softmax reaches every item
    assert any(value.any() for key, value in changed.items() if key.startswith("backbone."))
    embedding_N = changed["backbone.item.weight"].any(dim=1)
    assert embedding_N[:30].sum() > 20 and not embedding_N[NEVER_SEEN].any()
    assert any(key.startswith("q_head.") for key in changed) == (method.n_heads > 0)
    for key in ("q_head.weight", "q_head.bias_NK"):
        if key in changed:
            rows_N = changed[key].any(dim=1)
            assert rows_N[:30].sum() > 20
            assert rows_N[NEVER_SEEN].all() if name == "cql" else not rows_N[NEVER_SEEN].any()

    model = vr.load(run)
    sessions = [["i003", "i004"], [], ["i020"], ["i033"]]
    answer = model.recommend(sessions, k=5)
    assert answer == vr.load(run).recommend(sessions, k=5)
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, after[key])

    with monkeypatch.context() as patch:
        crash_at(patch, 29)
        with pytest.raises(KeyboardInterrupt):
            vr.train(log, out=tmp_path / "parts", max_steps=STEPS, checkpoint_every=9, **options)
    parts = vr.train(log, out=tmp_path / "parts", max_steps=STEPS, resume=True, **options)
    assert all(torch.equal(value, after[key]) for key, value in weights(parts).items())
    assert [{**line, "seconds": 0} for line in lines(parts)] == [{**line, "seconds": 0} for line in lines(run)]


@pytest.mark.parametrize("method", [vr.Supervised(), vr.RewardWeighted(), vr.ReturnWeighted(), vr.VPQ(critic="off")])
def test_without_a_critic_the_protocols_are_the_same(log: Dataset, tmp_path: Path, method: Method) -> None:
    runs = [
        vr.train(log, out=tmp_path / protocol, max_steps=20, **options_of("sasrec", method, protocol))
        for protocol in PROTOCOLS
    ]
    first, second = (weights(run) for run in runs)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_with_its_critic_off_a_method_is_the_plain_recommender(log: Dataset, tmp_path: Path) -> None:
    runs = [
        vr.train(log, out=tmp_path / method.name, max_steps=20, **options_of("sasrec", method, "ours"))
        for method in (vr.Supervised(), vr.VPQ(critic="off"))
    ]
    first, second = (weights(run) for run in runs)
    assert set(first) == set(second) and all(torch.equal(value, second[key]) for key, value in first.items())


def test_warming_up_for_ever_is_the_auxiliary_critic(log: Dataset, tmp_path: Path) -> None:
    runs = [
        vr.train(log, out=tmp_path / name, max_steps=20, **options_of("sasrec", method, "ours"))
        for name, method in (("a", vr.REM(critic="auxiliary")), ("b", vr.REM(warm_up=20)), ("c", vr.REM(warm_up=19)))
    ]
    first, second, third = (weights(run) for run in runs)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not torch.equal(first["item_head.weight_ND"], third["item_head.weight_ND"])


def test_a_warm_up_that_ends_after_a_resumption_ends_at_the_same_step(
    log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of("sasrec", vr.SAC(warm_up=15), "ours")
    whole = vr.train(log, out=tmp_path / "whole", max_steps=25, **options)
    with monkeypatch.context() as patch:
        crash_at(patch, 12)
        with pytest.raises(KeyboardInterrupt):
            vr.train(log, out=tmp_path / "parts", max_steps=25, checkpoint_every=5, **options)
    parts = vr.train(log, out=tmp_path / "parts", max_steps=25, resume=True, **options)
    assert all(torch.equal(value, weights(parts)[key]) for key, value in weights(whole).items())
