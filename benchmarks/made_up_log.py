"""A made-up log of any catalogue size, written straight as a dataset folder, for a network to really train on.

    python benchmarks/made_up_log.py ITEMS FOLDER

Items lie on a ring and a session walks along it, so that what comes next can be learned; popularity falls like Zipf's
law and pulls the walk; one event in twenty is a purchase, mostly of an item seen before in the session. About twenty
events an item, at most four million. A million items take seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save_file

from valuerec.dataset import SPLITS, Dataset
from valuerec.folders import write_manifest

EVENTS_PER_ITEM, MOST_EVENTS = 20, 4_000_000
LONGEST = 50
NEAR = 8  # places along the ring that a walk goes at most
PURCHASES, OF_SEEN = 0.05, 0.9
WALK, AGAIN = 0.7, 0.1  # the rest jumps to an item drawn by popularity


class Log(NamedTuple):
    """Sessions laid end to end."""

    item_E: NDArray[np.int32]
    event_E: NDArray[np.uint8]
    offset_S: NDArray[np.int64]


def make_log(items: int, seed: int = 0) -> Log:
    """Walk all sessions at once, an event at a time, the longest first so that those still walking are the first."""
    draw = np.random.default_rng(seed)
    n_events = min(EVENTS_PER_ITEM * items, MOST_EVENTS)
    length_S = np.clip(draw.lognormal(1.4, 0.75, max(n_events // 5, 20)).round(), 2, LONGEST).astype(np.int64)
    rank_N = draw.permutation(items)  # of the item at each place of the ring; 0 is the most popular
    place_of_rank_N = np.argsort(rank_N)
    cumulative_N = np.cumsum(1 / (np.arange(items) + 10.0) ** 0.9)
    falling_S = np.sort(length_S)[::-1]
    item_SL = np.zeros((len(falling_S), LONGEST), dtype=np.int32)
    event_SL = np.zeros((len(falling_S), LONGEST), dtype=np.uint8)
    for step in range(LONGEST):
        walking = int(np.searchsorted(-falling_S, -step, side="left"))  # sessions longer than `step`
        fresh_S = place_of_rank_N[np.searchsorted(cumulative_N, draw.random(walking) * cumulative_N[-1])]
        if step == 0:
            item_SL[:walking, 0] = fresh_S
            continue
        seen_S = item_SL[np.arange(walking), draw.integers(0, step, walking)]
        way_2S = draw.integers(1, NEAR + 1, (2, walking)) * draw.choice([1, 1, 1, -1], (2, walking))
        near_2S = (item_SL[:walking, step - 1] + way_2S) % items
        near_S = np.where(rank_N[near_2S[0]] < rank_N[near_2S[1]], near_2S[0], near_2S[1])
        bought_S = draw.random(walking) < PURCHASES
        chance_S = draw.random(walking)
        again_S = np.where(bought_S, chance_S < OF_SEEN, chance_S >= 1 - AGAIN)
        item_SL[:walking, step] = np.where(again_S, seen_S, np.where(chance_S < WALK, near_S, fresh_S))
        event_SL[:walking, step] = bought_S
    order_S = draw.permutation(len(falling_S))
    own_SL = np.arange(LONGEST) < falling_S[order_S, None]
    offset_S = np.concatenate([[0], np.cumsum(falling_S[order_S])]).astype(np.int64)
    return Log(item_SL[order_S][own_SL], event_SL[order_S][own_SL], offset_S)


def write_dataset(folder: Path, items: int, seed: int = 0) -> Dataset:
    """A dataset folder as `valuerec prepare` lays it out, with what training reads; 80/10/10 by session."""
    log = make_log(items, seed)
    n_sessions, n_events = len(log.offset_S) - 1, len(log.item_E)
    cuts = [0, int(log.offset_S[int(0.8 * n_sessions)]), int(log.offset_S[int(0.9 * n_sessions)]), n_events]
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"item": log.item_E, "event": log.event_E, "offset": log.offset_S}, folder / "arrays.safetensors")
    count_2N = [np.bincount(log.item_E[log.event_E == kind], minlength=items) for kind in (0, 1)]
    names = [f"i{item:07d}" for item in range(items)]
    table = pa.table({"item": names, "clicks": count_2N[0], "purchases": count_2N[1]})
    pq.write_table(table, folder / "items.parquet")
    counts = {
        "sessions": n_sessions,
        "items": items,
        "events": n_events,
        "clicks": int(count_2N[0].sum()),
        "purchases": int(count_2N[1].sum()),
    }
    splits = {name: {"events": cuts[place + 1] - cuts[place]} for place, name in enumerate(SPLITS)}
    fingerprint = f"made up: {items} items, seed {seed}"
    write_manifest(folder, "dataset", 1, {"counts": counts, "splits": splits, "fingerprint": fingerprint})
    return Dataset(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("items", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    write_dataset(options.folder, options.items)


if __name__ == "__main__":
    main()
