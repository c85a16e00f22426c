"""Weighted draws in constant time."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from augment.alias import AliasTable, alias_table
from manifests.errors import RecipeError


def shares(table: AliasTable) -> np.ndarray:
    """The probability of each item, by where each draw may land."""
    found = np.zeros(len(table))
    for item, (stay, other) in enumerate(zip(table.stay.astype(float), table.other, strict=True)):
        found[item] += stay
        found[other] += 1 - stay
    assert table.shares() == pytest.approx(found / len(table), abs=1e-12)
    return found / len(table)


weights = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e6)).filter(lambda w: w.sum() > 1e-3)


@given(weights)
def test_the_table_holds_exactly_the_weights(values: np.ndarray) -> None:
    assert shares(alias_table(values)) == pytest.approx(values / values.sum(), abs=1e-6)


@pytest.mark.parametrize("values", [[3.0], [1, 1, 1], [0, 0, 5], [5, 0, 0], np.r_[np.ones(999), 1e6], [0, 2, 0, 2]])
def test_the_table_holds_the_weights_of_odd_cases(values: list[float]) -> None:
    assert shares(alias_table(values)) == pytest.approx(np.array(values) / np.sum(values), abs=1e-6)


def test_draws_follow_the_weights() -> None:
    values = np.array([1.0, 2, 3, 4, 0, 10])
    rng = np.random.default_rng(0)
    table = alias_table(values)
    counts = np.bincount([table.draw(rng) for _ in range(10_000)], minlength=len(values))
    assert counts[4] == 0
    assert scipy.stats.chisquare(counts[values > 0], 500 * values[values > 0]).pvalue > 1e-3


@pytest.mark.parametrize("values", [[], [0, 0], [1, -1], [1, np.nan], [np.inf]])
def test_impossible_weights_are_refused(values: list[float]) -> None:
    with pytest.raises(RecipeError, match=r"weights: .* must be finite, at least 0, and not all 0"):
        alias_table(values)
