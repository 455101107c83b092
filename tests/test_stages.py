"""The stages as Python functions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import valuerec as vr
from test_sessions import write
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.evaluation import metrics_of, session_ranks
from valuerec.scores import read_metrics
from valuerec.sessions import Session
from valuerec.training.trainer import Trainer

SMALL: dict[str, Any] = {"batch_size": 64, "quiet": True, "backbone": vr.SASRec(width=8), "method": vr.VPQ(heads=3)}
LIVE = [Session("a", ["i003", "i004"]), Session("b", ["nix", "i029", "nix"]), Session("c", []), Session("d", ["nix"])]


@pytest.fixture(scope="module")
def run(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vr.train(small, out=tmp_path_factory.mktemp("stages") / "run", epochs=1, **SMALL)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "lists.parquet"])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_a_file_is_answered_like_lists(run: Path, tmp_path: Path, name: str, exclude_seen: bool) -> None:
    write(tmp_path / name, LIVE)
    told: list[tuple[int, int]] = []
    done = vr.recommend(
        run,
        tmp_path / name,
        out=tmp_path / "out.jsonl",
        k=6,
        exclude_seen=exclude_seen,
        progress=lambda *counts: told.append(counts),
    )
    assert done == (4, 24, 3, 1, 2) and told == [(0, 4), (4, 4)]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    answers = vr.load(run).recommend([session.items for session in LIVE], k=6, exclude_seen=exclude_seen)
    assert [line["session"] for line in lines] == [session.id for session in LIVE]
    assert [line["unknown"] for line in lines] == [0, 2, 0, 1]
    assert [line["items"] for line in lines] == [[item._asdict() for item in answer] for answer in answers]


def test_a_wrong_call_makes_no_folder_for_the_answers(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", LIVE)
    for wrong in ({"k": 0}, {"run": tmp_path}):
        options = {"run": run, "k": 3} | wrong
        with pytest.raises(UsageError):
            vr.recommend(options["run"], tmp_path / "a.jsonl", out=tmp_path / "new" / "out.csv", k=options["k"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_evaluating_gives_what_training_wrote_and_tells_how_far_it_is(run: Path, small: Dataset) -> None:
    told: list[tuple[int, int]] = []
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("test", "validation"):
        assert vr.evaluate(run, split, progress=lambda *counts: told.append(counts)) == metrics[split]
        events = len(small.events_of(split))
        assert told[-1] == (events, events)
    with pytest.raises(UsageError, match="no split named 'all'; choose one of: train, validation, test, held-out"):
        vr.evaluate(run, "all")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Nothing recommends by 'clicks'; choose one of: items, values"):
        vr.evaluate(run, recommend="clicks")  # type: ignore[arg-type]


def test_session_ranks_are_what_the_metrics_are_made_of(run: Path, small: Dataset) -> None:
    parts = [session_ranks(run, split) for split in ("validation", "test")]
    both = session_ranks(run, "held-out")
    for column in range(3):
        np.testing.assert_array_equal(both[column], np.concatenate([part[column] for part in parts]))
    assert metrics_of(parts[1].rank_E, parts[1].event_E) == vr.evaluate(run)
    assert metrics_of(both.rank_E, both.event_E) == vr.evaluate(run, "held-out")
    sessions = [number for number in range(300) for _ in range(small.offset_S[number], small.offset_S[number + 1])]
    assert both.session_E.tolist() == sessions[small.events_of("validation").start :]
    assert both.event_E.tolist() == small.event_E[small.events_of("held-out").start :].tolist()
    assert not np.array_equal(session_ranks(run, recommend="values").rank_E, parts[1].rank_E)


def test_values_of_a_run_without_a_critic_are_refused(small: Dataset, tmp_path: Path) -> None:
    plain = vr.train(small, out=tmp_path / "run", epochs=1, **(SMALL | {"method": vr.Supervised()}))
    with pytest.raises(UsageError, match="no critic here whose values could recommend"):
        vr.evaluate(plain, recommend="values")


def test_a_damaged_dataset_is_neither_learned_from_nor_evaluated_on(run: Path, small: Dataset, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(small.path, data)
    arrays = bytearray((data / "arrays.safetensors").read_bytes())
    arrays[-1] ^= 1  # a click for a purchase, or the other way round
    (data / "arrays.safetensors").write_bytes(arrays)
    with pytest.raises(ValuerecError, match=r"arrays\.safetensors differs from its manifest"):
        vr.train(data, out=tmp_path / "run", epochs=1, **SMALL)
    with pytest.raises(ValuerecError, match=r"arrays\.safetensors differs from its manifest"):
        vr.evaluate(run, data=data)
    assert not (tmp_path / "run").exists()
    assert vr.info(data)["damaged"] == ["arrays.safetensors"]


def test_info_tells_all_about_a_run_and_a_dataset(run: Path, small: Dataset) -> None:
    told = vr.info(run)
    for name in ("config", "environment", "metrics"):
        assert told[name] == json.loads((run / f"{name}.json").read_text())
    assert told["kind"] == "run" and told["status"] == "finished" and told["damaged"] == []
    assert {"config.json", "environment.json", "items.parquet", "metrics.json", told["weights"]} == set(told["files"])
    told = vr.info(small.path)
    assert told["kind"] == "dataset" and told["counts"]["items"] == 30 and "config" not in told


def test_a_trial_that_has_not_read_the_test_split_is_a_run_like_others(small: Dataset, tmp_path: Path) -> None:
    run = vr.train(small, out=tmp_path / "run", epochs=1, test=False, **SMALL)
    assert "test" not in vr.info(run)["metrics"] and vr.info(run)["metrics"]["validation"]
    card = (vr.export(run, out=tmp_path / "bundle", onnx=False) / "MODEL_CARD.md").read_text()
    assert "the test split was not looked at" in card and "| validation, click |" in card and "| test" not in card
    (run / "metrics.json").write_text(json.dumps(json.loads((run / "metrics.json").read_text()) | {"test": None}))
    with pytest.raises(ValuerecError, match=r"metrics\.json, field test: "):
        read_metrics(run / "metrics.json")


@pytest.mark.parametrize(("kind", "says"), [("shelf", "a shelf"), ("\n", "something else"), ([], "something else")])
def test_info_names_what_it_does_not_know_on_one_line(tmp_path: Path, kind: Any, says: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": kind}))
    with pytest.raises(UsageError, match=f"^{tmp_path} is {says}, not a dataset, run or bundle; name one of these.$"):
        vr.info(tmp_path)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, method: str, number: int) -> None:
    """A Ctrl-C in the number-th call of a method of the trainer's."""
    real, calls = getattr(Trainer, method), iter(range(1, 1_000_000))

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Trainer, method, interrupted)


