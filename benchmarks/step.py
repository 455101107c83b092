"""Seconds and memory of one training step: the released step's port, the textbook step, and every method of ours.

    python benchmarks/step.py [--items 26702 ... | --all | --data DATASET] [--json] [--plot FILE.png] [--save FILE]

SASRec, B 256, D 64, L 10, K 15. For each catalogue size a made-up log is written (made_up_log.py; `--data` takes a
real dataset instead), then each kind is measured in a process of its own, in turn (measure_step.py):

    port, port_lean            the released two-network VPQ step in plain PyTorch, and without what it need not compute
    textbook, textbook_fused   dense cross-entropy and dense Adam: PyTorch as it is by default; with its fused Adam, and
                               with freed memory kept, as our own steps keep it
    supervised, vpq, ...       ours, through Trainer: supervised and every method with several heads

Ours are timed with fresh weights and with trained ones, after `--warm` real steps; the cost of the others does not
depend on the weights. `--json` prints one object a catalogue size, a line each: the figures with trained weights, and
under `fresh` those with fresh ones. NAME_s is the median, NAME_mean_s the mean (one step in a hundred copies the
target), NAME_peak_gb the process's peak memory. What does not fit is null and its need in NAME_needs_gb.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from valuerec.dataset import Dataset
from valuerec.folders import write_json
from valuerec.methods import METHODS
from valuerec.training.run import commit

HERE = Path(__file__).parent
SIZES = [11_811, 26_702, 70_852]
LARGEST = 1_000_000
PLAIN = ["port", "port_lean", "textbook", "textbook_fused"]
RATIOS = {
    "vpq_over_textbook": ("vpq", "textbook"),
    "vpq_over_textbook_fused": ("vpq", "textbook_fused"),
    "port_over_vpq": ("port", "vpq"),
    "port_lean_over_vpq": ("port_lean", "vpq"),
    "supervised_over_textbook": ("supervised", "textbook"),
    "supervised_over_textbook_fused": ("supervised", "textbook_fused"),
    "vpq_over_supervised": ("vpq", "supervised"),
}


def our_kinds() -> list[str]:
    """Supervised, VPQ and every other method with several heads."""
    ensembles = [name for name, method in METHODS.items() if method().n_heads > 1]
    return list(dict.fromkeys(["supervised", "vpq", *ensembles]))


def measure_size(data: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Every kind on one dataset: the JSON object of its size."""
    items = Dataset(data).n_items
    warm = options.warm if options.warm is not None else 2000 if items < LARGEST else 500
    told: dict[str, dict[str, Any]] = {}
    for kind in [*PLAIN, *(options.methods or our_kinds())]:
        console.print(f"{items:,} items: {kind}", highlight=False)
        told[kind] = measure(kind, data, *effort(kind, options, warm), options)
    general = next(answer for answer in told.values() if "threads" in answer)
    row: dict[str, Any] = {"items": items, "weights": "trained" if warm else "fresh", "warm_steps": warm}
    row |= figures(told, row["weights"])
    if warm:
        row["fresh"] = figures(told, "fresh")
    row |= {name: general[name] for name in ("threads", "device", "torch")} | {"commit": commit()}
    row["engine"] = next((answer["engine"] for answer in told.values() if "engine" in answer), None)
    row["log"] = {kind: answer["log"] for kind, answer in told.items() if "log" in answer}
    row["data"] = str(options.data) if options.data else "made up"
    return row


def effort(kind: str, options: argparse.Namespace, warm: int) -> tuple[int, int]:
    """How many steps to time, and how many to make before the weights count as trained (0: fresh only)."""
    if kind.startswith("port"):
        return options.port_steps, 0
    return (min(options.steps, 30), 0) if kind in PLAIN else (options.steps, warm)


