"""One self-contained page of what a folder of results holds: tables, figures, configuration, curves, histograms."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from valuerec.errors import UsageError
from valuerec.experiments import figure1, figure2, figure3
from valuerec.experiments.cell import Figures
from valuerec.experiments.contents import (
    Section,
    configuration_section,
    runs_section,
    table_sections,
    tuning_sections,
)
from valuerec.experiments.pictures import Picture, address, learning_curves, value_pictures
from valuerec.experiments.results import BOOKS, Results
from valuerec.experiments.sheets import Sheet
from valuerec.folders import explained_io, write_text

REPORT: Final = "report.html"
_FIGURES: Final[Mapping[str, tuple[str, str]]] = {
    "figure1": ("Figure 1: penalising simulated unstable predictions", figure1.CAPTION),
    "figure2": ("Figure 2: four ways of using Q", figure2.CAPTION),
    "figure3": ("Figure 3: the penalty's strength", figure3.CAPTION),
}
_SHEETS: Final[Mapping[str, Callable[[list[Figures]], Sheet]]] = {"figure2": figure2.sheet, "figure3": figure3.sheet}


def require_report() -> None:
    """Refuse in a sentence to write a report without what it needs.

    Raises:
        UsageError: where matplotlib or jinja2 is not installed.
    """
    try:
        for name in ("matplotlib", "jinja2"):
            importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"Figures and reports need {error.name}; install it with: pip install 'valuerec[report]'."
        ) from error


def write_report(results: Results) -> Path:
    """Write report.html into the folder, of everything that is there.

    Returns:
        The page. It asks nothing of the network.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    source = resources.files("valuerec.experiments").joinpath("report.html").read_text(encoding="utf-8")
    title, lead = "valuerec", []
    if results.dataset is not None:
        title = f"valuerec on {results.dataset['name']}"
        lead = [
            ", ".join(f"{count:,} {name}" for name, count in results.dataset["counts"].items()) + ".",
            f"Dataset {results.dataset['fingerprint'][:16]}. Weights are chosen on validation; test is read once.",
        ]
    page = environment.from_string(source).render(title=title, lead=lead, sections=sections_of(results))
    path = results.path / REPORT
    with explained_io(f"Writing {path}"):
        write_text(path, page)
    return path


def sections_of(results: Results) -> list[Section]:
    """All that the page shows."""
    sections = [*table_sections(results), *_figure_sections(results), *tuning_sections(results)]
    if any(results.cells(name) for name in BOOKS):
        sections.append(configuration_section(results))
    if results.cells("table1"):
        sections += [*_picture_sections(results), runs_section(results)]
    return sections


def _figure_sections(results: Results) -> list[Section]:
    sections = []
    for name, (title, caption) in _FIGURES.items():
        path = results.path / f"{name}.png"
        if path.is_file():
            picture = Picture(address(path.read_bytes()), title, caption)
            cells = results.cells(name) if name in _SHEETS else []
            backbones = dict.fromkeys(cell["backbone"] for cell in cells)
            sheets = [_SHEETS[name]([cell for cell in cells if cell["backbone"] == each]) for each in backbones]
            sections.append(Section(title=title, pictures=[picture], sheets=sheets, large=True))
    return sections


def _picture_sections(results: Results) -> list[Section]:
    """Learning curves a backbone and protocol, histograms of its VPQ runs."""
    curves, values = [], []
    cells = results.cells("table1")
    for protocol, backbone in dict.fromkeys((cell["protocol"], cell["backbone"]) for cell in cells):
        own = [cell for cell in cells if (cell["protocol"], cell["backbone"]) == (protocol, backbone)]
        title = backbone if protocol == "ours" else f"{backbone}, {protocol}"
        curves.append(learning_curves(title, own))
        values += value_pictures(f"{title}-vpq", [cell for cell in own if cell["method"] == "vpq"])
    sections = [
        Section(
            title="Learning curves",
            text=("Validation score by step, a line a seed; the dot is the best, whose weights count.",),
            pictures=curves,
        )
    ]
    if values:
        text = "VPQ on held-out logged actions (validation split), an outline a seed; the dotted line is the mean."
        sections.append(Section(title="Values, spreads and weights", text=(text,), pictures=values))
    return sections
