"""Which differences of the table hold: paired bootstraps of the kept ranks, Holm's correction within a backbone.

Each method is compared with the plain one and with the next best (by Total on test), and SASRec's VPQ with every
control. The family of a backbone and protocol is all its comparisons on all four columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from valuerec.errors import ValuerecError
from valuerec.evaluation.significance import LEVEL, holm, paired_bootstrap
from valuerec.experiments.book import first_fault
from valuerec.experiments.cell import Figures, slug_of
from valuerec.experiments.ranks import read_ranks
from valuerec.experiments.results import SIGNIFICANCE, Results
from valuerec.experiments.rows import CONTROLLED, PLAIN, UNTRAINED, Row, control_rows, untrained_rows
from valuerec.experiments.sheets import Sheet
from valuerec.experiments.table import COLUMNS, HEADS, Line, lines_of
from valuerec.folders import explained_io, read_json, write_json
from valuerec.training.config import PROTOCOLS

RESAMPLES: Final = 10_000
_FEWEST: Final = 2  # seeds, without which nothing is known of how much they matter
_ROUNDING: Final = 1e-9


class _Column(BaseModel, strict=True, allow_inf_nan=False):
    """What a column of a comparison must hold."""

    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float


class _Comparison(BaseModel, strict=True):
    """What an entry of significance.json must hold."""

    protocol: str
    backbone: str
    method: str
    against: str
    runs: Annotated[list[int], Field(min_length=2, max_length=2)]
    resamples: int
    ranks: str
    columns: dict[str, _Column]


def compare(results: Results) -> list[dict[str, Any]]:
    """Compare the rows of the table as far as their ranks are there, and write significance.json.

    A comparison that was made of the same ranks before is taken over; where ranks are gone, one of the same cells.

    Returns:
        What the file holds: a list of {protocol, backbone, method, against, runs, resamples, ranks (a digest),
        columns}, where columns has for each of the table's {difference, low, high, p_value, p_holm}.
    """
    cells = [cell for cell in results.cells("table1") if not cell["diverged"]]
    known = comparisons_of(results)
    entries = []
    for line, other in pairs(lines_of(cells)):
        own, others = ([cell for cell in cells if _is_of(cell, each)] for each in (line, other))
        names = {
            "protocol": line.protocol,
            "backbone": line.row.backbone,
            "method": line.row.method,
            "against": other.row.method,
            "runs": [len(own), len(others)],
            "resamples": RESAMPLES,
        }
        digest = _digest(results, [*own, *others])
        same = [
            entry
            for entry in known
            if names.items() <= entry.items()
            and (entry["ranks"] == digest if digest is not None else _is_of_cells(entry, own, others))
        ]
        if same:
            entries.append(same[0])
        elif digest is not None:
            entries.append(names | {"ranks": digest, "columns": _compared(results, own, others)})
    _correct(entries)
    with explained_io(f"Writing {results.path}"):
        write_json(results.path / SIGNIFICANCE, entries)
    return entries


def comparisons_of(results: Results) -> list[dict[str, Any]]:
    """What significance.json holds; nothing where it is not there.

    Raises:
        ValuerecError: where it is no list of comparisons, or one of them lacks a field or has another type there.
    """
    path = results.path / SIGNIFICANCE
    entries: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    try:
        TypeAdapter(list[_Comparison]).validate_python(entries)
    except ValidationError as error:
        raise ValuerecError(
            f"{path} holds no comparisons as this valuerec writes them ({first_fault(error)}); remove it, and "
            "reproduce table1 compares the kept ranks again."
        ) from error
    return entries


def pairs(lines: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """What is compared with what, each pair once: rows of one backbone and protocol with two seeds or more.

    A control may also be a baseline, which has no seed and no backbone.
    """
    controls = {*control_rows(), *untrained_rows()}
    enough = [line for line in lines if len(line.values) >= _FEWEST or (line.untrained and line.values)]
    ranked = sorted(enough, key=lambda line: -line.mean_total)
    for protocol, backbone in dict.fromkeys(
        (line.protocol, line.row.backbone) for line in enough if not line.untrained
    ):
        family = [line for line in ranked if (line.protocol, line.row.backbone) == (protocol, backbone)]
        plain = [line for line in family if line.row.method == PLAIN]
        rivals = [line for line in ranked if line.row in controls and (line in family or line.untrained)]
        seen = set()
        for place, line in enumerate(family):
            against = rivals if line.row == Row(CONTROLLED, "vpq") and protocol == "ours" else []
            for other in plain + family[place + 1 : place + 2] + against:
                pair = frozenset((line.row, other.row))
                if line is not other and pair not in seen:
                    seen.add(pair)
                    yield (other, line) if line.row.method == PLAIN else (line, other)


def _is_of(cell: Figures, line: Line) -> bool:
    return (cell["backbone"], cell["method"], cell["protocol"]) == (*line.row, line.protocol)


def _digest(results: Results, cells: Iterable[Figures]) -> str | None:
    """Of the ranks that a comparison is made of; None where some are missing."""
    digest = hashlib.sha256(f"{RESAMPLES} resamples".encode())
    for cell in cells:
        path = results.ranks(slug_of(cell))
        if not path.is_file():
            return None
        for array_E in read_ranks(path):
            digest.update(np.ascontiguousarray(array_E).tobytes())
    return digest.hexdigest()


def _is_of_cells(entry: dict[str, Any], own: Sequence[Figures], others: Sequence[Figures]) -> bool:
    """Whether a comparison's differences are those of these cells: all that is left to tell by, without their ranks."""
    means = {
        _column(kind, name): [statistics.fmean(cell["test"][kind][name] for cell in cells) for cells in (own, others)]
        for kind, name in COLUMNS
    }
    return all(
        name in means and math.isclose(column["difference"], means[name][0] - means[name][1], abs_tol=_ROUNDING)
        for name, column in entry["columns"].items()
    )


