"""The paper's Figure 3: VPQ's penalty swept from 0, which is REM, up, where only the immediate reward is left."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from valuerec.experiments.cell import Cell, Figures
from valuerec.experiments.plotting import PALETTE, new_figure, styled
from valuerec.experiments.sheets import Sheet
from valuerec.experiments.table import COLUMNS, HEADS, by_variant, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def cells(backbone: str, seeds: int, training: Mapping[str, Any]) -> list[Cell]:
    """The cells of the figure, seed by seed."""
    variants: dict[str, dict[str, Any]] = {variant(penalty): {"penalty": penalty} for penalty in PENALTIES}
    variants[IMMEDIATE] = {"discount": 0.0}
    return [
        Cell(backbone=backbone, method="vpq", variant=name, seed=seed, training=training, method_options=options)
        for seed in range(seeds)
        for name, options in variants.items()
    ]


def draw(finished: Sequence[Figures]) -> Figure:
    """A panel a column of the table.

    Args:
        finished: the cells of one backbone.
    """
    values = by_variant(finished, NAMES)
    with styled():
        figure = new_figure(8.4, 5.6)
        for column, axes in enumerate(figure.subplots(2, 2, sharex=True).flat):
            kind, metric = COLUMNS[column]
            _draw_panel(axes, {name: columns[column] for name, columns in values.items()})
            axes.set_title(f"({'abcd'[column]})  {kind} {metric.upper()}")
            if column >= 2:
                axes.set_xlabel("λ")
    return figure


def _draw_panel(axes: Axes, values: Mapping[str, Sequence[float]]) -> None:
    swept = [penalty for penalty in PENALTIES if variant(penalty) in values]
    places = [PENALTIES.index(penalty) for penalty in swept]
    means = [statistics.mean(values[variant(penalty)]) for penalty in swept]
    errors = [_deviation(values[variant(penalty)]) for penalty in swept]
    low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)] for sign in (-1, 1))
    axes.fill_between(places, low, high, color=PALETTE["vermilion"], alpha=0.18, linewidth=0)
    axes.plot(places, means, "o-", color=PALETTE["vermilion"], markersize=4.5)
    if 0 in swept:
        axes.plot(0, means[0], "s", color=PALETTE["blue"], markersize=7, zorder=3)
        axes.annotate("REM", (0, means[0]), (8, 0), textcoords="offset points", color=PALETTE["blue"], va="center")
    end = len(PENALTIES)
    if IMMEDIATE in values:
        mean = statistics.mean(values[IMMEDIATE])
        axes.axhline(mean, color=PALETTE["green"], linestyle="--", linewidth=1)
        axes.errorbar(
            end, mean, _deviation(values[IMMEDIATE]), fmt="D", color=PALETTE["green"], capsize=3, markersize=5
        )
    axes.set_xticks(range(end + 1), [*map(str, PENALTIES), "γ = 0"])
    axes.margins(x=0.05, y=0.12)


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def sheet(finished: Sequence[Figures]) -> Sheet:
    """The figure's numbers."""
    rows = [
        [name.replace("penalty=", "λ = ").replace(IMMEDIATE, "γ = 0"), str(len(columns[0])), *map(spread, columns)]
        for name, columns in by_variant(finished, NAMES).items()
    ]
    backbones = ", ".join(dict.fromkeys(cell["backbone"] for cell in finished))
    return Sheet(title=f"Test, {backbones}-vpq", head=("penalty", "seeds", *HEADS), groups=[rows])
