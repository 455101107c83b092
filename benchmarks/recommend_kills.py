"""`valuerec recommend` that is killed and goes on: nothing finished is lost, and the file is the same to the byte.

    python benchmarks/recommend_kills.py [--kills 1000] [--rows FILE] [--json]

A tiny model and five parts of sessions, in processes of their own. Half of the cases are killed (SIGKILL) at an
operation on a file, which go through every one of them in turn, the others at a random time; every third once more
while it goes on. Checked each time: the output is not there, or whole; the parts that the journal names are whole and
not fewer than before; `--resume` ends with the bytes of an undisturbed run and leaves nothing else. With --rows, a line
a case is kept in a file, and a later call goes on after the last.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from faults import Fault, run_child
from kills import TroubleError, read_rows, require, spread
from provenance import print_figures
from recommend import write_sessions
from serving_tools import made_up_run, sessions_of
from valuerec.bulk.staging import PART
from valuerec.folders import sha256

ITEMS: Final = 100
CASES: Final = [("jsonl", "parquet"), ("csv", "jsonl"), ("parquet", "csv")]  # input and output


class Whole(NamedTuple):
    """An undisturbed run: the digest of its file, its operations, its seconds."""

    digest: str
    kinds: list[str]
    seconds: float


def line_of(folder: Path, place: Path, kind: int, resume: bool = True) -> list[str]:
    given, asked = CASES[kind]
    line = ["recommend", str(folder / "run"), "--sessions", str(folder / f"in.{given}"), "--k", "5"]
    return [*line, "--out", str(place / "files" / f"out.{asked}"), *(["--resume"] if resume else [])]


def check_after(out: Path, whole: Whole, before: int) -> int:
    """Check what a killed process left, and return how many parts are done."""
    if out.exists():
        require(sha256(out) == whole.digest, "the output is there and not whole")
        return before
    work = out.with_name(f".{out.name}.partial")
    journal = work / "parts.jsonl"
    done = 0
    for text in journal.read_text().splitlines(keepends=True) if journal.exists() else []:
        if not text.endswith("}\n"):
            break
        part, entry = work / f"part-{done:08d}", json.loads(text)
        require(part.is_file() and sha256(part) == entry["sha256"], f"part {done} is named and not whole")
        done += 1
    require(done >= before, f"{before} parts were done, now {done} are")
    return done


def finish(folder: Path, place: Path, kind: int, whole: Whole) -> None:
    """Go on to the end, and compare it."""
    out = Path(line_of(folder, place, kind)[-2])
    outcome = run_child(line_of(folder, place, kind), place / "files", place)
    there = outcome.code == 2 and "exists already" in outcome.stderr
    require(outcome.code == 0 or there, f"it does not go on: {outcome.stderr}")
    require(sha256(out) == whole.digest, "it ends otherwise than an undisturbed run")
    left = [path.name for path in out.parent.iterdir() if path != out]
    require(not left, f"left behind: {left}")


def kill_case(folder: Path, place: Path, whole: list[Whole], number: int) -> dict[str, Any]:
    """One run that is killed once or twice."""
    kind, draw, done, where, kills = number % len(CASES), random.Random(number), 0, [], 0
    undisturbed = whole[kind]
    at = spread(number // (2 * len(CASES)), len(undisturbed.kinds)) + 1
    for again in range(2 if number % 3 == 0 else 1):
        if (number // len(CASES) + again) % 2 == 0:
            how: dict[str, Any] = {"fault": Fault(at if not again else draw.randint(1, len(undisturbed.kinds)))}
        else:
            how = {"kill_after": draw.uniform(0, undisturbed.seconds)}
        line = line_of(folder, place, kind)
        outcome = run_child(line, place / "files", place, **how)
        require(outcome.code in (0, -9), f"exit code {outcome.code}: {outcome.stderr}")
        kills += outcome.code == -9
        where.append(outcome.kinds[-1] if outcome.kinds and "fault" in how else "time")
        done = check_after(Path(line[-2]), undisturbed, done)
        if outcome.code == 0 or Path(line[-2]).exists():
            break
    finish(folder, place, kind, undisturbed)
    return {"kills": kills, "where": where, "parts": done}


def whole_runs(folder: Path) -> list[Whole]:
    """What each kind of run comes to without trouble."""
    answer = []
    for kind in range(len(CASES)):
        for attempt in ("first", "second"):  # the second knows how long it takes when all is loaded
            place = folder / f"{attempt}{kind}"
            (place / "files").mkdir(parents=True)
            line, began = line_of(folder, place, kind, resume=False), time.perf_counter()
            outcome = run_child(line, place / "files", place)
            seconds = time.perf_counter() - began
            require(outcome.code == 0, outcome.stderr)
            found = Whole(sha256(Path(line[-1])), outcome.kinds, seconds)
            require(attempt == "first" or found.digest == answer[-1].digest, "two undisturbed runs differ")
            answer[kind:] = [found]
    return answer


def measure(kills: int, path: Path | None = None) -> list[dict[str, Any]]:
    """A row a case: until so many kills have struck."""
    rows = read_rows(path)
    with tempfile.TemporaryDirectory(prefix="valuerec-recommend-kills-") as name:
        folder = Path(name)
        made_up_run(folder / "run", ITEMS, width=8, heads=2)
        for given, _ in CASES:
            write_sessions(folder / f"in.{given}", islice(sessions_of(ITEMS, seed=1), 4 * PART + 99), 4 * PART + 99)
        whole = whole_runs(folder)
        number = len(rows)
        while sum(row.get("kills", 0) for row in rows) < kills and number < 3 * kills + 10:
            place = folder / "case"
            (place / "files").mkdir(parents=True)
            row: dict[str, Any] = {"number": number, "formats": CASES[number % len(CASES)]}
            try:
                row |= kill_case(folder, place, whole, number)
            except TroubleError as trouble:
                row["trouble"] = str(trouble)
                kept = Path(tempfile.mkdtemp(prefix="valuerec-trouble-"))
                shutil.copytree(place, kept, dirs_exist_ok=True)
                print(f"case {number}: {trouble}; see {kept}", file=sys.stderr)
            shutil.rmtree(place)
            rows.append(row)
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            number += 1
    return rows


def figures_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    struck: dict[str, int] = {}
    for row in rows:
        for where in row.get("where", []):
            struck[where] = struck.get(where, 0) + 1
    return {
        "kills": sum(row.get("kills", 0) for row in rows),
        "killed_runs": len(rows),
        "killed_runs_that_end_alike": sum("trouble" not in row for row in rows),
        "struck_at": struck,
        "troubles": [row for row in rows if "trouble" in row],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    figures = figures_of(measure(options.kills, options.rows))
    figures["seconds"] = round(time.perf_counter() - started, 1)
    print_figures(figures, options.json)
    sys.exit(bool(figures["troubles"]))


if __name__ == "__main__":
    main()
