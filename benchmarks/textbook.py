"""The textbook supervised step: SASRec, cross-entropy over all items, Adam over all weights, dense throughout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from valuerec.backbones import SASRec
from valuerec.methods import Batch


def dense(backbone: nn.Module) -> nn.Module:
    """A backbone of ours with dense gradients of its item table, which is what PyTorch gives unless asked otherwise."""
    for module in backbone.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False
    return backbone


class TextbookStep:
    """What every tutorial does; call it with a batch to train.

    Args:
        n_items: N.
        window: L.
        fused: Adam in one kernel over all weights instead of PyTorch's default on this device.
        device: where to compute.
    """

    def __init__(
        self, n_items: int, window: int = 10, *, fused: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        backbone = SASRec()
        self.backbone = dense(backbone(n_items, window)).to(device).train()
        self.head = nn.Linear(backbone.width, n_items, device=device)
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=0.005, fused=fused or None)

    def __call__(self, batch: Batch) -> Tensor:
        """One step; returns the loss."""
        state_BD = self.backbone(batch.state_BL, batch.length_B)
        loss = functional.cross_entropy(self.head(state_BD), batch.action_B)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()
