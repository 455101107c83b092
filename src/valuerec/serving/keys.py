"""API keys, of which only hashes are kept, and how often each may ask.

The file has a line a key: a name, a space, and the SHA-256 of the key in hexadecimal. Keys are 256 random bits
(`valuerec serve --new-key NAME`), so a plain hash can't be searched backwards.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import explained_io

_LINE: Final = re.compile(r"^([A-Za-z0-9._-]{1,64}) ([0-9a-f]{64})$")
_PREFIX: Final = "vr_"
_SPENT: Final = struct.Struct("dd")  # what a bucket lacks, and when it did; zeros: a full one
_ROUNDING: Final = 1e-9


class _Key(NamedTuple):
    name: str
    digest: bytes


class Keys:
    """The keys of a file, read again when it changes.

    Raises:
        ValuerecError: where the file is unreadable or a line is no key; naming the line, never its content.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stamped()
        self._keys = _read(path)

    def look(self) -> None:
        """Read the file again where it has changed; a broken one changes nothing and is told by an error."""
        stamp = self._stamped()
        if stamp != self._stamp:
            self._stamp = stamp
            self._keys = _read(self._path)

    def owner(self, key: str) -> str | None:
        """The name of a key, None for a wrong one. Every hash is compared whole, whatever the key is."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for known in self._keys:
            if hmac.compare_digest(known.digest, digest):
                found = known.name
        return found

    def _stamped(self) -> tuple[int, int, int]:
        with explained_io(f"Reading {self._path}"):
            state = self._path.stat()
        return state.st_mtime_ns, state.st_size, state.st_ino


def _read(path: Path) -> list[_Key]:
    keys = []
    with explained_io(f"Reading {path}"):
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line.strip())
        if match is None:
            raise ValuerecError(f"{path}, line {number} is no key; make one with valuerec serve --new-key NAME.")
        keys.append(_Key(match[1], bytes.fromhex(match[2])))
    return keys


def new_key(path: Path, name: str) -> str:
    """Make a key, add its hash to the file, and return the key, which is nowhere else.

    Raises:
        UsageError: where the name is no name or taken.
    """
    line_end = f"{name} {'0' * 64}"
    if not _LINE.match(line_end):
        raise UsageError(f"{name!r} is no name of a key; use up to 64 letters, digits, dots, dashes and underscores.")
    if path.exists() and any(key.name == name for key in _read(path)):
        raise UsageError(f"{path} has a key named {name} already; choose another name or remove its line.")
    key = _PREFIX + secrets.token_urlsafe(32)
    with explained_io(f"Writing {path}"):
        unfinished = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")  # its last line, by some editor
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(f"{chr(10) * unfinished}{name} {hashlib.sha256(key.encode()).hexdigest()}\n")
    return key


class Rates:
    """A bucket a key: it fills at `rate` a second up to a second's worth, and each session asked for takes one.

    Args:
        rate: of each key.
        table: a file's descriptor, of `new_table`; processes that have the same one share the buckets.
        clock: seconds, the same in every process.
    """

    def __init__(self, rate: float, table: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most = rate, max(1.0, rate)
        self._table, self._clock = table, clock

    def take(self, name: str, count: int = 1, taken: int = 0) -> float:
        """Take from a key's bucket.

        Args:
            name: of the key.
            count: how many in all.
            taken: how many of them the same request has taken before.

        Returns:
            0, or the seconds after which to ask again; then nothing more is taken. A request for more than the bucket
            holds is let through when it is full, and paid for afterwards.
        """
        place = _SPENT.size * int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
        fcntl.lockf(self._table, fcntl.LOCK_EX, _SPENT.size, place)
        try:
            now = self._clock()
            spent, then = _SPENT.unpack(os.pread(self._table, _SPENT.size, place).ljust(_SPENT.size, b"\0"))
            spent = max(0.0, spent - taken - (now - then) * self._rate)
            missing: float = spent + min(count, self._most) - self._most
            enough = missing < _ROUNDING
            os.pwrite(self._table, _SPENT.pack(spent + (count if enough else taken), now), place)
        finally:
            fcntl.lockf(self._table, fcntl.LOCK_UN, _SPENT.size, place)
        return 0.0 if enough else (missing + taken) / self._rate


def new_table() -> int:
    """A file in memory for `Rates`: what a key has spent is where its name's hash says; the rest is holes."""
    return os.memfd_create("valuerec-rates")
