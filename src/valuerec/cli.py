"""The command line: parses, calls the function of the same name, prints. Nothing else happens here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from valuerec import __version__
from valuerec.errors import UsageError, ValuerecError
from valuerec.plain import escaped, plain

app = App(
    name="valuerec",
    version=__version__,
    help="Recommenders that pay off over time: learn long-term value from logged clicks and purchases.",
    help_format="plaintext",
    help_epilogue="Start with: valuerec demo",
    suppress_keyboard_interrupt=False,
)

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON for machines.")]
RewardClick = Annotated[float, Parameter(help="Reward of a click.")]
RewardPurchase = Annotated[float, Parameter(help="Reward of a purchase.")]
RewardOthers = Annotated[
    str | None, Parameter(help="Rewards of the other kinds of events that the dataset has: cart=0.5,wish=0.3.")
]
RewardTransform = Annotated[
    Literal["none", "linear"],
    Parameter(help="linear: shift the rewards so that the least is 0, for methods that can't take negative ones."),
]


@app.command(
    help_epilogue="Example: valuerec prepare clicks.dat buys.dat --format yoochoose --out data/shop\n"
    "Example: valuerec prepare log.csv --format events --out data/shop \\\n"
    "    --columns session=visitor,item=sku,time=at,event=what \\\n"
    "    --events view=click,order=purchase,search=ignore"
)
def prepare(
    sources: list[Path],
    /,
    *,
    format: Literal["yoochoose", "retailrocket", "otto", "events"],
    out: Path,
    split: Literal["random", "temporal"] = "random",
    seed: int = 0,
    min_item_events: int = 3,
    min_session_events: int = 3,
    columns: str | None = None,
    events: str | None = None,
    time_unit: Literal["auto", "iso", "s", "ms", "us", "ns", "position"] = "auto",
    on_bad_rows: Literal["quarantine", "fail"] = "quarantine",
    max_bad_fraction: float = 0.05,
    quarantine: Path | None = None,
    drop_duplicates: Annotated[bool, Parameter(negative="")] = False,
    latest_time: str | None = None,
    like: Path | None = None,
    on_drift: Literal["warn", "fail"] = "warn",
    drift_limit: str | None = None,
    sample_sessions: int | None = None,
    max_memory: str = "4GB",
    json: Json = False,
) -> None:
    """Turn a raw event log into a dataset.

    Parameters
    ----------
    sources
        The log's files: plain, gz, xz or zst; Parquet as it is.
    format
        yoochoose (clicks and buys files), retailrocket (events.csv), otto (JSON lines), or events: any CSV, TSV,
        JSON lines or Parquet.
    out
        The dataset folder to make.
    split
        random: 80/10/10 of the sessions; temporal: by a session's end.
    seed
        Of the random split and the sample.
    min_item_events
        Drop items with fewer events.
    min_session_events
        Drop sessions with fewer events.
    columns
        For format events: session=...,item=...,time=...,event=...
    events
        What each kind of event is: view=click,order=purchase,search=ignore; any other name, as in addtocart=cart, makes
        a kind of its own, for which training wants a reward.
    time_unit
        Of numeric times; position: a counter, not a clock.
    on_bad_rows
        quarantine: set bad rows aside, with reason and the first 2,000 characters; fail: stop at the first.
    max_bad_fraction
        Refuse the log where a larger share of the rows is bad.
    quarantine
        The Parquet file for bad rows: quarantine.parquet in OUT, beside OUT where the log is refused.
    drop_duplicates
        Drop events that repeat another in session, item, time and kind; by default they are counted.
    latest_time
        Events after it are bad, such as 2014-10-01; by default a day from now.
    like
        An earlier dataset that the log should resemble.
    on_drift
        What to do where it does not.
    drift_limit
        Other limits than the defaults in the table: purchase_share=2,sessions=inf
    sample_sessions
        Keep that many sessions, drawn by the seed.
    max_memory
        For the database engine.
    """
    from valuerec import stages
    from valuerec.events import DriftError, account_table, drift_table

    with _shown_drift(DriftError, drift_table, json), _status("Preparing") as say:
        dataset = stages.prepare(
            sources,
            format=format,
            out=out,
            split=split,
            seed=seed,
            min_item_events=min_item_events,
            min_session_events=min_session_events,
            columns=_pairs("--columns", columns),
            events=_pairs("--events", events),
            time_unit=time_unit,
            on_bad_rows=on_bad_rows,
            max_bad_fraction=max_bad_fraction,
            quarantine=quarantine,
            drop_duplicates=drop_duplicates,
            latest_time=latest_time,
            like=like,
            on_drift=on_drift,
            drift_limits=_numbers("--drift-limit", drift_limit),
            sample_sessions=sample_sessions,
            max_memory=max_memory,
            progress=say,
        )
    if json:
        _print_json(dataset.manifest)
        return
    _say(account_table(dataset.manifest))
    for note in dataset.manifest["notes"]:
        _say(f"Note: {note}")
    if drift := dataset.manifest.get("drift"):
        _say(drift_table(drift))
        for note in drift["notes"]:
            _say(f"Note: {note}")
        if drift["drifted"]:
            _say(f"Warning: the log has drifted from {like}: {', '.join(drift['drifted'])}.")
    rewards = f" --reward-others {','.join(f'{kind}=0.5' for kind in own)}" if (own := dataset.own_kinds) else ""
    _say(f"Dataset written to {out}. Next: valuerec train {out} --method vpq{rewards} --out RUN")


@app.command(
    help_epilogue="Example: valuerec train data/shop --method vpq --penalty 20 --out runs/vpq\n"
    "Example: valuerec train data/later --method vpq --penalty 20 --out runs/later --from runs/vpq"
)
def train(
    dataset: Path,
    /,
    *,
    out: Path,
    backbone: str = "sasrec",
    method: str = "vpq",
    penalty: float | None = None,
    heads: int | None = None,
    discount: float | None = None,
    target_every: int | None = None,
    ensemble: str | None = None,
    critic: str | None = None,
    warm_up: int | None = None,
    recommend: str | None = None,
    floor: float | Literal["none"] | None = None,
    weight: float | None = None,
    beta: float | None = None,
    clip: float | None = None,
    form: str | None = None,
    double: bool | None = None,
    width: int | None = None,
    dropout: float | None = None,
    protocol: Literal["ours", "released"] = "ours",
    reward_click: RewardClick = 0.2,
    reward_purchase: RewardPurchase = 1.0,
    reward_others: RewardOthers = None,
    reward_transform: RewardTransform = "none",
    window: int = 10,
    batch_size: int = 256,
    learning_rate: float = 0.005,
    epochs: int = 20,
    max_steps: int | None = None,
    validate_every: int | None = None,
    patience: int = 3,
    checkpoint_every: int | None = None,
    checkpoint_minutes: float = 5.0,
    keep_checkpoints: int = 2,
    resume: Annotated[bool, Parameter(negative="")] = False,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    engine: Literal["auto", "native", "tiled", "plain"] = "auto",
    json: Json = False,
) -> None:
    """Train a recommender; keep the weights with the best validation score.

    Parameters
    ----------
    dataset
        A folder that `valuerec prepare` made.
    out
        The run folder to make.
    backbone
        The sequential model: sasrec, nextitnet, caser or gru4rec.
    method
        How it learns: `valuerec methods` lists the methods, with their options and defaults.
    penalty
        λ, the weight of the ensemble's disagreement (vpq: 20, minus: 1).
    heads
        K, Q-heads of the ensemble (15; sac and cql: 1).
    discount
        γ of future rewards (0.5).
    target_every
        Steps between two copies of the network into the target (100).
    ensemble
        full Q-heads as in the paper, or factored ones for catalogues whose full heads do not fit (full).
    critic
        What the critic is for: reinforce weighs the cross-entropy by it, auxiliary only shapes the state, off leaves it
        out (reinforce).
    warm_up
        Steps before the critic, which learns meanwhile, weighs the cross-entropy (0).
    recommend
        Recommend, and validate, by items: the item head; or by values: the mean of the Q-heads (items).
    floor
        The least weight of an event's cross-entropy; none for no floor (0).
    weight
        Of the conservative term (cql: 0.1).
    beta
        β, the variance at which an event weighs 1 (uwac: 1).
    clip
        The largest weight (uwac: 1.5).
    form
        original, or released as in the code of VPQ's paper (uwac: original).
    double
        Let the trained network choose the item that the target judges (sac: yes).
    width
        Width of an item's vector and of the state, which for caser is 48 wider (64).
    dropout
        Rate of dropout (sasrec, caser: 0.1).
    protocol
        ours: one network and a frozen copy as target; released: two networks that take turns by a coin, as in the code
        of VPQ's paper. The same for a method without a critic.
    window
        Past items that make a state.
    batch_size
        Transitions a step.
    learning_rate
        Of Adam.
    epochs
        Passes over the training sessions, at most.
    max_steps
        Steps, at most.
    validate_every
        Steps between two validations; by default each epoch.
    patience
        Stop after so many validations without a better score.
    checkpoint_every
        Steps between two checkpoints, for --resume.
    checkpoint_minutes
        Minutes between two checkpoints, or more where writing them would take more than 2 % of the time; 0 for none by
        time.
    keep_checkpoints
        How many of the newest are kept.
    resume
        Go on from the newest whole checkpoint in OUT; a run that ended goes on where more --epochs, --max-steps or
        --patience are given.
    start
        An earlier run to begin with the weights of: items that are still there keep theirs, new ones start as average
        and uncertain. Give the options that it was trained with.
    seed
        Of weights, batch order, dropout and mixtures.
    device
        Where to compute.
    engine
        How the catalogue-sized work is done: native (compiled kernels), tiled (PyTorch) or plain (the references).
    """
    from valuerec import stages
    from valuerec.backbones import backbone_named
    from valuerec.methods import method_named

    learner = _configured(
        "method",
        method,
        method_named(method),
        penalty=penalty,
        heads=heads,
        discount=discount,
        target_every=target_every,
        ensemble=ensemble,
        critic=critic,
        warm_up=warm_up,
        recommend=recommend,
        floor=floor,
        weight=weight,
        beta=beta,
        clip=clip,
        form=form,
        double=double,
    )
    encoder = _configured("backbone", backbone, backbone_named(backbone), width=width, dropout=dropout)
    run = stages.train(
        dataset,
        out=out,
        resume=resume,
        start=start,
        backbone=encoder,
        method=learner,
        protocol=protocol,
        rewards=_rewards(reward_click, reward_purchase, reward_others),
        reward_transform=reward_transform,
        window=window,
        batch_size=batch_size,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        validate_every=validate_every,
        patience=patience,
        checkpoint_every=checkpoint_every,
        checkpoint_minutes=checkpoint_minutes,
        keep_checkpoints=keep_checkpoints,
        seed=seed,
        device=device,
        engine=engine,
    )
    metrics = stages.info(run)["metrics"]
    if json:
        _print_json(metrics)
        return
    _print_metrics({"test": metrics["test"], "validation": metrics["validation"]}, f"{backbone}, {method}")
    if outside := metrics.get("outside"):
        low, high = outside["bounds"]
        _say(f"Share of Q-values outside the certain bounds [{low:g}, {high:g}]: {outside['share']:.2%}.")
    _say(
        f"{metrics['status'].capitalize()} after {metrics['steps']} steps, {metrics['seconds']:.0f} s; weights of step "
        f"{metrics['selection']['step']}. Run written to {out}. Next: valuerec recommend {out} --sessions FILE "
        "--out FILE"
    )


@app.command(
    help_epilogue="Example: valuerec plan data/shop --method vpq\n"
    "Example: valuerec plan items=1000000,events=50000000 --heads 15 --json"
)
def plan(
    dataset_or_numbers: str,
    /,
    *,
    backbone: str = "sasrec",
    method: str = "vpq",
    heads: int | None = None,
    ensemble: str | None = None,
    width: int | None = None,
    protocol: Literal["ours", "released"] = "ours",
    window: int = 10,
    batch_size: int = 256,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    engine: Literal["auto", "native", "tiled", "plain"] = "auto",
    json: Json = False,
) -> None:
    """Say what training would need: peak memory, and seconds a step tried on this machine.

    Parameters
    ----------
    dataset_or_numbers
        A folder that `valuerec prepare` made, or numbers: 70852 or items=70852,events=1200000
    backbone
        The sequential model: sasrec, nextitnet, caser or gru4rec.
    method
        How it learns (`valuerec methods`).
    heads
        K, Q-heads of the ensemble (15; sac and cql: 1).
    ensemble
        full or factored Q-heads (full).
    width
        Width of an item's vector and of the state, which for caser is 48 wider (64).
    protocol
        ours or released, which has two networks.
    window
        Past items that make a state.
    batch_size
        Transitions a step.
    device
        Where it would compute.
    engine
        How the catalogue-sized work would be done.
    """
    from valuerec import stages
    from valuerec.backbones import backbone_named
    from valuerec.methods import method_named
    from valuerec.printing import PlainConsole, whole_table

    planned = stages.plan(
        _dataset_or_numbers(dataset_or_numbers),
        backbone=_configured("backbone", backbone, backbone_named(backbone), width=width),
        method=_configured("method", method, method_named(method), heads=heads, ensemble=ensemble),
        protocol=protocol,
        window=window,
        batch_size=batch_size,
        device=device,
        engine=engine,
    )
    if json:
        _print_json(planned._asdict() | {"fits": planned.fits})
        return
    table = whole_table("what", "GB", title=f"{planned.items:,} items, engine {planned.engine}", numbers=True)
    for name, size in sorted(planned.parts.items(), key=lambda part: -part[1]):
        table.add_row(name, f"{size / 1e9:.3f}")
    table.add_row("the program itself", f"{(planned.peak_bytes - sum(planned.parts.values())) / 1e9:.3f}")
    table.add_row("peak memory", f"{planned.peak_bytes / 1e9:.2f}")
    table.add_row("there is", "unknown" if planned.available is None else f"{planned.available / 1e9:.2f}")
    PlainConsole().print(table)
    verdict = (
        "It fits." if planned.fits else "It does not fit: use fewer --heads, --ensemble factored or a larger machine."
    )
    _say(f"About {planned.step_seconds:.3f} s a step. {verdict}")


@app.command(help_epilogue="Example: valuerec evaluate runs/vpq --split test --json")
def evaluate(
    run: Path,
    /,
    *,
    split: Literal["train", "validation", "test", "held-out"] = "test",
    recommend: Literal["items", "values"] | None = None,
    data: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: Json = False,
) -> None:
    """Score a run on held-out sessions: HR and NDCG at 5, 10 and 20 over the whole catalogue.

    Parameters
    ----------
    run
        A folder that `valuerec train` made.
    split
        Which sessions; held-out: validation and test together.
    recommend
        Rank by items, the item head, or by values, the mean of the Q-heads; by default as the run was trained to.
    data
        The dataset, where it has moved since training.
    device
        Where to compute.
    """
    from valuerec import stages

    with _bar("Ranking", "events") as told:
        metrics = stages.evaluate(run, split, data=data, device=device, recommend=recommend, progress=told)
    if json:
        _print_json({split: metrics})
    else:
        _print_metrics({split: metrics}, str(run))


@app.command(help_epilogue="Example: valuerec export runs/vpq --out bundles/shop")
def export(
    run: Path,
    /,
    *,
    out: Path,
    onnx: bool | None = None,
    json: Json = False,
) -> None:
    """Write the model of a run as a bundle: a folder to hand on, that loading does not trust.

    Parameters
    ----------
    run
        A folder that `valuerec train` made.
    out
        The bundle's folder to make.
    onnx
        ONNX of the state encoder, or fail; --no-onnx: none. By default it is written where the libraries are
        (pip install 'valuerec[onnx]') and the backbone can be, and it is said where not.
    """
    from valuerec import stages

    with _status("Exporting"):
        stages.export(run, out=out, onnx=onnx)
    answer = stages.info(out)
    if json:
        _print_json(answer)
        return
    told = answer["onnx"]
    if told["file"] is None:
        _say(f"No ONNX was written: {told['why']}")
    else:
        _say(
            f"{told['file']}: its states are PyTorch's to {told['largest_difference']:.1g}, over {told['checked_on']} "
            "histories in onnxruntime."
        )
    size = sum(entry["bytes"] for entry in answer["files"].values())
    _say(
        f"Bundle of {size / 1e6:.1f} MB written to {out}; its model card is {out / 'MODEL_CARD.md'}. "
        f"Next: valuerec recommend {out} --sessions FILE --out FILE"
    )


@app.command(help_epilogue="Example: valuerec recommend runs/vpq --sessions live.jsonl --k 20 --out top.csv")
def recommend(
    model: Path,
    /,
    *,
    sessions: Path,
    out: Path,
    k: int = 20,
    exclude_seen: Annotated[bool, Parameter(negative="")] = False,
    resume: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Recommend items for every session of a file, with score, value and uncertainty.

    Parameters
    ----------
    model
        A folder that `valuerec train` or `valuerec export` made.
    sessions
        JSON lines ({"session": "a", "items": ["1", "2"]}), CSV or Parquet (columns session and item).
    out
        The file to write: .jsonl, .csv, .tsv or .parquet.
    k
        Items a session.
    exclude_seen
        Leave out a session's own items.
    resume
        Go on where a call that was stopped got to, with the same model, sessions and options.
    """
    from valuerec import stages

    with _bar("Recommending", "sessions") as told:
        done = stages.recommend(model, sessions, out=out, k=k, exclude_seen=exclude_seen, resume=resume, progress=told)
    if json:
        _print_json(done._asdict())
        return
    _say(
        f"{done.recommendations} recommendations for {done.sessions} sessions written to {out}. Unknown items passed "
        f"over: {done.unknown_items}. Sessions without a known item, answered like an empty one: "
        f"{done.sessions_without_known_items}. Empty to begin with: {done.empty_sessions}."
    )
    if done.many_unknown:
        _say(f"To recommend new items too, train on with a later log: valuerec train DATASET --from {model} --out NEW")


