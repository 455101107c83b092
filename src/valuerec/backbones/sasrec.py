"""SASRec (Kang & McAuley, ICDM 2018), in the form that SQN, SAC and VPQ were measured with.

One causal self-attention block over the last L items. The published family's particulars are kept: LayerNorm on the
queries only, no output projection, the residual adds the normalised query, padding is masked to zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from valuerec.backbones.common import check_dropout, check_width, real_items
from valuerec.backbones.dropout import Dropout


@dataclass(frozen=True, kw_only=True)
class SASRec:
    """What a SASRec backbone is made of; call it with a catalogue to build one.

    Args:
        width: D, the state's width (paper: 64).
        dropout: rate of dropout (released code: 0.1).
    """

    width: int = 64
    dropout: float = 0.1

    name = "sasrec"

    def __post_init__(self) -> None:
        check_width("SASRec", self.width)
        check_dropout("SASRec", self.dropout)

    def __call__(self, n_items: int, window: int) -> SASRecEncoder:
        """Build the encoder for a catalogue of `n_items` and states of `window` items."""
        return SASRecEncoder(n_items, window, self)


class SASRecEncoder(nn.Module):
    """(items[B, L], lengths[B]) → state[B, D]: the block's output at the last item."""

    def __init__(self, n_items: int, window: int, config: SASRec) -> None:
        super().__init__()
        width = config.width
        self.n_items, self.state_width = n_items, width
        self.item = nn.Embedding(n_items + 1, width, sparse=True)  # a step touches few of its rows
        self.position = nn.Parameter(torch.empty(window, width))
        self.query_norm = nn.LayerNorm(width, eps=1e-8)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.feed, self.forth = nn.Linear(width, width), nn.Linear(width, width)
        self.state_norm = nn.LayerNorm(width, eps=1e-8)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=0.01)
        nn.init.normal_(self.position, std=0.01)
        for layer in (self.query, self.key, self.value, self.feed, self.forth):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """Encode the last L items, right-padded with N.

        Causality lets the last item see all items before it and nothing else look at it, and the only state asked
        for is the last one's: one query a row is enough.
        """
        real_BL = real_items(items_BL, length_B, self.n_items)
        items_BLD = self.dropout(self.item(items_BL) + self.position) * real_BL.unsqueeze(2)
        row_B = torch.arange(items_BL.shape[0], device=items_BL.device)
        last_B = length_B.long() - 1
        known_B1 = real_BL[row_B, last_B].unsqueeze(1)
        query_BD = self.query_norm(items_BLD[row_B, last_B])
        # One query a row needs no L keys and values: q · (Kx + b) = (Kᵀq) · x + q · b, Σ a (Vx + b) = V Σ ax + b Σ a.
        asked_BD = self.query(query_BD)
        match_BL = torch.einsum("bd,bld->bl", asked_BD @ self.key.weight, items_BLD) + asked_BD @ self.key.bias[:, None]
        match_BL = match_BL / math.sqrt(query_BD.shape[1])
        # A finite mask, as in the original: an empty history attends evenly to nothing and is zeroed below.
        attention_BL = match_BL.masked_fill(~real_BL, -(2.0**32)).softmax(dim=1) * known_B1
        attended_BD = torch.einsum("bl,bld->bd", attention_BL, items_BLD)
        mixed_BD = query_BD + attended_BD @ self.value.weight.t() + known_B1 * self.value.bias
        inner_BD = self.dropout(functional.relu(self.feed(mixed_BD)))
        state_BD = mixed_BD + self.dropout(self.forth(inner_BD))
        state: Tensor = self.state_norm(state_BD * known_B1)
        return state
