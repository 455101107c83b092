"""Checkpoints that are damaged on purpose: each is noticed, and the run goes on from the one before.

    python benchmarks/damage.py [--count 2000] [--ends 50] [--json]

A tiny run with two checkpoints; a copy of the newer one is damaged in one of the ways of `WAYS`, taken in turn, in a
file and place drawn anew, and the newest whole checkpoint is asked for. It must be the older one, bit for bit as it was
written. In `--ends` of the cases the run is also resumed, and must end as the undisturbed run did.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from faults import run_child
from kills import end_of, line_of
from made_up_log import write_dataset
from provenance import print_figures
from valuerec.errors import ValuerecError
from valuerec.tensors import load_tensors
from valuerec.training import checkpoint
from valuerec.training.run import Run

OPTIONS: Final = ["--method", "vpq", "--heads", "3", "--target-every", "4"]
CPU: Final = torch.device("cpu")


def _any_file(newer: Path, draw: random.Random) -> Path:
    return draw.choice(sorted(newer.iterdir()))


def bit_flip(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """One bit of one file."""
    path = _any_file(newer, draw)
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncation(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """The end of a file is gone."""
    path = _any_file(newer, draw)
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def longer(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """Something follows the end of a file."""
    with _any_file(newer, draw).open("ab") as file:
        file.write(draw.randbytes(draw.randint(1, 4096)))


def zero_fill(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """A stretch of a file that was not all noughts is."""
    path = _any_file(newer, draw)
    content = bytearray(path.read_bytes())
    while True:
        start = draw.randrange(len(content))
        end = min(len(content), start + draw.choice([1, 16, 512, 4096]))
        if any(content[start:end]):
            break
    content[start:end] = bytes(end - start)
    path.write_bytes(content)


def missing(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """A file is gone."""
    _any_file(newer, draw).unlink()


def other_steps_file(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """A file is that of the older checkpoint: a stale manifest is one of these."""
    others = [path for path in sorted(newer.iterdir()) if path.read_bytes() != (older / path.name).read_bytes()]
    path = draw.choice(others)
    shutil.copyfile(older / path.name, path)


def other_runs_file(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """A file is that of another run's checkpoint of the same step."""
    others = [path for path in sorted(newer.iterdir()) if path.read_bytes() != (foreign / path.name).read_bytes()]
    path = draw.choice(others)
    shutil.copyfile(foreign / path.name, path)


def two_files_swapped(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """Two files have each other's name."""
    first, second = draw.sample(sorted(newer.iterdir()), 2)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def other_step(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """The whole folder is a copy of the older one under the newer one's name."""
    shutil.rmtree(newer)
    shutil.copytree(older, newer)


def other_run(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """The whole folder is that of another run."""
    shutil.rmtree(newer)
    shutil.copytree(foreign, newer)


def a_folder(newer: Path, older: Path, foreign: Path, draw: random.Random) -> None:
    """A file has become a folder."""
    path = _any_file(newer, draw)
    path.unlink()
    path.mkdir()


WAYS: Final[list[Callable[[Path, Path, Path, random.Random], None]]] = [
    bit_flip, truncation, longer, zero_fill, missing, other_steps_file, other_runs_file, two_files_swapped, other_step,
    other_run, a_folder,
]  # fmt: skip


def measure(count: int, ends: int) -> dict[str, Any]:
    noticed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    troubles, alike = [], 0
    with tempfile.TemporaryDirectory(prefix="valuerec-damage-") as name:
        folder = Path(name)
        data = write_dataset(folder / "data", 40).path
        original, other, run = folder / "original", folder / "other", folder / "run"
        for path, seed in ((original, "0"), (other, "1")):
            outcome = run_child([*line_of(data, OPTIONS, path), "--seed", seed], folder, folder)
            assert outcome.code == 0, outcome.stderr
        end = end_of(original)
        older, newer = sorted((original / "checkpoints").iterdir())
        foreign = other / "checkpoints" / newer.name
        state = load_tensors(older / checkpoint.STATE, CPU)
        for number in range(count):
            draw = random.Random(number)
            way = WAYS[number % len(WAYS)]
            shutil.copytree(original, run)
            way(run / "checkpoints" / newer.name, older, foreign, draw)
            tried[way.__name__] += 1
            try:
                found = checkpoint.newest(Run(run), CPU)
            except ValuerecError as error:
                troubles.append(f"{number}, {way.__name__}: {error}")
                found = None
            if found and [path.name for path in found.skipped] == [newer.name] and found.folder.name == older.name:
                same = all(torch.equal(value, found.tensors[key]) for key, value in state.items())
                noticed[way.__name__] += same
            else:
                troubles.append(f"{number}, {way.__name__}: not noticed")
            if number < ends:
                outcome = run_child([*line_of(data, OPTIONS, run), "--resume"], folder, folder)
                told = f"Skipped {newer.name}" in outcome.stderr and f"Resuming from {older.name}" in outcome.stderr
                good = outcome.code == 0 and told and end_of(run) == end
                alike += good
                if not good:
                    troubles.append(f"{number}, {way.__name__}: does not end alike: {outcome.stderr}")
            shutil.rmtree(run)
    return {
        "damaged": sum(tried.values()),
        "noticed": sum(noticed.values()),
        "by_way": {way: [noticed[way], tried[way]] for way in sorted(tried)},
        "resumed": min(ends, count),
        "resumed_to_the_same_end": alike,
        "troubles": troubles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--ends", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    figures = measure(options.count, options.ends)
    figures["seconds"] = round(time.perf_counter() - started, 1)
    print_figures(figures, options.json)
    sys.exit(bool(figures["troubles"]))


if __name__ == "__main__":
    main()