def _taken(*, experiment: str, **given: Any) -> None:
    """Refuse options that the experiment has no use for; cyclopts hands over those that were given."""
    from valuerec.experiments.reproducing import check_taken

    check_taken(experiment, given)


@app.command(
    validator=_taken,
    help_epilogue="Example: valuerec reproduce table1 --data data/shop --out results/shop --seeds 5\n"
    "Example: valuerec reproduce table1 --data data/shop --out results/shop --rows sasrec-vpq,caser,supervised",
)
def reproduce(
    experiment: Literal["table1", "figure1", "figure2", "figure3"],
    /,
    *,
    out: Path,
    data: Path | None = None,
    seeds: int = 5,
    rows: str | None = None,
    protocol: Literal["ours", "released"] = "ours",
    controls: Annotated[bool, Parameter(negative="")] = False,
    backbone: str | None = None,
    tuning: bool = True,
    epochs: int = 20,
    patience: int = 3,
    max_steps: int | None = None,
    reward_click: RewardClick = 0.2,
    reward_purchase: RewardPurchase = 1.0,
    reward_others: RewardOthers = None,
    reward_transform: RewardTransform = "none",
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: Json = False,
) -> None:
    """Run what is missing of the paper's table or of a figure; finished cells are kept, so it can be stopped any time.

    Parameters
    ----------
    experiment
        table1: every backbone with every method; figure1: the two forms of penalty on simulated predictions,
        which takes --out and --json alone; figure2: four ways of using Q; figure3: the penalty swept.
    out
        The folder for cells, tables, figures and report; go on with one by naming it again.
    data
        A folder that `valuerec prepare` made.
    seeds
        Runs a row, seed by seed.
    rows
        Of the table: sasrec-vpq is a row, sasrec a backbone's rows, vpq a method's; with commas between.
    protocol
        Of the table: ours, or released: the training of the paper's code (SASRec's rows, unless --rows says otherwise).
    controls
        Of the table: with SASRec's controls, and the baselines that are not trained.
    backbone
        Of figure2 (sasrec) or figure3 (nextitnet).
    tuning
        Choose hyper-parameters on validation first, with four trials each; released has the values of the paper's code,
        but for the floor at 0 under the critic's weight, which that code lacks.
    epochs
        Passes over the training sessions, at most.
    patience
        Stop a run after so many validations without a better score.
    max_steps
        Steps of a run, at most.
    jobs
        Cells at a time; by default one a core.
    device
        Where to compute.
    """
    from valuerec.experiments.contents import outcome
    from valuerec.experiments.reproducing import reproduce as run_experiment
    from valuerec.experiments.results import Results
    from valuerec.experiments.sheets import terminal

    run_experiment(
        experiment,
        out=out,
        data=data,
        seeds=seeds,
        rows=None if rows is None else [part.strip() for part in rows.split(",")],
        protocol=protocol,
        controls=controls,
        backbone=backbone,
        tuning=tuning,
        epochs=epochs,
        patience=patience,
        max_steps=max_steps,
        rewards=_rewards(reward_click, reward_purchase, reward_others),
        reward_transform=reward_transform,
        jobs=jobs,
        device=device,
    )
    sheets, content = outcome(Results(out), experiment)
    if json:
        _print_json(content)
        return
    for sheet in sheets:
        _say(terminal(sheet))
    report = out / "report.html"
    _say(f"Written to {out}{f'; read {report}' if report.is_file() else ''}.")


