"""Table 1: means and spreads over seeds, the paper's Total and gain, and the published numbers."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

from valuerec.backbones import backbone_named
from valuerec.experiments.cell import COLLAPSED, Figures, Key, key_of
from valuerec.experiments.rows import PLAIN, UNTRAINED, Row, all_rows
from valuerec.experiments.sheets import Sheet
from valuerec.training.config import PROTOCOLS

COLUMNS: Final = (("purchase", "hr@20"), ("purchase", "ndcg@20"), ("click", "hr@20"), ("click", "ndcg@20"))
HEADS: Final = ("purchase HR@20", "purchase NDCG@20", "click HR@20", "click NDCG@20")
_COLLAPSE: Final = (
    "Collapsed: the run's best validation score is below popularity's or below half of the plain backbone's. Training "
    "failed there; it says nothing of what the method is worth. Collapsed runs stay in the means."
)
_NEAR: Final = 0.02  # the published samples were drawn without a seed: counts within 2 % are the published dataset


class Line(NamedTuple):
    """A row of the table: what its seeds came to.

    `values` holds the columns of each seed that ended well, `diverged` how many did not, `collapsed` how many came
    to next to nothing (`troubles_of`); `gain` is the Total over the plain backbone's, in percent.
    """

    row: Row
    protocol: str
    values: Sequence[Sequence[float]]
    diverged: int
    gain: float | None
    collapsed: int = 0

    @property
    def totals(self) -> list[float]:
        """Of each seed, the sum of the columns (the paper adds those of two datasets)."""
        return [sum(values) for values in self.values]

    @property
    def untrained(self) -> bool:
        """Whether it is a baseline without training, which has no seed."""
        return self.row.backbone == UNTRAINED

    @property
    def mean_total(self) -> float:
        """Of the seeds that ended well; needs one."""
        return statistics.mean(self.totals)

    def column(self, place: int) -> list[float]:
        """One column, over the seeds."""
        return [values[place] for values in self.values]


def troubles_of(cells: Sequence[Figures]) -> dict[Key, str]:
    """What went wrong in these cells, in a sentence, by their keys: what they tell of themselves, and collapses.

    A run collapsed where its best validation score is below popularity's, or below half of the plain backbone's: the
    methods differ by hundredths, so that is no method's worth.
    """
    plain: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        if cell["method"] == PLAIN and cell["score"] is not None:
            plain.setdefault((cell["backbone"], cell["protocol"]), []).append(cell["score"])
    troubles = {}
    for cell in cells:
        scores = plain.get((cell["backbone"], cell["protocol"]))
        if cell["trouble"]:
            troubles[key_of(cell)] = cell["trouble"]
        elif scores and cell["score"] is not None and cell["score"] < statistics.mean(scores) / 2:
            troubles[key_of(cell)] = (
                f"{COLLAPSED}: the best validation score, {cell['score']:.4f}, is below half of the plain backbone's, "
                f"{statistics.mean(scores):.4f}."
            )
    return troubles


def lines_of(cells: Iterable[Figures], split: str = "test") -> list[Line]:
    """The rows of the table that these cells make, in the table's order, protocol by protocol.

    Args:
        cells: finished ones.
        split: test or validation.
    """
    cells, by_row = list(cells), dict[tuple[str, Row], list[Figures]]()
    told = troubles_of(cells)
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        by_row.setdefault((cell["protocol"], Row(cell["backbone"], cell["method"])), []).append(cell)
    lines = []
    for protocol in PROTOCOLS:
        for row in all_rows():
            own = by_row.get((protocol, row), [])
            values = _values(own, split)
            plain = _values(by_row.get((protocol, Row(row.backbone, PLAIN)), []), split)
            base = _total(plain) if plain else 0.0  # nothing gains on nothing, either
            gain = 100 * (_total(values) / base - 1) if values and base else None
            if own:
                diverged = sum(cell["diverged"] for cell in own)
                collapsed = sum(told.get(key_of(cell), "").startswith(COLLAPSED) for cell in own)
                lines.append(Line(row, protocol, values, diverged, gain, collapsed))
    return lines


def by_variant(cells: Sequence[Figures], names: Iterable[str]) -> dict[str, list[list[float]]]:
    """By variant, in the order of `names`, each column's values on test over the seeds that ended well."""
    seeds = {name: _values([cell for cell in cells if cell["variant"] == name], "test") for name in names}
    return {name: [list(column) for column in zip(*own, strict=True)] for name, own in seeds.items() if own}


