"""Raw files as streams of whole lines: compression undone, and every way of being unreadable told in a sentence."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import lzma
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import explained_io

_COMPRESSED: Final = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_ARCHIVES: Final = {b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar"}
BOM: Final = b"\xef\xbb\xbf"
_CHUNK_BYTES: Final = 1 << 23
_LONGEST_LINE: Final = 1 << 26
_XZ_PIECE: Final = 1 << 16
_XZ_MEMORY: Final = 1 << 28  # xz -9 needs 65 MB; a file may ask for gigabytes


class Chunk(NamedTuple):
    """Whole lines of a file.

    Args:
        row: the number of the first, from 1.
        content: UTF-8 text that ends with a line break.
        broken: the numbers of the lines that were no UTF-8; in `content` their bytes that are none are replaced.
    """

    row: int
    content: bytes
    broken: frozenset[int]


class Line(NamedTuple):
    """A line of text and its number from 1."""

    row: int
    text: str


@dataclass(frozen=True)
class Source:
    """A raw file.

    Args:
        path: where it is.
        parts: how many of the last parts of its path make its name.

    Raises:
        UsageError: where it is missing, no file, or an archive of several files.
        ValuerecError: where it is empty or may not be read.
    """

    path: Path
    parts: int = 1

    def __post_init__(self) -> None:
        with explained_io(f"Reading {self.path}"):
            try:
                status = self.path.stat()
            except FileNotFoundError:
                raise UsageError(f"{self.path} does not exist; name the log's files.") from None
            if not stat.S_ISREG(status.st_mode):
                what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise UsageError(f"{self.path} is {what}; name the log's files themselves.")
            if status.st_size == 0:
                raise ValuerecError(f"{self.path} is empty; name a file with events.")
            with self.path.open("rb") as file:
                archive = _kind(file.read(6), _ARCHIVES)
            if archive:
                raise UsageError(f"{self.path} is a {archive} archive; unpack it and name the files in it.")

    @property
    def name(self) -> str:
        """What the manifest and the quarantine call the file, as text even where its path is none."""
        name = Path(*self.path.parts[-self.parts :])
        return os.fsencode(name).decode(errors="backslashreplace")

    @property
    def compressed(self) -> bool:
        """Whether the file is a compressed one."""
        with explained_io(f"Reading {self.path}"), self.path.open("rb") as file:
            return _kind(file.read(6), _COMPRESSED) is not None

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file's content, uncompressed and without a byte order mark.

        Raises:
            ValuerecError: where the archive is broken, here or while reading on.
        """
        with explained_io(f"Reading {self.path}"):
            try:
                with self.path.open("rb") as raw, _plain(raw) as plain:
                    buffered = io.BufferedReader(plain, 1 << 20)
                    if buffered.peek(3)[:3] == BOM:
                        buffered.read(3)
                    yield buffered
            except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
                raise self._broken(error) from error
            except OSError as error:
                if error.errno is None:  # pyarrow's own, of its decompressors
                    raise self._broken(error) from error
                raise

    def _broken(self, error: Exception) -> ValuerecError:
        reason = " ".join(str(error).split()).rstrip(".")
        return ValuerecError(f"{self.path} is a broken archive ({reason}); fetch or compress it again.")

    def chunks(self) -> Iterator[Chunk]:
        """The file in pieces of whole lines.

        Raises:
            ValuerecError: where a line is too long for one.
        """
        row, rest = 1, b""
        with self.open() as file:
            while piece := file.read(_CHUNK_BYTES):
                cut = piece.rfind(b"\n") + 1
                if cut:
                    self._check_length(row, len(rest) + piece.index(b"\n"))  # no other line is as long as a piece
                    chunk, rest = rest + piece[:cut], piece[cut:]
                    yield _as_text(row, chunk)
                    row += chunk.count(b"\n")
                else:
                    rest += piece
                self._check_length(row, len(rest))
        if rest:
            yield _as_text(row, rest + b"\n")

    def _check_length(self, row: int, length: int) -> None:
        """Refuse a line that is too long."""
        if length > _LONGEST_LINE:
            raise ValuerecError(
                f"{self.path}, row {row} is longer than {_LONGEST_LINE:,} bytes, so this is no log of an event a line; "
                "check the file and --format."
            )

    def first_line(self) -> Line:
        """The first line that is not blank.

        Raises:
            ValuerecError: where there is none or it is no text.
        """
        chunks = self.chunks()
        try:
            row, chunk, broken = next(chunks, Chunk(1, b"", frozenset()))
        finally:
            chunks.close()  # type: ignore[attr-defined]
        for number, line in enumerate(chunk.split(b"\n"), start=row):
            if number in broken:
                raise ValuerecError(
                    f"{self.path}, row {number} is not UTF-8 text; convert the file to UTF-8, or check --format."
                )
            if b"\x00" in line:
                raise ValuerecError(f"{self.path} is no text file (row {number} holds NUL bytes); check --format.")
            if line.strip():
                return Line(number, line.decode().rstrip("\r"))
        raise ValuerecError(f"{self.path} holds nothing but blank lines; name a file with events.")

    def sha256(self) -> str:
        """The SHA-256 of the file as it lies there."""
        with explained_io(f"Reading {self.path}"), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def told_apart(files: Sequence[Source]) -> list[Source]:
    """The files, each with as much of its path for a name as no other has."""
    named = list(files)
    for parts in range(2, max(len(file.path.parts) for file in files) + 1):
        counts = Counter(file.name for file in named)
        named = [replace(file, parts=parts) if counts[file.name] > 1 else file for file in named]
    return named


def _as_text(row: int, content: bytes) -> Chunk:
    if content.isascii() or _is_text(content):
        return Chunk(row, content, frozenset())
    lines = content.split(b"\n")[:-1]
    broken = frozenset(number for number, line in enumerate(lines, start=row) if not _is_text(line))
    return Chunk(row, content.decode(errors="replace").encode(), broken)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Xz(io.RawIOBase):
    """The content of an xz file; Python's own reader passes over rubbish behind the archive."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder = _xz_decoder()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or some of it.

        Raises:
            EOFError, lzma.LZMAError: where the archive is cut, broken, or followed by something else.
        """
        while True:
            piece = b""
            if self._decoder.eof:
                piece = self._decoder.unused_data.lstrip(b"\x00")  # padding between archives laid end to end
                while not piece:
                    more = self._raw.read(_XZ_PIECE)
                    if not more:
                        return 0
                    piece = more.lstrip(b"\x00")
                self._decoder = _xz_decoder()
            elif self._decoder.needs_input and not (piece := self._raw.read(_XZ_PIECE)):
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            content = self._decoder.decompress(piece, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _kind(head: bytes, magics: dict[bytes, str]) -> str | None:
    return next((kind for magic, kind in magics.items() if head.startswith(magic)), None)


def _plain(raw: IO[bytes]) -> contextlib.AbstractContextManager[Any]:
    """The stream of what is in a compressed file, told by its first bytes and not by its name."""
    kind = _kind(raw.read(6), _COMPRESSED)
    raw.seek(0)
    if kind == "gz":
        return gzip.GzipFile(fileobj=raw)
    if kind == "xz":
        return _Xz(raw)
    if kind == "zst":
        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")  # type: ignore[arg-type]
    return contextlib.nullcontext(raw)
