"""Sequential recommenders that turn the last items into a state: (items[B, L], lengths[B]) → state[B, D].

A backbone is any callable `(n_items, window) → torch.nn.Module` whose module has that signature: one of the
configurations here, or somebody's own class. Items and lengths are int32. Item index N pads on the right; a length is
at least 1, so that an empty history is one item N. A backbone of ours gives the same state whatever stands after the
length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn

from valuerec.backbones.caser import Caser
from valuerec.backbones.gru4rec import GRU4Rec
from valuerec.backbones.nextitnet import NextItNet
from valuerec.backbones.sasrec import SASRec
from valuerec.errors import UsageError

Backbone = Callable[[int, int], nn.Module]

BACKBONES: Final[dict[str, Callable[..., Backbone]]] = {
    backbone.name: backbone for backbone in (SASRec, NextItNet, Caser, GRU4Rec)
}


def backbone_named(name: str) -> Callable[..., Backbone]:
    """The configuration class of a backbone by its command-line name.

    Raises:
        UsageError: where there is none.
    """
    if name not in BACKBONES:
        raise UsageError(f"There is no backbone named {name!r}; choose one of: {', '.join(BACKBONES)}.")
    return BACKBONES[name]


__all__ = ["BACKBONES", "Backbone", "Caser", "GRU4Rec", "NextItNet", "SASRec", "backbone_named"]
