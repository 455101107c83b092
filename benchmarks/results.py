"""The table of methods on a real log, cell by cell, and RESULTS.md (render.py) after it.

    python benchmarks/results.py --data DATASET --name yoochoose-1pct --methods supervised vpq --seeds 3

A cell is a run: backbone, method, seed. Cells that results/NAME/table1.json holds already are not run again, and each
is written as soon as it is finished, so the work can be stopped and taken up at any time. Every method gets the same
learning rate, batch, epochs and patience; weights are chosen on validation; test is read once, at the end of the run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import valuerec as vr
from render import RESULTS, ROOT, render
from valuerec.folders import read_json, write_json
from valuerec.methods import method_named


def run_cells(data: Path, name: str, methods: list[str], seeds: int) -> None:
    """Run the missing cells, seed by seed, so that an unfinished table is a table of fewer seeds."""
    path = RESULTS / name / "table1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    done = {(cell["method"], cell["seed"]) for cell in cells}
    for seed in range(seeds):
        for method in methods:
            if (method, seed) not in done:
                cells.append(run_cell(data, method, seed))
                write_json(path, cells)


def run_cell(data: Path, method: str, seed: int) -> dict[str, Any]:
    """Train one run in a temporary folder and keep its figures."""
    with tempfile.TemporaryDirectory() as folder:
        run = vr.train(data, out=Path(folder) / "run", method=method_named(method)(), seed=seed)
        told = vr.info(run)
    metrics = told["metrics"]
    return {
        "backbone": told["config"]["backbone"]["name"],
        "method": method,
        "protocol": "ours",
        "seed": seed,
        "options": told["config"]["method"] | told["config"]["training"],
        "dataset": told["config"]["dataset"]["fingerprint"],
        "test": metrics["test"],
        "validation": metrics["validation"],
        "steps": metrics["steps"],
        "best_step": metrics["selection"]["step"],
        "seconds": metrics["seconds"],
        "commit": told["environment"]["commit"],
        "device": told["environment"]["device"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the dataset that `valuerec prepare` made")
    parser.add_argument("--name", default="yoochoose-1pct")
    parser.add_argument("--methods", nargs="+", default=["supervised", "vpq"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    run_cells(options.data, options.name, options.methods, options.seeds)
    (ROOT / "RESULTS.md").write_text(render(), encoding="utf-8")
    print(json.dumps({"written": "RESULTS.md"}))


if __name__ == "__main__":
    main()
