"""The log: one JSON object a line, on standard error. No key, no session and no body is ever in it."""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any, TextIO


class Log:
    """Writes lines.

    Args:
        stream: by default standard error.
        requests: whether requests are told.
    """

    def __init__(self, stream: TextIO | None = None, requests: bool = True) -> None:
        self._stream, self.requests = stream or sys.stderr, requests

    def say(self, event: str, **fields: Any) -> None:
        """Write a line."""
        line = {"time": round(time.time(), 3), "event": event, **fields}
        try:
            self._stream.write(json.dumps(line, ensure_ascii=True, default=str) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads the log any more; requests are answered all the same


def new_request_id() -> str:
    """Of a request that brings none: 32 hexadecimal digits. It tells requests apart and protects nothing."""
    return f"{random.getrandbits(128):032x}"
