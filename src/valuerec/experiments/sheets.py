"""A table as text, and the two forms it is read in beside HTML: Markdown and a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from valuerec.printing import whole_table


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table of text: the first column names the rows, the others are figures.

    Args:
        title: what it is.
        head: of the columns.
        groups: rows that belong together (a backbone's), group by group.
        notes: what it must be read with, sentences.
        best: cells to be marked, as (group, row, column).
    """

    title: str
    head: Sequence[str]
    groups: Sequence[Sequence[Sequence[str]]]
    notes: Sequence[str] = ()
    best: frozenset[tuple[int, int, int]] = frozenset()


def markdown(sheet: Sheet) -> list[str]:
    """The table's lines in Markdown, without its title."""
    lines = ["| " + " | ".join(sheet.head) + " |", "|---" + "|---:" * (len(sheet.head) - 1) + "|"]
    for place, group in enumerate(sheet.groups):
        for number, row in enumerate(group):
            marked = (
                f"**{text}**" if (place, number, column) in sheet.best else text for column, text in enumerate(row)
            )
            lines.append("| " + " | ".join(text.replace("|", "\\|") for text in marked) + " |")
    return lines + [line for note in sheet.notes for line in ("", note)]


def terminal(sheet: Sheet) -> Any:
    """The table for a console, means alone and without Total, so that 80 columns hold it."""
    kept = [place for place, head in enumerate(sheet.head) if head != "Total"]
    heads = [sheet.head[place].replace(" ", "\n") if place else sheet.head[0] for place in kept]
    table = whole_table(*heads, title=f"{sheet.title} (means)", numbers=True)
    for group in sheet.groups:
        for row in group:
            table.add_row(*(row[place].partition(" ± ")[0] for place in kept), end_section=row is group[-1])
    return table
