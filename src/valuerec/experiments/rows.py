"""The rows of Table 1: a backbone and a method, and the patterns that choose among them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final, NamedTuple

from valuerec.baselines import BASELINES
from valuerec.errors import UsageError
from valuerec.methods import METHODS

PLAIN: Final = "supervised"
UNTRAINED: Final = "untrained"  # stands for the backbone of a baseline that has none
CONTROLLED: Final = "sasrec"  # the backbone of the controls, of the tuning and of the released protocol
_BACKBONES: Final = ("caser", "nextitnet", "sasrec", "gru4rec")  # the order of the paper, and GRU4Rec
_METHODS: Final = (PLAIN, "sac", "rem", "minus", "cql", "uwac", "vpq")


class Row(NamedTuple):
    """A row of the table."""

    backbone: str
    method: str

    @property
    def name(self) -> str:
        """As `--rows` names it."""
        return self.method if self.backbone == UNTRAINED else f"{self.backbone}-{self.method}"


def table_rows() -> list[Row]:
    """The rows of the paper's table and GRU4Rec's, in order."""
    return [Row(backbone, method) for backbone in _BACKBONES for method in _METHODS]


def control_rows() -> list[Row]:
    """The trained controls: a gain's cheaper explanations."""
    return [Row(CONTROLLED, name) for name, method in METHODS.items() if method.control]


def untrained_rows() -> list[Row]:
    """The baselines that are not trained."""
    return [Row(UNTRAINED, name) for name in BASELINES]


def all_rows() -> list[Row]:
    """Every row there is, in order."""
    return table_rows() + control_rows() + untrained_rows()


def choose_rows(patterns: Sequence[str] | None, protocol: str, controls: bool) -> list[Row]:
    """The rows to run.

    Args:
        patterns: `sasrec-vpq` is a row, `sasrec` a backbone's rows, `vpq` a method's; None for all of the protocol.
        protocol: under `released` the rows are SASRec's unless patterns say otherwise, and nothing is untrained.
        controls: with the controls beside these, trained and (not under `released`) untrained.

    Raises:
        UsageError: for no patterns or an empty one, for one that no row fits, with the nearest name, and for what the
            protocol can't have.
    """
    if patterns is not None and not (patterns and all(patterns)):
        state = "has an empty part" if any(patterns) else "is empty"
        raise UsageError(
            f"--rows {state}; write rows with commas between, as in sasrec-vpq,caser, or leave it out for all."
        )
    known = [row for row in all_rows() if protocol == "ours" or row.backbone != UNTRAINED]
    chosen = set(control_rows() + untrained_rows() if controls else [])
    if patterns is None:
        chosen.update(row for row in table_rows() if protocol == "ours" or row.backbone == CONTROLLED)
    for pattern in patterns or []:
        chosen.update(_matching(pattern, known, controls))
    return [row for row in known if row in chosen]


def _matching(pattern: str, known: list[Row], controls: bool) -> list[Row]:
    """The rows that one pattern means; a backbone's name does not ask for the controls."""
    found = [row for row in known if pattern in (row.name, row.method)]
    found = found or [row for row in table_rows() if row.backbone == pattern]
    if not found and pattern in (UNTRAINED, *BASELINES) and not any(row.backbone == UNTRAINED for row in known):
        raise UsageError(
            f"--rows has {pattern!r}, which is not trained, and the protocol released has only rows that are; ask for "
            "it under --protocol ours."
        )
    if not found and pattern == UNTRAINED:
        if controls:
            return untrained_rows()
        raise UsageError(f"--rows has {pattern!r}, which are controls; ask for them with --controls.")
    if not found:
        names = [name for row in known for name in (row.name, row.backbone, row.method)]
        near = difflib.get_close_matches(pattern.lower(), names, n=1, cutoff=0)
        raise UsageError(
            f"--rows has {pattern!r}, and no row is named so; the nearest is {near[0]} (a row, a backbone or a method)."
        )
    return found
