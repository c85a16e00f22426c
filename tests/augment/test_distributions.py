"""Numbers and counts that a recipe leaves to chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from augment.distributions import Count, Distribution, draw_uniform

DRAWS = 4000


def drawn(written: object, kind: type[Distribution] = Distribution, draws: int = DRAWS) -> np.ndarray:
    distribution = kind.model_validate(written)
    rng = np.random.default_rng(1)
    return np.array([distribution.draw(rng) for _ in range(draws)])


@pytest.mark.parametrize(
    ("written", "cdf"),
    [
        ([-10, 10], scipy.stats.uniform(-10, 20).cdf),
        ({"uniform": [0.25, 1.25]}, scipy.stats.uniform(0.25, 1).cdf),
        ({"log_uniform": [0.25, 4]}, scipy.stats.loguniform(0.25, 4).cdf),
        ({"normal": [-27, 4]}, scipy.stats.norm(-27, 4).cdf),
        ({"skew_normal": [1, 2, 5]}, scipy.stats.skewnorm(5, 1, 2).cdf),
        ({"skew_normal": [0, 2, -3]}, scipy.stats.skewnorm(-3, 0, 2).cdf),
    ],
)
def test_draws_follow_the_distribution(written: object, cdf: object) -> None:
    assert scipy.stats.kstest(drawn(written), cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean", [0.05, 1.0, 7.0, 24.0])
def test_a_zero_truncated_poisson_count_is_a_poisson_count_given_that_it_is_not_zero(mean: float) -> None:
    counts = drawn({"zero_truncated_poisson": mean}, Count)
    values, observed = np.unique(counts, return_counts=True)
    assert values.min() >= 1
    expected = scipy.stats.poisson.pmf(values, mean) / -math.expm1(-mean) * DRAWS
    likely = expected > 5
    assert scipy.stats.chisquare(
        observed[likely], expected[likely] * observed[likely].sum() / expected[likely].sum()
    ).pvalue > 1e-3  # fmt: skip


def test_a_range_may_go_from_zero_to_minus_zero() -> None:
    assert Distribution(uniform=(0.0, -0.0)).draw(np.random.default_rng(0)) == 0


def test_a_range_of_counts_has_each_whole_number_as_often() -> None:
    values, observed = np.unique(drawn([0, 3], Count), return_counts=True)
    assert values.tolist() == [0, 1, 2, 3]
    assert scipy.stats.chisquare(observed).pvalue > 1e-3


def test_a_choice_follows_its_weights() -> None:
    values, observed = np.unique(drawn({"choice": [8, 12, 16], "weights": [1, 2, 0]}, Count), return_counts=True)
    assert values.tolist() == [8, 12]
    assert scipy.stats.chisquare(observed, DRAWS * np.array([1 / 3, 2 / 3])).pvalue > 1e-3


def test_clipping_moves_what_falls_outside_to_the_nearest_end() -> None:
    values = drawn({"normal": [0, 1], "clip": [-1, 0.5]})
    assert (values.min(), values.max()) == (-1, 0.5)
    assert np.mean(values == -1) == pytest.approx(scipy.stats.norm.cdf(-1), abs=0.03)


@pytest.mark.parametrize(
    "written",
    [3, 2.5, [1, 2], {"normal": [0, 1], "clip": [-1, 1]}, {"choice": [1, 2], "weights": [1, 3]}, {"poisson": 2}],
)
def test_what_is_written_reads_back(written: object) -> None:
    distribution = Distribution.model_validate(written)
    assert Distribution.model_validate(distribution.model_dump(mode="json")) == distribution


@given(st.floats(-100, 100), st.floats(0, 100))
def test_draws_are_within_the_support(low: float, width: float) -> None:
    distribution = Distribution(uniform=(low, low + width))
    rng = np.random.default_rng(0)
    least, most = distribution.support
    assert all(least <= distribution.draw(rng) <= most for _ in range(5))


@pytest.mark.parametrize(
    ("kind", "written", "message"),
    [
        (Distribution, {}, "is one of fixed, uniform.*nothing"),
        (Distribution, {"uniform": [0, 1], "normal": [0, 1]}, "uniform and normal"),
        (Distribution, [2, 1], r"ends before it starts; write \[1, 2\]"),
        (Distribution, {"log_uniform": [0, 1]}, "start above 0"),
        (Distribution, {"choice": [1, 2], "weights": [1]}, "as many values"),
        (Distribution, {"choice": [1, 2], "weights": [0, 0]}, "not all be 0"),
        (Distribution, {"nrmal": [0, 1]}, "did you mean 'normal'"),
        (Distribution, {"normal": [0, -1]}, "greater than or equal to 0"),
        (Distribution, math.nan, "finite"),
        (Count, -1, "at least 0, not -1"),
        (Count, [0, 1.5], "whole number"),
        (Count, {"normal": [3, 1]}, "a count is"),
    ],
)
def test_what_cannot_be_is_refused(kind: type[Distribution], written: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(written)


def test_a_transforms_range_may_go_from_zero_to_minus_zero_too() -> None:
    rng = np.random.default_rng(0)
    assert draw_uniform(rng, (0.0, -0.0)) == 0
