"""From a raw event log to a prepared dataset: the one function that puts the steps in order."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from valuerec.dataset import KINDS, SCHEMA_VERSION, SPLITS
from valuerec.errors import UsageError, ValuerecError
from valuerec.events import drift as drifting
from valuerec.events import engine
from valuerec.events.checking import REASONS
from valuerec.events.formats import reading_of
from valuerec.events.landing import Landed, coarse, doubts, land
from valuerec.events.options import Options
from valuerec.events.pipeline import kind_column
from valuerec.events.quarantine import NAME, Quarantine, check_place
from valuerec.events.sources import Source, told_apart
from valuerec.folders import check_unused, explained_io, new_folder, sha256, write_manifest

_DATA: Final = ("arrays.safetensors", "events.parquet", "items.parquet", "sessions.parquet")


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
    quarantine: str | Path | None = None,
    drop_duplicates: bool = False,
    latest_time: str | None = None,
    like: str | Path | None = None,
    on_drift: str = "warn",
    drift_limits: Mapping[str, float] | None = None,
    sample_sessions: int | None = None,
    max_memory: str | None = "4GB",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Prepare a raw log: check every row, filter, order, split, and write the dataset folder.

    Args:
        sources: the log's files, plain or compressed (gz, xz, zst).
        format: yoochoose, retailrocket, otto, or events (CSV, TSV, JSON lines, Parquet).
        out: the folder to make; must not be in use.
        split: "random", 80/10/10 of the sessions by md5, or "temporal", by a session's end.
        seed: of the random split and the sample.
        min_item_events: items with fewer events are dropped (released code: more than 2).
        min_session_events: sessions with fewer events are dropped.
        columns: for the format events: which column is the session, the item, the time and the event.
        events: what each kind of event is: click, purchase, ignore, or the name of a kind of its own, such as cart,
            whose reward training asks for.
        time_unit: of the times: auto, iso, s, ms, us, ns or position (a counter, no clock).
        on_bad_rows: "quarantine" sets bad rows aside, with file, row, field, reason and the first 2,000 characters of
            their text (`docs/events.md` lists the reasons); "fail" stops at the first.
        max_bad_fraction: refuse the log where a larger share of the rows is bad.
        quarantine: the Parquet file for bad rows; by default quarantine.parquet in `out`, and for a log that is refused
            OUT.quarantine.parquet beside it.
        drop_duplicates: drop events that repeat another in session, item, time and kind; by default they are counted.
        latest_time: events after this moment (ISO text) are bad; by default a day from now.
        like: an earlier dataset that the log should resemble.
        on_drift: "warn" or "fail" where it does not.
        drift_limits: other limits than `valuerec.events.drift.LIMITS`, by name.
        sample_sessions: keep that many of the sessions, drawn by the seed.
        max_memory: for the database engine, such as "4GB"; None leaves it to the engine.
        progress: told what is being done.

    Returns:
        The manifest: sources, configuration, account, counts, fingerprint.

    Raises:
        UsageError: for wrong options, or files that are not of the format.
        DriftError: where the log has drifted and `on_drift` says to fail.
        ValuerecError: for unreadable files, too many bad rows, or data that leave nothing.
    """
    options = Options(
        format=format,
        split=split,
        seed=seed,
        min_item_events=min_item_events,
        min_session_events=min_session_events,
        columns=columns,
        events=events,
        time_unit=time_unit,
        on_bad_rows=on_bad_rows,
        max_bad_fraction=max_bad_fraction,
        drop_duplicates=drop_duplicates,
        latest_time=latest_time,
        sample_sessions=sample_sessions,
        max_memory=max_memory,
    )
    target, say = Path(out), progress or (lambda text: None)
    gate = drifting.Gate.of(like, on_drift, drift_limits)
    files = _files(sources)
    with explained_io(f"Writing {target}"):
        check_unused(target)
    named = None if quarantine is None else Path(quarantine)
    check_place(named, target)
    readings = [reading_of(file, format, columns) for file in files]
    with new_folder(target) as folder:
        work = folder / "work"
        work.mkdir()
        say("reading the files")
        aside = Quarantine(work / NAME, target, named)
        landed = land(readings, work, options, aside.made)
        _check_bad(landed, max_bad_fraction, aside)
        unit = "/".join(sorted({file.unit for file in landed}))
        if split == "temporal" and unit == "position":
            raise UsageError(
                "The log's times are positions (numbers below 100,000,000) and no clock, so it can't be split by time; "
                "use --split random, or say what they are with --time-unit."
            )
        account: dict[str, Any] = {}

        def settle(dropped: Mapping[str, int], kept: int) -> None:
            account.update(_account(landed, dropped, kept, aside))

        parts = [file.part for file in landed]
        built = engine.build(folder, work, parts, options, unit != "position", settle, say)
        counts = _counts(built.sessions, built.items, unit, options.kinds)
        where = aside.place
        drift = {"drift": gate.judge(folder, counts, options, aside)} if gate else {}
        aside.settle(folder)
        shutil.rmtree(work)
        content = {
            "sources": [
                {"name": file.name, "rows": came.rows, "sha256": file.sha256()}
                for file, came in zip(files, landed, strict=True)
            ],
            "config": options.resolved(),
            "account": account,
            "quarantine": where,
            "findings": built.findings.content(),
            "notes": [*doubts(landed), *coarse(landed), *_latest(landed, options), *built.findings.notes()],
            **counts,
            **drift,
            "fingerprint": _fingerprint(folder),
        }
        return write_manifest(folder, "dataset", SCHEMA_VERSION, content)


