"""The report's own pictures: learning curves, and how values, spreads and weights lie."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from valuerec.experiments.cell import Figures
from valuerec.experiments.plotting import PALETTE, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
}
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
    """The validation score by step, a line a seed, a colour a method."""
    with styled():
        figure = new_figure(_PHONE, 3.2)
        axes = figure.subplots()
        for method, (colour, dash) in _LOOKS.items():
            own = [cell for cell in cells if cell["method"] == method and cell["curve"]]
            for place, cell in enumerate(own):
                steps, scores = zip(*cell["curve"], strict=True)
                label = method if place == 0 else None
                axes.plot(steps, scores, dash, color=PALETTE[colour], linewidth=1.1, alpha=0.85, label=label)
                best = scores.index(max(scores))
                axes.plot(steps[best], scores[best], ".", color=PALETTE[colour], markersize=5)
        axes.set(title=title, xlabel="steps", ylabel="validation score")
        figure.legend(loc="outside lower center", ncols=3, fontsize=7.5, handlelength=1.6, columnspacing=1)
        source = inline(figure)
    return Picture(source, f"Validation score by training step: {title}")


def value_pictures(title: str, cells: Sequence[Figures]) -> list[Picture]:
    """Q(s,a), its SD over the heads and W on held-out logged actions, an outline a seed; none without histograms."""
    shown = {"value": "Q(s,a), mean of heads", "spread": "SD over heads", "weight": "W = 1 / (1 + λ SD)"}
    known = [cell["histograms"] for cell in cells if cell.get("histograms")]
    pictures = []
    for name, label in shown.items():
        own = [histograms[name] for histograms in known if name in histograms]
        if not own:
            continue
        with styled():
            figure = new_figure(_PHONE, 2.1)
            axes = figure.subplots()
            for histogram in own:
                _outline(axes, histogram)
            axes.set(title=title, xlabel=label, yticks=[])
            axes.grid(False)
            source = inline(figure)
        mean = statistics.mean(histogram["mean"] for histogram in own)
        pictures.append(Picture(source, f"Histogram of {label}: {title}", f"{title}: mean {mean:.3f}"))
    return pictures


def _outline(axes: Axes, histogram: Mapping[str, Any]) -> None:
    """A histogram's outline and its mean."""
    counts = histogram["counts"]
    edges = np.linspace(histogram["low"], histogram["high"], len(counts) + 1)
    axes.stairs(counts, edges, color=PALETTE["vermilion"], alpha=0.8, linewidth=1.2)
    axes.axvline(histogram["mean"], color=PALETTE["grey"], linewidth=0.8, linestyle=":")
