"""From a raw event log to a prepared dataset."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from valuerec.dataset import SCHEMA_VERSION, SPLITS
from valuerec.errors import UsageError, ValuerecError
from valuerec.events import pipeline, writing
from valuerec.events.account import account_table
from valuerec.events.formats import FORMATS, reading_of
from valuerec.events.landing import CODES, Landed, land, resolve_meanings
from valuerec.events.sources import Source
from valuerec.folders import check_unused, new_folder, sha256, write_manifest

_BATCH_ROWS = 1 << 18
_DATA = ("arrays.safetensors", "events.parquet", "items.parquet", "sessions.parquet")


def prepare(
    sources: Sequence[str | Path],
    *,
    format: str,
    out: str | Path,
    split: str = "random",
    seed: int = 0,
    min_item_events: int = 3,
    min_session_events: int = 3,
    columns: Mapping[str, str] | None = None,
    events: Mapping[str, str] | None = None,
    time_unit: str = "auto",
    on_bad_rows: str = "quarantine",
    max_bad_fraction: float = 0.05,
    sample_sessions: int | None = None,
    max_memory: str = "4GB",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Prepare a raw log: check every row, filter, order, split, and write the dataset folder.

    Args:
        sources: the log's files, plain or compressed (gz, xz, zst, bz2).
        format: yoochoose, retailrocket, otto, or events (CSV, TSV, JSON lines, Parquet).
        out: the folder to make; must not be in use.
        split: "random", 80/10/10 of the sessions by md5, or "temporal", by a session's end.
        seed: of the random split and the sample.
        min_item_events: items with fewer events are dropped (released code: more than 2).
        min_session_events: sessions with fewer events are dropped.
        columns: for the format events: which column is the session, the item, the time and the event.
        events: what each kind of event is: click, purchase or ignore.
        time_unit: of the times: auto, iso, s, ms, us, ns or position (a counter, no clock).
        on_bad_rows: "quarantine" sets unreadable rows aside in quarantine.parquet; "fail" stops at the first.
        max_bad_fraction: fail where a larger share of the rows is bad.
        sample_sessions: keep that many of the sessions, drawn by the seed.
        max_memory: for the database engine, such as "4GB".
        progress: told what is being done.

    Returns:
        The manifest: sources, configuration, account, counts, fingerprint.

    Raises:
        UsageError: for wrong options, or files that are not of the format.
        ValuerecError: for unreadable files, or data that leave nothing.
    """
    config = {
        "format": format,
        "split": split,
        "seed": seed,
        "min_item_events": min_item_events,
        "min_session_events": min_session_events,
        "columns": dict(columns) if columns else None,
        "events": dict(events) if events else None,
        "time_unit": time_unit,
        "on_bad_rows": on_bad_rows,
        "max_bad_fraction": max_bad_fraction,
        "sample_sessions": sample_sessions,
    }
    _check(config)
    meanings = resolve_meanings(format, events)
    files = [Source(Path(source)) for source in sources]
    if not files:
        raise UsageError("There is no file to prepare; name the log's files.")
    if len({file.path.resolve() for file in files}) < len(files):
        raise UsageError("A file is named twice; name each once.")
    check_unused(Path(out))
    say = progress or (lambda text: None)
    readings = [reading_of(file, format, columns) for file in files]
    with new_folder(Path(out)) as folder:
        work = folder / "work"
        work.mkdir()
        say("reading the files")
        quarantine = folder / "quarantine.parquet"
        landed = land(readings, work, format, meanings, time_unit, on_bad_rows, quarantine)
        _check_bad(landed, max_bad_fraction)
        if split == "temporal" and landed.unit == "position":
            raise UsageError(
                "The log's times are positions, no clock, so it can't be split by time; use --split random."
            )
        content = {
            "sources": [
                {"name": file.path.name, "rows": rows, "sha256": file.sha256()}
                for file, rows in zip(files, landed.rows, strict=True)
            ],
            "config": config | {"events": meanings},
            **_write_dataset(folder, work, landed, config, max_memory, say),
        }
        shutil.rmtree(work)
        digests = "".join(sha256(folder / name) for name in _DATA)
        content["fingerprint"] = hashlib.sha256(digests.encode()).hexdigest()
        return write_manifest(folder, "dataset", SCHEMA_VERSION, content)


