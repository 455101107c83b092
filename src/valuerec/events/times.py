"""Times in any common unit, as UTC microseconds.

Numbers are told apart by their size, which leaves no overlap between the years 1973 and 5138; numbers below 10^8 are no
clock but positions (1st, 2nd, ... event of a session).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNITS: Final = ("position", "s", "ms", "us", "ns")
_LEAST = np.array([0, 10**8, 10**11, 10**14, 10**17], dtype=np.int64)
_PER_UNIT: Final = {"position": (1, 1), "s": (10**6, 1), "ms": (10**3, 1), "us": (1, 1), "ns": (1, 10**3)}
_LAST = 253_402_300_799_999_999  # the end of the year 9999
_ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?)?$"
_ISO_ZONED = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?(Z|[+-]\d{2}(:?\d{2})?)$"


def looks_numeric(times: pa.Array) -> bool:
    """Whether a column of times is numbers: by type, or by its first text that is not empty."""
    if not pa.types.is_string(times.type):
        return bool(pa.types.is_integer(times.type) or pa.types.is_floating(times.type))
    first = next((text for text in times.to_pylist() if text), "")
    try:
        float(first)
    except ValueError:
        return False
    return True


def count_units(times: pa.Array) -> NDArray[np.int64]:
    """How many values of a numeric column look like each of `UNITS`."""
    number, valid = _numbers(times)
    return np.bincount(_unit_of(number[valid]), minlength=len(UNITS))


def choose_unit(counts: Iterable[NDArray[np.int64]]) -> str:
    """The unit that most values look like; the finer one of two equally common."""
    total = np.sum(list(counts), axis=0)
    return UNITS[len(UNITS) - 1 - int(np.argmax(total[::-1]))]


def microseconds(times: pa.Array, unit: str, certain: bool) -> pa.Array:
    """UTC microseconds (positions as they are), null where a time is unreadable or outside of the years 1970 to 9999.

    Args:
        times: text, integers, floating-point numbers or timestamps.
        unit: one of `UNITS`, or "iso" for ISO text.
        certain: whether the unit was given, so that values which look like another one are taken at their word.
    """
    if pa.types.is_timestamp(times.type) or pa.types.is_date(times.type):
        return pc.cast(pc.cast(times, pa.timestamp("us", getattr(times.type, "tz", None)), safe=False), pa.int64())
    if unit == "iso":
        return _from_iso(times)
    number, valid = _numbers(times)
    if not certain:
        valid &= _unit_of(number) == UNITS.index(unit)
    factor, divisor = _PER_UNIT[unit]
    valid &= (number >= 0) & (number <= _LAST // factor * divisor)
    micros = np.where(valid, number, 0) * factor // divisor
    if factor > 1 and (pa.types.is_floating(times.type) or pa.types.is_string(times.type)):
        micros += _fraction(times, factor, valid)
    return pa.array(micros, pa.int64(), mask=~valid)


def _unit_of(number: NDArray[np.int64]) -> NDArray[np.int64]:
    unit: NDArray[np.int64] = np.maximum(np.searchsorted(_LEAST, number, side="right") - 1, 0)
    return unit


def _numbers(times: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The whole part of each number and whether it is one that fits 64 bits."""
    if pa.types.is_integer(times.type):
        fits = pc.less_equal(times, 2**63 - 1) if times.type == pa.uint64() else times.is_valid()
        whole = pc.if_else(pc.fill_null(fits, False), times, None).cast(pa.int64())
        return whole.fill_null(0).to_numpy(zero_copy_only=False), whole.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(times.type):
        text = pc.utf8_trim_whitespace(times)
        good = pc.fill_null(pc.match_substring_regex(text, r"^\d{1,18}(\.\d*)?$"), False)
        text = pc.if_else(good, text, "0")
        whole = pc.cast(pc.list_element(pc.split_pattern(text, "."), 0), pa.int64())
        return whole.to_numpy(zero_copy_only=False), good.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(times.type):
        value = times.to_numpy(zero_copy_only=False).astype(np.float64)
        good_N = np.isfinite(value) & (np.abs(value) < 2**62)
        return np.where(good_N, value, 0).astype(np.int64), good_N
    return np.zeros(len(times), dtype=np.int64), np.zeros(len(times), dtype=bool)


def _fraction(times: pa.Array, factor: int, valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The part behind the point, in microseconds; text by its digits, so that nothing is rounded by a float."""
    if pa.types.is_floating(times.type):
        value = np.where(valid, times.to_numpy(zero_copy_only=False).astype(np.float64), 0.0)
        return np.asarray(np.floor((value - np.floor(value)) * factor), dtype=np.int64)
    digits = pc.extract_regex(pc.utf8_trim_whitespace(times), r"\.(?P<digits>\d+)$")
    text = pc.utf8_slice_codeunits(
        pc.utf8_rpad(pc.fill_null(pc.struct_field(digits, "digits"), "0"), 6, "0"), 0, len(str(factor)) - 1
    )
    part: NDArray[np.int64] = pc.cast(text, pa.int64()).to_numpy(zero_copy_only=False)
    return np.where(valid, part, 0)


def _from_iso(times: pa.Array) -> pa.Array:
    if not pa.types.is_string(times.type):
        return pa.nulls(len(times), pa.int64())
    text = pc.utf8_trim_whitespace(times)
    plain = pc.if_else(pc.match_substring_regex(text, _ISO), text, None)
    zoned = pc.if_else(pc.match_substring_regex(text, _ISO_ZONED), text, None)
    clocks = [_cast(plain, pa.timestamp("us"))] if plain.null_count < len(plain) else []
    if zoned.null_count < len(zoned):
        clocks.append(_cast(zoned, pa.timestamp("us", "UTC")))
    if not clocks:
        return pa.nulls(len(times), pa.int64())
    micros = pc.coalesce(*(pc.cast(clock, pa.int64()) for clock in clocks))
    return pc.if_else(pc.and_(pc.greater_equal(micros, 0), pc.less_equal(micros, _LAST)), micros, None)


def _cast(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Text of the right shape as timestamps, null where there is no such date or hour."""
    text = pc.replace_substring(text, ",", ".")
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    try:
        return pc.cast(text, kind)
    except pa.ArrowInvalid:
        return pa.concat_arrays([_cast_one(text[place : place + 1], kind) for place in range(len(text))])


def _cast_one(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return pc.cast(text, kind)
    except pa.ArrowInvalid:
        return pa.nulls(1, kind)
