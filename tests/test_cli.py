"""The command line as a person or a script meets it: what it prints, how it ends, what it leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import valuerec
from valuerec import cli, stages
from valuerec.backbones import BACKBONES
from valuerec.dataset import Rewards
from valuerec.errors import ValuerecError
from valuerec.experiments import reproducing
from valuerec.training import TrainConfig
from worlds import random_sessions

SMALL = ["--width", "8", "--batch-size", "64"]
COMMANDS = (
    *("prepare", "plan", "train", "evaluate", "export", "recommend", "serve"),
    *("info", "methods", "reproduce", "demo"),
)


class World:
    """A raw log and what the commands made of it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.data = folder / "log.csv", folder / "data"
        self.run, self.plain, self.live = folder / "vpq", folder / "supervised", folder / "live.jsonl"

    @property
    def prepare(self) -> list[str]:
        pairs = "session=who,item=what,time=at,event=how"
        meaning = "view=click,order=purchase"
        return ["prepare", str(self.log), "--format", "events", "--columns", pairs, "--events", meaning]

    @property
    def train(self) -> list[str]:
        return ["train", str(self.data), "--heads", "3", "--epochs", "1", *SMALL]

    @property
    def recommend(self) -> list[str]:
        return ["recommend", str(self.run), "--sessions", str(self.live)]


def write_log(path: Path, n_items: int = 30) -> None:
    draw = np.random.default_rng(0)
    rows = ["who,what,at,how"]
    for number, session in enumerate(random_sessions(draw, 300, n_items)):
        for place, (item, kind) in enumerate(session):
            rows.append(
                f"s{number},item {item},{1_700_000_000 + number * 60 + place},{'order' if kind == 'p' else 'view'}"
            )
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    write_log(made.log)
    made.live.write_text('{"session": "a", "items": ["item 3", "item 4"]}\n["item 5", "nix"]\n[]\n')
    for line in (
        [*made.prepare, "--out", str(made.data)],
        [*made.train, "--out", str(made.run)],
        ["train", str(made.data), "--method", "supervised", "--epochs", "1", *SMALL, "--out", str(made.plain)],
    ):
        assert cli.run(line) == 0
    return made


def refused(capsys: pytest.CaptureFixture[str], line: list[str], code: int) -> str:
    """Run what must fail: the code, nothing on stdout, one sentence on stderr, which is returned."""
    capsys.readouterr()
    assert cli.run(line) == code
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith("valuerec: ") and told.count("\n") == 1 and told.endswith(".\n")
    assert "Unexpected" not in told and "Traceback" not in told
    return told


