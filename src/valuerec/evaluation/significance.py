"""Whether one method is better than another: a paired bootstrap over sessions and seeds, and Holm's correction.

Events of one session depend on each other, so whole sessions are drawn with replacement, the same for both methods
(Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993). A table compares methods, not the few networks that
happened to be trained, and seeds matter about as much as sessions (RESULTS.md: purchase HR@20 has a standard deviation
over seeds of .009 in the median row, and a binomial error of .016). So the runs of each method are drawn too, R − 1 of
its R: that makes the variance of their mean unbiased (McCarthy and Snowden, *The Bootstrap and Finite Population
Sampling*, 1985), where R of R would give two thirds of it for three seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from valuerec.errors import UsageError
from valuerec.evaluation import SCORED, hit_ratio, ndcg

CUTOFF: Final = 20
METRICS: Final = {f"hr@{CUTOFF}": hit_ratio, f"ndcg@{CUTOFF}": ndcg}
LEVEL: Final = 0.05

_NUMBERS_AT_ONCE = 1 << 21  # session counts of one block of resamples: 16 MiB a float64 array of them


@dataclass(frozen=True)
class Comparison:
    """How far method A lies above method B on one metric.

    Args:
        difference: A minus B, each the mean over its runs.
        p_value: two-sided, of the hypothesis that there is no difference: (b + 1) / (B + 1), where b of B resamples
            lie at least |difference| away from it.
        low: lower end of the 95 % interval, which is symmetric about the difference and leaves 0 out exactly where
            p_value is at most 0.05.
        high: its upper end.
    """

    difference: float
    p_value: float
    low: float
    high: float


def paired_bootstrap(
    rank_a_RE: NDArray[np.int64],
    rank_b_RE: NDArray[np.int64],
    event_E: NDArray[np.uint8],
    session_E: NDArray[np.int64],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    resample_runs: bool = True,
) -> dict[str, dict[str, Comparison | None]]:
    """Compare two methods on the same held-out events by HR@20 and NDCG@20, purchases and clicks apart.

    How often it errs where there is no difference: `docs/architecture.md`, "Significance".

    Args:
        rank_a_RE: ranks from 1 by each run (seed) of method A, or rank_E of a method without a seed (popularity, kNN).
        rank_b_RE: the same of method B; its runs may be more or fewer, and need not be of the same seeds.
        event_E: the kind of each event.
        session_E: the session of each event, any numbers.
        resamples: B; the smallest possible p-value is 1 / (B + 1).
        seed: of the resamples. Calls with the same events, B and seed draw the same sessions.
        resample_runs: whether the answer speaks of the methods, trained anew (the default), or, where False, of just
            these runs on new sessions. True needs two runs or more of a method that has a seed.

    Returns:
        kind → metric → comparison; None where a kind does not occur. A resample without an event of a kind (in tiny
        splits) is left out of its B. Memory beside the input: about 100 MiB.

    Raises:
        UsageError: where the ranks do not fit the events, B is too small for an interval, or runs are too few.
    """
    runs = (_checked(rank_a_RE, event_E, session_E), _checked(rank_b_RE, event_E, session_E))
    if resamples < 1 / LEVEL - 1:
        raise UsageError(f"resamples is {resamples}; a 95 % interval needs at least 19.")
    if resample_runs and any(ranks.shape[:-1] == (1,) for ranks in (rank_a_RE, rank_b_RE)):
        raise UsageError(
            "One run of a method does not show how much its seed matters; train two seeds or more, or pass "
            "resample_runs=False to compare just these runs."
        )
    kinds = {kind: event_E == code for kind, code in SCORED.items() if np.any(event_E == code)}
    statistics = [(kind, metric) for kind in kinds for metric in METRICS]
    _, place_E = np.unique(session_E, return_inverse=True)
    count_SM = _sums(place_E, [kinds[kind] for kind, _ in statistics])
    gain_SRM = [
        _sums(
            place_E,
            [kinds[kind] * METRICS[metric](rank_E, CUTOFF) for rank_E in rank_RE for kind, metric in statistics],
        )
        for rank_RE in runs
    ]
    sums_SC = np.concatenate([count_SM, *gain_SRM], axis=1)
    even = [np.full((1, len(rank_RE)), 1 / len(rank_RE)) for rank_RE in runs]
    observed_M = _differences(sums_SC.sum(axis=0, keepdims=True), even)[0]
    draw_sessions, draw_runs = (np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2))
    weights = [
        _drawn_runs(draw_runs, resamples, len(rank_RE))
        if resample_runs and len(rank_RE) > 1
        else np.repeat(even_1R, resamples, axis=0)
        for rank_RE, even_1R in zip(runs, even, strict=True)
    ]
    total_BC = np.concatenate(
        [drawn_BS @ sums_SC for drawn_BS in _drawn_sessions(draw_sessions, len(sums_SC), resamples)]
    )
    drawn_BM = _differences(total_BC, weights)
    result: dict[str, dict[str, Comparison | None]] = {kind: dict.fromkeys(METRICS) for kind in SCORED}
    for place, (kind, metric) in enumerate(statistics):
        result[kind][metric] = _comparison(float(observed_M[place]), drawn_BM[:, place])
    return result


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may be held against one level together.

    Holm, *A simple sequentially rejective multiple test procedure*, 1979: rejecting where the adjusted value is at most
    α errs in any of the family with probability at most α, whatever the dependence.

    Args:
        p_values: of the family, in any order.

    Returns:
        the adjusted p-values in the same order.

    Raises:
        UsageError: where a value is not in [0, 1].
    """
    p_M = np.asarray(p_values, dtype=np.float64)
    if not np.all((p_M >= 0) & (p_M <= 1)):
        raise UsageError("A p-value must lie between 0 and 1; correct what was handed to holm.")
    order = np.argsort(p_M, kind="stable")
    adjusted_M = np.empty_like(p_M)
    adjusted_M[order] = np.minimum(1, np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1)))
    return [float(value) for value in adjusted_M]


