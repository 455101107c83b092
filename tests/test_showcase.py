"""The demo does what a user would do, and says nothing that its files do not."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import valuerec as vr
from valuerec import cli, shop, stages
from valuerec.errors import UsageError, ValuerecError

SESSIONS = 1_500


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo of a small log, and what it printed."""
    import contextlib
    import io

    folder, text = tmp_path_factory.mktemp("demo") / "a demo", io.StringIO()
    with contextlib.redirect_stdout(text):
        vr.demo(folder, sessions=SESSIONS)
    return folder, text.getvalue()


def test_it_shows_the_public_commands_that_it_runs(shown: tuple[Path, str]) -> None:
    folder, text = shown
    lines = [shlex.split(line)[2:] for line in text.splitlines() if line.startswith("$ valuerec")]
    assert [line[0] for line in lines] == [
        "prepare",
        "train",
        "train",
        "evaluate",
        "evaluate",
        "recommend",
        "recommend",
    ]
    assert lines[0][1] == str(folder / "log.csv")
    assert "…" not in text
    for line in lines:
        if line[0] == "recommend":
            out = Path(line[line.index("--out") + 1])
            before = out.read_bytes()
            out.unlink()
        if line[0] in ("evaluate", "recommend"):  # what is shown can be typed
            assert cli.run(line) == 0
        if line[0] == "recommend":
            assert out.read_bytes() == before


def test_its_figures_are_those_of_its_files(shown: tuple[Path, str]) -> None:
    folder, text = shown
    told = text[text.index("What they score") :]
    metrics = [json.loads((folder / method / "metrics.json").read_text())["test"] for method in ("supervised", "vpq")]
    for kind in ("purchase", "click"):
        for name in metrics[0][kind]:
            row = next(line for line in told.splitlines() if line.startswith(f"{kind} {name} "))
            figures = [float(figure) for figure in row.replace("│", " ").split()[2:]]
            assert figures == [pytest.approx(each[kind][name], abs=5e-5) for each in metrics]
    answers = [json.loads(line) for line in (folder / "vpq.jsonl").read_text().splitlines()]
    assert len(answers) > 4 and {"after a good", "new visitor"} < {line["session"] for line in answers}
    first = answers[0]["items"][0]
    assert f"{first['id']} ({first['score']:.3f})" in told and f"{first['value']:.3f}" in told
    items = [item for line in answers for item in line["items"]]
    goods = [item["value"] for item in items if "-good-" in item["id"]]
    assert f"{len(goods) / len(items):.1%}" in told and f"{sum(goods) / len(goods):.3f}" in told
    for value in shop.value_of_kind(0.5).values():
        assert f"{value:.3f}" in told


def test_the_visits_it_recommends_for_were_held_out_and_lack_their_last_event(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    lines = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    held_out = vr.Dataset(folder / "data").manifest["splits"]["test"]
    assert len(lines) == 4 + held_out["sessions"]
    assert sum(len(line["items"]) + 1 for line in lines[4:]) == held_out["events"]


def test_a_command_that_fails_ends_the_demo_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValuerecError, match=r"The demo stopped: `valuerec prepare .* ended with exit code 1"):
        vr.demo(tmp_path / "demo", sessions=3)


def test_an_interrupted_demo_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("valuerec.stages.prepare", interrupted)
    assert cli.run(["demo", "--sessions", "30", "--out", str(tmp_path / "demo")]) == 130
    assert capsys.readouterr().err.splitlines() == [
        "valuerec: Interrupted.",
        "valuerec: Interrupted; the demo ends here, its folder stays.",
    ]


@pytest.mark.slow
def test_it_can_end_in_the_service_and_its_page_until_asked_to_end(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = ["demo", "--out", "demo", "--sessions", str(SESSIONS), "--serve", "--port", str(port)]
    with (tmp_path / "log").open("w+") as log:
        shown = subprocess.Popen([sys.executable, "-m", "valuerec", *line], cwd=tmp_path, stdout=log, stderr=log)
        try:
            while '"ready"' not in (tmp_path / "log").read_text():
                assert shown.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
            address = f"http://127.0.0.1:{port}"
            assert "valuerec" in httpx.get(address).text
            recorded = httpx.get(f"{address}/v1/sessions?limit=1").json()["sessions"][0]
            items = [event["item"] for event in recorded["events"]]
            answer = httpx.post(f"{address}/v1/recommend", json={"session": items, "k": 3}).json()
            assert len(answer["items"]) == 3 and answer["model"]["name"] == "vpq" and not answer["unknown_items"]
        finally:
            shown.send_signal(signal.SIGINT)
            code = shown.wait(60)
    told = (tmp_path / "log").read_text()
    assert code == 0 and f"The page is at {address}/" in told and '"ended"' in told


def test_without_what_serving_needs_it_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"Serving needs fastapi, .*valuerec\[serve\]"):
        vr.demo(tmp_path / "demo", serve=True)
    assert not (tmp_path / "demo").exists()