def backbones_of(cells: Iterable[Figures]) -> str:
    """The backbones that cells are of, named once each."""
    return ", ".join(dict.fromkeys(cell["backbone"] for cell in cells))


def titles_of(cells: Iterable[Figures]) -> str:
    """The backbones that cells are of, as their papers write them."""
    return ", ".join(dict.fromkeys(backbone_named(cell["backbone"]).__name__ for cell in cells))


def _values(cells: Iterable[Figures], split: str) -> list[list[float]]:
    return [[cell[split][kind][name] for kind, name in COLUMNS] for cell in cells if not cell["diverged"]]


def _total(values: Sequence[Sequence[float]]) -> float:
    return statistics.mean(sum(seed) for seed in values)


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation; 0 of a single run."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean ± sample standard deviation."""
    if not values:
        return "–"
    apart = f" ± {deviation(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{apart}"


def table_sheet(lines: Sequence[Line], title: str) -> Sheet:
    """The table of one protocol, a group a backbone; the best mean of each column of a group is marked."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.row.backbone, []).append(line)
    best = set()
    for place, group in enumerate(groups.values()):
        for column in range(len(COLUMNS)):
            means = [statistics.mean(line.column(column)) if line.values else 0.0 for line in group]
            best |= {(place, number, column + 1) for number, mean in enumerate(means) if mean == max(means) > 0}
    return Sheet(
        title=title,
        head=("row", *HEADS, "Total", "gain %", "seeds"),
        groups=[[_shown(line) for line in group] for group in groups.values()],
        notes=(_COLLAPSE,) if any(line.collapsed for line in lines) else (),
        best=frozenset(best),
    )


def _shown(line: Line) -> list[str]:
    ends = {"diverged": line.diverged, "collapsed": line.collapsed}
    told = ", ".join(f"{count} {name}" for name, count in ends.items() if count)
    seeds = "–" if line.untrained else str(len(line.values)) + (f" ({told})" if told else "")
    columns = [spread(line.column(place)) for place in range(len(COLUMNS))]
    gain = "–" if line.gain is None else f"{line.gain:+.2f}"
    return [line.row.name, *columns, spread(line.totals), gain, seeds]


def published_name(counts: Mapping[str, int]) -> str | None:
    """The published dataset that these counts are, if any."""
    for name, entry in _published().items():
        if all(abs(counts.get(what, 0) / count - 1) <= _NEAR for what, count in entry["counts"].items()):
            return name
    return None


def published_sheet(name: str, lines: Sequence[Line]) -> Sheet:
    """The paper's numbers beside ours, for the rows that it has."""
    rows: dict[str, list[float]] = _published()[name]["rows"]
    ours = {line.row.name: line for line in lines if line.protocol == "ours"}
    groups: dict[str, list[list[str]]] = {}
    for row, values in rows.items():
        cells = []
        for place, value in enumerate(values):
            own = statistics.mean(ours[row].column(place)) if row in ours and ours[row].values else None
            cells.append(f"{value:.4f} / {'–' if own is None else f'{own:.4f}'}")
        groups.setdefault(row.partition("-")[0], []).append([row, *cells])
    return Sheet(
        title=f"Published ({name}) / ours",
        head=("row", *HEADS),
        groups=list(groups.values()),
        notes=(
            "Published: SIGIR 2022, Table 1, the mean of five runs, of a code without a validation split; GRU4Rec is "
            "not in it.",
        ),
    )


def _published() -> dict[str, dict[str, Any]]:
    text = resources.files("valuerec.experiments").joinpath("published.json").read_text(encoding="utf-8")
    content: dict[str, dict[str, Any]] = json.loads(text)
    return content
