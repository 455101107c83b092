"""A job that is stopped goes on to the same bytes, or says why it can't; its memory does not grow with the file."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import valuerec as vr
from recommend import write_sessions
from serving_tools import made_up_run, sessions_of
from valuerec import cli
from valuerec.bulk import job, staging
from valuerec.bulk.work import Work
from valuerec.errors import UsageError, ValuerecError
from valuerec.sessions import read_sessions

ITEMS, SMALL, COUNT = 100, 64, 300  # sessions of a part, and in all: four whole parts and one of 44


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_run(tmp_path_factory.mktemp("model") / "run", ITEMS, width=8, heads=3)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "whole_parts" not in request.keywords:
        for module in (job, staging):
            monkeypatch.setattr(module, "PART", SMALL)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_sessions(tmp_path / "in.jsonl", sessions_of(ITEMS, seed=2), COUNT)
    return tmp_path / "in.jsonl"


class StopError(Exception):
    pass


def stops_at(sessions: int, how: Callable[[], None] | None = None) -> Callable[[int, int], None]:
    """A progress that goes no further."""

    def told(done: int, total: int) -> None:
        if done >= sessions:
            if how is None:
                raise StopError
            how()

    return told


def answers_in(path: Path) -> list[tuple[Any, ...]]:
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["session"], row["unknown"], [tuple(item.values()) for item in row["items"]]) for row in rows]


@pytest.mark.parametrize("out", ["out.parquet", "out.jsonl", "out.csv"])
def test_every_session_has_its_place_and_the_answer_of_the_plain_path(model: Path, source: Path, out: str) -> None:
    target = source.with_name(out)
    done = vr.recommend(model, source, out=target, k=5)
    sessions = read_sessions(source)
    answers = list(vr.load(model).answers([session.items for session in sessions], 5))
    assert done[:3] == (COUNT, 5 * COUNT, 0)
    assert done.empty_sessions == sum(not session.items for session in sessions) > 0
    if out == "out.csv":
        rows = [line.split(",") for line in target.read_text().splitlines()]
        assert rows[0] == ["session", "rank", "item", "score", "value", "uncertainty"]
        assert [row[:3] for row in rows[1:]] == [
            [session.id, str(rank), item.id]
            for session, answer in zip(sessions, answers, strict=True)
            for rank, item in enumerate(answer.items, start=1)
        ]
        return
    found = answers_in(target)
    assert [(name, unknown) for name, unknown, _ in found] == [(session.id, 0) for session in sessions]
    for (_, _, items), answer in zip(found, answers, strict=True):
        assert [item[0] for item in items] == [item.id for item in answer.items]
        for item, right in zip(items, answer.items, strict=True):
            assert item[1:] == pytest.approx(right[1:], rel=1e-5)
    assert sorted(path.name for path in source.parent.iterdir()) == ["in.jsonl", out]
    if out == "out.parquet":
        assert pq.ParquetFile(target).num_row_groups == 5


@pytest.mark.parametrize("out", ["out.parquet", "out.jsonl", "out.tsv"])
@pytest.mark.parametrize("stops", [[64], [150], [64, 200], [290]])
def test_a_stopped_job_goes_on_to_the_same_bytes(model: Path, source: Path, out: str, stops: list[int]) -> None:
    undisturbed, target = source.with_name(f"whole{Path(out).suffix}"), source.with_name(out)
    right = vr.recommend(model, source, out=undisturbed, k=5)
    for sessions in stops:
        with pytest.raises(StopError):
            vr.recommend(model, source, out=target, k=5, resume=True, progress=stops_at(sessions))
        assert not target.exists()
    told: list[int] = []
    done = vr.recommend(model, source, out=target, k=5, resume=True, progress=lambda n, _: told.append(n))
    assert done == right and target.read_bytes() == undisturbed.read_bytes()
    assert told[0] == (max(stops) - 1) // SMALL * SMALL  # a part is not done before its progress is told
    assert not list(source.parent.glob(".*"))


@pytest.mark.parametrize("out", ["out.parquet", "out.jsonl", "out.tsv"])
def test_a_job_that_is_stopped_while_it_joins_its_parts_goes_on_to_the_same_bytes(
    model: Path, source: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, target = source.with_name(f"whole{Path(out).suffix}"), source.with_name(out)
    vr.recommend(model, source, out=undisturbed, k=5)

    def stopped(self: Work, answers: Path) -> None:
        assert answers.read_bytes() == undisturbed.read_bytes()
        raise StopError

    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(Work, "finish", stopped)
        vr.recommend(model, source, out=target, k=5)
    assert (source.with_name(f".{out}.partial") / "answers").is_file()
    vr.recommend(model, source, out=target, k=5, resume=True)
    assert target.read_bytes() == undisturbed.read_bytes() and not list(source.parent.glob(".*"))


def test_the_number_of_threads_changes_nothing(model: Path, source: Path) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            target = source.with_name(f"{threads}.parquet")
            vr.recommend(model, source, out=target)
            found.append(target.read_bytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def begun(model: Path, source: Path) -> Path:
    target = source.with_name("out.parquet")
    with pytest.raises(StopError):
        vr.recommend(model, source, out=target, k=5, progress=stops_at(200))
    return target


def test_begun_work_is_neither_thrown_away_nor_mixed(model: Path, source: Path, tmp_path: Path) -> None:
    target = begun(model, source)
    left = {path.name: path.read_bytes() for path in (tmp_path / ".out.parquet.partial").iterdir()}
    other = made_up_run(tmp_path / "other", ITEMS, width=8, heads=3, seed=1)
    with pytest.raises(UsageError, match=r"was begun before: 3 parts .* Go on with --resume, or remove .*\.partial"):
        vr.recommend(model, source, out=target, k=5)
    for wrong, says in (
        ({"k": 6}, "begun with k = 5, now it is 6"),
        ({"exclude_seen": True}, "exclude_seen = False, now it is True"),
        ({"model": other}, "begun with another model"),
        ({"sessions": tmp_path / "other.jsonl"}, "begun with another input"),
    ):
        write_sessions(tmp_path / "other.jsonl", sessions_of(ITEMS, seed=3), COUNT)
        call: dict[str, Any] = {"model": model, "sessions": source, "k": 5} | wrong
        with pytest.raises(UsageError, match=says):
            vr.recommend(call.pop("model"), call.pop("sessions"), out=target, resume=True, **call)
    assert left == {path.name: path.read_bytes() for path in (tmp_path / ".out.parquet.partial").iterdir()}
    os.utime(source)  # what it holds counts, not when it was written
    assert vr.recommend(model, source, out=target, k=5, resume=True).sessions == COUNT


def damage_part(work: Path) -> None:
    content = bytearray((work / "part-00000001").read_bytes())
    content[len(content) // 2] ^= 1
    (work / "part-00000001").write_bytes(content)


def tear_journal(work: Path) -> None:
    text = (work / "parts.jsonl").read_text()
    (work / "parts.jsonl").write_text(text[: text.index("\n") + 20])


@pytest.mark.parametrize("trouble", [damage_part, tear_journal])
def test_parts_from_the_first_damaged_one_on_are_made_again(
    model: Path, source: Path, trouble: Callable[[Path], None]
) -> None:
    undisturbed = source.with_name("whole.parquet")
    vr.recommend(model, source, out=undisturbed, k=5)
    target = begun(model, source)
    trouble(source.with_name(".out.parquet.partial"))
    told: list[int] = []
    vr.recommend(model, source, out=target, k=5, resume=True, progress=lambda n, _: told.append(n))
    assert told[0] == SMALL and target.read_bytes() == undisturbed.read_bytes()


def test_damaged_sessions_are_noticed(model: Path, source: Path) -> None:
    target = begun(model, source)
    staged = source.with_name(".out.parquet.partial") / "sessions.parquet"
    staged.write_bytes(staged.read_bytes()[:-1])
    with pytest.raises(ValuerecError, match=r"damaged: sessions\.parquet"):
        vr.recommend(model, source, out=target, k=5, resume=True)


def test_killed_between_the_end_and_the_cleaning_it_is_done(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("out.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(Work, "remove", lambda self: stops_at(0)(0, 0))
        with pytest.raises(StopError):
            vr.recommend(model, source, out=target, k=5)
    content = target.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        vr.recommend(model, source, out=target, k=6, resume=True)
    assert vr.recommend(model, source, out=target, k=5, resume=True).recommendations == 5 * COUNT
    assert target.read_bytes() == content and not list(source.parent.glob(".*"))


def test_one_process_at_a_time(model: Path, source: Path) -> None:
    target = source.with_name("out.parquet")

    def another() -> None:
        with pytest.raises(UsageError, match="being written by another process"):
            vr.recommend(model, source, out=target, resume=True)

    vr.recommend(model, source, out=target, progress=stops_at(COUNT, another))
    assert target.exists()


@pytest.mark.parametrize("k", [0, 2.5, "3"])
def test_a_k_that_is_none_is_refused_and_nothing_is_left(model: Path, source: Path, k: Any) -> None:
    with pytest.raises(UsageError, match="it must be a whole number, at least 1"):
        vr.recommend(model, source, out=source.with_name("out.jsonl"), k=k)
    assert [file.name for file in source.parent.iterdir()] == ["in.jsonl"]


def test_what_appears_meanwhile_is_left_alone(model: Path, source: Path) -> None:
    target = source.with_name("out.parquet")
    with pytest.raises(UsageError, match=r"appeared meanwhile; .* 5 parts of 64 sessions are kept; go on"):
        vr.recommend(model, source, out=target, progress=stops_at(COUNT, lambda: target.write_text("mine")))
    assert target.read_text() == "mine"
    target.unlink()
    assert vr.recommend(model, source, out=target, resume=True).sessions == COUNT


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_being_asked_to_end_ends_after_the_part_and_says_how_to_go_on(
    model: Path, source: Path, how: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("out file.parquet")
    real, asked = job._Job._work_parts, []

    def work(self: job._Job) -> None:
        def told(done: int, total: int) -> None:
            if done and not asked:
                asked.append(done)
                os.kill(os.getpid(), how)

        self._progress = told
        real(self)

    monkeypatch.setattr(job._Job, "_work_parts", work)
    before = signal.signal(signal.SIGTERM, cli._interrupt)
    try:
        line = ["recommend", str(model), "--sessions", str(source), "--out", str(target)]
        assert cli.run(line) == 130
        out, told = capsys.readouterr()
        again = shlex.join(["valuerec", *line, "--resume"])
        assert (out, told) == ("", f"valuerec: Interrupted; go on with: {again}\n")
        journal = target.with_name(".out file.parquet.partial") / "parts.jsonl"
        assert len(journal.read_text().splitlines()) == 1 and not target.exists()
        assert cli.run([*line, "--resume", "--json"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    counts = json.loads(capsys.readouterr().out)
    assert counts["sessions"] == COUNT and counts["recommendations"] == 20 * COUNT
    assert {"unknown_items", "empty_sessions", "sessions_without_known_items"} <= counts.keys()


PEAK = (
    "import resource, sys, valuerec as vr\n"
    "vr.recommend(sys.argv[1], sys.argv[2], out=sys.argv[3], k=5)\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
)


@pytest.mark.slow
@pytest.mark.whole_parts
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_number_of_sessions(model: Path, tmp_path: Path, kind: str) -> None:
    peaks = []
    for count in (10_000, 80_000):
        source, target = tmp_path / f"in{count}.{kind}", tmp_path / f"out{count}.parquet"
        write_sessions(source, islice(sessions_of(ITEMS, seed=4), count), count)
        line = [sys.executable, "-c", PEAK, str(model), str(source), str(target)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1e3)
        assert pq.ParquetFile(target).metadata.num_rows == count
    assert peaks[1] < peaks[0] + 25, f"{peaks} MB"  # read whole, 70,000 sessions more would take some 90 MB more
