"""Named tensors on the disk: safetensors, and nothing that could run code.

Nothing that a file says is believed: types, shapes and places are compared with its size before memory is taken
(`load_tensors`), or names, types and shapes with what is expected before a byte of them is read (`read_into`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.folders import explained_io, replaced
from valuerec.safetensors_header import ITEM_BYTES, Place, broken, make_header, read_header

_CODES: Final = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES: Final = {code: dtype for dtype, code in _CODES.items()}


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file that appears whole or not at all.

    They go to the file one after the other, from where they are: nothing of their size is made, but a copy of one at a
    time where it lies on another device. Tied weights (two names, one memory) are written twice: the format has no
    way to say so. The bytes are those of `safetensors.torch.save_file`, which copied all in its older versions.
    """
    order = list(ITEM_BYTES)
    codes = {name: _CODES[tensor.dtype] for name, tensor in tensors.items()}
    names = sorted(tensors, key=lambda name: (order.index(codes[name]), name))
    header, _ = make_header({name: (codes[name], tensors[name].shape) for name in names})
    with explained_io(f"Writing {path}"), replaced(path) as partial, partial.open("wb") as file:
        file.write(header)
        for name in names:
            file.write(_bytes_of(tensors[name].detach().cpu().contiguous()))


def load_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Read the tensors of a file; they take no more memory than the file has bytes.

    Raises:
        ValuerecError: where the file is unreadable or broken.
    """
    with explained_io(f"Reading {path}"):
        places = read_header(path)
    tensors = {name: torch.empty(place.shape, dtype=_DTYPES[place.dtype]) for name, place in places.items()}
    _fill(path, places, tensors)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


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
        found, expected = (_DTYPES[places[name].dtype], places[name].shape), (tensor.dtype, tuple(tensor.shape))
        if found != expected:
            raise ValuerecError(
                f"{path} does not hold this model's weights ({name} is {_shown(*found)} there and {_shown(*expected)} "
                "here); make it again."
            )
    return places


def _shown(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def read_into(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, on any device, from a file that holds exactly these.

    Raises:
        ValuerecError: where the file is unreadable, broken, or holds anything else; what was filled until then is lost.
    """
    _fill(path, check_tensors(path, tensors), tensors)


@torch.no_grad()
def _fill(path: Path, places: Mapping[str, Place], tensors: Mapping[str, Tensor]) -> None:
    with explained_io(f"Reading {path}"), path.open("rb", buffering=0) as file:
        for name, tensor in tensors.items():
            if not tensor.numel():
                continue
            direct = tensor.device.type == "cpu" and tensor.is_contiguous()
            memory = tensor.detach() if direct else torch.empty(tensor.shape, dtype=tensor.dtype)
            file.seek(places[name].start)
            if not _filled(file, _bytes_of(memory)):
                raise broken(path, "it became shorter while it was read")
            if not direct:
                tensor.copy_(memory)


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return tensor.flatten().view(torch.uint8).numpy().data


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
