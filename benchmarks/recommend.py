"""Recommending for a large file: sessions a second, and memory that does not grow with the file.

    python benchmarks/recommend.py [--sessions 1000000] [--format jsonl] [--items 10000] [--json]
    python benchmarks/recommend.py --model runs/vpq --data data/shop

A made-up SASRec-VPQ and made-up sessions, or a trained RUN and its dataset's sessions, over and over.
`valuerec.recommend` to Parquet in a process of its own, first for a tenth of the sessions, then for all: wall-clock
rate, rate while ranking, peak RSS of both. Beside it, in turn within one process and by one thread, the plain path
(`Model.answers`, a Python object an item) and the fast one (`bulk.columns.rank`), without files, for `--compared`
sessions.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import valuerec as vr
from provenance import print_figures
from serving_tools import made_up_run, sessions_of
from valuerec.bulk.columns import Known, rank
from valuerec.dataset import Dataset

K = 20


def sessions_of_dataset(path: Path) -> Iterator[list[str]]:
    """A dataset's sessions without end, from the second round on cut at a random place."""
    dataset, draw = Dataset(path), random.Random(0)
    ids = pq.read_table(path / "items.parquet")["item"].to_pylist()
    bounds = list(zip(dataset.offset_S[:-1].tolist(), dataset.offset_S[1:].tolist(), strict=True))
    again = False
    while True:
        for start, stop in bounds:
            stop = draw.randrange(start, stop) if again else stop
            yield [ids[item] for item in dataset.item_E[start:stop].tolist()]
        again = True


def write_sessions(path: Path, sessions: Iterator[list[str]], count: int) -> None:
    """A file of sessions, a block at a time: JSON lines, CSV with a row an event, or Parquet with a list a row."""
    numbered = enumerate(islice(sessions, count))
    if path.suffix == ".parquet":
        schema = pa.schema([("session", pa.string()), ("items", pa.list_(pa.string()))])
        with pq.ParquetWriter(path, schema) as writer:
            while block := list(islice(numbered, 10_000)):
                columns = {"session": [f"s{name}" for name, _ in block], "items": [items for _, items in block]}
                writer.write_table(pa.table(columns, schema=schema))
        return
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("session,item\n")
        for name, items in numbered:
            if path.suffix == ".csv":
                file.writelines(f"s{name},{item}\n" for item in items or [""])
            else:
                file.write(json.dumps({"session": f"s{name}", "items": items}) + "\n")


def one(model: Path, source: Path, out: Path) -> dict[str, Any]:
    """Recommend for one file, in this process."""
    marks: list[tuple[int, float]] = []
    began = time.perf_counter()
    done = vr.recommend(model, source, out=out, k=K, progress=lambda n, total: marks.append((n, time.perf_counter())))
    ended = time.perf_counter()
    return {
        "sessions": done.sessions,
        "seconds": ended - began,
        "seconds_before_ranking": marks[0][1] - began,
        "seconds_ranking": marks[-1][1] - marks[0][1],
        "seconds_after_ranking": ended - marks[-1][1],
        "output_megabytes": out.stat().st_size / 1e6,
        "peak_rss_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def in_a_process(model: Path, source: Path, out: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    line = [sys.executable, __file__, "--one", str(model), str(source), str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def compared(path: Path, sessions: list[list[str]], repeats: int = 3) -> dict[str, float]:
    """Sessions a second of the plain and the fast path, in turn, one thread each; the medians and their ratio."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = vr.load(path)
    lists = [[model.index[item] for item in items if item in model.index] for items in sessions]
    item_E = np.array([item for items in lists for item in items], dtype=np.int32)
    known = Known(item_E, np.cumsum([0, *(len(items) for items in lists)]))
    rates: dict[str, list[float]] = {"plain": [], "fast": []}
    for _ in range(repeats + 1):
        began = time.perf_counter()
        model.recommend(sessions, K)
        between = time.perf_counter()
        for part in known.split(model.batch):
            rank(model, part, K, exclude_seen=False)
        rates["plain"].append(len(sessions) / (between - began))
        rates["fast"].append(len(sessions) / (time.perf_counter() - between))
    torch.set_num_threads(threads)
    plain, fast = (statistics.median(values[1:]) for values in rates.values())
    return {"plain_sessions_per_second": plain, "fast_sessions_per_second": fast, "fast_by_plain": fast / plain}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="valuerec-recommend-") as name:
        folder = Path(name)
        model = options.model or made_up_run(folder / "run", options.items)

        def sessions() -> Iterator[list[str]]:
            return sessions_of_dataset(options.data) if options.data else sessions_of(options.items, seed=0)

        found = {}
        for what, count in (("tenth", max(1, options.sessions // 10)), ("whole", options.sessions)):
            source = folder / f"{what}.{options.format}"
            write_sessions(source, sessions(), count)
            found[what] = in_a_process(model, source, folder / f"{what}.out.parquet")
            source.unlink()
        whole, tenth = found["whole"], found["tenth"]
        return {
            "sessions": options.sessions,
            "format": options.format,
            "model": str(options.model or f"made up, {options.items} items"),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "sessions_per_second": whole["sessions"] / whole["seconds"],
            "sessions_per_second_ranking": whole["sessions"] / whole["seconds_ranking"],
            "peak_rss_megabytes": whole["peak_rss_megabytes"],
            "peak_rss_megabytes_at_a_tenth": tenth["peak_rss_megabytes"],
            "rss_by_rss_at_a_tenth": whole["peak_rss_megabytes"] / tenth["peak_rss_megabytes"],
            **found,
            "compared": compared(model, list(islice(sessions(), options.compared))),
        }


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(*(Path(each) for each in sys.argv[2:]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--format", choices=["jsonl", "csv", "parquet"], default="jsonl")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--compared", type=int, default=5_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.model is None) != (options.data is None):
        parser.error("--model and --data go together")
    print_figures(measure(options), options.json)


if __name__ == "__main__":
    main()
