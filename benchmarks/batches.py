"""Transitions a second on one core, beside a plain Python loop over the same rows.

python benchmarks/batches.py [--events 30000000] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from provenance import provenance
from valuerec.dataset import Dataset
from valuerec.folders import write_manifest
from valuerec.training.order import BatchOrder

BATCH, WINDOW = 256, 10


def write_dataset(folder: Path, events: int, items: int = 50_000) -> Dataset:
    """A dataset of random sessions, all in the training split, in the layout of `prepare`."""
    draw = np.random.default_rng(0)
    lengths = draw.geometric(0.25, events // 4) + 2
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(offset[-1])
    arrays = {
        "item": draw.integers(0, items, total).astype(np.int32),
        "event": (draw.random(total) < 0.05).astype(np.uint8),
        "offset": offset,
    }
    save_file(arrays, folder / "arrays.safetensors")
    pq.write_table(pa.table({"item": ["unused"]}), folder / "items.parquet")
    counts = {"sessions": len(lengths), "items": items, "events": total}
    splits = {"train": {"events": total}, "validation": {"events": 0}, "test": {"events": 0}}
    write_manifest(folder, "dataset", 1, {"counts": counts, "splits": splits, "fingerprint": "benchmark"})
    return Dataset(folder)


def plain(dataset: Dataset, numbers: np.ndarray) -> None:
    """The same rows by lists, as a reader would write it first."""
    items, offset = dataset.item_E, dataset.offset_S
    for number in numbers:
        session = int(np.searchsorted(offset, number, side="right")) - 1
        start, stop = int(offset[session]), int(offset[session + 1])
        state = list(items[max(start, number - WINDOW) : number])
        following = list(items[max(start, number + 1 - WINDOW) : number + 1])
        _ = (state, len(state), items[number], following, len(following), number == stop - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=30_000_000)
    parser.add_argument("--batches", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder), options.events)
        order = BatchOrder(dataset.events_of("train"), BATCH, seed=0)
        order(0)  # draws the epoch's order, once an epoch
        start = time.perf_counter()
        for step in range(options.batches):
            dataset.transitions(order(step), WINDOW)
        ours = options.batches * BATCH / (time.perf_counter() - start)
        start = time.perf_counter()
        for step in range(options.batches // 100):
            plain(dataset, order(step))
        loop = options.batches // 100 * BATCH / (time.perf_counter() - start)
    answer = {"events": len(dataset.item_E), "transitions_per_s": ours, "plain_loop_per_s": loop, "ratio": ours / loop}
    if options.json:
        print(json.dumps(answer | provenance(), indent=2))
    else:
        print(f"{ours:,.0f} transitions/s on one core, {ours / loop:.0f}x a plain loop's {loop:,.0f}, "
              f"of {answer['events']:,} events")  # fmt: skip


if __name__ == "__main__":
    main()