def _checked(rank_RE: NDArray[np.int64], event_E: NDArray[np.uint8], session_E: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ranks of a method with one row a run."""
    rows_RE = np.atleast_2d(rank_RE)
    if rows_RE.ndim != 2 or not len(rows_RE) or not rows_RE.shape[1] == len(event_E) == len(session_E) > 0:
        raise UsageError(
            f"Ranks of shape {rank_RE.shape} do not fit {len(event_E)} events and {len(session_E)} session numbers; "
            "pass one row a run, of the same held-out events."
        )
    return rows_RE


def _sums(place_E: NDArray[np.int64], columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The sum of each column over the events of each session."""
    return np.stack([np.bincount(place_E, column) for column in columns], axis=1)


def _differences(total_BC: NDArray[np.float64], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Method A minus method B on each of M statistics in each resample; NaN where no event of the kind is in it.

    Args:
        total_BC: M counts of events, then the gains of each run of A on each statistic, then those of B.
        weights: of the runs of A (B, R) and of B, each row summing to 1.
    """
    runs = [weight_BR.shape[1] for weight_BR in weights]
    statistics = total_BC.shape[1] // (1 + sum(runs))
    count_BM, *gains = np.split(total_BC, np.cumsum([statistics, statistics * runs[0]]), axis=1)
    mean_a_BM, mean_b_BM = (
        np.einsum("brm,br->bm", gain_BC.reshape(len(gain_BC), -1, statistics), weight_BR)
        for gain_BC, weight_BR in zip(gains, weights, strict=True)
    )
    difference_BM = np.full_like(count_BM, np.nan)
    np.divide(mean_a_BM - mean_b_BM, count_BM, out=difference_BM, where=count_BM > 0)
    return difference_BM


def _drawn_sessions(draw: np.random.Generator, sessions: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """How often each of S sessions is in each resample of S draws with replacement: exactly multinomial, in blocks."""
    rows = max(1, _NUMBERS_AT_ONCE // sessions)
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn_BS = draw.integers(0, sessions, (block, sessions))
        drawn_BS += np.arange(block)[:, None] * sessions
        count_BS = np.bincount(drawn_BS.ravel(), minlength=block * sessions).astype(np.float64)
        yield count_BS.reshape(block, sessions)


def _drawn_runs(draw: np.random.Generator, resamples: int, runs: int) -> NDArray[np.float64]:
    """The weight of each run in each resample: runs − 1 draws with replacement, summing to 1."""
    return np.asarray(draw.multinomial(runs - 1, np.full(runs, 1 / runs), resamples) / (runs - 1))


def _comparison(observed: float, drawn_B: NDArray[np.float64]) -> Comparison:
    drawn_B = drawn_B[~np.isnan(drawn_B)]
    # Rounded, so that a resample that equals the sample but was summed in another order is not told apart from it.
    away_B = np.sort(np.round(np.abs(drawn_B - observed), 12))[::-1]
    beyond = int(np.count_nonzero(away_B >= round(abs(observed), 12)))
    half = float(away_B[max(1, int(LEVEL * (len(away_B) + 1))) - 1])
    return Comparison(observed, (beyond + 1) / (len(away_B) + 1), observed - half, observed + half)
