"""The drift gate: figures by hand, each limit met and passed, and a log that has really drifted."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from valuerec import cli
from valuerec.errors import UsageError, ValuerecError
from valuerec.events import DriftError, prepare
from valuerec.events.drift import LIMITS, _distance, _factor

DAY = 86_400
START = 1_400_000_000


def sessions(
    seed: int, items: Sequence[str], *, length: tuple[int, int] = (3, 6), bought: float = 0.1, start: int = START
) -> Iterator[str]:
    """200 sessions over ten days."""
    draw = random.Random(seed)
    for session in range(200):
        begin = start + session * DAY // 20
        for place in range(draw.randint(*length)):
            kind = "purchase" if draw.random() < bought else "click"
            yield f"{seed}-{session},{draw.choice(items)},{begin + place * 60},{kind}\n"


def write(path: Path, rows: Iterator[str]) -> Path:
    path.write_text("session,item,time,event\n" + "".join(rows))
    return path


ITEMS = [f"item {number}" for number in range(40)]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    prepare([write(tmp_path / "old.csv", sessions(0, ITEMS))], format="events", out=tmp_path / "earlier")
    return tmp_path / "earlier"


def judged(folder: Path, earlier: Path, rows: Iterator[str], **options: Any) -> dict[str, Any]:
    log = write(folder / "new.csv", rows)
    manifest = prepare([log], format="events", out=folder / "new", like=earlier, **options)
    assert json.loads((folder / "new/manifest.json").read_text())["drift"] == manifest["drift"]
    return dict(manifest["drift"])


def verdicts(drift: dict[str, Any]) -> dict[str, str]:
    return {figure["name"]: figure["verdict"] for figure in drift["figures"]}


def test_a_log_of_the_same_shop_has_not_drifted(tmp_path: Path, earlier: Path) -> None:
    drift = judged(tmp_path, earlier, sessions(1, ITEMS, start=START + 10 * DAY), on_drift="fail")
    assert verdicts(drift) == dict.fromkeys(LIMITS, "ok")
    assert (drift["drifted"], drift["notes"]) == ([], [])
    assert drift["like"]["fingerprint"] == json.loads((earlier / "manifest.json").read_text())["fingerprint"]


@pytest.mark.parametrize(
    ("change", "drifted"),
    [
        ({"bought": 0.3}, ["purchase_share"]),
        ({"bought": 0.0}, ["purchase_share"]),
        ({"items": ITEMS[:20] + [f"new {n}" for n in range(20)]}, ["catalogue_known", "catalogue_left"]),
        ({"items": ITEMS + [f"new {n}" for n in range(40)]}, ["catalogue_known"]),
        ({"items": ITEMS[:15]}, ["catalogue_left"]),
        ({"length": (5, 9)}, ["session_length"]),
        ({"start": START + 30 * DAY}, ["time_gap"]),
        ({"start": START - 30 * DAY}, ["time_gap"]),
    ],
)
def test_a_log_that_has_really_drifted_is_named_by_what_has_changed(
    tmp_path: Path, earlier: Path, change: dict[str, Any], drifted: list[str]
) -> None:
    rows = list(sessions(1, **({"items": ITEMS} | change)))
    assert judged(tmp_path, earlier, iter(rows))["drifted"] == drifted
    with pytest.raises(DriftError) as caught:
        prepare([tmp_path / "new.csv"], format="events", out=tmp_path / "refused", like=earlier, on_drift="fail")
    assert all(name in str(caught.value) for name in drifted)
    assert caught.value.drift["drifted"] == drifted
    assert not (tmp_path / "refused").exists()
    wide = {name: 0.0 if LIMITS[name].at_least else 1e9 for name in drifted}
    options: dict[str, Any] = {"on_drift": "fail", "drift_limits": wide}
    if change.get("bought") == 0.0:
        assert "--drift-limit purchase_share=inf" in str(caught.value)
        wide["purchase_share"] = math.inf
    manifest = prepare([tmp_path / "new.csv"], format="events", out=tmp_path / "allowed", like=earlier, **options)
    assert manifest["drift"]["drifted"] == []
    limits = {figure["name"]: figure["limit"] for figure in manifest["drift"]["figures"]}
    assert [limits[name] for name in drifted] == [None if wide[name] == math.inf else wide[name] for name in drifted]


def test_a_log_of_an_hour_against_one_of_ten_days(tmp_path: Path, earlier: Path) -> None:
    rows = [row.split(",") for row in sessions(1, ITEMS)]
    squeezed = (f"{a},{b},{START + (int(time) - START) // 240},{kind}" for a, b, time, kind in rows)
    assert judged(tmp_path, earlier, squeezed)["drifted"] == ["time_span"]


def test_of_too_few_sessions_only_their_number_and_their_place_in_time_are_judged(tmp_path: Path) -> None:
    few = list(sessions(0, ITEMS))[:200]
    prepare([write(tmp_path / "old.csv", iter(few))], format="events", out=tmp_path / "earlier")
    other = iter(list(sessions(1, ["other"], bought=0.9))[:200])
    drift = judged(tmp_path, tmp_path / "earlier", other, on_drift="fail")
    unjudged = dict.fromkeys(LIMITS, "not judged: fewer than 100 sessions")
    assert verdicts(drift) == unjudged | {"time_gap": "ok", "sessions": "ok"}


@pytest.mark.parametrize("rows", [40, 200, 420])
def test_a_log_that_was_cut_off_does_not_pass_however_few_sessions_are_left(
    tmp_path: Path, earlier: Path, rows: int
) -> None:
    cut = list(sessions(1, ITEMS))[:rows]
    assert judged(tmp_path, earlier, iter(cut))["drifted"] == ["sessions"]
    with pytest.raises(DriftError, match=r"sessions is .* \(at most 2\).*--drift-limit sessions=\.\.\."):
        prepare([tmp_path / "new.csv"], format="events", out=tmp_path / "refused", like=earlier, on_drift="fail")


def test_the_table_says_where_there_is_no_limit(
    tmp_path: Path, earlier: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "new.csv", sessions(1, ITEMS, bought=0.0))
    line = ["prepare", str(log), "--format", "events", "--out", str(tmp_path / "a"), "--like", str(earlier)]
    assert cli.run([*line, "--on-drift", "fail", "--drift-limit", "purchase_share=inf"]) == 0
    (row,) = (line for line in capfd.readouterr().out.splitlines() if "purchase_share" in line)
    assert "infinite" in row and "none" in row and "ok" in row


def test_positions_have_no_dates(tmp_path: Path, earlier: Path) -> None:
    rows = [row.split(",") for row in sessions(1, ITEMS)]
    positions = (f"{a},{b},{int(time) - START},{kind}" for a, b, time, kind in rows)
    drift = judged(tmp_path, earlier, positions)
    assert verdicts(drift)["time_gap"] == verdicts(drift)["time_span"] == "not judged: positions are no dates"


def test_other_filters_are_noted(tmp_path: Path, earlier: Path) -> None:
    (note,) = judged(tmp_path, earlier, sessions(1, ITEMS), min_session_events=2)["notes"]
    assert "min_session_events 3, this one with 2" in note


def test_figures_by_hand() -> None:
    one, other = np.array([0, 2, 0, 2]), np.array([0, 1, 3])
    assert _distance(one, other) == pytest.approx(0.5)  # after length 2: 1/2 against 1
    assert [_factor(*pair) for pair in ((1, 2), (4, 2), (0, 0), (0, 1))] == [2, 2, 1, math.inf]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"like": "nowhere"}, "does not exist"),
        ({"on_drift": "fail"}, "name it with --like"),
        ({"drift_limits": {"time_gap": 3}}, "name it with --like"),
        ({"like": "earlier", "on_drift": "panic"}, "choose one of: warn, fail"),
        ({"like": "earlier", "drift_limits": {"gap": 3}}, "it can name sessions, purchase_share, "),
        ({"like": "earlier", "drift_limits": {"time_gap": float("nan")}}, "a number from 0 to inf"),
        ({"like": "earlier", "drift_limits": {"catalogue_known": 2}}, "a number from 0 to 1"),
        ({"like": "earlier", "drift_limits": {"catalogue_left": math.inf}}, "a number from 0 to 1"),
        ({"like": "earlier", "drift_limits": {"time_span": 0.5}}, "a number from 1 to inf"),
    ],
)
def test_options_that_mean_nothing(
    tmp_path: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        prepare(["old.csv"], format="events", out="new", **options)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"kind": "run"}, "is no valuerec dataset but a run"),
        ({"time": None}, "does not hold what prepare writes"),
        ({"time": {"unit": "s", "first": "soon", "last": "late"}}, "does not hold what prepare writes"),
        ({"config": None}, "was not made by prepare"),
    ],
)
def test_an_earlier_dataset_that_is_none_is_refused_before_the_log_is_read(
    tmp_path: Path, earlier: Path, change: dict[str, Any], says: str
) -> None:
    manifest = json.loads((earlier / "manifest.json").read_text())
    del manifest["digest"]  # which would say that somebody wrote here; what is refused is what stands here
    (earlier / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ValuerecError, match=says):
        prepare([tmp_path / "old.csv"], format="events", out=tmp_path / "new", like=earlier)


def test_a_damaged_earlier_dataset_is_refused(tmp_path: Path, earlier: Path) -> None:
    content = bytearray((earlier / "items.parquet").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (earlier / "items.parquet").write_bytes(content)
    with pytest.raises(ValuerecError, match=r"damaged: items\.parquet"):
        prepare([tmp_path / "old.csv"], format="events", out=tmp_path / "new", like=earlier)


def test_the_command_prints_the_figures_whether_it_warns_or_fails(
    tmp_path: Path, earlier: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "new.csv", sessions(1, ITEMS, bought=0.4))
    line = ["prepare", str(log), "--format", "events", "--like", str(earlier), "--drift-limit", "time_gap=3"]
    assert cli.run([*line, "--out", str(tmp_path / "a")]) == 0
    out, err = capfd.readouterr()
    assert f"Warning: the log has drifted from {earlier}: purchase_share." in out
    assert all(name in out for name in LIMITS) and "≤ 3" in out and err == ""
    assert cli.run([*line, "--out", str(tmp_path / "b"), "--on-drift", "fail"]) == 1
    out, err = capfd.readouterr()
    assert all(name in out for name in LIMITS)
    assert len(err.splitlines()) == 1 and "purchase_share is" in err
    assert cli.run([*line, "--out", str(tmp_path / "b"), "--on-drift", "fail", "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["drift"]["drifted"] == ["purchase_share"]
    assert cli.run([*line[:-1], "time_gap=wide", "--out", str(tmp_path / "b")]) == 2
    assert "--drift-limit says time_gap=wide; write a number." in capfd.readouterr().err