def test_scoring_that_is_interrupted_leaves_whole_weights_and_says_how_to_score_them(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, "evaluate", 2)  # the first is the epoch's validation
    with pytest.raises(KeyboardInterrupt, match="score them with: valuerec evaluate"):
        vr.train(small, out=tmp_path / "run", epochs=1, **SMALL)
    told = vr.info(tmp_path / "run")
    assert (told["status"], told["metrics"], told["damaged"]) == ("finished", None, [])
    monkeypatch.undo()
    assert vr.evaluate(tmp_path / "run")["click"]["hr@20"] is not None


def test_a_run_that_goes_on_says_so_and_forgets_what_it_scored(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vr.train(small, out=tmp_path / "run", epochs=1, checkpoint_every=5, **SMALL)
    assert (run / "metrics.json").is_file()
    interrupt_at(monkeypatch, "_one_step", 3)  # a crash: no signal handler sees this one
    with pytest.raises(KeyboardInterrupt):
        vr.train(small, out=run, epochs=2, resume=True, **SMALL)
    told = vr.info(run)
    assert (told["status"], told["metrics"], told["damaged"]) == ("running", None, [])
    assert not (run / "metrics.json").exists()


def test_prepare_train_load_and_recommend_are_what_the_readme_says(tmp_path: Path) -> None:
    rows = [f"{start + step} s{start} i{(start + step) % 7}" for start in range(60) for step in range(5)]
    (tmp_path / "log.csv").write_text(
        "t,s,i,e\n" + "".join(f"{1_700_000_000 + n},{r.split()[1]},{r.split()[2]},click\n" for n, r in enumerate(rows))
    )
    columns = {"session": "s", "item": "i", "time": "t", "event": "e"}
    data = vr.prepare([tmp_path / "log.csv"], format="events", columns=columns, out=tmp_path / "data")
    assert data.manifest["account"]["rows_read"] == 300 and data.n_items == 7
    run = vr.train(data, backbone=vr.SASRec(width=8), method=vr.VPQ(penalty=20.0), out=tmp_path / "run", epochs=1,
                   quiet=True)  # fmt: skip
    (items,) = vr.load(run).recommend([["i3", "i4"]], k=20)
    assert {item.id for item in items} == {f"i{number}" for number in range(7)}
    assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)
    assert sum(item.score for item in items) == pytest.approx(1, abs=1e-5)


class LastItem(nn.Module):
    """Somebody's own backbone, in a few lines: the state is the last item's vector."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items + 1, 8)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        return self.item(items_BL[torch.arange(len(items_BL)), length_B.long() - 1])


def test_somebodys_own_backbone_goes_all_the_way(small: Dataset, tmp_path: Path) -> None:
    run = vr.train(small, out=tmp_path / "own", epochs=1, **(SMALL | {"backbone": LastItem}))
    write(tmp_path / "live.jsonl", LIVE)
    told = vr.evaluate(run, backbone=LastItem)
    assert told == json.loads((run / "metrics.json").read_text())["test"]
    done = vr.recommend(run, tmp_path / "live.jsonl", out=tmp_path / "out.jsonl", k=5, backbone=LastItem)
    assert done.recommendations == 5 * len(LIVE)
    with pytest.raises(
        UsageError, match="LastItem, not one of valuerec's, whose code only Python can give: backbone=LastItem in"
    ):
        vr.evaluate(run)
