"""Times in, UTC microseconds out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valuerec.errors import UsageError, ValuerecError
from valuerec.events import prepare
from valuerec.events.checking import REASONS as CHECKED
from valuerec.events.times import UNITS, Clock, choose_unit, count_units, microseconds, why_unreadable

LAST = 253_402_300_799_999_999  # the end of the year 9999
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def guessed(values: list[Any], kind: pa.DataType | None = None) -> tuple[str, list[int | None]]:
    """The unit that a column speaks for, and its times in it."""
    column = pa.array(values, kind or pa.string())
    unit = choose_unit(count_units(column))
    return unit, microseconds(column, unit, certain=False).to_pylist()


@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30)),
    offset=st.none() | st.integers(-14 * 60, 14 * 60),
    digits=st.integers(0, 9),
    between=st.sampled_from("T "),
    point=st.sampled_from(".,"),
    colon=st.booleans(),
)
def test_iso_text_of_any_zone_and_precision_is_read_as_pythons_clock_reads_it(
    moment: datetime, offset: int | None, digits: int, between: str, point: str, colon: bool
) -> None:
    nanoseconds = f"{moment.microsecond:06d}789"
    fraction = point + nanoseconds[:digits] if digits else ""
    kept = int(nanoseconds[: min(digits, 6)].ljust(6, "0"))
    zone = (
        ""
        if offset is None
        else f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}{':' * colon}{abs(offset) % 60:02d}"
    )
    text = f"{moment:%Y-%m-%d}".zfill(10) + f"{between}{moment:%H:%M:%S}{fraction}{zone}"
    clock = moment.replace(microsecond=kept, tzinfo=timezone(timedelta(minutes=offset or 0)))
    right = (clock - EPOCH) // timedelta(microseconds=1)
    found = microseconds(pa.array([text]), "iso", certain=False).to_pylist()
    assert found == [right if 0 <= right <= LAST else None]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2014-04-07T10:51:09.277Z", 1_396_867_869_277_000),
        ("2014-04-07T12:51:09.277+02:00", 1_396_867_869_277_000),
        ("2014-04-07T12:51:09.277+02", 1_396_867_869_277_000),
        ("2014-04-07 10:51", 1_396_867_860_000_000),
        (" 2014-04-07 ", 1_396_828_800_000_000),
        ("2016-02-29", 1_456_704_000_000_000),
    ],
)
def test_usual_ways_to_write_a_time(text: str, right: int) -> None:
    assert guessed([text, text]) == ("iso", [right, right])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2014-13-01",
        "2015-02-29",
        "2014-04-07T25:00:00Z",
        "2014-04-07T10:51:09+25:00",
        "07.04.2014",
        "1e9",
        "1969-12-31T23:59:59Z",
        "-1",
        "+5",
        "NaN",
        "2014-04-07T10:51:60Z",
        "99999999999999999999",
        "9223372036854775808",
    ],
)
def test_an_unreadable_time_among_good_ones_is_null_and_leaves_them_alone(text: str) -> None:
    good = "2014-04-07T10:51:09Z"
    unit, found = guessed([good, text, good])
    assert (unit, found) == ("iso", [1_396_867_869_000_000, None, 1_396_867_869_000_000])
    unit, found = guessed(["1396867869", text, "1396867869"])
    assert (unit, found[1]) == ("s", None)


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("kind", ["text", "int", "float", "decimal text"])
@given(data=st.data())
def test_numbers_of_every_unit_are_told_by_their_size(unit: str, kind: str, data: st.DataObject) -> None:
    per = PER_SECOND[unit]
    seconds = data.draw(st.lists(st.integers(100_000_000, 4_000_000_000), min_size=1))  # 1973 to 2096
    rest = data.draw(st.integers(0, per - 1))
    numbers = [second * per + rest for second in seconds]
    exact = [number * 10**6 // per for number in numbers]
    if kind == "text":
        assert guessed([str(number) for number in numbers]) == (unit, exact)
    elif kind == "int":
        assert guessed(numbers, pa.int64()) == (unit, exact)
    elif kind == "decimal text":
        found = guessed([f"{number}.999999999" for number in numbers])
        assert found == (unit, [(number * 10**9 + 999_999_999) * 10**6 // per // 10**9 for number in numbers])
    else:
        floats = [float(number) for number in numbers]
        found_unit, found = guessed(floats, pa.float64())
        assert found_unit == unit
        assert np.allclose(found, exact, rtol=0, atol=200)  # a double holds no nanoseconds


def test_seconds_keep_the_microseconds_behind_their_point() -> None:
    assert guessed(["1396867869.277123", "1396867869.5", "1396867869."]) == (
        "s",
        [1_396_867_869_277_123, 1_396_867_869_500_000, 1_396_867_869_000_000],
    )
    assert guessed([1396867869.5], pa.float64()) == ("s", [1_396_867_869_500_000])


def test_small_numbers_are_positions_and_stay_as_they_are() -> None:
    assert guessed(["0", "1", "99999999"]) == ("position", [0, 1, 99_999_999])
    assert guessed([0.0, 1.0], pa.float64()) == ("position", [0, 1])


def test_there_is_no_position_between_two_others() -> None:
    assert guessed(["1", "1.5", "1.0", "2."]) == ("position", [1, None, 1, 2])
    assert guessed([1.0, 1.5], pa.float64()) == ("position", [1, None])


@given(st.permutations(["1400000000"] * 3 + ["1400000000000"] * 2 + ["2014-05-13"] + ["7"]))
def test_of_mixed_units_the_most_common_wins_and_the_others_are_unreadable(times: list[str]) -> None:
    unit, found = guessed(times)
    assert unit == "s"
    assert found == [1_400_000_000_000_000 if time == "1400000000" else None for time in times]


@pytest.mark.parametrize("unit", UNITS)
def test_a_given_unit_is_taken_at_its_word(unit: str) -> None:
    number = pa.array(["5000000000"])
    right = {"iso": None, "position": 5 * 10**9, "s": 5 * 10**15, "ms": 5 * 10**12, "us": 5 * 10**9, "ns": 5 * 10**6}
    assert microseconds(number, unit, certain=True).to_pylist() == [right[unit]]


def test_a_given_unit_does_not_reach_beyond_the_year_9999() -> None:
    assert microseconds(pa.array(["253402300799", "253402300800"]), "s", certain=True).to_pylist() == [
        LAST - 999_999,
        None,
    ]
    assert microseconds(pa.array([2**63 - 1, -1, None]), "s", certain=True).to_pylist() == [None] * 3


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("s"), pa.timestamp("ms", "Asia/Tokyo"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "-03:00")],
    ids=str,
)
def test_timestamps_with_types_are_the_moments_they_say(kind: pa.TimestampType) -> None:
    moment = datetime(2014, 4, 7, 10, 51, 9, tzinfo=UTC)
    column = pa.array([moment, None, datetime(1969, 1, 1, tzinfo=UTC)], pa.timestamp("s", "UTC")).cast(
        pa.timestamp(kind.unit, "UTC")
    )
    column = column.cast(pa.int64()).cast(kind)
    assert choose_unit(count_units(column)) == "iso"
    assert microseconds(column, "iso", certain=False).to_pylist() == [1_396_867_869_000_000, None, None]


def test_dates_begin_at_midnight_and_moments_too_far_away_are_unreadable() -> None:
    assert microseconds(pa.array([date(2014, 4, 7)]), "iso", False).to_pylist() == [1_396_828_800_000_000]
    assert microseconds(pa.array([2**62], pa.timestamp("s")), "iso", False).to_pylist() == [None]


@pytest.mark.parametrize(
    ("unit", "length"), [("iso", 0), ("s", 10), ("ms", 13), ("us", 16), ("ns", 19), ("position", 1)]
)
def test_a_log_of_any_unit_becomes_utc_microseconds(unit: str, length: int, tmp_path: Path) -> None:
    times = ["2014-04-07T12:51:09+02:00"] * 3 if unit == "iso" else ["1396867869000000000"[:length]] * 3
    log = tmp_path / "log.csv"
    log.write_text("session,item,time\n" + "".join(f"s,i,{time}\n" for time in times))
    manifest = prepare([log], format="events", out=tmp_path / "data")
    column = pq.read_table(tmp_path / "data/events.parquet")["time"]
    assert manifest["time"]["unit"] == unit
    if unit == "position":
        assert column.to_pylist() == [1] * 3
    else:
        assert column.type == pa.timestamp("us", "UTC")
        assert column.cast("int64").to_pylist() == [1_396_867_869_000_000] * 3
        assert manifest["time"]["first"] == "2014-04-07T10:51:09.000000Z"


def test_rows_of_another_unit_are_set_aside_even_where_the_file_begins_with_them(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = ["s,i,1396867869000"] * 2 + ["s,i,1396867869"] * 3
    log.write_text("session,item,time\n" + "\n".join(rows))
    manifest = prepare([log], format="events", out=tmp_path / "data", max_bad_fraction=0.4)
    bad = {"mixed_time_unit": 2}
    assert manifest["account"] == {"rows_read": 5, "kept": 3, "filtered": {}, "duplicates": 0, "bad": bad}
    assert pq.read_table(tmp_path / "data/quarantine.parquet")["row"].to_pylist() == [2, 3]
    assert manifest["time"]["unit"] == "s"


@pytest.mark.parametrize(
    ("kind", "time", "step"),
    [("float", 1_396_867_869, 128), ("double", 1_396_867_869, None), ("float", 1_000_001, None)],
)
def test_times_of_too_few_bits_are_noted(tmp_path: Path, kind: str, time: float, step: int | None) -> None:
    log = tmp_path / "log.parquet"
    pq.write_table(pa.table({"session": ["s"] * 3, "item": ["i"] * 3, "time": pa.array([float(time)] * 3, kind)}), log)
    notes = prepare([log], format="events", out=tmp_path / "data")["notes"]
    few_bits = [note for note in notes if "of so few bits" in note]
    assert len(few_bits) == (step is not None)
    assert all("the times of log.parquet are" in note and f"up to {step} (s) apart" in note for note in few_bits)


def test_files_may_differ_in_their_unit_but_not_mix_clocks_with_positions(tmp_path: Path) -> None:
    logs = {name: tmp_path / name for name in ("seconds", "iso", "positions")}
    for name, time in (("seconds", "1396867869"), ("iso", "2014-04-07"), ("positions", "3")):
        logs[name].write_text("session,item,time\n" + f"s,i,{time}\n" * 3)
    manifest = prepare([logs["seconds"], logs["iso"]], format="events", out=tmp_path / "a")
    assert manifest["time"]["unit"] == "iso/s"
    with pytest.raises(ValuerecError, match="positions"):
        prepare(list(logs.values()), format="events", out=tmp_path / "b")
    with pytest.raises(UsageError, match="--split random"):
        prepare([logs["positions"]], format="events", out=tmp_path / "c", split="temporal")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "iso", "positions", "seconds"]


REASONS = {
    "iso": {
        "": "empty_time",
        " ": "empty_time",
        "soon": "unreadable_time",
        "2014-13-01": "unreadable_time",
        "nan": "time_not_finite",
        "+Infinity": "time_not_finite",
        "-inf": "time_not_finite",
        "-5": "negative_time",
        "1969-12-31": "negative_time",
        "0001-01-01T00:00:00+01:00": "negative_time",
        "9999-12-31T23:59:59-01:00": "time_overflow",
        "9223372036854775808": "time_overflow",
        "1" * 5000: "time_overflow",
        "1400000000": "mixed_time_unit",
        "1e9": "unreadable_time",
        "+5": "unreadable_time",
    },
    "s": {
        "": "empty_time",
        "soon": "unreadable_time",
        "-0.5": "negative_time",
        "1400000000000": "mixed_time_unit",
        "7": "mixed_time_unit",
        "2014-05-13": "mixed_time_unit",
        "1960-05-13": "negative_time",
        "99999999999999999999": "time_overflow",
    },
    "position": {"1.5": "unreadable_time", "1400000000": "mixed_time_unit", "-1": "negative_time"},
}


@pytest.mark.parametrize(("unit", "text"), [(unit, text) for unit, each in REASONS.items() for text in each])
def test_why_a_text_is_no_time(unit: str, text: str) -> None:
    column = pa.array([text])
    assert microseconds(column, unit, certain=False).to_pylist() == [None]
    assert why_unreadable(column, Clock(unit, False, 0)).tolist() == [REASONS[unit][text]]


@pytest.mark.parametrize(
    ("value", "kind", "unit", "certain", "reason"),
    [
        (None, pa.int64(), "s", False, "empty_time"),
        (-1, pa.int64(), "s", False, "negative_time"),
        (2**64 - 1, pa.uint64(), "s", False, "time_overflow"),
        (1_400_000_000_000, pa.int64(), "s", False, "mixed_time_unit"),
        (2**62, pa.int64(), "s", True, "time_overflow"),
        (None, pa.float64(), "s", False, "empty_time"),
        (float("nan"), pa.float64(), "s", False, "time_not_finite"),
        (float("-inf"), pa.float64(), "s", False, "time_not_finite"),
        (-0.5, pa.float64(), "s", False, "negative_time"),
        (1e300, pa.float64(), "s", False, "time_overflow"),
        (1.5, pa.float64(), "position", False, "unreadable_time"),
        (None, pa.timestamp("ns"), "iso", False, "empty_time"),
        (-1, pa.timestamp("ms", "Asia/Tokyo"), "iso", False, "negative_time"),
        (2**62, pa.timestamp("s"), "iso", False, "time_overflow"),
    ],
)
def test_why_a_number_or_a_timestamp_is_no_time(
    value: Any, kind: pa.DataType, unit: str, certain: bool, reason: str
) -> None:
    column = pa.array([value], kind)
    assert microseconds(column, unit, certain).to_pylist() == [None]
    assert why_unreadable(column, Clock(unit, certain, 0)).tolist() == [reason]


@given(st.lists(st.text(" -+.0123456789eEnaifNTZ:", max_size=25), min_size=1), st.sampled_from(UNITS), st.booleans())
def test_every_time_that_can_not_be_read_has_a_reason_of_its_own_whatever_its_neighbours(
    texts: list[str], unit: str, certain: bool
) -> None:
    found = microseconds(pa.array(texts), unit, certain).to_pylist()
    bad = [text for text, time in zip(texts, found, strict=True) if time is None]
    if bad:
        together = why_unreadable(pa.array(bad), Clock(unit, certain, 0)).tolist()
        alone = [why_unreadable(pa.array([text]), Clock(unit, certain, 0)).tolist()[0] for text in bad]
        assert together == alone
        assert set(together) <= set(CHECKED)
