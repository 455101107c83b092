"""Raw files → staged Parquet files of checked events, and the rows that are none.

Each file is streamed once into session, item, time (UTC microseconds) and event, from which all else is computed. The
unit of its times is taken from its first block; should the file as a whole speak for another, it is streamed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from valuerec.errors import ValuerecError
from valuerec.events import times
from valuerec.events.blocks import BadRow
from valuerec.events.checking import REASONS, checked
from valuerec.events.formats import Reading
from valuerec.events.options import Options
from valuerec.events.quarantine import ROWS
from valuerec.events.times import Clock

_STAGED_TYPES: Final[dict[str, pa.DataType]] = {
    "session": pa.string(),
    "item": pa.string(),
    "time": pa.int64(),
    "event": pa.int8(),
}
_STAGED: Final = pa.schema(_STAGED_TYPES)
pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes


@dataclass
class Landed:
    """What came of one file.

    Args:
        path: the file, for messages.
        name: what the manifest calls it.
        part: the staged Parquet file.
        unit: of its times, one of `times.UNITS`.
        rows: rows read, bad ones included.
        good: rows staged.
        bad: bad rows by reason.
        first_bad: the first row with each reason.
        digits: how many session and item ids are whole numbers.
        units: how many times look like each unit.
        typed: which of session and item are numbers by type, where the file has types.
        step: the largest distance of two neighbouring times, in `unit`, that are numbers of 32 bits or fewer.
    """

    path: Path
    name: str
    part: Path
    unit: str
    rows: int = 0
    good: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: dict[str, int] = field(default_factory=dict)
    digits: Counter[str] = field(default_factory=Counter)
    units: Any = field(default_factory=lambda: np.zeros(len(times.UNITS), dtype=np.int64))
    typed: dict[str, bool] = field(default_factory=dict)
    step: float = 0.0

    def looks(self, name: str) -> bool | None:
        """Whether the ids are whole numbers: all of them, none of them, or (None) some."""
        return {self.good: True, 0: False}.get(self.digits[name]) if self.good else None


def land(readings: Sequence[Reading], folder: Path, options: Options, quarantine: Path) -> list[Landed]:
    """Stage all files in `folder`, and write their bad rows to the Parquet file `quarantine` if there are any.

    Raises:
        ValuerecError: where a file can't be read or holds no rows, ids are of two kinds, clocks are mixed with
            positions, or a row is bad and the options say to fail.
    """
    landed, set_aside = [], []
    for number, reading in enumerate(readings):
        part, bad = folder / f"staged-{number}.parquet", folder / f"bad-{number}.parquet"
        landed.append(_land(reading, part, bad, options))
        if landed[-1].bad:
            set_aside.append(bad)
    for name in ("session", "item"):
        _check_same_kind(name, landed)
    units = {file.unit for file in landed}
    if len(units) > 1 and "position" in units:
        raise ValuerecError(
            "Times are clocks in one file and positions (numbers below 100,000,000) in another; write them the same "
            "way, or say what they are with --time-unit."
        )
    if set_aside:
        with pq.ParquetWriter(quarantine, ROWS, compression="zstd") as writer:
            for bad in set_aside:
                for batch in pq.ParquetFile(bad).iter_batches():
                    writer.write_batch(batch)
    return landed


def _land(reading: Reading, part: Path, bad: Path, options: Options) -> Landed:
    certain = options.time_unit != "auto"
    landed = _stage(reading, part, bad, options.time_unit if certain else "", options)
    unit = times.choose_unit(landed.units)
    if not certain and unit != landed.unit:
        landed = _stage(reading, part, bad, unit, options)
    if landed.rows == 0:
        raise ValuerecError(f"{reading.source.path} holds no rows; name a file with events.")
    landed.typed = reading.kinds
    return landed


def _stage(reading: Reading, part: Path, bad: Path, unit: str, options: Options) -> Landed:
    """Write a file's good rows to `part` and the others to `bad`, with times in `unit` (empty: as the first look)."""
    landed = Landed(reading.source.path, reading.source.name, part, unit)
    certain, stop_at_bad = options.time_unit != "auto", options.on_bad_rows == "fail"
    with (
        pq.ParquetWriter(part, _STAGED, compression="lz4") as writer,
        pq.ParquetWriter(bad, ROWS, compression="zstd") as aside,
    ):
        for block in reading.blocks():
            raw = block.columns["time"]
            landed.unit = landed.unit or times.choose_unit(times.count_units(raw))
            clock = Clock(landed.unit, certain, options.latest)
            good, time, bad_rows = checked(block, clock, options.meanings, reading.event)
            if not certain:
                landed.units += _count_units(raw, time, landed.unit)
            landed.step = max(landed.step, _step(raw))
            landed.rows += len(block.row) + len(block.bad)
            landed.good += len(good)
            for name in ("session", "item"):
                landed.digits[name] += pc.sum(pc.utf8_is_decimal(good[name])).as_py() or 0
            if bad_rows:
                _note(landed, bad_rows, stop_at_bad)
                aside.write_table(_quarantined(landed.name, bad_rows))
            writer.write_table(good)
    return landed


