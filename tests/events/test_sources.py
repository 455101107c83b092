"""Files as streams of whole lines, compressed or not."""

from __future__ import annotations

import gzip
import lzma
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from valuerec.errors import UsageError, ValuerecError
from valuerec.events import prepare, sources
from valuerec.events.sources import Source

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
LOG = b"session,item,time,event\n" + b"".join(
    b"s%d,i%d,%d,click\n" % (i % 9, i % 7, 1_400_000_000 + i) for i in range(999)
)


@given(st.text(alphabet="ab\n\ré🛒", min_size=1).filter(str.strip), st.sampled_from([1, 2, 3, 8, 1 << 20]))
def test_pieces_are_whole_lines_and_together_the_file(text: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, patch.object(sources, "_CHUNK_BYTES", size):
        path = Path(folder) / "log"
        path.write_bytes(text.encode())
        chunks = list(Source(path).chunks())
    whole = text.encode() if text.endswith("\n") else text.encode() + b"\n"
    assert b"".join(chunk.content for chunk in chunks) == whole
    row = 1
    for first, chunk, broken in chunks:
        assert (first, broken) == (row, frozenset())
        assert chunk.endswith(b"\n")
        row += chunk.count(b"\n")


@pytest.mark.parametrize("kind", COMPRESSED)
def test_a_compressed_log_is_told_by_its_content_and_prepared_alike(kind: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(LOG)
    (tmp_path / "log.csv").write_bytes(COMPRESSED[kind](LOG))  # the name says nothing
    right = prepare([tmp_path / "plain"], format="events", out=tmp_path / "a")
    assert prepare([tmp_path / "log.csv"], format="events", out=tmp_path / "b")["fingerprint"] == right["fingerprint"]


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_archives_laid_end_to_end_are_one_file(kind: str, tmp_path: Path) -> None:
    head, tail = LOG[:5000], LOG[5000:]
    path = tmp_path / "log"
    path.write_bytes(COMPRESSED[kind](head) + COMPRESSED[kind](tail))
    assert b"".join(chunk.content for chunk in Source(path).chunks()) == LOG


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_a_cut_archive_is_broken_wherever_it_is_cut(kind: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "log", COMPRESSED[kind](LOG)
    for cut in {*range(6, len(whole) - 1, len(whole) // 40 + 1), len(whole) - 1}:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValuerecError, match="broken archive"):
            list(Source(path).chunks())


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
@pytest.mark.parametrize("behind", [b"x", b"rubbish rubbish", b"\x00\x00\x00\x00x", LOG])
def test_what_follows_an_archive_and_is_none_is_noticed(kind: str, behind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(COMPRESSED[kind](LOG) + behind)
    with pytest.raises(ValuerecError, match="broken archive"):
        list(Source(path).chunks())


@pytest.mark.parametrize("padding", [b"", b"\x00" * 4, b"\x00" * 200_000])
def test_the_padding_of_xz_is_no_rubbish(padding: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lzma.compress(LOG[:5000]) + padding + lzma.compress(LOG[5000:]) + padding)
    assert b"".join(chunk.content for chunk in Source(path).chunks()) == LOG


def test_an_xz_file_may_not_ask_for_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lzma.compress(LOG, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]))
    with patch.object(sources, "_XZ_MEMORY", 1 << 16), pytest.raises(ValuerecError, match=r"broken archive \(Memory"):
        list(Source(path).chunks())


def test_a_byte_order_mark_is_no_part_of_the_first_field(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content in (b"\xef\xbb\xbfsession\n", gzip.compress(b"\xef\xbb\xbfsession\n")):
        path.write_bytes(content)
        assert Source(path).first_line() == (1, "session")


@given(st.lists(st.sampled_from([b"a", "ä".encode(), b"\xe4", b"\xc3", b"\xa4", b"\xf0\x9f", b"\n"]), min_size=1))
def test_lines_that_are_not_utf8_are_named_and_change_no_other(pieces: list[bytes]) -> None:
    whole = b"first\n" + b"".join(pieces) + b"\n"
    with tempfile.TemporaryDirectory() as folder, patch.object(sources, "_CHUNK_BYTES", 7):
        path = Path(folder) / "log"
        path.write_bytes(whole)
        chunks = list(Source(path).chunks())
    found = b"".join(chunk.content for chunk in chunks).split(b"\n")
    broken = frozenset().union(*(chunk.broken for chunk in chunks))
    for row, line in enumerate(whole.split(b"\n"), start=1):
        assert (row in broken) == (line.decode(errors="ignore").encode() != line)
        assert found[row - 1] == line.decode(errors="replace").encode()


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(b"x" * 100_000))
    with (
        patch.object(sources, "_LONGEST_LINE", 5_000),
        patch.object(sources, "_CHUNK_BYTES", 1_000),
        pytest.raises(ValuerecError, match="row 1 is longer than 5,000 bytes"),
    ):
        list(Source(path).chunks())


@pytest.mark.parametrize("size", [1_000, 1_001, 5_000])
@pytest.mark.parametrize("behind", [b"", b"\n", b"\nshort\n" * 300])
@pytest.mark.parametrize("length", [5_000, 5_001])
def test_the_longest_line_is_exact(tmp_path: Path, size: int, behind: bytes, length: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * length + behind)
    with patch.object(sources, "_LONGEST_LINE", 5_000), patch.object(sources, "_CHUNK_BYTES", size):
        if length <= 5_000:
            assert b"".join(chunk.content for chunk in Source(path).chunks()).startswith(path.read_bytes())
        else:
            with pytest.raises(ValuerecError, match="row 2 is longer than 5,000 bytes"):
                list(Source(path).chunks())


def test_a_name_that_is_no_text_is_shown_as_best_it_can(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xff.csv"))
    path.write_bytes(LOG + b"s,i,soon,click\n")
    manifest = prepare([path], format="events", out=tmp_path / "data")
    assert manifest["sources"][0]["name"] == "l\\xff.csv"
    assert manifest["account"]["bad"] == {"unreadable_time": 1}


def test_a_file_named_twice_is_refused_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(LOG)
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(UsageError, match="named twice"):
        prepare([tmp_path / "log", tmp_path / "link"], format="events", out=tmp_path / "data")
