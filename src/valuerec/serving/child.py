"""A process of several: `python -m valuerec.serving.child`, started and told what to do by `supervisor`.

It is told in JSON, a line each, on its standard input: first what to serve (`Task`), then that it may answer ("go"),
before and after that which version to leave for which ("rollback"), and that all have done so ("granted"). It tells in
the same way, on standard output, by which version it would answer, once it has loaded, and does, after each change; and
that somebody asks for a rollback ("ask"). It ends when its input does, for then its parent has gone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from valuerec.errors import ValuerecError
from valuerec.serving.logs import Log
from valuerec.serving.server import bind, run
from valuerec.serving.service import Service
from valuerec.serving.settings import Settings
from valuerec.serving.versions import Rollback


class Task(NamedTuple):
    """What a process is to do: serve `path` at `host` and `port`; `table` has what the keys have spent, for all."""

    path: Path
    settings: Settings
    host: str
    port: int
    table: int

    def plain(self) -> list[Any]:
        """For `of`, through JSON."""
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(self.settings).items()
        }
        return [str(self.path), settings, *self[2:]]

    @classmethod
    def of(cls, told: list[Any]) -> Task:
        """What `plain` says."""
        path, settings, host, port, table = told
        files = {name: Path(settings[name]) for name in ("keys", "catalogue", "sessions") if settings[name] is not None}
        return cls(Path(path), Settings(**settings | files), host, port, table)


def main() -> None:
    """Serve what the first line of standard input says."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no message
    task = Task.of(json.loads(sys.stdin.readline()))
    try:
        listener = bind(task.host, task.port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        run(task.path, task.settings, listener, task.table, functools.partial(_attach, channel))
    except ValuerecError as error:
        Log().say("failed", why=str(error))
        os._exit(1)


def _attach(channel: TextIO, service: Service, drain: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    parent = _Parent(channel, service)
    service.ask_rollback, service.changed = parent.ask, parent.tell_state
    parent.tell_state()
    parent.hear()

    def listen() -> None:
        parent.hear()
        loop.call_soon_threadsafe(drain)  # it has gone

    threading.Thread(target=listen, name="listening", daemon=True).start()


class _Parent:
    """The other end of the pipe."""

    def __init__(self, channel: TextIO, service: Service) -> None:
        self._channel, self._service = channel, service
        self._speaking, self._asking = threading.Lock(), threading.Lock()
        self._said: dict[str, Any] | None = None
        self._number = 0  # of the last rollback that was passed on
        self._ask, self._granted = 0, threading.Event()
        self._answering = False

    def tell_state(self) -> None:
        """Say by which version this process answers, where that is news."""
        with self._speaking:
            told = {"number": self._number, "answering": self._answering}
            state = self._service.versions.state._asdict() | told
            if state != self._said:
                self._said = state
                print(json.dumps(state), file=self._channel, flush=True)

    def ask(self, wanted: Rollback, deadline: float) -> bool:
        """Ask for a rollback of every process; whether all are there before the deadline of `time.monotonic`."""
        with self._asking:
            with self._speaking:
                self._ask += 1
                self._granted.clear()
                print(json.dumps({"ask": self._ask, "rollback": wanted._asdict()}), file=self._channel, flush=True)
            return self._granted.wait(max(0.0, deadline - time.monotonic()))

    def hear(self) -> None:
        """Do what is said: the first time until this process may answer, then until the parent has gone.

        Raises:
            ValuerecError: where this process can't answer by what the others do.
        """
        for line in sys.stdin:
            message = json.loads(line)
            if "go" in message:
                self._answering, self._number = True, message["number"]
                self.tell_state()
                return
            if "granted" in message:
                if message["granted"] == self._ask:
                    self._granted.set()
                continue
            done = self._service.rollback(Rollback(**message["rollback"]))
            self._number = message["number"]
            if not done and not self._answering:
                raise ValuerecError("What the service was rolled back to is gone; put a model in place.")
            self.tell_state()
        if not self._answering:
            raise ValuerecError("The parent has gone.")


if __name__ == "__main__":
    main()
