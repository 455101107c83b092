"""RESULTS.md, made of what is committed in results/: prose from *.md, figures from *.json and *.png.

python benchmarks/render.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from valuerec.experiments.contents import Section, sections_of
from valuerec.experiments.results import Results
from valuerec.experiments.sheets import markdown
from valuerec.experiments.table import COLUMNS, spread
from valuerec.folders import read_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
FLAT = {"serving": "The service", "integrity": "Damage done for real"}  # folders of one measurement a file
OTHER = ("speed", *FLAT)  # folders that `valuerec reproduce` did not write
EQUIVALENCE = (
    "SASRec-VPQ, the same steps and seeds, test metrics of the best of two validations (`benchmarks/equivalence.py`). "
    "`ours`: native kernels, bfloat16 cross-entropy, RowAdam. `tiled`: every item scored by all heads, all in float32. "
    "`dense adam`, `sparse adam`: PyTorch's. `factored`: another model, K maps onto one table of items. SD and W are "
    "means over the logged actions of the validation split."
)

VARIANTS = (
    "Rows of the table once more, the same but for one option (`benchmarks/variant.py`). Differences are of the "
    "variant less the row, with uncorrected 95 % intervals and p-values."
)
RELEASED = (
    "SASRec without a critic, three epochs under the protocol `released`, on the sessions that training does not see "
    "(`benchmarks/released_figures.py`), beside what the released code gets; .02 is within the noise of its one seed."
)


def step_tables(rows: list[dict[str, Any]]) -> list[str]:
    """A table for each file that `benchmarks/step.py --save` wrote: seconds (GB) a kind of step, and the ratios."""
    kinds = [name.removesuffix("_peak_gb") for name in rows[0] if name.endswith("_peak_gb")]
    ratios = [name for name in rows[0] if "_over_" in name]
    head = [*kinds, *(name.replace("_over_", " / ") for name in ratios)]
    lines = ["| items | weights | " + " | ".join(head) + " |", "|---" * (2 + len(head)) + "|"]
    for row in rows:
        for weights, figures in ((row["weights"], row), ("fresh", row.get("fresh"))):
            if figures is not None:
                cells = [step_cell(figures, kind) for kind in kinds]
                cells += ["–" if figures[name] is None else f"{figures[name]:.2f}" for name in ratios]
                lines.append(f"| {row['items']:,} | {weights} | " + " | ".join(cells) + " |")
    where = f"{rows[0]['device']}, {rows[0]['threads']} threads, engine {rows[0]['engine']}, commit {rows[0]['commit']}"
    return [f"Median seconds a step (peak GB); {where}:", "", *lines, ""]


def step_cell(figures: dict[str, Any], kind: str) -> str:
    """Seconds and gigabytes, or what it would have needed."""
    if figures[f"{kind}_s"] is None:
        needs = figures.get(f"{kind}_needs_gb")
        return "does not fit" + ("" if needs is None else f" ({needs:.0f} GB)")
    return f"{figures[f'{kind}_s']:.4f} ({figures[f'{kind}_peak_gb']:.2f})"


def render() -> str:
    """RESULTS.md: prose from results/*.md, tables and figures of what `valuerec reproduce` wrote, speed."""
    lines = [(RESULTS / "introduction.md").read_text(encoding="utf-8").rstrip(), ""]
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir() and path.name not in OTHER):
        lines += [f"## {folder.name}", ""]
        for note in sorted(folder.glob("*.md")):
            lines += [note.read_text(encoding="utf-8").rstrip(), ""]
        for section in sections_of(Results(folder)):
            lines += section_lines(section)
        for number, path in enumerate(sorted((folder / "variants").glob("*.json"))):
            lines += ["### Rows with one option changed", "", VARIANTS, ""] if number == 0 else []
            lines += variant_lines(read_json(path))
        if (other := folder / "equivalence.json").is_file():
            lines += ["### Does what makes a step fast change what is learned?", "", EQUIVALENCE, ""]
            lines += [*equivalence_table(read_json(other)), ""]
        if (other := folder / "released-figures.json").is_file():
            lines += ["### The released code's own figures", "", RELEASED, "", *flat_table(read_json(other)), ""]
    lines += [(RESULTS / "speed.md").read_text(encoding="utf-8").rstrip(), ""]
    for path in sorted((RESULTS / "speed").glob("step*.json")):
        lines += ["### A training step", "", *step_tables(read_json(path))]
    for path in sorted((RESULTS / "speed").glob("*.json")):
        if not path.stem.startswith("step"):
            lines += [f"### {path.stem}", "", *flat_table(read_json(path)), ""]
    for name, title in FLAT.items():
        for path in sorted((RESULTS / name).glob("*.json")):
            figures = {what: figure for what, figure in read_json(path).items() if not isinstance(figure, list)}
            lines += [f"### {title}: {path.stem}", "", *flat_table(figures), ""]
    return "\n".join(lines)


def variant_lines(content: dict[str, Any]) -> list[str]:
    """What benchmarks/variant.py wrote: the variant, and its differences from rows."""
    columns = [f"{kind} {name}" for kind, name in COLUMNS]
    title = f"{content['row']}, {content['changed']}" + ("" if content["protocol"] == "ours" else ", released")
    means = [f"{content[name]['mean']:.3f} ± {content[name]['sd']:.3f}" for name in columns]
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines.append("| test | " + " | ".join(means) + " |")
    for name, differences in content.items():
        if name.startswith("less "):
            cells = [
                f"{each['difference']:+.3f} [{each['low']:.3f}, {each['high']:.3f}] p {each['p_value']:.2g}"
                for each in (differences[column] for column in columns)
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    floored = f"; the floor cut {content['floored']:.1%} of the training rows" if content["floored"] else ""
    return [*lines, "", f"Seeds: {content['seeds']}{floored}; commit {content['commit']}, `{content['command']}`.", ""]


def section_lines(section: Section) -> list[str]:
    """A section in Markdown; a folded one opens on demand."""
    lines = [line for text in section.text for line in (text, "")]
    for picture in section.files:
        lines += [f"![{section.title}]({picture.relative_to(ROOT).as_posix()})", ""]
    for sheet in section.sheets:
        lines += [f"**{sheet.title}**", "", *markdown(sheet), ""]
    if section.folded:
        return [f"<details><summary>{section.title}</summary>", "", *lines, "</details>", ""]
    return [f"### {section.title}", "", *lines]


def equivalence_table(cells: list[dict[str, Any]]) -> list[str]:
    """What benchmarks/equivalence.py wrote: test metrics of each variant, mean ± standard deviation over seeds."""
    lines = [
        "| variant | seeds | purchase hr@20 | purchase ndcg@20 | click hr@20 | click ndcg@20 | SD | W |",
        "|---" * 8 + "|",
    ]
    for variant in dict.fromkeys(cell["variant"] for cell in cells):
        own = [cell for cell in cells if cell["variant"] == variant]
        values = [
            spread([cell["test"][kind][name] for cell in own])
            for kind in ("purchase", "click")
            for name in ("hr@20", "ndcg@20")
        ]
        values += [spread([cell[name] for cell in own]) for name in ("spread", "weight")]
        lines.append(f"| {variant} | {len(own)} | " + " | ".join(values) + " |")
    commits = ", ".join(sorted({str(cell["commit"]) for cell in cells}))
    return [*lines, "", f"Steps each: {cells[0]['steps']}; commit {commits}."]


def flat_table(content: dict[str, Any] | list[dict[str, Any]]) -> list[str]:
    """Figures as they were written: a row an object, or a row a figure of a single one."""
    if isinstance(content, list):
        names = list(content[0])
        lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        return lines + ["| " + " | ".join(shown(row[name]) for name in names) + " |" for row in content]
    flat: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        for inner, x in value.items() if isinstance(value, dict) else ():
            add(f"{name}: {inner}" if name else inner, x)
        if not isinstance(value, dict):
            flat[name] = value

    add("", content)
    return ["| what | figure |", "|---|---|", *(f"| {name} | {shown(value)} |" for name, value in flat.items())]


def shown(value: Any) -> str:
    """A figure with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def main() -> None:
    (ROOT / "RESULTS.md").write_text(render(), encoding="utf-8")
    print("RESULTS.md written")


if __name__ == "__main__":
    main()
