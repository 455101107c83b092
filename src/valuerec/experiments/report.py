"""One self-contained page of what a folder of results holds: tables, figures, configuration, curves, histograms."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from valuerec.errors import UsageError
from valuerec.experiments.book import TUNING
from valuerec.experiments.contents import Section, sections_of
from valuerec.experiments.pictures import Picture, address, learning_curves, value_pictures
from valuerec.experiments.results import BOOKS, Results
from valuerec.experiments.rows import PLAIN, UNTRAINED, control_rows
from valuerec.folders import explained_io, write_text

REPORT: Final = "report.html"

_CURVES: Final = (
    "Validation score by step, a line a seed; the dot is the best, whose weights count. The lowest tenth is cut off."
)
_VALUES: Final = (
    "Critics on held-out logged actions (validation split), an outline a seed, each as high as its highest bin. A "
    "single head has no spread. W is drawn by its logarithm."
)


class Part(NamedTuple):
    """A section of the page with its pictures."""

    section: Section
    pictures: Sequence[Picture]
    large: bool = False


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
            f"Dataset {results.dataset['fingerprint'][:16]}. Weights and hyper-parameters are chosen on validation; "
            "trials do not read the test split.",
        ]
    page = environment.from_string(source).render(title=title, lead=lead, parts=parts_of(results))
    path = results.path / REPORT
    with explained_io(f"Writing {path}"):
        write_text(path, page)
    return path


def parts_of(results: Results) -> list[Part]:
    """The sections of `valuerec.experiments.contents` with their figures, and the page's own pictures after them."""
    parts = []
    for section in sections_of(results):
        figures = [Picture(address(path.read_bytes()), section.title) for path in section.files]
        parts.append(Part(section, figures, large=True))
    return parts + _own_parts(results)


def _own_parts(results: Results) -> list[Part]:
    """Learning curves and histograms of values: a backbone and protocol of the table, a backbone of each figure."""
    curves, values = [], []
    controls = [row.method for row in control_rows()]
    for name in (name for name in BOOKS if name != TUNING):
        cells = [cell for cell in results.cells(name) if cell["backbone"] != UNTRAINED]
        for protocol, backbone in dict.fromkeys((cell["protocol"], cell["backbone"]) for cell in cells):
            own = [cell for cell in cells if (cell["protocol"], cell["backbone"]) == (protocol, backbone)]
            title = backbone if protocol == "ours" else f"{backbone}, {protocol}"
            title = title if name == "table1" else f"{name}, {title}"
            groups = {title: [cell for cell in own if cell["method"] not in controls]}
            if any(cell["method"] in controls for cell in own):
                groups[f"{title}, controls"] = [cell for cell in own if cell["method"] in (*controls, PLAIN, "vpq")]
            for heading, group in groups.items():
                curves.append(learning_curves(heading, group))
                values += value_pictures(heading, group)
    parts = [Part(Section(title="Learning curves", text=(_CURVES,)), curves)] if curves else []
    return [*parts, Part(Section(title="Values, spreads and weights", text=(_VALUES,)), values)] if values else parts