@app.command(
    help_epilogue="Example: valuerec serve runs/vpq --port 8000 --sessions data/shop\n"
    "Example: valuerec serve bundles/live --keys keys.txt --new-key shop-front"
)
def serve(
    model: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    processes: int | None = None,
    name: str | None = None,
    keys: Path | None = None,
    new_key: str | None = None,
    rate: float | None = None,
    catalogue: Path | None = None,
    sessions: Path | None = None,
    max_disagreement: float = 1.0,
    batch_window: float = 0.002,
    queue: int = 256,
    deadline: float = 1.0,
    max_body: int = 1 << 20,
    max_connections: int = 2000,
    client_timeout: float = 10.0,
    reload_every: float = 2.0,
    drain_delay: float = 5.0,
    drain_timeout: float = 30.0,
    log_requests: bool = True,
) -> None:
    """Answer next-item requests over HTTP until asked to end; docs/serving.md has requests and operations.

    Parameters
    ----------
    model
        A folder that `valuerec train` or `valuerec export` made, or a symbolic link to one. What is put in its place
        is loaded, checked and then answers.
    host
        To listen at; 0.0.0.0 for all of the machine's addresses.
    port
        To listen at; 0 for any that is free, which the log names.
    processes
        Each has one thread and its own copy of the model; by default one a core.
    name
        The model's name in answers; by default its folder's.
    keys
        A file of hashed API keys; without it anybody may ask.
    new_key
        Make a key of that name, add its hash to --keys, print it once, and serve nothing.
    rate
        Sessions a second that a key may ask for.
    catalogue
        A CSV file with columns id and name, for the search.
    sessions
        A dataset or a file of sessions, for the page's replay and for warming.
    max_disagreement
        Rank by relevance where, for every item that value would recommend, SD > this · |value|.
    batch_window
        Seconds that a request waits for others to be ranked with.
    queue
        Sessions that may wait; more are refused with 429.
    deadline
        Seconds to an answer; what takes longer is refused with 503.
    max_body
        Bytes of a request's body; more is refused with 413.
    max_connections
        Open connections of a process; more are refused with 503.
    client_timeout
        Seconds that a client may take for its header, its body, and for reading a stalled answer.
    reload_every
        Seconds between looks at the model's path; 0: never.
    drain_delay
        Seconds between failing readiness and closing the door, when asked to end.
    drain_timeout
        Seconds that requests then have to end.
    log_requests
        A line in the log a request; --no-log-requests: only what happens beside requests.
    """
    from valuerec import stages

    if new_key is not None:
        from valuerec.serving.keys import new_key as make_key

        if keys is None:
            raise UsageError("There is no file for the new key; name one with --keys FILE.")
        _say(make_key(keys, new_key))
        return
    stages.serve(
        model,
        host=host,
        port=port,
        processes=processes,
        name=name,
        keys=keys,
        rate=rate,
        catalogue=catalogue,
        sessions=sessions,
        max_disagreement=max_disagreement,
        batch_window=batch_window,
        queue=queue,
        deadline=deadline,
        max_body=max_body,
        max_connections=max_connections,
        client_timeout=client_timeout,
        reload_every=reload_every,
        drain_delay=drain_delay,
        drain_timeout=drain_timeout,
        log_requests=log_requests,
    )


