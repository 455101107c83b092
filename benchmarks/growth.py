"""What an earlier run's weights are worth on a later log with other items: `train --from` beside training anew.

    python benchmarks/growth.py CLICKS BUYS [--methods supervised vpq] [--epochs 2] [--steps 600] [--every 100] [--json]

The Yoochoose log is cut by the time that sessions end: the earlier dataset is the first three quarters of the sessions,
the later one the last three quarters, each split by time, so that validation is later than all that either learned
from. One run learns the earlier one; then two runs learn the later one, equal but for `start`. Told are the validation
scores by step, the first evaluation before any step, the first step that is as good as the best one of training anew,
and HR@20 of validation clicks of items that stayed and of new ones, before any step and at the best step.
"""

from __future__ import annotations

import argparse
import json
import lzma
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import valuerec as vr
from provenance import provenance
from valuerec.dataset import CLICK
from valuerec.evaluation import ranks
from valuerec.model import load_weights
from valuerec.training import TrainConfig
from valuerec.training.growth import Growth
from valuerec.training.learners import fresh_network

METHODS = {"supervised": vr.Supervised, "vpq": vr.VPQ}
SHARE = 0.75  # of the sessions in each of the two logs


def cut(clicks: Path, buys: Path, folder: Path) -> dict[str, list[Path]]:
    """Write the earlier and the later log, each its clicks and buys."""
    with lzma.open(clicks, "rt") as click_file, lzma.open(buys, "rt") as buy_file:
        rows = {"clicks": click_file.readlines(), "buys": buy_file.readlines()}
    end: dict[str, str] = {}
    for line in rows["clicks"]:
        session, time, _ = line.split(",", 2)
        end[session] = max(time, end.get(session, ""))
    order = sorted(end, key=lambda session: (end[session], session))
    count = round(SHARE * len(order))
    logs = {}
    for name, chosen in (("earlier", set(order[:count])), ("later", set(order[-count:]))):
        logs[name] = [folder / f"{name}-{kind}.dat" for kind in rows]
        for kind, path in zip(rows, logs[name], strict=True):
            path.write_text("".join(line for line in rows[kind] if line.split(",", 1)[0] in chosen))
    return logs


def curve(run: Path) -> list[tuple[int, float]]:
    """Validation scores by step."""
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], round(line["score"], 4)) for line in lines if "score" in line]


def hits(network: Any, data: vr.Dataset, new_N: Any) -> dict[str, float]:
    """HR@20 of validation clicks, of items that stayed and of new ones, and their share of the clicks."""
    events = slice(data.events_of("validation").start, data.events_of("validation").stop)
    clicked = data.event_E[events] == CLICK
    new_E = new_N[data.item_E[events]][clicked]
    hit_E = (ranks(network, data, "validation", torch.device("cpu")) <= 20)[clicked]
    shares = {"stayed": hit_E[~new_E].mean(), "new": hit_E[new_E].mean(), "share_of_new": new_E.mean()}
    return {name: round(float(value), 4) for name, value in shares.items()}


def compare(
    method: str, earlier: vr.Dataset, later: vr.Dataset, folder: Path, given: argparse.Namespace
) -> dict[str, Any]:
    options: dict[str, Any] = {"method": METHODS[method](), "quiet": True}
    begun = vr.train(earlier, out=folder / f"{method}-earlier", epochs=given.epochs, patience=1, **options)
    options |= {"max_steps": given.steps, "validate_every": given.every, "patience": given.steps, "epochs": given.steps}
    anew = vr.train(later, out=folder / f"{method}-anew", **options)
    grown = vr.train(later, out=folder / f"{method}-grown", start=begun, **options)
    network = fresh_network(TrainConfig(method=METHODS[method]()), later.n_items, torch.device("cpu"))
    growth = Growth(begun, TrainConfig(method=METHODS[method]()), later, network)
    network.load_state_dict(growth.weights(network))
    new_N = ~np.isin(np.array(later.item_ids), np.array(earlier.item_ids))
    first = hits(network, later, new_N)
    best = {}
    for name, run in (("anew", anew), ("from", grown)):
        load_weights(network, run / vr.info(run)["weights"])
        best[name] = hits(network, later, new_N)
    best_anew = max(score for _, score in curve(anew))
    return {
        "items": growth.record["items"],
        "steps_of_earlier_run": vr.info(begun)["metrics"]["selection"]["step"],
        "score_before_any_step": curve(grown)[0][1],
        "best_score_anew": best_anew,
        "best_score_from": max(score for _, score in curve(grown)),
        "step_of_best_anew": next(step for step, score in curve(anew) if score == best_anew),
        "first_step_from_as_good": next((step for step, score in curve(grown) if score >= best_anew), None),
        "test_ndcg@20": {
            name: {kind: vr.info(run)["metrics"]["test"][kind]["ndcg@20"] for kind in ("purchase", "click")}
            for name, run in (("anew", anew), ("from", grown))
        },
        "click_hr@20": {"before any step": first} | {f"best, {name}": value for name, value in best.items()},
        "curve_anew": curve(anew),
        "curve_from": curve(grown),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clicks", type=Path)
    parser.add_argument("buys", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--epochs", type=int, default=2, help="of the earlier run, at most")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logs = cut(options.clicks, options.buys, folder)
        earlier, later = (
            vr.prepare(logs[name], format="yoochoose", out=folder / name, split="temporal") for name in logs
        )
        found = {method: compare(method, earlier, later, folder, options) for method in options.methods}
    told = {"seed": 0, **provenance(), "methods": found}
    if options.json:
        print(json.dumps(told, indent=2))
        return
    for method, figures in found.items():
        print(f"{method}: {figures.pop('items')}")
        for name, value in figures.items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
