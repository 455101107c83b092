"""Draw what `step.py --save FILE` wrote: seconds and peak memory of a step over catalogue sizes.

    python benchmarks/plot_step.py results/speed/step.json step.png

Needs matplotlib (`pip install 'valuerec[report]'`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from valuerec.folders import read_json

# Okabe and Ito's colours, told apart by colour-blind readers too; markers and dashes say the same again.
STYLES = {
    "port": ("#D55E00", "s", "-", "released step, PyTorch port"),
    "port_lean": ("#E69F00", "s", "--", "the port without unused work"),
    "textbook": ("#0072B2", "o", "-", "textbook supervised"),
    "textbook_fused": ("#56B4E9", "o", "--", "textbook supervised, fused Adam"),
    "supervised": ("#000000", "^", "--", "valuerec supervised"),
    "vpq": ("#009E73", "^", "-", "valuerec VPQ"),
}
OTHERS = "xDv*P"  # markers of further methods, in grey


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """One picture: the time of a step on the left, its peak memory on the right."""
    rows = sorted(rows, key=lambda row: int(row["items"]))
    kinds = [name.removesuffix("_peak_gb") for name in rows[0] if name.endswith("_peak_gb")]
    others = [kind for kind in kinds if kind not in STYLES]
    styles = STYLES | {
        kind: ("#999999", OTHERS[place % len(OTHERS)], ":", f"valuerec {kind}") for place, kind in enumerate(others)
    }
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, suffix, label in ((left, "_s", "seconds a step (median)"), (right, "_peak_gb", "peak memory, GB")):
        for kind in kinds:
            _line(axes, rows, kind, suffix, styles[kind])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([row["items"] for row in rows], [f"{row['items']:,}" for row in rows])
        axes.minorticks_off()
        axes.margins(x=0.1)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("items in the catalogue")
        axes.set_ylabel(label)
        axes.grid(axis="y", alpha=0.3)
    left.legend(fontsize=9)
    first = rows[0]
    figure.suptitle(
        f"One training step: SASRec, 256 rows, width 64, 15 heads, {first['weights']} weights\n"
        f"{first['device']}, {first['threads']} threads, commit {first['commit']}",
        fontsize=11,
    )
    figure.savefig(file, dpi=150)


def _line(axes: Axes, rows: list[dict[str, Any]], kind: str, suffix: str, style: tuple[str, str, str, str]) -> None:
    colour, marker, dashes, name = style
    known = [(row["items"], row[kind + suffix]) for row in rows if row.get(kind + suffix) is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=colour, marker=marker, linestyle=dashes, label=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    plot(read_json(options.figures), options.picture)


if __name__ == "__main__":
    main()
