"""Several processes at one port: a small parent that starts them, starts again what dies, and passes on what it hears.

Each process listens at the port by itself (SO_REUSEPORT), so the kernel shares connections out. A process ends when its
parent does: its end of the pipe between them closes.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
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
from valuerec.serving.child import READY, Task
from valuerec.serving.logs import Log
from valuerec.serving.metrics import SHARED
from valuerec.serving.server import bind
from valuerec.serving.settings import Settings

_PATIENCE: Final = (0.5, 30.0)  # seconds before a process that died is started again: doubled each time, up to


class _Said(NamedTuple):
    """A line that a process has written, or None: its last."""

    process: subprocess.Popen[str]
    message: dict[str, Any] | None


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
        self._reserved = bind(host, port, shared=True)  # ours, while no process listens
        self.port = int(self._reserved.getsockname()[1])
        self._task = Task(path, settings, host, self.port, count)
        self._children: list[subprocess.Popen[str]] = []
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
            shutil.rmtree(folder, ignore_errors=True)
            del os.environ[SHARED]

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "valuerec.serving.child"]
        # In a group of its own: Ctrl-C comes to the parent, which passes it on.
        pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        child = subprocess.Popen(command, start_new_session=True, **pipe)
        _tell(child, self._task.as_json())
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
        while self._children:
            try:
                child, message = self._heard.get(timeout=0.5)
            except queue.Empty:
                continue  # so that a signal is seen
            if message == READY:
                came_up, patience = True, _PATIENCE[0]
            elif message is not None:
                for each in self._children:
                    _tell(each, json.dumps(message))
            else:
                self._bury(child)
                if self._ending:
                    continue
                if not came_up:
                    self._ending = True
                    raise ValuerecError("The service did not start; the log above says why.")
                self._log.say("process died", code=child.returncode, again_in=patience)
                time.sleep(patience)
                patience = min(2 * patience, _PATIENCE[1])
                if not self._ending:
                    self._children.append(self._start())

    def _bury(self, child: subprocess.Popen[str]) -> None:
        self._children.remove(child)
        multiprocess.mark_process_dead(child.pid)  # type: ignore[no-untyped-call]

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        for child in self._children:
            child.send_signal(signal.SIGTERM)


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
    except OSError:
        pass  # it is dying, and will be started again
