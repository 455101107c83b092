"""The network that is trained: a backbone, the item head, and for methods with a critic the Q ensemble."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from valuerec.backbones import Backbone
from valuerec.errors import UsageError
from valuerec.heads import ItemHead, QEnsemble


class Network(nn.Module):
    """A backbone with heads.

    Args:
        backbone: makes the module (items[B, L], lengths[B]) → state[B, D] for a catalogue and a window.
        n_items: N, the catalogue's size.
        window: L, items in a state.
        n_heads: K, or 0 for a method without a critic.

    Raises:
        UsageError: where the backbone does not answer with one state a row.
    """

    def __init__(self, backbone: Backbone, n_items: int, window: int, n_heads: int) -> None:
        super().__init__()
        self.n_items, self.window = n_items, window
        self.backbone = backbone(n_items, window)
        width = _state_width(self.backbone, n_items, window)
        self.item_head = ItemHead(n_items, width)
        self.q_head = QEnsemble(n_items, width, n_heads) if n_heads else None

    def state(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """The backbone's state of each row, B×D."""
        state_BD: Tensor = self.backbone(items_BL, length_B)
        return state_BD


class Target(nn.Module):
    """A frozen copy of backbone and Q ensemble (the paper's Q_T), without dropout and without gradient."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        if network.q_head is None:
            raise ValueError("a network without a critic has no target")
        self.backbone = copy.deepcopy(network.backbone)
        self.q_head = copy.deepcopy(network.q_head)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def copy_from(self, network: Network) -> None:
        """Take over the network's present weights."""
        assert network.q_head is not None
        for ours, theirs in ((self.backbone, network.backbone), (self.q_head, network.q_head)):
            for own, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
                own.copy_(other)


@torch.no_grad()
def _state_width(backbone: nn.Module, n_items: int, window: int) -> int:
    """Ask the backbone for the states of two empty histories, to see how wide they are."""
    items_BL = torch.full((2, window), n_items, dtype=torch.int32)
    mode = backbone.training
    backbone.eval()
    state_BD = backbone(items_BL, torch.ones(2, dtype=torch.int32))
    backbone.train(mode)
    if not isinstance(state_BD, Tensor) or state_BD.ndim != 2 or len(state_BD) != 2:
        shape = tuple(state_BD.shape) if isinstance(state_BD, Tensor) else type(state_BD).__name__
        raise UsageError(
            f"The backbone {type(backbone).__name__} answered {shape} for items of shape (2, {window}); "
            "it must map (items[B, L], lengths[B]) to one state a row, B×D."
        )
    return state_BD.shape[1]
