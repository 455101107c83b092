"""Why a request is not answered: a status, a code for programs and one sentence for people."""

from __future__ import annotations

import json
from typing import Final


class RefusalError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        code: for programs, such as `queue_full`.
        message: one sentence: what is wrong, what to do.
        retry_after: seconds, where the same request may succeed later.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def body(self) -> bytes:
        """The answer's body."""
        return json.dumps({"error": {"code": self.code, "message": self.message}}).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's headers."""
        found = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body())).encode())]
        if self.retry_after is not None:
            found.append((b"retry-after", str(self.retry_after).encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        return found


def queue_full() -> RefusalError:
    """More requests wait than may."""
    return RefusalError(429, "queue_full", "Too many requests are waiting; try again in a second.", 1)


def encoded() -> RefusalError:
    """A body that is compressed."""
    message = "The body is encoded, which is not read here; send it as it is, without Content-Encoding."
    return RefusalError(415, "encoded", message)


def too_late(sessions: int = 1) -> RefusalError:
    """The deadline has passed, or will have when so many sessions are ranked."""
    remedy = "try again in a second" if sessions == 1 else "send fewer sessions at once, or again in a second"
    return RefusalError(503, "deadline", f"The answer would have come after the deadline; {remedy}.", 1)


def fault() -> RefusalError:
    """Something is wrong in the service."""
    return RefusalError(500, "internal", "Something is wrong in the service itself; report the request id.")


def draining() -> RefusalError:
    """The process is about to end."""
    return RefusalError(503, "draining", "This process is about to end; ask another one.", 1)


CODES: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "invalid"}
