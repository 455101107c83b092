"""What looks wrong across rows: reported, and nothing is dropped or merged for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from ibis import _

from valuerec.events.checking import INVISIBLE

Table = Any  # ibis is untyped
pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes

# What these ids fold to is what they are: printable ASCII without capitals and spaces, and no zeros around a number.
_SETTLED: Final = r"^[!-@\[-~]+$"
_ZEROS: Final = r"^0[0-9]|\.0+$"
_NO_IDS: Final = (
    "null",
    "(null)",
    "none",
    "nan",
    "n/a",
    "inf",
    "-inf",
    "undefined",
    "\\n",
    "-",
    "--",
    "?",
    "na",
    "nil",
    "<na>",
)
_EXAMPLES: Final = 3
_LONGEST_EXAMPLE: Final = 60  # characters


class Spellings(NamedTuple):
    """Ids that are written in more than one way: how many in how many groups, and the ends of some groups."""

    ids: int
    groups: int
    examples: list[list[str]]


class Findings(NamedTuple):
    """What was noticed about the events of a log, before the filters.

    Args:
        purchases_of_unseen_items: purchases of items without any click in the log.
        purchases_in_unseen_sessions: purchases in sessions without any click in the log.
        spellings: of sessions and items, where there are any.
        no_ids: events whose session or item is a word for nothing, such as null, by field and word.
        repetitions: events kept that equal another in session, item, time and kind, its first occurrence not counted.
    """

    purchases_of_unseen_items: int
    purchases_in_unseen_sessions: int
    spellings: dict[str, Spellings]
    no_ids: dict[str, dict[str, int]]
    repetitions: int = 0

    def content(self) -> dict[str, Any]:
        """For a manifest."""
        return self._asdict() | {"spellings": {name: each._asdict() for name, each in self.spellings.items()}}

    def notes(self) -> Iterator[str]:
        """A sentence each."""
        if self.repetitions:
            yield (
                f"{self.repetitions:,} of the events kept repeat another exactly (session, item, time, kind of event); "
                "a repeated click may be data, --drop-duplicates drops it."
            )
        if self.purchases_of_unseen_items:
            yield f"{self.purchases_of_unseen_items:,} purchases are of items without a click in the log."
        if self.purchases_in_unseen_sessions:
            yield (
                f"{self.purchases_in_unseen_sessions:,} purchases are in sessions without a click in the log; check "
                "that its files belong together."
            )
        for name, spellings in self.spellings.items():
            pairs = ", ".join(f"{first!r} and {last!r}" for first, last in spellings.examples)
            yield (
                f"{spellings.ids:,} {name} ids in {spellings.groups:,} groups differ only in spelling ({pairs}); they "
                "stay apart: write each one way if they mean the same."
            )
        for name, words in self.no_ids.items():
            counts = ", ".join(f"{word!r} {count:,}" for word, count in words.items())
            yield f"The {name} of some events is a word for nothing ({counts}); it was taken for an id."


def found(engine: Any, work: Path, tallies: Mapping[str, Table]) -> Findings:
    """What the tallies of a log show.

    Args:
        engine: an Ibis backend that reads Parquet.
        work: a folder for intermediate files.
        tallies: how many events, by session and by item.
    """
    unseen = {
        column: int(table.filter(_.clicks == 0).purchases.sum().fill_null(0).to_pyarrow().as_py())
        for column, table in tallies.items()
    }
    spellings = {column: _spellings(engine, work, table, column) for column, table in tallies.items()}
    no_ids = {column: _no_ids(table, column) for column, table in tallies.items()}
    return Findings(
        purchases_of_unseen_items=unseen["item"],
        purchases_in_unseen_sessions=unseen["session"],
        spellings={column: each for column, each in spellings.items() if each.groups},
        no_ids={column: words for column, words in no_ids.items() if words},
    )


def folded(ids: Any) -> Any:
    """Ids without what spellings differ in: invisible characters, Unicode form, blanks around, case, zeros of a number.

    Those zeros stand before a whole number, or as `.0` behind it.
    """
    text = pc.replace_substring_regex(ids, f"[{INVISIBLE}]", "")
    text = pc.utf8_lower(pc.utf8_trim_whitespace(pc.utf8_normalize(text, "NFKC")))
    text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    return pc.replace_substring_regex(text, r"^0+(\d+)$", r"\1")


def _spellings(engine: Any, work: Path, tally: Table, column: str) -> Spellings:
    """The ids that fold alike; all but one of a group are not what they fold to, so only such ids are written down."""
    ids = tally.select(id=tally[column])
    doubtful = ids.filter(~ids.id.re_search(_SETTLED) | ids.id.re_search(_ZEROS))
    path = work / f"changed-{column}.parquet"
    if not _write_changed(doubtful.to_pyarrow_batches(), path):
        return Spellings(0, 0, [])
    changed = engine.read_parquet(str(path), hive_partitioning=False)
    plain = ids.semi_join(changed.select(id=changed.folded).distinct(), "id").anti_join(changed, "id")
    together = changed.union(plain.mutate(folded=_.id).select("id", "folded"))
    groups = together.group_by("folded").agg(ids=_.count(), first=_.id.min(), last=_.id.max()).filter(_.ids > 1)
    sums = groups.agg(ids=_.ids.sum().fill_null(0), groups=_.count()).to_pyarrow().to_pylist()[0]
    some = groups.order_by("folded").limit(_EXAMPLES).to_pyarrow().to_pylist()
    examples = [[_cut(each["first"]), _cut(each["last"])] for each in some]
    return Spellings(int(sums["ids"]), int(sums["groups"]), examples)


def _write_changed(batches: Any, path: Path) -> int:
    """Write the ids that are not what they fold to, and that; gives how many."""
    rows = 0
    schema = pa.schema({"id": pa.string(), "folded": pa.string()})
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batch in batches:
            ids = batch["id"].cast(pa.string())
            table = pa.table({"id": ids, "folded": folded(ids)}, schema=schema)
            table = table.filter(pc.not_equal(table["id"], table["folded"]))
            rows += len(table)
            writer.write_table(table)
    return rows


def _no_ids(tally: Table, column: str) -> dict[str, int]:
    words = tally.filter(tally[column].strip().lower().isin(_NO_IDS)).order_by(column).to_pyarrow().to_pylist()
    return {row[column]: int(row["events"]) for row in words}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…"
