"""Named tensors on the disk: safetensors, and nothing that could run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.folders import explained_io, replaced

_TYPES: Final = {  # in the order in which the format's own library lays them out
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


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file that appears whole or not at all.

    They go to the file one after the other, from where they are: nothing of their size is made, but a copy of one at a
    time where it lies on another device. Tied weights (two names, one memory) are written twice: the format has no
    way to say so. The bytes are those of `safetensors.torch.save_file`, which copied all in its older versions.
    """
    order = list(_TYPES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    described, end = {}, 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        described[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with explained_io(f"Writing {path}"), replaced(path) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            file.write(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


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


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
