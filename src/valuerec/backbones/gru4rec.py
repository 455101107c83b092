"""GRU4Rec's network (Hidasi et al., ICLR 2016): one GRU over the last items; its losses are the methods' business.

The cell is PyTorch's, which resets the product of the old state (as cuDNN does), with PyTorch's initial weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from valuerec.backbones.common import check_width


@dataclass(frozen=True, kw_only=True)
class GRU4Rec:
    """What a GRU backbone is made of; call it with a catalogue to build one.

    Args:
        width: D, the width of an item's vector and of the state (released code: 64).
    """

    width: int = 64

    name = "gru4rec"

    def __post_init__(self) -> None:
        check_width("GRU4Rec", self.width)

    def __call__(self, n_items: int, window: int) -> GRU4RecEncoder:
        """Build the encoder for a catalogue of `n_items`; it takes states of any window."""
        return GRU4RecEncoder(n_items, self)


class GRU4RecEncoder(nn.Module):
    """(items[B, L], lengths[B]) → state[B, D]: the GRU's state after the last item."""

    def __init__(self, n_items: int, config: GRU4Rec) -> None:
        super().__init__()
        self.state_width = config.width
        self.item = nn.Embedding(n_items + 1, config.width, sparse=True)  # a step touches few of its rows
        self.gru = nn.GRU(config.width, config.width, batch_first=True)
        nn.init.normal_(self.item.weight, std=0.01)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """Encode the last L items, right-padded with N.

        Nothing is masked: an empty history, of length 1, is the item N, whose vector learns how a session begins.
        """
        packed = pack_padded_sequence(self.item(items_BL), length_B.cpu(), batch_first=True, enforce_sorted=False)
        _, state_1BD = self.gru(packed)
        state: Tensor = state_1BD[0]
        return state

    def dense(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """`forward` for whole windows, in operations that ONNX has: what stands after the length comes too late."""
        state_BLD, _ = self.gru(self.item(items_BL))
        state: Tensor = state_BLD[torch.arange(items_BL.shape[0], device=items_BL.device), length_B.long() - 1]
        return state
