"""The state encoder as ONNX: items int64[B, L] and lengths int64[B] in, state float32[B, D] out, any B.

Only the encoder: heads are one matrix, which whoever serves elsewhere reads from the weights (safetensors), and the
catalogue's index of nearest items takes as it is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from valuerec.errors import ValuerecError
from valuerec.network import Network

OPSET: Final = 20
TOLERANCE: Final = 1e-4  # of a state's number, and of the largest where that is above 1
CHECKED: Final = 64
_LARGEST: Final = (1 << 31) - (1 << 20)  # bytes of a protobuf message, and some for the graph
_NEEDED: Final = ("onnx", "onnxscript", "onnxruntime")


class NoOnnxError(ValuerecError):
    """There can be no ONNX of this model here; the sentence says why."""


class _Encoder(nn.Module):
    """A backbone by its `dense` form, where it has one: the same states in operations that ONNX has."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The state of each row."""
        state: Tensor = getattr(self.backbone, "dense", self.backbone)(items, lengths)
        return state


def write_onnx(path: Path, network: Network) -> dict[str, Any]:
    """Write the encoder, and compare it in onnxruntime with the network.

    Args:
        path: the file.
        network: on the CPU, in evaluation mode.

    Returns:
        For the manifest: opset, and the largest difference from PyTorch over how many histories.

    Raises:
        NoOnnxError: where a library is missing, the backbone can't be written as ONNX, or what was written gives other
            states.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise NoOnnxError(f"no ONNX without {', '.join(missing)}: pip install 'valuerec[onnx]'.")
    if sum(4 * each.numel() for each in network.backbone.parameters()) > _LARGEST:
        raise NoOnnxError("the encoder has more than the 2 GB that one ONNX file can hold.")
    items_BL, length_B = histories(network)
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Encoder(network.backbone),
                (items_BL[:3], length_B[:3]),
                dynamo=True,
                opset_version=OPSET,
                input_names=["items", "lengths"],
                output_names=["state"],
                dynamic_shapes={"items": {0: batch}, "lengths": {0: batch}},
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
        difference = largest_difference(path, network, items_BL, length_B)
    except Exception as error:  # the exporter's own kinds are many, and a backbone may be anybody's
        first = " ".join(str(error).split())[:200]
        raise NoOnnxError(f"this backbone can't be written as ONNX for any number of rows ({first}).") from error
    if not difference <= TOLERANCE:
        raise NoOnnxError(f"the ONNX written gives other states than PyTorch, by up to {difference:.2g}.")
    return {"file": path.name, "opset": OPSET, "largest_difference": difference, "checked_on": CHECKED}


def histories(network: Network) -> tuple[Tensor, Tensor]:
    """Histories to compare on: random items, all lengths by turns, every eighth of them empty."""
    draw = np.random.default_rng(0)
    length_B = np.arange(CHECKED) % network.window + 1
    items_BL = draw.integers(0, network.n_items, (CHECKED, network.window))
    items_BL[::8], length_B[::8] = network.n_items, 1
    items_BL[np.arange(network.window) >= length_B[:, None]] = network.n_items
    return torch.from_numpy(items_BL), torch.from_numpy(length_B)


@torch.inference_mode()
def largest_difference(path: Path, network: Network, items_BL: Tensor, length_B: Tensor) -> float:
    """How far the ONNX's states are from PyTorch's, beside the largest number of a state where that is above 1."""
    state_BD = network.state(items_BL, length_B).numpy()
    answer_BD = run_onnx(path, items_BL.numpy(), length_B.numpy())
    if answer_BD.shape != state_BD.shape:
        return float("inf")
    return float(np.abs(answer_BD - state_BD).max() / max(1.0, float(np.abs(state_BD).max())))


def run_onnx(path: Path, items_BL: NDArray[np.int64], length_B: NDArray[np.int64]) -> NDArray[np.float32]:
    """The states that onnxruntime gives."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (state_BD,) = session.run(["state"], {"items": items_BL, "lengths": length_B})
    return np.asarray(state_BD, dtype=np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter tells of itself is not for our users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
