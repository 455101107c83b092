"""Requests that schemathesis makes of the service's own OpenAPI, valid and not: no fault, no crash, nothing untold.

Each operation gets its share, half of it valid by the schema and half not. The answers are checked against the schema.
The service has its defaults, the deadline of a second among them.

    python benchmarks/serving_schema.py --cases 20000 --json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import hypothesis
import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import serving_tools as tools
from provenance import print_figures
from valuerec.serving.keys import new_key

_CHECKS: Final = [status_code_conformance, content_type_conformance, response_schema_conformance]
_ROUND: Final = 250  # cases of one operation before the next has its turn


class Tally:
    """What came back."""

    def __init__(self, base_url: str, key: str) -> None:
        self._url, self._key = base_url, key
        self._session = requests.Session()
        self.statuses: Counter[str] = Counter()
        self.by_operation: Counter[str] = Counter()
        self.faults: list[str] = []
        self.untold: dict[str, str] = {}

    def send(self, case: Any) -> None:
        """Send one case, with a key, and look at its answer."""
        label, curl = case.operation.label, case.as_curl_command()[:500]
        self.by_operation[label] += 1
        if self.by_operation.total() % 8:  # else the key is whatever schemathesis makes of it
            case.headers["X-API-Key"] = self._key
        try:
            response = case.call(self._url, session=self._session, timeout=60)
        except requests.RequestException as error:
            self.statuses["none"] += 1
            self.faults.append(f"{label}: {error!r} for {curl}")
            return
        self.statuses[str(response.status_code)] += 1
        if response.status_code >= 500:
            self.faults.append(f"{label}: {response.status_code} {response.text[:200]} for {curl}")
            return
        try:
            case.validate_response(response, checks=_CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                self.untold.setdefault(f"{label}: {response.status_code} {failure!s:.200}", curl)


def ask(tally: Tally, strategy: Any, count: int, seed: int) -> None:
    """Send about `count` cases of a strategy; fewer, where it has no more."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=strategy)
    def send(case: Any) -> None:
        tally.send(case)

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # an operation without parameters can't be asked wrongly
        send()


async def measure(folder: Path, cases: int, seed: int = 0, n_items: int = 300) -> dict[str, Any]:
    """At least `cases` cases against a service that has all there is: keys, names, recorded sessions."""
    path = tools.made_up_run(folder / "run", n_items, width=16, heads=3)
    key = new_key(folder / "keys", "tests")
    (folder / "names.csv").write_text("id,name\nitem0000001,Kettle\n")
    (folder / "past.jsonl").write_text('{"session": "a", "events": [{"item": "item0000001", "event": "click"}]}\n')
    files = [f"--keys={folder / 'keys'}", f"--catalogue={folder / 'names.csv'}", f"--sessions={folder / 'past.jsonl'}"]
    async with tools.served(path, "--name", "vpq", *files) as process:
        base_url = f"http://127.0.0.1:{process.port}"
        tally = Tally(base_url, key)
        await asyncio.to_thread(send_all, tally, base_url, cases, seed)
        alive = process.process.poll() is None
        faults = sum(line.get("event") == "fault" for line in process.log())
    return {
        "cases": tally.statuses.total(),
        "statuses": dict(sorted(tally.statuses.items())),
        "answers_of_5xx": sum(count for status, count in tally.statuses.items() if status.startswith("5")),
        "no_answer": tally.statuses["none"],
        "faults_in_the_log": faults,
        "alive": alive,
        "examples_of_faults": tally.faults[:10],
        "answers_not_as_told": len(tally.untold),
        "examples_not_as_told": dict(list(tally.untold.items())[:10]),
        "by_operation": dict(sorted(tally.by_operation.items())),
    }


def send_all(tally: Tally, base_url: str, cases: int, seed: int) -> None:
    """Go round the operations until there are enough; the more a request holds, the more cases it gets."""
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    simple = [each for each in operations if not each.body]
    rich = [each for each in operations if each.body]
    share = min(_ROUND, max(1, cases // (4 * len(rich))))
    while tally.statuses.total() < cases:
        for operation in [*rich, *(simple if seed % 4 == 0 else [])]:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                ask(tally, operation.as_strategy(generation_mode=mode), share, seed)
        seed += 1


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_figures(await measure(Path(folder), given.cases, given.seed), given.json)


if __name__ == "__main__":
    asyncio.run(main())
