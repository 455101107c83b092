"""A process of several: `python -m valuerec.serving.child`, started and told what to do by `supervisor`.

It is told in JSON, a line each, on its standard input: first what to serve (`Task`), later which version to leave. It
tells in the same way, on standard output, that it answers and that somebody has asked for a rollback. It ends when its
input does, for then its parent has gone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

from valuerec.errors import ValuerecError
from valuerec.serving.logs import Log
from valuerec.serving.server import bind, run
from valuerec.serving.service import Service
from valuerec.serving.settings import Settings

READY = {"ready": True}


class Task(NamedTuple):
    """What a process is to do: serve `path` at `host` and `port`, as one of `processes`."""

    path: Path
    settings: Settings
    host: str
    port: int
    processes: int

    def as_json(self) -> str:
        """For `from_json`."""
        return json.dumps([str(self.path), dataclasses.asdict(self.settings), *self[2:]], default=str)

    @classmethod
    def from_json(cls, text: str) -> Task:
        """What `as_json` says."""
        path, settings, host, port, processes = json.loads(text)
        files = {name: Path(settings[name]) for name in ("keys", "catalogue", "sessions") if settings[name] is not None}
        return cls(Path(path), Settings(**settings | files), host, port, processes)


def main() -> None:
    """Serve what the first line of standard input says."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no message
    task = Task.from_json(sys.stdin.readline())
    try:
        listener = bind(task.host, task.port, shared=True)
        run(task.path, task.settings, listener, task.processes, functools.partial(_attach, channel))
    except ValuerecError as error:
        Log().say("failed", why=str(error))
        os._exit(1)


def _attach(channel: TextIO, service: Service, drain: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    service.ask_rollback = lambda leaving, to: print(
        json.dumps({"leaving": leaving, "to": to}), file=channel, flush=True
    )
    print(json.dumps(READY), file=channel, flush=True)

    def listen() -> None:
        for line in sys.stdin:
            service.rollback(**json.loads(line))
        loop.call_soon_threadsafe(drain)  # the parent has gone

    threading.Thread(target=listen, name="listening", daemon=True).start()


if __name__ == "__main__":
    main()
