"""What a checkpoint costs: its share of training time at an interval, and the memory that writing it takes.

    python benchmarks/checkpoints.py [--items 26702] [--minutes 5] [--folder FOLDER] [--json]

VPQ as it is by default on a made-up log (`made_up_log.py`). After some steps checkpoints are written, flushed to the
disk of the folder (a temporary one by default), and timed; the process's peak of memory is taken anew for each.
The share is that of the slowest: seconds / (60 * minutes + seconds). "Model" is the network's weights alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import torch

from made_up_log import write_dataset
from provenance import provenance
from valuerec.training import TrainConfig
from valuerec.training.learners import fresh_network
from valuerec.training.reporting import Reporter
from valuerec.training.run import Run
from valuerec.training.trainer import Trainer

STEPS: Final = 20  # before the first checkpoint, and between two
TIMES: Final = 3


def memory(name: str) -> int:
    """VmRSS, resident now, or VmHWM, the most since the last `forget_peak`; bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(items: int, minutes: float, folder: Path, n_steps: int = STEPS) -> dict[str, Any]:
    dataset = write_dataset(folder / "data", items)
    config = TrainConfig(checkpoint_minutes=minutes, keep_checkpoints=2)
    device = torch.device("cpu")
    network = fresh_network(config, dataset.n_items, device)
    run = Run.create(folder / "run", config, dataset, device)
    run.save_weights(network, 1)
    trainer = Trainer(config, dataset, network, run, Reporter(quiet=True))
    trainer.best_step, trainer.best_score = 1, 0.0  # so that a checkpoint holds the best weights too
    trainer.learner.train()
    seconds, extra, steps = [], [], []
    for _ in range(TIMES):
        started = time.perf_counter()
        for _ in range(n_steps):
            trainer._one_step()
        steps.append((time.perf_counter() - started) / n_steps)
        forget_peak()
        before = memory("VmRSS")
        started = time.perf_counter()
        trainer.save_checkpoint()
        seconds.append(time.perf_counter() - started)
        extra.append(max(0, memory("VmHWM") - before))
    newest = max((folder / "run" / "checkpoints").iterdir())
    model = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    return {
        "items": items,
        "minutes": minutes,
        "step_seconds": round(min(steps), 4),
        "checkpoint_seconds": [round(each, 3) for each in seconds],
        "share_of_time": round(max(seconds) / (60 * minutes + max(seconds)), 5),
        "model_bytes": model,
        "checkpoint_bytes": sum(path.stat().st_size for path in newest.iterdir()),
        "extra_memory_bytes": max(extra),
        "extra_memory_in_models": round(max(extra) / model, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=26_702)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="where to write; the disk counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="valuerec-checkpoints-", dir=options.folder) as name:
        figures = measure(options.items, options.minutes, Path(name))
    if options.json:
        print(json.dumps(figures | provenance(), indent=2))
    else:
        print(
            f"{options.items:,} items: a checkpoint of {figures['checkpoint_bytes'] / 1e6:.0f} MB takes "
            f"{max(figures['checkpoint_seconds']):.2f} s, {figures['share_of_time']:.2%} of the time at one every "
            f"{options.minutes:g} minutes, and {figures['extra_memory_in_models']:.2f} times the model's "
            f"{figures['model_bytes'] / 1e6:.0f} MB of memory"
        )
    sys.exit(figures["share_of_time"] > 0.02 or figures["extra_memory_in_models"] > 1)


if __name__ == "__main__":
    main()
