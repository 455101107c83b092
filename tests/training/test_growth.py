"""A run that starts from an earlier one's weights, on a catalogue that has changed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

import valuerec as vr
from valuerec import ops
from valuerec.backbones import BACKBONES
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import sha256
from valuerec.heads import QEnsemble
from valuerec.methods import METHODS, Method
from valuerec.model import Model
from valuerec.network import Network
from valuerec.training import TrainConfig
from valuerec.training.config import PROTOCOLS
from valuerec.training.growth import Growth
from valuerec.training.learners import OneNetwork, TwoNetworks, fresh_network, learner_of
from valuerec.training.run import Run
from valuerec.training.trainer import Trainer
from worlds import random_sessions, write_dataset

CPU = torch.device("cpu")
OLD = [f"i{number:03d}" for number in range(30)]
LATER = sorted({*OLD, "a new one", "i004b", "i029b", "zz"} - {"i003", "i017"})
SMALL: dict[str, Any] = {"batch_size": 64, "quiet": True, "backbone": vr.SASRec(width=8), "learning_rate": 0.01}


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / json.loads((run / "manifest.json").read_text())["weights"])


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def made(folder: Path, ids: Sequence[str], seed: int = 0) -> Dataset:
    """A small dataset with a catalogue of these ids, in this order."""
    draw = np.random.default_rng(seed)
    splits = {"train": 120, "validation": 20, "test": 20}
    sessions = {split: random_sessions(draw, count, len(ids)) for split, count in splits.items()}
    return write_dataset(folder, sessions, len(ids), ids=ids)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """32 items: 28 of the small dataset's, four new ones among and around them."""
    return made(tmp_path_factory.mktemp("later") / "data", LATER, seed=1)


def configured(**options: Any) -> TrainConfig:
    return TrainConfig(**({name: value for name, value in SMALL.items() if name != "quiet"} | options))


def ensemble(name: str) -> Method:
    """A method with three heads, where it may have several."""
    kind = METHODS[name]
    several = name != "sac" and "heads" in {field.name for field in dataclasses.fields(kind)}
    return kind(heads=3) if several else kind()


def parent(folder: Path, config: TrainConfig, dataset: Dataset) -> tuple[Path, Network]:
    """A run of which every weight is some number, and its network, without the time that training takes."""
    run, network = Run.create(folder, config, dataset, CPU), fresh_network(config, dataset.n_items, CPU)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value))
    run.save_weights(network, 7)
    run.finish("finished", None)
    run.release()
    return run.path, network


def begun(run: Path, config: TrainConfig, dataset: Dataset) -> tuple[Network, Growth]:
    network = fresh_network(config, dataset.n_items, CPU)
    growth = Growth(run, config, dataset, network)
    network.load_state_dict(growth.weights(network))
    return network, growth


def check_rows(old: dict[str, Tensor], new: dict[str, Tensor], before: Sequence[str], now: Sequence[str]) -> None:
    """Rows of items that stayed, and all that has no row an item, are the old bytes; new rows are finite."""
    assert old.keys() == new.keys()
    place = {item: index for index, item in enumerate(before)}
    pairs = [(place[item], index) for index, item in enumerate(now) if item in place]
    theirs, ours = ([pair[side] for pair in pairs] for side in (0, 1))
    tables = {"backbone.item.weight", "item_head.weight_ND", "item_head.bias_N"}
    tables |= {name for name in old if name.startswith("q_head.") and name != "q_head.map_KDD"}
    for name, value in new.items():
        if name not in tables:
            assert value.numpy().tobytes() == old[name].numpy().tobytes(), name
            continue
        assert len(value) - len(now) == len(old[name]) - len(before) == (name == "backbone.item.weight")
        assert value[ours].numpy().tobytes() == old[name][theirs].numpy().tobytes(), name
        assert value[len(now) :].numpy().tobytes() == old[name][len(before) :].numpy().tobytes(), name
        assert value.isfinite().all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", list(METHODS))
