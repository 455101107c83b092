"""Does what makes a step fast change what is learned? The same runs with each part replaced by its plain form.

    python benchmarks/equivalence.py --data DATASET --name yoochoose-1pct [--seeds 3] [--epochs 2]

Variants of SASRec-VPQ, all of equal steps: `ours`; `tiled` (float32 products, every item scored, no kernels);
`dense adam` (PyTorch's Adam over all weights, tables included); `sparse adam` (PyTorch's SparseAdam on tables); and
`factored` (K maps onto one table of items in place of full heads, which is another model). For each: test metrics of
the best weights on validation, and the spread SD and the weight W of the logged actions there. Cells that
results/NAME/equivalence.json holds already are not run again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import valuerec as vr
from valuerec.folders import read_json, write_json
from valuerec.model import load
from valuerec.network import Network
from valuerec.training import learners, optimiser

RESULTS = Path(__file__).parents[1] / "results"
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ours": ({}, {}),
    "sparse adam": ({}, {}),
    "factored": ({"ensemble": "factored"}, {}),
    "dense adam": ({}, {}),
    "tiled": ({}, {"engine": "tiled"}),
}


class DenseAdam(optimiser.Optimiser):
    """Adam over everything, as if no gradient were sparse."""

    def __init__(self, network: Network, learning_rate: float) -> None:
        self._all = list(network.parameters())
        self._parts = [torch.optim.Adam(self._all, lr=learning_rate, fused=True)]

    def step(self, loss: Tensor) -> None:
        """One step, with the sparse gradients made dense."""
        self._parts[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self._all:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.to_dense()
        self._parts[0].step()


def run_cell(data: Path, variant: str, seed: int, epochs: int) -> dict[str, Any]:
    method, options = VARIANTS[variant]
    replaced: dict[str, Any] = {
        "dense adam": mock.patch.object(learners, "Optimiser", DenseAdam),
        "sparse adam": mock.patch.object(optimiser, "RowAdam", torch.optim.SparseAdam),
    }
    with tempfile.TemporaryDirectory() as folder, replaced.get(variant, mock.MagicMock()):
        out = Path(folder) / "run"
        config = vr.VPQ(**method)
        run = vr.train(data, out=out, method=config, seed=seed, epochs=epochs, patience=epochs, quiet=True, **options)
        told = vr.info(run)
        spread, weight = uncertainty(run, data, config)
    return {
        "variant": variant,
        "seed": seed,
        "test": told["metrics"]["test"],
        "validation": told["metrics"]["validation"],
        "steps": told["metrics"]["steps"],
        "best_step": told["metrics"]["selection"]["step"],
        "seconds": told["metrics"]["seconds"],
        "spread": spread,
        "weight": weight,
        "commit": told["environment"]["commit"],
    }


@torch.inference_mode()
def uncertainty(run: Path, data: Path, method: vr.VPQ) -> tuple[float, float]:
    """Mean SD and mean W of the logged actions of the validation split."""
    network, dataset = load(run).network, vr.Dataset(data)
    assert network.q_head is not None
    rows = dataset.transitions(torch.tensor(dataset.events_of("validation")).numpy(), network.window)
    state_BD = network.state(torch.from_numpy(rows.state_BL), torch.from_numpy(rows.length_B))
    spread_B = network.q_head.of(state_BD, torch.from_numpy(rows.action_B)).std(dim=1, correction=0)
    return float(spread_B.mean()), float(method.weight(spread_B).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", default="yoochoose-1pct")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    path = RESULTS / options.name / "equivalence.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    done = {(cell["variant"], cell["seed"]) for cell in cells}
    for seed in range(options.seeds):
        for variant in options.variants:
            if (variant, seed) not in done:
                cells.append(run_cell(options.data, variant, seed, options.epochs))
                write_json(path, cells)
                print(cells[-1], flush=True)


if __name__ == "__main__":
    main()
