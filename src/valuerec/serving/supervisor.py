"""Several processes at one port: a small parent that starts them, starts again what dies, and passes on what it hears.

Each process listens at the port by itself (SO_REUSEPORT), so the kernel shares connections out; the parent had it alone
before, so that no other service shares it. A process ends when its parent does: the pipe between them closes.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from prometheus_client import multiprocess

from valuerec.errors import ValuerecError
from valuerec.serving.child import Task
from valuerec.serving.keys import new_table
from valuerec.serving.logs import Log
from valuerec.serving.metrics import SHARED
from valuerec.serving.server import bind
from valuerec.serving.settings import Settings

_PATIENCE: Final = (0.5, 30.0)  # seconds before a process that died is started again: doubled each time, up to


class _Said(NamedTuple):
    """A line that a process has written, or None: its last."""

    process: subprocess.Popen[str]
    message: dict[str, Any] | None


class _Ask(NamedTuple):
    """A rollback that somebody waits for."""

    id: int  # by which its process knows it
    number: int  # by which all processes do
    to: str


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
        self._log, self._count = Log(), count
        self._reserved = bind(host, port)  # ours alone; from here on our processes may have it too
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port = int(self._reserved.getsockname()[1])
        self._task = Task(path, settings, host, self.port, new_table())
        self._children: list[subprocess.Popen[str]] = []
        self._up: dict[subprocess.Popen[str], dict[str, Any]] = {}  # those that have loaded, and what they said last
        self._last: dict[str, Any] | None = None  # what was said last, by a process that was let go
        self._asks: dict[subprocess.Popen[str], _Ask] = {}
        self._number = 0  # of the last rollback
        self._due: list[float] = []  # when processes are to be started again
        self._heard: queue.SimpleQueue[_Said] = queue.SimpleQueue()
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
                child.kill()
                child.wait()
            self._reserved.close()
            os.close(self._task.table)
            shutil.rmtree(folder, ignore_errors=True)
            del os.environ[SHARED]

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "valuerec.serving.child"]
        # In a group of its own: Ctrl-C comes to the parent, which passes it on.
        pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        child = subprocess.Popen(command, start_new_session=True, pass_fds=(self._task.table,), **pipe)
        _tell(child, self._task.plain())
        threading.Thread(target=self._listen, args=(child,), name="listening", daemon=True).start()
        return child

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self._heard.put(_Said(child, json.loads(line)))
        child.wait()
        self._heard.put(_Said(child, None))

    def _supervise(self) -> None:
        patience, came_up = _PATIENCE[0], False
        while self._children or (self._due and not self._ending):
            now = time.monotonic()
            for due in [due for due in self._due if due <= now and not self._ending]:
                self._due.remove(due)
                self._children.append(self._start())
            try:
                child, message = self._heard.get(timeout=0.1)
            except queue.Empty:
                continue  # so that a signal is seen
            if message is None:
                self._bury(child)
                if self._ending:
                    continue
                if not came_up:
                    self._ending = True
                    raise ValuerecError("The service did not start; the log above says why.")
                self._log.say("process died", code=child.returncode, again_in=patience)
                self._due.append(time.monotonic() + patience)
                patience = min(2 * patience, _PATIENCE[1])
            elif "ask" in message:
                self._number += 1
                self._asks[child] = _Ask(message["ask"], self._number, message["rollback"]["to"])
                for each in self._children:
                    _tell(each, {"rollback": message["rollback"], "number": self._number})
            elif child in self._up:
                came_up, patience = True, _PATIENCE[0]
                self._up[child] = self._last = message
            else:
                self._let_go(child, message)
            self._grant()

    def _let_go(self, child: subprocess.Popen[str], state: dict[str, Any]) -> None:
        """Let a process answer that has loaded what the path holds, and left it where the others have left it."""
        self._up[child] = state
        if self._last is not None and self._last["left"] == state["at"]:
            rollback = {"leaving": state["at"], "to": self._last["at"], "folder": self._last["folder"]}
            _tell(child, {"rollback": rollback, "number": self._number})
        _tell(child, {"go": True, "number": self._number})

    def _grant(self) -> None:
        """Tell whoever waits for a rollback that every process that answers is there."""
        for child, ask in [*self._asks.items()]:
            if all(state["number"] >= ask.number and state["at"] == ask.to for state in self._up.values()):
                del self._asks[child]
                _tell(child, {"granted": ask.id})

    def _bury(self, child: subprocess.Popen[str]) -> None:
        self._children.remove(child)
        self._asks.pop(child, None)
        state = self._up.pop(child, None)
        if state is not None and self._last is not None and not self._up and state["at"] == self._last["left"]:
            self._last = None  # it could not go back, and nobody else answers: better by what the path holds than not
        multiprocess.mark_process_dead(child.pid)  # type: ignore[no-untyped-call]

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        for child in self._children:
            child.send_signal(signal.SIGTERM)


def _tell(child: subprocess.Popen[str], message: Any) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(f"{json.dumps(message)}\n")
        child.stdin.flush()
    except OSError:
        pass  # it is dying, and will be started again
