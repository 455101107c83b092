"""The service in this process, without a socket."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from valuerec.serving.app import application
from valuerec.serving.guard import Guard
from valuerec.serving.logs import Log
from valuerec.serving.service import Service
from valuerec.serving.settings import Settings


class Client(httpx.AsyncClient):
    """A client that knows the service it asks."""

    service: Service
    log: io.StringIO
    app: Guard


def put_in_place(link: Path, target: Path) -> None:
    """Point a link elsewhere in one step, as a deployment does."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


def version_of(path: Path) -> str:
    """What answers call a model."""
    return hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()[:12]


@asynccontextmanager
async def serving(path: Path, **options: object) -> AsyncIterator[Client]:
    """A client of a service with these options."""
    options = {"reload_every": 0.0, "batch_window": 0.0} | options
    log = io.StringIO()
    service = Service(path, Settings(**options), Log(log))  # type: ignore[arg-type]
    service.start()
    try:
        app = application(service)
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with Client(transport=transport, base_url="http://here") as client:
            client.service, client.log, client.app = service, log, app
            yield client
    finally:
        service.stop()
