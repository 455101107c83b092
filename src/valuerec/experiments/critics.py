"""What the critics of a table came to hold: their values of logged actions, beside what no true value can be."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from valuerec.experiments.cell import Figures
from valuerec.experiments.sheets import Sheet
from valuerec.experiments.table import lines_of, spread

SHARES: Final = ("outside", "floored")
OUTSIDE: Final = (
    "Q outside: the share of Q-values outside [0, r_max/(1−γ)], where no true value lies, before the best weights. "
    "Floored: the share of rows, over the whole training, whose weight by the critic was negative and cut at zero."
)
CRITICS: Final = (
    "Means over the logged actions of the validation split, of the weights that the table reports: the heads' mean "
    "Q(s,a), their SD, and VPQ's W = 1 / (1 + λ SD). Its target takes the greatest Q·W of all items, where W can be "
    f"greater than at logged actions. {OUTSIDE}"
)


def critics_sheet(cells: Sequence[Figures]) -> Sheet | None:
    """Of each row with a critic, its values of logged actions; None where no cell has one."""
    by_row: dict[tuple[str, str, str], list[Figures]] = {}
    for cell in cells:
        if cell.get("histograms"):
            by_row.setdefault((cell["backbone"], cell["method"], cell["protocol"]), []).append(cell)
    groups: dict[str, list[list[str]]] = {}
    for line in lines_of(cells):
        if own := by_row.get((*line.row, line.protocol)):
            means = [
                spread([cell["histograms"][name]["mean"] for cell in own if _told(cell, name)], digits=3)
                for name in ("value", "spread", "weight")
            ]
            shares = [
                share(statistics.mean(known) if known else None)
                for known in ([cell[name] for cell in own if cell.get(name) is not None] for name in SHARES)
            ]
            name = line.row.name if line.protocol == "ours" else f"{line.row.name}, {line.protocol}"
            groups.setdefault(line.row.backbone, []).append([name, *means, *shares, str(len(own))])
    head = ("row", "Q(s,a)", "SD over heads", "W", "Q outside", "floored", "seeds")
    return Sheet(title="Critics", head=head, groups=list(groups.values())) if groups else None


def _told(cell: Figures, name: str) -> bool:
    """Whether a cell has this mean; a single head has no spread."""
    return name in cell["histograms"] and not (name == "spread" and cell["options"]["method"].get("heads") == 1)


def logged_reward(dataset: Mapping[str, Any], cells: Sequence[Figures]) -> list[str]:
    """A sentence on the training split's mean reward, where all cells learned from the same clicks and purchases.

    Args:
        dataset: what dataset.json says.
        cells: of the table.
    """
    sizes = (dataset.get("splits") or {}).get("train") or {}
    learned = [cell["options"]["rewards"] for cell in cells if cell["options"]["rewards"]]
    count = {kind: sizes.get(f"{kind}s", 0) for kind in ("click", "purchase")}
    same = all(rewards == learned[0] for rewards in learned) and all(
        cell["options"]["training"].get("reward_transform", "none") == "none" for cell in cells
    )
    if not learned or not same or not sum(count.values()) or sum(count.values()) != sizes.get("events"):
        return []
    mean = sum(count[kind] * learned[0].get(kind, 0.0) for kind in count) / sizes["events"]
    return [f"The mean reward of a logged action of the training split is {mean:.3f}."]


def share(value: float | None) -> str:
    """In percent."""
    return "–" if value is None else f"{100 * value:.2f} %"
