from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.made_up import ranks_of
from valuerec.errors import ValuerecError
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


@given(st.floats(0, 0.999))
def test_a_file_that_was_cut_off_is_named(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("ranks") / "cell.parquet"
    write_ranks(path, ranks_of(0, 0.3))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        ValuerecError, match=r"cell\.parquet has no ranks .*: it is not readable Parquet; remove it, and"
    ):
        read_ranks(path)


@given(st.integers(0), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_changes_numbers_alone(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    path = tmp_path_factory.mktemp("ranks") / "cell.parquet"
    write_ranks(path, ranks_of(0, 0.3))
    damaged = bytearray(path.read_bytes())
    damaged[place % len(damaged)] ^= change
    path.write_bytes(damaged)
    try:
        read = read_ranks(path)
    except ValuerecError as error:
        assert str(path) in str(error)
    else:
        assert read.rank_E.min() >= 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rank": None}, "it has not one column rank"),
        ({"session": pa.array(["a", "b"])}, "its column session is of the type string or has gaps"),
        ({"event": pa.array([0, 1], pa.int64())}, "its column event is of the type int64 or has gaps"),
        ({"rank": pa.array([1.5, 2.0])}, "its column rank is of the type double or has gaps"),
        ({"rank": pa.array([1, None], pa.uint8())}, "its column rank is of the type uint8 or has gaps"),
        ({"rank": pa.array([0, 2], pa.uint8())}, "its ranks are none, or begin below 1"),
        ({"rank": pa.array([1, 2], pa.int64())}, "its column rank is of the type int64 or has gaps"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    columns = {
        "session": pa.array([0, 0], pa.int32()),
        "event": pa.array([0, 1], pa.uint8()),
        "rank": pa.array([1, 2], pa.uint8()),
    } | changes
    path = tmp_path / "cell.parquet"
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), path)
    before = path.read_bytes()
    with pytest.raises(
        ValuerecError, match=rf"cell\.parquet has no ranks as this valuerec writes them: {says}; remove"
    ):
        read_ranks(path)
    assert path.read_bytes() == before
