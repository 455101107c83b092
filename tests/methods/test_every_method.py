"""All backbones × methods × protocols, through the same door: a small log, fifty steps."""

from __future__ import annotations

import copy
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
from valuerec.methods import METHODS, Batch, CriticMethod, Method
from valuerec.model import Model
from valuerec.network import Network
from valuerec.target import Target
from valuerec.training import TrainConfig
from valuerec.training.learners import fresh_network
from valuerec.training.run import Run
from valuerec.training.trainer import Trainer
from worlds import random_sessions, write_dataset

ITEMS, SEEN, STEPS = 34, 30, 50
LONGEST = 8  # items of a session: no history has more than 7
TARGET_EVERY = 20
PROTOCOLS = ("ours", "released")

# What no gradient of this log reaches, beside the vectors of items that are never seen.
UNREACHED = {
    "sasrec": {"position": np.s_[LONGEST - 1 :]},  # places beyond the longest history
    "caser": {"vertical_L": np.s_[LONGEST - 1 :]},  # the same
    "nextitnet": {f"blocks.{block}.second.taps.weight": np.s_[:, :64] for block in (1, 3, 5)},  # 8 items back
}
ANYHOW = {"sasrec": {"key.bias"}}  # adds the same to every item's match, which softmax does not see: rounding moves it


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 sessions over 30 of 34 items; each of the 30 is in a history and is chosen."""
    draw = np.random.default_rng(0)
    sessions = {
        split: random_sessions(draw, count, SEEN, LONGEST)
        for split, count in {"train": 240, "validation": 30, "test": 30}.items()
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


def keep_networks(patch: pytest.MonkeyPatch) -> list[Network]:
    """Copies of the network in memory, one each time that its weights become those that count."""
    kept: list[Network] = []
    real = Run.save_weights

    def keeping(self: Run, network: Network, step: int) -> None:
        kept.append(copy.deepcopy(network))
        real(self, network, step)

    patch.setattr(Run, "save_weights", keeping)
    return kept


def keep_on_the_way(patch: pytest.MonkeyPatch, steps: tuple[int, ...]) -> dict[int, Network]:
    """Copies of the network in memory after some numbers of steps."""
    kept: dict[int, Network] = {}
    real = Trainer._one_step

    def keeping(self: Trainer) -> None:
        if self.step in steps:
            kept[self.step] = copy.deepcopy(self.network).eval()
        real(self)

    patch.setattr(Trainer, "_one_step", keeping)
    return kept


@torch.no_grad()
def critic_loss(method: CriticMethod, network: Network, target: Target, log: Dataset) -> float:
    """The temporal difference over the whole training split, against a target that stands still.

    The one that is logged need not fall: its target moves, from about 0 to values that are larger and spread more. For
    `ours` the fresh network is what is learned from until the first copy. For `released` the target is another one in
    every step, dropout included, and in fifty steps some critics run after it and others stay behind (measured: 0.2 to
    2 times the first loss); what a method descends is the same, and its weights are seen to change.
    """
    events = log.events_of("train")
    rows = log.transitions(np.arange(events.start, events.stop), network.window, vr.Rewards(), method.return_discount)
    torch.manual_seed(0)  # the same mixture of heads each time
    return float(method.losses(network, target, Batch.of(rows, torch.device("cpu"))).parts["td"])


def movable(backbone: str, method: str, name: str, weight: Tensor) -> Tensor:
    """Which entries of a parameter have a gradient in some step, of its shape."""
    mask = torch.ones_like(weight, dtype=torch.bool)
    part, _, own_name = name.partition(".")
    if part == "backbone" and own_name in UNREACHED.get(backbone, {}):
        mask[UNREACHED[backbone][own_name]] = False
    if name == "backbone.item.weight":
        mask[SEEN:] = False
        mask[ITEMS] = backbone == "gru4rec"  # padding's row: it alone lets an empty history begin with a vector
    if part == "q_head" and method != "cql":
        mask[SEEN:] = False  # the temporal difference is of logged items; the conservative term is of all
    return mask  # the softmax reaches every item of the item head


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_learns_keeps_what_it_learned_and_goes_on_where_it_stopped(
    log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, name: str, protocol: str
) -> None:
    kind = METHODS[name]
    small = {"heads": 4} if "heads" in kind.__dataclass_fields__ and kind().n_heads > 1 else {}
    method = kind(**small, **({"target_every": TARGET_EVERY} if kind().n_heads else {}))
    options = options_of(backbone, method, protocol)
    with monkeypatch.context() as patch:
        kept, passed = keep_networks(patch), keep_on_the_way(patch, (0, TARGET_EVERY))
        run = vr.train(log, out=tmp_path / "run", max_steps=STEPS, **options)

    learned = [line["cross_entropy"] for line in lines(run) if "loss" in line]
    assert learned[-1] < learned[0] - 0.1
    if isinstance(method, CriticMethod) and protocol == "ours":
        critic = [critic_loss(method, passed[step], Target(passed[0]), log) for step in (0, TARGET_EVERY)]
        assert critic[1] < 0.95 * critic[0]

    config = TrainConfig(**{key: value for key, value in options.items() if key != "quiet"})
    after, before = weights(run), fresh_network(config, ITEMS, torch.device("cpu")).state_dict()
    assert set(after) == set(before)
    assert any(key.startswith("q_head.") for key in after) == (method.n_heads > 0)
    for key, value in after.items():
        if key.removeprefix("backbone.") in ANYHOW.get(backbone, ()):
            continue
        changed, may = value != before[key], movable(backbone, name, key, value)
        assert not changed[~may].any(), key
        assert changed[may].float().mean() > 0.8, key  # a unit behind a ReLU that never opens stays as it is
        if key in ("item_head.weight_ND", "backbone.item.weight", "q_head.weight"):
            assert (changed.any(dim=1) == may.any(dim=1)).all(), key  # every item, too

    model = vr.load(run)
    sessions = [["i003", "i004"], [], ["i020"], ["i033"]]
    answer = model.recommend(sessions, k=5)
    assert answer == Model(kept[-1], Run(run).item_ids, Run(run).config).recommend(sessions, k=5)
    for key, value in kept[-1].state_dict().items():
        assert torch.equal(value, model.network.state_dict()[key]) and torch.equal(value, after[key])

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
