"""The folder that experiments write to: what the dataset was, the cells of each experiment, the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.book import TUNING, Book, first_fault
from valuerec.experiments.cell import Figures
from valuerec.experiments.ranks import ranks_file
from valuerec.experiments.rows import Row
from valuerec.experiments.tuning import grids
from valuerec.folders import explained_io, read_json, write_json
from valuerec.locks import try_lock

DATASET: Final = "dataset.json"
BOOKS: Final = ("table1", TUNING, "figure2", "figure3")
EARLIER: Final = "earlier"  # cells whose hyper-parameters are no longer those chosen
SIGNIFICANCE: Final = "significance.json"


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
            UsageError: where it holds another dataset's results.
        """
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
        known = grids()
        for backbone, method, *_ in book.cells if name == TUNING else ():
            if method not in known:
                row = Row(backbone, method).name
                raise ValuerecError(
                    f"{book.path} has trials of {row}, a method without a grid; remove them, or upgrade valuerec."
                )
        return book

    def cells(self, name: str) -> list[Figures]:
        """The finished cells of an experiment."""
        return list(self.book(name).cells.values()) if (self.path / f"{name}.json").is_file() else []

    def ranks(self, slug: str) -> Path:
        """Where the test ranks of a cell lie."""
        return ranks_file(self.path, slug)


def _described(dataset: Dataset) -> dict[str, Any]:
    """What a dataset is, without where it lies."""
    manifest = dataset.manifest
    told = {name: manifest.get(name) for name in ("fingerprint", "counts", "splits", "config", "sources")}
    return {"name": dataset.path.resolve().name} | told
