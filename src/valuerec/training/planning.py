"""What a run will need, before it starts: peak memory by counting, seconds a step by trying a small catalogue.

Memory is a sum over the arrays that training keeps, each linear in the catalogue N; how wide a backbone's and a
method's arrays are is read off two small networks, so that somebody's own backbone is planned as well. Time is
measured: some real steps on made-up transitions over two catalogues of at most `_LARGEST_TRIED` items, and a line
through them. The states are as long as the log's, or as is usual: some backbones do less work for short ones.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from valuerec import ops
from valuerec.dataset import Dataset
from valuerec.heads import FullHeads
from valuerec.methods import Batch, CriticMethod
from valuerec.network import Network
from valuerec.ops import choose_engine
from valuerec.ops.cross_entropy import WEIGHTS_AT_ONCE
from valuerec.ops.sketch import CONTRASTS
from valuerec.training.config import TrainConfig
from valuerec.training.learners import OneNetwork, fresh_network, learner_of
from valuerec.training.optimiser import tables_of

_SMALL = (1000, 2000)
_LARGEST_TRIED = 60_000
_OTHER_BYTES = 150 << 20  # libraries' workspaces, allocator slack, a validation's buffers: measured, benchmarks/plan.py
_EVENT_BYTES = 6  # of the dataset, an event: item, kind, history
_LENGTHS = 10_000  # states that lengths are taken from
_USUAL_END = 0.27  # share of the states of any length that grow no longer: a mean of 3.5 in a window of 10


class Plan(NamedTuple):
    """What a run will need.

    `parts` are bytes by what they are for; `available` what the machine has to spare now, None where unknown.
    """

    items: int
    events: int
    engine: str
    parts: dict[str, int]
    peak_bytes: int
    available: int | None
    step_seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether the peak is below what the machine has."""
        return self.available is None or self.peak_bytes <= self.available


