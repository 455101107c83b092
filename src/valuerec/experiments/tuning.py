"""Hyper-parameters chosen on validation: of as many values for every method, from grid.toml.

The plain backbone is tuned first, each by itself, and what it chose is the backbone's in all its rows: a gain must be
one over a backbone at its best, and a method must not win or lose by another's dropout. The methods' own options are
tried on SASRec and hold for all backbones. The protocol of the released code takes its values, and tunes nothing.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import resources
from typing import Any, Final, NamedTuple

from valuerec.backbones import backbone_named
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Cell
from valuerec.experiments.rows import CONTROLLED, PLAIN, UNTRAINED, Row

SEED: Final = 1000  # no table's: a choice must not be made on the runs that are reported
# Where the released code's values are not our defaults.
RELEASED: Final[Mapping[str, Mapping[str, Any]]] = {"uwac": {"form": "released"}, "cql": {"heads": 15}}

Options = dict[str, Any]


class Grid(NamedTuple):
    """What one method may choose among: an option of the method or of the backbone, and its values."""

    of: str
    option: str
    values: list[Any]

    def set(self, value: Any) -> Options:
        """The arguments of `Cell` that give a row this value."""
        return {f"{self.of}_options": {self.option: value}}

    def variant(self, value: Any) -> str:
        """What the trial of a value is called."""
        return f"{self.option}={value}"

    def value(self, variant: str) -> float | None:
        """The number that a trial of this name tried; None where it is none of this option."""
        option, _, written = variant.partition("=")
        try:
            value = float(written)
        except ValueError:
            return None
        return value if option == self.option and math.isfinite(value) else None


def grids() -> dict[str, Grid]:
    """The grid of each method, as grid.toml has it."""
    content = tomllib.loads(resources.files("valuerec.experiments").joinpath("grid.toml").read_text(encoding="utf-8"))
    return {name: Grid(entry.get("of", "method"), entry["option"], entry["values"]) for name, entry in content.items()}


def tried_on(row: Row) -> Row | None:
    """The row whose trials decide this row's own option; None where there is nothing to choose."""
    grid = grids().get(row.method)
    if grid is None:  # popularity, repeat-last
        return None
    if grid.of == "method":
        return row if row.backbone == UNTRAINED else Row(CONTROLLED, row.method)
    known = [field.name for field in fields(backbone_named(row.backbone))]  # type: ignore[arg-type]
    return row if grid.option in known else None


def plain_trials(rows: Iterable[Row], training: Mapping[str, Any]) -> list[Cell]:
    """The cells to try first: of the plain backbones of these rows, and of the one that their methods are tried on.

    Args:
        rows: that are asked for.
        training: options of `TrainConfig` that all cells share.
    """
    backbones = {}
    for row in rows:
        if row.backbone != UNTRAINED:
            backbones[row.backbone] = True
            if row.method != PLAIN:
                backbones[CONTROLLED] = True
    found = (tried_on(Row(backbone, PLAIN)) for backbone in backbones)
    return [cell for row in found if row is not None for cell in _trials_of(row, training)]


def trials(rows: Iterable[Row], training: Mapping[str, Any], book: Book) -> list[Cell]:
    """The cells to try then, of the methods of these rows; none of one that has nothing to choose.

    Args:
        rows: that are asked for.
        training: options of `TrainConfig` that all cells share.
        book: with the trials of `plain_trials`.
    """
    found = dict.fromkeys(tried_on(row) for row in rows if row.method != PLAIN)
    return [cell for row in found if row is not None for cell in _trials_of(row, training, _of_plain(row, book))]


def _trials_of(row: Row, training: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> list[Cell]:
    grid = grids()[row.method]
    return [
        Cell(
            **row._asdict(),
            seed=SEED,
            variant=grid.variant(value),
            training=training,
            test=False,
            **dict(more or {}) | grid.set(value),
        )
        for value in grid.values
    ]


def _of_plain(row: Row, book: Book) -> Options:
    """The arguments of `Cell` that give a trained row what was chosen for its plain backbone; none for a baseline."""
    if row.backbone == UNTRAINED:
        return {}
    value = chosen(Row(row.backbone, PLAIN), book)
    return {} if value is None else grids()[PLAIN].set(value)


def chosen(row: Row, book: Book) -> Any:
    """The value of its grid with the best validation score, the first among equals.

    None where there is nothing to choose, or where all diverged. Trials of values that are no longer in the grid do not
    count.
    """
    where = tried_on(row)
    if where is None:
        return None
    grid = grids()[row.method]
    found = [(book.cells[*where, "ours", grid.variant(value), SEED]["score"], value) for value in grid.values]
    scored = [(score, value) for score, value in found if score is not None]
    return max(scored, key=lambda each: each[0])[1] if scored else None


def tuned(row: Row, book: Book) -> Options:
    """The arguments of `Cell` that give a row what was chosen for its plain backbone and its method."""
    if row.method == PLAIN:
        return _of_plain(row, book)
    value = chosen(row, book)
    return _of_plain(row, book) | ({} if value is None else grids()[row.method].set(value))


def as_released(row: Row) -> Options:
    """The arguments of `Cell` that give a row the values of the released code, which are our defaults but for these.

    The floor under the critic's weight stays, which that code lacks: a negative weight makes runs collapse there.
    """
    return {"method_options": dict(RELEASED.get(row.method, {}))}
