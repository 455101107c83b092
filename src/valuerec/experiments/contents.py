"""What a report and RESULTS.md say of a folder of results: sections of tables, made of what is written there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from valuerec.experiments import figure2, figure3
from valuerec.experiments.book import TUNING
from valuerec.experiments.cell import Figures
from valuerec.experiments.comparing import comparisons_of, significance_sheets
from valuerec.experiments.critics import CRITICS, OUTSIDE, SHARES, critics_sheet, logged_reward, share
from valuerec.experiments.results import BOOKS, Results
from valuerec.experiments.rows import Row
from valuerec.experiments.sheets import Sheet
from valuerec.experiments.table import Line, lines_of, published_name, published_sheet, table_sheet, troubles_of
from valuerec.experiments.tuning import grids
from valuerec.folders import read_json
from valuerec.training.config import PROTOCOLS

SHOWN = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20")
_FIGURES: Final = {
    "figure1": ("Figure 1: penalising simulated unstable predictions", ""),  # its caption is within it
    "figure2": ("Figure 2: four ways of using Q", figure2.CAPTION),
    "figure3": ("Figure 3: the penalty's strength", figure3.CAPTION),
}
_SHEETS: Final[Mapping[str, Callable[[list[Figures]], Sheet]]] = {"figure2": figure2.sheet, "figure3": figure3.sheet}
_SIGNIFICANCE = (
    "Paired bootstrap over sessions and seeds: each method against the plain one and against the next best, SASRec's "
    "VPQ against every control. Difference, its 95 % interval, and p by Holm's correction over all comparisons and "
    "columns of a backbone and protocol, not over the whole table. Bold: p at most .05. The next best is the row with "
    "the next lower mean Total, a control too; Total is of the same test split, which the correction does not know. "
    "With three seeds, p-values far below .05 are too small where seeds matter more than sessions "
    '(docs/architecture.md, "Significance").'
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report.

    Args:
        title: of the part.
        text: sentences before its tables.
        sheets: its tables.
        files: its figures, PNG files in the folder.
        folded: shown only when asked for.
    """

    title: str
    text: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    files: Sequence[Path] = ()
    folded: bool = False


def sections_of(results: Results) -> list[Section]:
    """All that is known of a folder."""
    sections = [*table_sections(results), *figure_sections(results), *tuning_sections(results)]
    if any(results.cells(name) for name in BOOKS):
        sections.append(configuration_section(results))
    if results.cells("table1") or results.cells("tuning"):
        sections.append(limits_section(results))
    if results.cells("table1"):
        sections.append(runs_section(results))
    return sections


def outcome(results: Results, what: str) -> tuple[list[Sheet], Any]:
    """What an experiment came to: tables for a terminal, and its cells (of figure1 its data) as JSON."""
    if what == "figure1":
        path = results.path / "figure1.json"
        return [], read_json(path) if path.is_file() else None
    cells = results.cells(what)
    if what == "table1":
        return _by_protocol(lines_of(cells), "Test"), cells
    by_backbone: dict[str, list[Figures]] = {}
    for cell in cells:
        by_backbone.setdefault(cell["backbone"], []).append(cell)
    return [_SHEETS[what](own) for own in by_backbone.values()], cells


def figure_sections(results: Results) -> list[Section]:
    """The figures that were drawn, with their numbers."""
    sections = []
    for name, (title, caption) in _FIGURES.items():
        others = sorted(results.path.glob(f"{name}-*.png"))  # of other backbones
        files = [path for path in (results.path / f"{name}.png", *others) if path.is_file()]
        if files:
            sheets, _ = outcome(results, name)
            sections.append(Section(title=title, text=(caption,) if caption else (), files=files, sheets=sheets))
    return sections


def table_sections(results: Results) -> list[Section]:
    """Table 1, by protocol: on test, on validation, and beside the published numbers."""
    cells = results.cells("table1")
    if not cells:
        return []
    lines, validation = lines_of(cells), lines_of(cells, "validation")
    sections = [
        Section(
            title="Table 1",
            text=(
                "Mean ± standard deviation over seeds; ranks over the whole catalogue, ties against us. Total adds the "
                "four columns (the paper adds those of two datasets), gain compares it with the plain backbone's. "
                "Bold: the best mean of a backbone.",
                *_troubles(cells),
            ),
            sheets=_by_protocol(lines, "Test"),
        )
    ]
    assert results.dataset is not None
    if name := published_name(results.dataset["counts"]):
        sections.append(Section(title="Published numbers", sheets=[published_sheet(name, lines)]))
    if sheets := significance_sheets(comparisons_of(results)):
        sections.append(Section(title="Which differences hold", text=(_SIGNIFICANCE,), sheets=sheets))
    if sheet := critics_sheet(cells):
        sections.append(
            Section(
                title="What the critics hold", text=(CRITICS, *logged_reward(results.dataset, cells)), sheets=[sheet]
            )
        )
    sections.append(
        Section(title="Validation, of the same weights", sheets=_by_protocol(validation, "Validation"), folded=True)
    )
    return sections


