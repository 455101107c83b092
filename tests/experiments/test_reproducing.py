"""The experiments end to end on a small log: cells in processes, killed and gone on with, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import valuerec as vr
from experiments import made_up
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.evaluation import metrics_of
from valuerec.experiments import making, reproducing
from valuerec.experiments.cell import Cell, Figures, collapsed_in, slug_of
from valuerec.experiments.contents import figure_sections
from valuerec.experiments.making import make_cell
from valuerec.experiments.ranks import read_ranks
from valuerec.experiments.report import write_report
from valuerec.experiments.results import Results
from valuerec.experiments.running import Machine, machine, missing_cells, run_cells
from valuerec.experiments.tuning import SEED, grids
from worlds import random_sessions, write_dataset

TINY: dict[str, Any] = {"tuning": False, "max_steps": 6, "quiet": True}
TRAINING = {"epochs": 20, "patience": 3, "max_steps": 6}
ONE = Machine(jobs=1, device="cpu", threads=1)


def timeless(cell: Figures) -> Figures:
    """What a cell holds whenever and wherever it was made."""
    return {name: value for name, value in cell.items() if name not in ("seconds", "wall_seconds", "commit")}


def cells_of(folder: Path, name: str = "table1") -> dict[str, Figures]:
    path = folder / f"{name}.json"
    return {cell["method"]: timeless(cell) for cell in json.loads(path.read_text())} if path.is_file() else {}


def in_process(folder: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make cells in this process, which is faster than a process for each."""

    def run(cells: list[Cell], book: Any, dataset: Dataset, *rest: Any) -> None:
        for cell in missing_cells(cells, book, dataset):
            work = folder / "work" / cell.slug
            work.mkdir(parents=True)
            book.add(make_cell(cell, dataset.path, work, "cpu") | {"wall_seconds": 1.0})
            if cell.test:
                (work / "ranks.parquet").replace(Results(book.path.parent).ranks(cell.slug))

    monkeypatch.setattr(reproducing, "run_cells", run)


@pytest.mark.slow
def test_a_table_that_is_killed_and_interrupted_is_the_same_table(small: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    limits = "--seeds 1 --max-steps 6 --no-tuning --jobs 1 --device cpu"
    line = f"reproduce table1 --data {small.path} --out {out} --rows sasrec-supervised,sasrec-vpq {limits}"
    command = [sys.executable, "-m", "valuerec.cli", *line.split(" ")]

    def hears_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and so would its children

    def started(until: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
        )
        assert process.stderr is not None
        while until not in (line := process.stderr.readline()):
            assert line, f"it ended before it said {until!r}"
        return process

    killed = started("sasrec-supervised (seed 0): validation")
    killed.kill()
    killed.communicate()
    assert list(cells_of(out)) == ["supervised"]

    interrupted = started("1 of 2 cells to run")
    interrupted.send_signal(signal.SIGINT)
    _, told = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130 and "1 of 2 cells are in" in told and "same command" in told
    assert "Traceback" not in told and list(cells_of(out)) == ["supervised"]
    assert not list(out.glob(".cells-*"))  # the killed run's work is gone too

    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "sasrec-vpq" in done.stdout and "1 of 2 cells to run" in done.stderr
    assert (out / "report.html").is_file() and not list(out.glob(".cells-*"))
    threads = torch.get_num_threads()
    torch.set_num_threads(machine(1, "cpu").threads)  # with which the last digits go
    for method, found in cells_of(out).items():
        work = tmp_path / method
        work.mkdir()
        direct = make_cell(Cell(backbone="sasrec", method=method, training=TRAINING), small.path, work, "cpu")
        assert found == timeless(direct)
    torch.set_num_threads(threads)

    again = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120)
    assert [cell["method"] for cell in json.loads(again.stdout)] == ["supervised", "vpq"] and again.stderr == ""