def test_any_method_starts_from_a_run_of_its_own_and_goes_on(
    small: Dataset, later: Dataset, tmp_path: Path, name: str, protocol: str
) -> None:
    options = SMALL | {"method": ensemble(name), "protocol": protocol, "log_every": 5, "validate_every": 5}
    old = vr.train(small, out=tmp_path / "old", max_steps=10, **options)
    config = TrainConfig(**{key: value for key, value in options.items() if key != "quiet"})
    network, _ = begun(old, config, later)
    check_rows(weights(old), network.state_dict(), OLD, LATER)
    run = vr.train(later, out=tmp_path / "new", max_steps=40, start=old, **options)
    first, *others = [line for line in lines(run) if "validation" in line]
    assert first["step"] == 0 and first["best"] and others
    losses = [line["cross_entropy"] for line in lines(run) if "loss" in line]
    assert losses[-1] < losses[0]
    for tensor in weights(run).values():
        assert tensor.isfinite().all()
    assert vr.evaluate(run) == json.loads((run / "metrics.json").read_text())["test"]
    started = json.loads((run / "config.json").read_text())["start"]
    told = json.loads((old / "manifest.json").read_text())
    assert started == {
        "run": str(old.resolve()),
        "dataset": small.fingerprint,
        "weights": told["weights"],
        "sha256": sha256(old / told["weights"]),
        "step": told["step"],
        "items": {"stayed": 28, "new": 4, "retired": 2},
    }


