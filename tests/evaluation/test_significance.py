from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.dataset import CLICK, PURCHASE
from valuerec.errors import UsageError
from valuerec.evaluation import metrics_of, significance
from valuerec.evaluation.significance import LEVEL, METRICS, holm, paired_bootstrap

World = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _world(seed: int, sessions: int, runs: tuple[int, int], seed_noise: float = 0.11, better: float = 0.0) -> World:
    """Ranks of two methods, alike but for `better`: what sessions, methods, runs and seeds add up to, made a rank."""
    draw = np.random.default_rng(seed)
    session_E = np.repeat(np.arange(sessions), draw.integers(1, 6, sessions))
    n_events = len(session_E)
    event_E = np.where(draw.random(n_events) < 0.3, PURCHASE, CLICK).astype(np.uint8)
    shared_E = draw.normal(0, 1, sessions)[session_E] + draw.normal(0, 1, n_events)
    ranks = []
    for count, shift in zip(runs, (-better, 0.0), strict=True):
        own_E = draw.normal(0, 0.7, sessions)[session_E] + draw.normal(0, 0.7, n_events)
        noise_RE = draw.normal(0, 0.4, (count, n_events)) + draw.normal(0, seed_noise, (count, 1))
        ranks.append(np.maximum(1, np.ceil(20 * np.exp(shared_E + own_E + noise_RE + shift))).astype(np.int64))
    return ranks[0], ranks[1], event_E, session_E


def _slow(world: World, resamples: int, seed: int, resample_runs: bool) -> dict[str, dict[str, list[float]]]:
    """The differences of all resamples, by writing out each resample and scoring it as any evaluation is scored."""
    *runs, event_E, session_E = world
    draw_sessions, draw_runs = (np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2))
    sessions = np.unique(session_E)
    count_BS = np.concatenate(list(significance._drawn_sessions(draw_sessions, len(sessions), resamples)))
    shares = [significance._drawn_runs(draw_runs, resamples, len(rank_RE)) for rank_RE in runs] if resample_runs else []
    found = {kind: {metric: [] for metric in METRICS} for kind in ("purchase", "click")}
    for place, count_S in enumerate(count_BS):
        event_numbers = [
            number
            for session, count in zip(sessions, count_S, strict=True)
            for _ in range(int(count))
            for number in np.flatnonzero(session_E == session)
        ]
        score = []
        for method, rank_RE in enumerate(runs):
            weights = shares[method][place] if resample_runs else np.full(len(rank_RE), 1 / len(rank_RE))
            each = [metrics_of(rank_E[event_numbers], event_E[event_numbers]) for rank_E in rank_RE]
            score.append(
                lambda kind, metric, each=each, weights=weights: sum(
                    weight * run[kind][metric] for weight, run in zip(weights, each, strict=True)
                )
            )
        for kind, metrics in found.items():
            for metric, values in metrics.items():
                values.append(score[0](kind, metric) - score[1](kind, metric))
    return found


@pytest.mark.parametrize("resample_runs", [True, False])
def test_it_equals_writing_every_resample_out(resample_runs: bool) -> None:
    world, resamples = _world(3, 25, (3, 2), better=0.2), 59
    slow = _slow(world, resamples, 7, resample_runs)
    fast = paired_bootstrap(*world, resamples=resamples, seed=7, resample_runs=resample_runs)
    *runs, event_E, _ = world
    for kind, metrics in slow.items():
        for metric, values in metrics.items():
            mean_a, mean_b = (
                np.mean([metrics_of(rank_E, event_E)[kind][metric] for rank_E in rank_RE]) for rank_RE in runs
            )
            found, away = fast[kind][metric], sorted((abs(value - (mean_a - mean_b)) for value in values), reverse=True)
            assert found.difference == pytest.approx(mean_a - mean_b)
            beyond = sum(value >= abs(mean_a - mean_b) - 1e-12 for value in away)
            assert found.p_value == pytest.approx((beyond + 1) / 60)
            half = away[2]  # the third of 59: 5 % of 60
            assert (found.low, found.high) == pytest.approx((mean_a - mean_b - half, mean_a - mean_b + half))


def test_blocks_do_not_matter_and_neither_do_the_names_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_a_RE, rank_b_RE, event_E, session_E = _world(0, 40, (2, 3))
    whole = paired_bootstrap(rank_a_RE, rank_b_RE, event_E, session_E, resamples=99)
    monkeypatch.setattr(significance, "_NUMBERS_AT_ONCE", 200)
    assert paired_bootstrap(rank_a_RE, rank_b_RE, event_E, session_E * 10 + 5, resamples=99) == whole


def test_resamples_are_multinomial() -> None:
    count_BS = np.concatenate(list(significance._drawn_sessions(np.random.default_rng(0), 4, 40_000)))
    assert (count_BS.sum(axis=1) == 4).all()
    covariance = 4 * (np.eye(4) / 4 - np.full((4, 4), 1 / 16))
    np.testing.assert_allclose(np.cov(count_BS.T), covariance, atol=0.02)


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_drawn_runs_give_the_variance_of_a_mean(runs: int) -> None:
    value_R = np.random.default_rng(1).normal(size=runs)
    mean_B = significance._drawn_runs(np.random.default_rng(2), 200_000, runs) @ value_R
    assert mean_B.mean() == pytest.approx(value_R.mean(), abs=0.01)
    assert mean_B.var() == pytest.approx(value_R.var(ddof=1) / runs, rel=0.02)


