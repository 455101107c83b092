"""What a figure must be read with: the commit it was taken at and the command that took it; and its printing."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from valuerec.training.run import commit


def machine() -> str:
    """The processor, how many cores of it this program may use, and the memory."""
    cores, pages = len(os.sched_getaffinity(0)), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.machine()
    return f"{name}, {cores} cores, {pages / 1e9:.0f} GB, Python {platform.python_version()}"


def provenance() -> dict[str, str | float | None]:
    """Commit, command, machine, and its load over the last minute, this program's own share included."""
    name = Path(sys.argv[0]).name
    given = [Path(each).name if each.startswith("/") else each for each in sys.argv[1:]]  # no paths of this machine
    return {
        "commit": commit(),
        "command": shlex.join(["python", f"benchmarks/{name}", *given]),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 2),
    }


def print_figures(figures: Mapping[str, Any], as_json: bool) -> None:
    """As JSON with their provenance, or a line each."""
    if as_json:
        print(json.dumps({**figures, **provenance()}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' ')}: {value}")
