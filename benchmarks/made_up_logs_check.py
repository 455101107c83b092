"""Made-up logs through `prepare`: the account is exact, the data independent of row order, ids come out as they are.

    python benchmarks/made_up_logs_check.py [--count 10000] [--out made-up-logs.jsonl] [--json]

Each log is drawn by hypothesis in one of the eight styles of `tests/events/logs.py`, with bad rows of every reason and
repetitions among the good ones, prepared twice (the second time with rows and files in another order), and compared
with an oracle in plain Python; or it is drawn for its ids (any text) and read back. Logs come in units of 25 by seed; a
finished unit is a line of the file --out, and a run that is started again goes on behind the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count as numbers
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from events.logs import STYLES, rows_of
from events.test_ids import ANY_TEXT, ONE_LINE, PIECES, _csv, _json, _parquet, check_round_trip
from events.test_preparing import OPTIONS, check_account_and_data
from provenance import provenance

UNIT = 25


def _log(name: str) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(rows_of(STYLES[name]), OPTIONS, st.sampled_from([5, 64, 1 << 23]), st.randoms())


CHECKS: dict[str, tuple[st.SearchStrategy[tuple[Any, ...]], Callable[..., None]]] = {
    **{name: (_log(name), partial(check_account_and_data, style)) for name, style in STYLES.items()},
    "ids in csv": (st.tuples(st.lists(ONE_LINE), PIECES), partial(check_round_trip, _csv)),
    "ids in json lines": (st.tuples(st.lists(ANY_TEXT), PIECES), partial(check_round_trip, _json)),
    "ids in parquet": (st.tuples(st.lists(ANY_TEXT), PIECES), partial(check_round_trip, _parquet)),
}


def units(count: int) -> Iterator[tuple[str, int, int]]:
    """Check, seed and logs of each unit, the checks in turn, until there are enough logs."""
    left = count
    for number in numbers():
        for name in CHECKS:
            if left <= 0:
                return
            yield name, number, min(UNIT, left)
            left -= UNIT


def run_unit(name: str, number: int, logs: int) -> dict[str, Any]:
    """Draw and check the logs of a unit."""
    strategy, check = CHECKS[name]
    done = 0

    @seed(number)
    @settings(max_examples=logs, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def every(drawn: tuple[Any, ...]) -> None:
        nonlocal done
        done += 1
        check(*drawn)

    began = time.perf_counter()
    failure = None
    try:
        every()
    except Exception as error:  # whatever it is, it is what this looks for
        failure = f"{type(error).__name__}: {error}"
    return {
        "check": name,
        "seed": number,
        "asked": logs,
        "logs": done,
        "failure": failure,
        "seconds": round(time.perf_counter() - began, 1),
    }


def check_all(count: int, out: Path) -> dict[str, Any]:
    """Run the units that `out` does not have, and sum up those of this count."""
    lines = out.read_text().splitlines() if out.exists() else []
    finished = {(each["check"], each["seed"], each["asked"]): each for each in map(json.loads, lines)}
    mine = []
    with out.open("a") as file:
        for unit in units(count):
            if unit not in finished:
                finished[unit] = run_unit(*unit)
                file.write(json.dumps(finished[unit]) + "\n")
                file.flush()
            mine.append(finished[unit])
    return {
        "logs": sum(unit["logs"] for unit in mine),
        "failures": [unit for unit in mine if unit["failure"]],
        "seconds": round(sum(unit["seconds"] for unit in mine), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("made-up-logs.jsonl"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = check_all(options.count, options.out)
    if options.json:
        print(json.dumps(figures | provenance(), indent=2))
    else:
        print(f"{figures['logs']:,} logs, {len(figures['failures'])} failures, {figures['seconds']:.0f} s")
        for unit in figures["failures"]:
            print(f"{unit['check']}, seed {unit['seed']}: {unit['failure']}")
    sys.exit(bool(figures["failures"]))


if __name__ == "__main__":
    main()
