"""The folder that experiments write to: what the dataset was, the cells of each experiment, the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Figures
from valuerec.folders import explained_io, read_json, write_json

DATASET: Final = "dataset.json"
BOOKS: Final = ("table1", "tuning", "figure2", "figure3")
SIGNIFICANCE: Final = "significance.json"


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
        if known and not (isinstance(self.dataset, dict) and {"name", "fingerprint", "counts"} <= set(self.dataset)):
            raise ValuerecError(f"{path / DATASET} does not say what the dataset was; name another folder with --out.")

    @classmethod
    def of(cls, path: Path, dataset: Dataset) -> Results:
        """Open the folder for a dataset, making it where it does not exist.

        Raises:
            UsageError: where it holds another dataset's results.
        """
        with explained_io(f"Writing {path}"):
            path.mkdir(parents=True, exist_ok=True)
            if not (path / DATASET).is_file():
                write_json(path / DATASET, _described(dataset))
        results = cls(path)
        if results.dataset is None or results.dataset["fingerprint"] != dataset.fingerprint:
            raise UsageError(f"{path} holds results of another dataset than {dataset.path}; name another with --out.")
        return results

    def book(self, name: str) -> Book:
        """The file of an experiment, one of `BOOKS`."""
        if self.dataset is None:
            raise ValuerecError(
                f"{self.path} has no {DATASET}, so its cells are of nobody knows what; make them again."
            )
        return Book(self.path / f"{name}.json", self.dataset["fingerprint"])

    def cells(self, name: str) -> list[Figures]:
        """The finished cells of an experiment."""
        return list(self.book(name).cells.values()) if (self.path / f"{name}.json").is_file() else []

    def ranks(self, slug: str) -> Path:
        """Where the test ranks of a cell lie."""
        return ranks_file(self.path, slug)


def ranks_file(folder: Path, slug: str) -> Path:
    """Where the test ranks of a cell lie in a folder of results."""
    return folder / "ranks" / f"{slug}.parquet"


def _described(dataset: Dataset) -> dict[str, Any]:
    """What a dataset is, without where it lies."""
    manifest = dataset.manifest
    told = {name: manifest.get(name) for name in ("fingerprint", "counts", "splits", "config", "sources")}
    return {"name": dataset.path.resolve().name} | told
