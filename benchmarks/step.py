"""One training step, fresh weights: seconds, peak memory, and what the fast parts save over the plain ones.

    python benchmarks/step.py [--items 26702 ...] [--steps 20] [--json]

Each measurement runs in a process of its own, in turn: supervised, VPQ, and VPQ with the plain references in place of
the tiled maximum and the fused cross-entropy. SASRec, B 256, D 64, K 15, random histories.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from valuerec import ops
from valuerec.backbones import SASRec
from valuerec.methods import VPQ, Batch, Supervised
from valuerec.methods import base as methods_base
from valuerec.network import Network, Target
from valuerec.training.optimiser import Optimiser

BATCH, WINDOW = 256, 10
KINDS = ("supervised", "vpq", "vpq plain")


def measure(kind: str, items: int, steps: int) -> dict[str, Any]:
    """Median seconds of a step and the peak memory of this process."""
    method = Supervised() if kind == "supervised" else VPQ()
    if kind == "vpq plain":
        ops.maximum, ops.weighted_cross_entropy = ops.plain_maximum, ops.plain_weighted_cross_entropy
        assert methods_base.ops is ops
    torch.manual_seed(0)
    network = Network(SASRec(), items, WINDOW, method.n_heads)
    target = Target(network) if method.n_heads else None
    optimiser = Optimiser(network, 0.005)
    seconds = []
    for _ in range(steps + 3):
        batch = random_batch(items)
        start = time.perf_counter()
        optimiser.step(method.losses(network, target, batch).total)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"kind": kind, "items": items, "seconds": statistics.median(seconds[3:]), "peak_gb": peak}


def random_batch(items: int) -> Batch:
    """Full histories of random items."""
    state_BL, next_state_BL = (torch.randint(0, items, (BATCH, WINDOW), dtype=torch.int32) for _ in range(2))
    length_B = torch.full((BATCH,), WINDOW, dtype=torch.int32)
    action_B = torch.randint(0, items, (BATCH,))
    done_B = torch.rand(BATCH) < 0.2
    return Batch(state_BL, length_B, action_B, torch.full((BATCH,), 0.2), next_state_BL, length_B, done_B)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[11_811, 26_702])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=KINDS, help="measure one in this process (used by the above)")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.items[0], options.steps)))
        return
    rows = []
    for items in options.items:
        for kind in KINDS:
            command = [sys.executable, __file__, "--only", kind, "--items", str(items), "--steps", str(options.steps)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("items", "step", "median s", "peak GB", "× supervised", title=f"{torch.get_num_threads()} threads")
    base = {row["items"]: row["seconds"] for row in rows if row["kind"] == "supervised"}
    for row in rows:
        ratio = row["seconds"] / base[row["items"]]
        table.add_row(
            f"{row['items']:,}", row["kind"], f"{row['seconds']:.4f}", f"{row['peak_gb']:.2f}", f"{ratio:.1f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