def _count_units(raw: Any, time: Any, unit: str) -> Any:
    """How many times of a block look like each unit; no need to look where all are readable in the one assumed."""
    if time.null_count:
        return times.count_units(raw)
    return np.array([len(time) if name == unit else 0 for name in times.UNITS])


def _step(raw: Any) -> float:
    """The distance between the largest time and its neighbour, where times are numbers of so few bits; else 0."""
    if raw.type not in (pa.float16(), pa.float32()):
        return 0.0
    value = raw.drop_null().to_numpy(zero_copy_only=False)
    return float(np.spacing(value[np.isfinite(value)].max(initial=0)))


def _note(landed: Landed, bad_rows: Sequence[BadRow], stop_at_bad: bool) -> None:
    """Count the bad rows, or stop at the first."""
    if stop_at_bad:
        row, field, reason, _ = bad_rows[0]
        where = f"row {row}, field {field}" if field else f"row {row}"
        raise ValuerecError(
            f"{landed.path}, {where} is bad ({reason}): {REASONS[reason].what}; mend it, or set bad rows aside with "
            "--on-bad-rows quarantine."
        )
    for bad_row in bad_rows:
        landed.bad[bad_row.reason] += 1
        landed.first_bad.setdefault(bad_row.reason, bad_row.row)


def _quarantined(name: str, bad_rows: Iterable[BadRow]) -> pa.Table:
    rows = [{"file": name, **bad_row._asdict()} for bad_row in bad_rows]
    return pa.Table.from_pylist(rows, schema=ROWS)


def _check_same_kind(name: str, landed: Sequence[Landed]) -> None:
    """Refuse ids that are numbers in one file and text in another: they would never meet.

    Files with types are compared by type, and all by whether every id or none is a whole number.

    Raises:
        ValuerecError: naming the two files and the field.
    """
    for kinds in ([file.typed.get(name) for file in landed], [file.looks(name) for file in landed]):
        if True in kinds and False in kinds:
            numbers, text = landed[kinds.index(True)].path, landed[kinds.index(False)].path
            raise ValuerecError(
                f"The {name} ids are numbers in {numbers} and text in {text}; write them the same way in both files."
            )


def doubts(landed: Sequence[Landed]) -> list[str]:
    """What may be wrong: all ids of one file are whole numbers, and most of another's are text, but not all."""
    notes = []
    for name in ("session", "item"):
        numbers = [file for file in landed if file.looks(name)]
        text = [file for file in landed if file.looks(name) is None and 2 * file.digits[name] < file.good]
        if numbers and text:
            share = 1 - text[0].digits[name] / text[0].good
            notes.append(
                f"the {name} ids are whole numbers in {numbers[0].name}, and in {text[0].name} {share:.0%} "
                "of them are text: what is written two ways does not meet; check that both files mean the same ids."
            )
    return notes


def coarse(landed: Sequence[Landed]) -> list[str]:
    """Files whose times were rounded before they came to us, so far that events change places."""
    return [
        f"the times of {file.name} are floating-point numbers of so few bits that they are up to {file.step:,.0f} "
        f"({file.unit}) apart; write them as 64-bit numbers or timestamps."
        for file in landed
        if file.step > 1
    ]