@app.command(help_epilogue="Example: valuerec info runs/vpq --json")
def info(path: Path, /, *, json: Json = False) -> None:
    """Say what a folder of valuerec's holds, and check its files.

    Parameters
    ----------
    path
        A dataset, a run or a bundle.
    """
    from valuerec import stages
    from valuerec.folders import damage

    answer = stages.info(path)
    if json:
        _print_json(answer)
    else:
        _print_info(path, answer)
    if answer["damaged"]:
        raise damage(path, answer["damaged"])


@app.command(help_epilogue="Example: valuerec methods --json")
def methods(*, json: Json = False) -> None:
    """List the methods, their sources and their options."""
    from valuerec.methods import list_methods
    from valuerec.printing import whole_table

    known = list_methods()
    if json:
        _print_json(known)
        return
    table = whole_table("method", "what it is", "source", "options and defaults")
    with_critic = [entry["options"].items() for entry in known if "critic" in entry["options"] and not entry["control"]]
    shared = [option for option in with_critic[0] if all(option in options for options in with_critic)]
    for entry in known:
        critic = "critic" in entry["options"]
        own = [
            f"{name}={value}" for name, value in entry["options"].items() if not critic or (name, value) not in shared
        ]
        options = "\n".join([*own, *(["as all with a critic"] if critic else [])]) or "none"
        name = f"{entry['name']}\n(control)" if entry["control"] else entry["name"]
        table.add_row(name, entry["summary"], entry["source"], options, end_section=True)
    _say(table)
    said = ", ".join(f"{name}={value}" for name, value in shared)
    _say(f"All with a critic have: {said}; a control's line says where it differs.")


