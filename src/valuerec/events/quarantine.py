"""Where bad rows go: into the dataset, into a file that was named, or, of a run that is refused, beside the dataset."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from valuerec.errors import UsageError
from valuerec.folders import MANIFEST, explained_io, flush

NAME: Final = "quarantine.parquet"
_TYPES: Final[dict[str, pa.DataType]] = {
    "file": pa.string(),
    "row": pa.int64(),
    "field": pa.string(),
    "reason": pa.string(),
    "text": pa.string(),
}
ROWS: Final = pa.schema(_TYPES)


@dataclass(frozen=True)
class Quarantine:
    """The bad rows of one run.

    Args:
        made: where they are written while the run goes on.
        out: the dataset's folder.
        named: the file that the user wants them in, if any.
    """

    made: Path
    out: Path
    named: Path | None

    @property
    def place(self) -> str | None:
        """Where the bad rows of a run that ends well are, as a manifest says it; None where there are none."""
        return None if not self.made.exists() else str(self.named or NAME)

    def refused(self) -> str:
        """Keep the bad rows of a run that is refused; half a sentence that says where, empty where there are none."""
        if not self.made.exists():
            return ""
        place = self.named or self.out.with_name(f"{self.out.name}.{NAME}")
        if (place.exists() or place.is_symlink()) and not _is_quarantine(place):
            return f"; the bad rows were not kept, for {place} is something else"
        _move(self.made, place)
        return f"; the bad rows are in {place}"

    def settle(self, folder: Path) -> None:
        """Bring the bad rows of a run that ends well into the dataset's folder, or where the user wants them."""
        if self.made.exists():
            _move(self.made, self.named or folder / NAME)


def check_place(file: Path | None, out: Path) -> None:
    """Refuse a quarantine file that can't be written, before the log is read.

    Raises:
        UsageError: where `file` is something else already, or would lie in a folder of valuerec's.
    """
    if file is None:
        return
    with explained_io(f"Writing {file}"):
        if file.parent.absolute() == out.absolute():
            raise UsageError(
                f"The quarantine {file} lies in --out {out}, where {NAME} goes anyway; name another place."
            )
        if (file.parent / MANIFEST).is_file():
            raise UsageError(f"The quarantine {file} lies in a folder of valuerec's; name a file elsewhere.")
        if (file.exists() or file.is_symlink()) and not _is_quarantine(file):
            raise UsageError(f"The quarantine {file} exists and holds something else; name another file.")


def _is_quarantine(file: Path) -> bool:
    try:
        return file.is_file() and bool(pq.read_schema(file).equals(ROWS))
    except pa.ArrowException:
        return False


def _move(made: Path, place: Path) -> None:
    """Replace a file by one of perhaps another disk, in one step."""
    with explained_io(f"Writing {place}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        try:
            shutil.copyfile(made, partial)
            flush(partial)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
        made.unlink()
