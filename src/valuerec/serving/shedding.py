"""Refusing a request at its header: where more come than can be answered, a refusal must cost next to nothing."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from valuerec.serving.guard import RANKED, REQUEST_ID
from valuerec.serving.logs import Log
from valuerec.serving.metrics import Metrics
from valuerec.serving.problems import queue_full

_INFER: Final = "/v2/models/{name}/infer"
_ROUTES: Final = {route.encode(): route for route in RANKED}


_LOOK: Final = 0.25  # seconds over which the speed is measured


class Shedding:
    """Says which requests are refused before they are read.

    Requests wait to be read and answered as well as to be ranked, so those under way are bounded too: by as many as are
    answered in `patience` seconds at the speed that was measured when it last had enough to do.

    Args:
        full: whether more may wait to be ranked.
        least: requests that may be under way at any speed; with half of them it has enough to do.
        most: requests that may be under way.
        patience: seconds that a request is to take at most.
        is_draining: whether connections are to be closed after their answer.
        metrics: told of every refusal.
        log: told of every refusal.
    """

    def __init__(
        self,
        full: Callable[[], bool],
        least: int,
        most: int,
        patience: float,
        is_draining: Callable[[], bool],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._full, self._is_draining = full, is_draining
        self._least, self._most, self._patience = least, max(least, most), patience
        self.limit = self._most
        self._since, self._answered = math.inf, 0
        self._metrics, self._log = metrics, log
        refusal = queue_full()
        lines = [b"HTTP/1.1 429 Too Many Requests", *(name + b": " + value for name, value in refusal.headers())]
        self._head = b"\r\n".join([*lines, b"x-content-type-options: nosniff", b"x-request-id: "])
        self._body = refusal.body()

    def wanted(self, method: bytes, url: bytes, under_way: int) -> str | None:
        """The route of a request that is to be refused; None for one that is let in.

        Args:
            method: of the request.
            url: its path and query, as they came.
            under_way: requests that are let in and not answered.
        """
        if method != b"POST" or not (under_way >= self.limit or self._full()):
            return None
        path = url.partition(b"?")[0]
        if path.startswith(b"/v2/models/") and path.endswith(b"/infer"):
            return _INFER
        return _ROUTES.get(path)

    def answered(self, under_way: int, now: float) -> None:
        """Take note of an answer.

        Args:
            under_way: requests that are let in and not answered.
            now: of `time.monotonic`.
        """
        if 2 * under_way < self._least:
            self._since = math.inf
            return
        if self._since == math.inf:
            self._since, self._answered = now, 0
            return
        self._answered += 1
        if now - self._since >= _LOOK:
            speed = self._answered / (now - self._since)
            self.limit = round(min(self._most, max(self._least, speed * self._patience)))
            self._since = math.inf

    def answer(self, route: str, headers: Sequence[tuple[bytes, bytes]], closes: bool) -> tuple[bytes, bool]:
        """The refusal as bytes, and whether the connection is to be closed after it; it is counted and logged.

        Args:
            route: that `wanted` gave.
            headers: of the request, names in lower case.
            closes: whether the client asks for that.
        """
        given = next((value for name, value in headers if name == b"x-request-id"), b"")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        closes = closes or self._is_draining()
        self._metrics.tell(route, 429, 0.0)
        if self._log.requests:
            told = {"method": "POST", "route": route, "status": 429, "ms": 0.0, "key": None, "version": None}
            self._log.say("request", request_id=request_id.decode(), **told)
        end = b"\r\nconnection: close\r\n\r\n" if closes else b"\r\n\r\n"
        return b"".join((self._head, request_id, end, self._body)), closes