def measure(kind: str, data: Path, steps: int, warm: int, options: argparse.Namespace) -> dict[str, Any]:
    """One kind in a process of its own."""
    command = [sys.executable, str(HERE / "measure_step.py"), kind, str(data)]
    command += ["--steps", str(steps), "--warm", str(warm), "--device", options.device]
    if options.engine:
        command += ["--engine", options.engine]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == -9:
        return {"killed": "out of memory"}
    if done.returncode:
        sys.exit(f"measuring {kind} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def figures(told: dict[str, dict[str, Any]], weights: str) -> dict[str, Any]:
    """NAME_s, NAME_mean_s and NAME_peak_gb of every kind, and the ratios, for weights fresh or trained."""
    values: dict[str, Any] = {}
    for kind, answer in told.items():
        own = answer.get(weights) or answer.get("fresh") or {}
        values |= {f"{kind}_{name}": own.get(name) for name in ("s", "mean_s", "peak_gb")}
        if "needs_gb" in answer:
            values[f"{kind}_needs_gb"] = answer["needs_gb"]
    for name, (above, below) in RATIOS.items():
        seconds = values.get(f"{above}_s"), values.get(f"{below}_s")
        values[name] = seconds[0] / seconds[1] if all(seconds) else None
    return values


def table(row: dict[str, Any]) -> Table:
    """A size's figures for a person to read."""
    fresh = row.get("fresh", row)
    kinds = [name.removesuffix("_peak_gb") for name in row if name.endswith("_peak_gb")]
    title = f"{row['items']:,} items, {row['threads']} threads, {row['device']}, commit {row['commit']}"
    shown = Table("step", "fresh s", f"{row['weights']} s", "mean s", "peak GB", title=title)
    for kind in kinds:
        needs = row.get(f"{kind}_needs_gb")
        if row[f"{kind}_s"] is None:
            need = "" if needs is None else f": needs {needs:.0f} GB"
            shown.add_row(kind, f"does not fit{need}", "", "", "")
            continue
        seconds = (fresh[f"{kind}_s"], row[f"{kind}_s"], row[f"{kind}_mean_s"])
        shown.add_row(kind, *(f"{value:.4f}" for value in seconds), f"{row[f'{kind}_peak_gb']:.2f}")
    shown.add_section()
    for name in RATIOS:
        values = (fresh[name], row[name])
        shown.add_row(name.replace("_over_", " / "), *("–" if value is None else f"{value:.2f}" for value in values))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--items", type=int, nargs="+", default=SIZES, help="catalogue sizes")
    sizes.add_argument("--all", action="store_true", help=f"these and {LARGEST:,} items")
    sizes.add_argument("--data", type=Path, help="a dataset that `valuerec prepare` made")
    parser.add_argument("--methods", nargs="+", help="of ours; by default supervised and all ensembles")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of ours; the textbook at most 30")
    parser.add_argument("--port-steps", type=int, default=5, help="timed steps of the port")
    parser.add_argument("--warm", type=int, help="steps that make weights trained (2000, or 500 at a million items)")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--engine", help="of ours; by default what training chooses")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=Path, help="write the JSON there as well")
    parser.add_argument("--plot", type=Path, help="draw the figures there")
    options = parser.parse_args()
    progress = Console(stderr=True)
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'valuerec[report]'")
    if os.getloadavg()[0] > 0.5:
        progress.print(f"Others use this machine (load {os.getloadavg()[0]:.1f}): these figures will say little.")
    rows = []
    for items in [None] if options.data else [*SIZES, LARGEST] if options.all else options.items:
        with tempfile.TemporaryDirectory(prefix="valuerec-step-") as folder:
            data = options.data or Path(folder)
            if items is not None:
                subprocess.run([sys.executable, str(HERE / "made_up_log.py"), str(items), folder], check=True)
            rows.append(measure_size(data, options, progress))
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
        else:
            Console().print(table(rows[-1]))
        if options.save:
            options.save.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.save, rows)
    if options.plot:
        from plot_step import plot

        plot(rows, options.plot)


if __name__ == "__main__":
    main()
