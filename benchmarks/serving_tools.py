"""What the service's benchmarks share: a made-up model, a service in another process, and an open-loop client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import valuerec as vr
from valuerec.folders import write_json, write_manifest
from valuerec.network import Network
from valuerec.tensors import save_tensors

WINDOW = 10
_IDLE = 10.0  # seconds after which a connection is not used again; the service closes it after 30


def made_up_run(
    folder: Path, n_items: int, *, width: int = 64, heads: int = 15, seed: int = 0, ids: list[str] | None = None
) -> Path:
    """A RUN folder of a SASRec-VPQ of random weights; heads 0: supervised; ids by default item0000000, ..."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    network = Network(vr.SASRec(width=width), n_items, WINDOW, heads)
    with torch.no_grad():
        network.item_head.weight_ND.normal_()  # scores as far apart as those of a trained model
        network.item_head.bias_N.normal_()
        network.backbone.item.weight.normal_()  # type: ignore[union-attr, operator]
    method = {"name": "vpq", "heads": heads, "discount": 0.5} if heads else {"name": "supervised"}
    config = {
        "dataset": {"path": "made up", "fingerprint": f"made up {seed}", "items": n_items},
        "backbone": {"name": "sasrec", "width": width, "dropout": 0.1},
        "method": method,
        "rewards": {"click": 0.2, "purchase": 1.0},
        "training": {"window": WINDOW},
    }
    write_json(folder / "config.json", config)
    write_json(folder / "environment.json", {})
    save_tensors(folder / "weights-000000001.safetensors", network.state_dict())
    pq.write_table(pa.table({"item": ids or [item_id(item) for item in range(n_items)]}), folder / "items.parquet")
    write_manifest(folder, "run", 1, {"status": "finished", "weights": "weights-000000001.safetensors", "step": 1})
    return folder


def item_id(item: int) -> str:
    return f"item{item:07d}"


def sessions_of(n_items: int, seed: int) -> Iterator[list[str]]:
    """Made-up sessions without end."""
    draw = random.Random(seed)
    while True:
        yield [item_id(draw.randrange(n_items)) for _ in range(draw.randint(0, 15))]


