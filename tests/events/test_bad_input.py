"""Bad input: one sentence, exit code 1 or 2, no traceback, and nothing left behind."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec import cli

TIME = 1_400_000_000
CSV = "session,item,time,event\n" + "".join(f"s{i // 4},i{i % 3},{TIME + i},click\n" for i in range(200))
YOOCHOOSE = "".join(f"{i // 4},2014-04-07T10:51:{i % 60:02d}.277Z,{i % 3},0\n" for i in range(200))
BUYS = "".join(f"{i // 4},2014-04-07T10:51:{i % 60:02d}.277Z,{i % 3},100,1\n" for i in range(200))
RETAILROCKET = "timestamp,visitorid,event,itemid,transactionid\n" + "".join(
    f"{TIME}000,{i // 4},view,{i % 3},\n" for i in range(200)
)
OTTO = "".join(
    f'{{"session":{i // 4},"events":[{{"aid":{i % 3},"ts":{TIME}000,"type":"clicks"}}]}}\n' for i in range(200)
)
JSON = "".join(f'{{"session":"s{i // 4}","item":"i{i % 3}","time":{TIME}}}\n' for i in range(200))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


PARQUET = parquet(session=["s"] * 200, item=["i"] * 200, time=[TIME] * 200)


def zipped(content: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("log.csv", content)
    return sink.getvalue()


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs `prepare` on one file's content in a folder of its own; gives the sentence that it is refused with."""
    monkeypatch.chdir(tmp_path)

    def run(content: bytes | str, *options: str, format: str = "events", code: int = 1) -> str:
        Path("log").write_bytes(content if isinstance(content, bytes) else content.encode())
        assert cli.run(["prepare", "log", "--format", format, "--out", "new/data", *options]) == code
        return check_refusal(tmp_path, *capfd.readouterr(), may_stay={"log"})

    return run


def check_refusal(folder: Path, out: str, err: str, may_stay: set[str]) -> str:
    """One sentence on the standard error, and no file or folder but those named (and empty parents of the output).

    The bad rows of a log that is refused stay where the sentence says.
    """
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("valuerec: ")
    assert line.endswith(".")
    assert "Traceback" not in line
    assert "a fault of valuerec" not in line
    left = {str(path.relative_to(folder)) for path in folder.rglob("*")} - {"new"}
    if aside := re.search(r"; the bad rows are in (.+?\.parquet);", line):
        place = folder / aside[1]
        assert pq.read_schema(place).names == ["file", "row", "field", "reason", "text"]
        may_stay = may_stay | {str(place.relative_to(folder))}
    assert left == may_stay
    return line


NO_ROWS = {"session": pa.array([], "string"), "item": pa.array([], "string"), "time": pa.array([], "int64")}
NO_LOG: dict[str, tuple[bytes | str, int, str]] = {
    "nothing": (b"", 1, "log is empty"),
    "blank lines": (b"\n\n  \n", 1, "nothing but blank lines"),
    "an archive of nothing": (gzip.compress(b""), 1, "nothing but blank lines"),
    "a byte order mark": (b"\xef\xbb\xbf", 1, "nothing but blank lines"),
    "a header": ("session,item,time,event\n", 1, "holds no rows"),
    "a header without a line end": ("session,item,time,event", 1, "holds no rows"),
    "a Parquet schema": (parquet(**NO_ROWS), 1, "holds no rows"),
    "a JSON line without a time": ('{"session": "a", "item": "b", "time": []}\n', 1, "unreadable_time"),
    "words for times": (CSV.replace(",14000", ",soon"), 1, "mostly by unreadable_time (200, first log, row 2"),
    "unknown events": (CSV.replace(",click", ",wish"), 1, "say what it means with --events"),
    "too many fields": (CSV.replace("\ns", "\n,s"), 1, "mostly by wrong_field_count"),
    "UTF-16": (CSV.encode("utf-16"), 1, "row 1 is not UTF-8"),
    "UTF-16 without a mark": (CSV.encode("utf-16-le"), 1, "NUL bytes"),
    "UTF-32": (CSV.encode("utf-32"), 1, "not UTF-8"),
    "Latin-1": (CSV.replace("i2", "é").encode("latin-1"), 1, "first log, row 4: it is not UTF-8 text"),
    "NUL bytes": (b"\x00" * 4096, 1, "NUL bytes"),
    "a tail of NUL bytes": (CSV.encode()[:400] + b"\x00" * 4096, 1, "1 of 17 rows are bad"),
    "an archive in an archive": (gzip.compress(gzip.compress(CSV.encode())), 1, "not UTF-8"),
    "one long word": ("x" * 100_000, 2, "no column session"),
    "half a JSON object": ('{"session": "a"', 2, "JSON"),
    "deep JSON": ("[" * 100_000, 2, "JSON"),
    "a JSON list": ("[1, 2]", 2, "JSON"),
    "two rows": (
        "session,item,time\n" + "s,i,1400000000\n" * 2,
        1,
        "No event is left of 2 rows (dropped: rare_item 2)",
    ),
}


