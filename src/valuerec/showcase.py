"""The demo: a made-up shop's raw log, and then only what a user would do with the public commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from valuerec import shop
from valuerec.errors import ValuerecError
from valuerec.folders import check_unused, explained_io, read_json

METHODS = ("supervised", "vpq")
_LIVE = {
    "after a good": ["hiking-good-00", "hiking-good-01"],
    "after a lure": ["coffee-good-03", "coffee-lure-00"],
    "new visitor": [],
    "unknown item": ["hiking-good-00", "no-such-item"],
}


def demo(out: str | Path = "demo", *, sessions: int = 30_000, seed: int = 0) -> None:
    """Write a raw log to a file, prepare it, train two recommenders, score both, and recommend with both.

    Args:
        out: the folder for all of it.
        sessions: visits in the log.
        seed: of the log and of training.

    Raises:
        UsageError: where the folder is in use.
    """
    folder = Path(out)
    with explained_io(f"Writing {folder}"):
        check_unused(folder)
        folder.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    log, data, live = folder / "log.csv", folder / "data", folder / "sessions.jsonl"
    rows = shop.write_log(log, sessions, seed)
    console.print(
        f"A made-up shop: {sessions} visits, {rows} events in {log}. Each of its {len(shop.DEPARTMENTS)} departments "
        f"has {shop.GOODS} goods, which people come back from and buy, and {shop.LURES} lures, which draw clicks and "
        "end visits (src/valuerec/shop.py says how).",
        soft_wrap=True,
    )
    pairs = "session=session,item=item,time=time,event=event"
    _command(console, f"prepare {log} --format events --columns {pairs} --out {data} --seed {seed}")
    for method in METHODS:
        _command(
            console, f"train {data} --method {method} --out {folder / method} --seed {seed} --epochs 8 --patience 2"
        )
    for method in METHODS:
        _command(console, f"evaluate {folder / method}")
    with explained_io(f"Writing {live}"):
        lines = (json.dumps({"session": name, "items": items}) for name, items in _LIVE.items())
        live.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for method in METHODS:
        answers = folder / f"{method}.jsonl"
        _command(console, f"recommend {folder / method} --sessions {live} --k 10 --out {answers} --exclude-seen")
    _show(console, folder)


def _command(console: Console, line: str) -> None:
    """Show a command and run it, as typed."""
    from valuerec import cli

    console.print(f"\n[bold]$ valuerec {line}[/bold]", soft_wrap=True)
    if code := cli.run(shlex.split(line)):
        raise ValuerecError(f"The demo stopped: `valuerec {line}` ended with exit code {code}; see the line above.")


def _show(console: Console, folder: Path) -> None:
    """What came out, side by side."""
    scores = Table("held-out sessions (test)", *METHODS, title="\nWhat they score")
    metrics = {method: read_json(folder / method / "metrics.json")["test"] for method in METHODS}
    for kind in ("purchase", "click"):
        for name in ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20"):
            values = [metrics[method][kind][name] for method in METHODS]
            scores.add_row(f"{kind} {name}", *("–" if value is None else f"{value:.4f}" for value in values))
    console.print(scores)
    answers = {method: _read_answers(folder / f"{method}.jsonl") for method in METHODS}
    for session, items in _LIVE.items():
        table = Table(
            "", "supervised", "vpq", "value ± uncertainty", title=f"\n{session}: {', '.join(items) or 'nothing yet'}"
        )
        plain, valued = answers["supervised"][session], answers["vpq"][session]
        for rank, (left, right) in enumerate(zip(plain, valued, strict=True), start=1):
            sure = f"{right['value']:.3f} ± {right['uncertainty']:.3f}"
            table.add_row(
                str(rank), f"{left['id']} ({left['score']:.3f})", f"{right['id']} ({right['score']:.3f})", sure
            )
        console.print(table)
    truth = shop.value_of_kind(discount=0.5)
    learned = {kind: _mean_value(answers["vpq"], kind) for kind in truth}
    known = ", ".join(f"{kind} {value:.3f}" for kind, value in truth.items())
    seen = ", ".join(f"{kind} {'none shown' if value is None else f'{value:.3f}'}" for kind, value in learned.items())
    console.print(
        f"\nIn brackets: the probability of being the next item. Value: reward expected from that click on, later "
        f"rewards discounted by ½; by construction, for visitors as they are: {known}; the mean that VPQ gives the "
        f"items above: {seen}. One log, one seed: a demonstration, no evidence; RESULTS.md has the real logs.",
        soft_wrap=True,
    )


def _read_answers(path: Path) -> dict[str, list[dict[str, float]]]:
    with explained_io(f"Reading {path}"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["session"]: line["items"] for line in lines}


def _mean_value(answers: dict[str, list[dict[str, float]]], kind: str) -> float | None:
    values = [item["value"] for items in answers.values() for item in items if f"-{kind}-" in str(item["id"])]
    return sum(values) / len(values) if values else None
