"""The items' ids: a JSON list of strings, an id a line, in index order.

JSON, because whoever runs the ONNX encoder elsewhere needs it and can read it anywhere; a line an id, because it can
then be read an id at a time, and a file that says something else is refused before it is taken into memory.
(Parquet may say in a kilobyte that it holds 2^31 rows.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from valuerec.errors import ValuerecError
from valuerec.folders import explained_io

LONGEST_LINE: Final = 16 << 20  # bytes


def write_vocabulary(path: Path, item_ids: Sequence[str]) -> None:
    """Write the ids, of which there is at least one.

    Raises:
        ValuerecError: where an id takes more than `LONGEST_LINE`.
    """
    last = len(item_ids) - 1
    with path.open("wb") as file:
        file.write(b"[\n")
        for place, item in enumerate(item_ids):
            line = json.dumps(item, ensure_ascii=False).encode() + (b",\n" if place < last else b"\n")
            if len(line) > LONGEST_LINE:
                raise ValuerecError(f"The id of item {place} has {len(item)} characters, too many; prepare it shorter.")
            file.write(line)
        file.write(b"]\n")


def read_vocabulary(path: Path, n_items: int) -> list[str]:
    """Read N ids.

    Raises:
        ValuerecError: naming the line that is no id, or where they are more or fewer than N or one stands twice.
    """
    item_ids: list[str] = []
    with explained_io(f"Reading {path}"), path.open("rb") as file:
        if file.readline(3) != b"[\n":
            raise _broken(path, 1, "a bracket alone")
        for number in range(2, n_items + 2):
            line = file.readline(LONGEST_LINE + 1)
            ending = b",\n" if number <= n_items else b"\n"
            try:
                item = json.loads(line.removesuffix(ending).decode()) if line.endswith(ending) else None
                if not isinstance(item, str):
                    raise _broken(path, number, f"an id, of {n_items}")
                item.encode()  # half a surrogate pair is no text
            except (ValueError, RecursionError) as error:
                raise _broken(path, number, f"an id, of {n_items}") from error
            item_ids.append(item)
        if file.read(3) != b"]\n":
            raise _broken(path, n_items + 2, f"the end, after {n_items} ids")
    if _has_twins(item_ids):
        raise ValuerecError(f"{path} has an id that stands twice; export the bundle again.")
    return item_ids


def _has_twins(item_ids: list[str]) -> bool:
    """Whether one stands twice: told by sorted hashes in eight bytes an id, and exactly where two of these agree."""
    hash_N = np.fromiter(map(hash, item_ids), np.int64, len(item_ids))
    hash_N.sort()
    return bool((hash_N[1:] == hash_N[:-1]).any()) and len(set(item_ids)) < len(item_ids)


def _broken(path: Path, line: int, what: str) -> ValuerecError:
    return ValuerecError(f"{path}, line {line}: here should be {what}; export the bundle again.")
