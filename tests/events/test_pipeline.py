"""The expression tree runs unchanged on another engine, to the same tables, and those are the oracle's."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import oracle
from events.logs import START, TEXT_IDS
from events.oracle import Event
from valuerec.events import pipeline
from valuerec.events.checking import IGNORE, TRANSACTION
from valuerec.events.formats import FORMATS

CODES = {"click": 0, "ignore": IGNORE, "purchase": 1, "transaction": TRANSACTION, "cart": 2, "wish": 3}
KINDS = tuple(CODES)
FORMAT_OF_RULE = {FORMATS[name].rule: name for name in ("yoochoose", "retailrocket", "events")}
EVENTS = st.lists(
    st.builds(
        Event,
        session=st.sampled_from([*TEXT_IDS, "nul\x00", "a\nb"]),
        item=st.sampled_from(TEXT_IDS[:6]),
        time=st.integers(START, START + 3),
        kind=st.sampled_from(KINDS),
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture(scope="module", params=["duckdb", "datafusion"])
def engine(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(request.param)
    return getattr(ibis, request.param).connect()


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    pytest.importorskip("pyspark", reason="pyspark is not here; that the pipeline runs on Spark is not tested")
    if not shutil.which("java"):
        pytest.skip("there is no Java; that the pipeline runs on Spark is not tested")
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "1").getOrCreate()
    yield ibis.pyspark.connect(session)
    session.stop()


def check_all(
    engine: Any,
    events: Sequence[Event],
    rule: Any,
    least: int,
    split: str,
    seed: int,
    sample: int,
    drop_duplicates: bool = False,
) -> None:
    """What each expression gives is what the oracle gives."""
    columns = {"session": [], "item": [], "time": [], "event": []}  # type: dict[str, list[Any]]
    for event in events:
        for name, value in zip(columns, [*event[:3], CODES[event.kind]], strict=True):
            columns[name].append(value)
    types = [pa.string(), pa.string(), pa.int64(), pa.int8()]
    arrays = [pa.array(values, kind) for values, kind in zip(columns.values(), types, strict=True)]
    staged = engine.create_table("staged", pa.table(arrays, names=list(columns)), overwrite=True)

    known, stages = pipeline.meant(staged, drop_duplicates)
    tallies = {column: pipeline.tally(known, column) for column in ("session", "item")}
    kept, more = pipeline.filtered(known, tallies, rule, least, least, hold=lambda table: table)
    stages |= more
    stages["not_sampled"] = kept = pipeline.sampled(kept, sample, seed)
    right = oracle.expected(
        events,
        FORMAT_OF_RULE[rule],
        split=split,
        seed=seed,
        min_item_events=least,
        min_session_events=least,
        sample_sessions=sample,
        drop_duplicates=drop_duplicates,
        others=("cart", "wish"),
    )
    left = [len(events), *(int(table.count().to_pyarrow().as_py()) for table in stages.values())]
    dropped = {reason: left[place] - left[place + 1] for place, reason in enumerate(stages)}
    assert {reason: count for reason, count in dropped.items() if count} == right.filtered

    sessions, items = pipeline.sessions_of(kept, split, seed, 4), pipeline.items_of(kept)
    found_items = items.order_by("number").to_pyarrow()
    assert _rows(found_items, "item", "clicks", "purchases", "events") == right.items
    assert found_items["number"].to_pylist() == list(range(len(right.items)))
    found_sessions = sessions.order_by("number").to_pyarrow()
    for code in (1, 2, 3):
        counts = Counter(event[0] for event, kind in zip(right.events, right.event_E, strict=True) if kind == code)
        column = found_sessions[pipeline.kind_column(code)].to_pylist()
        assert column == [counts[session[0]] for session in right.sessions]
    names = [oracle.SPLITS[code] for code in found_sessions["split"].to_pylist()]
    own = _rows(found_sessions, "session", "events", "start", "end")
    assert [(name, split, *rest) for (name, *rest), split in zip(own, names, strict=True)] == right.sessions
    assert found_sessions["number"].to_pylist() == list(range(len(right.sessions)))
    numbered = pipeline.numbered(kept, sessions, items).to_pyarrow()
    assert numbered["item_number"].to_pylist() == right.item_E
    assert numbered["event"].to_pylist() == right.event_E
    assert numbered["time"].to_pylist() == [event[2] for event in right.events]
    ids = [session[0] for session in right.sessions]
    assert [ids[number] for number in numbered["session_number"].to_pylist()] == [event[0] for event in right.events]


def _rows(table: pa.Table, *names: str) -> list[Any]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


@settings(max_examples=12, deadline=None)
@given(
    events=EVENTS,
    rule=st.sampled_from(sorted(FORMAT_OF_RULE)),
    split=st.sampled_from(["random", "temporal"]),
    least=st.integers(1, 3),
    seed=st.integers(0, 3),
    sample=st.integers(1, 9),
    drop_duplicates=st.booleans(),
)
def test_every_engine_gives_the_oracles_tables(engine: Any, events: list[Event], **options: Any) -> None:
    check_all(engine, events, **options)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random", "temporal"])
@pytest.mark.parametrize("rule", sorted(FORMAT_OF_RULE))
def test_spark_gives_the_oracles_tables(spark: Any, rule: str, split: str) -> None:
    ids = [*TEXT_IDS, "nul\x00", "a\nb"]
    kinds = KINDS
    events = [
        Event(ids[(i * i) % len(ids)], TEXT_IDS[(i * 7) % 6], START + i % 5, kinds[(i * 3 + i // 7) % len(kinds)])
        for i in range(150)
    ]
    check_all(spark, events, rule, 2, split, 1, 8)


@pytest.mark.parametrize("dialect", ["pyspark", "postgres", "datafusion"])
@pytest.mark.parametrize("split", ["random", "temporal"])
def test_the_whole_tree_compiles_to_the_sql_of_other_engines(dialect: str, split: str) -> None:
    staged = ibis.table({"session": "string", "item": "string", "time": "int64", "event": "int8"}, name="staged")
    known, _ = pipeline.meant(staged, drop_duplicates=True)
    tallies = {column: pipeline.tally(known, column) for column in ("session", "item")}
    kept, _ = pipeline.filtered(known, tallies, "clicks: items, sessions", 3, 3, hold=lambda table: table)
    kept = pipeline.sampled(kept, 10, 0)
    tree = pipeline.numbered(kept, pipeline.sessions_of(kept, split, 0, 3), pipeline.items_of(kept))
    assert "MD5(" in str(ibis.to_sql(tree, dialect=dialect)).upper()


def test_md5_is_the_standards(engine: Any) -> None:
    text = ["", "abc", "漢字 🛒", "x" * 100_000]
    table = engine.create_table("texts", pa.table({"text": text}), overwrite=True)
    found = table.mutate(digest=pipeline.md5(table.text)).to_pyarrow()
    assert dict(zip(found["text"].to_pylist(), found["digest"].to_pylist(), strict=True)) == {
        each: oracle.md5(each) for each in text
    }
