"""What stands at the head of a safetensors file: names, types, shapes and places of its tensors, written and checked.

The format: eight bytes with the header's length, the header as JSON, the tensors end to end. Nothing here needs torch,
so that a dataset opens without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from valuerec.errors import ValuerecError
from valuerec.folders import json_of

LONGEST_HEADER: Final = 1 << 20  # bytes; a tensor takes about a hundred
_MOST_AXES: Final = 8
_LARGEST: Final = 1 << 48  # of an axis, of all axes together, of a place
ITEM_BYTES: Final = {  # in the order in which the format's own library lays tensors out
    "I64": 8,
    "F64": 8,
    "F32": 4,
    "I32": 4,
    "BF16": 2,
    "F16": 2,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


class Place(NamedTuple):
    """What a tensor is, by the format's name of its type, and where it stands in a file, in bytes from its start."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def make_header(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[bytes, dict[str, Place]]:
    """The head of a file with tensors of these types and shapes, in this order, and where each then stands."""
    described, sizes, end = {}, {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        sizes[name] = (dtype, tuple(shape), start, end)
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    first = 8 + len(text)
    places = {
        name: Place(dtype, shape, first + start, first + stop) for name, (dtype, shape, start, stop) in sizes.items()
    }
    return len(text).to_bytes(8, "little") + text, places


def read_header(path: Path) -> dict[str, Place]:
    """What a file says it holds, compared with its size and nothing else read.

    Raises:
        ValuerecError: where the header is longer than `LONGEST_HEADER`, is none, or its tensors overlap, leave holes or
            do not end where the file ends.
        OSError: where the file can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise broken(path, f"its header of {length} bytes is longer than the file or than {LONGEST_HEADER} bytes")
        text = file.read(length)
    try:
        header = json_of(text)
    except (ValueError, RecursionError) as error:
        raise broken(path, f"its header is not readable JSON: {error}") from error
    if not isinstance(header, dict):
        raise broken(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    places = {name: _place(path, name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for name, place in sorted(places.items(), key=lambda item: item[1][2:]):
        if place.start != end:
            raise broken(path, f"the tensor {name[:100]!r} overlaps another or leaves a hole")
        end = place.stop
    if end != size:
        raise broken(path, f"its tensors end at byte {end}, the file at {size}")
    return places


def _place(path: Path, name: str, entry: Any, first: int) -> Place:
    """One entry of a header; places in the file are checked by the caller."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]} if dtype in ITEM_BYTES:
            numbers = [*shape, start, stop]
        case _:
            raise broken(path, f"the tensor {name[:100]!r} is not described by dtype, shape and data_offsets")
    whole = len(shape) <= _MOST_AXES and all(type(n) is int and 0 <= n <= _LARGEST for n in numbers)
    if not whole or math.prod(max(n, 1) for n in shape) > _LARGEST:
        raise broken(path, f"the tensor {name[:100]!r} has a shape or a place that can't be")
    if stop - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise broken(path, f"the tensor {name[:100]!r} has {stop - start} bytes, and its shape another number")
    return Place(dtype, tuple(shape), first + start, first + stop)


def broken(path: Path, why: str) -> ValuerecError:
    """The sentence on a file of tensors that holds something else."""
    return ValuerecError(f"{path} is broken ({why}); make it again.")
