"""Raw files as streams of bytes: compression undone, and every way of being unreadable told in a sentence."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import explained_io

_MAGIC = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Source:
    """A raw file.

    Args:
        path: where it is; its name is what messages and the manifest show.
    """

    path: Path

    def __post_init__(self) -> None:
        with explained_io(f"Reading {self.path}"):
            try:
                mode = self.path.stat().st_mode
            except FileNotFoundError:
                raise UsageError(f"{self.path} does not exist; name the log's files.") from None
            if not stat.S_ISREG(mode):
                what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
                raise UsageError(f"{self.path} is {what}; name the log's files themselves.")
            if self.path.stat().st_size == 0:
                raise ValuerecError(f"{self.path} is empty; name a file with events.")

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file's content, uncompressed and without a byte order mark.

        Raises:
            ValuerecError: where the archive is broken, here or while reading on.
        """
        with explained_io(f"Reading {self.path}"):
            try:
                with self.path.open("rb") as raw, self._plain(raw) as plain:
                    buffered = io.BufferedReader(cast(io.RawIOBase, plain), 1 << 20)
                    if buffered.peek(3)[:3] == _BOM:
                        buffered.read(3)
                    yield buffered
            except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
                raise self._broken(error) from error
            except OSError as error:
                if error.errno is None:  # pyarrow's own, of its decompressors
                    raise self._broken(error) from error
                raise

    def _broken(self, error: Exception) -> ValuerecError:
        reason = " ".join(str(error).split())
        return ValuerecError(f"{self.path} is a broken archive ({reason}); fetch or compress it again.")

    def _plain(self, raw: IO[bytes]) -> contextlib.AbstractContextManager[object]:
        head = raw.read(6)
        raw.seek(0)
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        if kind == "gz":
            return gzip.GzipFile(fileobj=raw)
        if kind == "xz":
            return lzma.LZMAFile(raw)
        if kind == "bz2":
            return bz2.BZ2File(raw)
        if kind == "zst":
            return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return contextlib.nullcontext(raw)

    def sha256(self) -> str:
        """The SHA-256 of the file as it lies there."""
        with explained_io(f"Reading {self.path}"), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def first_line(self) -> str:
        """The first line that is not blank.

        Raises:
            ValuerecError: where there is none, it is no text, or it is longer than a megabyte.
        """
        with self.open() as file:
            while line := file.readline(1 << 20):
                if line.strip():
                    break
        if not line:
            raise ValuerecError(f"{self.path} holds nothing but blank lines; name a file with events.")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise self.not_utf8(1) from error
        if "\x00" in text:
            raise ValuerecError(f"{self.path} is no text file (its first line holds NUL bytes); name a file of events.")
        return text.rstrip("\r\n")

    def not_utf8(self, row: int | None = None) -> ValuerecError:
        """The error for bytes that are no UTF-8; finds the row where it is not given."""
        return ValuerecError(
            f"{self.path}, row {row or self._row_not_utf8()} is not UTF-8 text; convert the file to UTF-8."
        )

    def _row_not_utf8(self) -> int:
        with self.open() as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return number
        return 0

    def lines(self, numbers: set[int]) -> dict[int, str]:
        """The raw text of some lines, by number from 1."""
        found = {}
        if numbers:
            last = max(numbers)
            with self.open() as file:
                for number, line in enumerate(file, start=1):
                    if number in numbers:
                        found[number] = line.decode(errors="replace").rstrip("\r\n")
                    if number >= last:
                        break
        return found
