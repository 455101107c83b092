"""The report's own pictures: learning curves, and how values, spreads and weights lie."""

from __future__ import annotations

import base64
import io
import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from valuerec.experiments.cell import Figures
from valuerec.experiments.figure2 import FILLS
from valuerec.experiments.plotting import PALETTE, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS: Final[Mapping[str, tuple[str, str]]] = {  # colour and dash, so that neither is needed alone
    "supervised": ("black", "-"),
    "sac": ("grey", "--"),
    "rem": ("sky", "-"),
    "minus": ("green", "--"),
    "cql": ("purple", "-"),
    "uwac": ("orange", "--"),
    "vpq": ("vermilion", "-"),
    "reward-weighted": ("blue", ":"),
    "return-weighted": ("sky", ":"),
    "sarsa": ("green", ":"),
    "shuffled": ("orange", ":"),
    "immediate": ("purple", ":"),
    **{way: (colour, "--" if hatch else "-") for way, (colour, hatch) in FILLS.items()},
}
_OTHER_LOOKS: Final = [(name, dash) for dash in ("-", "--", ":") for name in ("vermilion", "blue", "green", "black")]
_PHONE: Final = 3.4  # inches: what is drawn for a phone's width is read on a phone


class Picture(NamedTuple):
    """An image within the page, and what it says to those who do not see it."""

    source: str
    alt: str
    caption: str = ""


def inline(figure: Figure) -> str:
    """A figure as a `data:` address of a PNG."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=180, metadata={"Software": None})
    return address(written.getvalue())


def address(png: bytes) -> str:
    """A PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def learning_curves(title: str, cells: Sequence[Figures]) -> Picture:
    """The validation score by step, a line a seed; a colour a method, or a variant where the cells have any."""
    with styled():
        figure = new_figure(_PHONE, 3.2)
        axes = figure.subplots()
        seen: list[float] = []
        for name, (colour, dash) in _looks(cells).items():
            own = [cell for cell in cells if _label(cell) == name and cell["curve"]]
            for place, cell in enumerate(own):
                steps, scores = zip(*cell["curve"], strict=True)
                label = name if place == 0 else None
                axes.plot(steps, scores, dash, color=PALETTE[colour], linewidth=1.1, alpha=0.85, label=label)
                best = scores.index(max(scores))
                axes.plot(steps[best], scores[best], ".", color=PALETTE[colour], markersize=5)
                seen += scores
        if seen:  # the first validations would press all others together; what is below the tenth of them is cut off
            low, high = (float(edge) for edge in np.quantile(seen, (0.1, 1)))
            if high > low:
                axes.set_ylim(low - 0.1 * (high - low), high + 0.05 * (high - low))
        axes.set(title=title, xlabel="steps", ylabel="validation score")
        figure.legend(loc="outside lower center", ncols=3, fontsize=7.5, handlelength=1.6, columnspacing=1)
        source = inline(figure)
    return Picture(source, f"Validation score by training step: {title}")


def value_pictures(title: str, cells: Sequence[Figures]) -> list[Picture]:
    """Q(s,a), its SD over the heads and W on held-out logged actions, an outline a seed; none without histograms."""
    shown = {"value": "Q(s,a), mean of heads", "spread": "SD over heads", "weight": "W = 1 / (1 + λ SD)"}
    pictures = []
    for name, label in shown.items():
        own = [cell for cell in cells if name in (cell.get("histograms") or {}) and _varies(cell, name)]
        if not own:
            continue
        means: dict[str, list[float]] = {}
        with styled():
            figure = new_figure(_PHONE, 2.6)
            axes = figure.subplots()
            for method, (colour, dash) in _looks(own).items():
                for cell in (cell for cell in own if _label(cell) == method):
                    first = method not in means
                    means.setdefault(method, []).append(cell["histograms"][name]["mean"])
                    axes.stairs(*outline_of(cell, name), alpha=0.8, linewidth=1.2, color=PALETTE[colour],
                                linestyle=dash, label=method if first else None)  # fmt: skip
            if name == "weight":
                axes.set_xscale("log")
            axes.set(title=title, xlabel=label, yticks=[])
            axes.grid(False)
            figure.legend(loc="outside lower center", ncols=3, fontsize=7.5, handlelength=1.6, columnspacing=1)
            source = inline(figure)
        told = ", ".join(f"{method} {statistics.mean(each):.3f}" for method, each in means.items())
        pictures.append(Picture(source, f"Histogram of {label}: {title}", f"{title}, mean: {told}"))
    return pictures


def _label(cell: Figures) -> str:
    return str(cell["variant"] or cell["method"])


def _looks(cells: Sequence[Figures]) -> dict[str, tuple[str, str]]:
    """Colour and dash of each label, in order; a method's are its own."""
    labels = dict.fromkeys(_label(cell) for cell in cells)
    own = {name: look for name, look in _LOOKS.items() if name in labels}
    others = zip((name for name in labels if name not in own), itertools.cycle(_OTHER_LOOKS), strict=False)
    return own | dict(others)


def _varies(cell: Figures, name: str) -> bool:
    """Whether there is anything to see: a single head has no spread."""
    return bool(cell["histograms"][name]["high"] > cell["histograms"][name]["low"])


def outline_of(cell: Figures, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A cell's histogram as it is drawn: the heights of its bins, the highest 1, and the bins' edges, rising.

    Weights are drawn of the spreads' bins, as W falls with them: equal bins of W would put nearly all into the first.
    Their axis is logarithmic, and so heights are counts over widths there.

    Args:
        cell: with histograms.
        name: value, spread or weight (equation 3).
    """
    histogram = cell["histograms"][name if name != "weight" else "spread"]
    counts = np.array(histogram["counts"], dtype=float)
    edges = np.linspace(histogram["low"], histogram["high"], len(counts) + 1)
    if name == "weight":
        counts, edges = counts[::-1], (1 / (1 + cell["options"]["method"]["penalty"] * edges))[::-1]
        counts = counts / np.diff(np.log(edges))
    return counts / counts.max(), edges
