"""How every figure looks and is written: one palette, one set of letters, the same bytes for the same figure.

matplotlib is the extra `report` and slow to import: it is imported where a figure is drawn, never with valuerec.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from valuerec.errors import UsageError
from valuerec.folders import explained_io

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE: Final = {  # Okabe and Ito, 2008, told apart by colour-blind readers, and a grey
    "black": "#000000",
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "grey": "#6E6E6E",
}

STYLE: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # letters stay letters, which can be searched and edited
}

_DPI = 200


def require_matplotlib() -> None:
    """Refuse in one sentence to draw without matplotlib.

    Raises:
        UsageError: where it is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise UsageError("Figures need matplotlib; install it with: pip install 'valuerec[report]'.") from error


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Everything drawn inside looks like valuerec, whatever the user's own matplotlibrc says.

    Raises:
        UsageError: where matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams  # its type names each of some three hundred keys
        settings.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which needs no screen and is forgotten with its last reference."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.pdf; the same figure gives the same bytes, without the time of day.

    Args:
        figure: what was drawn inside `styled`.
        path: without a suffix; its folder is made.

    Returns:
        the two files.

    Raises:
        ValuerecError: where they cannot be written.
    """
    files = [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".pdf")]
    with explained_io(f"Writing {path}"), styled():
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(files[0], dpi=_DPI, metadata={"Software": None})
        figure.savefig(files[1], metadata={"CreationDate": None})
    return files
