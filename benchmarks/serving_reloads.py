"""Models put in place under load: no answer fails, none mixes versions, and a corrupt one never goes live.

The service has its defaults, the deadline of a second among them, but looks for a new model every 0.05 s, so that a
thousand take minutes.

python benchmarks/serving_reloads.py --reloads 1000 --rate 200 --json
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import serving_tools as tools
import valuerec as vr
from provenance import print_figures


def put_in_place(link: Path, target: Path) -> None:
    """Point a link elsewhere in one step."""
    fresh = link.with_name("fresh")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def version_of(path: Path) -> str:
    return hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()[:12]


async def measure(folder: Path, n_items: int, reloads: int, rate: float) -> dict[str, Any]:
    """Two models by turns, every tenth time a corrupt one between them."""
    runs = [tools.made_up_run(folder / f"run{seed}", n_items, heads=4, seed=seed) for seed in (0, 1)]
    corrupt = folder / "corrupt"
    shutil.copytree(runs[0], corrupt)
    (weights,) = corrupt.glob("weights-*")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    told = json.loads((corrupt / "manifest.json").read_text())
    (corrupt / "manifest.json").write_text(json.dumps(told | {"step": 666}))
    models = {version_of(run): vr.load(run) for run in runs}
    link = folder / "live"
    link.symlink_to(runs[0])
    async with tools.served(link, "--reload-every", "0.05") as process:
        before, probe = process.resident(), tools.Connection(process.port)

        async def answering() -> str:
            return str(json.loads((await probe.get("/v1/model")).body)["version"])

        load = tools.Load(process.port, n_items)
        loading = asyncio.create_task(load.run(rate, 1e9))
        live = 0
        for turn in range(1, reloads + 1):
            if turn % 10 == 0:
                put_in_place(link, corrupt)
                await asyncio.sleep(0.3)
                live += await answering() == version_of(corrupt)
            put_in_place(link, runs[turn % 2])
            while await answering() != version_of(runs[turn % 2]):
                await asyncio.sleep(0.02)
        load.stopped = True
        sent = await loading
        load.close()
        probe.close()
        grown = process.resident() / before - 1
        refused = sum(line.get("event") == "model refused" for line in process.log())
    sessions, mixed = tools.sessions_of(n_items, seed=0), 0
    asked = {each.at: session for each, session in zip(sorted(sent), sessions, strict=False)}
    for each in sent:
        if each.version is not None:
            (right,) = models[each.version].recommend([asked[each.at]], k=20)
            mixed += tuple(item.id for item in right) != each.items
    return {
        "reloads": reloads,
        "requests": len(sent),
        "failed": sum(each.status != 200 for each in sent),
        "mixed_versions": mixed,
        "corrupt_refused": refused,
        "corrupt_went_live": live,
        "memory_grown": round(grown, 3),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_figures(await measure(Path(folder), given.items, given.reloads, given.rate), given.json)


if __name__ == "__main__":
    asyncio.run(main())
