"""From a dataset to a RUN folder."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from valuerec.dataset import CLICK, KINDS, Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.evaluation import SELECTION
from valuerec.folders import CHECKPOINTS, MANIFEST, check_unused, check_whole, explained_io
from valuerec.ops import choose_engine, native
from valuerec.training.config import MAY_CHANGE, TrainConfig
from valuerec.training.growth import Growth
from valuerec.training.learners import fresh_network
from valuerec.training.planning import Plan, lengths_of, plan_run
from valuerec.training.repair import repair
from valuerec.training.reporting import Reporter
from valuerec.training.run import FIXED, LOG, Run, describe, environment
from valuerec.training.trainer import DivergedError, Trainer


def train(
    data: str | Path | Dataset,
    *,
    out: str | Path,
    config: TrainConfig | None = None,
    resume: bool = False,
    start: str | Path | None = None,
    test: bool = True,
    quiet: bool = False,
    **options: Any,
) -> Path:
    """Train a recommender and write everything about it to the folder `out`.

    Args:
        data: a dataset, or its folder.
        out: the RUN folder; must not be in use, unless resuming.
        config: the run, whole; or give its fields as `options` (backbone=vr.SASRec(), method=vr.VPQ(), seed=1, ...).
        resume: go on from the newest whole checkpoint in `out`, to the same bits as without a stop on the same machine,
            device and number of threads; the configuration must be the same but for limits.
        start: a RUN to begin with the weights of, for a catalogue that has gained or lost items since: items that
            stayed keep theirs (`valuerec.training.growth`). Backbone, method, rewards and window must be the same. The
            weights are validated before the first step, and kept if no step makes them better.
        test: score the weights kept on the test split, too; a trial, of which a choice is made, must not read it.
        quiet: print nothing.
        options: fields of `TrainConfig`.

    Returns:
        The RUN folder. The weights kept are those with the best validation score.

    Raises:
        UsageError: for a wrong option, or an output folder in use, be it by another process that trains into it.
        ValuerecError: where training diverges (the weights kept so far are scored) or a file can't be written.
    """
    if config is None:
        _check_names(options)
        config = TrainConfig(**options)
    elif options:
        raise UsageError("train takes either config or its fields as options; give one of the two.")
    dataset = data if isinstance(data, Dataset) else Dataset(data)
    check_whole(dataset.path, dataset.manifest, ("arrays.safetensors", "items.parquet"))
    _check_trainable(dataset)
    dataset.rewards_by_code(config.rewards)  # which refuses those that do not fit
    device = choose_device(config.device)
    reporter = Reporter(quiet)
    _note_missing_kinds(config, dataset, reporter)
    _warn_of_memory(config, dataset, device, reporter)
    path, run = Path(out), None
    if not resume:
        with explained_io(f"Writing {path}"):
            _check_new(path)
    with _told_how_to_go_on(path, config, dataset, resume, start):
        network = fresh_network(config, dataset.n_items, device)
        growth = None if resume or start is None else Growth(start, config, dataset, network)
        try:
            if resume:
                run = _open(path, config, dataset, reporter, start)
            else:
                run = Run.create(path, config, dataset, device, growth.record if growth else None)
            trainer = Trainer(config, dataset, network, run, reporter)
            reporter.say(f"  {describe_engine(network.engine, device)}")
            if growth is not None:
                for line in growth.lines:
                    reporter.say(line)
                trainer.start(growth.weights)
                growth = None  # its memory is as much as the weights
            if resume:
                trainer.resume()
            _to_the_end(trainer, test)
        finally:
            if run is not None:
                run.release()
    return path


def _check_new(path: Path) -> None:
    """Refuse an output in use; one that is a run is nothing to remove lightly."""
    if (path / LOG).is_file() or (path / CHECKPOINTS).is_dir():
        raise UsageError(
            f"The output folder {path} is already in use by a run; go on with that by --resume and the options of the "
            "first time, or name a new folder with --out."
        )
    check_unused(path)


def _again(dataset: Dataset, path: Path) -> str:
    command = shlex.join(["valuerec", "train", str(dataset.path), "--out", str(path), "--resume"])
    return f"go on with: {command} (and the same options)"


@contextlib.contextmanager
def _told_how_to_go_on(
    path: Path, config: TrainConfig, dataset: Dataset, resume: bool, start: str | Path | None
) -> Iterator[None]:
    """Where the block ends early and leaves a run, whoever hears of it hears what to do, too."""

    def can_go_on() -> bool:
        return any((path / CHECKPOINTS).glob("step-*")) or (config.keeps_checkpoints and (resume or start is None))

    try:
        yield
    except KeyboardInterrupt as interrupt:
        if str(interrupt) or not (path / MANIFEST).is_file():
            raise
        if can_go_on():
            raise KeyboardInterrupt(_again(dataset, path)) from None
        if any(path.glob("weights-*.safetensors")):
            raise
        raise KeyboardInterrupt(f"nothing was learned yet; remove {path} and train again") from None
    except ValuerecError as error:
        if isinstance(error.__cause__, OSError) and (path / MANIFEST).is_file() and can_go_on():
            raise ValuerecError(f"{str(error).removesuffix('.')}; then {_again(dataset, path)}.") from error
        raise


def _to_the_end(trainer: Trainer, test: bool) -> None:
    """Train, score, and say how to go on where somebody interrupts."""
    run, reporter = trainer.run, trainer.reporter
    again = _again(trainer.dataset, run.path)
    try:
        status = trainer.fit()
    except DivergedError:
        with contextlib.suppress(ValuerecError):
            _finish(trainer, "diverged", test)
        raise
    except ValuerecError:
        with contextlib.suppress(ValuerecError):  # the first trouble is the one to tell
            run.finish("failed", None)
        raise
    if status == "interrupted":
        reporter.say(f"Interrupted at step {trainer.step}; scoring what there is (Ctrl-C again to leave it).")
    try:
        _finish(trainer, status, test)
    except KeyboardInterrupt:
        run.finish(status, None)
        if status != "interrupted":
            raise KeyboardInterrupt(f"the weights are whole; score them with: valuerec evaluate {run.path}") from None
    if status == "interrupted":
        raise KeyboardInterrupt(again)


def _finish(trainer: Trainer, status: str, test: bool) -> None:
    """Score the weights that count on the held-out splits, and close the run."""
    from valuerec.model import load_weights

    run = trainer.run
    if run.manifest["weights"] is None:  # diverged before the first validation
        run.finish(status, None)
        return
    trainer.end()  # its memory is as much as loading and scoring take
    load_weights(trainer.network, run.path / run.manifest["weights"])
    validated = trainer.has_best
    selection = {"by": SELECTION, "step": run.manifest["step"], "score": trainer.best_score}
    if not validated:
        selection = {"by": "none: interrupted before the first validation", "step": trainer.step}
    metrics = {
        **({"test": trainer.evaluate("test")} if test else {}),
        "validation": trainer.evaluate("validation"),
        "selection": selection,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 3),
        "status": status,
    }
    share = trainer.best_outside if validated else trainer.outside
    if trainer.bounds is not None and share is not None:
        metrics["outside"] = {"share": share, "bounds": list(trainer.bounds)}
    run.finish(status, metrics)


def plan(data: str | Path | Dataset | Mapping[str, int], *, timed: bool = True, **options: Any) -> Plan:
    """What training would need: peak memory, and seconds a step tried on this machine.

    Args:
        data: a dataset or its folder, or numbers: `{"items": 70852, "events": 1_000_000}` (events may be left out).
        timed: try some steps, which takes some seconds.
        options: fields of `TrainConfig`, as for `train`.

    Raises:
        UsageError: for a wrong option or number.
    """
    _check_names(options)
    config = TrainConfig(**options)
    length_E = None
    if isinstance(data, Mapping):
        unknown = [name for name in data if name not in ("items", "events")]
        if unknown or "items" not in data:
            raise UsageError(f"plan was given {dict(data)}; give items, and events if known, or a dataset.")
        items, events = data["items"], data.get("events", 0)
        if items < 1 or events < 0:
            raise UsageError(f"plan was given {items} items and {events} events; items must be at least 1.")
    else:
        dataset = data if isinstance(data, Dataset) else Dataset(data)
        items, events = dataset.n_items, len(dataset.item_E)
        length_E = lengths_of(dataset, config.window)
    return plan_run(config, items, events, choose_device(config.device), timed, length_E)


def _warn_of_memory(config: TrainConfig, dataset: Dataset, device: torch.device, reporter: Reporter) -> None:
    """Say so before a run that this machine's memory will not hold."""
    length_E = lengths_of(dataset, config.window)
    planned = plan_run(config, dataset.n_items, len(dataset.item_E), device, timed=False, length_E=length_E)
    if not planned.fits:
        reporter.say(
            f"Warning: this run needs about {planned.peak_bytes / 1e9:.1f} GB of memory, and there is "
            f"{_shown(planned)}; it may be killed. Use fewer --heads, --ensemble factored, or a larger machine "
            "(valuerec plan says more)."
        )