def _files(sources: Sequence[str | Path]) -> list[Source]:
    if isinstance(sources, str | Path):
        raise UsageError(f"The sources are one path, {sources}; give a list of paths.")
    files = [Source(Path(source)) for source in sources]
    if not files:
        raise UsageError("There is no file to prepare; name the log's files.")
    for place, file in enumerate(files):
        if any(file.path.samefile(other.path) for other in files[:place]):
            raise UsageError(f"The file {file.path} is named twice; name each once.")
    return told_apart(files)


def _check_bad(landed: Sequence[Landed], most: float, aside: Quarantine) -> None:
    rows, bad = sum(file.rows for file in landed), sum((file.bad for file in landed), Counter[str]())
    if bad.total() > most * rows:
        reason, count = bad.most_common(1)[0]
        example = next(file for file in landed if reason in file.first_bad)
        raise ValuerecError(
            f"{bad.total():,} of {rows:,} rows are bad, more than --max-bad-fraction {most} allows, mostly by {reason} "
            f"({count:,}, first {example.path}, row {example.first_bad[reason]}: {REASONS[reason].what})"
            f"{aside.refused()}; {REASONS[reason].remedy}, or allow more."
        )


def _latest(landed: Sequence[Landed], options: Options) -> list[str]:
    """With which limit rows were set aside for a time in the future, for the limit moves with the clock."""
    if any("future_time" in file.bad for file in landed):
        return [f"times after {_iso(options.latest)} counted as in the future; --latest-time sets that."]
    return []


def _account(landed: Sequence[Landed], dropped: Mapping[str, int], kept: int, aside: Quarantine) -> dict[str, Any]:
    """Where every row went: read = kept + filtered + duplicates + bad, exactly.

    Raises:
        ValuerecError: where no row is kept.
    """
    read = sum(file.rows for file in landed)
    bad = dict(sorted(sum((file.bad for file in landed), Counter[str]()).items()))
    assert read == kept + sum(dropped.values()) + sum(bad.values()), (read, kept, dropped, bad)
    if kept == 0:
        most = ", ".join(f"{reason} {count:,}" for reason, count in sorted({**dropped, **bad}.items(), key=_by_count))
        raise ValuerecError(
            f"No event is left of {read:,} rows (dropped: {most}){aside.refused()}; lower --min-item-events or "
            "--min-session-events, or check --events and --format."
        )
    filtered = {reason: count for reason, count in dropped.items() if reason != "duplicate"}
    duplicates = dropped.get("duplicate", 0)
    return {"rows_read": read, "kept": kept, "filtered": filtered, "duplicates": duplicates, "bad": bad}


def _by_count(pair: tuple[str, int]) -> int:
    return -pair[1]


def _counts(sessions: pa.Table, items: pa.Table, unit: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Sizes, whole and split by split, the log's first and last time, and the kinds of events if more than two."""
    columns = {kind: kind_column(code) for code, kind in enumerate(kinds) if kind != "click"}
    column = {name: sessions[name].to_numpy() for name in ("split", "events", *columns.values(), "start", "end")}
    splits = {}
    for code, name in enumerate(SPLITS):
        own = column["split"] == code
        events = int(column["events"][own].sum())
        of_kind = {_plural(kind): int(column[place][own].sum()) for kind, place in columns.items()}
        clicks = events - sum(of_kind.values())
        splits[name] = {"sessions": int(own.sum()), "events": events, "clicks": clicks, **of_kind}
    sums = {name: sum(split[name] for split in splits.values()) for name in splits["train"]}
    ends = int(column["start"].min()), int(column["end"].max())
    first, last = ends if unit == "position" else map(_iso, ends)
    return {
        "counts": {"items": len(items), **sums},
        "splits": splits,
        "time": {"unit": unit, "first": first, "last": last},
        **({"event_kinds": list(kinds)} if len(kinds) > len(KINDS) else {}),
    }


def _plural(kind: str) -> str:
    """What a count of events is called: clicks, purchases, and any other kind by its own name."""
    return f"{kind}s" if kind in KINDS else kind


def _iso(microseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _fingerprint(folder: Path) -> str:
    """SHA-256 over those of the data files: equal fingerprints, equal data."""
    return hashlib.sha256("".join(sha256(folder / name) for name in _DATA).encode()).hexdigest()
