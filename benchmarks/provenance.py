"""What a figure must be read with: the commit it was taken at and the command that took it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from valuerec.training.run import commit


def provenance() -> dict[str, str | float | None]:
    """Commit, command, and the load of the machine over the last minute, this program's own share included."""
    name = Path(sys.argv[0]).name
    return {
        "commit": commit(),
        "command": shlex.join(["python", f"benchmarks/{name}", *sys.argv[1:]]),
        "load": round(os.getloadavg()[0], 2),
    }
