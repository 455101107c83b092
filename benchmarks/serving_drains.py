"""SIGTERM under load: what is in flight is answered, and the process ends by itself.

Requests stop when a client is told to (`Connection: close`), as a load balancer's do when readiness fails.

    python benchmarks/serving_drains.py --drains 100 --rate 200 --json
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Any

import serving_tools as tools
from provenance import print_figures


async def measure(folder: Path, n_items: int, drains: int, rate: float) -> dict[str, Any]:
    """Start, load, SIGTERM after a moment, count."""
    path = tools.made_up_run(folder / "run", n_items, heads=4)
    requests = lost = refused = wrong_end = 0
    failures: list[str] = []
    for turn in range(drains):
        async with tools.served(path, "--drain-delay", "0.5") as process:
            load = tools.Load(process.port, n_items, seed=turn)
            load.stops_at_close = True
            loading = asyncio.create_task(load.run(rate, 60.0))
            await asyncio.sleep(0.3 + 0.01 * (turn % 40))
            process.process.send_signal(signal.SIGTERM)
            sent = await loading
            load.close()
            requests += len(sent)
            lost += sum(each.status == 0 for each in sent)
            refused += sum(each.status not in (0, 200) for each in sent)
            failures += load.failures
            wrong_end += await asyncio.to_thread(process.process.wait, 60) != 0
    return {
        "drains": drains,
        "requests": requests,
        "lost": lost,
        "refused": refused,
        "ended_wrongly": wrong_end,
        "failures": failures[:10],
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drains", type=int, default=100)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_figures(await measure(Path(folder), given.items, given.drains, given.rate), given.json)


if __name__ == "__main__":
    asyncio.run(main())
