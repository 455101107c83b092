"""Malformed logs, each with what must become of it: the exact account, or a refusal in one sentence.

Every log is built anew in a folder; nothing of it is kept as a file of the repository.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

TIME = 1_400_000_000
GOOD = 40  # rows of a good log: ten sessions of four clicks on four items
HEADER = "session,item,time,event\n"
LINES = [f"s{row // 4},i{row % 4},{TIME + row},click\n" for row in range(GOOD)]
CSV = HEADER + "".join(LINES)
JSON_LINES = [
    json.dumps({"session": f"s{row // 4}", "item": f"i{row % 4}", "time": TIME + row}) + "\n" for row in range(GOOD)
]
JSON = "".join(JSON_LINES)
OTTO = "".join(
    json.dumps(
        {"session": each, "events": [{"aid": item, "ts": (TIME + item) * 1000, "type": "clicks"} for item in range(4)]}
    )
    + "\n"
    for each in range(10)
)
YOOCHOOSE = "".join(f"{row // 4},2014-04-07T10:51:{row:02d}.277Z,{row % 4},0\n" for row in range(GOOD))
RETAILROCKET = "timestamp,visitorid,event,itemid,transactionid\n" + "".join(
    f"{TIME + row}000,{row // 4},view,{row % 4},\n" for row in range(GOOD)
)
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Case:
    """A log and what must become of it.

    Args:
        build: writes it to a path; or makes whatever else a path may be.
        bad: of a log that is prepared, its bad rows by reason (the others are kept).
        refused: of a log that is not, the exit code, and what the sentence must say.
        kept: rows that are kept.
        options: for `prepare`.
        format: of valuerec's.
        most: --max-bad-fraction.
    """

    build: Callable[[Path], Any]
    bad: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[int, str] | None = None
    kept: int = GOOD
    options: Sequence[str] = ()
    format: str = "events"
    most: float = 0.5


def _log(content: str | bytes, **expected: Any) -> Case:
    raw = content if isinstance(content, bytes) else content.encode()
    return Case(lambda path: path.write_bytes(raw), **expected)


def _row(text: str, reason: str, **expected: Any) -> Case:
    """A good CSV log with one bad row in its middle."""
    return _log(HEADER + "".join(LINES[:20]) + text + "\n" + "".join(LINES[20:]), bad={reason: 1}, **expected)


def _json_row(text: str, reason: str | None, **expected: Any) -> Case:
    """A good JSON-lines log with one row more."""
    bad = {reason: 1} if reason else {}
    return _log("".join(JSON_LINES[:20]) + text + "\n" + "".join(JSON_LINES[20:]), bad=bad, **expected)


def _refused(content: str | bytes, says: str, code: int = 1, **more: Any) -> Case:
    return _log(content, refused=(code, says), **more)


def parquet(**columns: Any) -> bytes:
    """A good log as Parquet, but for the columns that are given."""
    good = {
        "session": [f"s{row // 4}" for row in range(GOOD)],
        "item": [f"i{row % 4}" for row in range(GOOD)],
        "time": [TIME + row for row in range(GOOD)],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(good | columns), sink)
    return sink.getvalue()


def _archive(kind: str, content: str) -> bytes:
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr("log.csv", content)
    else:
        with tarfile.open(fileobj=sink, mode="w:gz") as archive:
            member = tarfile.TarInfo("log.csv")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return sink.getvalue()


def _loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def _times(unit: str, count: int) -> list[str]:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    return [f"a{unit},i{row % 4},{(TIME + row) * factor},click\n" for row in range(count)]


def _damaged(content: bytes, place: float) -> bytes:
    changed = bytearray(content)
    changed[int(len(content) * place)] ^= 0xFF
    return bytes(changed)


_MOMENTS = [datetime.fromtimestamp(TIME + row, UTC) for row in range(GOOD)]
_NANOSECONDS = pa.array([(TIME + row) * 10**9 + 1 for row in range(GOOD)], pa.timestamp("ns"))
_GZ, _XZ, _ZST = (gzip.compress(CSV.encode()), lzma.compress(CSV.encode()), zstandard.compress(CSV.encode()))
_PARQUET = parquet()
_BIG = "x" * MEGABYTE

WHOLE_FILES: dict[str, Case] = {
    "empty": _refused("", "is empty"),
    "one line break": _refused("\n", "nothing but blank lines"),
    "header only": _refused(HEADER, "holds no rows"),
    "header of other names": _refused("a,b,c\n1,2,3\n", "no column session", code=2),
    "a column twice": _refused("session,item,time,item\na,b,1,c\n", "more than one column named item", code=2),
    "BOM": _log(b"\xef\xbb\xbf" + CSV.encode()),
    "BOM twice": _refused(b"\xef\xbb\xbf" * 2 + CSV.encode(), "no column session", code=2),
    "BOM in the middle": _row("\ufeff,i1,1400000000,click,\ufeff", "wrong_field_count"),
    "UTF-16": _refused(CSV.encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": _refused(CSV.encode("utf-16-be"), "NUL bytes"),
    "UTF-32": _refused(CSV.encode("utf-32"), "not UTF-8"),
    "Latin-1 in one row": _log(
        HEADER.encode() + b"s0,caf\xe9,1400000000,click\n" + "".join(LINES).encode(), bad={"not_utf8": 1}
    ),
    "NUL bytes": _refused(b"\x00" * 10_000, "NUL bytes"),
    "NUL bytes behind the log": _log(CSV.encode() + b"\x00" * 10_000, bad={"nul_byte": 1}),
    "NUL byte in an id": _row("s\x000,i0,1400000000,click", "nul_byte"),
    "CRLF": _log(CSV.replace("\n", "\r\n")),
    "CRLF in some rows": _log(HEADER + "".join(LINES[:20]).replace("\n", "\r\n") + "".join(LINES[20:])),
    "CR alone": _refused(CSV.replace("\n", "\r"), "no column session", code=2),
    "CR in a row": _row("s0,i0,1400000000,click\rs0,i0,1400000000,click", "wrong_field_count"),
    "no last line break": _log(CSV.rstrip("\n")),
    "blank lines between": _log(CSV.replace("s5", "\ns5", 2), bad={"empty_session": 2}),
    "binary rubbish": _refused(bytes(range(256)) * 40, "log"),
    "half a row at the end": _log(CSV + "s9,i", bad={"wrong_field_count": 1}),
    "HTML of a login page": _refused("<html>\n<body>Log in, please</body>\n</html>\n", "no column session", code=2),
    "tab for comma in half": _log(
        HEADER + "".join(LINES[:20]).replace(",", "\t") + "".join(LINES[20:]), bad={"wrong_field_count": 20}, kept=20
    ),
    "yoochoose with a short row": _log(YOOCHOOSE + "1,2\n", format="yoochoose", bad={"wrong_field_count": 1}),
    "yoochoose with no time": _log(YOOCHOOSE + "1,,2,0\n", format="yoochoose", bad={"empty_time": 1}),
    "retailrocket with another event": _log(
        RETAILROCKET + f"{TIME}000,1,wish,1,\n", format="retailrocket", bad={"unknown_event": 1}
    ),
    "otto without events": _log(OTTO + '{"session": 3}\n', format="otto", bad={"missing_field": 1}),
    "otto with no events": _log(OTTO + '{"session": 3, "events": []}\n', format="otto", bad={"missing_field": 1}),
    "otto with an event that is none": _log(
        OTTO + '{"session": 3, "events": [7, {"aid": null, "ts": 1, "type": "clicks"}]}\n',
        format="otto",
        bad={"missing_field": 2},
    ),
    "too many bad rows": _refused(CSV + "s,i\n" * 10, "mostly by wrong_field_count (10, first log, row 42", most=0.1),
    "a bad row where none may be": _refused(
        CSV + "s,i,1e400,click\n", "log, row 42, field time is bad", options=["--on-bad-rows", "fail"]
    ),
}

ROWS: dict[str, Case] = {
    "quote unclosed": _row('s0,"i0,1400000000,click', "wrong_field_count"),
    "quote closed too early": _log(HEADER + 's0,"i"0,1400000000,click\n' + "".join(LINES), kept=GOOD + 1),
    "line break in quotes": _log(
        HEADER + 's0,"i\n0",1400000000,click\n' + "".join(LINES), bad={"wrong_field_count": 2}
    ),
    "too few fields": _row("s0,i0", "wrong_field_count"),
    "too many fields": _row("s0,i0,1400000000,click,,", "wrong_field_count"),
    "empty session": _row(",i0,1400000000,click", "empty_session"),
    "empty item": _row("s0,,1400000000,click", "empty_item"),
    "unknown event": _row("s0,i0,1400000000,clic", "unknown_event"),
    "blank session": _row(" \u200b,i0,1400000000,click", "empty_session"),
    "blank item": _row("s0,\ufeff\u00a0,1400000000,click", "empty_item"),
    "no event": _row("s0,i0,1400000000,", "unknown_event"),
    "no time": _row("s0,i0,,click", "empty_time"),
    "NaN": _row("s0,i0,NaN,click", "time_not_finite"),
    "infinity": _row("s0,i0,-inf,click", "time_not_finite"),
    "int64 overflow": _row("s0,i0,9223372036854775808,click", "time_overflow"),
    "a thousand digits": _row(f"s0,i0,{'9' * 1000},click", "time_overflow"),
    "negative time": _row("s0,i0,-1,click", "negative_time"),
    "before 1970": _row("s0,i0,1969-12-31T23:59:59Z,click", "negative_time"),
    "far future": _row("s0,i0,9999999999,click", "future_time"),
    "unreadable time": _row("s0,i0,07/04/2014,click", "unreadable_time"),
    "no such day": _row("s0,i0,2014-02-30,click", "unreadable_time"),
    "scientific notation": _row("s0,i0,1.4e9,click", "unreadable_time"),
    "milliseconds among seconds": _row("s0,i0,1400000000000,click", "mixed_time_unit"),
    "microseconds among seconds": _row("s0,i0,1400000000000000,click", "mixed_time_unit"),
    "text among seconds": _row("s0,i0,2014-05-13T16:53:20Z,click", "mixed_time_unit"),
    "position among seconds": _row("s0,i0,7,click", "mixed_time_unit"),
    "s, ms and µs mixed": _log(
        HEADER + "".join(_times("s", 12) + _times("ms", 30) + _times("us", 8)), bad={"mixed_time_unit": 20}, kept=30
    ),
    "s, ms, µs and ns file by its unit": _log(
        HEADER + "".join(_times("s", 20) + _times("ms", 4)),
        options=["--time-unit", "s"],
        bad={"time_overflow": 4},
        kept=20,
    ),
    "session of a megabyte": _log(HEADER + f"{_BIG},i0,1400000000,click\n" * 3 + "".join(LINES), kept=GOOD + 3),
    "item of a megabyte, bad": _row(f"s0,{_BIG},never,click", "unreadable_time"),
    "a million commas": _row("," * 1_000_000, "wrong_field_count"),
    "a million quotes": _row('"' * 1_000_001, "wrong_field_count"),
    "spaces around numbers": _log(CSV.replace(",14", ", 14"), kept=GOOD),
    "ids that spreadsheets wrote": _log(HEADER + "s0,1e5,1400000000,click\n" * 3 + "".join(LINES), kept=GOOD + 3),
}

OBJECTS: dict[str, Case] = {
    "array for an object": _json_row('["s0", "i0", 1400000000]', "not_json"),
    "whole file one array": _refused("[" + ",".join(JSON_LINES) + "]", "looks like JSON", code=2),
    "key twice": _json_row('{"session": "s0", "session": "s1", "item": "i0", "time": 1400000000}', "repeated_key"),
    "nested key twice": _json_row(
        '{"session": "s0", "item": "i0", "time": 1400000000, "x": {"a": {"b": 1, "b": 2}}}', "repeated_key"
    ),
    "nested object beside": _json_row(
        '{"session": "s0", "item": "i0", "time": 1400000000, "x": {"a": [{}]}}', None, kept=41
    ),
    "text that looks like a key": _json_row(
        '{"session": "s0", "item": "i0", "time": 1400000000, "x": "\\"session\\": 1"}', None, kept=41
    ),
    "id that is a list": _json_row('{"session": ["s0"], "item": "i0", "time": 1400000000}', "unreadable_id"),
    "id that is an object": _json_row('{"session": "s0", "item": {}, "time": 1400000000}', "unreadable_id"),
    "id that is a fraction": _json_row('{"session": "s0", "item": 1.5, "time": 1400000000}', "unreadable_id"),
    "id that is NaN": _json_row('{"session": "s0", "item": NaN, "time": 1400000000}', "unreadable_id"),
    "id that is true": _json_row('{"session": true, "item": "i0", "time": 1400000000}', "unreadable_id"),
    "id that is null": _json_row('{"session": null, "item": "i0", "time": 1400000000}', "missing_field"),
    "id that is missing": _json_row('{"item": "i0", "time": 1400000000}', "missing_field"),
    "id that is empty": _json_row('{"session": "", "item": "i0", "time": 1400000000}', "empty_session"),
    "id that is half a surrogate": _json_row('{"session": "\\ud800", "item": "i0", "time": 1400000000}', "not_json"),
    "id that is a number elsewhere": _refused(
        JSON + '{"session": 7, "item": "i0", "time": 1400000000}\n', "text in row 1, a number in row 41"
    ),
    "time that is NaN": _json_row('{"session": "s0", "item": "i0", "time": NaN}', "time_not_finite"),
    "time of 1e400": _json_row('{"session": "s0", "item": "i0", "time": 1e400}', "time_not_finite"),
    "time that is an object": _json_row('{"session": "s0", "item": "i0", "time": {"$date": 1}}', "unreadable_time"),
    "time that is deep": _json_row(
        f'{{"session": "s0", "item": "i0", "time": {"[" * 900}{"]" * 900}}}', "unreadable_time"
    ),
    "time beyond 64 bits": _json_row('{"session": "s0", "item": "i0", "time": 18446744073709551616}', "time_overflow"),
    "five thousand digits": _json_row(f'{{"session": "s0", "item": "i0", "time": {"1" * 5000}}}', "time_overflow"),
    "five thousand digits beside": _json_row(
        f'{{"session": "s0", "item": "i0", "time": 1400000000, "x": [{"1" * 5000}]}}', None, kept=41
    ),
    "five thousand digits and a key twice": _json_row(
        f'{{"session": "s0", "item": "i0", "time": {"1" * 5000}, "item": "i1"}}', "repeated_key"
    ),
    "id of five thousand digits": _json_row(
        f'{{"session": "s0", "item": {"1" * 5000}, "time": 1400000000}}', "unreadable_id"
    ),
    "half a surrogate beside five thousand digits": _json_row(
        f'{{"session": "\\ud800", "item": "i0", "time": {"1" * 5000}}}', "not_json"
    ),
    "nanoseconds as a float": _log(
        "".join(
            f'{{"session": "s{row // 4}", "item": "i{row % 4}", "time": 1.4000000{row:02d}e18}}\n'
            for row in range(GOOD)
        )
    ),
    "float beyond 64 bits": _json_row('{"session": "s0", "item": "i0", "time": 1e300}', "time_overflow"),
    "JSON id with a NUL": _json_row('{"session": "s0\\u0000", "item": "i0", "time": 1400000000}', "nul_byte"),
    "JSON id of blanks": _json_row('{"session": "s0", "item": "\\u200b ", "time": 1400000000}', "empty_item"),
    "nested a hundred thousand deep": _json_row(
        f'{{"session": "s0", "item": "i0", "time": 1400000000, "x": {"[" * 100_000}{"]" * 100_000}}}', "not_json"
    ),
    "single quotes": _json_row("{'session': 's0', 'item': 'i0', 'time': 1400000000}", "not_json"),
    "two objects in a line": _json_row(JSON_LINES[0].strip() * 2, "not_json"),
    "half an object": _json_row(JSON_LINES[0][:30], "not_json"),
    "JSON id of a megabyte": _json_row(f'{{"session": "{_BIG}", "item": "i0", "time": 1400000000}}', None, kept=40 + 1),
}

TYPES: dict[str, Case] = {
    "decimal ids": _log(parquet(item=pa.array([Decimal(row % 4) for row in range(GOOD)], pa.decimal128(38, 0)))),
    "decimal ids with a point": _refused(
        parquet(item=pa.array([Decimal(row % 4) for row in range(GOOD)], pa.decimal128(9, 2))), "no ids", code=2
    ),
    "decimal times": _log(parquet(time=pa.array([Decimal(TIME)] * GOOD, pa.decimal128(20, 6)))),
    "dictionary of text": _log(parquet(session=pa.array([f"s{row // 4}" for row in range(GOOD)]).dictionary_encode())),
    "dictionary of numbers": _log(parquet(item=pa.array([row % 4 for row in range(GOOD)]).dictionary_encode())),
    "timestamps with a zone": _log(parquet(time=pa.array(_MOMENTS, pa.timestamp("ms", "Asia/Tokyo")))),
    "timestamps of an unknown zone, one null": _log(
        parquet(time=pa.array([None, *_MOMENTS[1:]], pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "Mars/Base"))),
        bad={"empty_time": 1},
        kept=39,
    ),
    "nanoseconds, one id empty": _log(
        parquet(time=_NANOSECONDS, item=["", *(f"i{row % 4}" for row in range(1, GOOD))]),
        bad={"empty_item": 1},
        kept=39,
    ),
    "timestamp of the year 146 million": _log(
        parquet(time=pa.array([2**62, *((TIME + row) * 1000 for row in range(1, GOOD))], pa.timestamp("ms"))),
        bad={"time_overflow": 1},
        kept=39,
    ),
    "dates": _log(parquet(time=pa.array([date(2014, 4, 7)] * GOOD))),
    "times of day": _refused(parquet(time=pa.array([1] * GOOD, pa.time64("us"))), "no times", code=2),
    "booleans for times": _refused(parquet(time=[True] * GOOD), "no times", code=2),
    "floats, one NaN and one infinite": _log(
        parquet(time=[float("nan"), float("inf"), *[float(TIME)] * (GOOD - 2)]),
        bad={"time_not_finite": 2},
        kept=38,
    ),
    "unsigned times beyond 64 bits": _log(
        parquet(time=pa.array([2**64 - 1, *[TIME] * (GOOD - 1)], pa.uint64())), bad={"time_overflow": 1}, kept=39
    ),
    "nested sessions": _refused(parquet(session=[{"id": "a"}] * GOOD), "no ids", code=2),
    "lists of items": _refused(parquet(item=[["a"]] * GOOD), "no ids", code=2),
    "binary ids": _refused(parquet(item=[b"\xff"] * GOOD), "no ids", code=2),
    "nested events": _refused(parquet(event=[{"kind": "click"}] * GOOD), "no kinds of events", code=2),
    "a session with a NUL": _log(
        parquet(session=["s\x00", *(f"s{row // 4}" for row in range(1, GOOD))]), bad={"nul_byte": 1}, kept=39
    ),
    "null sessions": _log(
        parquet(session=[None, *(f"s{row // 4}" for row in range(1, GOOD))]), bad={"empty_session": 1}, kept=39
    ),
    "all null": _refused(parquet(session=pa.nulls(GOOD)), "no ids", code=2),
    "no rows": _refused(
        parquet(**{name: pa.array([], pa.string()) for name in ("session", "item", "time")}), "no rows"
    ),
}

BROKEN: dict[str, Case] = {
    **{f"{kind} whole": _log(raw) for kind, raw in (("gz", _GZ), ("xz", _XZ), ("zst", _ZST))},
    **{
        f"{kind} {how}": _refused(change(raw), "broken archive")
        for kind, raw in (("gz", _GZ), ("xz", _XZ), ("zst", _ZST))
        for how, change in {
            "cut": lambda raw: raw[: len(raw) // 2],
            "less its last byte": lambda raw: raw[:-1],
            "with rubbish behind": lambda raw: raw + b"rubbish",
            "with the plain log behind": lambda raw: raw + CSV.encode(),
            "with a changed byte": lambda raw: _damaged(raw, 0.5),
        }.items()
    },
    "gz with NUL bytes behind": _log(_GZ + b"\x00" * 512),
    "xz with padding behind": _log(_XZ + b"\x00" * 512),
    "gz in gz": _refused(gzip.compress(_GZ), "not UTF-8"),
    "gz of nothing": _refused(gzip.compress(b""), "nothing but blank lines"),
    "bz2": _refused(bz2.compress(CSV.encode()), "log"),
    "zip": _refused(_archive("zip", CSV), "is a zip archive", code=2),
    "tar": _refused(_archive("tar", CSV), "log"),
    "Parquet cut": _refused(_PARQUET[: len(_PARQUET) // 2], "not a readable Parquet file"),
    "Parquet without its last byte": _refused(_PARQUET[:-1], "not a readable Parquet file"),
    "Parquet with rubbish behind": _refused(_PARQUET + b"rubbish", "not a readable Parquet file"),
    "Parquet in gz": _refused(gzip.compress(_PARQUET), "is a Parquet file inside of an archive; unpack it", code=2),
    "Parquet in zst": _refused(zstandard.compress(_PARQUET), "is a Parquet file inside of an archive", code=2),
    "Parquet head only": _refused(b"PAR1", "not a readable Parquet file"),
}

PATHS: dict[str, Case] = {
    "missing": Case(lambda path: None, refused=(2, "does not exist")),
    "a directory": Case(Path.mkdir, refused=(2, "is a folder")),
    "a FIFO": Case(os.mkfifo, refused=(2, "is no regular file")),
    "a symlink to nowhere": Case(lambda path: path.symlink_to("nowhere"), refused=(2, "does not exist")),
    "a symlink loop": Case(_loop, refused=(1, "too many levels of symbolic links")),
    "a device": Case(lambda path: path.symlink_to("/dev/zero"), refused=(2, "is no regular file")),
}

CORPUS = {**WHOLE_FILES, **ROWS, **OBJECTS, **TYPES, **BROKEN, **PATHS}
