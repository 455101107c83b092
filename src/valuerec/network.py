"""The network that is trained: a backbone, the item head, and for methods with a critic the Q ensemble."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn

from valuerec import ops
from valuerec.backbones import BACKBONES, Backbone
from valuerec.errors import UsageError
from valuerec.heads import ENSEMBLES, ItemHead, QEnsemble

Recommend = Literal["items", "values"]
RECOMMEND: Final[tuple[Recommend, ...]] = ("items", "values")  # what orders the catalogue: the item head, or the mean Q


class Network(nn.Module):
    """A backbone with heads.

    Args:
        backbone: makes the module (items[B, L], lengths[B]) → state[B, D] for a catalogue and a window.
        n_items: N, the catalogue's size.
        window: L, items in a state.
        n_heads: K, or 0 for a method without a critic.
        ensemble: "full" or "factored" Q-heads (`valuerec.heads.ENSEMBLES`).
        engine: how the catalogue-sized work is done (`valuerec.ops.Engine`).
        sparse: whether a step touches few rows of the Q-heads (`valuerec.heads.QEnsemble`).

    Raises:
        UsageError: where the backbone can't be built, or does not answer with one state a row.
    """

    def __init__(
        self,
        backbone: Backbone,
        n_items: int,
        window: int,
        n_heads: int,
        ensemble: str = "full",
        engine: ops.Engine = "tiled",
        sparse: bool = True,
    ) -> None:
        super().__init__()
        self.n_items, self.window, self.engine = n_items, window, engine
        self.backbone = _built(backbone, n_items, window)
        width = _state_width(self.backbone, n_items, window)
        self.item_head = ItemHead(n_items, width)
        self.q_head: QEnsemble | None = None
        if n_heads:
            self.q_head = ENSEMBLES[ensemble](n_items, width, n_heads, sparse)

    def state(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """The backbone's state of each row, B×D."""
        state_BD: Tensor = self.backbone(items_BL, length_B)
        return state_BD

    def ranker(self, by: Recommend) -> tuple[Tensor, Tensor]:
        """What orders the catalogue at a state, as weight_ND and bias_N: the item head, or the mean of the Q-heads.

        Raises:
            UsageError: for values, where there is no critic.
        """
        if by == "items":
            return self.item_head.weight_ND, self.item_head.bias_N
        if self.q_head is None:
            raise UsageError("There is no critic here whose values could recommend; recommend by items.")
        return self.q_head.mean()

    def cross_entropy(self, state_BD: Tensor, action_B: Tensor, importance_B: Tensor) -> tuple[Tensor, Tensor]:
        """The item head's weighted mean cross-entropy of the logged items, and each row's own without gradient."""
        head = self.item_head
        weighted = ops.CROSS_ENTROPY[self.engine]
        return weighted(state_BD, head.weight_ND, head.bias_N, action_B, importance_B)


@torch.no_grad()
def _built(backbone: Backbone, n_items: int, window: int) -> nn.Module:
    """The module of a backbone, whatever somebody gives for one."""
    name = getattr(backbone, "__name__", type(backbone).__name__)
    if backbone in BACKBONES.values():
        raise UsageError(f"The backbone is the class {name}; give its configuration, {name}().")
    if isinstance(backbone, nn.Module) or not callable(backbone):
        raise UsageError(
            f"The backbone is a {name}; give a class or a function that is called with (n_items, window) and answers a "
            "torch.nn.Module."
        )
    try:
        module = backbone(n_items, window)
    except (TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"The backbone {name} can't be built by (n_items, window): {_first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"The backbone {name} answered {type(module).__name__}, and no torch.nn.Module.")
    return module


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _state_width(backbone: nn.Module, n_items: int, window: int) -> int:
    """How wide a backbone's states are: what it says, or else what it answers for two empty histories.

    What ours say lets them be built without memory (`torch.device("meta")`), where nothing can be asked.
    """
    if isinstance(known := getattr(backbone, "state_width", None), int):
        return known
    items_BL = torch.full((2, window), n_items, dtype=torch.int32)
    mode = backbone.training
    backbone.eval()
    try:
        state_BD = backbone(items_BL, torch.ones(2, dtype=torch.int32))
    except Exception as error:  # whatever somebody's own code may raise
        raise UsageError(
            f"The backbone {type(backbone).__name__} failed on items of shape (2, {window}) and lengths of shape (2,), "
            f"both int32; it must map (items[B, L], lengths[B]) to one state a row, B×D: {_first_line(error)}"
        ) from error
    backbone.train(mode)
    if not isinstance(state_BD, Tensor) or state_BD.ndim != 2 or len(state_BD) != 2:
        shape = tuple(state_BD.shape) if isinstance(state_BD, Tensor) else type(state_BD).__name__
        raise UsageError(
            f"The backbone {type(backbone).__name__} answered {shape} for items of shape (2, {window}); "
            "it must map (items[B, L], lengths[B]) to one state a row, B×D."
        )
    return state_BD.shape[1]
