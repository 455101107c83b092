"""Named tensors on the disk: safetensors, and nothing that could run code.

`read_into` believes nothing that a file says: names, types, shapes and places are compared with what is expected before
a byte of it is read, and it is read into memory that is there already.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.folders import explained_io, flush

LONGEST_HEADER: Final = 1 << 20  # bytes; a tensor takes about a hundred
_MOST_AXES: Final = 8
_LARGEST_AXIS: Final = 1 << 48
_TYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class Place(NamedTuple):
    """Where a tensor stands in a file, in bytes from its start, and what it is."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file that appears whole or not at all.

    Tied weights (two names, one memory) are written twice: the format has no way to say so.
    """
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.detach().clone() if address in seen else tensor.detach().contiguous()
        seen.add(address)
    partial = path.with_name(f".{path.name}.partial")
    with explained_io(f"Writing {path}"):
        try:
            save_file(apart, partial)
            flush(partial)
            partial.replace(path)
        except SafetensorError as error:  # how the library wraps a full disk
            raise ValuerecError(f"Writing {path} failed: {error}; is the disk full?") from error
        finally:
            partial.unlink(missing_ok=True)


def load_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Raises:
        ValuerecError: where the file is unreadable or broken.
    """
    with explained_io(f"Reading {path}"):
        try:
            return load_file(path, device=str(device))
        except SafetensorError as error:
            raise ValuerecError(f"{path} is broken ({error}); make it again.") from error


def read_header(path: Path) -> dict[str, Place]:
    """What a safetensors file says it holds, compared with its size and nothing else read.

    Raises:
        ValuerecError: where the header is longer than `LONGEST_HEADER`, is none, or its tensors overlap, leave holes or
            do not end where the file ends.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise _broken(path, f"its header of {length} bytes is longer than the file or than {LONGEST_HEADER} bytes")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not readable JSON: {error}") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    places = {name: _place(path, name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for name, place in sorted(places.items(), key=lambda item: item[1][2:]):
        if place.start != end:
            raise _broken(path, f"the tensor {name[:100]!r} overlaps another or leaves a hole")
        end = place.stop
    if end != size:
        raise _broken(path, f"its tensors end at byte {end}, the file at {size}")
    return places


def _place(path: Path, name: str, entry: Any, first: int) -> Place:
    """One entry of a header; places in the file are checked by the caller."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]} if dtype in _TYPES:
            numbers = [*shape, start, stop]
        case _:
            raise _broken(path, f"the tensor {name[:100]!r} is not described by dtype, shape and data_offsets")
    if len(shape) > _MOST_AXES or not all(type(n) is int and 0 <= n <= _LARGEST_AXIS for n in numbers):
        raise _broken(path, f"the tensor {name[:100]!r} has a shape or a place that can't be")
    if stop - start != math.prod(shape) * _TYPES[dtype].itemsize:
        raise _broken(path, f"the tensor {name[:100]!r} has {stop - start} bytes, and its shape another number")
    return Place(_TYPES[dtype], tuple(shape), first + start, first + stop)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose names stands once."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice")
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _broken(path: Path, why: str) -> ValuerecError:
    return ValuerecError(f"{path} is broken ({why}); make it again.")


def check_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Place]:
    """Refuse a file that does not hold exactly the wanted names, types and shapes; the tensors may be on `meta`.

    Returns:
        Where each stands.

    Raises:
        ValuerecError: naming the first difference.
    """
    with explained_io(f"Reading {path}"):
        places = read_header(path)
    differing = sorted(places.keys() ^ wanted.keys())
    if differing:
        name = differing[0]
        what = f"it has no {name}" if name in wanted else f"it has a {name[:100]!r} too many"
        raise ValuerecError(f"{path} does not hold this model's weights ({what}); make it again.")
    for name, tensor in wanted.items():
        found, expected = (places[name].dtype, places[name].shape), (tensor.dtype, tuple(tensor.shape))
        if found != expected:
            raise ValuerecError(
                f"{path} does not hold this model's weights ({name} is {_shown(*found)} there and {_shown(*expected)} "
                "here); make it again."
            )
    return places


def _shown(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


@torch.no_grad()
def read_into(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, on any device, from a file that holds exactly these.

    Raises:
        ValuerecError: where the file is unreadable, broken, or holds anything else; what was filled until then is lost.
    """
    places = check_tensors(path, tensors)
    with explained_io(f"Reading {path}"), path.open("rb", buffering=0) as file:
        for name, tensor in tensors.items():
            if not tensor.numel():
                continue
            direct = tensor.device.type == "cpu" and tensor.is_contiguous()
            memory = tensor.detach() if direct else torch.empty(tensor.shape, dtype=tensor.dtype)
            file.seek(places[name].start)
            if not _filled(file, memory.view(-1).view(torch.uint8).numpy().data):
                raise _broken(path, "it became shorter while it was read")
            if not direct:
                tensor.copy_(memory)


def _filled(file: Any, memory: memoryview) -> bool:
    """Read until the memory is full; a single read gives at most 2 GiB."""
    while len(memory):
        count = file.readinto(memory)
        if not count:
            return False
        memory = memory[count:]
    return True


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
