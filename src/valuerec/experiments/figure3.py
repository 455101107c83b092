"""The paper's Figure 3: VPQ's penalty swept from 0, which is REM, up, where only the immediate reward is left."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from valuerec.experiments.cell import Cell, Figures
from valuerec.experiments.plotting import PALETTE, new_figure, styled
from valuerec.experiments.sheets import Sheet
from valuerec.experiments.table import COLUMNS, HEADS, backbones_of, by_variant, deviation, spread, titles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKBONE: Final = "nextitnet"  # the paper's, unless told otherwise
PENALTIES: Final = (0, 1, 5, 10, 20, 40, 60, 80, 100)
IMMEDIATE: Final = "discount=0"  # the target is the reward alone, as with a penalty without end


def variant(penalty: float) -> str:
    """What the cells of a penalty are called."""
    return f"penalty={penalty:g}"


NAMES: Final = (*map(variant, PENALTIES), IMMEDIATE)
CAPTION: Final = (
    "VPQ with the penalty λ of equation 3 swept. λ = 0 is REM; the dashed line is the other end, a critic of the "
    "immediate reward (γ = 0). Means over seeds; bands and whiskers show standard deviations. The axis is not to scale."
)


def cells(backbone: str, seeds: int, training: Mapping[str, Any], options: Mapping[str, Any]) -> list[Cell]:
    """The cells of the figure, seed by seed; `options` are `Cell`'s that were chosen for the backbone."""
    variants: dict[str, dict[str, Any]] = {variant(penalty): {"penalty": penalty} for penalty in PENALTIES}
    variants[IMMEDIATE] = {"discount": 0.0}
    return [
        Cell(
            backbone=backbone,
            method="vpq",
            variant=name,
            seed=seed,
            training=training,
            backbone_options=options.get("backbone_options", {}),
            method_options=how,
        )
        for seed in range(seeds)
        for name, how in variants.items()
    ]


def draw(finished: Sequence[Figures]) -> Figure:
    """A panel a column of the table.

    Args:
        finished: the cells of one backbone.
    """
    values = by_variant(finished, NAMES)
    with styled():
        figure = new_figure(8.4, 6)
        panels = figure.subplots(2, 2, sharex=True)
        for column, axes in enumerate(panels.flat):
            kind, metric = COLUMNS[column]
            _draw_panel(axes, {name: columns[column] for name, columns in values.items()})
            axes.set_title(f"({'abcd'[column]})  {kind} {metric.upper()}, {titles_of(finished)}")
        for axes in panels[1]:
            axes.set_xlabel("penalty λ")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        figure.set_layout_engine("constrained", h_pad=0.1)
    return figure


def _draw_panel(axes: Axes, values: Mapping[str, Sequence[float]]) -> None:
    swept = [penalty for penalty in PENALTIES if variant(penalty) in values]
    places = [PENALTIES.index(penalty) for penalty in swept]
    means = [statistics.mean(values[variant(penalty)]) for penalty in swept]
    errors = [deviation(values[variant(penalty)]) for penalty in swept]
    low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)] for sign in (-1, 1))
    red, blue, green = (PALETTE[name] for name in ("vermilion", "blue", "green"))
    axes.fill_between(places, low, high, color=red, alpha=0.18, linewidth=0)
    axes.plot(places, means, "o-", color=red, markersize=4.5, label="VPQ")
    if 0 in swept:
        axes.plot(0, means[0], "s", color=blue, markersize=7, zorder=3, label="λ = 0: REM")
    end = len(PENALTIES) + 0.4
    if IMMEDIATE in values:
        mean, error = statistics.mean(values[IMMEDIATE]), deviation(values[IMMEDIATE])
        axes.axhline(mean, color=green, linestyle="--", linewidth=1)
        axes.errorbar(
            end, mean, error, fmt="D", color=green, capsize=3, markersize=5, label="γ = 0: immediate reward alone"
        )
    axes.set_xticks([*range(len(PENALTIES)), end], [*map(str, PENALTIES), "γ = 0"])
    axes.margins(x=0.05, y=0.12)


def sheet(finished: Sequence[Figures]) -> Sheet:
    """The figure's numbers."""
    rows = [
        [name.replace("penalty=", "λ = ").replace(IMMEDIATE, "γ = 0"), *map(spread, columns), str(len(columns[0]))]
        for name, columns in by_variant(finished, NAMES).items()
    ]
    return Sheet(title=f"Test, {backbones_of(finished)}-vpq", head=("penalty", *HEADS, "seeds"), groups=[rows])