class Process:
    """`valuerec serve` in another process, on one core where there are several."""

    def __init__(self, model: Path, *options: str, core: int | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        command = [sys.executable, "-m", "valuerec.cli", "serve", str(model), "--port", str(self.port), *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._log = Path(f"{model}.{self.port}.log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment)
        if core is not None and len(os.sched_getaffinity(0)) > 1:
            os.sched_setaffinity(self.process.pid, {core})

    def log(self) -> list[dict[str, Any]]:
        """The log's lines so far, those that are not JSON as {"text"}."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) if line.startswith("{") else {"text": line} for line in lines]

    async def ready(self, patience: float = 120.0) -> None:
        """Wait until it is."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                answer = await Connection(self.port).get("/v2/health/ready")
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"The service is not ready: {self._log.read_text()[-2000:]}")

    def resident(self) -> int:
        """Bytes in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self, patience: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextlib.asynccontextmanager
async def served(model: Path, *options: str) -> AsyncIterator[Process]:
    """A service that is ready, and ended afterwards; it has one core to itself, and this process the others."""
    cores = os.sched_getaffinity(0)
    process = Process(model, "--processes", "1", "--no-log-requests", *options, core=max(cores))
    try:
        await process.ready()
        os.sched_setaffinity(0, cores - {max(cores)} or cores)
        yield process
    finally:
        os.sched_setaffinity(0, cores)
        process.end()


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One HTTP/1.1 connection, with nothing in it that costs time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> Reply:
        """GET."""
        return await self.send(f"GET {path} HTTP/1.1\r\nhost: here\r\n\r\n".encode())

    async def post(self, path: str, content: Any) -> Reply:
        """POST of JSON."""
        body = json.dumps(content).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        return await self.send(head.encode() + b"\r\n\r\n" + body)

    async def send(self, request: bytes) -> Reply:
        """Send a request as it is, and wait for its answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert self._reader is not None
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(first.split()[1]), headers, body)

    def close(self) -> None:
        """Close it; a next request opens it again."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    @property
    def open(self) -> bool:
        """Whether another request may be sent without opening."""
        return self._writer is not None


class Sent(NamedTuple):
    """A request of a load: seconds after the start at which it was to be sent, and from then to its answer."""

    at: float
    seconds: float
    status: int  # 0: no answer
    body: bytes  # read when it is asked for: while the load runs that would take time from it

    @property
    def version(self) -> str | None:
        """Of the model that answered."""
        return str(json.loads(self.body)["model"]["version"]) if self.status == 200 else None

    @property
    def items(self) -> tuple[str, ...]:
        """Recommended."""
        return tuple(item["id"] for item in json.loads(self.body)["items"]) if self.status == 200 else ()


class Load:
    """Requests at random moments (Poisson), sent whether or not the earlier ones are answered.

    Args:
        port: of the service.
        n_items: of its catalogue.
        seed: of the moments and the sessions.
        wanted: of each request beside the session.
    """

    def __init__(self, port: int, n_items: int, seed: int = 0, **wanted: Any) -> None:
        self._port, self._draw, self._wanted = port, random.Random(seed), {"k": 20} | wanted
        self._sessions = sessions_of(n_items, seed)
        self._idle: list[tuple[Connection, float]] = []
        self.stopped = self.stops_at_close = False
        self.lasted = 0.0  # seconds in which all was sent; more than were asked for where this client was too slow
        self.sent: list[Sent] = []
        self.failures: list[str] = []

    async def run(self, rate: float, seconds: float) -> list[Sent]:
        """Ask `rate` times a second for so long, or until `stopped`; wait for all answers."""
        start, at, tasks = time.perf_counter(), 0.0, set()
        while not self.stopped:
            at += self._draw.expovariate(rate)
            if at > seconds:
                break
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            if self.stopped:
                break
            task = asyncio.create_task(self._one(start, at, next(self._sessions)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        self.lasted = max(seconds if at > seconds else 0.0, time.perf_counter() - start)
        if tasks:
            await asyncio.wait(tasks)
        return self.sent

    async def _one(self, start: float, at: float, session: list[str]) -> None:
        connection = self._connection()
        status, body = 0, b""
        try:
            reply = await connection.post("/v1/recommend", {"session": session} | self._wanted)
            status, body = reply.status, reply.body
            if reply.headers.get("connection") == "close":
                self.stopped |= self.stops_at_close
        except (OSError, asyncio.IncompleteReadError) as error:
            connection.close()
            self.failures.append(repr(error))
        self.sent.append(Sent(at, time.perf_counter() - start - at, status, body))
        if connection.open:
            self._idle.append((connection, time.monotonic()))

    def _connection(self) -> Connection:
        """The one used last, or a new one where it has been idle so long that the service may be closing it."""
        if self._idle and time.monotonic() - self._idle[-1][1] > _IDLE:
            self.close()
        return self._idle.pop()[0] if self._idle else Connection(self._port)

    def close(self) -> None:
        """Close its connections."""
        for connection, _ in self._idle:
            connection.close()
        self._idle = []


def summary(sent: Sequence[Sent], seconds: float) -> dict[str, Any]:
    """Rates and latencies, both of answers with 200; `goodput` counts those that came within the time, a second."""
    answered = sorted(each.seconds for each in sent if each.status == 200)
    statuses = {str(status): 0 for status in sorted({each.status for each in sent})}
    for each in sent:
        statuses[str(each.status)] += 1
    in_time = sum(each.status == 200 and each.at + each.seconds <= seconds for each in sent)
    told: dict[str, Any] = {"requests": len(sent), "statuses": statuses, "goodput": in_time / seconds}
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        place = min(len(answered) - 1, int(share * len(answered)))
        told[f"{name}_ms"] = round(1000 * answered[place], 2) if answered else None
    return told
