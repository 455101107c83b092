"""Bad rows are found again: in the dataset, in a file that was named, or beside a dataset that was refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.events import prepare

GOOD = "session,item,time\n" + "s,i,1400000000\n" * 4
BAD = GOOD + "s,,1400000000\n" + "s,i,-1\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(BAD)
    return path


def reasons(path: Path) -> list[tuple[int, str, str]]:
    table = pq.read_table(path).to_pydict()
    return list(zip(table["row"], table["field"], table["reason"], strict=True))


RIGHT = [(6, "item", "empty_item"), (7, "time", "negative_time")]


def test_by_default_they_are_in_the_dataset_and_the_manifest_says_so(log: Path, tmp_path: Path) -> None:
    manifest = prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=1)
    assert manifest["quarantine"] == "quarantine.parquet"
    assert reasons(tmp_path / "data/quarantine.parquet") == RIGHT
    assert "quarantine.parquet" in Dataset(tmp_path / "data").manifest["files"]


def test_a_named_file_takes_them_whatever_becomes_of_the_log(log: Path, tmp_path: Path) -> None:
    place = tmp_path / "aside/bad.parquet"
    manifest = prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=1, quarantine=place)
    assert manifest["quarantine"] == str(place)
    assert reasons(place) == RIGHT
    assert not (tmp_path / "data/quarantine.parquet").exists()
    place.unlink()
    with pytest.raises(ValuerecError, match=f"the bad rows are in {place}"):
        prepare([log], format="events", out=tmp_path / "more", quarantine=place)
    assert reasons(place) == RIGHT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aside", "data", "log.csv"]


@pytest.mark.parametrize("options", [{}, {"max_bad_fraction": 1, "min_item_events": 9}])
def test_a_refused_log_leaves_them_beside_the_dataset_that_was_not_made(
    log: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    place = tmp_path / "data.quarantine.parquet"
    for _ in range(2):  # a second try replaces the first one's
        with pytest.raises(ValuerecError, match=f"the bad rows are in {place}"):
            prepare([log], format="events", out=tmp_path / "data", **options)  # type: ignore[arg-type]
        assert reasons(place) == RIGHT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.quarantine.parquet", "log.csv"]


def test_nothing_else_is_ever_replaced(log: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data.quarantine.parquet"
    mine.write_text("mine")
    with pytest.raises(ValuerecError, match="the bad rows were not kept"):
        prepare([log], format="events", out=tmp_path / "data")
    with pytest.raises(UsageError, match="holds something else"):
        prepare([log], format="events", out=tmp_path / "data", quarantine=mine)
    assert mine.read_text() == "mine"
    prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=1)
    with pytest.raises(UsageError, match="in a folder of valuerec's"):
        prepare([log], format="events", out=tmp_path / "b", quarantine=tmp_path / "data/quarantine.parquet")


def test_files_of_one_name_are_told_apart_by_as_much_of_their_paths_as_that_takes(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = ["a/log.csv", "b/log.csv", "c/b/log.csv", "other.csv"]
    for number, place in enumerate(places):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text(GOOD + f"s,i,{'x' * (number + 1)}\n")
    manifest = prepare([Path(place) for place in places], format="events", out="data", max_bad_fraction=1)
    assert [source["name"] for source in manifest["sources"]] == places
    assert pq.read_table("data/quarantine.parquet")["file"].to_pylist() == places
    # From somewhere else, where the whole paths are other ones.
    monkeypatch.chdir("/")
    again = prepare([tmp_path / place for place in places], format="events", out=tmp_path / "again", max_bad_fraction=1)
    whole = [str(tmp_path / place) for place in places]
    names = [source["name"] for source in again["sources"]]
    assert all(path.endswith(name) for path, name in zip(whole, names, strict=True)) and len(set(names)) == 4
    assert not any(name.startswith("/") for name in names)
    assert again["fingerprint"] == manifest["fingerprint"]


def test_without_bad_rows_there_is_no_quarantine(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(GOOD)
    manifest = prepare([tmp_path / "log.csv"], format="events", out=tmp_path / "data", quarantine=tmp_path / "bad")
    assert manifest["quarantine"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "log.csv"]


def test_the_sentence_names_the_commonest_reason_its_first_row_and_the_remedy(log: Path, tmp_path: Path) -> None:
    log.write_text(BAD + "s,i,-2\n")
    with pytest.raises(ValuerecError) as caught:
        prepare([log], format="events", out=tmp_path / "data")
    assert str(caught.value) == (
        "3 of 7 rows are bad, more than --max-bad-fraction 0.05 allows, mostly by negative_time (2, first "
        f"{log}, row 7: the time is before 1970); the bad rows are in {tmp_path / 'data.quarantine.parquet'}; say what "
        "the times are with --time-unit, or check --columns, or allow more."
    )
