"""Limits below HTTP: how large a header may be, how long a client may take, how many connections there may be.

uvicorn bounds none of these with its fast parser. A client that is too slow is cut off, one that sends too
much is told.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from valuerec.serving.problems import RefusalError
from valuerec.serving.shedding import Shedding

LARGEST_HEADER: Final = 32 << 10  # bytes of a request's line and headers
_STATUS: Final = {400: "Bad Request", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


def limited(max_connections: int, client_timeout: float, max_body: int, shedding: Shedding) -> type[HttpToolsProtocol]:
    """The protocol with these bounds.

    Args:
        max_connections: of the process.
        client_timeout: seconds for a header, for the rest of what is answered already, for reading a stalled answer.
        max_body: bytes of a body that are read and thrown away where the request is answered already.
        shedding: which requests are refused at their header.
    """
    waiting: set[Limited] = set()  # for the rest of a request's body

    class Limited(HttpToolsProtocol):
        """See the module."""

        _running: RequestResponseCycle | None = None  # `cycle` is of the newest request, which may wait behind it
        _spoke = False  # since its time to be idle began

        _timer: asyncio.TimerHandle | None = None
        _in_header = True
        _begun = False  # the parser has some of a request, and not all
        _deaf = False  # nothing that comes is read any more
        _header_bytes = 0
        _refused = False  # the request that is coming in: the rest of it is thrown away
        _body_bytes = 0
        _unread = 0  # bytes behind the header since the last of the body: frames of chunks, or a trailer

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                self._say(RefusalError(503, "connections", "Too many connections are open; try again in a second.", 1))
                return
            self._await_header()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            waiting.discard(self)
            self._leave()
            super().connection_lost(exc)

        def eof_received(self) -> bool | None:  # type: ignore[override]
            """A client that has said all may still wait for its answer."""
            if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
                self._deaf, self.cycle.keep_alive = True, False
                return True
            self._leave()
            return None

        def data_received(self, data: bytes) -> None:
            if self._deaf or self.transport.is_closing() or self.parser is None:
                return
            if self._refused_at_once(data):
                return
            if self._in_header:
                self._header_bytes += min(len(data), _until_end(data))
                if self._header_bytes > LARGEST_HEADER:
                    self._say(
                        RefusalError(431, "header_too_large", f"The header has more than {LARGEST_HEADER} bytes.")
                    )
                    return
                if self._timer is None:
                    self._await_header()
            else:
                self._unread += len(data)
            try:
                super().data_received(data)
            except Exception:  # a path that is no text, a port that is no number: the parser lets them through
                self.send_400_response("")
            if self._refused and self._timer is None:
                self._await_header()
            if not self._in_header and self._unread > LARGEST_HEADER:  # a body's trailer that does not end
                self._cut_off()

        def on_message_begin(self) -> None:
            self._begun = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_header, self._unread = False, 0
            if not self.flow.write_paused:  # else it is for a client that does not read
                self._stop_timer()
            if self._deaf:  # the request before this closes the connection
                self._refused = True
                return
            if (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused:
                route = shedding.wanted(self.parser.get_method(), self.url, self._under_way())
                if route is not None:
                    self._refuse(route)
                    return
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unread = 0
            if not self._refused:
                super().on_body(body)
                return
            self._body_bytes += len(body)
            if self._body_bytes > max_body:
                self.transport.abort()

        def on_message_complete(self) -> None:
            self._in_header, self._header_bytes, self._begun = True, 0, False
            waiting.discard(self)
            if not self._refused:
                super().on_message_complete()
                return
            self._body_bytes = 0
            if not self._deaf and not self.flow.write_paused:  # else it is for a client that does not read
                self._stop_timer()
            self.on_response_complete()
            self._refused = False

        def on_response_complete(self) -> None:
            waiting.discard(self)
            if not self._refused:
                shedding.answered(self._under_way(), time.monotonic())
                if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
                    self._refused = True  # answered before it was all there
                    self.flow.resume_reading()
                    self._await_header()
                    if self.expect_100_continue:  # whether the rest comes at all is not known
                        self.transport.close()
                    return
            super().on_response_complete()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            self._running = cycle
            super()._start_asgi_task(cycle, app)
            if cycle.more_body:
                waiting.add(self)

        def _under_way(self) -> int:
            """Requests that are let in, whole and not answered: who sends slowly holds up nobody else."""
            return len(self.tasks) - len(waiting)

        def _refused_at_once(self, data: bytes) -> bool:
            """Refuse a request that came in one piece, where nothing else is under way on this connection."""
            if (
                self._begun
                or not (self.cycle is None or self.cycle.response_complete)
                or self.flow.write_paused
                or not shedding.refuses(self._under_way())
            ):
                return False
            answer = shedding.at_once(data, LARGEST_HEADER, max_body)
            if answer is None:
                return False
            self._stop_timer()  # before it is written, which may begin the time for a client that does not read
            self.transport.write(answer)
            self._spoke = True
            if self.timeout_keep_alive_task is None:
                self._await_next()
            return True

        def _refuse(self, route: str) -> None:
            """Answer a header; what follows it is read and thrown away, so that the connection can go on."""
            alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
            answer, closes = shedding.answer(route, self.headers, not alive or self.expect_100_continue)
            self._refused = True
            self.transport.write(answer)
            if closes:
                self._deaf = True
                self.transport.close()
                self._timer = self.loop.call_later(client_timeout, self.transport.abort)

        def send_400_response(self, msg: str) -> None:
            self._say(RefusalError(400, "bad_request", "This is no HTTP request that can be read."))

        def timeout_keep_alive_handler(self) -> None:
            if self._spoke:  # after each refusal anew would cost as much as the refusal
                self._spoke = False
                self._await_next()
                return
            if self.transport.get_write_buffer_size():
                self._cut_off()  # it has not read its answer for all that time
            super().timeout_keep_alive_handler()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop_timer()
            self._timer = self.loop.call_later(client_timeout, self._cut_off)

        def resume_writing(self) -> None:
            self._stop_timer()
            super().resume_writing()
            if self._begun and (self._in_header or self._refused) and not self.transport.is_closing():
                self._await_header()

        def _await_next(self) -> None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

        def _await_header(self) -> None:
            self._timer = self.loop.call_later(client_timeout, self._cut_off)

        def _cut_off(self) -> None:
            self._leave()
            self.transport.abort()

        def _leave(self) -> None:
            """Nobody waits for the answer to the present request any more."""
            if self._running is not None and not self._running.response_complete:
                self._running.disconnected = True
                self._running.message_event.set()

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _say(self, refusal: RefusalError) -> None:
            if self.transport.is_closing():
                return
            self._stop_timer()
            self._deaf = True
            if self.cycle is not None and not self.cycle.response_complete:
                if not self.cycle.more_body:  # a whole request before this: it is answered, and what follows is not
                    self.cycle.keep_alive = False
                    return
                self._leave()
            lines = [f"HTTP/1.1 {refusal.status} {_STATUS[refusal.status]}".encode()]
            lines += [name + b": " + value for name, value in refusal.headers()]
            self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", refusal.body()]))
            self.transport.close()
            # what a client goes on sending is not read, and one that does not read this is not waited for
            self._timer = self.loop.call_later(client_timeout, self.transport.abort)

    return Limited


def _until_end(data: bytes) -> int:
    """Bytes up to the end of a header."""
    end = data.find(b"\r\n\r\n")
    return len(data) if end < 0 else end


def silent_log_config() -> dict[str, Any]:
    """Uvicorn says nothing of its own: the log is ours."""
    quiet = {"handlers": [], "level": "CRITICAL", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "loggers": dict.fromkeys(("uvicorn", "uvicorn.error", "uvicorn.access"), quiet),
    }
