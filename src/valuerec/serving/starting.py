"""From the command to one process or several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from valuerec.errors import UsageError
from valuerec.serving.logs import Log
from valuerec.serving.server import bind, run
from valuerec.serving.settings import Settings
from valuerec.serving.supervisor import Supervisor


def serve(path: Path, host: str, port: int, processes: int | None, options: dict[str, Any]) -> None:
    """See `valuerec.stages.serve`."""
    settings = Settings(**options)
    if not 0 <= port < 1 << 16:
        raise UsageError(f"The port is {port}; it must be from 0 to 65535.")
    count = len(os.sched_getaffinity(0)) if processes is None else processes
    if count < 1:
        raise UsageError(f"There are to be {count} processes; at least one must be.")
    if count > 1:
        supervisor = Supervisor(path, settings, host, port, count)
        Log().say("listening", host=host, port=supervisor.port, processes=count)
        supervisor.run()
        return
    listener = bind(host, port)
    Log().say("listening", host=host, port=listener.getsockname()[1], processes=1)
    run(path, settings, listener)
