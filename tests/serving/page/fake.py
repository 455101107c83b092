"""A made-up service that keeps to the contract of valuerec's: for tests of the page, and for working on it.

Its numbers are consistent: an answer depends on the session alone, ranks follow from the numbers as equation 2 of the
paper and the contract say. It can be slow, fail, refuse, and go down.

    python tests/serving/page/fake.py --port 8765
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = Path(__file__).resolve().parents[3] / "src" / "valuerec" / "serving" / "page"
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
KINDS = ("kettle", "tent", "lamp", "bicycle bell", "teapot", "easel", "rope", "tripod", "grinder", "fishing reel")
WORDS = (
    "copper",
    "folding",
    "quiet",
    "enamel",
    "large",
    "pocket",
    "woollen",
    "bright",
    "second-hand",
    "walnut",
    "narrow",
    "oiled",
    "striped",
    "silent",
    "heavy",
    "spare",
    "painted",
    "round",
    "early",
    "plain",
)
HOSTILE = {
    "<img src=x onerror=alert(1)>": "<script>alert('name')</script><b>bold</b>",
    "\u202egnirts desrever": "قهوة \u202eevil",
    "x" * 1000: "W" * 1000,
    'quote" onmouseover="alert(1)': "'; DROP TABLE items; --",
    "i 42&view=model#<>": "  spaces   and\nnew lines\t",
    "zero\u200bwidth": "",
}  # fmt: skip


@dataclass
class World:
    """What the service knows and how it behaves."""

    hostile: bool = False
    has_values: bool = True
    bounds: tuple[float, float] | None = (0.0, 2.0)
    version: str = "step-772"
    key: str | None = None
    delay: float = 0.0
    fault: int | str | None = None  # a status, or "broken" (no JSON), "cut" (the connection ends)
    retry_after: int | None = None
    fallback: str | None = None
    sessions: bool = True
    metrics: dict[str, Any] | None = None  # others than made up
    asked: list[tuple[str, Any]] = field(default_factory=list)
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @cached_property
    def names(self) -> dict[str, str]:
        names = {f"i{n}": f"{WORDS[n % 20]} {KINDS[n // 20]}".capitalize() for n in range(200)}
        return names | HOSTILE if self.hostile else names

    def scored(self, session: list[str]) -> list[dict[str, Any]]:
        """Every item with relevance, value and uncertainty for a session."""
        known = [item for item in session if item in self.names]
        last = known[-1] if known else ""
        if last not in self.kept:
            self.kept[last] = self.score(last)
        return [dict(row) for row in self.kept[last]]

    def score(self, last: str) -> list[dict[str, Any]]:
        rows = []
        for place, (item, name) in enumerate(self.names.items()):
            chance = random.Random(f"{last}/{item}")
            near = 2.5 if last and last in self.names and name.split()[-1:] == self.names[last].split()[-1:] else 0.0
            strange = 6.0 if item in HOSTILE and not last else 0.0
            logit = chance.gauss(0, 1.2) + near + strange - 0.003 * place
            value = 0.2 + 0.9 * chance.random() ** 2 + 0.1 * min(1.0, near)
            spread = 0.004 + 0.25 * chance.random() ** 2
            rows.append({"id": item, "name": name, "logit": logit, "value": value, "uncertainty": spread})
        total = sum(math.exp(row["logit"]) for row in rows)
        for row in rows:
            row["relevance"] = math.exp(row.pop("logit")) / total
            if not self.has_values:
                row["value"] = row["uncertainty"] = None
        return rows

    def ranked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request of recommend or score."""
        session = [entry if isinstance(entry, str) else entry["item"] for entry in asked["session"]]
        by, penalty, blend = asked.get("rank_by", "relevance"), asked.get("penalty", 20.0), asked.get("blend", 0.5)
        rows = self.scored(session)
        unknown = [item for item in session if item not in self.names]
        if "items" in asked:
            rows = [row for row in rows if row["id"] in asked["items"]]
            unknown += [item for item in asked["items"] if item not in self.names]
        if asked.get("exclude_seen"):
            rows = [row for row in rows if row["id"] not in session]
        for row in rows:
            row["weight"] = None if row["uncertainty"] is None else 1 / (1 + penalty * row["uncertainty"])
        if by == "relevance" or not self.has_values:
            score = {row["id"]: row["relevance"] for row in rows}
        else:
            worth = {row["id"]: row["value"] * row["weight"] for row in rows}
            likely = {row["id"]: row["relevance"] for row in rows}
            score = worth if by == "value" else blended(likely, worth, blend)
        rows.sort(key=lambda row: (-score[row["id"]], row["id"].encode()))
        for row in rows:
            row["score"] = score[row["id"]]
        return {
            "items": rows[: asked.get("k", 20)],
            "rank_by": by,
            "fallback": self.fallback if by != "relevance" else None,
            "unknown_items": unknown,
            "model": {"version": self.version, "name": "made-up"},
            "request_id": "made-up",
        }

    def model(self) -> dict[str, Any]:
        kinds = {
            kind: {f"hr@{k}": 0.02 * k + at for k in (5, 10, 20)} for kind, at in (("purchase", 0.1), ("click", 0))
        }
        return {
            "version": self.version,
            "name": "made-up shop",
            "backbone": "sasrec",
            "method": "vpq" if self.has_values else "supervised",
            "items": len(self.names),
            "has_values": self.has_values,
            "rewards": {"click": 0.2, "purchase": 1.0},
            "bounds": self.bounds if self.has_values else None,
            "penalty": 20.0,
            "metrics": {"test": kinds, "validation": kinds, "steps": 772} if self.metrics is None else self.metrics,
            "card": CARD,
        }

    @cached_property
    def recorded(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if not self.sessions:
            return found
        for number in range(5):
            chance = random.Random(number)
            events: list[dict[str, str]] = []
            session: list[str] = []
            for _ in range(4 + 3 * number):
                likely = self.ranked({"session": session[-1:], "k": 200})["items"]
                item = chance.choice(likely[:30])["id"] if chance.random() < 0.8 else chance.choice(likely[120:])["id"]
                session.append(item)
                events.append({"item": item, "event": "click", "name": self.names[item]})
                if chance.random() < 0.3:
                    events.append(events[-1] | {"event": "purchase"})
            found.append({"id": f"s{number}", "events": events})
        if self.hostile:
            events = [{"item": item, "event": "click"} for item in HOSTILE] + [{"item": "gone", "event": "purchase"}]
            found.append({"id": "<img src=x onerror=alert(2)>" + "y" * 500, "events": events})
        return found


def by_rank(scores: dict[str, float]) -> dict[str, float]:
    """Scores as ranks from 1, the highest, down to 0."""
    order = sorted(scores, key=lambda item: (-scores[item], item.encode()))
    return {item: 1 - place / max(1, len(order) - 1) for place, item in enumerate(order)}


def blended(likely: dict[str, float], worth: dict[str, float], share: float) -> dict[str, float]:
    """The blend of two scores by their ranks."""
    first, second = by_rank(likely), by_rank(worth)
    return {item: (1 - share) * first[item] + share * second[item] for item in likely}


CARD = """# sasrec by vpq

A sequential recommender: the last 10 items of a session in. Recommends by `items`.

## Use
```python
import valuerec as vr

model = vr.load("this <folder>")
```

## Scores
| split, events | hr@5 | hr@10 |
|---|---|---|
| test, purchase | 0.2000 | 0.3000 |

<script>alert('card')</script> <img src=x onerror=alert(3)> [link](javascript:alert(4))

## Limits
- Values are **estimates**, in units of the rewards.
- What it was trained on decides what it recommends.
"""


class Handler(BaseHTTPRequestHandler):
    """Answers for a `World`, which the server carries."""

    protocol_version = "HTTP/1.1"
    server: Fake

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", POLICY)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status: int, found: Any, **headers: str) -> None:
        self.send(status, json.dumps(found).encode(), "application/json", **headers)

    def refuse(self, status: int, message: str, **headers: str) -> None:
        self.send_json(status, {"error": {"code": str(status), "message": message}}, **headers)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/" or address.path.startswith("/page/"):
            name = "index.html" if address.path == "/" else address.path.removeprefix("/page/")
            file = PAGE / name
            if "/" in name or not file.is_file():
                return self.refuse(404, "There is no such file.")
            return self.send(200, file.read_bytes(), TYPES[file.suffix])
        return self.answer(address.path, {name: values[0] for name, values in parse_qs(address.query).items()})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        return self.answer(self.path, json.loads(body))

    def answer(self, path: str, asked: Any) -> None:
        world = self.server.world
        world.asked.append((path, asked))
        if self.server.going_down:
            self.close_connection = True
            return None
        time.sleep(world.delay)
        if world.fault == "cut":
            self.close_connection = True
            return None
        if world.fault == "broken":
            return self.send(200, b"<html>not JSON</html>", "text/html")
        if isinstance(world.fault, int):
            headers = {} if world.retry_after is None else {"retry_after": str(world.retry_after)}
            return self.refuse(world.fault, "it was told to fail.", **headers)
        if world.key and self.headers.get("authorization") != f"Bearer {world.key}":
            return self.refuse(401, "No key, or a wrong one.")
        if path == "/v1/recommend/batch":
            return self.send_json(200, {"answers": [world.ranked(each) for each in asked["requests"]]})
        if path in ("/v1/recommend", "/v1/score"):
            return self.send_json(200, world.ranked(asked))
        if path == "/v1/model":
            return self.send_json(200, world.model())
        if path == "/v1/sessions":
            return self.send_json(200, {"sessions": world.recorded})
        if path == "/v1/items":
            query = asked.get("query", "").lower()
            found = [
                {"id": item, "name": name} for item, name in world.names.items() if query in f"{item}\n{name}".lower()
            ]
            return self.send_json(200, {"items": found[: int(asked.get("limit", 20))]})
        return self.refuse(404, "There is no such path.")


class Fake(ThreadingHTTPServer):
    """The made-up service on a port of this machine; `down` and `up` end and begin it on the same port."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def __init__(self, world: World, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.world = world
        self.going_down = False


class Service:
    """A `Fake` that runs in a thread, and can go down and come up again on its port."""

    def __init__(self) -> None:
        self.world, self.port = World(), 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        self.server = Fake(self.world, self.port)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        self.server.going_down = True  # connections that are kept open end at their next request
        self.server.shutdown()
        self.server.server_close()

    def become(self, world: World) -> World:
        self.world = self.server.world = world
        return world


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--no-values", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    made = World(hostile=options.hostile, has_values=not options.no_values, delay=options.delay)
    print(f"http://127.0.0.1:{options.port}")
    Fake(made, options.port).serve_forever()
