"""What the backbones share: the checks of their options, and which places of a window hold an item."""

from __future__ import annotations

import torch
from torch import Tensor

from valuerec.errors import UsageError


def check_width(backbone: str, width: int) -> None:
    """Refuse a width below 1.

    Raises:
        UsageError: names the backbone and the value.
    """
    if width < 1:
        raise UsageError(f"{backbone}'s width is {width}; it must be at least 1.")


def check_dropout(backbone: str, dropout: float) -> None:
    """Refuse a rate of dropout outside [0, 1).

    Raises:
        UsageError: names the backbone and the value.
    """
    if not 0 <= dropout < 1:
        raise UsageError(f"{backbone}'s dropout is {dropout}; it must be in [0, 1).")


def real_items(items_BL: Tensor, length_B: Tensor, n_items: int) -> Tensor:
    """Which places hold an item, bool[B, L]: those within the length, but for the padding N of an empty history."""
    place_L = torch.arange(items_BL.shape[1], device=items_BL.device)
    return (place_L < length_B.unsqueeze(1)) & (items_BL != n_items)
