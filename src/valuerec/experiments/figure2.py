"""The paper's Figure 2: four ways of using the learned Q, which differ in VPQ's `critic` and `recommend` alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from valuerec.experiments.cell import Cell, Figures
from valuerec.experiments.plotting import PALETTE, new_figure, styled
from valuerec.experiments.rows import CONTROLLED
from valuerec.experiments.sheets import Sheet
from valuerec.experiments.table import COLUMNS, HEADS, backbones_of, by_variant, deviation, spread, titles_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BACKBONE: Final = CONTROLLED  # unless told otherwise
WAYS: Final[Mapping[str, dict[str, Any]]] = {
    "Q-only": {"recommend": "values"},  # Q-critic's training; what is recommended, and validated, is its Q
    "CE": {"critic": "off"},
    "Q-aux": {"critic": "auxiliary"},
    "Q-critic": {},
}
FILLS: Final = {
    "Q-only": ("grey", "//"),
    "CE": ("sky", ""),
    "Q-aux": ("orange", "\\\\"),
    "Q-critic": ("vermilion", ""),
}  # colour and hatch
CAPTION: Final = (
    "VPQ's critic used in four ways: recommending by its values (Q-only), not at all (CE), by its loss as an auxiliary "
    "task (Q-aux), by its values as weights of the cross-entropy (Q-critic, equation 9). Means over seeds; error bars "
    "show standard deviations."
)


def cells(backbone: str, seeds: int, training: Mapping[str, Any], options: Mapping[str, Any]) -> list[Cell]:
    """The cells of the figure, seed by seed; `options` are `Cell`'s that were chosen for VPQ."""
    return [
        Cell(
            backbone=backbone,
            method="vpq",
            variant=way,
            seed=seed,
            training=training,
            backbone_options=options.get("backbone_options", {}),
            method_options=options.get("method_options", {}) | how,
        )
        for seed in range(seeds)
        for way, how in WAYS.items()
    ]


def draw(finished: Sequence[Figures]) -> Figure:
    """Bars in the paper's order, purchases left and clicks right.

    Args:
        finished: the cells of one backbone.
    """
    values = by_variant(finished, WAYS)
    with styled():
        figure = new_figure(8.4, 3.3)
        halves = figure.subplots(1, 2)
        for half, axes in enumerate(halves):
            kind = COLUMNS[2 * half][0]
            for place, (way, columns) in enumerate(values.items()):
                colour, hatch = FILLS[way]
                own = columns[2 * half : 2 * half + 2]
                heights = [statistics.mean(column) for column in own]
                errors = [deviation(column) for column in own]
                at = [number + (place - (len(values) - 1) / 2) * 0.2 for number in range(2)]
                axes.bar(
                    at, heights, 0.19, label=way, color=PALETTE[colour], hatch=hatch, edgecolor="white", linewidth=0
                )
                axes.errorbar(at, heights, errors, fmt="none", ecolor="black", elinewidth=1, capsize=2.5)
                for x, height, error in zip(at, heights, errors, strict=True):
                    axes.annotate(f"{height:.3f}".lstrip("0"), (x, height + error), (0, 2), textcoords="offset points",
                                  ha="center", fontsize=7)  # fmt: skip
            axes.set_title(f"({'ab'[half]})  {kind}, {titles_of(finished)}")
            axes.set(xticks=range(2), xticklabels=["HR@20", "NDCG@20"])
            axes.grid(axis="x", visible=False)
            axes.margins(y=0.12)
        handles, labels = halves[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=4)
    return figure


def sheet(finished: Sequence[Figures]) -> Sheet:
    """The figure's numbers."""
    values = by_variant(finished, WAYS)
    rows = [[way, *map(spread, columns), str(len(columns[0]))] for way, columns in values.items()]
    return Sheet(title=f"Test, {backbones_of(finished)}", head=("use of Q", *HEADS, "seeds"), groups=[rows])
