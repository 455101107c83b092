"""Locks that a dead process cannot hold."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)


class Lock:
    """An exclusive lock; it ends with `release`, or with the process, in whatever way that ends.

    `sure` is False on a file system that knows no locks: nobody is kept out there.
    """

    def __init__(self, descriptor: int, sure: bool) -> None:
        self._descriptor, self.sure = descriptor, sure

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def try_lock(path: Path, create: bool = False) -> Lock | None:
    """Lock a file or folder (flock: it stays locked when it is renamed); None where somebody else has it.

    Args:
        path: the file or folder.
        create: make the file where it is missing.

    Raises:
        OSError: where it can't be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            return Lock(descriptor, sure=False)
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            return None
        raise
    return Lock(descriptor, sure=True)
