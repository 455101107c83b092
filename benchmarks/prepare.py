"""How long `valuerec prepare` takes on a log of the full Yoochoose size, and how much memory.

    python benchmarks/prepare.py [--scale 1] [--json]

The log is made up in a temporary folder (TMPDIR says where; 1.6 GB at scale 1, and prepare needs about 2 GB beside it):
33 million clicks and 1.15 million buys in 9.25 million sessions over 52 thousand items, in the official layout.
`prepare` runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from provenance import provenance

CLICKS, BUYS, SESSIONS, ITEMS = 33_000_000, 1_150_000, 9_250_000, 52_000
CHUNK_SESSIONS = 250_000
START_MS, SPAN_MS = 1_396_321_200_000, 183 * 86_400_000  # April to September 2014
FIRST_ITEM = 214_500_000
NO_QUOTES = pa_csv.WriteOptions(include_header=False, quoting_style="none")


def write_log(clicks: Path, buys: Path, scale: float, seed: int = 0) -> None:
    """Write the two files, some sessions at a time."""
    draw = np.random.default_rng(seed)
    n_sessions = int(SESSIONS * scale)
    with clicks.open("wb") as clicks_file, buys.open("wb") as buys_file:
        for first in range(1, n_sessions + 1, CHUNK_SESSIONS):
            count = min(CHUNK_SESSIONS, n_sessions + 1 - first)
            write_sessions(draw, first, count, clicks_file, buys_file)


def write_sessions(draw: np.random.Generator, first: int, count: int, clicks: IO[bytes], buys: IO[bytes]) -> None:
    """Sessions of 1 to 200 clicks, mean 3.57; 3.5 % of the clicked items are bought a minute later."""
    length_S = np.clip(draw.lognormal(0.98, 0.77, count).round(), 1, 200).astype(np.int64)
    start_S = START_MS + draw.integers(0, SPAN_MS, count)
    session_E = np.repeat(np.arange(first, first + count), length_S)
    gap_E = draw.exponential(90_000, len(session_E)).astype(np.int64)
    item_E = FIRST_ITEM + np.minimum(np.searchsorted(popularity(), draw.random(len(session_E))), ITEMS - 1)
    time_E = np.repeat(start_S, length_S) + np.cumsum(gap_E) - np.repeat(_before(gap_E, length_S), length_S)
    write_rows(clicks, [session_E, stamps(time_E), item_E, np.zeros_like(item_E)])
    bought_E = draw.random(len(session_E)) < BUYS / CLICKS
    rows = int(bought_E.sum())
    price, quantity = draw.integers(100, 10_000, rows), draw.integers(1, 4, rows)
    write_rows(buys, [session_E[bought_E], stamps(time_E[bought_E] + 60_000), item_E[bought_E], price, quantity])


@functools.cache
def popularity() -> NDArray[np.float64]:
    """Cumulative shares of the items, so uneven that a quarter of them has fewer than five clicks."""
    share_N = np.random.default_rng(0).lognormal(0, 2.5, ITEMS)
    return np.cumsum(share_N / share_N.sum())


def _before(gap_E: NDArray[np.int64], length_S: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of all gaps before each session."""
    total_E = np.concatenate([[0], np.cumsum(gap_E)])
    return total_E[np.concatenate([[0], np.cumsum(length_S)[:-1]])]


def stamps(time_E: NDArray[np.int64]) -> Any:
    """Times as Yoochoose writes them: 2014-04-07T10:51:09.277Z."""
    return pc.strftime(pa.array(time_E).cast(pa.timestamp("ms")), format="%Y-%m-%dT%H:%M:%SZ")


def write_rows(file: IO[bytes], columns: list[Any]) -> None:
    arrays = [pa.array(column) for column in columns]
    pa_csv.write_csv(pa.table(arrays, names=[str(i) for i in range(len(arrays))]), file, NO_QUOTES)


def measure(scale: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="valuerec-prepare-") as name:
        folder = Path(name)
        clicks, buys, out = folder / "clicks.dat", folder / "buys.dat", folder / "data"
        began = time.perf_counter()
        write_log(clicks, buys, scale)
        made = time.perf_counter() - began
        valuerec = str(Path(sys.executable).with_name("valuerec"))
        command = [valuerec, "prepare", str(clicks), str(buys), "--format", "yoochoose", "--out", str(out), "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        manifest = json.loads(done.stdout)
        return {
            "scale": scale,
            "seconds": round(seconds, 1),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 2),
            "rows_per_second": round(manifest["account"]["rows_read"] / seconds),
            "cpus": len(os.sched_getaffinity(0)),
            "account": manifest["account"],
            "counts": manifest["counts"],
            "log_bytes": clicks.stat().st_size + buys.stat().st_size,
            "dataset_bytes": sum(file.stat().st_size for file in out.iterdir()),
            "seconds_to_make_the_log": round(made, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.scale)
    if options.json:
        print(json.dumps(figures | {"seed": 0} | provenance(), indent=2))
    else:
        print(
            f"{figures['account']['rows_read']:,} rows in {figures['seconds']} s on {figures['cpus']} cores "
            f"({figures['rows_per_second']:,} rows/s), peak memory {figures['peak_gb']} GB"
        )


if __name__ == "__main__":
    main()
