"""The address, which is had by one service, and the end, which is bounded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from serving_tools import made_up_run
from valuerec.errors import ValuerecError
from valuerec.serving.server import bind
from valuerec.serving.settings import Settings
from valuerec.serving.supervisor import Supervisor

# a batch of three takes one process argv[4] seconds; what dies is not started again for a minute
_SLOW = """
import sys, time
from pathlib import Path
from valuerec.ranking import Engine
from valuerec.serving import supervisor
from valuerec.serving.starting import serve

rank = Engine.rank
Engine.rank = lambda self, wanted, *_: (time.sleep(float(sys.argv[4]) * (len(wanted) == 3)), rank(self, wanted))[1]
supervisor._PATIENCE = (60.0, 60.0)
options = {"deadline": 50.0, "drain_delay": 0.0, "drain_timeout": float(sys.argv[5])}
serve(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]), int(sys.argv[3]), options)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_run(tmp_path_factory.mktemp("ends") / "run", 50, heads=0)


def test_an_address_is_had_by_one_service_from_the_start(path: Path) -> None:
    with bind("127.0.0.1", 0) as one:  # and does not listen yet
        port = int(one.getsockname()[1])
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(ValuerecError, match=f"Listening at {host} port {port} failed: .*in use"):
                bind(host, port)
        with pytest.raises(ValuerecError, match="in use"):
            Supervisor(path, Settings(), "127.0.0.1", port, 2)
    first = Supervisor(path, Settings(), "127.0.0.1", port, 2)
    children = [bind("127.0.0.1", port, socket.SO_REUSEADDR, socket.SO_REUSEPORT) for _ in range(2)]
    for listens in (False, True):
        with pytest.raises(ValuerecError, match="in use"):
            Supervisor(path, Settings(), "127.0.0.1", port, 2)
        with pytest.raises(ValuerecError, match="in use"):
            bind("127.0.0.1", port)
        for child in children if not listens else ():
            child.listen()
    for child in children:
        child.close()
    del first


class Slow:
    """A service by the script above."""

    def __init__(self, path: Path, processes: int, seconds: float, drain_timeout: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        given = [str(each) for each in (path, self.port, processes, seconds, drain_timeout)]
        self.log = path.with_name(f"{self.port}.log")
        with self.log.open("w") as log:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen([sys.executable, "-c", _SLOW, *given], stderr=log, env=environment)
        self.until('"ready"', processes)

    def until(self, said: str, times: int = 1) -> None:
        end = time.monotonic() + 120
        while self.log.read_text().count(said) < times:
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def ask(self, sessions: int) -> HTTPConnection:
        """Sends a batch; its answer is to be fetched."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps({"requests": [{"session": []}] * sessions})
        connection.request("POST", "/v1/recommend/batch", body, {"content-type": "application/json"})
        return connection

    def end(self) -> tuple[int, float]:
        """SIGTERM: the exit code and the seconds it took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(50), time.monotonic() - start
        finally:
            self.process.kill()


def test_the_end_waits_for_what_can_be_answered(path: Path) -> None:
    service = Slow(path, 1, seconds=2.0, drain_timeout=20.0)
    asked = service.ask(3)
    time.sleep(0.5)
    queued = service.ask(1)  # behind it
    time.sleep(0.3)
    code, seconds = service.end()
    assert asked.getresponse().status == queued.getresponse().status == 200
    assert code == 0 and 0.5 < seconds < 15
    bind("127.0.0.1", service.port).close()  # though closed connections are still there (TIME_WAIT)


def test_the_end_is_bounded_whatever_is_ranked(path: Path) -> None:
    service = Slow(path, 1, seconds=40.0, drain_timeout=1.0)
    asked = service.ask(3)
    time.sleep(0.5)
    code, seconds = service.end()
    assert code == 0 and 0.9 < seconds < 8
    assert '"ended"' in service.log.read_text()
    asked.close()


def test_a_process_that_is_to_be_started_again_later_does_not_hold_up_the_end(path: Path) -> None:
    service = Slow(path, 2, seconds=0.0, drain_timeout=5.0)
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    served = [each for each in children if b"valuerec.serving.child" in Path(f"/proc/{each}/cmdline").read_bytes()]
    os.kill(int(served[0]), signal.SIGKILL)
    service.until('"process died"')
    assert service.ask(1).getresponse().status == 200
    code, seconds = service.end()
    assert code == 0 and seconds < 8
