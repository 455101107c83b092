"""Latency under an open-loop load, by size of catalogue: Poisson arrivals, latency from the moment a request was due.

python benchmarks/serving_load.py --items 10000 100000 1000000 --rate 1000 500 100 --seconds 60 --json
python benchmarks/serving_load.py --items 10000 100000 --rate 100 20 --rank-by value --json
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
from valuerec.ranking import PENALTY

BATCH = 32  # sessions scored at a time: 256 MB of scores in float64 at a million items


async def measure(
    folder: Path,
    n_items: int,
    rate: float,
    seconds: float,
    exact: int,
    options: list[str],
    heads: int = 15,
    rank_by: str = "relevance",
) -> dict[str, Any]:
    """One size: a second of warming, the load, and how many of `exact` answers are those of a scan in float64."""
    path = tools.made_up_run(folder / f"{n_items}", n_items, heads=heads)
    async with tools.served(path, *options) as process:
        warm = tools.Load(process.port, n_items, seed=1, rank_by=rank_by)
        await warm.run(min(rate, 50), 1.0)
        warm.close()
        load = tools.Load(process.port, n_items, rank_by=rank_by)
        sent = await load.run(rate, seconds)
        load.close()
        result = {"items": n_items, "rank_by": rank_by, "rate": rate, "seconds": seconds} | tools.summary(sent, seconds)
        result["resident_mb"] = round(process.resident() / 1e6)
        result["exact"] = await exactness(path, process.port, n_items, exact, rank_by)
    return result


async def exactness(path: Path, port: int, n_items: int, count: int, rank_by: str) -> str:
    """How many of `count` answers are the 20 best of the whole catalogue in float64, ties by id.

    By value these are the means of the heads times W = 1 / (1 + λ · SD).
    """
    model = vr.load(path)
    network = model.network
    encoder = network.backbone.double()
    weight_ND = network.item_head.weight_ND.double()
    bias_N = network.item_head.bias_N.double()
    sessions, right, refused = tools.sessions_of(n_items, seed=7), 0, 0
    connection, asked_for = tools.Connection(port), {"k": 20, "rank_by": rank_by}
    for start in range(0, count, BATCH):
        asked = [next(sessions) for _ in range(min(BATCH, count - start))]
        answers = [await connection.post("/v1/recommend", asked_for | {"session": session}) for session in asked]
        with torch.inference_mode():
            history = model.histories([[model.index[item] for item in session] for session in asked])
            state_BD = encoder(*history)
            by_relevance = rank_by == "relevance"
            score_BN = torch.addmm(bias_N, state_BD, weight_ND.T) if by_relevance else by_value(model, state_BD)
        for answer, score_N in zip(answers, score_BN, strict=True):
            best = [model.item_ids[item] for item in best_of(score_N, 20)]
            if answer.status != 200:
                refused += 1
                continue
            right += [item["id"] for item in json.loads(answer.body)["items"]] == best
    connection.close()
    return f"{right} of {count}" + (f", {refused} refused" if refused else "")


def by_value(model: vr.Model, state_BD: torch.Tensor) -> torch.Tensor:
    """The penalised means of all items, B×N, some items at a time."""
    q_head = model.network.q_head
    assert q_head is not None
    weight_NKD, bias_NK = q_head.whole()
    parts = []
    for weight_TKD, bias_TK in zip(weight_NKD.split(4096), bias_NK.split(4096), strict=True):
        q_BTK = torch.einsum("bd,tkd->btk", state_BD, weight_TKD.double()) + bias_TK
        parts.append(q_BTK.mean(dim=2) / (1 + PENALTY * q_BTK.std(dim=2, correction=0)))
    return torch.cat(parts, dim=1)


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
    parser.add_argument(
        "--exact", type=int, default=1000, help="answers compared with a full scan in float64; none of a blend"
    )
    parser.add_argument("--rank-by", default="relevance", choices=["relevance", "value", "blend"])
    parser.add_argument("--heads", type=int, default=15)
    parser.add_argument("--option", action="append", default=[], help="of valuerec serve, as --option=--queue=64")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sizes = {}
    for n_items, rate in zip(given.items, given.rate, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            of = 0 if given.rank_by == "blend" else given.exact, given.option, given.heads, given.rank_by
            result = await measure(Path(folder), n_items, rate, given.seconds, *of)
        sizes[f"{n_items:,} items"] = result
    print_figures(sizes, given.json)


if __name__ == "__main__":
    uvloop.run(main())
