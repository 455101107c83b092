"""The entry point: hears Ctrl-C while the command line is still being loaded."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; see `valuerec.cli.main`."""
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _leave) for number in heard}
    from valuerec import cli

    for number, handler in before.items():
        signal.signal(number, handler)
    cli.main()


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has been begun, and an exception would come out of the middle of some import."""
    os.write(2, b"valuerec: Interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
