"""Several processes at one port: a small parent that starts them, starts again what dies, and passes on what it hears.

Each process listens at the port by itself (SO_REUSEPORT), so the kernel shares connections out. A process ends when its
parent does: its end of the pipe between them closes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from prometheus_client import multiprocess

from valuerec.errors import ValuerecError
from valuerec.serving.logs import Log
from valuerec.serving.metrics import SHARED
from valuerec.serving.server import bind, run
from valuerec.serving.service import Service
from valuerec.serving.settings import Settings

_READY: Final = "ready"
_PATIENCE: Final = (0.5, 30.0)  # seconds before a process that died is started again: doubled each time, up to


class _Rollback(NamedTuple):
    leaving: str
    to: str


class _Child(NamedTuple):
    process: SpawnProcess
    pipe: Connection


class Supervisor:
    """Runs `count` processes until asked to end.

    Args:
        path: of the model.
        settings: options.
        host: to listen at.
        port: to listen at; 0 for any.
        count: processes.
    """

    def __init__(self, path: Path, settings: Settings, host: str, port: int, count: int) -> None:
        self._path, self._settings, self._host, self._count = path, settings, host, count
        self._log = Log()
        self._reserved = bind(host, port, shared=True)  # ours, while no process listens
        self.port = int(self._reserved.getsockname()[1])
        self._children: list[_Child] = []
        self._ending = False

    def run(self) -> None:
        """Serve.

        Raises:
            ValuerecError: where the first process does not come up.
        """
        folder = tempfile.mkdtemp(prefix="valuerec-metrics-")
        os.environ[SHARED] = folder
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._children = [self._start() for _ in range(self._count)]
            self._supervise()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for child in self._children:
                if child.process.is_alive():
                    child.process.kill()
            self._reserved.close()
            shutil.rmtree(folder, ignore_errors=True)
            del os.environ[SHARED]

    def _start(self) -> _Child:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (self._path, self._settings, self._host, self.port, self._count, theirs)
        process = context.Process(target=_child, args=arguments, name="valuerec-serve")
        process.start()
        theirs.close()
        return _Child(process, ours)

    def _supervise(self) -> None:
        patience, came_up = _PATIENCE[0], False
        while self._children:
            wait(
                [*(child.process.sentinel for child in self._children), *(child.pipe for child in self._children)], 0.5
            )
            for child in list(self._children):
                for message in _heard(child):
                    came_up = True
                    if isinstance(message, _Rollback):
                        self._pass_on(message)
                    else:
                        patience = _PATIENCE[0]
                if child.process.is_alive():
                    continue
                self._bury(child)
                if self._ending:
                    continue
                if not came_up:
                    self._ending = True
                    self._pass_on_signal(signal.SIGTERM)
                    raise ValuerecError("The service did not start; the log above says why.")
                self._log.say("process died", code=child.process.exitcode, again_in=patience)
                time.sleep(patience)
                patience = min(2 * patience, _PATIENCE[1])
                if not self._ending:
                    self._children.append(self._start())

    def _bury(self, child: _Child) -> None:
        child.process.join()
        child.pipe.close()
        self._children.remove(child)
        if child.process.pid is not None:
            multiprocess.mark_process_dead(child.process.pid)  # type: ignore[no-untyped-call]

    def _pass_on(self, message: _Rollback) -> None:
        for child in self._children:
            try:
                child.pipe.send(message)
            except OSError:
                continue  # it is dying, and will be started again

    def _pass_on_signal(self, number: int) -> None:
        for child in self._children:
            if child.process.pid is not None and child.process.is_alive():
                os.kill(child.process.pid, number)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        self._pass_on_signal(signal.SIGTERM)


def _heard(child: _Child) -> list[Any]:
    messages = []
    try:
        while child.pipe.poll():
            messages.append(child.pipe.recv())
    except (EOFError, OSError):
        pass
    return messages


def _child(path: Path, settings: Settings, host: str, port: int, processes: int, pipe: Connection) -> None:
    """A process: serves, and listens to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    try:
        run(path, settings, bind(host, port, shared=True), processes, lambda *told: _attach(pipe, *told))
    except ValuerecError as error:
        Log().say("failed", why=str(error))
        os._exit(1)


def _attach(pipe: Connection, service: Service, drain: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    service.ask_rollback = lambda leaving, to: pipe.send(_Rollback(leaving, to))
    pipe.send(_READY)

    def listen() -> None:
        try:
            while True:
                service.rollback(*pipe.recv())
        except (EOFError, OSError):
            loop.call_soon_threadsafe(drain)  # the parent has gone

    threading.Thread(target=listen, name="listening", daemon=True).start()
