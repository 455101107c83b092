"""Training that is killed, or whose disk fails, and goes on: nothing committed is lost, and the end is the same.

    python benchmarks/kills.py [--kills 1000] [--failures 400] [--rows FILE] [--json]

Tiny runs of every kind of method and both protocols, in processes of their own. A case is one run:

- kills: SIGKILL at an operation on a file (half of the cases, which go through every one of them in turn; a killed
  write has written half) or at a random time, and in every third case again while it goes on.
- failures: a full disk (ENOSPC, from an operation on) or an I/O error (EIO, of one operation), at every mkdir, write,
  flush and rename in turn, but for those that remove something. The process must end with 1 and one sentence.

Checked each time: every checkpoint whose rename was flushed is there and whole, but for those dropped for newer ones;
at most one interval of steps is lost; what the RUN's manifest names is whole; the run goes on and ends with the
weights' SHA-256, log and metrics of a run that nothing happened to, and leaves no temporary file. With --rows, a line a
case is kept in a file, and a later call goes on after the last.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import math
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from faults import REMOVALS, Fault, Outcome, run_child
from made_up_log import write_dataset
from provenance import print_figures
from valuerec.errors import ValuerecError
from valuerec.folders import damaged_files
from valuerec.training import checkpoint
from valuerec.training.run import Run

EVERY: Final = 3  # steps between checkpoints
CASES: Final = [
    ["--method", "supervised"],
    ["--method", "vpq", "--heads", "3", "--target-every", "4"],
    ["--method", "vpq", "--heads", "3", "--protocol", "released"],
    ["--method", "uwac", "--heads", "3", "--target-every", "4", "--backbone", "gru4rec"],
    ["--method", "cql", "--target-every", "4", "--backbone", "caser"],
    ["--method", "sac", "--target-every", "4", "--protocol", "released", "--backbone", "nextitnet"],
]
LIMITS: Final = (
    "--width 8 --batch-size 64 --max-steps 14 --validate-every 4 --epochs 99 --patience 99 --checkpoint-every "
    f"{EVERY} --checkpoint-minutes 0"
).split()


class End(NamedTuple):
    """What a finished run comes to, without its times."""

    weights: str
    log: list[dict[str, Any]]
    metrics: dict[str, Any]
    manifest: dict[str, Any]


class Whole(NamedTuple):
    """An undisturbed run: how it ends, its operations, its seconds."""

    end: End
    kinds: list[str]
    seconds: float


class TroubleError(AssertionError):
    """A promise was broken."""


def line_of(data: Path, options: list[str], run: Path) -> list[str]:
    return ["train", str(data), *options, *LIMITS, "--out", str(run)]


def end_of(run: Path) -> End:
    """Read a finished run."""
    manifest = json.loads((run / "manifest.json").read_text())
    weights = hashlib.sha256((run / manifest["weights"]).read_bytes()).hexdigest()
    log = [json.loads(line) | {"seconds": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "metrics.json").read_text()) | {"seconds": 0}
    return End(weights, log, metrics, {name: manifest[name] for name in ("status", "weights", "step")})


def require(allowed: bool, trouble: str) -> None:
    if not allowed:
        raise TroubleError(trouble)


def check_after(run: Path, outcome: Outcome, before: int) -> int:
    """Check what an ended process left, and return the step of the newest whole checkpoint.

    Args:
        run: the RUN folder.
        outcome: of the process.
        before: the newest whole checkpoint's step before it; 0 for none.
    """
    promised = max([before, *outcome.committed])
    if not run.exists():
        require(promised == 0, "the run is gone")
        return 0
    opened = Run(run)
    require(not damaged_files(run, opened.manifest), "the manifest names what is not whole")
    try:
        found = checkpoint.newest(opened, torch.device("cpu"))
    except ValuerecError as error:
        raise TroubleError(f"no whole checkpoint: {error}") from error
    step = found.step if found else 0
    require(not found or not found.skipped, "a checkpoint is there and not whole")
    require(step >= promised, f"the checkpoint of step {promised} is lost")
    require(outcome.steps - step <= EVERY, f"{outcome.steps - step} steps are lost")
    return step


def go_on(data: Path, options: list[str], run: Path, scratch: Path, **how: Any) -> Outcome:
    resume = ["--resume"] if run.exists() else []
    return run_child([*line_of(data, options, run), *resume], run.parent, scratch, **how)


def finish(data: Path, options: list[str], run: Path, scratch: Path, whole: Whole) -> None:
    """Go on to the end, and compare it."""
    outcome = go_on(data, options, run, scratch)
    require(outcome.code == 0, f"it does not go on: {outcome.stderr}")
    require(end_of(run) == whole.end, "it ends otherwise than an undisturbed run")
    left = [path.name for path in run.parent.rglob("*.partial")]
    require(not left, f"left behind: {left}")


def spread(number: int, length: int) -> int:
    """Each of `length` places once in as many numbers, far apart, so that few numbers are everywhere too."""
    stride = int(0.618 * length)
    while math.gcd(stride, length) != 1:
        stride += 1
    return number * stride % length


def kill_case(data: Path, options: list[str], folder: Path, whole: Whole, number: int) -> dict[str, Any]:
    """One run that is killed once or twice."""
    draw = random.Random(number)
    run, scratch = folder / "files" / "run", folder
    at = spread(number // (2 * len(CASES)), len(whole.kinds)) + 1
    kills, step, where = 0, 0, []
    for again in range(2 if number % 3 == 0 else 1):
        if (number // len(CASES) + again) % 2 == 0:
            how: dict[str, Any] = {"fault": Fault(at if not again else draw.randint(1, len(whole.kinds)))}
        else:
            how = {"kill_after": draw.uniform(0, whole.seconds)}
        outcome = go_on(data, options, run, scratch, **how)
        require(outcome.code in (0, -9), f"exit code {outcome.code}: {outcome.stderr}")
        kills += outcome.code == -9
        where.append(outcome.kinds[-1] if outcome.kinds and "fault" in how else "time")
        step = check_after(run, outcome, step)
        if outcome.code == 0:
            break
    finish(data, options, run, scratch, whole)
    return {"kills": kills, "where": where, "from_step": step}


def failing(whole: Whole) -> list[int]:
    """The operations whose failure must end the process."""
    return [place for place, kind in enumerate(whole.kinds, start=1) if kind not in REMOVALS]


def failure_case(data: Path, options: list[str], folder: Path, whole: Whole, number: int) -> dict[str, Any]:
    """One run whose disk fails once."""
    run, scratch = folder / "files" / "run", folder
    places = failing(whole)
    full = number // len(CASES) % 2 == 0
    at = places[spread(number // (2 * len(CASES)), len(places))]
    outcome = go_on(data, options, run, scratch, fault=Fault(at, errno.ENOSPC if full else errno.EIO, lasting=full))
    told = outcome.stderr.splitlines()
    require(outcome.code == 1, f"exit code {outcome.code}: {outcome.stderr}")
    sentences = [text for text in told if text.startswith("valuerec: ")]
    require(len(sentences) == 1 and told[-1] == sentences[0] and told[-1].endswith("."), f"said: {outcome.stderr}")
    require("Traceback" not in outcome.stderr and "Unexpected" not in outcome.stderr, f"said: {outcome.stderr}")
    step = check_after(run, outcome, 0)
    finish(data, options, run, scratch, whole)
    return {"error": "ENOSPC" if full else "EIO", "at": at, "kind": whole.kinds[at - 1], "from_step": step}


def whole_runs(data: Path, folder: Path) -> list[Whole]:
    """What each kind of run comes to without trouble."""
    answer = []
    for place, options in enumerate(CASES):
        files = folder / f"whole{place}"
        files.mkdir()
        for attempt in ("first", "second"):  # the second knows how long it takes when all is loaded
            started = time.perf_counter()
            outcome = run_child(line_of(data, options, files / attempt), files, folder)
            seconds = time.perf_counter() - started
            require(outcome.code == 0, outcome.stderr)
        require(end_of(files / "first") == end_of(files / "second"), "two undisturbed runs differ")
        answer.append(Whole(end_of(files / "second"), outcome.kinds, seconds))
    return answer


def read_rows(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    return [json.loads(text) for text in path.read_text().splitlines() if text.endswith("}")]


def measure(kills: int, failures: int, path: Path | None = None) -> list[dict[str, Any]]:
    """A row a case: until so many kills have struck, and for so many failures."""
    rows = read_rows(path)
    with tempfile.TemporaryDirectory(prefix="valuerec-kills-") as name:
        folder = Path(name)
        data = write_dataset(folder / "data", 40).path
        whole = whole_runs(data, folder)

        def case(what: str, number: int) -> None:
            place = folder / "case"
            (place / "files").mkdir(parents=True)
            kind = number % len(CASES)
            row: dict[str, Any] = {"what": what, "number": number, "options": " ".join(CASES[kind])}
            try:
                row |= (kill_case if what == "kill" else failure_case)(data, CASES[kind], place, whole[kind], number)
            except TroubleError as trouble:
                row["trouble"] = str(trouble)
                kept = Path(tempfile.mkdtemp(prefix="valuerec-trouble-"))
                shutil.copytree(place, kept, dirs_exist_ok=True)
                print(f"{what} {number}: {trouble}; see {kept}", file=sys.stderr)
            shutil.rmtree(place)
            rows.append(row)
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")

        number = sum(row["what"] == "kill" for row in rows)
        while sum(row.get("kills", 0) for row in rows) < kills and number < 3 * kills + 10:
            case("kill", number)
            number += 1
        for number in range(sum(row["what"] == "failure" for row in rows), failures):
            case("failure", number)
    return rows


def figures_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    killed = [row for row in rows if row["what"] == "kill"]
    failed = [row for row in rows if row["what"] == "failure"]
    struck: dict[str, int] = {}
    for row in killed:
        for where in row.get("where", []):
            struck[where] = struck.get(where, 0) + 1
    return {
        "kills": sum(row.get("kills", 0) for row in killed),
        "killed_runs": len(killed),
        "killed_runs_that_end_alike": sum("trouble" not in row for row in killed),
        "struck_at": struck,
        "failures": len(failed),
        "failures_told_and_gone_on_from": sum("trouble" not in row for row in failed),
        "troubles": [row for row in rows if "trouble" in row],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--failures", type=int, default=400)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    figures = figures_of(measure(options.kills, options.failures, options.rows))
    figures["seconds"] = round(time.perf_counter() - started, 1)
    print_figures(figures, options.json)
    sys.exit(bool(figures["troubles"]))


if __name__ == "__main__":
    main()
