from __future__ import annotations

from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from valuerec.errors import UsageError
from valuerec.experiments.analysis import (
    expected_maximum,
    p_mul,
    p_mul_maximum,
    p_sub,
    p_sub_maximum,
    value_bound_factor,
)
from valuerec.methods import VPQ


def _exact_maximum(n: int) -> float:
    """∫ x n φ(x) Φ(x)^(n−1) dx by the trapezium rule: no approximation of ours in it."""
    x = np.linspace(-10, 10, 20_001)
    below = np.array([0.5 * (1 + erf(each / sqrt(2))) for each in x])
    density = n * np.array([exp(-each * each / 2) for each in x]) / sqrt(2 * pi) * below ** (n - 1)
    return float((x * density).sum() * (x[1] - x[0]))


def test_equation_8_gives_the_papers_numbers() -> None:
    assert value_bound_factor(0.99, 0.9) == pytest.approx(149.98, abs=0.01)  # 149.987: the paper cuts it off
    assert value_bound_factor(0.99, 0.5) == pytest.approx(3.88, abs=0.005)
    assert value_bound_factor(0.99) == pytest.approx(19_800)


@pytest.mark.parametrize(
    ("n", "repeats"), [(10, 400_000), (100, 40_000), (1_000, 8_000), (10_000, 1_000), (100_000, 400)]
)
def test_equation_5_is_within_1_percent_of_monte_carlo(n: int, repeats: int) -> None:
    """With mean 0, where a relative error is largest; the standard error is below a third of a percent."""
    draw = np.random.default_rng(n)
    at_once = max(1, 1_000_000 // n)
    largest = [draw.standard_normal((at_once, n), dtype=np.float32).max(axis=1) for _ in range(repeats // at_once)]
    assert expected_maximum(n) == pytest.approx(float(np.concatenate(largest).mean()), rel=0.01)


@pytest.mark.parametrize(
    ("n", "bound"), [(2, 0.045), (5, 0.0145), (7, 0.01), (10, 0.006), (50, 0.006), (1_000, 0.006), (100_000, 0.006)]
)
def test_equation_5_errs_by_what_its_docstring_says(n: int, bound: float) -> None:
    assert expected_maximum(n) == pytest.approx(_exact_maximum(n), rel=bound)


def test_equation_5_is_exact_for_one_prediction() -> None:
    assert expected_maximum(1, 0.7, 3.0) == pytest.approx(0.7)


def test_equations_6_and_7_are_the_maximum_of_what_is_penalised_with_one_uncertainty() -> None:
    draw, n, mean, deviation, penalty = np.random.default_rng(0), 1_000, 1.0, 0.25, 3.0
    value = draw.normal(mean, deviation, (4_000, n))
    for penalise, equation in ((p_sub, p_sub_maximum), (p_mul, p_mul_maximum)):
        found = penalise(value, deviation, penalty).max(axis=1).mean()
        assert equation(n, mean, deviation, penalty) == pytest.approx(float(found), abs=0.01)


def test_equations_6_and_7_are_too_low_where_uncertainty_differs() -> None:
    draw, n, mean, deviation, penalty = np.random.default_rng(0), 1_000, 1.0, 0.25, 3.0
    value = draw.normal(mean, deviation, (1_000, n))
    uncertainty = draw.uniform(0, 2 * deviation, value.shape)
    for penalise, equation in ((p_sub, p_sub_maximum), (p_mul, p_mul_maximum)):
        found = penalise(value, uncertainty, penalty).max(axis=1).mean()
        assert found > equation(n, mean, deviation, penalty) + 0.3


@given(
    mean=st.floats(0.01, 2),
    deviation=st.floats(0.01, 2),
    penalty=st.floats(0, 1e6),
    n=st.integers(1, 10**6),
)
def test_p_mul_stays_positive_and_p_sub_does_not(mean: float, deviation: float, penalty: float, n: int) -> None:
    """The paper's first advantage: no λ makes p-mul negative, every mean has a λ that makes p-sub negative."""
    assert p_mul_maximum(n, mean, deviation, penalty) > 0
    enough = expected_maximum(n, mean, deviation) / deviation
    assert p_sub_maximum(n, mean, deviation, enough + 1) < 0


@given(value=st.floats(0, 2), uncertainty=st.floats(0, 2), penalty=st.floats(0, 100))
def test_p_mul_is_what_vpq_trains_with(value: float, uncertainty: float, penalty: float) -> None:
    theirs = VPQ(penalty=penalty).target_score(torch.tensor(value).double(), torch.tensor(uncertainty).double())
    assert float(p_mul(np.array(value), np.array(uncertainty), penalty)) == pytest.approx(float(theirs), rel=1e-6)


def test_what_does_not_exist_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="n = 0 predictions does not exist; n must be at least 1"):
        expected_maximum(0)
    with pytest.raises(UsageError, match=r"below 1, not 1\.0"):
        value_bound_factor(1.0)
