"""Three times more than it can: how much is still answered, how the rest is refused, how soon all is well again.

python benchmarks/serving_overload.py --peak 1000 --seconds 60 --json
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

import serving_tools as tools


async def measure(folder: Path, n_items: int, peak: float, factor: float, seconds: float, heads: int) -> dict[str, Any]:
    """At the peak, at `factor` times the peak, and half a peak a second at a time after that."""
    path = tools.made_up_run(folder / "run", n_items, heads=heads)
    async with tools.served(path) as process:
        results: dict[str, Any] = {}
        for name, rate, length in (
            ("peak", peak, min(seconds, 20.0)),
            ("overload", factor * peak, seconds),
            ("after", peak / 2, 10.0 if seconds >= 10 else seconds),
        ):
            load = tools.Load(process.port, n_items, seed=len(results))
            sent = await load.run(rate, length)
            load.close()
            results[name] = {"rate": rate} | tools.summary(sent, length)
            if name == "after":
                results["after_by_second"] = [
                    tools.summary([each for each in sent if int(each.at) == second], 1.0)["p99_ms"]
                    for second in range(max(1, int(length)))
                ]
    results["goodput_kept"] = round(results["overload"]["goodput"] / max(1e-9, results["peak"]["goodput"]), 3)
    results["other_refusals"] = sum(
        count for status, count in results["overload"]["statuses"].items() if status not in ("200", "429", "503")
    )
    return results


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--peak", type=float, default=1000.0, help="requests a second that it can answer")
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--heads", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = await measure(Path(folder), given.items, given.peak, given.factor, given.seconds, given.heads)
        tools.tell(result, given.json)


if __name__ == "__main__":
    asyncio.run(main())
