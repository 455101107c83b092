"""Files of recommendations: written in parts, put together without ranking again.

JSON lines: a session a line; Parquet: a session a row, the same names and nesting, a row group a part; CSV: an item a
row, so a session without a recommendation has none.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valuerec.bulk.columns import Columns

_ITEM: Final = pa.struct(
    [
        pa.field("id", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("value", pa.float64()),
        pa.field("uncertainty", pa.float64()),
    ]
)
_SCHEMA: Final = pa.schema(
    [
        pa.field("session", pa.string()),
        pa.field("items", pa.list_(_ITEM)),
        pa.field("unknown", pa.int32()),
    ]
)
_REPEATED: Final[Any] = [
    "items.list.element.id"
]  # a dictionary of the rest, which repeats nothing, costs time and space
_CSV: Final = ("session", "rank", "item", "score", "value", "uncertainty")


class Answers(NamedTuple):
    """What some sessions are recommended: ids, unknown items of each, and the columns."""

    session_B: pa.Array[Any]
    unknown_B: NDArray[np.int32]
    columns: Columns


class Catalogue:
    """The items' ids, in the two forms they are written from."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids, self.array = ids, pa.array(ids, pa.string())


def write_part(path: Path, ending: str, answers: Sequence[Answers], catalogue: Catalogue) -> None:
    """Write a part of a file of this ending."""
    if ending == ".parquet":
        with pq.ParquetWriter(path, _SCHEMA, use_dictionary=_REPEATED) as writer:
            writer.write_table(pa.Table.from_batches([_batch(each, catalogue) for each in answers]).combine_chunks())
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if ending in (".csv", ".tsv"):
            writer_of_rows = _csv_writer(file, ending)
            for each in answers:
                for session, _, items in _told(each, catalogue):
                    writer_of_rows.writerows((session, rank, *item) for rank, item in enumerate(items, start=1))
        else:
            names = _ITEM.names
            for each in answers:
                for session, unknown, items in _told(each, catalogue):
                    told = [dict(zip(names, item, strict=True)) for item in items]
                    line = {"session": session, "items": told, "unknown": unknown}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def join_parts(path: Path, ending: str, parts: Iterable[Path]) -> None:
    """Write the file that the parts make, whatever a killed process left of it."""
    if ending == ".parquet":
        with pq.ParquetWriter(path, _SCHEMA, use_dictionary=_REPEATED) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, schema=_SCHEMA).combine_chunks())
        return
    with path.open("w", encoding="utf-8", newline="") as text:
        if ending in (".csv", ".tsv"):
            _csv_writer(text, ending).writerow(_CSV)
    with path.open("ab") as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file, 1 << 20)


def _csv_writer(file: Any, ending: str) -> Any:
    return csv.writer(file, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")


def _batch(answers: Answers, catalogue: Catalogue) -> pa.RecordBatch:
    columns = answers.columns
    numbers = (columns.score_F, columns.value_F, columns.spread_F)
    missing = pa.nulls(len(columns.item_F), pa.float64())
    items = pa.StructArray.from_arrays(
        [
            catalogue.array.take(pa.array(columns.item_F, pa.int64())),
            *(missing if each is None else pa.array(each, pa.float64()) for each in numbers),
        ],
        fields=list(_ITEM),
    )
    offset_B = np.concatenate([[0], np.cumsum(columns.count_B)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offset_B, pa.int32()), items)
    return pa.record_batch([answers.session_B, lists, pa.array(answers.unknown_B, pa.int32())], schema=_SCHEMA)


def _told(answers: Answers, catalogue: Catalogue) -> Iterator[tuple[str, int, list[tuple[Any, ...]]]]:
    """Session, unknown items, and (id, score, value, uncertainty) of each item, as Python's own."""
    columns = answers.columns
    missing = [None] * len(columns.item_F)
    value, spread = (missing if each is None else each.tolist() for each in (columns.value_F, columns.spread_F))
    ids = [catalogue.ids[item] for item in columns.item_F.tolist()]
    items = list(zip(ids, columns.score_F.tolist(), value, spread, strict=True))
    start = 0
    sessions: list[str] = answers.session_B.to_pylist()  # type: ignore[assignment]
    unknowns, counts = answers.unknown_B.tolist(), columns.count_B.tolist()
    for session, unknown, count in zip(sessions, unknowns, counts, strict=True):
        yield session, unknown, items[start : start + count]
        start += count
