"""How often the paired bootstrap errs far out in the tail, where Holm's correction reads it: three seeds a method.

python benchmarks/significance_tail.py [--worlds 20000]

Two methods without a difference, a metric that is normal: sessions add a deviation that both resamplings know, seeds
one that only three runs a method tell of. Printed is the share of worlds with p at most .05 and at most .05 / 80, the
first level of a family of 80 tests, by the ratio of the two deviations of the difference (sessions to seeds).
"""

from __future__ import annotations

import argparse

import numpy as np

from valuerec.evaluation.significance import LEVEL, _drawn_runs

RUNS, FAMILY, RESAMPLES = 3, 80, 10_000


def rates(ratio: float, worlds: int, seed: int = 0) -> tuple[float, float]:
    """The shares of worlds with p at most LEVEL and at most LEVEL / FAMILY, where sessions have `ratio` seeds' SD."""
    draw = np.random.default_rng(seed)
    of_sessions = ratio * np.sqrt(2 / RUNS)  # the seeds' part of the difference of two means of RUNS has SD √(2/RUNS)
    p_values = np.empty(worlds)
    for world in range(worlds):
        runs_MR = draw.normal(size=(2, RUNS))
        observed = runs_MR[0].mean() - runs_MR[1].mean() + of_sessions * draw.normal()
        away_B = of_sessions * draw.normal(size=RESAMPLES)
        for sign, run_R in zip((1, -1), runs_MR, strict=True):
            away_B += sign * (_drawn_runs(draw, RESAMPLES, RUNS) @ (run_R - run_R.mean()))
        p_values[world] = (np.sum(np.abs(away_B) >= abs(observed)) + 1) / (RESAMPLES + 1)
    return float(np.mean(p_values <= LEVEL)), float(np.mean(p_values <= LEVEL / FAMILY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=20_000, help="a rate (20,000: about 2 minutes)")
    worlds = parser.parse_args().worlds
    for ratio in (0.0, 0.5, 1.0, 2.0):
        wide, narrow = rates(ratio, worlds)
        print(f"session SD / seed SD {ratio}: p <= {LEVEL} in {wide:.4f}, p <= {LEVEL / FAMILY} in {narrow:.5f}")


if __name__ == "__main__":
    main()
