"""The pipeline run on DuckDB: the only module that knows the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import ibis
import pyarrow as pa

from valuerec.errors import ValuerecError
from valuerec.events import findings, pipeline, writing
from valuerec.events.formats import FORMATS
from valuerec.events.options import Options

_BATCH_ROWS = 1 << 18


class Built(NamedTuple):
    """A row a session and a row an item, in index order, and what was noticed about the events."""

    sessions: pa.Table
    items: pa.Table
    findings: findings.Findings


def build(
    folder: Path,
    work: Path,
    parts: Sequence[Path],
    options: Options,
    clock: bool,
    account: Callable[[Mapping[str, int], int], None],
    say: Callable[[str], None],
) -> Built:
    """Filter, number and order the staged events, and write the data files of a dataset.

    Args:
        folder: where the data files go.
        work: where the engine may put what does not fit into memory.
        parts: the staged Parquet files.
        options: how to prepare.
        clock: whether times are times, and not positions.
        account: told, before anything is written, how many events each filter dropped and how many are left.
        say: told what is being done.

    Raises:
        ValuerecError: where memory or disk do not suffice.
    """
    limit = {"memory_limit": options.max_memory} if options.max_memory else {}
    try:
        # Order is asked for where it matters; to keep it elsewhere costs memory.
        engine = ibis.duckdb.connect(
            work / "engine.duckdb", temp_directory=str(work), preserve_insertion_order=False, **limit
        )
        try:
            # A folder named session=5 above ours is no column of the log.
            staged = engine.read_parquet([str(part) for part in parts], hive_partitioning=False)
            say("filtering")
            with ExitStack() as held:
                with ExitStack() as meanwhile:
                    events, stages, noticed = _filtered(engine, work, staged, options, meanwhile)
                    kept = held.enter_context(events.cache())
                    account(*_dropped(staged, stages, kept))
                say("numbering sessions and items")
                sessions = held.enter_context(
                    pipeline.sessions_of(kept, options.split, options.seed, len(options.kinds)).cache()
                )
                items = held.enter_context(pipeline.items_of(kept).cache())
                session_table = sessions.order_by("number").to_pyarrow()
                item_table = items.order_by("number").to_pyarrow()
                writing.write_items(folder / "items.parquet", item_table, options.kinds)
                writing.write_sessions(folder / "sessions.parquet", session_table, clock)
                say("ordering and writing the events")
                batches = pipeline.numbered(kept, sessions, items).to_pyarrow_batches(chunk_size=_BATCH_ROWS)
                repetitions = writing.write_events(
                    folder, iter(batches), item_table, session_table, clock, options.kinds
                )
        finally:
            engine.disconnect()
    except duckdb.Error as error:
        raise _explained(error, options.max_memory) from error
    except RuntimeError as error:
        if "interrupted" in str(error):  # Ctrl-C, as DuckDB tells it
            raise KeyboardInterrupt from error
        raise
    return Built(session_table, item_table, noticed._replace(repetitions=repetitions))


def _filtered(
    engine: Any, work: Path, staged: Any, options: Options, held: ExitStack
) -> tuple[Any, dict[str, Any], findings.Findings]:
    """The events that stay, the tables after each filter, and what is to be noticed; all read what `held` holds."""

    def hold(table: Any) -> Any:
        return held.enter_context(table.cache())

    events, stages = pipeline.meant(staged, options.drop_duplicates)
    if options.drop_duplicates:
        events = stages["duplicate"] = hold(events)
    tallies = {column: hold(pipeline.tally(events, column)) for column in ("session", "item")}
    noticed = findings.found(engine, work, tallies)
    rule = FORMATS[options.format].rule
    events, more = pipeline.filtered(events, tallies, rule, options.min_item_events, options.min_session_events, hold)
    stages |= more
    if options.sample_sessions:
        events = pipeline.sampled(events, options.sample_sessions, options.seed)
        stages["not_sampled"] = events
    return events, stages, noticed


def _dropped(staged: Any, stages: Mapping[str, Any], kept: Any) -> tuple[dict[str, int], int]:
    """How many events each filter dropped, those that dropped any, and how many are left."""
    rows = int(staged.count().execute())
    dropped = {}
    for reason, table in stages.items():
        left = int(table.count().execute())
        if rows > left:
            dropped[reason] = rows - left
        rows = left
    return dropped, int(kept.count().execute())


def _explained(error: duckdb.Error, max_memory: str | None) -> ValuerecError:
    text = " ".join(str(error).split())
    if "no space left" in text.lower() or "max_temp_directory_size" in text:
        return ValuerecError("No space is left on the disk for intermediate data; free some or choose another --out.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return ValuerecError(
            f"The log needs more memory than --max-memory {max_memory} allows; allow more, or take a larger machine."
        )
    return ValuerecError(f"The database engine failed: {text.rstrip('.')}.")
