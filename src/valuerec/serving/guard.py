"""The door: what every request passes before it reaches a route, and what every answer passes on its way out.

In this order: a request id; back-pressure; the key and its rate; the body, whole, bounded in size and time. Whatever
goes wrong behind the door becomes an error in our form, and a line in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

from valuerec.serving import tracing
from valuerec.serving.keys import Keys, Rates
from valuerec.serving.logs import Log, new_request_id
from valuerec.serving.metrics import Metrics
from valuerec.serving.problems import RefusalError, encoded, fault, queue_full
from valuerec.serving.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
GUARDED: Final = ("/v1/", "/v2/models/")  # what a key is needed for
RANKED: Final = frozenset(("/v1/recommend", "/v1/recommend/batch", "/v1/score"))
_JSON: Final = re.compile(rb"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


class Guard:
    """An ASGI application around another.

    Args:
        app: what is guarded.
        settings: bounds.
        keys: None where anybody may ask.
        rates: None without limit.
        full: whether more may wait to be ranked.
        is_draining: whether connections are to be closed after their answer.
        metrics: told of every answer.
        log: told of every answer.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        keys: Keys | None,
        rates: Rates | None,
        full: Callable[[], bool],
        is_draining: Callable[[], bool],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._app, self._settings, self._keys, self._rates = app, settings, keys, rates
        self._full, self._is_draining, self._metrics, self._log = full, is_draining, metrics, log
        self._traced = tracing.is_set_up()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        visit = _Visit(scope, headers, time.monotonic())
        answering = _Answering(send, visit, self._is_draining)
        traced: contextlib.AbstractContextManager[tracing.Tell] = (
            tracing.span(scope["method"], headers, visit.id)
            if self._traced
            else contextlib.nullcontext(lambda route, status: None)
        )
        with traced as tell:
            try:
                await self._pass(visit, receive, answering)
            except RefusalError as refusal:
                await answering.refuse(refusal)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._log.say("fault", request_id=visit.id, error=repr(error), where=traceback.format_exc(limit=-4))
                await answering.refuse(fault())
            tell(visit.route, answering.status)
        self._tell(visit, answering.status)

    async def _pass(self, visit: _Visit, receive: Receive, answering: _Answering) -> None:
        scope, path = visit.scope, visit.scope["path"]
        state = scope.setdefault("state", {})
        state["request_id"], state["charge"] = visit.id, lambda sessions: None
        state["deadline"] = visit.began + self._patience(visit.headers)
        ranks = path in RANKED or (path.startswith("/v2/models/") and path.endswith("/infer"))
        if ranks and self._full():
            raise queue_full()
        if self._keys is not None and path.startswith(GUARDED):
            visit.owner = self._owner(visit.headers)
            state["charge"] = lambda sessions: self._charge(visit.owner, sessions, taken=1)
            self._charge(visit.owner, 1)
        body = await self._body(visit.headers, receive)
        if body and scope["method"] == "POST" and not _JSON.fullmatch(visit.headers.get(b"content-type", b"")):
            raise RefusalError(415, "not_json", "The body must be JSON; send it with Content-Type: application/json.")
        if body and visit.headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise encoded()
        if visit.method == "HEAD":  # answered like GET; the server leaves the body out
            visit.scope = {**scope, "method": "GET"}
        await self._app(visit.scope, _Whole(body, receive), answering)

    def _owner(self, headers: dict[bytes, bytes]) -> str:
        assert self._keys is not None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = [headers.get(b"x-api-key", b""), token.strip() if scheme.lower() == b"bearer" else b""]
        owners = [self._keys.owner(key.decode("latin-1")) for key in given]
        owner = owners[0] or owners[1]
        if owner is None:
            raise RefusalError(401, "no_key", "This needs a valid key; send it as Authorization: Bearer KEY.")
        return owner

    def _charge(self, owner: str | None, count: int, taken: int = 0) -> None:
        if self._rates is None or owner is None or count == taken:
            return
        if (wait := self._rates.take(owner, count, taken)) > 0:
            seconds = max(1, math.ceil(wait))
            later = "a second" if seconds == 1 else f"{seconds} seconds"
            raise RefusalError(429, "rate", f"This key has asked too often; try again in {later}.", seconds)

    def _patience(self, headers: dict[bytes, bytes]) -> float:
        text = headers.get(b"x-request-timeout-ms", b"")
        if text.isdigit() and len(text) <= 9:
            return min(self._settings.deadline, int(text) / 1000)
        return self._settings.deadline

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = self._settings.max_body
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and (len(said) > 15 or int(said) > most):
            raise _too_large(most)
        parts, size = [], 0
        end = time.monotonic() + self._settings.client_timeout
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise RefusalError(408, "slow", "The body did not arrive in time; send it again.") from None
            if message["type"] != "http.request":
                raise RefusalError(400, "gone", "The body did not arrive; send it again.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise _too_large(most)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _tell(self, visit: _Visit, status: int) -> None:
        seconds = time.monotonic() - visit.began
        self._metrics.tell(visit.route, status, seconds)
        if self._log.requests:
            self._log.say(
                "request",
                request_id=visit.id,
                method=visit.method,
                route=visit.route,
                status=status,
                ms=round(1000 * seconds, 2),
                key=visit.owner,
                version=visit.scope.get("state", {}).get("version"),
            )


class _Visit:
    """A request on its way."""

    def __init__(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes], began: float) -> None:
        self.scope, self.headers, self.began = scope, headers, began
        self.method = scope["method"]
        given = headers.get(b"x-request-id", b"")
        self.id = given.decode() if REQUEST_ID.fullmatch(given) else new_request_id()
        self.owner: str | None = None
        self._given = scope["path"]

    @property
    def route(self) -> str:
        """The route's pattern, of which there are few; a path that nobody knows has none."""
        found = self.scope.get("route")
        if found is not None:
            return str(found.path)
        return self._given if self._given in RANKED else "other"


class _Answering:
    """Sends an answer with the request's id."""

    def __init__(self, send: Send, visit: _Visit, is_draining: Callable[[], bool]) -> None:
        self._send, self._visit, self._is_draining = send, visit, is_draining
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = [(b"x-request-id", self._visit.id.encode()), (b"x-content-type-options", b"nosniff")]
            if self._is_draining() or self.status in (408, 413):
                extra.append((b"connection", b"close"))
            message["headers"] = [*message.get("headers", []), *extra]
        await self._send(message)

    async def refuse(self, refusal: RefusalError) -> None:
        """Send an error, where nothing has been sent."""
        if self.status:
            return
        await self({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers()})
        await self({"type": "http.response.body", "body": refusal.body()})


class _Whole:
    """Hands over a body that is here already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _too_large(most: int) -> RefusalError:
    return RefusalError(413, "too_large", f"The body has more than {most} bytes; send less at once.")


def dumps(content: Any) -> bytes:
    """An answer as JSON; half of a surrogate pair, which a request may hold, becomes a question mark."""
    try:
        return to_json(content, inf_nan_mode="null")  # a fifth of the time of the standard library's
    except PydanticSerializationError:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
