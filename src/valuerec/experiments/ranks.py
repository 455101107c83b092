"""The test ranks of a cell: all that the paired tests need, and no more, so that they can be committed.

A row an event of the test split: session (its index), event (0 click, 1 purchase), rank from 1. No figure looks beyond
the largest cut-off, so what lies beyond is one number; some 12 KB a cell of 24,000 events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from valuerec.errors import ValuerecError
from valuerec.evaluation import CUTOFFS, SessionRanks
from valuerec.folders import explained_io

BEYOND: Final = max(CUTOFFS) + 1  # stands for every rank from here on

pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes


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
    """Read them.

    Raises:
        ValuerecError: where the file is damaged or holds something else.
    """
    with explained_io(f"Reading {path}"):
        table = _read(path)
    session_E, event_E, rank_E = (table[name].to_numpy() for name in ("session", "event", "rank"))
    return SessionRanks(session_E.astype(np.int64), event_E, rank_E.astype(np.int64))


def _read(path: Path) -> pa.Table:
    """The columns, checked."""
    try:
        with pq.ParquetFile(path) as file:
            table, names = file.read(), file.schema_arrow.names
    except (pa.ArrowException, UnicodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not one of pyarrow's own, of its decoders
            raise
        raise _damaged(path, "it is not readable Parquet") from error
    for name, kind in (("session", pa.int32()), ("event", pa.uint8()), ("rank", pa.uint8())):
        if names.count(name) != 1:
            raise _damaged(path, f"it has not one column {name}")
        column = table[name]
        if column.type != kind or column.null_count:
            raise _damaged(path, f"its column {name} is of the type {str(column.type)[:30]} or has gaps")
    if (pc.min(table["rank"]).as_py() or 0) < 1:
        raise _damaged(path, "its ranks are none, or begin below 1")
    return table


def _damaged(path: Path, what: str) -> ValuerecError:
    return ValuerecError(
        f"{path} has no ranks as this valuerec writes them: {what}; remove it, and its cell stays in the table, but no "
        "new comparison is made of it; or remove the cell from table1.json too, and both are made again."
    )


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
