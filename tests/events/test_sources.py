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
    assert b"".join(chunk for _, chunk in chunks) == whole
    row = 1
    for first, chunk in chunks:
        assert first == row
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
    assert b"".join(chunk for _, chunk in Source(path).chunks()) == LOG


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_a_cut_archive_is_broken_wherever_it_is_cut(kind: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "log", COMPRESSED[kind](LOG)
    for cut in {*range(6, len(whole) - 1, len(whole) // 40 + 1), len(whole) - 1}:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValuerecError, match="broken archive"):
            list(Source(path).chunks())


def test_a_byte_order_mark_is_no_part_of_the_first_field(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content in (b"\xef\xbb\xbfsession\n", gzip.compress(b"\xef\xbb\xbfsession\n")):
        path.write_bytes(content)
        assert Source(path).first_line() == (1, "session")


def test_text_that_is_not_utf8_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("ä\nb\n".encode() + b"\xe4\n")
    with patch.object(sources, "_CHUNK_BYTES", 4), pytest.raises(ValuerecError, match="row 3 is not UTF-8"):
        list(Source(path).chunks())


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(b"x" * 100_000))
    with (
        patch.object(sources, "_LONGEST_LINE", 5_000),
        patch.object(sources, "_CHUNK_BYTES", 1_000),
        pytest.raises(ValuerecError, match="row 1 is longer than 5,000 bytes"),
    ):
        list(Source(path).chunks())


def test_a_name_that_is_no_text_is_shown_as_best_it_can(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xff.csv"))
    path.write_bytes(LOG + b"s,i,soon,click\n")
    manifest = prepare([path], format="events", out=tmp_path / "data")
    assert manifest["sources"][0]["name"] == "l\N{REPLACEMENT CHARACTER}.csv"
    assert manifest["account"]["bad"] == {"unreadable_time": 1}


def test_a_file_named_twice_is_refused_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(LOG)
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(UsageError, match="named twice"):
        prepare([tmp_path / "log", tmp_path / "link"], format="events", out=tmp_path / "data")
