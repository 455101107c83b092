"""One process of the service: a socket, a loop, and an orderly end.

On SIGTERM or Ctrl-C: readiness fails at once, and every answer closes its connection; after `drain_delay` seconds, in
which whoever sends requests has seen that, the door closes; what is in flight is answered, for `drain_timeout` seconds
at most. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
import uvicorn

from valuerec.errors import ValuerecError
from valuerec.serving.app import application
from valuerec.serving.protocol import limited, silent_log_config
from valuerec.serving.service import Service
from valuerec.serving.settings import Settings
from valuerec.serving.shedding import Shedding

_BACKLOG: Final = 4096  # connections that wait to be taken up
_ACCEPTED: Final = 16  # of these in one turn of the loop, which libuv gives each handle of the listener one
_RARELY: Final = 20_000, 20, 20  # Python's looking for cycles of garbage took a seventh of the time, and there are few
_SWITCH: Final = 0.0005  # seconds after which the ranking thread lets the loop have its turn


def bind(host: str, port: int, *options: int) -> socket.socket:
    """A socket at an address, which listens when a server starts.

    Args:
        host: a name or an address.
        port: 0 for any.
        options: of the socket, such as SO_REUSEPORT, with which an address may be had that others have. Without, nobody
            else has it, and of what was there before only connections that are closed already (TIME_WAIT).

    Raises:
        ValuerecError: where the address can't be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        for option in options:
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or options:
                raise
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ValuerecError(f"Listening at {host} port {port} failed: {error}; choose another with --port.") from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn's, but its end is ours."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain when asked to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def drain(self) -> None:
        """Begin to end; a second time: end."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        delay = self._service.settings.drain_delay
        self._service.log.say("draining", seconds=delay)
        asyncio.get_running_loop().call_later(delay, self._close)

    def _close(self) -> None:
        self.should_exit = True


def run(
    path: Path,
    settings: Settings,
    listener: socket.socket,
    table: int | None = None,
    attach: Callable[[Service, Callable[[], None]], None] | None = None,
) -> None:
    """Serve until asked to end.

    Args:
        path: of the model.
        settings: options.
        listener: a socket that is bound; it listens once the model is loaded.
        table: of what the keys have spent, where several processes share the load.
        attach: told the service and how to drain it, when the loop runs.
    """
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH)
    service = Service(path, settings, table=table)
    shedding = Shedding(
        lambda: service.queue.full,
        settings.batch_rows,
        settings.queue + settings.batch_rows,
        settings.deadline / 4,
        lambda: service.draining,
        service.metrics,
        service.log,
    )
    config = uvicorn.Config(
        application(service),
        http=limited(settings.max_connections, settings.client_timeout, settings.max_body, shedding),
        ws="none",
        lifespan="on",
        loop="auto",
        backlog=_BACKLOG,
        log_config=silent_log_config(),
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.drain_timeout,  # type: ignore[arg-type]
    )
    server = _Server(config, service)
    gc.freeze()  # the catalogue stays; looking through it again would take milliseconds
    gc.set_threshold(*_RARELY)

    async def main() -> None:
        if attach is not None:
            attach(service, server.drain)
        # not before, lest another service has the address too; without, what it leaves closed would bar the next one
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await server.serve(sockets=[listener, *(listener.dup() for _ in range(_ACCEPTED - 1))])
        if not service.ended:  # a thread still works for nobody, and Python must not be taken down under it
            service.log.say("ended")
            os._exit(0)

    factory: Any = config.get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    service.log.say("ended")
