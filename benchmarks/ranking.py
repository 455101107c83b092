"""Ranks of held-out events over a whole catalogue, beside the bare matrix product; and exact top-k beside it too.

    python benchmarks/ranking.py [--items 70852] [--events 100000] [--json]

Ranks: states, scores, counting, all that `evaluate` does, against `torch.mm` of the same states and item weights into a
buffer that is used again. Top-20: for batches of 256 and for one session at a time, against their product. In turn, and
the median over repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from batches import write_dataset
from provenance import provenance
from valuerec import ops
from valuerec.backbones import SASRec
from valuerec.evaluation import ranks
from valuerec.network import Network

WIDTH, K = 64, 20


def seconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turn."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in took.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=70_852)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder), options.events, options.items)
        engine = ops.choose_engine("auto", torch.device("cpu"))
        network = Network(SASRec(width=WIDTH), options.items, 10, 0, engine=engine).eval()
        head, count = network.item_head, len(dataset.item_E)
        state_ED = torch.randn(count, WIDTH)
        buffer = torch.empty(1024, options.items)

        def product(batch: int = 1024) -> None:
            for start in range(0, count, batch):
                part = state_ED[start : start + batch]
                torch.mm(part, head.weight_ND.t(), out=buffer[: len(part)])

        found = seconds(
            {"product": product, "ranks": lambda: ranks(network, dataset, "train", torch.device("cpu"))},
            options.repeats,
        )
    for batch in (256, 1):
        states = state_ED[:batch]
        found |= seconds(
            {
                f"product of {batch}": lambda part=states: torch.mm(part, head.weight_ND.t(), out=buffer[: len(part)]),
                f"top of {batch}": lambda part=states: ops.top(head(part).softmax(dim=1), K),
            },
            20,
        )
    answer = {
        "items": options.items,
        "events": count,
        "threads": torch.get_num_threads(),
        "engine": engine,
        "seconds": found,
        "ranks_by_product": found["ranks"] / found["product"],
        "top_256_by_product": found["top of 256"] / found["product of 256"],
        "top_1_by_product": found["top of 1"] / found["product of 1"],
    }
    if options.json:
        print(json.dumps(answer | provenance(), indent=2))
    else:
        print(
            f"Ranks of {count:,} events over {options.items:,} items: {found['ranks']:.1f} s, "
            f"{answer['ranks_by_product']:.2f} × the bare product's {found['product']:.1f} s; exact top-{K}: "
            f"{found['top of 256'] * 1e3:.1f} ms for 256 sessions, {found['top of 1'] * 1e3:.2f} ms for one"
        )


if __name__ == "__main__":
    main()
