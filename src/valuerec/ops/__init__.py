"""Catalogue-sized primitives: each a plain reference and fast versions that equal it.

Shapes: B batch, N items, K heads, D state width, T items of a tile.
"""

from valuerec.ops.cross_entropy import (
    float_weighted_cross_entropy,
    mixed_weighted_cross_entropy,
    plain_weighted_cross_entropy,
)
from valuerec.ops.engine import CROSS_ENTROPY, ENGINES, Engine, choose_engine
from valuerec.ops.exact import (
    FloatScreen,
    LinearHead,
    LowScreen,
    Ranked,
    fastest_screen,
    longest_row,
    plain_products,
    products,
)
from valuerec.ops.maximum import (
    Best,
    Penalty,
    Score,
    Tiles,
    can_prune,
    factored_tiles,
    full_tiles,
    linear_maximum,
    plain_maximum,
    pruned_maximum,
    tiled_maximum,
)
from valuerec.ops.penalised import penalised_candidates
from valuerec.ops.row_step import native_row_step, plain_row_step
from valuerec.ops.sketch import MixtureSketch, Sketch
from valuerec.ops.top import top

__all__ = [
    "CROSS_ENTROPY",
    "ENGINES",
    "Best",
    "Engine",
    "FloatScreen",
    "LinearHead",
    "LowScreen",
    "MixtureSketch",
    "Penalty",
    "Ranked",
    "Score",
    "Sketch",
    "Tiles",
    "can_prune",
    "choose_engine",
    "factored_tiles",
    "fastest_screen",
    "float_weighted_cross_entropy",
    "full_tiles",
    "linear_maximum",
    "longest_row",
    "mixed_weighted_cross_entropy",
    "native_row_step",
    "penalised_candidates",
    "plain_maximum",
    "plain_products",
    "plain_row_step",
    "plain_weighted_cross_entropy",
    "products",
    "pruned_maximum",
    "tiled_maximum",
    "top",
]
