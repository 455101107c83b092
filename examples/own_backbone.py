"""Somebody's own model in ten lines of PyTorch, trained with Value Penalized Q-Learning on a made-up shop's log.

    python examples/own_backbone.py FOLDER

A backbone is any `nn.Module` that turns the last items into a state, (items[B, L], lengths[B]) → state[B, D], and is
built by `Class(n_items, window)`. Item number n_items stands for "no item" to the right of a history; of an empty one
the length is 1. Both are int32. Heads, target, penalty and loss are valuerec's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import valuerec as vr
from valuerec import shop


class MeanAndLast(nn.Module):
    """The mean of the last items' vectors beside the very last one, mixed by one layer."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.vector = nn.Embedding(n_items + 1, 32, padding_idx=n_items, sparse=True)
        self.mix = nn.Linear(64, 64)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """The state of each row, B×64."""
        vector_BLD = self.vector(items_BL)
        mean_BD = vector_BLD.sum(dim=1) / length_B.unsqueeze(1)
        last_BD = vector_BLD[torch.arange(len(items_BL)), length_B.long() - 1]
        return torch.tanh(self.mix(torch.cat([mean_BD, last_BD], dim=1)))


def main(folder: Path) -> None:
    """Make a log, prepare it, train, and recommend; all files go to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shop.write_log(folder / "log.csv", sessions=4000, seed=0)
    columns = {name: name for name in ("session", "item", "time", "event")}
    data = vr.prepare([folder / "log.csv"], format="events", columns=columns, out=folder / "data")
    run = vr.train(data, backbone=MeanAndLast, method=vr.VPQ(penalty=20.0), out=folder / "run", epochs=6)
    model = vr.load(run, backbone=MeanAndLast)
    for item in model.recommend([["hiking-good-00", "hiking-good-01"]], k=5)[0]:
        print(f"{item.id:<16} score {item.score:.3f}, value {item.value:.3f} ± {item.uncertainty:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where log, dataset and run are written")
    try:
        main(parser.parse_args().folder)
    except vr.ValuerecError as error:
        raise SystemExit(str(error)) from None
