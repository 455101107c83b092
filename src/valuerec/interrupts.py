"""Being asked to end: Ctrl-C or SIGTERM once lets what is being done come to a good end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Asked:
    """Whether somebody has asked to end."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first Ctrl-C or SIGTERM while the block runs; a second one does what it always does."""

        def note(number: int, frame: FrameType | None) -> None:
            self._asked = True
            for each, handler in previous.items():
                signal.signal(each, handler)

        previous: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's
                    previous[number] = signal.signal(number, note)
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)
