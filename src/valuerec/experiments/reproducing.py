"""The paper's table and figures, one command each: `valuerec reproduce`.

Cells (one training run each) are run in processes of their own and written down as they finish (`running`, `book`);
tables, figures and the report are made of what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from valuerec.dataset import PURCHASE, SPLITS, Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Cell
from valuerec.experiments.rows import choose_rows
from valuerec.experiments.running import machine, missing_cells, run_cells
from valuerec.experiments.tuning import trials, tuned
from valuerec.folders import check_whole, explained_io

EXPERIMENTS = ("table1",)


def reproduce(
    what: str,
    *,
    data: str | Path | Dataset,
    out: str | Path,
    seeds: int = 5,
    rows: Sequence[str] | None = None,
    protocol: str = "ours",
    controls: bool = False,
    tuning: bool = True,
    epochs: int = 20,
    patience: int = 3,
    max_steps: int | None = None,
    jobs: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Run what is missing of an experiment and write its table or figure and a report into a folder.

    Args:
        what: table1.
        data: a dataset, or its folder.
        out: the folder; one that holds finished cells of this dataset is gone on with.
        seeds: runs a row, seeds 0 to seeds - 1, seed by seed.
        rows: of the table: `sasrec-vpq`, or a backbone's (`sasrec`) or a method's (`vpq`) rows; None for all.
        protocol: ours or released (then SASRec's rows, unless told otherwise).
        controls: with SASRec's controls.
        tuning: choose each method's hyper-parameter on validation first; else the defaults.
        epochs: passes over the training split, at most.
        patience: validations without a better score after which a run stops.
        max_steps: steps of a run, at most.
        jobs: cells at a time; None for one a core.
        device: auto, cpu or cuda.
        quiet: print nothing.

    Returns:
        The folder.

    Raises:
        UsageError: for an unknown experiment or row, or a folder with cells of another dataset or of other options.
        ValuerecError: where the dataset has no purchases, or cells failed.
        KeyboardInterrupt: when interrupted, with what to do then.
    """
    if what not in EXPERIMENTS:
        raise UsageError(f"There is no experiment named {what!r}; choose one of: {', '.join(EXPERIMENTS)}.")
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} is {value}; it must be at least 1.")
    dataset = data if isinstance(data, Dataset) else Dataset(data)
    check_whole(dataset.path, dataset.manifest, ("arrays.safetensors", "items.parquet"))
    _check_purchases(dataset)
    wanted = choose_rows(rows, protocol, controls)
    folder = Path(out)
    with explained_io(f"Writing {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    book = Book(folder / "table1.json", dataset.fingerprint)
    training: dict[str, Any] = {"epochs": epochs, "patience": patience, "max_steps": max_steps}
    where = machine(jobs, device)
    choices = Book(folder / "tuning.json", dataset.fingerprint) if tuning else None
    if choices is not None:
        methods = list(dict.fromkeys(row.method for row in wanted))
        run_cells(trials(methods, training), choices, dataset, where, quiet)
    cells = [
        Cell(**row._asdict(), protocol=protocol, seed=seed, training=training, **tuned(row, choices))
        for seed in range(seeds)
        for row in wanted
    ]
    missing_cells(cells, book, dataset)
    run_cells(cells, book, dataset, where, quiet)
    return folder


def _check_purchases(dataset: Dataset) -> None:
    """Refuse a dataset with a split that has no purchases: the table compares them."""
    for split in SPLITS:
        events = dataset.events_of(split)
        if not (dataset.event_E[events.start : events.stop] == PURCHASE).any():
            raise ValuerecError(
                f"{dataset.path} has no purchases in its {split} split, and the experiments compare purchases; prepare "
                "a log that has them (--events order=purchase)."
            )
