"""The network that is trained: a backbone, the item head, and for methods with a critic the Q ensemble."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from valuerec import ops
from valuerec.backbones import Backbone
from valuerec.errors import UsageError
from valuerec.heads import ENSEMBLES, FullHeads, ItemHead, QEnsemble

_ROWS_AT_ONCE = 4096


class Network(nn.Module):
    """A backbone with heads.

    Args:
        backbone: makes the module (items[B, L], lengths[B]) → state[B, D] for a catalogue and a window.
        n_items: N, the catalogue's size.
        window: L, items in a state.
        n_heads: K, or 0 for a method without a critic.
        ensemble: "full" or "factored" Q-heads (`valuerec.heads.ENSEMBLES`).
        engine: how the catalogue-sized work is done (`valuerec.ops.Engine`).

    Raises:
        UsageError: where the backbone does not answer with one state a row.
    """

    def __init__(
        self,
        backbone: Backbone,
        n_items: int,
        window: int,
        n_heads: int,
        ensemble: str = "full",
        engine: ops.Engine = "tiled",
    ) -> None:
        super().__init__()
        self.n_items, self.window, self.engine = n_items, window, engine
        self.backbone = backbone(n_items, window)
        width = _state_width(self.backbone, n_items, window)
        self.item_head = ItemHead(n_items, width)
        self.q_head: QEnsemble | None = ENSEMBLES[ensemble](n_items, width, n_heads) if n_heads else None

    def state(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """The backbone's state of each row, B×D."""
        state_BD: Tensor = self.backbone(items_BL, length_B)
        return state_BD

    def cross_entropy(self, state_BD: Tensor, action_B: Tensor, importance_B: Tensor) -> tuple[Tensor, Tensor]:
        """The item head's weighted mean cross-entropy of the logged items, and each row's own without gradient."""
        head = self.item_head
        weighted = ops.CROSS_ENTROPY[self.engine]
        return weighted(state_BD, head.weight_ND, head.bias_N, action_B, importance_B)


class Target(nn.Module):
    """A frozen copy of backbone and Q ensemble (the paper's Q_T), without dropout and without gradient."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        if network.q_head is None:
            raise ValueError("a network without a critic has no target")
        self.backbone = copy.deepcopy(network.backbone)
        self.q_head = copy.deepcopy(network.q_head)
        self.engine = network.engine
        # Before the first copy the heads are fresh: nothing can be ruled out, so there is nothing to sketch.
        self._sketch: ops.Sketch | None = None
        self._fresh = True
        self.register_load_state_dict_post_hook(Target._loaded)  # type: ignore[no-untyped-call]
        self.requires_grad_(False).eval()

    @staticmethod
    def _loaded(target: nn.Module, _: object) -> None:
        """Weights from elsewhere: no sketch is of them, and they may be trained."""
        assert isinstance(target, Target)
        target._sketch, target._fresh = None, False

    @torch.no_grad()
    def copy_from(self, network: Network) -> None:
        """Take over the network's present weights; of the Q ensemble, the rows that have changed."""
        assert network.q_head is not None
        for own, other in zip(self.backbone.state_dict().values(), network.backbone.state_dict().values(), strict=True):
            own.copy_(other)
        ours, theirs = self.q_head, network.q_head
        if self._prunes() and self._sketch is None:
            self._sketch = ops.Sketch(*ours.whole(), refined=not self._fresh)
        self._fresh = False
        tables = set(ours.tables())
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            if own not in tables:
                own.copy_(other)
        for start in range(0, ours.n_items, _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            pairs = list(zip(ours.tables(), theirs.tables(), strict=True))
            differs_T = torch.stack([(own[part] != other[part]).any(dim=1) for own, other in pairs]).any(dim=0)
            changed_T = differs_T.nonzero().flatten() + start
            for own, other in pairs:
                own[changed_T] = other[changed_T]
            if self._sketch is not None:
                self._sketch.update(*ours.whole(), changed_T)

    def _prunes(self) -> bool:
        return self.engine == "native" and isinstance(self.q_head, FullHeads)

    @torch.no_grad()
    def best(self, state_BD: Tensor, mixture_K: Tensor, score: ops.Score, penalty: ops.Penalty | None) -> ops.Best:
        """The best score of each state over the whole catalogue.

        Args:
            state_BD: states.
            mixture_K: α.
            score: the formula to maximise, of mixture and spread.
            penalty: the same formula in a form that can be pruned, where it has one.
        """
        heads = self.q_head
        prunes = self._prunes() and not self._fresh and ops.can_prune(penalty, heads.n_heads, state_BD.dtype)
        if prunes and penalty is not None:
            self._sketch = self._sketch or ops.Sketch(*heads.whole())
            return ops.pruned_maximum(state_BD, *heads.whole(), mixture_K, penalty, self._sketch)
        if self.engine == "plain":
            value_B, item_B = ops.plain_maximum(state_BD, *heads.whole(), mixture_K, score)
        else:
            value_B, item_B = ops.tiled_maximum(heads.tiles(state_BD), mixture_K, score)
        return ops.Best(value_B, item_B, float(heads.n_items), len(state_BD))


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
