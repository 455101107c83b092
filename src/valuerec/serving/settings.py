"""What a service can be told."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from valuerec.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of a service; every bound on memory and time is one of them.

    Args:
        name: the model's name in answers; None for its folder's.
        keys: a file of hashed API keys; None for a service that anybody may ask.
        rate: sessions a second that a key may ask for, of all processes together; None for no limit.
        catalogue: a CSV file with columns id and name.
        sessions: recorded sessions, which the page replays and a new model is warmed with.
        max_disagreement: see `valuerec.ranking.Engine`.
        batch_window: seconds that the first request of a batch waits for others.
        batch_rows: sessions ranked at once.
        queue: requests that wait at most; more are refused with 429.
        deadline: seconds from a request's arrival to its answer; what takes longer is refused with 503.
        max_body: bytes of a request's body; more is refused with 413.
        max_connections: open connections of a process; more are closed with 503.
        client_timeout: seconds that a client may take for its header, for its body, and for reading a stalled answer.
        keep_alive: seconds that an idle connection is kept; up to twice as many after a refusal.
        reload_every: seconds between looks at the model's path; 0 never looks.
        drain_delay: seconds between failing readiness and closing the door.
        drain_timeout: seconds that requests then have to end.
        log_requests: whether each request is a line in the log.
    """

    name: str | None = None
    keys: Path | None = None
    rate: float | None = None
    catalogue: Path | None = None
    sessions: Path | None = None
    max_disagreement: float = 1.0
    batch_window: float = 0.002
    batch_rows: int = 64
    queue: int = 256
    deadline: float = 1.0
    max_body: int = 1 << 20
    max_connections: int = 2000
    client_timeout: float = 10.0
    keep_alive: float = 30.0
    reload_every: float = 2.0
    drain_delay: float = 5.0
    drain_timeout: float = 30.0
    log_requests: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_rows", "queue", "max_body", "max_connections"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        positive = ("deadline", "client_timeout", "keep_alive", "drain_timeout", "rate")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                least = "above" if field.name in positive else "at least"
                if not math.isfinite(value) or value < 0 or (value == 0 and field.name in positive):
                    raise UsageError(f"{field.name} is {value}; it must be a number {least} 0.")
        if self.rate is not None and self.keys is None:
            raise UsageError("A rate is a key's, and there are no keys; give --keys too.")