@pytest.mark.parametrize("ensemble", ["full", "factored"])
@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_any_backbone_and_ensemble_keeps_what_stayed(
    small: Dataset, later: Dataset, tmp_path: Path, backbone: str, ensemble: str
) -> None:
    method = vr.VPQ(heads=3, ensemble=ensemble)
    config = configured(backbone=BACKBONES[backbone](width=8), method=method)
    run, network = parent(tmp_path / "old", config, small)
    grown, _ = begun(run, config, later)
    check_rows(network.state_dict(), grown.state_dict(), OLD, LATER)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_items_keep_their_rows_by_id_whatever_came_went_or_moved(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = st.lists(st.sampled_from([f"item {number}" for number in range(12)]), min_size=2, max_size=10, unique=True)
    before = data.draw(names)
    now = data.draw(names.filter(set(before).intersection))
    folder = tmp_path_factory.mktemp("growth")
    # A width that may be as large as the catalogue, so that a shape alone does not tell a table of items.
    config = configured(backbone=vr.SASRec(width=data.draw(st.integers(2, 10))), method=vr.VPQ(heads=2))
    run, network = parent(folder / "old", config, made(folder / "before", before))
    grown, growth = begun(run, config, made(folder / "now", now))
    check_rows(network.state_dict(), grown.state_dict(), before, now)
    assert growth.stayed == len(set(before) & set(now))
    assert (growth.new, growth.retired) == (len(set(now) - set(before)), len(set(before) - set(now)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("engine", ["auto", "tiled", "plain"])
def test_the_target_starts_like_the_network_and_is_searched_exactly(
    small: Dataset, later: Dataset, tmp_path: Path, protocol: str, engine: str
) -> None:
    method = vr.VPQ(heads=4)
    config = configured(method=method, protocol=protocol, engine=engine)
    run, _ = parent(tmp_path / "old", config, small)
    network = fresh_network(config, later.n_items, CPU)
    learner = learner_of(config, network)
    learner.start(Growth(run, config, later, network).weights)
    heads: list[QEnsemble] = []
    if isinstance(learner, TwoNetworks):
        first, second = (each.state_dict() for each in learner.networks)
        for each in (first, second):
            check_rows(weights(run), each, OLD, LATER)
        assert not torch.equal(first["q_head.weight"], second["q_head.weight"])  # they guess apart about new items
        heads = [each.q_head for each in learner.networks if each.q_head is not None]
    else:
        assert isinstance(learner, OneNetwork) and learner.target is not None
        for name, value in learner.target.state_dict().items():
            assert torch.equal(value, network.state_dict()[name])
        heads = [learner.target.q_head]
    state_BD, mixture_K = torch.randn(64, 8), torch.rand(4).softmax(dim=0)
    for search, own in zip(learner.searches, heads, strict=True):
        best = search.best(state_BD, mixture_K, method.target_score, method.prunable)
        value_B, item_B = ops.plain_maximum(state_BD, *own.whole(), mixture_K, method.target_score)
        torch.testing.assert_close(best.value_B, value_B, rtol=1e-5, atol=1e-5)
        assert torch.equal(best.item_B, item_B)


@pytest.fixture(scope="module")
def catalogues(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """A run of VPQ that has learned what the small dataset's items are worth, and that dataset with 3,000 new items."""
    folder = tmp_path_factory.mktemp("uncertain")
    run = vr.train(small, out=folder / "old", method=vr.VPQ(heads=15, target_every=20), epochs=20, patience=20, **SMALL)
    return run, made(folder / "data", [*OLD, *(f"n{number:04d}" for number in range(3000))])


def test_new_items_are_worth_what_the_catalogue_is_and_at_least_as_uncertain(
    small: Dataset, catalogues: tuple[Path, Dataset]
) -> None:
    run, crowd = catalogues
    method = vr.VPQ(heads=15, target_every=20)
    network, _ = begun(run, configured(method=method), crowd)
    assert network.q_head is not None
    rows = small.transitions(np.array(small.events_of("validation")), network.window)
    state_BD = network.eval().state(torch.from_numpy(rows.state_BL), torch.from_numpy(rows.length_B))
    with torch.no_grad():
        weight_NKD, bias_NK = network.q_head.whole()
        q_BNK = torch.einsum("bd,nkd->bnk", state_BD, weight_NKD) + bias_NK
    old_BOK, new_BMK = q_BNK[:, :30], q_BNK[:, 30:]
    value_B, spread_B = old_BOK.mean(dim=(1, 2)), old_BOK.var(dim=2, correction=0).mean(dim=1)
    expected_B = old_BOK.mean(dim=1).var(dim=1, correction=0) + 14 / 15 * old_BOK.var(dim=1, correction=0).mean(dim=1)
    of_new_B = new_BMK.var(dim=2, correction=0).mean(dim=1)
    torch.testing.assert_close(new_BMK.mean(dim=(1, 2)), value_B, rtol=0.05, atol=0.01)
    torch.testing.assert_close(of_new_B, expected_B, rtol=0.05, atol=0)  # the formula in valuerec.training.growth
    assert (of_new_B >= 0.95 * spread_B).all()
    weight_BN = method.weight(q_BNK.std(dim=2, correction=0))
    assert weight_BN[:, 30:].mean() <= weight_BN[:, :30].mean()
    best_B = (q_BNK.mean(dim=2) * weight_BN).argmax(dim=1)
    assert (best_B >= 30).float().mean() < 0.5 * 3000 / 3030  # as many as by chance would be 99 %


def test_a_mean_row_in_place_of_donors_would_call_new_items_certain(catalogues: tuple[Path, Dataset]) -> None:
    run, _ = catalogues
    old = weights(run)["q_head.weight"].view(30, 15, -1)
    state_BD = torch.randn(50, old.shape[2])
    spread_BO = torch.einsum("bd,okd->bok", state_BD, old).std(dim=2, correction=0)
    of_mean_B = torch.einsum("bd,kd->bk", state_BD, old.mean(dim=0)).std(dim=1, correction=0)
    assert of_mean_B.mean() < 0.6 * spread_BO.mean()


def test_before_any_step_old_items_are_recommended_in_the_old_order(
    small: Dataset, later: Dataset, tmp_path: Path
) -> None:
    config = configured(method=vr.VPQ(heads=3), max_steps=40)
    run = vr.train(small, out=tmp_path / "old", config=config, quiet=True)
    network, _ = begun(run, config, later)
    grown = Model(network, later.item_ids, vr.load(run).config)
    sessions = [["i004", "i005"], ["i029"], [], ["i010", "i011", "i012"] * 5]
    for before, now in zip(vr.load(run).recommend(sessions, k=30), grown.recommend(sessions, k=32), strict=True):
        stayed = set(OLD) & set(LATER)
        assert [item.id for item in now if item.id in stayed] == [item.id for item in before if item.id in stayed]
        values = {item.id: (item.value, item.uncertainty) for item in before}
        for item in now:
            if item.id in stayed:
                assert (item.value, item.uncertainty) == pytest.approx(values[item.id], abs=1e-6)


def test_new_items_do_not_crowd_the_top_before_they_have_been_learned(catalogues: tuple[Path, Dataset]) -> None:
    run, crowd = catalogues
    network, _ = begun(run, configured(method=vr.VPQ(heads=15, target_every=20)), crowd)
    model = Model(network, crowd.item_ids, vr.load(run).config)
    answers = model.recommend([[item] for item in OLD], k=5)
    assert np.mean([item.id in OLD for answer in answers for item in answer]) > 0.9


@pytest.mark.parametrize("order", [OLD, OLD[::-1]], ids=["same", "reversed"])
def test_with_the_same_items_it_is_plain_fine_tuning(small: Dataset, tmp_path: Path, order: Sequence[str]) -> None:
    config = configured(method=vr.VPQ(heads=3), max_steps=4)
    run, network = parent(tmp_path / "old", config, small)
    grown, growth = begun(run, config, made(tmp_path / "data", order))
    assert (growth.stayed, growth.new, growth.retired) == (30, 0, 0)
    check_rows(network.state_dict(), grown.state_dict(), OLD, order)


def test_weights_that_no_step_makes_better_are_kept(
    small: Dataset, later: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(method=vr.VPQ(heads=3), validate_every=3, max_steps=9)
    run, _ = parent(tmp_path / "old", config, small)
    scores = iter([0.9, 0.5, 0.4, 0.3])
    monkeypatch.setattr("valuerec.training.trainer.selection_score", lambda metrics: next(scores))
    new = vr.train(later, out=tmp_path / "new", config=config, start=run, quiet=True)
    assert json.loads((new / "metrics.json").read_text())["selection"]["step"] == 0
    network, _ = begun(run, config, later)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in weights(new).items())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_grown_run_is_resumed_to_the_same_weights_without_the_earlier_run(
    small: Dataset, later: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    config = configured(
        method=vr.VPQ(heads=4, target_every=7), protocol=protocol, epochs=3, validate_every=11, checkpoint_every=5
    )
    old, _ = parent(tmp_path / "old", config, small)
    whole = vr.train(later, out=tmp_path / "whole", config=config, start=old, quiet=True)
    one_step = Trainer._one_step

    def interrupted_once(self: Trainer) -> None:
        one_step(self)
        if self.step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", interrupted_once)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            vr.train(later, out=tmp_path / "parts", config=config, start=old, quiet=True)
    half = json.loads((tmp_path / "parts" / "metrics.json").read_text())
    assert half["selection"]["step"] == 0 and half["steps"] == 8
    with pytest.raises(UsageError, match=r"began with the weights of .*old, not with those of .*whole; resume it"):
        vr.train(later, out=tmp_path / "parts", config=config, start=whole, resume=True, quiet=True)
    with pytest.raises(UsageError, match="began with fresh weights, not with those of"):
        vr.train(small, out=old, config=config, start=whole, resume=True, quiet=True)
    shutil.rmtree(old)
    parts = vr.train(later, out=tmp_path / "parts", config=config, resume=True, quiet=True)
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())
    first, second = ([{**line, "seconds": 0} for line in lines(run)] for run in (whole, parts))
    assert first == second  # the items scored in a search too


def test_a_grown_run_keeps_what_it_begins_with(
    small: Dataset, later: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: Trainer) -> None:
        raise Killed

    config = configured(method=vr.VPQ(heads=3), validate_every=3, max_steps=6)
    old, _ = parent(tmp_path / "old", config, small)
    whole = vr.train(later, out=tmp_path / "whole", config=config, start=old, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", killed)
        with pytest.raises(Killed):
            vr.train(later, out=tmp_path / "parts", config=config, start=old, quiet=True)
    assert [path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()] == ["step-000000000"]
    shutil.copytree(tmp_path / "parts", tmp_path / "earlier")
    shutil.rmtree(tmp_path / "earlier" / "checkpoints")
    shutil.rmtree(old)
    with pytest.raises(ValuerecError, match="stopped before the weights of --from were kept; train anew"):
        vr.train(later, out=tmp_path / "earlier", config=config, resume=True, quiet=True)
    parts = vr.train(later, out=tmp_path / "parts", config=config, resume=True, quiet=True)
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())


def test_a_bundle_of_a_grown_run_does_not_say_where_it_was_made(small: Dataset, later: Dataset, tmp_path: Path) -> None:
    config = configured(method=vr.VPQ(heads=3), max_steps=2)
    place = tmp_path / "home-of-somebody"
    place.mkdir()
    old, _ = parent(place / "old", config, small)
    run = vr.train(later, out=place / "run", config=config, start=old, quiet=True)
    bundle = vr.export(run, out=place / "bundle", onnx=False)
    start = vr.info(bundle)["config"]["start"]
    assert start["dataset"] == small.fingerprint and start["step"] is not None
    for path in bundle.iterdir():
        content = path.read_bytes()
        for where in (place, small.path, later.path):
            assert str(where).encode() not in content and str(where.resolve()).encode() not in content
        assert b"home-of-somebody" not in content


def test_the_same_seed_gives_the_same_start_and_another_seed_another(
    small: Dataset, later: Dataset, tmp_path: Path
) -> None:
    run, _ = parent(tmp_path / "old", configured(), small)
    first, second, other = (begun(run, configured(seed=seed), later)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["q_head.weight"], other["q_head.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"backbone": vr.GRU4Rec(width=8)}, "backbone name = 'sasrec' (here 'gru4rec')"),
        ({"backbone": vr.SASRec(width=16)}, "backbone width = 8 (here 16)"),
        ({"method": vr.Minus(heads=3)}, "method name = 'vpq' (here 'minus')"),
        ({"method": vr.VPQ(heads=4)}, "method heads = 3 (here 4)"),
        ({"method": vr.VPQ(heads=3, discount=0.9)}, "method discount = 0.5 (here 0.9)"),
        ({"method": vr.VPQ(heads=3, ensemble="factored")}, "method ensemble = 'full' (here 'factored')"),
        ({"method": vr.VPQ(heads=3, critic="off")}, "only one of the two has q_head.bias_NK, q_head.weight"),
        ({"rewards": vr.Rewards(click=0.1)}, "rewards click = 0.2 (here 0.1)"),
        ({"window": 5}, "training window = 10 (here 5)"),
        (
            {"window": 5, "backbone": vr.SASRec(width=4)},
            "backbone width = 8 (here 4), training window = 10 (here 5); give the same, or train anew without --from.",
        ),
    ],
)
def test_a_start_that_means_something_else_is_refused(
    small: Dataset, later: Dataset, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    run, _ = parent(tmp_path / "old", configured(method=vr.VPQ(heads=3)), small)
    with pytest.raises(UsageError) as refusal:
        vr.train(later, out=tmp_path / "new", start=run, **(SMALL | {"method": vr.VPQ(heads=3)} | change))
    assert says in str(refusal.value) and not (tmp_path / "new").exists()


def test_a_kind_of_event_that_one_of_the_two_has_not_is_refused(small: Dataset, later: Dataset, tmp_path: Path) -> None:
    for dataset in (small, later):  # each with a kind of its own
        folder = tmp_path / dataset.path.parent.name
        shutil.copytree(dataset.path, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["digest"]
        (folder / "manifest.json").write_text(json.dumps(manifest | {"event_kinds": ["click", "purchase", "cart"]}))
    carts, options = vr.Rewards(others={"cart": 0.5}), SMALL | {"method": vr.VPQ(heads=3)}
    plain, _ = parent(tmp_path / "plain", configured(method=vr.VPQ(heads=3)), small)
    with_carts = Dataset(tmp_path / small.path.parent.name)
    other, _ = parent(tmp_path / "other", configured(method=vr.VPQ(heads=3), rewards=carts), with_carts)
    with pytest.raises(UsageError, match=r"rewards cart = 'none' \(here 0\.5\)"):
        vr.train(tmp_path / later.path.parent.name, out=tmp_path / "new", start=plain, rewards=carts, **options)
    with pytest.raises(UsageError, match=r"rewards cart = 0\.5 \(here 'none'\)"):
        vr.train(later, out=tmp_path / "new", start=other, **options)
    assert not (tmp_path / "new").exists()


def test_a_start_that_is_no_whole_run_of_this_shop_is_refused(small: Dataset, later: Dataset, tmp_path: Path) -> None:
    run, _ = parent(tmp_path / "old", configured(), small)
    elsewhere = made(tmp_path / "elsewhere", ["I001", "I002", "I003"])
    with pytest.raises(UsageError, match=r"no item in common \('i000', 'i001' there, 'I001', 'I002' here\)"):
        vr.train(elsewhere, out=tmp_path / "new", start=run, **SMALL)
    with pytest.raises(UsageError, match="is no valuerec run"):
        vr.train(later, out=tmp_path / "new", start=small.path, **SMALL)
    Run.create(tmp_path / "empty", configured(), small, CPU)
    with pytest.raises(ValuerecError, match="no weights yet to start from"):
        vr.train(later, out=tmp_path / "new", start=tmp_path / "empty", **SMALL)
    with pytest.raises(UsageError, match="in use"):
        vr.train(later, out=run, start=run, **SMALL)
    file = run / json.loads((run / "manifest.json").read_text())["weights"]
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    with pytest.raises(ValuerecError, match=r"weights-000000007.safetensors differs from its manifest"):
        vr.train(later, out=tmp_path / "new", start=run, **SMALL)
    assert not (tmp_path / "new").exists()


def test_what_stayed_what_differs_and_a_small_overlap_are_told(small: Dataset, later: Dataset, tmp_path: Path) -> None:
    run, _ = parent(tmp_path / "old", configured(method=vr.VPQ(heads=3)), small)
    _, growth = begun(run, configured(method=vr.VPQ(heads=3)), later)
    assert growth.lines == [
        f"Starting from {run}, weights of step 7: of its 30 items 28 stay and keep their weights, 2 are retired, 4 are "
        "new."
    ]
    other = configured(method=vr.VPQ(heads=3, penalty=5), backbone=vr.SASRec(width=8, dropout=0.2), protocol="released")
    few = made(tmp_path / "few", ["i000", "a", "b", "c"])
    _, note, warning = begun(run, other, few)[1].lines
    assert note == (
        "Note: it was trained with backbone dropout = 0.1 (here 0.2), method penalty = 20.0 (here 5), training "
        "protocol = 'ours' (here 'released')."
    )
    assert warning.startswith("Warning: only 25.0% of the smaller catalogue is in the other one")


class LastItem(nn.Module):
    """Somebody's own backbone: a dense table, a buffer of items, a number that is no item's, and no options."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items + 1, 30, padding_idx=n_items)
        self.mix = nn.Linear(30, 31)
        self.register_buffer("seen", torch.zeros(n_items, dtype=torch.int64))

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        return self.mix(self.table(items_BL[torch.arange(len(items_BL)), length_B.long() - 1]))


class ByColumns(LastItem):
    """One whose weights depend on the catalogue by their columns too."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__(n_items, window)
        self.odd = nn.Parameter(torch.zeros(2, n_items))


@pytest.mark.parametrize("now", [LATER, [*OLD[:-1], "zz"]], ids=["more items", "as many others"])
def test_somebodys_own_backbone_grows_too(small: Dataset, tmp_path: Path, now: list[str]) -> None:
    config = configured(backbone=LastItem, method=vr.VPQ(heads=3))
    run, network = parent(tmp_path / "old", config, small)
    later = made(tmp_path / "data", now)
    grown, _ = begun(run, config, later)
    before, after = network.state_dict(), grown.state_dict()
    for name in ("backbone.mix.weight", "backbone.mix.bias"):
        assert torch.equal(before[name], after[name])
    stayed = [item for item in now if item in OLD]
    theirs, ours = [OLD.index(item) for item in stayed], [now.index(item) for item in stayed]
    for name in ("backbone.table.weight", "backbone.seen", "item_head.weight_ND", "q_head.weight"):
        assert torch.equal(before[name][theirs], after[name][ours]), name
    assert torch.equal(before["backbone.table.weight"][-1], after["backbone.table.weight"][-1])
    vr.train(
        later, out=tmp_path / "new", start=run, max_steps=3, **(SMALL | {"backbone": LastItem, "method": config.method})
    )


@pytest.mark.parametrize("now", [LATER, [*OLD[:-1], "zz"]], ids=["more items", "as many others"])
def test_a_backbone_whose_weights_depend_on_the_catalogue_otherwise_is_refused(
    small: Dataset, tmp_path: Path, now: list[str]
) -> None:
    config = configured(backbone=ByColumns)
    run, _ = parent(tmp_path / "old", config, small)
    with pytest.raises(UsageError, match=r"backbone\.odd is of shape \(2, 30\).*by their rows alone"):
        begun(run, config, made(tmp_path / "data", now))


def test_evaluating_on_another_catalogue_points_to_from(small: Dataset, later: Dataset, tmp_path: Path) -> None:
    run, _ = parent(tmp_path / "old", configured(), small)
    with pytest.raises(
        UsageError, match=r"4 items that are new to it and lacks 2 of its own; .*--from .*old --out NEW"
    ):
        vr.evaluate(run, data=later.path)
    with pytest.raises(UsageError, match=r"was not trained on .*; name the dataset it was trained on with --data\.$"):
        vr.evaluate(run, data=made(tmp_path / "data", OLD).path)
