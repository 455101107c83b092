"""The test ranks of a cell: all that the paired tests need, and no more, so that they can be committed.

A row an event of the test split: session (its index), event (0 click, 1 purchase), rank from 1. No figure looks beyond
the largest cut-off, so what lies beyond is one number; some 12 KB a cell of 24,000 events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from valuerec.evaluation import CUTOFFS, SessionRanks
from valuerec.folders import explained_io

BEYOND: Final = max(CUTOFFS) + 1  # stands for every rank from here on


def ranks_file(folder: Path, slug: str) -> Path:
    """Where the test ranks of a cell lie in a folder of results."""
    return folder / "ranks" / f"{slug}.parquet"


def write_ranks(path: Path, ranks: SessionRanks) -> None:
    """Write the ranks of a split, those from `BEYOND` on as that."""
    columns = {
        "session": pa.array(ranks.session_E, pa.int32()),
        "event": pa.array(ranks.event_E, pa.uint8()),
        "rank": pa.array(ranks.rank_E.clip(max=BEYOND), pa.uint8()),
    }
    _write(path, pa.table(columns))


def read_ranks(path: Path) -> SessionRanks:
    """Read them; a file of before they were cut is written anew."""
    table = pq.read_table(path)
    if table.schema.field("rank").type != pa.uint8():
        cut = pc.min_element_wise(table["rank"], pa.scalar(BEYOND, table["rank"].type)).cast(pa.uint8())
        table = table.set_column(table.schema.get_field_index("rank"), "rank", cut)
        with explained_io(f"Writing {path}"):
            _write(path, table)
    session_E, event_E, rank_E = (table[name].to_numpy() for name in ("session", "event", "rank"))
    return SessionRanks(session_E.astype(np.int64), event_E, rank_E.astype(np.int64))


def _write(path: Path, table: pa.Table) -> None:
    """Whole or not at all; sessions lie in order, so that their differences are small."""
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(
        table,
        partial,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding={"session": "DELTA_BINARY_PACKED"},
        write_statistics=False,
        store_schema=False,
    )
    partial.replace(path)
