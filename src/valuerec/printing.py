"""What people read: consoles that print text as it is, and tables that never cut it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


class PlainConsole(Console):
    """A console that takes no text for markup or an emoji: paths and ids may hold [brackets] and :colons:."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)
        if not stderr:  # tables are made for 80 columns; a narrower terminal breaks their lines, but nothing is cut
            self.width = max(self.width, 80)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line what to do when the reader has gone."""
        raise BrokenPipeError


def whole_table(*headers: str, title: str | None = None, numbers: bool = False) -> Table:
    """A table that fits 80 columns sooner and folds what is too long instead of cutting it.

    Args:
        headers: of the columns.
        title: above it.
        numbers: all but the first column are numbers: to the right, and never folded.
    """
    table = Table(title=title, show_edge=False, pad_edge=False, show_header=any(headers))
    for place, header in enumerate(headers):
        figures = numbers and place > 0
        table.add_column(header, overflow="fold", no_wrap=figures, justify="right" if figures else "left")
    return table
