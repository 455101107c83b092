"""Times in any common unit, as UTC microseconds.

Numbers are told apart by their size, which leaves no overlap between the years 1973 and 5138; numbers below 10^8 are no
clock but positions (1st, 2nd, ... event of a session).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

if TYPE_CHECKING:
    from valuerec.events.blocks import Column

UNITS: Final = ("iso", "position", "s", "ms", "us", "ns")
_LEAST: Final = np.array([0, 10**8, 10**11, 10**14, 10**17], dtype=np.int64)  # of the units that are numbers
_PER_UNIT: Final = {"position": (1, 1), "s": (10**6, 1), "ms": (10**3, 1), "us": (1, 1), "ns": (1, 10**3)}
_LAST: Final = 253_402_300_799_999_999  # the end of the year 9999
_ISO: Final = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?)?$"
_ISO_ZONED: Final = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?(Z|[+-]\d{2}(:?\d{2})?)$"
_NUMBER: Final = r"^\d{1,19}(\.\d*)?$"
_ANY_NUMBER: Final = r"^\d+(\.\d*)?$"
_INFINITE: Final = r"(?i)^[+-]?(nan|inf(inity)?)$"
pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes


@dataclass(frozen=True)
class Clock:
    """How the times of a file are read.

    Args:
        unit: one of `UNITS`.
        certain: whether the unit was given, so that values which look like another one are taken at their word.
        latest: the last moment that an event may be of, in UTC microseconds.
    """

    unit: str
    certain: bool
    latest: int


def count_units(times: Column) -> NDArray[np.int64]:
    """How many values look like each of `UNITS`; values that look like none are not counted."""
    counts = np.zeros(len(UNITS), dtype=np.int64)
    if _is_clock(times):
        counts[0] = len(times) - times.null_count
        return counts
    number, valid = _numbers(times)
    counts[1:] = np.bincount(_unit_of(number[valid]), minlength=len(_LEAST))
    if pa.types.is_string(times.type):
        counts[0] = len(times) - _from_iso(times).null_count
    return counts


def choose_unit(counts: Iterable[int]) -> str:
    """The unit that most values look like; the finer one of two equally common."""
    total = np.asarray(list(counts))
    return UNITS[len(UNITS) - 1 - int(np.argmax(total[::-1]))]


def microseconds(times: Column, unit: str, certain: bool) -> Column:
    """UTC microseconds (positions as they are), null where a time is unreadable or outside of the years 1970 to 9999.

    Args:
        times: text, integers, floating-point numbers or timestamps.
        unit: one of `UNITS`; "iso" for text such as 2014-04-07T10:51:09.277Z, where no zone means UTC.
        certain: whether the unit was given, so that values which look like another one are taken at their word.
    """
    if _is_clock(times):
        return microseconds(*_number_of_clock(times), certain=True)
    if unit == "iso":
        return _from_iso(times)
    number, valid = _numbers(times)
    if not certain:
        valid &= _unit_of(number) == UNITS.index(unit) - 1
    if unit == "position" and not pa.types.is_integer(times.type):
        valid &= _fraction(times, 10**6, valid) == 0  # there is no event one and a half
    factor, divisor = _PER_UNIT[unit]
    valid &= (number >= 0) & (number <= _LAST // factor * divisor)
    micros = np.where(valid, number, 0) * factor // divisor
    if factor > 1 and not pa.types.is_integer(times.type):
        micros += _fraction(times, factor, valid)
    return pa.array(micros, pa.int64(), mask=~valid)


def why_unreadable(times: Column, clock: Clock) -> NDArray[np.str_]:
    """The reason code of each time that `microseconds` gave null for.

    Args:
        times: those alone, as they stand in the file.
        clock: as `microseconds` was called.
    """
    unit, certain = clock.unit, clock.certain
    if _is_clock(times):
        (times, unit), certain = _number_of_clock(times), True
    empty, infinite, negative, number = _looks(times)
    whole, fits = _numbers(times)
    moment = _parsed_iso(times) if pa.types.is_string(times.type) else pa.nulls(len(times), pa.int64())
    early = pc.fill_null(pc.less(moment, 0), False).to_numpy(zero_copy_only=False)
    late = pc.fill_null(pc.greater(moment, _LAST), False).to_numpy(zero_copy_only=False)
    other = np.full(len(times), unit == "iso") if unit == "iso" or certain else _unit_of(whole) != UNITS.index(unit) - 1
    written_otherwise = moment.is_valid().to_numpy(zero_copy_only=False) & (unit != "iso")
    between = np.full(len(times), unit == "position") & (whole <= _LAST)
    reasons = {
        "empty_time": empty,
        "time_not_finite": infinite,
        "negative_time": negative | early,
        "time_overflow": (number & ~fits) | late,
        "mixed_time_unit": (number & other) | written_otherwise,
        "unreadable_time": ~number | between,
    }
    return np.select(list(reasons.values()), list(reasons), "time_overflow")


def _looks(times: Column) -> tuple[NDArray[np.bool_], ...]:
    """Which times are empty, not finite, below zero, and other numbers, however large."""
    empty = times.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_string(times.type):
        text = pc.fill_null(pc.utf8_trim_whitespace(times), "")
        patterns = ("^$", _INFINITE, r"^-\d", _ANY_NUMBER)
        return tuple(pc.match_substring_regex(text, each).to_numpy(zero_copy_only=False) for each in patterns)
    value = times.to_numpy(zero_copy_only=False)
    infinite = ~empty & ~np.isfinite(value) if pa.types.is_floating(times.type) else np.zeros_like(empty)
    negative = pc.fill_null(pc.less(times, pa.scalar(0, times.type)), False).to_numpy(zero_copy_only=False)
    return empty, infinite, negative, ~(empty | infinite | negative)


def moment_of(text: str) -> int | None:
    """ISO text as UTC microseconds; None where it is none, or outside of the years 1970 to 9999."""
    return _from_iso(pa.array([text], pa.string()))[0].as_py()  # type: ignore[no-any-return]


def _is_clock(times: Column) -> bool:
    return bool(pa.types.is_timestamp(times.type) or pa.types.is_date(times.type))


def _number_of_clock(times: Any) -> tuple[Column, str]:
    """Timestamps or dates as whole numbers, and their unit."""
    if pa.types.is_date(times.type):
        times = pc.cast(times, pa.timestamp("ms"))
    return pc.cast(times, pa.int64()), times.type.unit


def _in_range(micros: Any) -> Column:
    inside = pc.and_(pc.greater_equal(micros, 0), pc.less_equal(micros, _LAST))
    return pc.if_else(inside, micros, None)  # type: ignore[no-any-return]


def _unit_of(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of a number's unit in `_LEAST`."""
    return np.maximum(np.searchsorted(_LEAST, number, side="right") - 1, 0)