def lengths_of(dataset: Dataset, window: int) -> Tensor:
    """The lengths of states, evenly drawn from a log."""
    history_E = dataset.history_E[:: max(1, len(dataset.history_E) // _LENGTHS)]
    return torch.from_numpy(np.clip(history_E, 1, window).astype(np.int32))


def usual_lengths(window: int) -> Tensor:
    """Lengths of states where there is no log to take them from: geometric, much like the Yoochoose sample's."""
    return torch.empty(_LENGTHS).geometric_(_USUAL_END).clamp(max=window).int()


def plan_run(
    config: TrainConfig,
    items: int,
    events: int,
    device: torch.device,
    timed: bool = True,
    length_E: Tensor | None = None,
) -> Plan:
    """Plan a run.

    Args:
        config: the run.
        items: N.
        events: E, of all splits.
        device: where it would train.
        timed: try some steps (seconds); without, `step_seconds` is None.
        length_E: lengths of states to expect (`lengths_of`); None for usual ones.
    """
    engine = choose_engine(config.engine, device)
    with torch.random.fork_rng():  # planning must not change what is drawn afterwards
        torch.manual_seed(0)
        length_E = usual_lengths(config.window) if length_E is None else length_E
        parts = _memory(config, items, events, engine, length_E)
        resident = _resident_bytes() if device.type == "cpu" else 0
        seconds = _step_seconds(config, items, device, length_E) if timed else None
    available = _available_bytes() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    return Plan(
        items,
        events,
        engine,
        parts,
        resident + sum(parts.values()),
        None if available is None else available + resident,
        seconds,
    )


def _memory(config: TrainConfig, items: int, events: int, engine: ops.Engine, length_E: Tensor) -> dict[str, int]:
    """Bytes by what they are for."""
    networks = [config.method.network(config.backbone, n, config.window) for n in _SMALL]
    small, large = (_sizes(network) for network in networks)

    def at(part: str) -> int:
        slope = (large[part] - small[part]) / (_SMALL[1] - _SMALL[0])
        return round(small[part] + slope * (items - _SMALL[0]))

    width, batch = small["width"], config.batch_size
    stored = {
        "native": 2 * min(batch * items, max(WEIGHTS_AT_ONCE, 64 * items)),
        "tiled": 4 * min(batch * items, max(WEIGHTS_AT_ONCE, items)),
        "plain": 12 * batch * items,
    }[engine]
    parts = {
        "weights": 4 * (at("dense") + at("tables")),
        "gradients": 4 * at("dense"),
        "optimiser": 4 * (2 * at("dense") + at("tables") + at("rows")),
        "activations": _activations(networks[0], _made_up(config, _SMALL[0], torch.device("cpu"), length_E)),
        "cross-entropy": stored,
        "dataset": _EVENT_BYTES * events + 8 * events,  # and an epoch's order
        "other": _OTHER_BYTES,
    }
    method = config.method
    if isinstance(method, CriticMethod) and method.n_heads:
        copies = 2 if config.protocol == "released" else 1
        if copies == 2:
            parts |= {name: 2 * parts[name] for name in ("weights", "gradients", "optimiser")}
        else:
            parts["target"] = 4 * (at("dense") + at("tables")) - 4 * items * (width + 1)
        if engine == "native" and method.ensemble == "full" and method.row_sparse and method.prunable is not None:
            row = 2 * (width + width % 2) * (1 + CONTRASTS) + 8 * (1 + CONTRASTS) + 4 * CONTRASTS * (method.heads + 1)
            parts["sketch"] = copies * items * (row + 12)
        elif engine == "plain":
            parts["all heads' values"] = 12 * batch * items * method.heads
    return parts


def _sizes(network: Network) -> dict[str, int]:
    """Numbers in the dense parameters and in the tables, rows of the tables, and the state's width."""
    tables = tables_of(network)
    known = set(tables)
    dense = sum(parameter.numel() for parameter in network.parameters() if parameter not in known)
    return {
        "dense": dense,
        "tables": sum(table.numel() for table in tables),
        "rows": sum(len(table) for table in tables),
        "width": network.item_head.weight_ND.shape[1],
    }


def _activations(network: Network, batch: Batch) -> int:
    """Bytes that the backbone keeps for its backward pass."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.state(batch.state_BL, batch.length_B)
    return sum(size for place, size in kept.items() if place not in weights)


def _step_seconds(config: TrainConfig, items: int, device: torch.device, length_E: Tensor) -> float:
    """Seconds a step at N items, by a line through two smaller catalogues where N is large."""
    if items <= _LARGEST_TRIED:
        return _try(config, items, device, length_E)
    sizes = (_LARGEST_TRIED // 3, _LARGEST_TRIED)
    first, second = (_try(config, size, device, length_E) for size in sizes)
    return second + max(0.0, second - first) / (sizes[1] - sizes[0]) * (items - sizes[1])


def _try(
    config: TrainConfig, items: int, device: torch.device, length_E: Tensor, warm: int = 4, steps: int = 12
) -> float:
    """The median of some real steps on made-up transitions, with heads as of a trained network."""
    network = fresh_network(config, items, device)
    if isinstance(network.q_head, FullHeads):
        _as_trained(network.q_head)
    learner = learner_of(config, network)
    learner.train()
    for search in learner.searches:
        search.replaced(torch.arange(items))  # as in the midst of training: no longer fresh
    seconds = []
    for step in range(warm + steps):
        batch = _made_up(config, items, device, length_E)
        start = time.perf_counter()
        learner.learn(step, batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[warm:])
    if not isinstance(learner, OneNetwork) or learner.target is None:
        return median
    # The target's copy costs by the rows that changed: so many in so many steps, if items were drawn evenly.
    start = time.perf_counter()
    learner.target.copy_from(network)
    every = learner.target_every
    changed = [1 - (1 - 1 / items) ** (config.batch_size * count) for count in (warm + steps, every)]
    return median + (time.perf_counter() - start) * changed[1] / changed[0] / every


@torch.no_grad()
def _as_trained(heads: FullHeads) -> None:
    """Heads that agree more than they differ, along a few contrasts: what a step's cost depends on."""
    n_items, n_heads, width = heads.weight_NKD.shape
    common_N1D = torch.randn(n_items, 1, width) * 0.05
    apart_NKD = torch.randn(n_items, n_heads, 1) * torch.randn(n_items, 1, width) * 0.005
    heads.weight_NKD.add_(common_N1D + apart_NKD)


def _made_up(config: TrainConfig, items: int, device: torch.device, length_E: Tensor) -> Batch:
    batch, window = config.batch_size, config.window
    length_B = length_E[torch.randint(len(length_E), (batch,))]
    state_BL = torch.randint(0, items, (batch, window), dtype=torch.int32)
    state_BL[torch.arange(window) >= length_B.unsqueeze(1)] = items
    rewards = torch.full((batch,), config.rewards.click)
    action_B, next_action_B = torch.randint(0, items, (2, batch)).unbind(0)
    done_B = torch.rand(batch) < 0.2
    made = Batch(state_BL, length_B, action_B, rewards, state_BL, length_B, done_B, next_action_B, rewards)
    return Batch(*(tensor.to(device) for tensor in made))


def _resident_bytes() -> int:
    """What this process has in memory now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 400 << 20


def _available_bytes() -> int | None:
    """What the machine can still give: the least of its free memory and the control group's limit."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                found.append(int(line.split()[1]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.is_file() and (text := limit.read_text().strip()) != "max":
            found.append(int(text) - int(limit.with_name("memory.current").read_text()))
    except (OSError, ValueError, IndexError):
        pass
    return min(found) if found else None