@app.command(help_epilogue="Example: valuerec demo --out demo\nExample: valuerec demo --out demo --serve")
def demo(
    *, out: Path = Path("demo"), sessions: int = 30_000, seed: int = 0, serve: bool = False, port: int = 8000
) -> None:
    """Make a shop's log, then do with it what you would do with yours: prepare, train, evaluate, recommend, serve.

    Parameters
    ----------
    out
        The folder for the log, the dataset and the runs.
    sessions
        Sessions in the log.
    seed
        Of the log and of training.
    serve
        At the end export VPQ's model and serve it with its page, until Ctrl-C.
    port
        To serve at.
    """
    from valuerec.showcase import demo as show

    show(out, sessions=sessions, seed=seed, serve=serve, port=port)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit code 0, 1 (failed), 2 (bad usage) or 130 (interrupted), never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that can't show λ shows ?
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Being asked to end is like Ctrl-C: half-written folders vanish."""
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run one command line in this process; returns the exit code."""
    for argument in arguments:
        if (shown := os.fsencode(argument).decode(errors="backslashreplace")) != argument:
            return _fail(f"The argument {shown} is not UTF-8; rename what it names, or write it otherwise.", 2)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        command = f"valuerec {arguments[0]}" if arguments and arguments[0] in app else "valuerec"
        return _fail(f"{' '.join(str(error).split())} See {command} --help.", UsageError.exit_code)
    except ValuerecError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as interrupt:
        if "--resume" in str(interrupt):  # the whole line, to be pasted
            again = shlex.join(["valuerec", *arguments, *(() if "--resume" in arguments else ("--resume",))])
            return _fail(f"Interrupted; go on with: {again}", 130)
        return _fail(f"Interrupted{'; ' if str(interrupt) else '.'}{interrupt}", 130)
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail("The machine's memory does not suffice; use a smaller batch, fewer heads or a larger machine.", 1)
    except Exception as error:
        if _interrupted(error):
            return _fail("Interrupted.", 130)
        if os.environ.get("VALUEREC_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        return _fail(
            f"Unexpected {type(error).__name__}: {text} (a fault of valuerec's: set VALUEREC_TRACEBACK=1 to see where, "
            "and report it).",
            1,
        )
    return 0