def _compared(results: Results, own: Sequence[Figures], others: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """The columns of one comparison."""
    read = [[read_ranks(results.ranks(slug_of(cell))) for cell in cells] for cells in (own, others)]
    session_E, event_E, _ = read[0][0]
    for ranks in (ranks for of_runs in read for ranks in of_runs):
        if not np.array_equal(ranks.session_E, session_E) or not np.array_equal(ranks.event_E, event_E):
            raise ValuerecError(f"The files in {results.path / 'ranks'} are not of the same events; remove them.")
    rank_a_RE, rank_b_RE = (
        np.stack([ranks.rank_E for ranks in of_runs]) if cells[0]["backbone"] != UNTRAINED else of_runs[0].rank_E
        for of_runs, cells in zip(read, (own, others), strict=True)
    )
    return columns_of(rank_a_RE, rank_b_RE, event_E, session_E)


def columns_of(
    rank_a_RE: NDArray[np.int64], rank_b_RE: NDArray[np.int64], event_E: NDArray[np.uint8], session_E: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """The table's columns of a paired bootstrap, as JSON; its arguments are those of `paired_bootstrap`."""
    compared = paired_bootstrap(rank_a_RE, rank_b_RE, event_E, session_E, resamples=RESAMPLES)
    found = {_column(kind, name): compared[kind][name] for kind, name in COLUMNS}
    return {name: dataclasses.asdict(each) for name, each in found.items() if each is not None}


def _column(kind: str, name: str) -> str:
    return f"{kind} {name}"


def _correct(entries: Sequence[dict[str, Any]]) -> None:
    """Add Holm's correction over each backbone's comparisons and columns, protocol by protocol."""
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        families.setdefault((entry["protocol"], entry["backbone"]), []).append(entry)
    for family in families.values():
        columns = [column for entry in family for column in entry["columns"].values()]
        for column, p_value in zip(columns, holm([column["p_value"] for column in columns]), strict=True):
            column["p_holm"] = p_value


def significance_sheets(entries: Sequence[dict[str, Any]]) -> list[Sheet]:
    """The comparisons of each protocol, a group a backbone; what survives the correction is marked."""
    sheets = []
    for protocol in PROTOCOLS:
        groups: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            if entry["protocol"] == protocol:
                groups.setdefault(entry["backbone"], []).append(entry)
        best = frozenset(
            (place, number, column + 1)
            for place, group in enumerate(groups.values())
            for number, entry in enumerate(group)
            for column, each in enumerate(COLUMNS)
            if entry["columns"].get(_column(*each), {}).get("p_holm", 1.0) <= LEVEL
        )
        rows = [[_shown(entry) for entry in group] for group in groups.values()]
        if rows:
            sheets.append(
                Sheet(title=f"Test, protocol {protocol}", head=("rows", *HEADS, "seeds"), groups=rows, best=best)
            )
    return sheets


def _shown(entry: dict[str, Any]) -> list[str]:
    cells = []
    for each in (entry["columns"].get(_column(kind, name)) for kind, name in COLUMNS):
        interval = f"[{_short(each['low'])}, {_short(each['high'])}]" if each else ""
        p_value = f"{each['p_holm']:.2g}".replace("0.", ".", 1) if each else ""
        cells.append(f"{_short(each['difference'], '+')} {interval} p {p_value}" if each else "–")
    runs = " / ".join(map(str, entry["runs"]))
    return [f"{entry['backbone']}-{entry['method']} − {entry['against']}", *cells, runs]


def _short(value: float, sign: str = "") -> str:
    """Three decimals, without the zero before the point."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)
