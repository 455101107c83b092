"""What no client should send: mutated requests, slow ones, half-open connections, bodies that go on after their answer.

The service lives, does not grow and answers others.

python benchmarks/serving_fuzz.py --mutations 10000 --connections 1000 --json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import serving_tools as tools
from provenance import print_figures
from valuerec.serving.keys import new_key

_BODY = json.dumps({"session": ["item0000001", {"item": "item0000002", "event": "click"}], "k": 5}).encode()
_HEAD = b"POST /v1/recommend HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_SEEDS = [
    _HEAD % len(_BODY) + _BODY,
    b"GET /v1/items?query=item&limit=3 HTTP/1.1\r\nhost: here\r\n\r\n",
    b"GET /v2/health/ready HTTP/1.1\r\nhost: here\r\n\r\n" * 3,
    b"POST /v1/recommend HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n10\r\n"
    + _BODY[:16]
    + b"\r\n0\r\n\r\n",
]
_PIECES = [
    b"\r\n",
    b"\x00",
    b"\xff\xfe",
    b"%00",
    b"../",
    b": ",
    b"9" * 40,
    b"A" * 5000,
    b"Transfer-Encoding: chunked\r\n",
]


def mutated(draw: random.Random) -> bytes:
    """A request with one to six things wrong."""
    content = bytearray(draw.choice(_SEEDS))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(content) + 1)
        kind = draw.randrange(5)
        if kind == 0 and content:
            content[place % len(content)] = draw.randrange(256)
        elif kind == 1:
            content[place:place] = draw.choice(_PIECES)
        elif kind == 2:
            del content[place : place + draw.randint(1, 40)]
        elif kind == 3:
            content[place:place] = content[: draw.randint(0, len(content))]
        else:
            del content[place:]
    return bytes(content)


async def send(port: int, content: bytes) -> bytes:
    """Send, say that nothing follows, and read what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        with contextlib.suppress(OSError):
            writer.write_eof()
        async with asyncio.timeout(3):
            return await reader.read(1 << 20)
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()


async def talk_on(port: int, fast: bool, patience: float) -> bool:
    """Ask without a key, read the answer, and go on sending the body; whether that was cut off within `patience`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"POST /v1/recommend HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        async with asyncio.timeout(patience):
            await reader.readuntil(b"\r\n\r\n")
            while not reader.at_eof():
                writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n" if fast else b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.01 if fast else 0.3)
        return True
    except TimeoutError:
        return False
    except (OSError, asyncio.IncompleteReadError):
        return True
    finally:
        writer.close()


async def talkers(path: Path, count: int) -> dict[str, Any]:
    """As many as there may be connections, half of them fast: none is borne for long, and then others are answered."""
    new_key(path.with_name("keys"), "nobody")
    limits = ("--keys", str(path.with_name("keys")), "--max-connections", str(count), "--client-timeout", "2")
    async with tools.served(path, *limits) as process:
        before = process.resident()
        cut_off = await asyncio.gather(*(talk_on(process.port, number % 2 == 0, 20.0) for number in range(count)))
        await asyncio.sleep(0.2)
        after = await tools.Connection(process.port).get("/v2/health/live")
        return {
            "talkers": count,
            "talkers_cut_off": sum(cut_off),
            "status_after_them": after.status,
            "memory_grown_by_talkers": round(process.resident() / before - 1, 4),
        }


async def measure(folder: Path, n_items: int, mutations: int, connections: int, seed: int = 0) -> dict[str, Any]:
    """Talkers; mutations eight at a time, then slow and half-open connections, with a good request now and then."""
    path = tools.made_up_run(folder / "run", n_items, heads=4)
    draw = random.Random(seed)
    talked = await talkers(path, max(2, connections // 10))
    async with tools.served(path, "--max-connections", str(connections + 50)) as process:
        good = {"session": ["item0000001"], "k": 5}
        for _ in range(200):
            await tools.Connection(process.port).post("/v1/recommend", good)
        for _ in range(min(200, mutations)):
            await send(process.port, mutated(draw))
        before = process.resident()
        statuses: dict[str, int] = {}
        failed = 0
        for start in range(0, mutations, 8):
            batch = [mutated(draw) for _ in range(min(8, mutations - start))]
            for answer in await asyncio.gather(*(send(process.port, content) for content in batch)):
                status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "none"
                statuses[status] = statuses.get(status, 0) + 1
            if start % 400 == 0:
                failed += (await tools.Connection(process.port).post("/v1/recommend", good)).status != 200
        after_mutations = process.resident()
        held = []
        for number in range(connections):
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            if number % 3 == 1:
                writer.write(b"POST /v1/recommend HTTP/1.1\r\nhost: ")
            elif number % 3 == 2:
                writer.write(_HEAD % 100 + b'{"sess')
            held.append((reader, writer))
        while_held = (await tools.Connection(process.port).post("/v1/recommend", good)).status
        for _ in range(14 if connections >= 100 else 1):  # longer than a client may take
            await asyncio.sleep(1)
        cut_off = 0
        for reader, writer in held:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.05):
                    cut_off += not await reader.read(1) or True
            writer.close()
        await asyncio.sleep(0.5)
        failed += (await tools.Connection(process.port).post("/v1/recommend", good)).status != 200
        return {
            "mutations": mutations,
            "statuses": dict(sorted(statuses.items())),
            "answers_of_5xx": sum(count for status, count in statuses.items() if status.startswith("5")),
            "connections": connections,
            "status_beside_them": while_held,
            "cut_off_or_told": cut_off,
            "good_requests_failed": failed,
            **talked,
            "alive": process.process.poll() is None,
            "memory_grown_by_mutations": round(after_mutations / before - 1, 4),
            "memory_grown": round(process.resident() / before - 1, 4),
            "faults": sum(line.get("event") == "fault" for line in process.log()),
        }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = await measure(Path(folder), given.items, given.mutations, given.connections, given.seed)
        print_figures(result, given.json)


if __name__ == "__main__":
    asyncio.run(main())
