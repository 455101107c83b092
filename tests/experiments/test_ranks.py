from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.made_up import ranks_of
from valuerec.evaluation import metrics_of
from valuerec.evaluation.significance import paired_bootstrap
from valuerec.experiments.ranks import BEYOND, read_ranks, write_ranks


def test_what_is_written_is_small_and_gives_the_same_figures(tmp_path: Path) -> None:
    whole = [ranks_of(seed, 0.3, sessions=3000) for seed in range(2)]
    assert max(ranks.rank_E.max() for ranks in whole) > BEYOND
    for seed, ranks in enumerate(whole):
        write_ranks(tmp_path / f"{seed}.parquet", ranks)
    read = [read_ranks(tmp_path / f"{seed}.parquet") for seed in range(2)]
    for before, after in zip(whole, read, strict=True):
        assert np.array_equal(before.session_E, after.session_E) and np.array_equal(before.event_E, after.event_E)
        assert metrics_of(before.rank_E, before.event_E) == metrics_of(after.rank_E, after.event_E)
    compared = [
        paired_bootstrap(*(each.rank_E[None].repeat(2, 0) for each in both), both[0].event_E, both[0].session_E,
                         resamples=99)
        for both in (whole, read)
    ]  # fmt: skip
    assert compared[0] == compared[1]
    assert (tmp_path / "0.parquet").stat().st_size < len(whole[0].rank_E)  # less than a byte an event
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0.parquet", "1.parquet"]


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64()])
def test_a_file_of_before_ranks_were_cut_is_read_and_written_anew(tmp_path: Path, kind: pa.DataType) -> None:
    ranks, path = ranks_of(0, 0.3), tmp_path / "older.parquet"
    columns = {
        "session": ranks.session_E.astype(np.int32),
        "event": ranks.event_E,
        "rank": pa.array(ranks.rank_E, kind),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")
    read = read_ranks(path)
    assert np.array_equal(read.rank_E, ranks.rank_E.clip(max=BEYOND)) and np.array_equal(read.event_E, ranks.event_E)
    assert pq.read_schema(path).field("rank").type == pa.uint8()
    assert np.array_equal(read_ranks(path).rank_E, read.rank_E)