@pytest.mark.parametrize("name", NO_LOG)
def test_content_that_is_no_log(refused: Refused, name: str) -> None:
    content, code, says = NO_LOG[name]
    assert says in refused(content, code=code)


@settings(max_examples=40, deadline=None)
@given(
    format=st.sampled_from(["yoochoose", "retailrocket", "otto", "events"]),
    head=st.sampled_from(
        [b"", b"PAR1", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"{", b"session,item,time\n"]
    ),
    body=st.binary(max_size=60) | st.text('{}[]",:\n\r1aé', max_size=60).map(str.encode),
)
def test_whatever_the_bytes_the_end_is_a_sentence(format: str, head: bytes, body: bytes) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()) as err:
        folder = Path(name)
        (folder / "log").write_bytes(head + body)
        code = cli.run(["prepare", str(folder / "log"), "--format", format, "--out", str(folder / "data")])
        assert code in (1, 2)
        check_refusal(folder, "", err.getvalue(), may_stay={"log"})


FILES = {
    "clicks": (YOOCHOOSE, "yoochoose"),
    "buys": (BUYS, "yoochoose"),
    "retailrocket": (RETAILROCKET, "retailrocket"),
    "otto": (OTTO, "otto"),
    "csv": (CSV, "events"),
    "tsv": (CSV.replace(",", "\t"), "events"),
    "json lines": (JSON, "events"),
    "parquet": (PARQUET, "events"),
}


FORMATS = ("yoochoose", "retailrocket", "otto", "events")


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, (_, right) in FILES.items() for wrong in FORMATS if wrong != right]
)
def test_a_file_of_every_format_taken_for_every_other(refused: Refused, name: str, wrong: str) -> None:
    assert "--format" in refused(FILES[name][0], format=wrong, code=2)


