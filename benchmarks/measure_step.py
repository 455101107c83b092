"""Time one kind of training step in this process and print what it took as JSON; `step.py` runs it once a kind.

    python benchmarks/measure_step.py KIND DATASET [--steps 100] [--warm 2000]

KIND is `port` or `port_lean` (port.py), `textbook` or `textbook_fused` (textbook.py), or a method of valuerec, which
is trained by `Trainer` itself: batch making, optimiser and target copy included. All kinds make their batches from the
dataset within the time taken. Methods are timed fresh, after a few steps, and again after `--warm` real steps, because
what they cost depends on the weights. What the port and the textbook do does not: both compute the same dense
products and updates whatever the numbers are, so `step.py` times them fresh. `--warm` checks that: it makes textbook
steps, or trains VPQ and copies its weights into the port, and times again (11,811 items, one thread, fresh and
trained: port 1.40 and 1.37 s after 200 steps of VPQ, port_lean .42 and .43 s, textbook_fused .062 and .056 s after
1,000 steps; the machine was not idle).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from port import ReleasedStep, needed_bytes
from textbook import TextbookStep
from valuerec.backbones import SASRec
from valuerec.dataset import Dataset
from valuerec.methods import Batch, method_named
from valuerec.ops import native
from valuerec.training import TrainConfig, choose_device
from valuerec.training.learners import fresh_network
from valuerec.training.reporting import Reporter
from valuerec.training.run import Run
from valuerec.training.trainer import Trainer

BATCH, WINDOW = 256, 10
FIRST_STEPS = 5  # not timed


def measure_port(dataset: Dataset, device: torch.device, steps: int, warm: int, lean: bool) -> dict[str, Any]:
    """The port: fresh, and with the weights of a VPQ network after `warm` real steps."""
    needed = needed_bytes(dataset.n_items, BATCH, lean=lean)
    if needed > free_bytes(device):
        return {"needs_gb": needed / 1e9, "free_gb": free_bytes(device) / 1e9}
    torch.manual_seed(0)
    port = ReleasedStep(dataset.n_items, WINDOW, BATCH, lean=lean, device=device)
    batches = batches_of(dataset, device)
    answer = {"fresh": timed(lambda: port(next(batches)), steps, device, first=2)}
    if warm:
        with trainer_of("vpq", dataset, device, None) as trainer:
            while trainer.step < warm:
                trainer._one_step()
            for network in port.networks:
                network.copy_from(trainer.network)
        answer["trained"] = timed(lambda: port(next(batches)), steps, device, first=1)
    return answer


def measure_textbook(dataset: Dataset, device: torch.device, steps: int, warm: int, fused: bool) -> dict[str, Any]:
    """The textbook step: fresh, and after `warm` of them."""
    if fused and not native.why_not():
        native.keep_freed_memory()  # as our own steps do: no page faults for buffers that come and go
    torch.manual_seed(0)
    textbook = TextbookStep(dataset.n_items, WINDOW, fused=fused, device=device)
    batches = batches_of(dataset, device)
    answer = {"fresh": timed(lambda: textbook(next(batches)), steps, device, first=FIRST_STEPS)}
    if warm:
        answer["trained"] = timed(lambda: textbook(next(batches)), steps, device, first=warm)
    return answer


def measure_method(
    kind: str, dataset: Dataset, device: torch.device, steps: int, warm: int, engine: str | None
) -> dict[str, Any]:
    """A method of ours: fresh, and after `warm` real steps."""
    with trainer_of(kind, dataset, device, engine) as trainer:
        answer: dict[str, Any] = {"engine": trainer.network.engine}
        answer["fresh"] = timed(trainer._one_step, steps, device, first=FIRST_STEPS)
        if warm:
            while trainer.step < warm:
                trainer._one_step()
            trainer._log()  # refuses losses that are not finite; the next log is the mean over the timed steps
            answer["trained"] = timed(trainer._one_step, steps, device, first=0)
            answer["log"] = trainer._log()
    return answer


@contextlib.contextmanager
def trainer_of(kind: str, dataset: Dataset, device: torch.device, engine: str | None) -> Iterator[Trainer]:
    """A trainer with a RUN folder that is gone afterwards."""
    chosen: dict[str, Any] = {} if engine is None else {"engine": engine}
    method = method_named(kind)()
    config = TrainConfig(
        backbone=SASRec(), method=method, window=WINDOW, batch_size=BATCH, device=device.type, **chosen
    )
    with tempfile.TemporaryDirectory() as folder:
        network = fresh_network(config, dataset.n_items, device).train()
        run = Run.create(Path(folder) / "run", config, dataset, device)
        yield Trainer(config, dataset, network, run, Reporter(quiet=True))


def batches_of(dataset: Dataset, device: torch.device) -> Iterator[Batch]:
    """Random batches of the training split."""
    draw, events = np.random.default_rng(0), dataset.events_of("train")
    while True:
        rows = dataset.transitions(draw.integers(events.start, events.stop, BATCH), WINDOW)
        yield Batch.of(rows, device)


def timed(step: Callable[[], object], steps: int, device: torch.device, first: int) -> dict[str, float]:
    """Seconds a step, median and mean (a target copy in a hundred shows in the mean alone), and the peak so far."""
    for _ in range(first):
        step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {"s": statistics.median(seconds), "mean_s": statistics.mean(seconds), "peak_gb": peak_gb(device)}


def peak_gb(device: torch.device) -> float:
    """The most memory this process has held, on the device that computes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def free_bytes(device: torch.device) -> int:
    """Memory that can be had without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return free if allowed == "max" else min(free, int(allowed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind")
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--warm", type=int, default=2000, help="0: fresh only")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--engine", help="of valuerec's methods; by default what training chooses")
    options = parser.parse_args()
    dataset, device = Dataset(options.data), choose_device(options.device)
    if options.kind in ("port", "port_lean"):
        answer = measure_port(dataset, device, options.steps, options.warm, options.kind == "port_lean")
    elif options.kind in ("textbook", "textbook_fused"):
        answer = measure_textbook(dataset, device, options.steps, options.warm, options.kind == "textbook_fused")
    else:
        answer = measure_method(options.kind, dataset, device, options.steps, options.warm, options.engine)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(json.dumps({"threads": torch.get_num_threads(), "device": name, "torch": torch.__version__} | answer))


if __name__ == "__main__":
    main()
