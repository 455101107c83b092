"""Hyper-parameters chosen on validation: the same number of trials for every method, on SASRec, from grid.toml.

The plain backbone is tuned first, and what it chose is every method's: a gain must be one over a backbone at its best,
and a method must not win or lose by another's dropout.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import resources
from typing import Any, Final, NamedTuple

from valuerec.backbones import backbone_named
from valuerec.baselines import BASELINES
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Cell
from valuerec.experiments.rows import CONTROLLED, PLAIN, UNTRAINED, Row

SEED: Final = 1000  # no table's: a choice must not be made on the runs that are reported

Options = dict[str, Any]


class Grid(NamedTuple):
    """What one method may choose among: an option of the method or of the backbone, and its values."""

    of: str
    option: str
    values: list[Any]

    def set(self, row: Row, value: Any) -> Options:
        """The arguments of `Cell` that give a row this value; none where its backbone has no such option."""
        if self.of == "method":
            return {"method_options": {self.option: value}}
        known = [field.name for field in fields(backbone_named(row.backbone))]  # type: ignore[arg-type]
        return {"backbone_options": {self.option: value} if self.option in known else {}}


def grids() -> dict[str, Grid]:
    """The grid of each method, as grid.toml has it."""
    content = tomllib.loads(resources.files("valuerec.experiments").joinpath("grid.toml").read_text(encoding="utf-8"))
    return {name: Grid(entry.get("of", "method"), entry["option"], entry["values"]) for name, entry in content.items()}


def trials(methods: Iterable[str], training: Mapping[str, Any], book: Book | None = None) -> list[Cell]:
    """The cells to try for these methods; none for one that has nothing to choose (popularity, repeat-last).

    Args:
        methods: by name.
        training: options of `TrainConfig` that all cells share.
        book: with the plain backbone's trials, for the trials of all other trained methods.
    """
    known = grids()
    return [
        trial(method, value, training, book) for method in methods if method in known for value in known[method].values
    ]


def trial(method: str, value: Any, training: Mapping[str, Any], book: Book | None = None) -> Cell:
    """One cell to try."""
    grid, row = grids()[method], Row(UNTRAINED if method in BASELINES else CONTROLLED, method)
    options = _of_plain(row, book) | grid.set(row, value)
    return Cell(**row._asdict(), seed=SEED, variant=f"{grid.option}={value}", training=training, **options)


def _of_plain(row: Row, book: Book | None) -> Options:
    """The arguments of `Cell` that give a trained row the plain backbone's choice, where that is made."""
    if book is None or row.method in (PLAIN, *BASELINES):
        return {}
    value = chosen(PLAIN, book)
    return {} if value is None else grids()[PLAIN].set(row, value)


def chosen(method: str, book: Book) -> Any:
    """The value with the best validation score, the first of the grid among equals; None where all diverged."""
    found = [(book.cells[trial(method, value, {}).key]["score"], value) for value in grids()[method].values]
    scored = [(score, value) for score, value in found if score is not None]
    return max(scored, key=lambda each: each[0])[1] if scored else None


def tuned(row: Row, book: Book | None) -> Options:
    """The arguments of `Cell` that give a row what was chosen for the plain backbone and its method; none untuned."""
    if book is None or row.method not in grids():
        return {}
    value = chosen(row.method, book)
    own = {} if value is None else grids()[row.method].set(row, value)
    return _of_plain(row, book) | own
