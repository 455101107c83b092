"""The files that finished cells are written to: a JSON list, a line a cell, which grows cell by cell.

A file is replaced whole, so that a killed run loses only the cells in progress. One process at a time may write to a
folder (`Results.lock`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.cell import Figures, Key, key_of
from valuerec.folders import explained_io, read_json, write_text

TUNING: Final = "tuning"

_NEEDED = ("backbone", "method", "protocol", "variant", "seed", "options", "dataset", "validation")


class Book:
    """One file of cells (table1.json, tuning.json, ...) of one dataset.

    Args:
        path: the file; need not exist.
        fingerprint: of the dataset that all its cells must be of.

    Raises:
        UsageError: where it holds cells of another dataset.
        ValuerecError: where it is no list of cells.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.cells = self._read()

    def _read(self) -> dict[Key, Figures]:
        if not self.path.is_file():
            return {}
        content = read_json(self.path)
        if not isinstance(content, list) or not all(
            isinstance(cell, dict) and all(name in cell for name in _NEEDED) for cell in content
        ):
            raise ValuerecError(f"{self.path} is no list of cells as this valuerec writes them; name another --out.")
        if any(cell["dataset"] != self.fingerprint for cell in content):
            raise UsageError(f"{self.path} holds cells of another dataset; name another folder with --out.")
        if self.path.stem == TUNING:  # choices are made of it: what older trials read of the test split is dropped
            content = [cell | {"test": None} for cell in content]
        return {key_of(cell): cell for cell in content}

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
