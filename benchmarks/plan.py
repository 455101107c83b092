"""What `valuerec plan` predicts beside what then happens: peak memory and seconds a step.

    python benchmarks/plan.py [--items 11811 70852] [--backbones sasrec] [--steps 400] [--json]

Each size: a made-up log, `valuerec plan` in a process of its own, then training of that many steps with one validation,
in another. The step time is the median between two logged lines of metrics.jsonl after the first 200 steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from made_up_log import write_dataset
from provenance import provenance

VALUEREC = str(Path(sys.executable).with_name("valuerec"))


def compare(items: int, backbone: str, method: str, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        data.mkdir()
        write_dataset(data, items)
        chosen = ["--backbone", backbone, "--method", method]
        asked = [VALUEREC, "plan", str(data), *chosen, "--json"]
        planned = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
        command = [VALUEREC, "train", str(data), *chosen, "--out", str(run), "--max-steps", str(steps)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"training at {items} items ended with status {status}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if "seconds" in line and line["step"] > min(200, steps // 2)]
        between = [
            (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
            for before, after in itertools.pairwise(lines)
        ]
    peak, step = usage.ru_maxrss * 1024, statistics.median(between)
    return {
        "items": items,
        "backbone": backbone,
        "method": method,
        "planned_peak_gb": planned["peak_bytes"] / 1e9,
        "peak_gb": peak / 1e9,
        "peak_ratio": planned["peak_bytes"] / peak,
        "planned_step_s": planned["step_seconds"],
        "step_s": step,
        "step_ratio": planned["step_seconds"] / step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[11_811, 70_852])
    parser.add_argument("--backbones", nargs="+", default=["sasrec"])
    parser.add_argument("--methods", nargs="+", default=["supervised", "vpq"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for items, backbone, method in itertools.product(options.items, options.backbones, options.methods):
        row = compare(items, backbone, method, options.steps)
        if options.json:
            print(json.dumps(row | provenance()), flush=True)
        else:
            print(
                f"{items:>9,} {backbone:<9} {method:<10} peak {row['planned_peak_gb']:.2f} GB planned, "
                f"{row['peak_gb']:.2f} GB ({row['peak_ratio']:.2f}); step {row['planned_step_s']:.4f} s planned, "
                f"{row['step_s']:.4f} s ({row['step_ratio']:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