def _by_protocol(lines: Sequence[Line], split: str) -> list[Sheet]:
    parts = {protocol: [line for line in lines if line.protocol == protocol] for protocol in PROTOCOLS}
    return [table_sheet(own, f"{split}, protocol {protocol}") for protocol, own in parts.items() if own]


def _troubles(cells: Sequence[Figures]) -> list[str]:
    """A sentence on each run that diverged or collapsed."""
    return [
        f"{Row(backbone, method).name}, {'' if protocol == 'ours' else f'{protocol}, '}seed {seed}: {trouble}"
        for (backbone, method, protocol, _, seed), trouble in troubles_of(cells).items()
    ]


def tuning_sections(results: Results) -> list[Section]:
    """What each method had to choose among, what it chose, and whether that lies at the edge."""
    groups: list[list[list[str]]] = []
    at_edge, counts = [], []
    for cells in _by_row(results.cells("tuning")).values():
        name, grid = Row(cells[0]["backbone"], cells[0]["method"]).name, grids()[cells[0]["method"]]
        scores = {cell["variant"]: cell["score"] for cell in cells}
        in_grid = [scores.pop(grid.variant(value), None) for value in grid.values]
        known = [score for score in in_grid if score is not None]
        if not known:
            continue
        best = in_grid.index(max(known))
        ended = [grid.value(cell["variant"]) for cell in cells if cell["score"] is not None]
        values = [value for value in ended if value is not None]
        if grid.values[best] in (min(values), max(values)):  # of all that were tried, those of an earlier grid too
            at_edge.append(f"{name} ({grid.option} {grid.values[best]})")
        tried = [f"{value}: {_score(score)}" for value, score in zip(grid.values, in_grid, strict=True)]
        dropped = [f"{variant.partition('=')[2]}: {_score(score)}" for variant, score in scores.items()]
        counts.append(len(known) + len(dropped))
        groups.append([[name, grid.option, *tried, str(grid.values[best]), ", ".join(dropped) or "–"]])
    edges = (
        "The best lies at the edge of what was tried, so that a value beyond it might do better, for "
        f"{', '.join(at_edge)}."
        if at_edge
        else "No best value lies at the edge of what was tried."
    )
    numbers = " to ".join(str(number) for number in dict.fromkeys((min(counts, default=0), max(counts, default=0))))
    section = Section(
        title="Hyper-parameters",
        text=(
            f"Four values for every method, {numbers} trials with those that a grid had before, under the protocol "
            "`ours`, on validation and on a seed that no table uses; the test split is not read. The plain backbone's "
            "option is chosen first, by each backbone that has it for itself, and is the backbone's in all its rows. "
            "The methods' options are tried with SASRec, and what was chosen holds for the other backbones too. "
            "Learning rate, batch, width and the limit of epochs are the same for all. The protocol `released` is not "
            "tuned: it has the values of that code, and our defaults where it gives none; the floor at 0 under the "
            "critic's weight, which that code lacks, is kept (docs/architecture.md says why).",
            edges,
            "Which grids were moved, and why, is said in grid.toml. Trials of values that a grid no longer has stand "
            "in the last column and do not count.",
        ),
        sheets=[
            Sheet(
                title="Value: validation score",
                head=("row", "option", *(f"trial {number}" for number in (1, 2, 3, 4)), "chosen", "of an earlier grid"),
                groups=groups,
            )
        ],
    )
    return [section] if groups else []


def _by_row(cells: Sequence[Figures]) -> dict[Row, list[Figures]]:
    """Trials by row, in the order of the grids."""
    order = list(grids())
    found: dict[Row, list[Figures]] = {}
    for cell in sorted(cells, key=lambda cell: order.index(cell["method"])):
        found.setdefault(Row(cell["backbone"], cell["method"]), []).append(cell)
    return found


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"


