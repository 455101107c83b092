"""What `prepare` can be asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from valuerec.errors import UsageError
from valuerec.events.blocks import FIELDS
from valuerec.events.formats import FORMATS, kinds_of, meanings_of
from valuerec.events.times import UNITS, moment_of

_ALLOWED: Final = {
    "format": tuple(FORMATS),
    "split": ("random", "temporal"),
    "time_unit": ("auto", *UNITS),
    "on_bad_rows": ("quarantine", "fail"),
}
_MOST: Final = 2**63 - 1  # which the engine can count
_MEMORY: Final = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B")


@dataclass(frozen=True)
class Options:
    """How a log is to be prepared; `valuerec.events.prepare` says what each means.

    Raises:
        UsageError: naming the option, its value and what is allowed.
    """

    format: str
    split: str
    seed: int
    min_item_events: int
    min_session_events: int
    columns: Mapping[str, str] | None
    events: Mapping[str, str] | None
    time_unit: str
    on_bad_rows: str
    max_bad_fraction: float
    drop_duplicates: bool
    latest_time: str | None
    sample_sessions: int | None
    max_memory: str | None

    def __post_init__(self) -> None:
        for name, values in _ALLOWED.items():
            if getattr(self, name) not in values:
                raise UsageError(f"{_flag(name)} is {getattr(self, name)!r}; choose one of: {', '.join(values)}.")
        for name in ("min_item_events", "min_session_events", "sample_sessions"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= _MOST:
                raise UsageError(f"{_flag(name)} is {value}; it must be at least 1 and at most {_MOST:,}.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise UsageError(f"--max-bad-fraction is {self.max_bad_fraction}; it must be between 0 and 1.")
        if self.max_memory is not None and not _MEMORY.fullmatch(self.max_memory):
            raise UsageError(f"--max-memory is {self.max_memory!r}; write it like 4GB or 500MB.")
        if self.columns and self.format != "events":
            raise UsageError(f"--columns is for --format events; the format {self.format} has its own columns.")
        if unknown := [name for name in self.columns or {} if name not in FIELDS]:
            raise UsageError(f"--columns names {', '.join(unknown)}; it can name {', '.join(FIELDS)}.")
        if self.latest_time is not None and moment_of(self.latest_time) is None:
            raise UsageError(
                f"--latest-time is {self.latest_time!r}; write it like 2014-04-07 or 2014-04-07T10:51:09Z."
            )
        meanings_of(self.format, self.events)

    @property
    def meanings(self) -> dict[str, str]:
        """What each kind of event in the log is to us."""
        return meanings_of(self.format, self.events)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of events of the dataset, by code."""
        return kinds_of(self.meanings)

    @cached_property
    def latest(self) -> int:
        """The last moment that an event may be of, in UTC microseconds: by default a day after this is asked first."""
        if self.latest_time is not None:
            return moment_of(self.latest_time) or 0
        return (datetime.now(UTC) + timedelta(days=1) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def resolved(self) -> dict[str, Any]:
        """All that decides what the dataset holds, for its manifest."""
        config = asdict(self) | {"events": self.meanings}
        del config["max_memory"]
        return config


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
