"""The table of methods on a real log, cell by cell, and RESULTS.md made of what is committed in results/.

    python benchmarks/results.py --data DATASET --name yoochoose-1pct --methods supervised vpq --seeds 3
    python benchmarks/results.py --render

A cell is a run: backbone, method, seed. Cells that results/NAME/table1.json holds already are not run again, and each
is written as soon as it is finished, so the work can be stopped and taken up at any time. Every method gets the same
learning rate, batch, epochs and patience; weights are chosen on validation; test is read once, at the end of the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import valuerec as vr
from valuerec.folders import read_json, write_json
from valuerec.methods import method_named

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
SHOWN = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20")


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


def table(cells: list[dict[str, Any]], split: str) -> list[str]:
    """A Markdown table: mean ± standard deviation over seeds."""
    kinds = ("purchase", "click")
    lines = [
        "| method | seeds | " + " | ".join(f"{kind} {name}" for kind in kinds for name in ("hr@20", "ndcg@20")) + " |",
        "|---" * 6 + "|",
    ]
    for method in dict.fromkeys(cell["method"] for cell in cells):
        own = [cell for cell in cells if cell["method"] == method]
        values = [spread([cell[split][kind][name] for cell in own]) for kind in kinds for name in ("hr@20", "ndcg@20")]
        lines.append(f"| {own[0]['backbone']}-{method} | {len(own)} | " + " | ".join(values) + " |")
    return lines


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def every_cell(cells: list[dict[str, Any]]) -> list[str]:
    """Each run by itself: what it scored on test, when, and what it took."""
    lines = [
        "| method | seed | " + " | ".join(f"{kind} {name}" for kind in ("purchase", "click") for name in SHOWN)
        + " | best step | steps | seconds | commit |",
        "|---" * (2 + 2 * len(SHOWN) + 4) + "|",
    ]  # fmt: skip
    for cell in cells:
        figures = [f"{cell['test'][kind][name]:.4f}" for kind in ("purchase", "click") for name in SHOWN]
        rest = [cell["best_step"], cell["steps"], round(cell["seconds"]), cell["commit"]]
        lines.append("| " + " | ".join(map(str, [cell["method"], cell["seed"], *figures, *rest])) + " |")
    return lines


def step_tables(rows: list[dict[str, Any]]) -> list[str]:
    """A table for each file that `benchmarks/step.py --save` wrote: seconds (GB) a kind of step, and the ratios."""
    kinds = [name.removesuffix("_peak_gb") for name in rows[0] if name.endswith("_peak_gb")]
    ratios = [name for name in rows[0] if "_over_" in name]
    head = [*kinds, *(name.replace("_over_", " / ") for name in ratios)]
    lines = ["| items | weights | " + " | ".join(head) + " |", "|---" * (2 + len(head)) + "|"]
    for row in rows:
        for weights, figures in ((row["weights"], row), ("fresh", row.get("fresh"))):
            if figures is not None:
                cells = [step_cell(figures, kind) for kind in kinds]
                cells += ["–" if figures[name] is None else f"{figures[name]:.2f}" for name in ratios]
                lines.append(f"| {row['items']:,} | {weights} | " + " | ".join(cells) + " |")
    where = f"{rows[0]['device']}, {rows[0]['threads']} threads, engine {rows[0]['engine']}, commit {rows[0]['commit']}"
    return [f"Median seconds a step (peak GB); {where}:", "", *lines, ""]


def step_cell(figures: dict[str, Any], kind: str) -> str:
    """Seconds and gigabytes, or what it would have needed."""
    if figures[f"{kind}_s"] is None:
        needs = figures.get(f"{kind}_needs_gb")
        return "does not fit" + ("" if needs is None else f" ({needs:.0f} GB)")
    return f"{figures[f'{kind}_s']:.4f} ({figures[f'{kind}_peak_gb']:.2f})"


def render() -> str:
    """RESULTS.md: prose from results/*.md, figures from results/*/table1.json and results/speed/step*.json."""
    lines = [(RESULTS / "introduction.md").read_text(encoding="utf-8").rstrip(), ""]
    for path in sorted(RESULTS.glob("*/table1.json")):
        cells = read_json(path)
        name = path.parent.name
        lines += [f"## {name}", "", "Test, mean ± standard deviation over seeds:", "", *table(cells, "test"), ""]
        lines += ["Validation, of the same weights:", "", *table(cells, "validation"), ""]
        for note in sorted(path.parent.glob("*.md")):
            lines += [note.read_text(encoding="utf-8").rstrip(), ""]
        lines += ["<details><summary>Every run, test</summary>", "", *every_cell(cells), "", "</details>", ""]
    lines += [(RESULTS / "speed.md").read_text(encoding="utf-8").rstrip(), ""]
    for path in sorted((RESULTS / "speed").glob("step*.json")):
        lines += [f"### A training step ({path.stem})", "", *step_tables(read_json(path))]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--name", default="yoochoose-1pct")
    parser.add_argument("--methods", nargs="+", default=["supervised", "vpq"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--render", action="store_true", help="only write RESULTS.md from results/")
    options = parser.parse_args()
    if not options.render:
        if options.data is None:
            parser.error("--data is needed, the dataset that `valuerec prepare` made")
        run_cells(options.data, options.name, options.methods, options.seeds)
    (ROOT / "RESULTS.md").write_text(render(), encoding="utf-8")
    print(json.dumps({"written": "RESULTS.md"}))


if __name__ == "__main__":
    main()
