"""The demo: a made-up shop's raw log, and then only what a user would do with the public commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from valuerec import shop
from valuerec.errors import ValuerecError
from valuerec.folders import check_unused, explained_io, read_json
from valuerec.printing import PlainConsole, whole_table
from valuerec.stages import check_can_serve

METHODS: Final = ("supervised", "vpq")
_LIVE: Final = {
    "after a good": ["hiking-good-00", "hiking-good-01"],
    "after a lure": ["coffee-good-03", "coffee-lure-00"],
    "new visitor": [],
    "unknown item": ["hiking-good-00", "no-such-item"],
}
_SHOWN: Final = 5

Answers = dict[str, list[dict[str, Any]]]


def demo(
    out: str | Path = "demo", *, sessions: int = 30_000, seed: int = 0, serve: bool = False, port: int = 8000
) -> None:
    """Write a raw log to a file, prepare it, train two recommenders, score both, and recommend with both.

    Args:
        out: the folder for all of it.
        sessions: visits in the log.
        seed: of the log and of training.
        serve: export VPQ's model at the end and serve it, with its page, until asked to end.
        port: to serve at.

    Raises:
        UsageError: where the folder is in use, or valuerec[serve] is not installed.
        ValuerecError: where one of the commands fails.
    """
    if serve:
        check_can_serve()
    folder = Path(out)
    with explained_io(f"Writing {folder}"):
        check_unused(folder)
        folder.mkdir(parents=True, exist_ok=True)
    console = PlainConsole()
    log, data, live = folder / "log.csv", folder / "data", folder / "sessions.jsonl"
    rows = shop.write_log(log, sessions, seed)
    console.print(
        f"A made-up shop: {sessions} visits, {rows} events in {log}. Each of its {len(shop.DEPARTMENTS)} departments "
        f"has {shop.GOODS} goods, which people buy and look on from, and {shop.LURES} lures, which draw clicks and "
        "end visits (src/valuerec/shop.py says how).",
        soft_wrap=True,
    )
    pairs = "session=session,item=item,time=time,event=event"
    _command(console, f"prepare {_word(log)} --format events --columns {pairs} --out {_word(data)} --seed {seed}")
    runs = {method: folder / method for method in METHODS}
    for method, run in runs.items():
        line = f"train {_word(data)} --method {method} --out {_word(run)} --seed {seed} --epochs 8 --patience 2"
        _command(console, line)
    for run in runs.values():
        _command(console, f"evaluate {_word(run)}")
    _write_sessions(live, _LIVE | _held_out(data))
    answers = {method: folder / f"{method}.jsonl" for method in METHODS}
    for method, run in runs.items():
        line = f"recommend {_word(run)} --sessions {_word(live)} --k 10 --out {_word(answers[method])} --exclude-seen"
        _command(console, line)
    _show_scores(console, {method: read_json(run / "metrics.json")["test"] for method, run in runs.items()})
    told = {method: _read_answers(path) for method, path in answers.items()}
    _show_answers(console, told)
    _show_kinds(console, told)
    place = f"--sessions {_word(data)} --port {port}"
    if not serve:
        console.print(f"\nSee it: valuerec serve {_word(runs['vpq'])} {place}", soft_wrap=True)
        return
    bundle = folder / "bundle"
    _command(console, f"export {_word(runs['vpq'])} --out {_word(bundle)}")
    console.print(
        f"\nThe page is at http://127.0.0.1:{port}/ once `ready` stands below; Ctrl-C ends it.", soft_wrap=True
    )
    _command(console, f"serve {_word(bundle)} {place} --name vpq --drain-delay 0 --no-log-requests")


def _word(path: Path) -> str:
    return shlex.quote(str(path))


def _command(console: PlainConsole, line: str) -> None:
    """Show a command and run it, as typed."""
    from valuerec import cli

    console.print(f"\n$ valuerec {line}", style="bold", soft_wrap=True)
    code = cli.run(shlex.split(line))
    if code == 130:
        raise KeyboardInterrupt("the demo ends here, its folder stays.")
    if code:
        raise ValuerecError(f"The demo stopped: `valuerec {line}` ended with exit code {code}; see the line above.")


def _held_out(data: Path) -> dict[str, list[str]]:
    """The visits that nobody learned from, without their last event."""
    with explained_io(f"Reading {data}"):
        events = pq.read_table(data / "events.parquet", columns=["session", "item", "split"])
    visits: dict[str, list[str]] = {}
    test = events.filter(pc.equal(events["split"], pa.scalar("test")))
    for session, item in zip(test["session"].to_pylist(), test["item"].to_pylist(), strict=True):
        visits.setdefault(str(session), []).append(str(item))
    return {session: items[:-1] for session, items in visits.items()}


def _write_sessions(path: Path, sessions: dict[str, list[str]]) -> None:
    with explained_io(f"Writing {path}"):
        lines = (json.dumps({"session": name, "items": items}) for name, items in sessions.items())
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _read_answers(path: Path) -> Answers:
    with explained_io(f"Reading {path}"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["session"]: line["items"] for line in lines}


def _show_scores(console: PlainConsole, metrics: dict[str, Any]) -> None:
    """What each scores, side by side."""
    table = whole_table("held-out visits (test)", *METHODS, numbers=True)
    for kind in ("purchase", "click"):
        for name in ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20"):
            values = [metrics[method][kind][name] for method in METHODS]
            table.add_row(f"{kind} {name}", *("–" if value is None else f"{value:.4f}" for value in values))
    console.print(
        "\nWhat they score. A purchase in this shop is of the good clicked just before, so a high purchase score says "
        "no more than that the model shows that good again; a click is harder to foresee.\n",
        soft_wrap=True,
    )
    console.print(table)


def _show_answers(console: PlainConsole, answers: dict[str, Answers]) -> None:
    """What each recommends for a few visits, side by side."""
    console.print(
        f"\nWhat they recommend (the first {_SHOWN}). In brackets the score: for supervised the probability of being "
        "the next item, for VPQ that probability weighted by value. Value ± uncertainty is the reward that VPQ expects "
        "from a click on its item on, each step later counting half, and how far its heads disagree.",
        soft_wrap=True,
    )
    for session, items in _LIVE.items():
        table = whole_table("", *METHODS, "value", "±", numbers=True)
        for rank, (left, right) in enumerate(_pairs(answers, session), start=1):
            sure = f"{right['value']:.3f}", f"{right['uncertainty']:.3f}"
            table.add_row(str(rank), *(f"{item['id']} ({item['score']:.3f})" for item in (left, right)), *sure)
        console.print(f"\n{session}: {', '.join(items) or 'nothing yet'}")
        console.print(table)


def _pairs(answers: dict[str, Answers], session: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    plain, valued = (answers[method][session][:_SHOWN] for method in METHODS)
    return zip(plain, valued, strict=True)


def _show_kinds(console: PlainConsole, answers: dict[str, Answers]) -> None:
    """Whether value went where the shop was built to have it."""
    truth = shop.value_of_kind(discount=0.5)
    items = {method: [item for session in told.values() for item in session] for method, told in answers.items()}
    table = whole_table("of all items recommended", *truth, numbers=True)
    for method in METHODS:
        shares = (len(_of_kind(items[method], kind)) / max(1, len(items[method])) for kind in truth)
        table.add_row(f"share, {method}", *(f"{share:.1%}" for share in shares))
    for name in ("value", "uncertainty"):
        told = ([float(item[name]) for item in _of_kind(items["vpq"], kind)] for kind in truth)
        table.add_row(f"mean {name}, vpq", *(f"{sum(each) / len(each):.3f}" if each else "–" for each in told))
    table.add_row("true value, any visitor", *(f"{value:.3f}" for value in truth.values()))
    console.print(f"\nLures and goods among the ten items for each of {len(answers['vpq'])} visits\n")
    console.print(table)
    console.print(
        "\nThe true value is known by construction, for visitors who go on as they do; prepare kept only visits of "
        "three events and more, which are worth a little more. VPQ penalises what its heads disagree about: read its "
        "values as cautious ones. One log, one seed: a demonstration, no evidence; RESULTS.md has the real logs.",
        soft_wrap=True,
    )


def _of_kind(items: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if f"-{kind}-" in item["id"]]