def called(line: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run([sys.executable, "-m", "valuerec.cli", *line], capture_output=True, text=True, **options)


def the_commands(world: World, folder: Path) -> dict[str, list[str]]:
    return {
        "prepare": [*world.prepare, "--out", str(folder / "data")],
        "plan": ["plan", str(world.data), "--heads", "3", "--width", "8"],
        "plan numbers": ["plan", "items=500,events=9000", "--method", "supervised"],
        "train": [*world.train, "--out", str(folder / "run")],
        "evaluate": ["evaluate", str(world.run), "--split", "validation"],
        "recommend": [*world.recommend, "--out", str(folder / "answers.jsonl")],
        "info a dataset": ["info", str(world.data)],
        "info a run": ["info", str(world.run)],
        "methods": ["methods"],
    }


WHICH = ["prepare", "plan", "plan numbers", "train", "evaluate", "recommend", "info a dataset", "info a run", "methods"]
SAYS = {
    "prepare": ["rows", "sessions", "purchases", "Next: valuerec train"],
    "plan": ["30 items", "peak memory", "s a step. It fits."],
    "plan numbers": ["500 items", "cross-entropy", "s a step. It fits."],
    "train": ["test, purchase", "validation, click", "ndcg@20", "Finished after", "Next: valuerec recommend"],
    "evaluate": ["validation, purchase", "hr@5"],
    "recommend": ["60 recommendations for 3 sessions", "passed over: 1.", "like an empty one: 1."],
    "info a dataset": ["counts.items", "30", "all as the manifest says"],
    "info a run": ["config.method.heads", "environment.torch", "test, purchase", "all as the manifest says"],
    "methods": ["supervised", "vpq", "penalty=20.0", "SIGIR", "(control)", "All with a critic have: discount=0.5"],
}


@pytest.mark.parametrize("which", WHICH)
def test_every_command_says_what_came_of_it_and_cuts_nothing_at_80_columns(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert cli.run(the_commands(world, tmp_path)[which]) == 0
    out, _ = capsys.readouterr()
    for words in SAYS[which]:
        assert words in out
    assert "…" not in out


@pytest.mark.parametrize("which", WHICH)
def test_json_is_all_there_is_on_stdout_and_no_bar_appears(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    capsys.readouterr()
    assert cli.run([*the_commands(world, tmp_path)[which], "--json"]) == 0
    out, told = capsys.readouterr()
    assert json.loads(out)
    assert "\r" not in told and "\x1b" not in told


def test_the_metrics_are_laid_out_as_the_contract_says(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((world.run / "metrics.json").read_text())
    names = {f"{metric}@{k}" for metric in ("hr", "ndcg") for k in (5, 10, 20)}
    for split in ("test", "validation"):
        assert set(metrics[split]) == {"purchase", "click"}
        assert all(set(values) == names for values in metrics[split].values())
    capsys.readouterr()
    assert cli.run(["evaluate", str(world.run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"test": metrics["test"]}


@pytest.mark.parametrize(
    ("line", "part", "expected"),
    [
        ("vpq --critic auxiliary --warm-up 3", "method", {"critic": "auxiliary", "warm_up": 3}),
        ("vpq --recommend values --floor none", "method", {"recommend": "values", "floor": None}),
        ("vpq --floor 0.1", "method", {"floor": 0.1}),
        ("minus --penalty 2", "method", {"name": "minus", "penalty": 2.0}),
        ("cql --weight 0.5", "method", {"weight": 0.5, "heads": 1}),
        ("uwac --beta 2 --clip 3 --form released", "method", {"beta": 2.0, "clip": 3.0, "form": "released"}),
        ("sac --no-double", "method", {"double": False}),
        ("sac --double", "method", {"double": True}),
        ("return-weighted --discount 0.9", "method", {"discount": 0.9}),
        ("rem --protocol released", "training", {"protocol": "released"}),
        ("vpq --reward-click -0.1 --reward-transform linear", "training", {"reward_transform": "linear"}),
    ],
)
def test_every_option_of_training_arrives(
    world: World, tmp_path: Path, line: str, part: str, expected: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    begun = ["train", str(world.data), "--out", str(run), "--max-steps", "2", *SMALL]
    assert cli.run([*begun, "--method", *line.split()]) == 0
    config = json.loads((run / "config.json").read_text())[part]
    assert {name: config[name] for name in expected} == expected


def test_training_and_evaluating_say_what_is_out_of_bounds_and_rank_by_what_they_are_asked(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*world.train, "--reward-purchase", "2", "--out", str(tmp_path / "run")]) == 0
    assert "Share of Q-values outside the certain bounds [0, 4]: " in capsys.readouterr().out
    found = {}
    for options in ("--recommend values", "--recommend items", "", "--split held-out", "--split validation"):
        assert cli.run(["evaluate", str(world.run), "--json", *options.split()]) == 0
        ((split, found[options]),) = json.loads(capsys.readouterr().out).items()
        assert split == (options.split()[1] if "split" in options else "test")
    assert found["--recommend items"] == found[""] != found["--recommend values"]
    test, validation, both = (found[name]["click"]["hr@20"] for name in ("", "--split validation", "--split held-out"))
    assert min(test, validation) <= both <= max(test, validation)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_names_options_that_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, "--help"]) == 0
    out, _ = capsys.readouterr()
    usage, example = out.split("Example: valuerec ", 1)
    assert example.startswith(command) and all(len(line) < 80 for line in example.splitlines())
    for word in example.split():
        if word.startswith("--"):
            assert word in usage


def test_the_whole_way_in_processes_of_their_own(tmp_path: Path) -> None:
    made = World(tmp_path)
    write_log(made.log)
    made.live.write_text('["item 3"]\n')
    answers = tmp_path / "answers.csv"
    for line in (
        [*made.prepare, "--out", str(made.data)],
        [*made.train, "--out", str(made.run)],
        ["evaluate", str(made.run)],
        [*made.recommend, "--out", str(answers), "--k", "4"],
    ):
        done = called(line)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "\r" not in done.stderr and "\x1b" not in done.stderr + done.stdout
    assert len(answers.read_text().splitlines()) == 5
    assert called(["nothing"]).returncode == 2
    assert called(["info", str(tmp_path)]).returncode == 2
    made.live.write_text("{")
    failed = called([*made.recommend, "--out", str(tmp_path / "more.csv")])
    assert (failed.returncode, failed.stdout) == (1, "") and "line 1 is not JSON" in failed.stderr


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_backbone_is_planned_trained_and_recommends_by_its_name(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    chosen, run, answers = ["--backbone", name, *SMALL], tmp_path / "run", tmp_path / "answers.jsonl"
    assert cli.run(["plan", str(world.data), "--heads", "3", *chosen]) == 0
    assert "s a step. It fits." in capsys.readouterr().out
    assert cli.run(["train", str(world.data), "--out", str(run), "--heads", "3", "--max-steps", "2", *chosen]) == 0
    assert json.loads((run / "config.json").read_text())["backbone"].items() >= {"name": name, "width": 8}.items()
    assert cli.run(["evaluate", str(run)]) == 0
    assert cli.run(["recommend", str(run), "--sessions", str(world.live), "--out", str(answers), "--k", "3"]) == 0
    assert [len(json.loads(line)["items"]) for line in answers.read_text().splitlines()] == [3, 3, 3]


def test_importing_the_package_loads_neither_torch_nor_pyarrow() -> None:
    code = "import sys, valuerec, valuerec.cli; print({'torch', 'pyarrow', 'pydantic', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


BAD_USAGE = {
    "valuerec nothing": "Unknown command",
    "valuerec train DATA": "--out",
    "valuerec train --out OUT": "DATASET",
    "valuerec train DATA --out OUT --mehtod vpq": "Did you mean --method? See valuerec train --help",
    "valuerec train DATA --out OUT --heads many": 'unable to convert "many" into int',
    "valuerec train DATA --out OUT --method dqn": "choose one of: supervised, sac",
    "valuerec train DATA --out OUT --backbone bert": "choose one of: sasrec, nextitnet, caser, gru4rec",
    "valuerec train DATA --out OUT --backbone gru4rec --dropout 0.1": "no option --dropout; it has: --width",
    "valuerec plan 500 --backbone bert": "choose one of: sasrec, nextitnet, caser, gru4rec",
    "valuerec plan 500 --backbone nextitnet --width 0": "NextItNet's width is 0",
    "valuerec train DATA --out OUT --method supervised --penalty 3": "has no option --penalty",
    "valuerec train DATA --out OUT --penalty -1": "penalty is -1.0",
    "valuerec train DATA --out OUT --method vpq --beta 2": "has no option --beta; it has: --heads",
    "valuerec train DATA --out OUT --method sac --penalty 2": "has no option --penalty",
    "valuerec train DATA --out OUT --method reward-weighted --critic off": "has no option --critic; it has: --floor",
    "valuerec train DATA --out OUT --critic on": "critic is on; it must be off, auxiliary, reinforce",
    "valuerec train DATA --out OUT --method uwac --form new": "form is new",
    "valuerec train DATA --out OUT --protocol theirs": '"ours", "released"',
    "valuerec train DATA --out OUT --reward-click -1": "--reward-transform linear",
    "valuerec train DATA --out OUT --critic off --recommend values": "no values to recommend by",
    "valuerec evaluate RUN --recommend clicks": '"items", "values"',
    "valuerec train DATA --out OUT --discount 1": "discount is 1.0",
    "valuerec train DATA --out OUT --epochs 0": "epochs is 0",
    "valuerec train DATA --out OUT --device tpu": '"auto", "cpu", "cuda"',
    "valuerec train DATA --out OUT --reward-click nan": "reward of a click",
    "valuerec train DATA --out OUT --resume": "does not exist",
    "valuerec prepare LOG --format csv --out OUT": '"yoochoose"',
    "valuerec prepare LOG --format events --columns session --out OUT": "--columns",
    "valuerec prepare LOG --format events --events view=click,view=purchase --out OUT": "names view twice",
    "valuerec prepare LOG --format events --out OUT --split half": '"random", "temporal"',
    "valuerec evaluate RUN --split half": '"train", "validation", "test"',
    "valuerec recommend RUN --sessions LIVE --out OUT.txt": "is not known by its ending",
    "valuerec recommend RUN --sessions LIVE --out OUT.csv --k 0": "k is 0",
    "valuerec recommend RUN --sessions LIVE --out LIVE": "is the input",
    "valuerec recommend RUN --sessions LIVE --out LOG": "exists already",
    "valuerec recommend RUN --sessions LIVE --out LOG --resume": "exists already",
    "valuerec recommend RUN --sessions LIVE --out RUN/metrics.json": "lies in a folder of valuerec's",
    "valuerec plan nowhere": "does not exist",
    "valuerec plan items=many": "items is 'many'",
    "valuerec plan events=5": "give items",
    "valuerec plan 500 --method supervised --heads 3": "has no option --heads",
    "valuerec plan 500 --ensemble half": "ensemble is half",
    "valuerec train DATA --out OUT --engine warp": '"auto", "native", "tiled", "plain"',
    "valuerec demo --out RUN": "already in use",
    "valuerec demo --out OUT --sessions 0": "sessions is 0",
}


@pytest.mark.parametrize(("line", "says"), list(BAD_USAGE.items()))
def test_a_wrong_call_ends_with_2_and_a_sentence_and_makes_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    real = {"DATA": world.data, "RUN": world.run, "LIVE": world.live, "LOG": world.log, "OUT": tmp_path / "out"}
    for name, path in real.items():
        line = line.replace(name, str(path))
    before = world.live.read_bytes(), (world.run / "metrics.json").read_bytes()
    assert says in refused(capsys, line.split()[1:], 2)
    assert before == (world.live.read_bytes(), (world.run / "metrics.json").read_bytes())
    assert [path for path in tmp_path.iterdir() if path.name != "out" or any(path.iterdir())] == []


def spoilt(world: World, tmp_path: Path, what: str, how: str) -> Path:
    """A dataset or run that is no good, in one of the ways of `TROUBLE`."""
    folder = tmp_path / "spoilt"
    if how == "missing":
        return folder
    if how == "a file":
        folder.write_text("mine")
        return folder
    if how == "foreign":
        folder.mkdir()
        (folder / "manifest.json").write_text('{"name": "a web app"}')
        return folder
    if how == "the other kind":
        return world.data if what == "run" else world.run
    shutil.copytree(world.run if what == "run" else world.data, folder)
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    if how == "newer":
        manifest.write_text(json.dumps(content | {"schema_version": 99}))
    elif how == "no JSON":
        manifest.write_text("{")
    elif how == "half a manifest":
        del content["files"]
        manifest.write_text(json.dumps(content))
    else:
        file = folder / (content["weights"] if what == "run" else "arrays.safetensors")
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) * 3 // 4] ^= 1
        file.write_bytes(damaged)
    return folder


TROUBLE = {
    "missing": (2, "does not exist"),
    "a file": (2, "is a file"),
    "foreign": (2, "something else"),
    "the other kind": (2, "no valuerec"),
    "newer": (1, "schema version 99"),
    "no JSON": (1, "not readable JSON"),
    "half a manifest": (1, "field files"),
    "a bit flipped": (1, "is damaged"),
}


@pytest.mark.parametrize("how", list(TROUBLE))
@pytest.mark.parametrize("command", ["train", "evaluate", "evaluate its data", "recommend", "resume", "info"])
def test_folders_that_are_no_good_are_refused_by_every_command(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, how: str
) -> None:
    what = "dataset" if command in ("train", "evaluate its data") else "run"
    folder = spoilt(world, tmp_path, what, how)
    line = {
        "train": ["train", str(folder), "--out", str(tmp_path / "out")],
        "evaluate": ["evaluate", str(folder)],
        "evaluate its data": ["evaluate", str(world.run), "--data", str(folder)],
        "recommend": ["recommend", str(folder), "--sessions", str(world.live), "--out", str(tmp_path / "out.csv")],
        "resume": [*world.train, "--out", str(folder), "--resume"],
        "info": ["info", str(folder)],
    }[command]
    code, says = TROUBLE[how]
    if command == "info" and how == "the other kind":
        assert cli.run(line) == 0
    elif command == "info" and how == "a bit flipped":
        assert cli.run(line) == 1
        out, told = capsys.readouterr()
        assert "damaged" in out and "is damaged" in told and told.count("\n") == 1
    elif command == "resume" and how in ("a bit flipped", "no JSON", "half a manifest"):  # the checkpoint has it too
        assert cli.run(line) == 0 and cli.run(["info", str(folder)]) == 0
    else:
        assert says in refused(capsys, line, code)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.csv").exists()


def test_a_changed_configuration_of_a_run_is_noticed_and_put_back(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(world.run, run)
    (run / "config.json").write_text("{}")
    assert "config.json" in refused(capsys, ["evaluate", str(run)], 1)
    assert cli.run([*world.train, "--out", str(run), "--resume"]) == 0  # from the checkpoint
    assert "config.json" in capsys.readouterr().err and cli.run(["evaluate", str(run)]) == 0


def test_a_run_finds_its_dataset_again_where_it_has_moved(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, moved = tmp_path / "data", tmp_path / "run", tmp_path / "moved"
    shutil.copytree(world.data, data)
    assert cli.run(["train", str(data), "--epochs", "1", "--method", "supervised", *SMALL, "--out", str(run)]) == 0
    data.rename(moved)
    assert "say where it is with --data" in refused(capsys, ["evaluate", str(run)], 2)
    assert cli.run(["evaluate", str(run), "--data", str(moved)]) == 0
    assert cli.run([*world.prepare, "--seed", "7", "--out", str(data)]) == 0
    assert "was not trained on" in refused(capsys, ["evaluate", str(run)], 2)


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_an_output_in_use_is_left_alone(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    line = world.prepare if command == "prepare" else world.train
    assert "already in use" in refused(capsys, [*line, "--out", str(tmp_path)], 2)
    assert "is a file" in refused(capsys, [*line, "--out", str(tmp_path / "thesis.txt")], 2)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.txt", "mine")]


def test_more_than_the_catalogue_gives_the_catalogue_and_seen_items_can_stay_out(world: World, tmp_path: Path) -> None:
    def items(*options: str) -> list[list[str]]:
        out = tmp_path / "deep" / f"er{len(options)}" / "out.jsonl"
        assert cli.run([*world.recommend, "--k", "1000", "--out", str(out), *options]) == 0
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        return [[item["id"] for item in line["items"]] for line in lines]

    everything = items()
    assert [len(set(each)) for each in everything] == [30, 30, 30]
    seen = (["item 3", "item 4"], ["item 5"], [])
    assert items("--exclude-seen") == [
        [item for item in each if item not in own] for each, own in zip(everything, seen, strict=True)
    ]


@pytest.mark.parametrize("command", ["prepare", "train", "recommend", "demo"])
def test_a_place_that_cannot_be_written_to_is_named(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "file").write_text("mine")
    out = str(tmp_path / "file" / "out.jsonl")
    lines = {"prepare": world.prepare, "train": world.train, "recommend": world.recommend, "demo": ["demo"]}
    told = refused(capsys, [*lines[command], "--out", out], 1)
    assert f"Writing {out} failed" in told and "check the path" in told


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here; what a full disk does is not tested")
    if mounted.returncode:
        pytest.skip("file systems can't be mounted here; what a full disk does is not tested")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("command", ["prepare", "train", "recommend", "demo"])
def test_a_full_disk_is_a_sentence(
    world: World, tiny_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    line = {
        "prepare": [*world.prepare, "--out", str(tiny_disk / "data")],
        "train": ["train", str(world.data), "--out", str(tiny_disk / "run")],
        "recommend": [*world.recommend, "--out", str(tiny_disk / "out.jsonl")],
        "demo": ["demo", "--sessions", "2000", "--out", str(tiny_disk / "demo")],
    }[command]
    if command == "recommend":
        many = tmp_path / "many.jsonl"
        many.write_text('["item 3"]\n' * 500)
        line[line.index("--sessions") + 1] = str(many)
    capsys.readouterr()
    assert cli.run(line) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "space" in told and "Unexpected" not in told
    left = [path.name for path in tiny_disk.iterdir()]
    assert left == {"train": ["run"], "demo": ["demo"]}.get(command, [])
    if command == "train":
        assert "no weights yet" in refused(capsys, ["evaluate", str(tiny_disk / "run")], 1)


def train_until_validated(line: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "valuerec.cli", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while " step " not in (line := process.stderr.readline()):
        assert line, "it ended before its first validation"
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_leaves_a_run_to_use_and_to_go_on_with(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: signal.Signals
) -> None:
    run = tmp_path / "a run"
    line = ["train", str(world.data), "--heads", "3", *SMALL, "--patience", "100000"]
    process = train_until_validated([*line, "--epochs", "100000", "--out", str(run)])
    process.send_signal(how)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in told
    last = told.splitlines()[-1]
    again = [*line, "--epochs", "100000", "--out", str(run), "--resume"]
    assert last == f"valuerec: Interrupted; go on with: {shlex.join(['valuerec', *again])}"
    assert cli.run(["info", str(run)]) == 0 and cli.run(["evaluate", str(run)]) == 0
    answers = tmp_path / "answers.jsonl"
    assert cli.run(["recommend", str(run), "--sessions", str(world.live), "--out", str(answers)]) == 0
    assert len(answers.read_text().splitlines()) == 3
    steps = json.loads((run / "metrics.json").read_text())["steps"]
    capsys.readouterr()
    assert cli.run([*line, "--max-steps", str(steps + 3), "--epochs", "100000", "--out", str(run), "--resume"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["status"] == "finished" and metrics["steps"] == steps + 3
    assert "Resuming from" in capsys.readouterr().err and cli.run(["info", str(run)]) == 0


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_being_ended_while_the_command_line_is_loaded_is_a_sentence(how: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from valuerec.__main__ import main\n"
        "class Ends:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'valuerec.cli': os.kill(os.getpid(), signal.{how})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
        "sys.meta_path.insert(0, Ends())\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "valuerec: Interrupted.\n")


def test_ctrl_c_just_before_or_after_a_command_is_a_sentence() -> None:
    code = (
        "from valuerec import cli\n"
        "from valuerec.__main__ import main\n"
        "def interrupted(arguments): raise KeyboardInterrupt\n"
        "cli.run = interrupted\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "valuerec: Interrupted.\n")


def test_being_ended_in_executed_text_and_while_python_ends_is_the_commands_own_exit_code() -> None:
    code = (
        "import atexit, os, signal\n"
        "from valuerec import cli\n"
        "from valuerec.__main__ import main\n"
        "def interrupted(arguments):\n"
        "    try: exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "    except KeyboardInterrupt: return 130\n"
        "cli.run = interrupted\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


def test_the_package_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "valuerec", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{valuerec.__version__}\n", "")


def test_ctrl_c_that_a_library_turned_into_another_error_is_still_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("cannot import") from error

    monkeypatch.setattr("valuerec.methods.list_methods", broken)
    assert refused(capsys, ["methods"], 130) == "valuerec: Interrupted.\n"


def test_an_argument_that_is_not_utf8_is_a_sentence(world: World, tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [sys.executable, "-m", "valuerec.cli", "train", str(world.data), "--out"]
    done = subprocess.run([*map(os.fsencode, command), out], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "caf\\xe9 is not UTF-8; rename" in done.stderr and list(tmp_path.iterdir()) == []


def test_a_second_training_into_a_run_is_refused(world: World, tmp_path: Path) -> None:
    line = ["train", str(world.data), "--heads", "3", *SMALL, "--epochs", "100000", "--patience", "100000"]
    line += ["--out", str(tmp_path / "run")]
    process = train_until_validated(line)
    for second in (line, [*line, "--resume"]):
        done = called(second)
        assert (done.returncode, done.stdout) == (2, "") and "in use" in done.stderr
    process.kill()
    process.communicate()
    done = called([*line, "--resume", "--max-steps", "5"])
    assert done.returncode == 0, done.stderr


def test_being_ended_while_preparing_leaves_nothing(world: World, tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "from valuerec import cli, events\n"
        "from valuerec.folders import new_folder\n"
        "def prepare(sources, *, out, **options):\n"
        "    with new_folder(out):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(20)\n"
        "events.prepare = prepare\n"
        "cli.main()\n"
    )
    line = [sys.executable, "-c", code, *world.prepare, "--out", str(tmp_path / "data")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "valuerec: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_file_of_weights(world: World, tmp_path: Path) -> None:
    def digest(name: str, seed: str) -> str:
        run = tmp_path / name
        assert cli.run([*world.train, "--seed", seed, "--out", str(run)]) == 0
        (weights,) = run.glob("weights-*")
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    assert digest("a", "5") == digest("b", "5") != digest("c", "6")


def test_names_with_brackets_and_colons_stay_as_they_are(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "[/bold] :smile: [red]"
    shutil.copytree(world.run, run)
    for line in (["info", str(run)], ["evaluate", str(run)]):
        capsys.readouterr()
        assert cli.run(line) == 0
        assert "[/bold]:smile:[red]" in "".join(capsys.readouterr().out.split())  # a long title is folded


def test_a_terminal_that_knows_only_ascii_and_few_columns_loses_no_number(world: World) -> None:
    narrow = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "30"}
    done = called(["evaluate", str(world.run)], env=narrow)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((world.run / "metrics.json").read_text())["test"]
    for values in metrics.values():
        for value in values.values():
            assert f"{value:.4f}" in done.stdout


@pytest.mark.parametrize("line", [["methods"], ["methods", "--json"]])
def test_a_reader_that_has_gone_is_no_fault_and_a_full_output_is_one(line: list[str]) -> None:
    command = [sys.executable, "-m", "valuerec.cli", *line]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here; what a full output does is not tested")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.startswith("valuerec: Printing failed: no space")


def test_a_fault_of_ours_is_a_sentence_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("valuerec.methods.list_methods", broken)
    assert cli.run(["methods"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "RuntimeError: two lines (a fault of valuerec's: set VALUEREC_TRACEBACK=1" in told
    monkeypatch.setenv("VALUEREC_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        cli.run(["methods"])


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are not tested here")
def test_a_terminal_sees_a_bar_and_the_same_answer(world: World) -> None:
    import pty

    def on_a_terminal(line: list[str]) -> str:
        main, side = pty.openpty()
        command = [sys.executable, "-m", "valuerec.cli", *line]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, stdin=side, text=True)
        os.close(side)
        assert process.stdout is not None
        answer, shown = process.stdout.read(), b""
        process.wait()
        while True:
            try:
                block = os.read(main, 65536)
            except OSError:
                break
            if not block:
                break
            shown += block
        os.close(main)
        assert b"Ranking" in shown
        return answer

    line = ["evaluate", str(world.run), "--json"]
    assert on_a_terminal(line) == called(line).stdout


def test_the_commands_defaults_are_the_functions() -> None:
    config = TrainConfig()
    given = {name: one.default for name, one in inspect.signature(cli.train).parameters.items()}
    for field in dataclasses.fields(config):
        if field.name in given and field.name not in ("backbone", "method"):
            assert given[field.name] == getattr(config, field.name), field.name
    assert given["method"] == config.method.name and given["backbone"] == config.backbone.name  # type: ignore[attr-defined]
    assert (given["reward_click"], given["reward_purchase"]) == (config.rewards.click, config.rewards.purchase)


def test_the_rewards_of_other_kinds_are_given_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def keep(*_: Any, **options: Any) -> None:
        given.update(options)
        raise ValuerecError("that was enough")

    monkeypatch.setattr(stages, "train", keep)
    monkeypatch.setattr(reproducing, "reproduce", keep)
    for line in ("train d --out r", "reproduce table1 --data d --out r"):
        given.clear()
        assert cli.run([*line.split(), "--reward-click=-1", "--reward-others", "cart=.5,wish=2"]) == 1
        assert given["rewards"] == Rewards(-1.0, 1.0, {"cart": 0.5, "wish": 2.0})
        assert cli.run([*line.split(), "--reward-others", "cart=much"]) == 2
    assert "--reward-others says cart=much; write a number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("figure1 --seeds 5", "figure1 has no use for --seeds, an option of table1, figure2, figure3; leave it out"),
        ("figure1 --rows nonsense --data nowhere", "figure1 has no use for --data, an option of"),
        ("figure1 --reward-click 0.2", "figure1 has no use for --reward-click, an option of"),
        ("figure1 --no-tuning", "figure1 has no use for --no-tuning, an option of"),
        ("table1 --data d --backbone sasrec", "table1 has no use for --backbone, an option of figure2, figure3;"),
        ("figure2 --data d --controls", "figure2 has no use for --controls, an option of table1;"),
        ("figure3 --data d --protocol ours", "figure3 has no use for --protocol, an option of table1;"),
        ("table1 --data d --rows=", "--rows is empty; write rows with commas between"),
    ],
)
def test_options_that_an_experiment_has_no_use_for_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert says in refused(capsys, ["reproduce", *line.split(), "--out", str(tmp_path / "out")], 2)
    assert not (tmp_path / "out").exists()


def test_ids_that_are_numbers_here_and_mostly_text_there_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "session,item,time"
    for name, ids in (("num", [str(n) for n in range(40)]), ("mixed", ["7", *(f"s{n}" for n in range(40))])):
        rows = [f"{session},{place},{1_700_000_000 + place}" for session in ids for place in range(4)]
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *rows]) + "\n")
    files = [str(tmp_path / "num.csv"), str(tmp_path / "mixed.csv")]
    assert cli.run(["prepare", *files, "--format", "events", "--out", str(tmp_path / "data")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Note: the session ids are whole numbers in num.csv, and in mixed.csv 98% of them are text" in told


def test_a_later_log_is_trained_from_an_earlier_run(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = World(tmp_path)
    write_log(later.log, n_items=34)
    assert cli.run([*later.prepare, "--out", str(later.data)]) == 0
    assert "with --data, or train on with this one: valuerec train" in refused(
        capsys, ["evaluate", str(world.run), "--data", str(later.data)], 2
    )
    line = [*later.train, "--out", str(later.run), "--from", str(world.run)]
    assert "method heads = 3 (here 4)" in refused(capsys, ["4" if word == "3" else word for word in line], 2)
    assert cli.run(line) == 0
    told = capsys.readouterr().err
    assert "of its 30 items 30 stay and keep their weights, 0 are retired, 4 are new.\n" in told
    assert told.index("step 0 (epoch 0.0") < told.index("(epoch 1.0")
    assert cli.run(["info", str(later.run), "--json"]) == 0
    start = json.loads(capsys.readouterr().out)["config"]["start"]
    assert start["run"] == str(world.run) and start["items"] == {"stayed": 30, "new": 4, "retired": 0}
    later.live.write_text('["item 33", "item 4"]\n')
    for run, hints in ((world.run, True), (later.run, False)):
        out = tmp_path / f"{hints}.csv"
        assert cli.run(["recommend", str(run), "--sessions", str(later.live), "--out", str(out)]) == 0
        assert (f"valuerec train DATASET --from {run} --out NEW" in capsys.readouterr().out) == hints
