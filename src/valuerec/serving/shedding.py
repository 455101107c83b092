"""Refusing a request at its header: where more come than can be answered, a refusal must cost next to nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

from valuerec.serving.guard import RANKED, REQUEST_ID
from valuerec.serving.logs import Log, new_request_id
from valuerec.serving.metrics import Metrics
from valuerec.serving.problems import queue_full

_INFER: Final = "/v2/models/{name}/infer"
_ROUTES: Final = {route.encode(): route for route in RANKED}


_LOOK: Final = 0.25  # seconds over which the speed is measured
_HEADER: Final = re.compile(rb"POST (/[A-Za-z0-9/._-]+) HTTP/1\.1((?:\r\n[A-Za-z0-9_-]+: (?! )[ -~]*)+)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([^\r]*)", re.IGNORECASE)
_ID: Final = re.compile(rb"\r\nx-request-id: ([^\r]*)", re.IGNORECASE)
_SPECIAL: Final = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|proxy-connection|connection(?!: keep-alive(?:\r|$)))", re.IGNORECASE
)


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
        if method != b"POST" or not self.refuses(under_way):
            return None
        return _route(url.partition(b"?")[0])

    def refuses(self, under_way: int) -> bool:
        """Whether what is to be ranked is refused now.

        Args:
            under_way: requests that are let in and not answered.
        """
        return under_way >= self.limit or self._full()

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

    def at_once(self, data: bytes, largest_header: int, largest_body: int) -> bytes | None:
        """The refusal of one request that has come whole and as most do, nothing before or after it; else None.

        It spares the parser, half of what a refusal costs. Whatever is not plainly such a request is left to it.

        Args:
            data: that came, where a request is to begin.
            largest_header: bytes.
            largest_body: bytes.
        """
        head, _, body = data.partition(b"\r\n\r\n")
        if len(head) > largest_header or len(body) > largest_body or self._is_draining():
            return None
        found = _HEADER.fullmatch(head)
        if found is None or (route := _route(found[1])) is None or _SPECIAL.search(found[2]):
            return None
        if _LENGTH.findall(found[2]) != [b"%d" % len(body)]:
            return None
        return self.answer(route, [(b"x-request-id", given) for given in _ID.findall(found[2])], False)[0]

    def answer(self, route: str, headers: Sequence[tuple[bytes, bytes]], closes: bool) -> tuple[bytes, bool]:
        """The refusal as bytes, and whether the connection is to be closed after it; it is counted and logged.

        Args:
            route: that `wanted` gave.
            headers: of the request, names in lower case.
            closes: whether the client asks for that.
        """
        given = next((value for name, value in headers if name == b"x-request-id"), b"")
        request_id = given if REQUEST_ID.fullmatch(given) else new_request_id().encode()
        closes = closes or self._is_draining()
        self._metrics.tell_refused(route)
        if self._log.requests:
            told = {"method": "POST", "route": route, "status": 429, "ms": 0.0, "key": None, "version": None}
            self._log.say("request", request_id=request_id.decode(), **told)
        end = b"\r\nconnection: close\r\n\r\n" if closes else b"\r\n\r\n"
        return b"".join((self._head, request_id, end, self._body)), closes


def _route(path: bytes) -> str | None:
    """Where sessions are ranked; None elsewhere."""
    if path.startswith(b"/v2/models/") and path.endswith(b"/infer"):
        return _INFER
    return _ROUTES.get(path)
