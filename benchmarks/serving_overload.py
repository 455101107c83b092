"""Three times more than it can: how much is still answered, how the rest is refused, how soon all is well again.

The peak is looked for first: the rate is doubled while nearly all is answered in time, then raised by smaller steps,
and the rate at which most was answered is asked once more for longer. What is compared is answers with 200 a second, of
those that came while the load went on. `recovered_after_s`: seconds from the overload's end until the p99 of every
further second is at most twice what it was before (at half the peak).

    python benchmarks/serving_overload.py --seconds 60 --json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import uvloop

import serving_tools as tools
from provenance import print_figures

_STARTS_AT: Final = 50.0  # requests a second
_STEPS: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.15)  # of the first rate that was too much
_BACK: Final = 2.0  # times the p99 of before


async def loaded(process: tools.Process, n_items: int, rate: float, seconds: float) -> dict[str, Any]:
    """One load, by connections of its own."""
    load = tools.Load(process.port, n_items, seed=int(rate))
    sent = await load.run(rate, seconds)
    load.close()
    return {"rate": round(rate, 1), "offered": round(len(sent) / load.lasted, 1)} | tools.summary(sent, seconds)


async def peak_of(
    process: tools.Process, n_items: int, step: float, confirm: float
) -> tuple[float, list[dict[str, Any]]]:
    """The most answers a second that any rate brings, and the steps that led there.

    Args:
        process: the service.
        n_items: of its catalogue.
        step: seconds a step.
        confirm: seconds of the last one, which counts.
    """
    rate, steps = _STARTS_AT, [await loaded(process, n_items, _STARTS_AT, step)]
    while steps[-1]["statuses"].get("200", 0) > 0.95 * steps[-1]["requests"] and steps[-1]["offered"] > 0.8 * rate:
        rate *= 2
        steps.append(await loaded(process, n_items, rate, step))
    for share in _STEPS:
        steps.append(await loaded(process, n_items, share * rate, step))
    best = max(steps, key=lambda each: float(each["goodput"]))
    steps.append(await loaded(process, n_items, best["rate"], confirm))
    return float(steps[-1]["goodput"]), steps


async def measure(
    folder: Path, n_items: int, factor: float, seconds: float, heads: int, step: float = 4.0
) -> dict[str, Any]:
    """The peak; half of it; `factor` times it for `seconds`; half of it again."""
    path = tools.made_up_run(folder / "run", n_items, heads=heads)
    calm_seconds = max(1.0, min(15.0, seconds))
    async with tools.served(path) as process:
        peak, steps = await peak_of(process, n_items, step, min(20.0, seconds))
        before = await loaded(process, n_items, peak / 2, calm_seconds)
        load = tools.Load(process.port, n_items, seed=1)
        sent = await load.run(factor * peak, seconds)
        load.close()
        overload = {"rate": round(factor * peak, 1), "offered": round(len(sent) / load.lasted, 1)}
        overload |= tools.summary(sent, seconds)
        late = max(each.at + each.seconds for each in sent) - load.lasted  # until its last answer
        after = tools.Load(process.port, n_items, seed=2)
        sent = await after.run(peak / 2, calm_seconds)
        after.close()
        alive, resident = process.process.poll() is None, process.resident()
    by_second = [
        tools.summary([each for each in sent if int(each.at) == second], 1.0)["p99_ms"]
        for second in range(int(calm_seconds))
    ]
    within = [p99 is not None and p99 <= _BACK * before["p99_ms"] for p99 in by_second]
    bad = max((second + 1 for second, well in enumerate(within) if not well), default=0)
    return {
        "items": n_items,
        "peak_goodput": round(peak, 1),
        "goodput_kept": round(overload["goodput"] / max(1e-9, peak), 3),
        "other_refusals": sum(
            count for status, count in overload["statuses"].items() if status not in ("200", "429", "503")
        ),
        "recovered_after_s": round(late + bad, 2) if bad < len(within) else None,
        "p99_ms_before": before["p99_ms"],
        "p99_ms_by_second_after": by_second,
        "overload": overload,
        "alive": alive,
        "resident_mb": round(resident / 1e6),
        "steps": steps,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload")
    parser.add_argument("--step", type=float, default=4.0, help="seconds of a step of the search for the peak")
    parser.add_argument("--heads", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = await measure(Path(folder), given.items, given.factor, given.seconds, given.heads, given.step)
    print_figures(result, given.json)


if __name__ == "__main__":
    uvloop.run(main())