def _numbers(times: Column) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The whole part of each number, and whether it is one and fits 64 bits."""
    if pa.types.is_integer(times.type):
        least = pa.scalar(0, times.type)
        most = pa.scalar(2**63 - 1, pa.uint64())  # of this type, or pyarrow casts the column to another
        fits = pc.less_equal(times, most) if times.type == pa.uint64() else times.is_valid()
        fits = pc.and_(pc.fill_null(fits, False), pc.greater_equal(pc.fill_null(times, least), least))
        whole = pc.if_else(fits, times, None).cast(pa.int64())
        return whole.fill_null(0).to_numpy(zero_copy_only=False), whole.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(times.type):
        text = pc.utf8_trim_whitespace(times)
        good = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
        text = pc.if_else(good, text, "0")
        whole = pc.cast(pc.list_element(pc.split_pattern(text, "."), 0), pa.uint64()).to_numpy(zero_copy_only=False)
        good_N = good.to_numpy(zero_copy_only=False) & (whole < 2**63)
        return np.where(good_N, whole, 0).astype(np.int64), good_N
    if pa.types.is_floating(times.type):
        value = times.to_numpy(zero_copy_only=False).astype(np.float64)
        good_N = np.isfinite(value) & (value >= 0) & (value < 2**62)
        return np.where(good_N, value, 0).astype(np.int64), good_N
    return np.zeros(len(times), dtype=np.int64), np.zeros(len(times), dtype=bool)


def _fraction(times: Column, factor: int, valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The part behind the point, in microseconds; text by its digits, so that nothing is rounded by a float."""
    if pa.types.is_floating(times.type):
        value = np.where(valid, times.to_numpy(zero_copy_only=False).astype(np.float64), 0.0)
        return np.asarray(np.floor((value - np.floor(value)) * factor), dtype=np.int64)
    digits = pc.struct_field(pc.extract_regex(pc.utf8_trim_whitespace(times), r"\.(?P<digits>\d+)$"), "digits")
    text = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(digits, "0"), 6, "0"), 0, len(str(factor)) - 1)
    part: NDArray[np.int64] = pc.cast(text, pa.int64()).to_numpy(zero_copy_only=False)
    return np.where(valid, part, 0)


def _from_iso(times: Column) -> Column:
    if not pa.types.is_string(times.type):
        return pa.nulls(len(times), pa.int64())
    return _in_range(_parsed_iso(times))


def _parsed_iso(times: Column) -> Any:
    """Text as UTC microseconds of any year, null where it is no moment."""
    text = pc.utf8_trim_whitespace(times)
    clocks = []
    for pattern, kind in ((_ISO_ZONED, pa.timestamp("us", "UTC")), (_ISO, pa.timestamp("us"))):
        fits = pc.fill_null(pc.match_substring_regex(text, pattern), False)
        if fits.true_count:
            clocks.append(_cast(text if fits.false_count == 0 else pc.if_else(fits, text, None), kind))
        if fits.false_count == 0:
            break
    if not clocks:
        return pa.nulls(len(times), pa.int64())
    return pc.coalesce(*(pc.cast(clock, pa.int64()) for clock in clocks))


def _cast(text: Any, kind: pa.DataType) -> Any:
    """Text of the right shape as timestamps, null where there is no such date or hour."""
    text = pc.replace_substring(text, ",", ".")
    if pc.any(pc.match_substring_regex(text, r"\.\d{7}")).as_py():
        text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    return _cast_or_null(text, kind)


def _cast_or_null(text: Any, kind: pa.DataType) -> Any:
    """Cast, halving the column until what fails is a single value."""
    try:
        return pc.cast(text, kind)
    except pa.ArrowInvalid:
        if len(text) == 1:
            return pa.nulls(1, kind)  # type: ignore[call-overload]
        middle = len(text) // 2
        return pa.concat_arrays([_cast_or_null(text[:middle], kind), _cast_or_null(text[middle:], kind)])
