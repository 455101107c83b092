"""The paper's table and figures, one command each: `valuerec reproduce`.

Cells (one training run each) are run in processes of their own and written down as they finish (`running`, `book`);
tables, figures and the report are made of what is written.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from valuerec.backbones import backbone_named
from valuerec.dataset import SPLITS, Dataset, Rewards
from valuerec.errors import UsageError, ValuerecError
from valuerec.evaluation import SCORED
from valuerec.experiments import figure2, figure3
from valuerec.experiments.book import Book
from valuerec.experiments.cell import Cell, Figures, changed_options, first_difference, slug_of
from valuerec.experiments.comparing import compare
from valuerec.experiments.figure1 import figure1
from valuerec.experiments.plotting import save
from valuerec.experiments.report import require_report, write_report
from valuerec.experiments.results import BOOKS, EARLIER, Results, refuse_own_folder
from valuerec.experiments.rows import PLAIN, UNTRAINED, Row, choose_rows
from valuerec.experiments.running import Machine, machine, missing_cells, run_cells
from valuerec.experiments.tuning import Options, as_released, plain_trials, trials, tuned
from valuerec.folders import check_whole, explained_io
from valuerec.methods import method_named
from valuerec.printing import PlainConsole
from valuerec.training.config import PROTOCOLS, TrainConfig

EXPERIMENTS: Final = ("table1", "figure1", "figure2", "figure3")

_TRAINS = ("table1", "figure2", "figure3")
_TAKEN_BY: Final[Mapping[str, Sequence[str]]] = {  # options that not all experiments that train have a use for
    **dict.fromkeys(("what", "experiment", "out", "quiet", "json"), EXPERIMENTS),
    **dict.fromkeys(("rows", "protocol", "controls"), ("table1",)),
    "backbone": ("figure2", "figure3"),
}


class _Setting(NamedTuple):
    """What the cells of an experiment share."""

    dataset: Dataset
    results: Results
    training: dict[str, Any]
    seeds: int
    tuning: bool
    machine: Machine
    quiet: bool


def reproduce(
    what: str,
    *,
    out: str | Path,
    data: str | Path | Dataset | None = None,
    seeds: int = 5,
    rows: str | Sequence[str] | None = None,
    protocol: str = "ours",
    controls: bool = False,
    backbone: str | None = None,
    tuning: bool = True,
    epochs: int = 20,
    patience: int = 3,
    max_steps: int | None = None,
    rewards: Rewards | None = None,
    reward_transform: str = "none",
    jobs: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Run what is missing of an experiment; write its table or figure, and a report of all that the folder holds.

    Args:
        what: table1, figure1, figure2 or figure3.
        out: the folder; one that holds finished cells of this dataset is gone on with.
        data: a dataset, or its folder; figure1 takes none, nor any other option.
        seeds: runs a row, seeds 0 to seeds - 1, seed by seed.
        rows: of the table: `sasrec-vpq`, or a backbone's (`sasrec`) or a method's (`vpq`) rows; None for all.
        protocol: of the table: ours or released (then SASRec's rows, unless told otherwise).
        controls: the table with SASRec's controls, and the baselines that are not trained.
        backbone: of figure2 (sasrec) or figure3 (nextitnet, as in the paper).
        tuning: under `ours`, choose each method's hyper-parameter on validation first; else the defaults. The protocol
            `released` has the values of that code.
        epochs: passes over the training split, at most.
        patience: validations without a better score after which a run stops.
        max_steps: steps of a run, at most.
        rewards: of each kind of event; the paper's by default. The grids of the tuning are meant for these.
        reward_transform: none or linear, as in `TrainConfig`.
        jobs: cells at a time; None for one a core, which is faster than one cell on all of them.
        device: auto, cpu or cuda.
        quiet: print nothing.

    Returns:
        The folder.

    Raises:
        UsageError: for an unknown experiment, row or backbone, an option that the experiment has no use for, a folder
            with cells of another dataset or of other options or that another process works in, or where a figure is
            asked for and the extra `report` is not installed.
        ValuerecError: where the dataset has no purchases or no clicks, or cells failed.
        KeyboardInterrupt: when interrupted, with what to do then.
    """
    asked = dict(locals())
    if what not in EXPERIMENTS:
        raise UsageError(f"There is no experiment named {what!r}; choose one of: {', '.join(EXPERIMENTS)}.")
    check_taken(what, _not_default(asked))
    if what != "table1":  # whose cells may be made where nothing can be drawn
        require_report()
    folder = Path(out)
    if what == "figure1":
        _figure1(folder)
        return folder
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UsageError(f"--{name} is {value!r}; it must be a whole number of at least 1.")
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol named {protocol!r}; choose one of: {', '.join(PROTOCOLS)}.")
    if data is None:
        raise UsageError(f"reproduce {what} trains models and needs a dataset; name one with --data.")
    wanted = choose_rows(rows.split(",") if isinstance(rows, str) else rows, protocol, controls)
    shown = backbone if backbone is not None else figure3.BACKBONE if what == "figure3" else figure2.BACKBONE
    backbone_named(shown)
    dataset = data if isinstance(data, Dataset) else Dataset(data)
    check_whole(dataset.path, dataset.manifest, ("arrays.safetensors", "items.parquet"))
    _check_kinds(dataset)
    rewards = rewards or Rewards()
    dataset.rewards_by_code(rewards)  # these refuse what is wrong before anything is written
    training: dict[str, Any] = {
        "epochs": epochs,
        "patience": patience,
        "max_steps": max_steps,
        "reward_transform": reward_transform,
    }
    methods = {row.method for row in wanted if row.backbone != UNTRAINED} if what == "table1" else {"vpq"}
    for name in sorted(methods | {PLAIN}):
        TrainConfig(**training, method=method_named(name)(), rewards=rewards, device=device)
    training["rewards"] = rewards.by_kind
    workers = machine(jobs, device)
    results = Results.of(folder, dataset)
    setting = _Setting(dataset, results, training, seeds, tuning, workers, quiet)
    with _reported(results, quiet):
        if what == "table1":
            _table1(setting, wanted, protocol)
        elif what == "figure2":
            _figure2(setting, shown)
        else:
            _figure3(setting, shown)
    return folder


