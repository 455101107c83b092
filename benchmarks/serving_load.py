"""Latency under an open-loop load, by size of catalogue: Poisson arrivals, latency from the moment a request was due.

python benchmarks/serving_load.py --items 10000 100000 1000000 --rate 1000 500 100 --seconds 60 --json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import uvloop

import serving_tools as tools
import valuerec as vr
from provenance import print_figures

BATCH = 32  # sessions scored at a time: 256 MB of scores in float64 at a million items


async def measure(
    folder: Path, n_items: int, rate: float, seconds: float, exact: int, options: list[str], heads: int = 15
) -> dict[str, Any]:
    """One size: a second of warming, the load, and how many of `exact` answers are those of a scan in float64."""
    path = tools.made_up_run(folder / f"{n_items}", n_items, heads=heads)
    async with tools.served(path, *options) as process:
        warm = tools.Load(process.port, n_items, seed=1)
        await warm.run(min(rate, 50), 1.0)
        warm.close()
        load = tools.Load(process.port, n_items)
        sent = await load.run(rate, seconds)
        load.close()
        result = {"items": n_items, "rate": rate, "seconds": seconds} | tools.summary(sent, seconds)
        result["resident_mb"] = round(process.resident() / 1e6)
        result["exact"] = await exactness(path, process.port, n_items, exact)
    return result


async def exactness(path: Path, port: int, n_items: int, count: int) -> str:
    """How many of `count` answers are the 20 best of the whole catalogue in float64, ties by id."""
    model = vr.load(path)
    network = model.network
    encoder = network.backbone.double()
    weight_ND = network.item_head.weight_ND.double()
    bias_N = network.item_head.bias_N.double()
    sessions, right = tools.sessions_of(n_items, seed=7), 0
    connection = tools.Connection(port)
    for start in range(0, count, BATCH):
        asked = [next(sessions) for _ in range(min(BATCH, count - start))]
        answers = [await connection.post("/v1/recommend", {"session": session, "k": 20}) for session in asked]
        with torch.inference_mode():
            history = model.histories([[model.index[item] for item in session] for session in asked])
            score_BN = torch.addmm(bias_N, encoder(*history), weight_ND.T)
        for answer, score_N in zip(answers, score_BN, strict=True):
            best = [model.item_ids[item] for item in best_of(score_N, 20)]
            right += [item["id"] for item in json.loads(answer.body)["items"]] == best
    connection.close()
    return f"{right} of {count}"


def best_of(score_N: torch.Tensor, k: int) -> list[int]:
    """The k best, of equal ones the first; all that reach the k-th value are put in order, which is a full sort's."""
    least = score_N.topk(k).values[-1]
    index_M = (score_N >= least).nonzero()[:, 0]
    order_M = score_N[index_M].sort(descending=True, stable=True).indices
    return index_M[order_M[:k]].tolist()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rate", type=float, nargs="+", default=[1000.0, 500.0, 100.0], help="one a size")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--exact", type=int, default=1000, help="answers compared with a full scan in float64")
    parser.add_argument("--heads", type=int, default=15)
    parser.add_argument("--option", action="append", default=[], help="of valuerec serve, as --option=--queue=64")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sizes = {}
    for n_items, rate in zip(given.items, given.rate, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            result = await measure(Path(folder), n_items, rate, given.seconds, given.exact, given.option, given.heads)
        sizes[f"{n_items:,} items"] = result
    print_figures(sizes, given.json)


if __name__ == "__main__":
    uvloop.run(main())