def configuration_section(results: Results) -> Section:
    """What the cells have in common, and the dataset."""
    cells = [cell for name in BOOKS for cell in results.cells(name)]
    dataset = results.dataset
    assert dataset is not None
    rows = [["dataset", dataset["name"]], *([name, f"{count:,}"] for name, count in dataset["counts"].items())]
    for split, sizes in (dataset.get("splits") or {}).items():
        rows.append([f"{split} split", ", ".join(f"{count:,} {name}" for name, count in sizes.items())])
    prepared = dataset.get("config") or {}
    rows += [[f"prepared with {name}", str(value)] for name, value in prepared.items() if value is not None]
    backbones: dict[str, list[Mapping[str, Any]]] = {}
    for cell in (cell for name in BOOKS if name != TUNING for cell in results.cells(name)):
        backbones.setdefault(cell["backbone"], []).append(cell["options"]["backbone"])
    for backbone, chosen in backbones.items():
        names = dict.fromkeys(name for options in chosen for name in options)
        rows += [[f"{backbone}: {name}", _all(options.get(name, "–") for options in chosen)] for name in names]
    for part in ("training", "rewards"):
        trained = [cell["options"][part] for cell in cells if cell["options"][part]]
        names = dict.fromkeys(name for options in trained for name in options)
        rows += [[name, _all(options.get(name, "–") for options in trained)] for name in names]
    rows += [[name, _all(cell[name] for cell in cells)] for name in ("device", "engine", "threads", "torch", "commit")]
    sheet = Sheet(
        title="Options and machines, each with all the values that runs have", head=("what", "value"), groups=[rows]
    )
    return Section(title="Configuration", sheets=[sheet], folded=True)


def _all(values: Any) -> str:
    """The different values, in the order they come."""
    return ", ".join(dict.fromkeys("none" if value is None else str(value) for value in values)) or "–"


def limits_section(results: Results) -> Section:
    """How often the limit of steps, not the validation score, ended a run."""
    assert results.dataset is not None
    events = ((results.dataset.get("splits") or {}).get("train") or {}).get("events")
    kinds: dict[tuple[str, ...], list[Figures]] = {}
    for name in ("tuning", "table1"):
        for cell in results.cells(name):
            if cell["steps"] and not cell["diverged"]:
                row = Row(cell["backbone"], cell["method"]).name
                kinds.setdefault((name, row, cell["protocol"]), []).append(cell)
    rows = [
        [row, protocol, "trial" if name == "tuning" else "table", *(str(sum(each)) for each in _ends(cells, events))]
        for (name, row, protocol), cells in kinds.items()
    ]
    runs, whole, rising = (sum(int(row[column]) for row in rows) for column in (3, 4, 5))
    return Section(
        title="The limit of steps",
        text=(
            f"Of {runs} runs, {whole} used all the steps they had, and {rising} had their best validation at the last "
            "of them: with more steps these might have risen further. The others stopped by themselves.",
        ),
        sheets=[
            Sheet(
                title="Runs that the limit ended",
                head=("row", "protocol", "of", "runs", "used all steps", "best at the last validation"),
                groups=[rows],
            )
        ],
        folded=True,
    )


def _ends(cells: Sequence[Figures], events: int | None) -> tuple[list[bool], list[bool], list[bool]]:
    """Of each cell: that it is one, whether it used all its steps, whether its best was at the last of these."""
    whole = [cell["steps"] >= _limit(cell["options"]["training"], events) for cell in cells]
    rising = [used and cell["best_step"] == cell["steps"] for used, cell in zip(whole, cells, strict=True)]
    return [True] * len(cells), whole, rising


def _limit(training: Mapping[str, Any], events: int | None) -> float:
    """The steps that a run may take at most, where the training split has so many events."""
    epochs = math.inf if events is None else training["epochs"] * -(-events // training["batch_size"])
    return min(epochs, training["max_steps"] or math.inf)


def runs_section(results: Results) -> Section:
    """Each run by itself."""
    groups: dict[str, list[list[str]]] = {}
    for cell in results.cells("table1"):
        figures = [_number(cell["test"], kind, name) for kind in ("purchase", "click") for name in SHOWN]
        options = ", ".join(f"{name} {value}" for name, value in cell["options"]["method"].items()) or "–"
        row = [
            f"{cell['backbone']}-{cell['method']}",
            cell["protocol"],
            str(cell["seed"]),
            *figures,
            *("–" if cell[name] is None else f"{cell[name]:.0f}" for name in ("best_step", "steps", "seconds")),
            *(share(cell.get(name)) for name in SHARES),  # which cells of earlier do not have
            f"{cell['device']} × {cell['threads']}",
            str(cell["commit"]),
            options,
        ]
        groups.setdefault(cell["backbone"], []).append(row)
    head = (
        "row", "protocol", "seed", *(f"{kind} {name}" for kind in ("purchase", "click") for name in SHOWN),
        "best step", "steps", "seconds", "Q outside", "floored", "device", "commit", "method's options",
    )  # fmt: skip
    sheet = Sheet(title="Test", head=head, groups=list(groups.values()))
    return Section(title="Every run", text=(OUTSIDE,), sheets=[sheet], folded=True)


def _number(metrics: Any, kind: str, name: str) -> str:
    return "–" if metrics is None or metrics[kind][name] is None else f"{metrics[kind][name]:.4f}"