def _write_dataset(
    folder: Path, work: Path, landed: Landed, config: Mapping[str, Any], max_memory: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the pipeline on DuckDB, write the data files, and answer with the account and the counts."""
    clock = landed.unit != "position"
    try:
        engine = ibis.duckdb.connect(
            work / "engine.duckdb",
            memory_limit=max_memory,
            temp_directory=str(work),
            preserve_insertion_order=False,
        )
        try:
            staged = engine.read_parquet([str(part) for part in landed.parts])
            say("filtering")
            format = FORMATS[config["format"]]
            events, stages = pipeline.filtered(
                staged, format.rule, config["min_item_events"], config["min_session_events"]
            )
            if config["sample_sessions"]:
                stages["not_sampled"] = events = pipeline.sampled(events, config["sample_sessions"], config["seed"])
            with events.cache() as kept:
                account = _account(landed, staged, stages, kept)
                say("numbering sessions and items")
                sessions = pipeline.sessions_of(kept, config["split"], config["seed"])
                items = pipeline.items_of(kept)
                with sessions.cache() as sessions, items.cache() as items:
                    session_table = sessions.order_by("number").to_pyarrow()
                    item_table = items.order_by("number").to_pyarrow()
                    writing.write_items(folder / "items.parquet", item_table)
                    writing.write_sessions(folder / "sessions.parquet", session_table, clock)
                    say("ordering and writing the events")
                    batches = pipeline.numbered(kept, sessions, items).to_pyarrow_batches(chunk_size=_BATCH_ROWS)
                    writing.write_events(folder, iter(batches), item_table, session_table, clock)
        finally:
            engine.disconnect()
    except duckdb.Error as error:
        raise _engine_error(error, max_memory) from error
    return {"account": account, **_counts(session_table, item_table, landed.unit)}


def _account(landed: Landed, staged: Any, stages: Mapping[str, Any], events: Any) -> dict[str, Any]:
    """Where every row went: read = kept + filtered + bad, exactly."""
    rows = int(staged.count().execute())
    filtered = {}
    for reason, table in stages.items():
        left = int(table.count().execute())
        if rows > left:
            filtered[reason] = rows - left
        rows = left
    kept = int(events.count().execute())
    read, bad = sum(landed.rows), dict(sorted(landed.bad.items()))
    if read != kept + sum(filtered.values()) + sum(bad.values()):
        raise AssertionError(f"account off: {read} read, {kept} kept, {filtered} filtered, {bad} bad")
    if kept == 0:
        most = ", ".join(f"{reason} {count:,}" for reason, count in (filtered | bad).items())
        raise ValuerecError(
            f"No event is left of {read:,} rows ({most}); lower --min-item-events or --min-session-events, or check "
            "--events."
        )
    return {"rows_read": read, "kept": kept, "filtered": filtered, "bad": bad}


def _counts(sessions: pa.Table, items: pa.Table, unit: str) -> dict[str, Any]:
    """Sizes, whole and split by split, and the log's first and last time."""
    frame = {name: sessions[name].to_numpy() for name in ("split", "events", "purchases", "start", "end")}
    splits = {}
    for code, name in enumerate(SPLITS):
        own = frame["split"] == code
        events, purchases = int(frame["events"][own].sum()), int(frame["purchases"][own].sum())
        splits[name] = {
            "sessions": int(own.sum()),
            "events": events,
            "clicks": events - purchases,
            "purchases": purchases,
        }
    counts = {name: sum(split[name] for split in splits.values()) for name in next(iter(splits.values()))}
    first, last = int(frame["start"].min()), int(frame["end"].max())
    if unit != "position":
        first, last = (_iso(value) for value in (first, last))
    return {
        "counts": {"items": len(items), **counts},
        "splits": splits,
        "time": {"unit": unit, "first": first, "last": last},
    }


def _iso(microseconds: int) -> Any:
    seconds, rest = divmod(microseconds, 10**6)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:06d}Z"


def _check_bad(landed: Landed, most: float) -> None:
    bad, rows = sum(landed.bad.values()), sum(landed.rows)
    if bad > most * rows:
        reason, count = landed.bad.most_common(1)[0]
        raise ValuerecError(
            f"{bad:,} of {rows:,} rows are bad, more than --max-bad-fraction {most} allows: mostly {reason} "
            f"({count:,}, first in {landed.first_bad[reason]}); check --format and the file, or allow more."
        )


def _engine_error(error: duckdb.Error, max_memory: str) -> ValuerecError:
    text = " ".join(str(error).split())
    if isinstance(error, duckdb.OutOfMemoryException):
        if "disk" in text.lower() or "temp_directory" in text.lower():
            return ValuerecError("No space is left on the disk for intermediate data; free some.")
        return ValuerecError(
            f"The log needs more than --max-memory {max_memory}; allow more, or take a larger machine."
        )
    if "no space" in text.lower():
        return ValuerecError("No space is left on the disk; free some or choose another --out.")
    return ValuerecError(f"The database engine failed ({text}).")


def _check(config: Mapping[str, Any]) -> None:
    """Refuse wrong options."""
    allowed = {
        "format": tuple(FORMATS),
        "split": ("random", "temporal"),
        "time_unit": ("auto", "iso", "s", "ms", "us", "ns", "position"),
        "on_bad_rows": ("quarantine", "fail"),
    }
    for name, values in allowed.items():
        if config[name] not in values:
            raise UsageError(f"--{name.replace('_', '-')} is {config[name]!r}; choose one of: {', '.join(values)}.")
    for name in ("min_item_events", "min_session_events", "sample_sessions"):
        if config[name] is not None and config[name] < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {config[name]}; it must be at least 1.")
    if not 0 <= config["max_bad_fraction"] <= 1:
        raise UsageError(f"--max-bad-fraction is {config['max_bad_fraction']}; it must be in [0, 1].")
    if config["columns"] and config["format"] != "events":
        raise UsageError(f"--columns is for --format events; the format {config['format']} has its own columns.")


__all__ = ["CODES", "account_table", "prepare"]
