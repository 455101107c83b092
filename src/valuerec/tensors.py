"""Named tensors on the disk: safetensors, and nothing that could run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.folders import explained_io, flush


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


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