def test_a_cell_holds_its_figures_and_its_ranks_give_them_again(small: Dataset, tmp_path: Path) -> None:
    cell = Cell(backbone="sasrec", method="vpq", seed=1, training=TRAINING)
    figures = make_cell(cell, small.path, tmp_path, "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.parquet"]  # the run is dropped
    ranks = read_ranks(tmp_path / "ranks.parquet")
    assert metrics_of(ranks.rank_E, ranks.event_E) == figures["test"]
    events = small.events_of("test")
    assert ranks.session_E.tolist() == small.session_of(np.arange(events.start, events.stop)).tolist()
    assert figures["options"] == cell.options(small) and figures["dataset"] == small.fingerprint
    assert figures["steps"] == 6 and [figures["best_step"], round(figures["score"], 6)] in figures["curve"]
    assert set(figures["histograms"]) == {"value", "spread", "weight"} and 0 <= figures["outside"] <= 1
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("method", ["popularity", "sknn"])
def test_a_baseline_is_a_cell_without_training(small: Dataset, tmp_path: Path, method: str) -> None:
    figures = make_cell(Cell(backbone="untrained", method=method), small.path, tmp_path)
    ranks = read_ranks(tmp_path / "ranks.parquet")
    assert metrics_of(ranks.rank_E, ranks.event_E) == figures["test"]
    assert figures["steps"] is None and figures["score"] > 0 and not figures["diverged"]