def _rejections(worlds: range, resample_runs: bool, **options: float) -> float:
    """The share of worlds whose p-values, all four of them, are at most 5 %."""
    found = []
    for seed in worlds:
        compared = paired_bootstrap(
            *_world(seed, 120, (3, 3), **options), resamples=199, seed=seed, resample_runs=resample_runs
        )
        found += [compared[kind][metric].p_value <= LEVEL for kind in compared for metric in METRICS]
    return float(np.mean(found))


def test_without_a_difference_5_percent_are_rejected() -> None:
    """600 worlds: the standard error of the share is below .9 %. Seeds add about half to the variance."""
    assert 0.02 < _rejections(range(600), True, seed_noise=0.11) < 0.07


def test_runs_held_fixed_are_exact_where_seeds_do_not_matter_and_wrong_where_they_do() -> None:
    assert 0.03 < _rejections(range(400), False, seed_noise=0.0) < 0.075
    assert _rejections(range(200), False, seed_noise=0.25) > 0.15


def test_a_difference_is_found_and_its_interval_covers_it() -> None:
    assert _rejections(range(60), True, better=0.9) > 0.8
    truth = np.mean([_difference(_world(seed, 120, (3, 3), better=0.3)) for seed in range(1_000, 1_800)])
    covered = [
        found.low <= truth <= found.high
        for seed in range(300)
        for found in [paired_bootstrap(*_world(seed, 120, (3, 3), better=0.3), resamples=199)["click"]["hr@20"]]
    ]
    assert 0.9 < np.mean(covered) < 0.985


def _difference(world: World) -> float:
    *runs, event_E, _ = world
    return float(np.subtract(*((rank_RE[:, event_E == CLICK] <= 20).mean() for rank_RE in runs)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), sessions=st.integers(2, 12), resamples=st.sampled_from([19, 39, 119]))
def test_what_always_holds(seed: int, sessions: int, resamples: int) -> None:
    rank_a_RE, rank_b_RE, event_E, session_E = _world(seed, sessions, (2, 2), seed_noise=0.5)
    there = paired_bootstrap(rank_a_RE, rank_b_RE, event_E, session_E, resamples=resamples, resample_runs=False)
    back = paired_bootstrap(rank_b_RE, rank_a_RE, event_E, session_E, resamples=resamples, resample_runs=False)
    for kind, metrics in there.items():
        for metric, found in metrics.items():
            if found is None:
                assert back[kind][metric] is None and kind not in {("click", "purchase")[code] for code in event_E}
                continue
            assert 1 / (resamples + 1) <= found.p_value <= 1
            assert found.low <= found.difference <= found.high
            mirrored = back[kind][metric]
            assert mirrored.p_value == found.p_value
            assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
            every_resample_has_it = len(np.unique(session_E[event_E == (kind == "purchase")])) == sessions
            if every_resample_has_it:
                assert (found.p_value <= LEVEL) == (found.low > 1e-12 or found.high < -1e-12)


def test_a_method_does_not_differ_from_itself() -> None:
    rank_RE, _, event_E, session_E = _world(0, 30, (3, 1))
    found = paired_bootstrap(rank_RE, rank_RE, event_E, session_E, resamples=99, resample_runs=False)
    assert found["click"]["hr@20"].difference == 0 and found["click"]["hr@20"].p_value == 1


def test_a_method_without_a_seed_is_compared_by_its_one_ranking() -> None:
    rank_RE, other_RE, event_E, session_E = _world(0, 30, (3, 1), seed_noise=1.0)
    alone = paired_bootstrap(rank_RE, other_RE[0], event_E, session_E, resamples=99)
    assert alone == paired_bootstrap(rank_RE, np.repeat(other_RE, 4, axis=0), event_E, session_E, resamples=99)
    assert alone != paired_bootstrap(rank_RE, other_RE, event_E, session_E, resamples=99, resample_runs=False)


def test_what_cannot_be_compared_is_refused_in_a_sentence() -> None:
    rank_a_RE, rank_b_RE, event_E, session_E = _world(0, 10, (2, 1))
    with pytest.raises(UsageError, match="train two seeds or more, or pass resample_runs=False"):
        paired_bootstrap(rank_a_RE, rank_b_RE, event_E, session_E)
    with pytest.raises(UsageError, match="do not fit"):
        paired_bootstrap(rank_a_RE, rank_a_RE[:, 1:], event_E, session_E)
    with pytest.raises(UsageError, match="at least 19"):
        paired_bootstrap(rank_a_RE, rank_a_RE, event_E, session_E, resamples=18)
    with pytest.raises(UsageError, match="between 0 and 1"):
        holm([0.5, float("nan")])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(p_values=st.lists(st.floats(0, 1), max_size=12), data=st.data())
def test_holms_properties(p_values: list[float], data: st.DataObject) -> None:
    adjusted = holm(p_values)
    count = len(p_values)
    for own, corrected in zip(p_values, adjusted, strict=True):
        assert own <= corrected <= min(1, count * own) or corrected == pytest.approx(min(1, count * own))
    for place, other in enumerate(p_values):  # order is kept, and ties stay ties
        for corrected, own in zip(adjusted, p_values, strict=True):
            assert own > other or corrected <= adjusted[place]
    order = data.draw(st.permutations(range(count)))
    assert holm([p_values[place] for place in order]) == [adjusted[place] for place in order]
    # Holm's procedure as he stated it: from the smallest on, reject while p ≤ α / (values left), then stop.
    level = data.draw(st.floats(0.001, 0.999))
    rejected, left = set(), count
    for place in sorted(range(count), key=p_values.__getitem__):
        if p_values[place] * left > level:
            break
        rejected.add(place)
        left -= 1
    assert rejected == {place for place in range(count) if adjusted[place] <= level}
