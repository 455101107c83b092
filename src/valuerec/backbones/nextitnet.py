"""NextItNet (Yuan et al., WSDM 2019), in the form that SQN, SAC and VPQ were measured with.

Six residual blocks of two causal, dilated convolutions each. The published family's particulars are kept: each
convolution is followed by LayerNorm and ReLU, the second reaches twice as far back as the first, there is no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from valuerec.backbones.common import check_width

DILATIONS: Final = (1, 2, 1, 2, 1, 2)
TAPS: Final = 3


@dataclass(frozen=True, kw_only=True)
class NextItNet:
    """What a NextItNet backbone is made of; call it with a catalogue to build one.

    Args:
        width: D, the state's width (paper: 64).
    """

    width: int = 64

    name = "nextitnet"

    def __post_init__(self) -> None:
        check_width("NextItNet", self.width)

    def __call__(self, n_items: int, window: int) -> NextItNetEncoder:
        """Build the encoder for a catalogue of `n_items`; it takes states of any window."""
        return NextItNetEncoder(n_items, self)


class NextItNetEncoder(nn.Module):
    """(items[B, L], lengths[B]) → state[B, D]: the last block's output at the last item."""

    def __init__(self, n_items: int, config: NextItNet) -> None:
        super().__init__()
        self.n_items, self.state_width = n_items, config.width
        self.item = nn.Embedding(n_items + 1, config.width, sparse=True)  # a step touches few of its rows
        self.blocks = nn.ModuleList(ResidualBlock(config.width, dilation) for dilation in DILATIONS)
        nn.init.normal_(self.item.weight, std=0.01)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """Encode the last L items, right-padded with N.

        No item sees what comes after it, so padding need not be computed: the P items of all rows are laid end to end,
        which takes a third of the time (docs/log.md). Of the masks that the original puts on the items and after each
        block, only this then shows: the state of an empty history is zero.
        """
        within_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < length_B.unsqueeze(1)
        place_P = within_BL.nonzero()[:, 1]
        items_PD = self.item(items_BL[within_BL])
        for block in self.blocks:
            items_PD = block(items_PD, place_P)
        return self._last(items_PD, length_B.cumsum(dim=0) - 1, items_BL)

    def dense(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """`forward` for whole windows, padding computed too, in operations that ONNX has."""
        count, window = items_BL.shape
        items_PD = self.item(items_BL.flatten())
        place_P = torch.arange(window, device=items_BL.device).repeat(count)
        for block in self.blocks:
            items_PD = block(items_PD, place_P)
        first_B = window * torch.arange(count, device=items_BL.device)
        return self._last(items_PD, first_B + length_B.long() - 1, items_BL)

    def _last(self, items_PD: Tensor, last_B: Tensor, items_BL: Tensor) -> Tensor:
        known_B1 = items_BL[:, :1] != self.n_items
        state: Tensor = items_PD[last_B] * known_B1
        return state


class ResidualBlock(nn.Module):
    """x + two convolutions of x, the second of twice the first one's dilation."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(width, dilation), Convolution(width, 2 * dilation)

    def forward(self, items_PD: Tensor, place_P: Tensor) -> Tensor:
        """Rows end to end in, rows end to end out; `place_P` is each item's place in its row."""
        inner_PD: Tensor = self.second(self.first(items_PD, place_P), place_P)
        return items_PD + inner_PD


class Convolution(nn.Module):
    """ReLU of LayerNorm of a causal, dilated convolution of three taps over rows that lie end to end."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.taps = nn.Linear(TAPS * width, width)  # the oldest item's weights first
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.dilation = dilation
        nn.init.trunc_normal_(self.taps.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.taps.bias)

    def forward(self, items_PD: Tensor, place_P: Tensor) -> Tensor:
        """Each item with those `dilation` and twice `dilation` places before it; zeros before a row's first."""
        count, device = items_PD.shape[0], items_PD.device
        back_3 = self.dilation * torch.arange(TAPS - 1, -1, -1, device=device)
        row_P1 = torch.arange(count, device=device).unsqueeze(1)
        seen_P3 = torch.where(place_P.unsqueeze(1) >= back_3, row_P1 - back_3, count)
        # As an embedding, whose gradient is summed in one order by any number of threads; an index's is not.
        seen_P3D = functional.embedding(seen_P3, functional.pad(items_PD, (0, 0, 0, 1)), padding_idx=count)
        return functional.relu(self.norm(self.taps(seen_P3D.flatten(1))))