BREAKS = ("cut in the middle", "last bytes cut", "head only", "a byte changed", "rubbish behind")


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_archive(refused: Refused, kind: str, how: str) -> None:
    whole = COMPRESS[kind](CSV.encode() * 3)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0xFF
    broken = {
        "cut in the middle": whole[: len(whole) // 2],
        "last bytes cut": whole[:-3],
        "head only": whole[:6],
        "a byte changed": bytes(changed),
        "rubbish behind": whole + b"rubbish rubbish",
    }
    assert "log is a broken archive" in refused(broken[how])


def test_a_broken_parquet_file_wherever_it_is_broken(refused: Refused) -> None:
    for cut in (4, 8, 20, len(PARQUET) // 2, len(PARQUET) - 1):
        assert "log is not a readable Parquet file" in refused(PARQUET[:cut])


def test_a_parquet_file_with_a_changed_byte_is_read_or_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in range(4, len(PARQUET), 29):
        changed = bytearray(PARQUET)
        changed[place] ^= 0xFF
        Path("log").write_bytes(changed)
        code = cli.run(["prepare", "log", "--format", "events", "--out", f"out{place}", "--json"])
        _, err = capfd.readouterr()
        assert code == 0 or len(err.splitlines()) == 1, err
        assert "a fault of valuerec" not in err


def test_a_parquet_file_whose_ids_are_not_utf8(refused: Refused) -> None:
    ids = pa.array([b"s\xff"] * 9, pa.binary())
    assert "not a readable Parquet file" in refused(
        parquet(session=pa.Array.from_buffers(pa.string(), 9, ids.buffers()), item=["i"] * 9, time=[TIME] * 9)
    )


@pytest.mark.parametrize(
    ("content", "options", "code", "says"),
    [
        (CSV, ["--columns", "session=who"], 2, "no column who"),
        (CSV, ["--columns", "visitor=session"], 2, "--columns names visitor"),
        (CSV.replace("event\n", "item\n", 1), ["--columns", "event=item"], 2, "more than one column named item"),
        (CSV.replace("event", "evnt", 1), ["--columns", "event=event"], 2, "no column event"),
        (PARQUET, ["--columns", "item=what"], 2, "no column what"),
        (JSON, ["--columns", "item=what"], 2, "no column what"),
        (JSON + '{"session": "a", "item": "b", "time": 1, "event": "click"}', [], 1, "the key event in row 201"),
        (CSV, ["--events", "click=buy"], 2, "another word for purchase; write purchase"),
        (CSV, ["--events", "click=Basket!"], 2, "an event is a click, a purchase, ignore, or a kind of its own"),
        (CSV, ["--events", "click=ignore"], 1, "ignored_event 200"),
        (CSV, ["--min-session-events", "5"], 1, "short_session 200"),
        (CSV, ["--min-item-events", "100"], 1, "rare_item 200"),
        (CSV, ["--min-item-events", "0"], 2, "--min-item-events is 0"),
        (CSV, ["--min-item-events", "99999999999999999999"], 2, "at most 9,223,372,036,854,775,807"),
        (CSV, ["--min-session-events", str(2**63)], 2, "at most 9,223,372,036,854,775,807"),
        (CSV, ["--sample-sessions", str(2**64)], 2, "at most 9,223,372,036,854,775,807"),
        (CSV, ["--min-item-events", str(2**63 - 1)], 1, "rare_item 200"),
        (CSV, ["--min-session-events", str(2**63 - 1), "--seed", str(10**25)], 1, "short_session 200"),
        (CSV, ["--sample-sessions", "0"], 2, "--sample-sessions is 0"),
        (CSV, ["--max-memory", "much"], 2, "4GB"),
        (CSV, ["--max-memory", "0GB"], 1, "more memory"),
        (CSV, ["--max-bad-fraction", "1.5"], 2, "between 0 and 1"),
        (CSV, ["--max-bad-fraction", "nan"], 2, "between 0 and 1"),
        (CSV, ["--time-unit", "iso"], 1, "mixed_time_unit (200, first log, row 2"),
        (CSV, ["--latest-time", "tomorrow"], 2, "--latest-time is 'tomorrow'"),
        (CSV, ["--latest-time", "2014-01-01"], 1, "future_time (200, first log, row 2"),
        (CSV, ["--quarantine", "log"], 2, "The quarantine log exists and holds something else"),
        (CSV, ["--quarantine", "new/data/q.parquet"], 2, "lies in --out new/data"),
        (CSV + "s,i,-1,click\n", ["--on-bad-rows", "fail"], 1, "log, row 202, field time is bad (negative_time)"),
        (CSV + "s,i\n" * 11, [], 1, "mostly by wrong_field_count (11, first log, row 202"),
        (CSV + "s,i\n", ["--max-bad-fraction", "0"], 1, "1 of 201 rows are bad"),
        (CSV + "s,i\n", ["--on-bad-rows", "fail"], 1, "log, row 202 is bad (wrong_field_count)"),
        (JSON + "{\n", ["--on-bad-rows", "fail"], 1, "log, row 201 is bad (not_json)"),
    ],
)
def test_options_that_do_not_fit_the_log(
    refused: Refused, content: bytes | str, options: list[str], code: int, says: str
) -> None:
    assert says in refused(content, *options, code=code)


def test_columns_are_for_the_format_events_only(refused: Refused) -> None:
    assert "--columns is for --format events" in refused(YOOCHOOSE, "--columns", "item=x", format="yoochoose", code=2)


def test_bad_rows_up_to_the_limit_are_set_aside_with_their_text(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(CSV + "s,i\n" + 'x,"y' + "z" * 5000 + "\n")
    assert cli.run(["prepare", str(log), "--format", "events", "--out", str(tmp_path / "data"), "--json"]) == 0
    rows = pq.read_table(tmp_path / "data/quarantine.parquet").to_pylist()
    common = {"file": "log.csv", "field": "", "reason": "wrong_field_count"}
    assert rows == [{**common, "row": 202, "text": "s,i"}, {**common, "row": 203, "text": ('x,"y' + "z" * 5000)[:2000]}]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is no regular file"),
        (lambda path: path.symlink_to("nowhere"), "does not exist"),
        (lambda path: path.write_bytes(zipped(CSV)), "is a zip archive; unpack it"),
        (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c rest"), "is a 7z archive"),
    ],
    ids=["missing", "folder", "fifo", "dangling link", "zip", "7z"],
)
def test_a_source_that_is_no_log_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], Any], says: str
) -> None:
    source = tmp_path / "log"
    make(source)
    before = {path.name for path in tmp_path.iterdir()}
    assert cli.run(["prepare", str(source), "--format", "events", "--out", str(tmp_path / "data")]) == 2
    assert says in check_refusal(tmp_path, *capfd.readouterr(), may_stay=before)