def check_taken(what: str, given: Mapping[str, Any]) -> None:
    """Refuse options that an experiment has no use for.

    Args:
        what: the experiment.
        given: names and values of the options that were given.

    Raises:
        UsageError: naming the first, and what it belongs to.
    """
    for name, value in given.items():
        if what not in (takers := _TAKEN_BY.get(name, _TRAINS)):
            option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            raise UsageError(
                f"reproduce {what} has no use for {option}, an option of {', '.join(takers)}; leave it out."
            )


def _not_default(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments of `reproduce`, those that say something else than its defaults."""
    defaults = {name: each.default for name, each in inspect.signature(reproduce).parameters.items()}
    defaults["rewards"] = Rewards()
    return {name: value for name, value in asked.items() if value is not None and value != defaults[name]}


def _figure1(folder: Path) -> None:
    refuse_own_folder(folder)
    with explained_io(f"Writing {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder)
    with results.locked():
        figure1(folder)
        write_report(results)


def _table1(setting: _Setting, rows: Sequence[Row], protocol: str) -> None:
    if protocol == "released":
        options = {row: as_released(row) for row in rows}
    else:
        options = _tuned(setting, rows) if setting.tuning else {row: {} for row in rows}
    cells = [
        Cell(**row._asdict(), protocol=protocol, seed=seed, training=setting.training, **options[row])
        for seed in range(setting.seeds)
        for row in rows
        if seed == 0 or row.backbone != UNTRAINED  # which knows no chance
    ]
    _run(setting, "table1", cells)
    compare(setting.results)


def _figure2(setting: _Setting, backbone: str) -> None:
    options = _tuned_row(setting, Row(backbone, "vpq"))
    _run(setting, "figure2", figure2.cells(backbone, setting.seeds, setting.training, options))
    _draw(setting.results, "figure2", backbone, figure2)


def _figure3(setting: _Setting, backbone: str) -> None:
    options = _tuned_row(setting, Row(backbone, PLAIN))  # λ is what the figure varies
    _run(setting, "figure3", figure3.cells(backbone, setting.seeds, setting.training, options))
    _draw(setting.results, "figure3", backbone, figure3)


def _tuned_row(setting: _Setting, row: Row) -> Options:
    return _tuned(setting, [row])[row] if setting.tuning else {}


@contextmanager
def _reported(results: Results, quiet: bool) -> Iterator[None]:
    """Keep other processes out of the folder meanwhile, and write the report at the end, however that comes.

    Where the work failed, that is what is told, and not that the report did too.
    """
    with results.locked():
        try:
            yield
        except BaseException:
            with suppress(ValuerecError):
                _report(results, quiet)
            raise
        _report(results, quiet)


def _report(results: Results, quiet: bool) -> None:
    """Write the report, or say what it takes."""
    try:
        require_report()
    except UsageError as missing:
        PlainConsole(stderr=True, quiet=quiet).print(f"No report was written. {missing}", soft_wrap=True)
    else:
        write_report(results)


def _tuned(setting: _Setting, rows: Sequence[Row]) -> dict[Row, Options]:
    """What was chosen for these rows, after the trials that are missing, those of the plain backbones first."""
    _run(setting, "tuning", plain_trials(rows, setting.training))
    _run(setting, "tuning", trials(rows, setting.training, setting.results.book("tuning")))
    book = setting.results.book("tuning")
    return {row: tuned(row, book) for row in rows}


def _run(setting: _Setting, name: str, cells: Sequence[Cell]) -> None:
    """Run the cells that are neither there nor in the file of another experiment."""
    results, dataset = setting.results, setting.dataset
    book = results.book(name)
    if setting.tuning:
        _set_aside(setting, cells, book)
    missing = missing_cells(cells, book, dataset)
    known = [cell for other in (*BOOKS, EARLIER) if other != name for cell in results.cells(other)]
    for cell in missing:
        if figures := _same(cell, known, dataset):
            if (ranks := results.ranks(slug_of(figures))).is_file():
                with explained_io(f"Writing {results.ranks(cell.slug)}"):
                    shutil.copyfile(ranks, results.ranks(cell.slug))
            book.add(figures | {"variant": cell.variant})
    run_cells(cells, book, dataset, setting.machine, known, setting.quiet)


def _set_aside(setting: _Setting, cells: Sequence[Cell], book: Book) -> None:
    """Move recorded cells with other hyper-parameters than those chosen now to earlier.json, to be made anew.

    Nothing is lost: where the choice changes back, they are taken over again.
    """
    moved = []
    for cell in cells:
        figures = book.cells.get(cell.key)
        asked = cell.options(setting.dataset)
        if figures is None or first_difference(asked, figures, ("rewards", "training")):
            continue  # which is refused
        if found := first_difference(asked, figures, ("backbone", "method")):
            option, recorded, value = found
            earlier = figures | {"variant": "-".join(filter(None, (cell.variant, *changed_options(figures))))}
            setting.results.book(EARLIER).add(earlier)
            if (ranks := setting.results.ranks(cell.slug)).is_file():
                with explained_io(f"Moving {ranks}"):
                    ranks.replace(setting.results.ranks(slug_of(earlier)))
            book.remove(cell.key)
            moved.append(f"{cell.name} with {option} = {recorded} (now {value})")
    if moved:
        more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
        PlainConsole(stderr=True, quiet=setting.quiet).print(
            f"{book.path.name} holds cells with other hyper-parameters than are chosen now: {moved[0]}{more}. They are "
            f"set aside in {EARLIER}.json and made anew.",
            soft_wrap=True,
        )


def _same(cell: Cell, known: Sequence[Figures], dataset: Dataset) -> Figures | None:
    """The same run, made by another experiment under another name."""
    names, asked = (cell.backbone, cell.method, cell.protocol, cell.seed), cell.options(dataset)
    for figures in known:
        recorded = figures["backbone"], figures["method"], figures["protocol"], figures["seed"]
        scored = figures["test"] is not None or figures["diverged"] or not cell.test
        if recorded == names and scored and first_difference(asked, figures) is None:
            return figures
    return None


def _draw(results: Results, name: str, backbone: str, figure: ModuleType) -> None:
    """Draw the cells of one backbone; another than the figure's own has its name in the picture's."""
    cells = [cell for cell in results.cells(name) if cell["backbone"] == backbone]
    with explained_io(f"Writing {results.path}"):
        save(figure.draw(cells), results.path / (name if backbone == figure.BACKBONE else f"{name}-{backbone}"))


def _check_kinds(dataset: Dataset) -> None:
    """Refuse a dataset with a split that has no purchases or no clicks: the experiments compare them."""
    for split in SPLITS:
        events = dataset.events_of(split)
        for kind, code in SCORED.items():
            if not (dataset.event_E[events.start : events.stop] == code).any():
                raise ValuerecError(
                    f"{dataset.path} has no {kind}s in its {split} split, and the experiments compare them; prepare a "
                    "log that has them (--events view=click,order=purchase)."
                )
