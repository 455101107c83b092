"""SASRec without a critic under the protocol `released`, beside what the released code gets on the Yoochoose sample.

    python benchmarks/released_figures.py data/yc --out RUNS [--seeds 3] [--json]

Three epochs; the figures are of validation and test together, the 20 % of sessions that training does not see. The
released code's are of one seed on a random split (protocol: HR@20/NDCG@20, purchase .594/.316, click .430/.228), so a
difference of .02 is within its noise. Of the epochs the best on validation counts, which is a part of what is reported.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any, Final

import valuerec as vr
from provenance import print_figures
from valuerec.training import TrainConfig

RELEASED: Final = {"purchase": {"hr@20": 0.594, "ndcg@20": 0.316}, "click": {"hr@20": 0.430, "ndcg@20": 0.228}}
NOISE: Final = 0.02


def figures_of(data: Path, out: Path, seed: int) -> dict[str, dict[str, float]]:
    """Metrics of one run on the held-out sessions."""
    config = TrainConfig(method=vr.Supervised(), protocol="released", epochs=3, seed=seed, device="cpu")
    run = vr.train(data, out=out / f"seed{seed}", config=config, quiet=True)
    metrics: Any = vr.evaluate(run, split="held-out")
    return {kind: {name: metrics[kind][name] for name in names} for kind, names in RELEASED.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the Yoochoose sample as `valuerec prepare` wrote it")
    parser.add_argument("--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    runs = [figures_of(given.data, given.out, seed) for seed in range(given.seeds)]
    content: dict[str, Any] = {}
    for kind, names in RELEASED.items():
        for name, released in names.items():
            values = [run[kind][name] for run in runs]
            content[f"{kind} {name}"] = {
                "released": released,
                "ours": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                "within_the_noise": abs(statistics.mean(values) - released) <= NOISE,
                **{f"seed {seed}": value for seed, value in enumerate(values)},
            }
    print_figures(content, given.json)


if __name__ == "__main__":
    main()
