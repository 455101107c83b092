"""The folder that experiments write to: what the dataset was, the cells of each experiment, the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments import figure2, figure3
from valuerec.experiments.book import TUNING, Book, first_fault
from valuerec.experiments.cell import Figures, not_numbers
from valuerec.experiments.ranks import ranks_file
from valuerec.experiments.rows import Row, all_rows
from valuerec.experiments.tuning import grids
from valuerec.folders import MANIFEST, explained_io, read_json, write_json
from valuerec.locks import try_lock
from valuerec.training.config import PROTOCOLS
from valuerec.training.run import LOG

DATASET: Final = "dataset.json"
BOOKS: Final = ("table1", TUNING, "figure2", "figure3")
EARLIER: Final = "earlier"  # cells whose hyper-parameters are no longer those chosen
SIGNIFICANCE: Final = "significance.json"
_FIGURES: Final = {"figure2": tuple(figure2.WAYS), "figure3": figure3.NAMES}  # of VPQ, and of the protocol ours


class _Described(BaseModel, extra="allow", strict=True):
    """What dataset.json must hold."""

    name: str
    fingerprint: str
    counts: dict[str, int]
    splits: dict[str, dict[str, int]] | None = None
    config: dict[str, Any] | None = None


class Results:
    """A folder of finished cells of one dataset.

    Args:
        path: the folder. `dataset` is what dataset.json says of the data, None where there is none: then there are
            no cells either.

    Raises:
        ValuerecError: where dataset.json is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        known = (path / DATASET).is_file()
        self.dataset: dict[str, Any] | None = read_json(path / DATASET) if known else None
        try:
            if known:
                _Described.model_validate(self.dataset)
        except ValidationError as error:
            raise ValuerecError(
                f"{path / DATASET} does not say what the dataset was ({first_fault(error)}); name another folder with "
                "--out."
            ) from error

    @classmethod
    def of(cls, path: Path, dataset: Dataset) -> Results:
        """Open the folder for a dataset, making it where it does not exist.

        Raises:
            UsageError: where it holds another dataset's results, or is a dataset, run or bundle itself.
        """
        refuse_own_folder(path)
        with explained_io(f"Writing {path}"):
            (path / "ranks").mkdir(parents=True, exist_ok=True)
            if not (path / DATASET).is_file():
                write_json(path / DATASET, _described(dataset))
        results = cls(path)
        if results.dataset is None or results.dataset["fingerprint"] != dataset.fingerprint:
            raise UsageError(f"{path} holds results of another dataset than {dataset.path}; name another with --out.")
        return results

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder meanwhile.

        Raises:
            UsageError: where another has it.
        """
        with explained_io(f"Writing {self.path}"):
            lock = try_lock(self.path / ".lock", create=True)
        if lock is None:
            raise UsageError(f"{self.path} is in use: another reproduce works there; wait for its end or stop it.")
        try:
            yield
        finally:
            lock.release()

    def book(self, name: str) -> Book:
        """The file of an experiment, one of `BOOKS`, or the one of `EARLIER` cells."""
        if self.dataset is None:
            raise ValuerecError(
                f"{self.path} has no {DATASET}, so its cells are of nobody knows what; make them again."
            )
        book = Book(self.path / f"{name}.json", self.dataset["fingerprint"])
        known, rows = grids(), all_rows()
        for (backbone, method, protocol, variant, _), figures in book.cells.items():
            row = Row(backbone, method)
            if name in _FIGURES:
                belongs = (method, protocol) == ("vpq", "ours") and variant in _FIGURES[name]
            elif name == TUNING:
                belongs = method not in known or known[method].value(variant) is not None
            else:
                belongs = name == EARLIER or not variant
            if row not in rows or protocol not in PROTOCOLS or not belongs:
                told = " ".join(filter(None, (row.name, protocol, variant)))
                raise ValuerecError(
                    f"{book.path} has cells that this valuerec does not know, {told}; remove them, or upgrade valuerec."
                )
            if name == TUNING and method not in known:
                raise ValuerecError(
                    f"{book.path} has trials of {row.name}, a method without a grid; remove them, or upgrade valuerec."
                )
            if wrong := not_numbers(figures):
                raise ValuerecError(
                    f"{book.path} has a cell of {row.name} whose option {wrong[0]} is no number; correct it, or remove "
                    "the cell, which the same command then makes again."
                )
        return book

    def cells(self, name: str) -> list[Figures]:
        """The finished cells of an experiment."""
        return list(self.book(name).cells.values()) if (self.path / f"{name}.json").is_file() else []

    def ranks(self, slug: str) -> Path:
        """Where the test ranks of a cell lie."""
        return ranks_file(self.path, slug)


def refuse_own_folder(path: Path) -> None:
    """Refuse to write results among the files of a dataset, run or bundle.

    Raises:
        UsageError: where the folder is one.
    """
    if (path / MANIFEST).exists() or (path / LOG).exists():
        raise UsageError(f"{path} is a dataset, run or bundle of valuerec's; name a folder for the results with --out.")


def _described(dataset: Dataset) -> dict[str, Any]:
    """What a dataset is, without where it lies."""
    manifest = dataset.manifest
    told = {name: manifest.get(name) for name in ("fingerprint", "counts", "splits", "config", "sources")}
    return {"name": dataset.path.resolve().name} | told