def _note_missing_kinds(config: TrainConfig, dataset: Dataset, reporter: Reporter) -> None:
    """Say so where the log has one kind of event alone, with nothing for rewards to tell apart, or kinds of its own."""
    if own := dataset.own_kinds:
        reporter.say(
            f"Note: events of the kind {' and '.join(own)} are learned from and not scored: scores, and the choice "
            "of weights by them, are of clicks and purchases."
        )
    events = dataset.events_of("train")
    found = np.unique(dataset.event_E[events.start : events.stop])
    if len(found) == 1 and found[0] < len(KINDS):
        kind, missing = ("clicks", "purchases") if found[0] == CLICK else ("purchases", "clicks")
        reporter.say(
            f"Note: {dataset.path} has no {missing} to train on: every event earns the same reward"
            f"{', so values tell only how long a session goes on' if config.method.n_heads else ''}, and validation "
            f"selects by {kind} alone."
        )


def _shown(planned: Plan) -> str:
    return "unknown" if planned.available is None else f"{planned.available / 1e9:.1f} GB"


def choose_device(name: str) -> torch.device:
    """The device for auto, cpu or cuda.

    Raises:
        UsageError: where CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but PyTorch sees no CUDA device here; use --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def describe_engine(engine: str, device: torch.device) -> str:
    """In a line: which engine works, where, and why not a faster one."""
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    reason = f" (not native: {native.why_not()})" if engine == "tiled" and device.type == "cpu" else ""
    return f"engine {engine}, {where}{reason}"


def _open(path: Path, config: TrainConfig, dataset: Dataset, reporter: Reporter, start: str | Path | None) -> Run:
    """Open and lock a run to go on with, having compared its configuration with the one asked for."""
    if put_back := repair(path, dataset):
        reporter.say(f"{path} was damaged; put back from a checkpoint and the dataset: {', '.join(put_back)}.")
    run = Run(path)
    try:
        run.lock()
        check_whole(path, run.manifest, FIXED)  # the rest is put back
        _check_same(run, config, dataset, start)
        _note_other_machine(run, environment(choose_device(config.device), run.environment["engine"]), reporter)
    except BaseException:
        run.release()
        raise
    return run


def _note_other_machine(run: Run, here: dict[str, Any], reporter: Reporter) -> None:
    """Say so where what follows may not be, bit by bit, what would have followed without a stop."""
    for name in ("valuerec", "torch", "platform", "device", "threads"):
        before, now = run.environment.get(name), here[name]
        if before != now:
            reporter.say(f"Note: {run.path} began with {name} = {before}, now it is {now}: the last bits may differ.")


def _check_same(run: Run, config: TrainConfig, dataset: Dataset, start: str | Path | None) -> None:
    path = run.path
    if start is not None and (began := run.config.get("start", {}).get("run")) != str(Path(start).resolve()):
        raise UsageError(
            f"{path} began with {f'the weights of {began}' if began else 'fresh weights'}, not with those of {start}; "
            "resume it without --from."
        )
    asked, recorded = describe(config, dataset), run.config
    if asked["dataset"]["fingerprint"] != recorded["dataset"]["fingerprint"]:
        raise UsageError(
            f"{path} was trained on another dataset than {dataset.path}; resume with the one it began with."
        )
    engine, before = choose_engine(config.engine, choose_device(config.device)), run.environment.get("engine")
    if engine != before:
        raise UsageError(
            f"{path} was trained with the engine {before}, and here it would be {engine}: another run. Resume where "
            f"{before} works, or train anew into another folder."
        )
    for part in ("backbone", "method", "rewards", "training"):
        for name, value in asked[part].items():
            if value != recorded[part].get(name) and not (part == "training" and name in MAY_CHANGE):
                raise UsageError(
                    f"{path} was trained with {part} {name} = {recorded[part].get(name)!r}, now it is {value!r}; "
                    "resume with the same."
                )


def _check_names(options: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in options:
        if name not in known:
            raise UsageError(f"train has no option {name!r}; it has: {', '.join(known)}.")


def _check_trainable(dataset: Dataset) -> None:
    for split in ("train", "validation", "test"):
        if not dataset.events_of(split):
            raise ValuerecError(
                f"{dataset.path} has no sessions in its {split} split; prepare a log with more sessions than "
                f"{dataset.manifest['counts']['sessions']}."
            )
    validation = dataset.events_of("validation")
    if not np.any(dataset.event_E[validation.start : validation.stop] < len(KINDS)):
        raise ValuerecError(
            f"{dataset.path} has neither clicks nor purchases in its validation split, and training selects by them; "
            "say which events are clicks or purchases with prepare --events."
        )


__all__ = ["Plan", "TrainConfig", "choose_device", "plan", "train"]
