"""The entry point: hears Ctrl-C and SIGTERM before and after the command line does."""

from __future__ import annotations

import collections
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; see `valuerec.cli.main`."""
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _leave) for number in heard}
    from valuerec import cli

    try:
        if signal.SIGINT in before:  # the other is the command line's own business
            signal.signal(signal.SIGINT, before[signal.SIGINT])
        cli.main()
    except KeyboardInterrupt:  # between two of its steps, or a second one while it was telling of the first
        _leave()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is done and told, and Python takes a while to end
        # A KeyboardInterrupt that passed through executed text, as that of every named tuple which a library makes when
        # it is imported, would end us by SIGINT, whoever caught it, unless other text is executed after it.
        collections.namedtuple("Nothing", ())


def _leave(number: int = 0, frame: FrameType | None = None) -> None:
    """End at once: nothing is begun or left, and an exception would come out of the middle of some import."""
    os.write(2, b"valuerec: Interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
