"""The files that finished cells are written to: a JSON list, a line a cell, which grows cell by cell.

A file is replaced whole, so that a killed run loses only the cells in progress. One process at a time may write to a
folder (`Results.locked`).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.cell import Figures, Key, key_of
from valuerec.experiments.rows import UNTRAINED
from valuerec.folders import explained_io, read_json, write_text

TUNING: Final = "tuning"

_NAMES = ("backbone", "method", "protocol", "variant", "seed")


class _Shape(BaseModel, extra="allow", strict=True, allow_inf_nan=False):
    """What must be there, of these types; `valuerec.experiments.making` says what it is."""


_Name = Annotated[str, Field(pattern=r"^[^/\x00]*$")]  # a part of a file's name
_Share = Annotated[float, Field(ge=0, le=1)]
_FAR = 1e30  # beyond what a value can be in float32 and be drawn


def _checked_point(point: list[float]) -> list[float]:
    """A step and the score there."""
    if not (point[0] >= 0 and 0 <= point[1] <= 1):
        raise ValueError("a step and a score in [0, 1] are expected")
    return point


class _Scores(_Shape):
    hr_5: _Share = Field(alias="hr@5")
    hr_10: _Share = Field(alias="hr@10")
    hr_20: _Share = Field(alias="hr@20")
    ndcg_5: _Share = Field(alias="ndcg@5")
    ndcg_10: _Share = Field(alias="ndcg@10")
    ndcg_20: _Share = Field(alias="ndcg@20")


class _Metrics(_Shape):
    purchase: _Scores
    click: _Scores


class _Options(_Shape):
    backbone: dict[str, Any]
    method: dict[str, Any]
    rewards: dict[str, float]
    training: dict[str, Any]


class _Histogram(_Shape):
    low: float
    high: float
    mean: float
    counts: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if not (sum(self.counts) > 0 and max(abs(self.low), abs(self.high)) <= _FAR and self.low <= self.high):
            raise ValueError("a histogram of nothing, or without order or bounds")
        return self


class _Cell(_Shape):
    backbone: _Name
    method: _Name
    protocol: _Name
    variant: _Name
    seed: int = Field(ge=0)
    options: _Options
    dataset: str
    test: _Metrics | None
    validation: _Metrics | None
    score: _Share | None
    best_step: int | None
    steps: int | None
    seconds: float | None
    diverged: bool
    trouble: str | None
    outside: float | None
    floored: float | None = None  # which cells of earlier do not have
    curve: list[Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_checked_point)]]
    histograms: dict[str, _Histogram] | None
    commit: str | None
    device: str
    threads: int
    engine: str
    torch: str


class _Ended(_Shape):
    """What a cell has that did not diverge."""

    validation: _Metrics
    score: float
    wall_seconds: float


class _Reported(_Shape):
    """What such a cell has that is no trial."""

    test: _Metrics


class _Limits(_Shape):
    epochs: int
    batch_size: int = Field(ge=1)
    max_steps: int | None


class _LimitedOptions(_Shape):
    training: _Limits


class _Trained(_Shape):
    """What a cell has that is no baseline."""

    options: _LimitedOptions


class Book:
    """One file of cells (table1.json, tuning.json, ...) of one dataset.

    Args:
        path: the file; need not exist.
        fingerprint: of the dataset that all its cells must be of.

    Raises:
        UsageError: where it holds cells of another dataset.
        ValuerecError: where it is no list of cells, or one of them lacks a field or has another type there.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.cells = self._read()

    def _read(self) -> dict[Key, Figures]:
        if not self.path.exists():
            return {}
        content = read_json(self.path, remedy="restore it from a copy, or move it away and its cells are made anew")
        if not isinstance(content, list) or not all(isinstance(cell, dict) for cell in content):
            raise ValuerecError(f"{self.path} is no list of cells as this valuerec writes them; name another --out.")
        for place, cell in enumerate(content, start=1):
            self._check(cell, place)
        if any(cell["dataset"] != self.fingerprint for cell in content):
            raise UsageError(f"{self.path} holds cells of another dataset; name another folder with --out.")
        cells = {key_of(cell): cell for cell in content}
        if len(cells) < len(content):
            counts = Counter(map(key_of, content))
            names = " ".join(
                str(part) for part in next(key for key, count in counts.items() if count > 1) if part != ""
            )
            raise ValuerecError(f"{self.path} has the cell {names} more than once; remove all but one of them.")
        return cells

    def _check(self, cell: Figures, place: int) -> None:
        """Refuse a cell that what is made of cells would stumble over."""
        try:
            _Cell.model_validate(cell)
            if not cell["diverged"]:
                _Ended.model_validate(cell)
                if self.path.stem != TUNING:
                    _Reported.model_validate(cell)
            if cell["backbone"] != UNTRAINED:
                _Trained.model_validate(cell)
        except ValidationError as error:
            names = " ".join(str(cell[name])[:50] for name in _NAMES if name in cell)
            raise ValuerecError(
                f"{self.path}, cell {place} ({names}), {first_fault(error)}; correct it, or remove the cell, which the "
                "same command then makes again."
            ) from error

    def add(self, figures: Figures) -> None:
        """Write one more finished cell; it replaces one of the same key."""
        self.cells[key_of(figures)] = figures
        self._write()

    def remove(self, key: Key) -> None:
        """Take a cell out."""
        del self.cells[key]
        self._write()

    def _write(self) -> None:
        with explained_io(f"Writing {self.path}"):
            lines = ",\n".join(json.dumps(cell, allow_nan=False, ensure_ascii=False) for cell in self.cells.values())
            write_text(self.path, f"[\n{lines}\n]\n")


def first_fault(error: ValidationError) -> str:
    """Which field pydantic stumbled over first, and why."""
    first = error.errors()[0]
    field = ".".join(str(part)[:100] for part in first["loc"])
    return f"field {field}: {first['msg']}" if field else str(first["msg"])