def _interrupted(error: BaseException | None) -> bool:
    """Whether an error is what some library made of Ctrl-C while it was being imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _fail(sentence: str, code: int) -> int:
    print(plain(f"valuerec: {sentence}", one_line=True), file=sys.stderr)
    return code


def _pairs(option: str, text: str | None) -> dict[str, str] | None:
    """`a=b,c=d` as a dictionary."""
    if text is None:
        return None
    pairs = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if not (name.strip() and sign and value.strip()):
            raise UsageError(f"{option} has the part {part!r}; write name=value,name=value.")
        if name.strip() in pairs:
            raise UsageError(f"{option} names {name.strip()} twice; name it once.")
        pairs[name.strip()] = value.strip()
    return pairs


def _numbers(option: str, text: str | None) -> dict[str, float] | None:
    """`a=1,b=2.5` as a dictionary."""
    numbers = {}
    for name, value in (_pairs(option, text) or {}).items():
        try:
            numbers[name] = float(value)
        except ValueError:
            raise UsageError(f"{option} says {name}={value}; write a number.") from None
    return numbers or None


def _rewards(click: float, purchase: float, others: str | None) -> Any:
    from valuerec.dataset import Rewards

    return Rewards(click, purchase, _numbers("--reward-others", others) or {})


def _dataset_or_numbers(text: str) -> Path | dict[str, int]:
    """A folder's path, or `70852` or `items=70852,events=1200000` as numbers, where no folder has that name."""
    if Path(text).exists() or not (text.isdecimal() or "=" in text):
        return Path(text)
    pairs = {"items": text} if text.isdecimal() else _pairs("DATASET_OR_NUMBERS", text) or {}
    for name, value in pairs.items():
        if not value.isdecimal():
            raise UsageError(f"{name} is {value!r}; write a whole number, such as items=70852,events=1200000.")
    return {name: int(value) for name, value in pairs.items()}