@pytest.mark.parametrize(
    ("out", "code", "says"),
    [
        ("used", 2, "already in use"),
        ("log", 2, "is a file"),
        ("log/data", 1, "Writing log/data failed"),
        ("link", 2, "is a file"),
        (".", 2, "already in use"),
        ("x" * 256, 1, "file name too long"),
    ],
)
def test_an_output_that_can_not_be_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str, code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log").write_text(CSV)
    Path("used").mkdir()
    Path("used/note").write_text("mine")
    Path("link").symlink_to("nowhere")
    before = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert cli.run(["prepare", "log", "--format", "events", "--out", out]) == code
    assert says in check_refusal(tmp_path, *capfd.readouterr(), may_stay=before)
    assert Path("used/note").read_text() == "mine"


def test_the_folder_that_one_stands_in_is_no_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_text(CSV)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "../here"):
        assert cli.run(["prepare", "../log", "--format", "events", "--out", out]) == 2
        assert "is the folder that this runs in" in check_refusal(Path(), *capfd.readouterr(), may_stay=set())


@pytest.mark.parametrize("name", ["a[1]*?", "it's", 'a"b', "ä 漢", "-x", "%s{0}$HOME"])
def test_an_output_folder_of_any_name_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log").write_text(CSV)
    Path(".a1bc.partial").mkdir()  # what a careless pattern would take for ours
    assert cli.run(["prepare", "log", "--format", "events", f"--out={name}", "--json"]) == 0, capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"log", name, ".a1bc.partial"}
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("content", "code"),
    [(gzip.compress(CSV.encode())[:-9], 1), (YOOCHOOSE.encode(), 2)],
    ids=["cut archive", "wrong format"],
)
def test_a_process_of_its_own_ends_the_same_way(tmp_path: Path, content: bytes, code: int) -> None:
    (tmp_path / "log").write_bytes(content)
    done = run_apart("log", "--format", "events", "--out", "data", cwd=tmp_path)
    assert done.returncode == code
    check_refusal(tmp_path, done.stdout, done.stderr, may_stay={"log"})


def run_apart(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "valuerec.cli", "prepare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of some kilobytes, one at a time."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def unmount() -> None:
        if mounted:
            subprocess.run(["umount", place], check=True)

    def mount(kilobytes: int) -> Path:
        nonlocal mounted
        unmount()
        mounted = False
        try:
            command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "valuerec-test", place]
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no disk can be mounted here; what happens on a full one is not tested")
        mounted = True
        return place

    yield mount
    unmount()


def long_log(path: Path, rows: int) -> Path:
    lines = (f"s{i // 4:07d},i{(i * 7919) % 30_000},{TIME + i},click\n" for i in range(rows))
    path.write_text("session,item,time,event\n" + "".join(lines))
    return path


def test_a_full_disk_at_every_stage_of_the_work(
    tmp_path: Path, small_disk: Callable[[int], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Ever larger disks, until one suffices: each smaller one ends in a sentence and is empty again."""
    log = long_log(tmp_path / "log.csv", 80_000)
    said, kilobytes = set(), 16
    while kilobytes < 1 << 20:
        disk = small_disk(kilobytes)
        code = cli.run(["prepare", str(log), "--format", "events", "--out", str(disk / "data"), "--json"])
        out, err = capfd.readouterr()
        if code == 0:
            break
        assert code == 1
        line = check_refusal(disk, out, err, may_stay=set())
        assert re.search("no space is left", line, re.IGNORECASE), line
        said.add(line)
        kilobytes = int(kilobytes * 1.6)
    assert code == 0
    assert said


@pytest.mark.slow
def test_a_disk_that_is_full_of_the_engines_intermediate_data(
    tmp_path: Path, small_disk: Callable[[int], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    log, said = long_log(tmp_path / "log.csv", 600_000), set()
    options = ["--format", "events", "--max-memory", "60MB"]
    for kilobytes in (8_000, 12_000, 16_000, 20_000):
        disk = small_disk(kilobytes)
        assert cli.run(["prepare", str(log), *options, "--out", str(disk / "data")]) == 1
        said.add(check_refusal(disk, *capfd.readouterr(), may_stay=set()))
    assert any("No space is left on the disk for intermediate data" in line for line in said)


def test_too_little_memory_for_the_engine_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = long_log(tmp_path / "log.csv", 100_000)
    options = ["--format", "events", "--max-memory", "2MB"]
    assert cli.run(["prepare", str(log), *options, "--out", str(tmp_path / "data")]) == 1
    assert "--max-memory 2MB" in check_refusal(tmp_path, *capfd.readouterr(), may_stay={"log.csv"})
