"""Which way the catalogue-sized work is done: chosen by the hardware, or by the user."""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch

from valuerec.errors import UsageError
from valuerec.ops import native
from valuerec.ops.cross_entropy import (
    float_weighted_cross_entropy,
    mixed_weighted_cross_entropy,
    plain_weighted_cross_entropy,
)

Engine = Literal["native", "tiled", "plain"]
"""native: compiled kernels, bfloat16 products; tiled: PyTorch in float32, any device; plain: the references."""

ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)
CROSS_ENTROPY: Final = {
    "native": mixed_weighted_cross_entropy,
    "tiled": float_weighted_cross_entropy,
    "plain": plain_weighted_cross_entropy,
}


def choose_engine(asked: str, device: torch.device) -> Engine:
    """The engine for `auto` or a name.

    Raises:
        UsageError: for an unknown name, or one that can't work here.
    """
    for engine in ENGINES:
        if asked == engine:
            if engine == "native" and (reason := _why_not_native(device)):
                raise UsageError(f"The engine native can't work here: {reason}; use auto or tiled.")
            return engine
    if asked != "auto":
        raise UsageError(f"There is no engine named {asked!r}; choose one of: auto, {', '.join(ENGINES)}.")
    return "tiled" if _why_not_native(device) else "native"


def _why_not_native(device: torch.device) -> str:
    return f"the device is {device.type}" if device.type != "cpu" else native.why_not()
