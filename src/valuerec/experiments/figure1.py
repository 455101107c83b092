"""The paper's Figure 1, p-sub against p-mul on simulated unstable predictions, with equations 5–8 beside it.

The paper gives neither the Gaussian nor the uncertainties. Here a prediction is a value x_i ~ N(1, 0.25²) with an
uncertainty of its own, uniform from 0 to 0.5: independent of the value, and 0.25 on average, the σ of equation 4.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from valuerec.experiments import plotting
from valuerec.experiments.analysis import (
    p_mul,
    p_mul_maximum,
    p_sub,
    p_sub_maximum,
    value_bound_factor,
)
from valuerec.experiments.plotting import PALETTE
from valuerec.folders import explained_io, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEAN: Final = 1.0
DEVIATION: Final = 0.25
PENALTIES: Final = (0.5, 2.0, 6.0)
CATALOGUE: Final = 26_702  # the paper's Yoochoose
DISCOUNT: Final = 0.99  # section 2.1.4
WEIGHTS: Final = (0.9, 0.5)

_POINTS = 800
_SIZES = (10, 100, 1_000, 10_000, 100_000)
_SWEEP = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
_REPEATS = 200
_FORMS = {"p-sub": (p_sub, p_sub_maximum), "p-mul": (p_mul, p_mul_maximum)}
_COLOURS = dict(zip(PENALTIES, (PALETTE["sky"], PALETTE["orange"], PALETTE["vermilion"]), strict=True))
_FORM_COLOURS = {"p-sub": PALETTE["purple"], "p-mul": PALETTE["blue"]}

CAPTION: Final = (
    f"Figure 1. Simulated unstable predictions x ~ N({MEAN:g}, {DEVIATION:g}²), each with an uncertainty of its own, "
    f"uniform from 0 to {2 * DEVIATION:g} whatever its value. (a), (b): {_POINTS} predictions sorted by value (heavy "
    "black line) and what each form of penalty leaves of them (dots); coloured lines are what it leaves at the mean "
    f"uncertainty {DEVIATION:g}. (c), (d): the expected maximum over n predictions; lines are equations 5 to 7, "
    f"circles Monte Carlo means of {_REPEATS} draws. Filled circles: all predictions have the uncertainty "
    f"{DEVIATION:g}, as the equations assume. Hollow circles: uncertainties as in (a) and (b), penalised before the "
    "maximum, as an agent does; the maximum then picks the stable predictions and lies above the equations, for both "
    "forms. (e): the discount's part of the bound of equation 8 (section 2.1.4; the paper cuts 149.987 to 149.98)."
)


def figure1(out: Path, seed: int = 0) -> dict[str, Any]:
    """Draw Figure 1 and write figure1.png, figure1.pdf and figure1.json, the data behind it.

    Args:
        out: a folder, made where it is missing; files of these names are replaced.
        seed: of all draws.

    Returns:
        what figure1.json holds.

    Raises:
        UsageError: where matplotlib is not installed.
        ValuerecError: where the files cannot be written.
    """
    plotting.require_matplotlib()
    data = simulate(seed)
    with plotting.styled():
        figure = _draw(data)
    plotting.save(figure, out / "figure1")
    with explained_io(f"Writing {out / 'figure1.json'}"):
        write_json(out / "figure1.json", data)
    return data


def simulate(seed: int = 0) -> dict[str, Any]:
    """The data of the figure: lists and numbers, ready for JSON."""
    draw = np.random.default_rng(seed)
    value = np.sort(draw.normal(MEAN, DEVIATION, _POINTS))
    uncertainty = draw.uniform(0, 2 * DEVIATION, _POINTS)
    predictions = {
        "value": _rounded(value),
        "uncertainty": _rounded(uncertainty),
        "penalised": [
            {"form": form, "penalty": penalty, "value": _rounded(apply(value, uncertainty, penalty))}
            for form, (apply, _) in _FORMS.items()
            for penalty in PENALTIES
        ],
    }
    return {
        "caption": CAPTION,
        "seed": seed,
        "mean": MEAN,
        "deviation": DEVIATION,
        "repeats": _REPEATS,
        "predictions": predictions,
        "maximum_against_n": [row for n in _SIZES for row in _maxima(draw, n, (0.0, PENALTIES[1]))],
        "maximum_against_penalty": _maxima(draw, CATALOGUE, _SWEEP),
        "value_bound": [
            {"discount": DISCOUNT, "weight": weight, "factor": value_bound_factor(DISCOUNT, weight)}
            for weight in (1.0, *WEIGHTS)
        ],
    }


def _maxima(draw: np.random.Generator, n: int, penalties: tuple[float, ...]) -> list[dict[str, Any]]:
    """The mean largest penalised prediction of n, by equation and by Monte Carlo, a row for each form and penalty."""
    found: dict[tuple[str, float, str], list[float]] = {}
    for _ in range(_REPEATS):
        value = MEAN + DEVIATION * draw.standard_normal(n, dtype=np.float32)
        own = 2 * DEVIATION * draw.random(n, dtype=np.float32)
        for form, (apply, _) in _FORMS.items():
            for penalty in penalties:
                for kind, uncertainty in (("same", DEVIATION), ("own", own)):
                    largest = float(apply(value, uncertainty, penalty).max())
                    found.setdefault((form, penalty, kind), []).append(largest)
    return [
        {
            "n": n,
            "form": form,
            "penalty": penalty,
            "equation": equation(n, MEAN, DEVIATION, penalty),
            "same_uncertainty": float(np.mean(found[form, penalty, "same"])),
            "own_uncertainty": float(np.mean(found[form, penalty, "own"])),
        }
        for form, (_, equation) in _FORMS.items()
        for penalty in penalties
    ]


def _rounded(values: NDArray[Any]) -> list[float]:
    return [round(float(value), 5) for value in values]


def _draw(data: dict[str, Any]) -> Figure:
    figure = plotting.new_figure(10, 8.4)
    upper, lower, foot = list(figure.subfigures(3, 1, height_ratios=[1.05, 1, 0.27], squeeze=False)[:, 0])
    left, right = upper.subplots(1, 2, sharey=True)
    for axes, letter, form in ((left, "a", "p-sub"), (right, "b", "p-mul")):
        _draw_predictions(axes, data["predictions"], form)
        formula = "x − λ·Unc" if form == "p-sub" else "x / (1 + λ·Unc)"
        axes.set_title(f"({letter})  {form}:  {formula}")
    left.set_ylabel("penalised value")
    right.legend(loc="lower right", ncols=2)
    against_n, against_penalty, bound = lower.subplots(1, 3)
    _draw_against_n(against_n, data)
    _draw_against_penalty(against_penalty, data)
    _draw_bound(bound, data)
    foot.text(0.008, 0.98, textwrap.fill(data["caption"], 166), va="top", fontsize=8.2, linespacing=1.35)
    return figure


def _draw_predictions(axes: Axes, predictions: dict[str, Any], form: str) -> None:
    value = np.array(predictions["value"])
    place = np.arange(len(value))
    apply, _ = _FORMS[form]
    axes.axhline(0, color=PALETTE["grey"], linewidth=0.8)
    axes.plot(place, value, color=PALETTE["black"], linewidth=3.2, label="x, no penalty", zorder=3)
    for series in predictions["penalised"]:
        if series["form"] == form:
            penalty, colour = series["penalty"], _COLOURS[series["penalty"]]
            axes.plot(place, series["value"], ".", markersize=3.6, alpha=0.55, markeredgewidth=0, color=colour)
            axes.plot(place, apply(value, DEVIATION, penalty), color=colour, label=f"λ = {penalty:g}", zorder=2.5)
    axes.set_xlabel("predictions, sorted by value x")
    axes.margins(x=0.01)


def _draw_against_n(axes: Axes, data: dict[str, Any]) -> None:
    penalty = PENALTIES[1]
    n = np.unique(np.geomspace(_SIZES[0], _SIZES[-1], 60).astype(int))
    rows = data["maximum_against_n"]
    series = [
        ("none (eq. 5)", PALETTE["black"], p_sub_maximum, "p-sub", 0.0),
        ("p-mul (eq. 7)", _FORM_COLOURS["p-mul"], p_mul_maximum, "p-mul", penalty),
        ("p-sub (eq. 6)", _FORM_COLOURS["p-sub"], p_sub_maximum, "p-sub", penalty),
    ]
    for label, colour, equation, form, strength in series:
        axes.plot(n, [equation(int(each), MEAN, DEVIATION, strength) for each in n], color=colour, label=label)
        own = [row for row in rows if row["form"] == form and row["penalty"] == strength]
        _draw_points(axes, [row["n"] for row in own], own, colour)
    axes.set_xscale("log")
    axes.set_xlabel("number of predictions n")
    axes.set_ylabel("largest penalised value, on average")
    axes.set_title(f"(c)  expected maximum, λ = {penalty:g}")
    axes.legend(loc="upper left")


def _draw_against_penalty(axes: Axes, data: dict[str, Any]) -> None:
    penalties = np.linspace(_SWEEP[0], _SWEEP[-1], 60)
    axes.axhline(0, color=PALETTE["grey"], linewidth=0.8)
    for form, (_, equation) in _FORMS.items():
        colour = _FORM_COLOURS[form]
        line = [equation(CATALOGUE, MEAN, DEVIATION, float(penalty)) for penalty in penalties]
        axes.plot(penalties, line, color=colour)
        own = [row for row in data["maximum_against_penalty"] if row["form"] == form]
        _draw_points(axes, [row["penalty"] for row in own], own, colour)
    axes.set_xlabel("penalty λ")
    axes.set_title(f"(d)  expected maximum, n = {CATALOGUE:,}")
    for label, face in (("same uncertainty", PALETTE["grey"]), ("each its own", "white")):
        axes.plot([], [], "o", markersize=4.5, color=PALETTE["grey"], markerfacecolor=face, label=label)
    axes.legend(loc="lower left", handles=axes.get_legend_handles_labels()[0][-2:])


def _draw_points(axes: Axes, place: list[float], rows: list[dict[str, Any]], colour: str) -> None:
    axes.plot(place, [row["same_uncertainty"] for row in rows], "o", color=colour, markersize=4.5)
    own = [row["own_uncertainty"] if row["penalty"] else np.nan for row in rows]  # without a penalty they are the same
    axes.plot(place, own, "o", color=colour, markersize=5, markerfacecolor="white", markeredgewidth=1.2)


def _draw_bound(axes: Axes, data: dict[str, Any]) -> None:
    weight = np.linspace(0.05, 1, 200)
    axes.plot(weight, [value_bound_factor(DISCOUNT, float(each)) for each in weight], color=PALETTE["green"])
    for row in data["value_bound"]:
        axes.plot(row["weight"], row["factor"], "o", color=PALETTE["green"], markersize=5)
        axes.annotate(
            f"W = {row['weight']:g}:  {row['factor']:,.{2 if row['factor'] < 1000 else 0}f}",
            (row["weight"], row["factor"]),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
        )
    axes.set_yscale("log")
    axes.set_xlabel("uncertainty-aware weight W")
    axes.set_title(f"(e)  2γW / (1 − γW)²,  γ = {DISCOUNT:g}")
