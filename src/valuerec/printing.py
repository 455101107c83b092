"""What people read: consoles that print text as it is, and tables that never cut it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from valuerec.plain import plain

_SECONDS: Final = 30.0  # between two lines


class PlainConsole(Console):
    """A console that takes no text for markup or an emoji: paths and ids may hold [brackets] and :colons:.

    Nor does it pass on control characters, whoever's text it is (`valuerec.plain`).
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)
        if not stderr:  # tables are made for 80 columns; a narrower terminal breaks their lines, but nothing is cut
            self.width = max(self.width, 80)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What all that is printed comes through; Rich's own steering is no text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))

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


class _Rate(ProgressColumn):
    """How many a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """As text; nothing while nothing is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self._unit}/s")


@contextlib.contextmanager
def progress(console: Console, what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Tell how much of how much is done: by a bar on a terminal, by a line every half minute elsewhere.

    Args:
        console: where to.
        what: is being done.
        unit: what is counted.
    """
    if not console.is_terminal:
        yield _Lines(console, what, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Progress in lines."""

    def __init__(self, console: Console, what: str, unit: str) -> None:
        self._console, self._what, self._unit = console, what, unit
        self._begun: tuple[float, int] | None = None
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._begun is None:
            self._begun, self._told = (now, done), now
        elif now - self._told >= _SECONDS and done < total:
            self._told = now
            rate = (done - self._begun[1]) / (now - self._begun[0])
            left = f", {(total - done) / rate / 60:,.0f} min left" if rate > 0 else ""
            line = f"  {self._what}: {done:,} of {total:,} {self._unit} ({rate:,.0f}/s{left})"
            self._console.print(line, soft_wrap=True)
