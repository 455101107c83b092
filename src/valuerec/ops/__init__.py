"""Catalogue-sized primitives: each a plain reference and a fast version that equals it.

Shapes: B batch, N items, K heads, D state width, T items of a tile.
"""

from valuerec.ops.cross_entropy import plain_weighted_cross_entropy, weighted_cross_entropy
from valuerec.ops.maximum import Score, maximum, plain_maximum
from valuerec.ops.top import top

__all__ = [
    "Score",
    "maximum",
    "plain_maximum",
    "plain_weighted_cross_entropy",
    "top",
    "weighted_cross_entropy",
]