def _configured(what: str, name: str, kind: Callable[..., Any], **options: Any) -> Any:
    """An instance with the options that were given ("none" for None); an option that it does not have is refused."""
    from dataclasses import fields

    given = {option: None if value == "none" else value for option, value in options.items() if value is not None}
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for option in given:
        if option not in known:
            flags = ", ".join(f"--{field.replace('_', '-')}" for field in known if field in options) or "none"
            raise UsageError(f"The {what} {name} has no option --{option.replace('_', '-')}; it has: {flags}.")
    return kind(**given)


def _say(content: Any) -> None:
    """Print a sentence or a table."""
    from valuerec.folders import explained_io
    from valuerec.printing import PlainConsole

    with explained_io("Printing"):
        PlainConsole().print(content, soft_wrap=isinstance(content, str))
        sys.stdout.flush()


@contextlib.contextmanager
def _shown_drift(error: type[ValuerecError], table: Callable[[Any], Any], json: bool) -> Iterator[None]:
    """Print the figures of a log that is refused for its drift before the sentence that says so."""
    try:
        yield
    except error as refusal:
        drift = refusal.drift  # type: ignore[attr-defined]
        if json:
            _print_json({"drift": drift})
        else:
            _say(table(drift))
        raise


@contextlib.contextmanager
def _status(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner that says what goes on, on a terminal."""
    from valuerec.printing import PlainConsole

    console = PlainConsole(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")


@contextlib.contextmanager
def _bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, a line now and then elsewhere."""
    from valuerec.printing import PlainConsole, progress

    with progress(PlainConsole(stderr=True), what, unit) as told:
        yield told


def _print_json(content: Any) -> None:
    from valuerec.folders import explained_io

    with explained_io("Printing"):
        print(escaped(json.dumps(content, indent=2, ensure_ascii=False)), flush=True)


def _print_metrics(metrics: dict[str, Any], title: str) -> None:
    from valuerec.printing import whole_table

    kinds = next(iter(metrics.values()))
    names = list(next(iter(kinds.values())))
    table = whole_table("split, events", *names, title=title, numbers=True)
    for split, kinds in metrics.items():
        for kind, values in kinds.items():
            figures = ("–" if values[name] is None else f"{values[name]:.4f}" for name in names)
            table.add_row(f"{split}, {kind}", *figures)
    _say(table)


def _print_info(path: Path, answer: dict[str, Any]) -> None:
    from valuerec.printing import whole_table

    table = whole_table("", "", title=str(path))
    table.columns[0].no_wrap = True
    metrics = (answer["kind"] != "dataset" and answer["metrics"]) or {}
    splits = {name: metrics[name] for name in ("test", "validation") if name in metrics}
    shown = {name: value for name, value in answer.items() if name not in ("files", "digest", "damaged", "metrics")}
    shown["metrics"] = {name: value for name, value in metrics.items() if name not in splits}
    for name, value in _flat("", shown):
        table.add_row(name, value)
    state = "damaged: " + ", ".join(answer["damaged"]) if answer["damaged"] else "all as the manifest says"
    table.add_row("files", state)
    _say(table)
    if splits:
        _print_metrics(splits, "metrics")


def _flat(name: str, content: Any) -> Iterator[tuple[str, str]]:
    """Nested content, a line a leaf."""
    if isinstance(content, list):
        content = {str(place): value for place, value in enumerate(content, start=1)}
    if isinstance(content, dict):
        for part, value in content.items():
            yield from _flat(f"{name}.{part}" if name else part, value)
    else:
        yield name, "–" if content is None else f"{content:.6g}" if isinstance(content, float) else str(content)


if __name__ == "__main__":
    main()
