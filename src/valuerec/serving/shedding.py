"""Refusing a request at its header: where more come than can be answered, a refusal must cost next to nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final

from valuerec.serving.guard import RANKED, REQUEST_ID
from valuerec.serving.logs import Log
from valuerec.serving.metrics import Metrics
from valuerec.serving.problems import queue_full

_INFER: Final = "/v2/models/{name}/infer"
_ROUTES: Final = {route.encode(): route for route in RANKED}


class Shedding:
    """Says which requests are refused before they are read.

    Args:
        full: whether more may wait to be ranked.
        most: requests that may be under way at once, in whatever stage.
        is_draining: whether connections are to be closed after their answer.
        metrics: told of every refusal.
        log: told of every refusal.
    """

    def __init__(
        self,
        full: Callable[[], bool],
        most: int,
        is_draining: Callable[[], bool],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._full, self._most, self._is_draining = full, most, is_draining
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
        if method != b"POST" or not (under_way >= self._most or self._full()):
            return None
        path = url.partition(b"?")[0]
        if path.startswith(b"/v2/models/") and path.endswith(b"/infer"):
            return _INFER
        return _ROUTES.get(path)

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
