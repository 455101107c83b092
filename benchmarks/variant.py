"""A row of the table with one option changed, beside rows as they were: the same seeds, budget and paired test.

    python benchmarks/variant.py data/yc results/yoochoose-1pct --row sasrec-shuffled --set penalty=80 \
        --against sasrec-vpq --out RUNS [--protocol ours] [--json]

What else the row's cells had, dropout say, is the variant's too. Runs go to a folder of their own and are gone on with;
the rows it is compared with are read from the folder of results, with their kept ranks. Differences are of the variant
less the row, with 95 % intervals and p-values of `valuerec.evaluation.significance`, not corrected for how many there
are.
"""

from __future__ import annotations

import argparse
import statistics
import tomllib
from pathlib import Path
from typing import Any, Final

import numpy as np

from provenance import print_figures
from valuerec.dataset import Dataset
from valuerec.errors import ValuerecError
from valuerec.experiments.cell import Cell, Figures, slug_of
from valuerec.experiments.comparing import columns_of
from valuerec.experiments.ranks import SessionRanks, read_ranks
from valuerec.experiments.results import Results
from valuerec.experiments.rows import Row, choose_rows
from valuerec.experiments.running import machine, run_cells
from valuerec.experiments.table import COLUMNS

_TRAINING: Final = ("epochs", "patience", "max_steps", "reward_transform")


def value_of(written: str) -> Any:
    """A number or true or false as TOML has them; any other word is itself."""
    try:
        return tomllib.loads(f"x = {written}")["x"]
    except tomllib.TOMLDecodeError:
        return written


def cells_of(results: Results, row: Row, protocol: str) -> list[Figures]:
    """The finished cells of a row of the table."""
    found = [
        cell
        for cell in results.cells("table1")
        if (cell["backbone"], cell["method"], cell["protocol"]) == (*row, protocol)
    ]
    if not found:
        raise ValuerecError(f"{results.path} has no cells of {row.name} under {protocol}; reproduce table1 makes them.")
    return sorted(found, key=lambda cell: cell["seed"])


def changed(figures: Figures, option: str, value: Any) -> Cell:
    """The cell again, with one option of its method changed."""
    options = figures["options"]
    if option not in options["method"]:
        raise ValuerecError(f"{figures['method']} has no option {option!r}; it has: {', '.join(options['method'])}.")
    return Cell(
        backbone=figures["backbone"],
        method=figures["method"],
        protocol=figures["protocol"],
        seed=figures["seed"],
        backbone_options=options["backbone"],
        method_options=options["method"] | {option: value},
        training={name: options["training"][name] for name in _TRAINING} | {"rewards": options["rewards"]},
    )


def compared(own: list[SessionRanks], others: list[SessionRanks]) -> dict[str, Any]:
    """Each column's difference."""
    rank_a_RE, rank_b_RE = (np.stack([ranks.rank_E for ranks in of_runs]) for of_runs in (own, others))
    return columns_of(rank_a_RE, rank_b_RE, own[0].event_E, own[0].session_E)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the dataset that the results are of")
    parser.add_argument("results", type=Path, help="a folder that `valuerec reproduce table1` wrote")
    parser.add_argument("--row", required=True, help="what is changed")
    parser.add_argument("--set", required=True, help="the option of the method and its value; none for none")
    parser.add_argument("--against", required=True, nargs="+", help="rows to compare with; the row itself may be one")
    parser.add_argument("--protocol", default="ours")
    parser.add_argument("--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    option, _, written = given.set.partition("=")
    value = None if written == "none" else value_of(written)
    results, dataset = Results(given.results), Dataset(given.data)
    (row,) = choose_rows([given.row], given.protocol, controls=False)
    cells = [changed(figures, option, value) for figures in cells_of(results, row, given.protocol)]
    variant = Results.of(given.out, dataset)
    with variant.locked():
        run_cells(cells, variant.book("table1"), dataset, machine(None, "cpu"), results.cells("table1"))
    made = cells_of(variant, row, given.protocol)
    if told := [figures["trouble"] for figures in made if figures["diverged"]]:
        raise ValuerecError(f"{len(told)} of {len(made)} runs diverged, so that there is nothing to compare: {told[0]}")
    ranks = [read_ranks(variant.ranks(slug_of(figures))) for figures in made]
    content: dict[str, Any] = {"row": row.name, "protocol": given.protocol, "changed": given.set, "seeds": len(made)}
    for kind, name in COLUMNS:
        values = [figures["test"][kind][name] for figures in made]
        content[f"{kind} {name}"] = {"mean": statistics.mean(values), "sd": statistics.stdev(values)}
    content["floored"] = statistics.mean(figures["floored"] or 0.0 for figures in made)
    for pattern in given.against:
        (other,) = choose_rows([pattern], given.protocol, controls=False)
        others = cells_of(results, other, given.protocol)
        content[f"less {other.name}"] = compared(ranks, [read_ranks(results.ranks(slug_of(each))) for each in others])
    print_figures(content, given.json)


if __name__ == "__main__":
    try:
        main()
    except ValuerecError as error:
        raise SystemExit(str(error)) from None
