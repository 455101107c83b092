"""Caser (Tang & Wang, WSDM 2018), in the form that SQN, SAC and VPQ were measured with.

The window's items are an image of L rows: horizontal filters look at 2, 3 or 4 rows at a time and keep their strongest
answer, one vertical filter weighs all L rows. The published family's particulars are kept: one vertical filter, ReLU
and a bias of 0.1 on both kinds, no fully connected layer, no user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from valuerec.backbones.common import check_dropout, check_width, real_items
from valuerec.backbones.dropout import Dropout

HEIGHTS: Final = (2, 3, 4)
CHANNELS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Caser:
    """What a Caser backbone is made of; call it with a catalogue to build one.

    Args:
        width: D, the width of an item's vector (paper: 64). The state is 3·16 wider: 112 at 64.
        dropout: rate of dropout on the state (released code: 0.1).
    """

    width: int = 64
    dropout: float = 0.1

    name = "caser"

    def __post_init__(self) -> None:
        check_width("Caser", self.width)
        check_dropout("Caser", self.dropout)

    def __call__(self, n_items: int, window: int) -> CaserEncoder:
        """Build the encoder for a catalogue of `n_items` and states of `window` items."""
        return CaserEncoder(n_items, window, self)


class CaserEncoder(nn.Module):
    """(items[B, L], lengths[B]) → state[B, 48 + D]: what the filters found, horizontal ones first."""

    def __init__(self, n_items: int, window: int, config: Caser) -> None:
        super().__init__()
        self.n_items, self.state_width = n_items, len(HEIGHTS) * CHANNELS + config.width
        self.item = nn.Embedding(n_items + 1, config.width, sparse=True)  # a step touches few of its rows
        # Horizontal filters cut into rows: 2 rows of the first 16 filters, 3 of the next, 4 of the last.
        self.rows = nn.Parameter(torch.empty(sum(HEIGHTS) * CHANNELS, config.width))
        self.horizontal_bias = nn.Parameter(torch.full((len(HEIGHTS) * CHANNELS,), 0.1))
        self.vertical_L = nn.Parameter(torch.empty(window))
        self.vertical_bias = nn.Parameter(torch.full((1,), 0.1))
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=0.01)
        for filters in (self.rows, self.vertical_L):
            nn.init.trunc_normal_(filters, std=0.1, a=-0.2, b=0.2)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """Encode the last L items, right-padded with N, which counts as a row of zeros.

        In a window lower than the tallest filter, further rows of zeros stand below, as below a short history.
        """
        real_BL = real_items(items_BL, length_B, self.n_items)
        items_BLD = self.item(items_BL) * real_BL.unsqueeze(2)
        horizontal = functional.relu(self._strongest(items_BLD) + self.horizontal_bias)
        vertical_BD = functional.relu(torch.einsum("bld,l->bd", items_BLD, self.vertical_L) + self.vertical_bias)
        state: Tensor = self.dropout(torch.cat([horizontal, vertical_BD], dim=1))
        return state

    def _strongest(self, items_BLD: Tensor) -> Tensor:
        """Each horizontal filter's largest answer over the window, before bias and ReLU, which keep the order: B×48.

        One product of all items with all filters' rows, then sums along the rows: three quarters of the time that
        convolutions take on a CPU (docs/log.md).
        """
        height = max(items_BLD.shape[1], *HEIGHTS)
        image_BLD = functional.pad(items_BLD, (0, 0, 0, height - items_BLD.shape[1]))
        answers = iter(
            functional.linear(image_BLD, self.rows).chunk(sum(HEIGHTS), dim=2)
        )  # each of one row of 16 filters
        strongest = []
        for tall in HEIGHTS:
            starts = height - tall + 1
            answer = next(answers)[:, :starts]
            for row in range(1, tall):
                answer = answer + next(answers)[:, row : row + starts]
            strongest.append(answer.amax(dim=1))
        return torch.cat(strongest, dim=1)