@pytest.mark.parametrize("names", [("sasrec", "vpq"), ("untrained", "sknn")])
def test_a_trial_does_not_read_the_test_split(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    asked = []
    once = Dataset.events_of
    monkeypatch.setattr(Dataset, "events_of", lambda self, split: asked.append(split) or once(self, split))
    cell = Cell(backbone=names[0], method=names[1], training={"max_steps": 2}, test=False)
    monkeypatch.setattr("valuerec.training._check_trainable", lambda dataset: None)  # which counts the splits
    figures = make_cell(cell, small.path, tmp_path, "cpu")
    assert "test" not in asked and "validation" in asked
    assert figures["test"] is None and figures["validation"] and figures["score"] and not list(tmp_path.iterdir())


def test_a_cell_tells_how_often_the_floor_cut(small: Dataset, tmp_path: Path) -> None:
    share = {}
    for method, options in {"cql": {"weight": 30.0}, "supervised": {}, "reward-weighted": {"floor": 0.5}}.items():
        work = tmp_path / method
        work.mkdir()
        cell = Cell(backbone="caser", method=method, method_options=options, training={"max_steps": 60})
        share[method] = make_cell(cell, small.path, work, "cpu")["floored"]
    assert 0 < share["cql"] <= 1 and share["supervised"] is None and share["reward-weighted"] is None


def test_floored_is_a_mean_over_all_steps() -> None:
    lines = [{"step": 50, "td": 1.0, "floored": 0.5}, {"step": 60, "td": 1.0, "floored": 0.2}]
    assert making._floored(lines) == pytest.approx((50 * 0.5 + 10 * 0.2) / 60)


def test_what_ends_below_popularity_is_called_collapsed(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popular = make_cell(Cell(backbone="untrained", method="popularity"), small.path, tmp_path)
    assert popular["trouble"] is None and not collapsed_in(popular)
    cell = Cell(backbone="sasrec", method="supervised", training={"max_steps": 2})
    for score, collapsed in ((popular["score"], False), (popular["score"] - 1e-4, True)):
        found = making._collapsed(score, small)
        assert collapsed_in({"trouble": found}) == collapsed
        assert not collapsed or f"below popularity's, {popular['score']:.4f}." in found
    monkeypatch.setattr(making, "_collapsed", lambda score, dataset: f"collapsed: {score}, of all things.")
    figures = make_cell(cell, small.path, tmp_path, "cpu")
    assert collapsed_in(figures) and not figures["diverged"] and figures["test"]


def test_a_cell_that_diverges_is_one_all_the_same(small: Dataset, tmp_path: Path) -> None:
    cell = Cell(backbone="sasrec", method="vpq", training={"learning_rate": 1e30, "epochs": 30})
    figures = make_cell(cell, small.path, tmp_path, "cpu")
    assert figures["diverged"] and "diverged before step" in figures["trouble"]
    assert figures["test"] is None and figures["score"] is None and not list(tmp_path.iterdir())
    json.dumps(figures, allow_nan=False)


def test_a_cell_that_fails_does_not_stop_the_others(small: Dataset, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(small.path, data)
    (data / "sessions.parquet").unlink()  # which neighbours need and popularity does not
    dataset = Dataset(data)
    book = Results.of(tmp_path / "out", dataset).book("table1")
    cells = [Cell(backbone="untrained", method=method) for method in ("sknn", "popularity")]
    with pytest.raises(ValuerecError, match=r"1 of 2 cells failed, sknn \(seed 0\) first: .*sessions.* again\."):
        run_cells(cells, book, dataset, ONE, quiet=True)
    assert [cell.method for cell in missing_cells(cells, book, dataset)] == ["sknn"]
    assert (tmp_path / "out" / "ranks" / f"{cells[1].slug}.parquet").is_file()


def test_tuning_comes_first_and_decides(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(tmp_path, small, monkeypatch)
    vr.reproduce("table1", data=small, out=tmp_path / "out", seeds=2, rows=["sasrec-vpq"], **(TINY | {"tuning": True}))
    results = Results(tmp_path / "out")
    table, tried = results.cells("table1"), results.cells("tuning")
    plain, own = ([cell for cell in tried if cell["method"] == method] for method in ("supervised", "vpq"))
    assert [cell["options"]["backbone"]["dropout"] for cell in plain] == grids()["supervised"].values
    assert [cell["options"]["method"]["penalty"] for cell in own] == grids()["vpq"].values
    assert len(tried) == 8 and {cell["seed"] for cell in tried} == {SEED}
    assert all(cell["test"] is None for cell in tried) and all(cell["test"] for cell in table)
    assert len(list((tmp_path / "out" / "ranks").iterdir())) == len(table)
    assert [cell["seed"] for cell in table] == [0, 1]
    best, best_own = (max(cells, key=lambda cell: cell["score"])["options"] for cells in (plain, own))
    assert all(cell["options"]["backbone"] == best["backbone"] for cell in own + table)
    assert {cell["options"]["method"]["penalty"] for cell in table} == {best_own["method"]["penalty"]}


def test_what_was_made_with_another_choice_is_set_aside_and_made_anew(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_process(tmp_path, small, monkeypatch)
    out = tmp_path / "out"
    options = TINY | {"tuning": True, "quiet": False, "seeds": 1, "data": small, "out": out}
    vr.reproduce("table1", rows=["sasrec-supervised", "gru4rec-supervised"], **options)
    first, kept = Results(out).cells("table1")[0], cells_of(out)["supervised"]
    before = read_ranks(Results(out).ranks(slug_of(first)))
    assert "aside" not in capsys.readouterr().err

    def choose(place: int) -> float:
        book = Results(out).book("tuning")
        for number, value in enumerate(grids()["supervised"].values):
            key = ("sasrec", "supervised", "ours", f"dropout={value}", SEED)
            book.add(book.cells[key] | {"score": float(number == place)})
        return float(grids()["supervised"].values[place])

    chosen = first["options"]["backbone"]["dropout"]
    other = choose(2 if chosen != grids()["supervised"].values[2] else 1)
    shutil.rmtree(tmp_path / "work")
    vr.reproduce("table1", rows=["sasrec-supervised", "gru4rec-supervised"], **options)
    told = capsys.readouterr().err
    assert f"sasrec-supervised (seed 0) with dropout = {chosen} (now {other}). They are set aside" in told
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["sasrec_supervised_ours_seed0"]
    table = {cell["backbone"]: cell for cell in Results(out).cells("table1")}
    assert table["sasrec"]["options"]["backbone"]["dropout"] == other and timeless(table["gru4rec"]) == kept
    (earlier,) = Results(out).cells("earlier")
    assert earlier == first | {"variant": f"dropout={chosen}" if chosen != vr.SASRec().dropout else "defaults"}
    assert np.array_equal(read_ranks(Results(out).ranks(slug_of(earlier))).rank_E, before.rank_E)

    choose(grids()["supervised"].values.index(chosen))
    shutil.rmtree(tmp_path / "work")
    vr.reproduce("table1", rows=["sasrec-supervised"], **options)
    assert not (tmp_path / "work").exists()  # it is taken over
    assert {cell["backbone"]: cell for cell in Results(out).cells("table1")}["sasrec"] == first
    assert np.array_equal(read_ranks(Results(out).ranks(slug_of(first))).rank_E, before.rank_E)
    with pytest.raises(UsageError, match=r"max_steps = 6, and now it is 7"):
        vr.reproduce("table1", rows=["sasrec-supervised"], **(options | {"max_steps": 7}))


def test_each_choice_that_was_set_aside_is_kept(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(tmp_path, small, monkeypatch)
    options = TINY | {"tuning": True, "seeds": 1, "data": small, "out": tmp_path / "out", "rows": ["sasrec-vpq"]}

    def choose(dropout: float, penalty: float) -> None:
        own = {"backbone_options": {"dropout": dropout}, "method_options": {"penalty": penalty}}
        monkeypatch.setattr(reproducing, "_tuned", lambda _setting, rows: dict.fromkeys(rows, own))
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        vr.reproduce("table1", **options)

    choices, made = [(0.1, 20.0), (0.7, 20.0), (0.1, 40.0), (0.7, 40.0)], []
    for choice in choices:
        choose(*choice)
        (cell,) = Results(tmp_path / "out").cells("table1")
        made.append((cell, read_ranks(Results(tmp_path / "out").ranks(slug_of(cell))).rank_E))
    for choice, (cell, rank_E) in zip(choices, made, strict=True):
        choose(*choice)
        assert not (tmp_path / "work").exists()  # it is taken over
        assert Results(tmp_path / "out").cells("table1") == [cell]
        assert np.array_equal(read_ranks(Results(tmp_path / "out").ranks(slug_of(cell))).rank_E, rank_E)


def test_the_folder_is_let_go_of_where_the_report_fails(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(tmp_path, small, monkeypatch)
    options = TINY | {"data": small, "out": tmp_path / "out", "seeds": 1}
    vr.reproduce("table1", rows=["popularity"], **options)
    (tmp_path / "out" / "significance.json").write_text("[7]")
    with pytest.raises(ValuerecError, match=r"significance\.json holds no comparisons"):
        vr.reproduce("figure2", **options)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt("stopped")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="stopped"):  # not what the report says
        patch.setattr(reproducing, "run_cells", interrupted)
        vr.reproduce("table1", rows=["repeat-last"], **options)
    (tmp_path / "out" / "significance.json").unlink()
    vr.reproduce("table1", rows=["popularity"], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(small: Dataset, tmp_path: Path) -> None:
    for jobs in (None, 2):
        with pytest.raises(UsageError, match="cuda"):
            vr.reproduce("table1", data=small, out=tmp_path / "out", jobs=jobs, device="cuda", **TINY)
    assert not (tmp_path / "out").exists()


def test_the_released_protocol_is_not_tuned(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(tmp_path, small, monkeypatch)
    rows = ["sasrec-supervised", "sasrec-uwac"]
    options = TINY | {"tuning": True, "seeds": 1, "protocol": "released"}
    vr.reproduce("table1", data=small, out=tmp_path / "out", rows=rows, **options)
    results = Results(tmp_path / "out")
    plain, uwac = results.cells("table1")
    assert not results.cells("tuning")
    assert plain["options"]["backbone"]["dropout"] == 0.1 and uwac["options"]["method"]["form"] == "released"


def test_a_second_process_is_refused(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(tmp_path, small, monkeypatch)
    out = tmp_path / "out"
    in_use = pytest.raises(UsageError, match=r"out is in use: another reproduce works there; wait for its end or stop")
    with Results.of(out, small).locked(), in_use:
        vr.reproduce("table1", data=small, out=out, seeds=1, rows=["popularity"], **TINY)
    assert not (out / "table1.json").exists()
    for _ in range(2):
        vr.reproduce("table1", data=small, out=out, seeds=1, rows=["popularity"], **TINY)
    assert len(Results(out).cells("table1")) == 1


def test_figure_1_is_refused_too_where_another_process_works(tmp_path: Path) -> None:
    in_use = pytest.raises(UsageError, match=r"is in use: another reproduce works there; wait for its end or stop it")
    with Results(tmp_path).locked(), in_use:
        vr.reproduce("figure1", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    vr.reproduce("figure1", out=tmp_path / "new", rewards=vr.Rewards())
    with Results(tmp_path / "new").locked():  # it let go
        pass
    made = [".lock", "figure1.json", "figure1.pdf", "figure1.png", "report.html"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == made


def test_a_damaged_file_of_ranks_is_named_and_without_it_the_table_is_made(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(tmp_path, small, monkeypatch)
    options = TINY | {"data": small, "out": tmp_path / "out", "seeds": 2, "rows": ["sasrec-supervised", "sasrec-vpq"]}
    vr.reproduce("table1", **options)
    kept = (tmp_path / "out" / "significance.json").read_text()
    ranks = next((tmp_path / "out" / "ranks").iterdir())
    ranks.write_bytes(ranks.read_bytes()[:100])
    with pytest.raises(
        ValuerecError, match=rf"{ranks.name} has no ranks .* remove it, and its cell stays in the table"
    ):
        vr.reproduce("table1", **options)
    ranks.unlink()
    vr.reproduce("table1", **options)
    assert (tmp_path / "out" / "significance.json").read_text() == kept and not ranks.exists()


@pytest.mark.parametrize(("name", "value"), [("counts", {"items": "2"}), ("fingerprint", 1), ("splits", [])])
def test_a_dataset_json_of_other_types_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(made_up.DATASET | {name: value}))
    with pytest.raises(ValuerecError, match=rf"dataset\.json does not say what the dataset was \(field {name}.*; name"):
        Results(tmp_path)


def test_a_trial_of_a_method_without_a_grid_is_refused(tmp_path: Path) -> None:
    trials = [made_up.cell(method=method, test=None, variant="penalty=20") for method in ("vpq", "immediate")]
    results = made_up.write_results(tmp_path, tuning=trials)
    with pytest.raises(ValuerecError, match=r"tuning\.json has trials of sasrec-immediate, a method without a grid;"):
        write_report(results)


def test_a_table_needs_nothing_to_draw_with_and_a_figure_does(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise UsageError("Figures and reports need jinja2.")

    in_process(tmp_path, small, monkeypatch)
    monkeypatch.setattr(reproducing, "require_report", missing)
    options = TINY | {"quiet": False}
    vr.reproduce("table1", data=small, out=tmp_path / "out", seeds=1, rows=["sasrec-supervised"], **options)
    assert len(cells_of(tmp_path / "out")) == 1 and not (tmp_path / "out" / "report.html").exists()
    assert capsys.readouterr().err == "No report was written. Figures and reports need jinja2.\n"
    with pytest.raises(UsageError, match="need jinja2"):
        vr.reproduce("figure2", data=small, out=tmp_path / "out", seeds=1, **TINY)


def test_figures_take_over_the_tables_runs(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(tmp_path, small, monkeypatch)
    out = tmp_path / "out"
    vr.reproduce("table1", data=small, out=out, seeds=1, rows=["sasrec-vpq"], **TINY)
    vr.reproduce("figure2", data=small, out=out, seeds=1, **TINY)
    vr.reproduce("figure3", data=small, out=out, seeds=1, backbone="sasrec", **TINY)
    made = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert len(made) == 1 + 3 + 9  # Q-critic is the table's run, and so is λ = 20
    figure2, figure3 = Results(out).cells("figure2"), Results(out).cells("figure3")
    (table,) = Results(out).cells("table1")
    assert {cell["variant"]: cell for cell in figure2}["Q-critic"] == table | {"variant": "Q-critic"}
    assert {cell["variant"]: cell for cell in figure3}["penalty=20"]["test"] == table["test"]
    vr.reproduce("figure2", data=small, out=out, seeds=1, backbone="gru4rec", **TINY)
    for name in ("figure2", "figure2-gru4rec", "figure3-sasrec"):
        assert (out / f"{name}.png").is_file() and (out / f"{name}.pdf").is_file()
    assert not (out / "figure3.png").exists()  # which is another backbone's
    shown = [[path.name for path in section.files] for section in figure_sections(Results(out))]
    assert shown == [["figure2.png", "figure2-gru4rec.png"], ["figure3-sasrec.png"]]
    assert (out / "report.html").read_text().count("data:image/png") >= 3


def test_another_dataset_or_other_options_are_refused(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(tmp_path, small, monkeypatch)
    out, rows = tmp_path / "out", ["sasrec-supervised"]
    vr.reproduce("table1", data=small, out=out, seeds=1, rows=rows, **TINY)
    before = (out / "table1.json").read_text()
    draw = np.random.default_rng(1)
    sessions = {split: random_sessions(draw, 20, 9) for split in ("train", "validation", "test")}
    other = write_dataset(tmp_path / "other", sessions, 9)
    with pytest.raises(UsageError, match=r"out holds results of another dataset than .*other; name another"):
        vr.reproduce("table1", data=other, out=out, seeds=1, rows=rows, **TINY)
    with pytest.raises(UsageError, match=r"sasrec-supervised \(seed 0\) with max_steps = 6, and now it is 7;"):
        vr.reproduce("table1", data=small, out=out, seeds=1, rows=rows, **(TINY | {"max_steps": 7}))
    with pytest.raises(UsageError, match=r"sasrec-supervised \(seed 0\) with click = 0\.2, and now it is 0\.1;"):
        vr.reproduce("table1", data=small, out=out, seeds=1, rows=rows, rewards=vr.Rewards(click=0.1), **TINY)
    assert (out / "table1.json").read_text() == before


def test_rewards_that_a_method_or_the_dataset_does_not_know_are_refused_first(small: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": small, "out": tmp_path / "out", "seeds": 1, "rows": ["sasrec-vpq"], **TINY}
    with pytest.raises(UsageError, match="A reward is given for cart, and the kinds"):
        vr.reproduce("table1", rewards=vr.Rewards(others={"cart": 0.5}), **options)
    with pytest.raises(UsageError, match="--reward-transform linear"):
        vr.reproduce("table1", rewards=vr.Rewards(click=-0.1), **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "missing"), [("c", "purchases"), ("p", "clicks")])
def test_a_dataset_without_purchases_or_clicks_is_refused(tmp_path: Path, kind: str, missing: str) -> None:
    draw = np.random.default_rng(0)
    sessions = {split: random_sessions(draw, 20, 9) for split in ("train", "validation", "test")}
    sessions["test"] = [[(item, kind) for item, _ in session] for session in sessions["test"]]
    dataset = write_dataset(tmp_path / "one kind", sessions, 9)
    with pytest.raises(ValuerecError, match=rf"one kind has no {missing} in its test split, .*order=purchase"):
        vr.reproduce("table1", data=dataset, out=tmp_path / "out", **TINY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"what": "table2"}, "no experiment named 'table2'; choose one of: table1, figure1, figure2, figure3"),
        ({"rows": ["sasrec-vqp"]}, "nearest is sasrec-vpq"),
        ({"rows": [""]}, "--rows is empty; write rows with commas between"),
        ({"rows": []}, "--rows is empty; write rows with commas between"),
        ({"rows": ["sasrec", ""]}, "--rows has an empty part; write rows with commas between"),
        (
            {"rows": ["sasrec", "popularity"], "protocol": "released"},
            "'popularity', which is not trained, .*--protocol ours",
        ),
        ({"backbone": "sasrec"}, "table1 has no use for --backbone, an option of figure2, figure3; leave it out"),
        ({"what": "figure2", "rows": ["sasrec"]}, "figure2 has no use for --rows, an option of table1; leave it out"),
        ({"what": "figure2", "protocol": "released"}, "figure2 has no use for --protocol, an option of table1;"),
        ({"what": "figure3", "controls": True}, "figure3 has no use for --controls, an option of table1;"),
        ({"what": "figure1"}, "figure1 has no use for --data, an option of table1, figure2, figure3; leave it out"),
        ({"what": "figure1", "data": None}, "figure1 has no use for --no-tuning"),
        ({"backbone": "", "what": "figure2"}, "no backbone named ''"),
        ({"backbone": "sasrek", "what": "figure2"}, "no backbone named 'sasrek'"),
        ({"protocol": "theirs"}, "no protocol named 'theirs'; choose one of: ours, released"),
        ({"rows": "sasrec,sasrec-vqp"}, "'sasrec-vqp', and no row is named so"),
        ({"seeds": 0}, "--seeds is 0; it must be a whole number of at least 1"),
        ({"seeds": 1.5}, r"--seeds is 1\.5; it must be a whole number of at least 1"),
        ({"jobs": -2}, "--jobs is -2; it must be a whole number of at least 1"),
        ({"jobs": "2"}, "--jobs is '2'; it must be a whole number of at least 1"),
        ({"data": None}, "needs a dataset; name one with --data"),
        ({"data": "nowhere"}, "nowhere is no valuerec dataset"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
    ],
)
def test_a_wrong_call_is_one_sentence(small: Dataset, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    options = {"what": "table1", "data": small, "out": tmp_path / "out", **TINY} | change
    with pytest.raises(UsageError, match=says):
        vr.reproduce(options.pop("what"), **options)
    assert not list(tmp_path.rglob("*.json"))


def test_a_dataset_or_a_run_is_not_filled_with_results(small: Dataset, tmp_path: Path) -> None:
    run = vr.train(small, out=tmp_path / "run", max_steps=2, quiet=True)
    for folder in (run, small.path):
        before = sorted(folder.rglob("*"))
        for call in ({"what": "figure1"}, {"what": "table1", "data": small, "rows": ["popularity"], **TINY}):
            with pytest.raises(
                UsageError, match=r"is a dataset, run or bundle of valuerec's; name a folder for the res"
            ):
                vr.reproduce(call.pop("what"), out=folder, **call)
        assert sorted(folder.rglob("*")) == before


def test_as_many_jobs_as_cores_each_with_one_thread() -> None:
    cores = len(os.sched_getaffinity(0))
    assert machine(None, "cpu") == Machine(cores, "cpu", 1)
    assert machine(1, "cpu") == Machine(1, "cpu", cores)
