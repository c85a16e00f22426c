"""Statistics against published examples, other implementations, and what must hold for any values."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as formula
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from training.statistics import across_seeds, effect, holm, paired_t, wilcoxon

# W. S. Gosset ("Student"), "The probable error of a mean", Biometrika 6, 1908, section IX: hours of sleep that ten
# patients gained with two drugs
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# C. Darwin, "The effects of cross and self fertilisation", 1876, table VII, as in R. A. Fisher, "The design of
# experiments", section 17: heights of fifteen pairs of plants, eighths of an inch
CROSSED = [188, 96, 168, 176, 153, 172, 177, 163, 146, 173, 186, 168, 177, 184, 96]
SELFED = [139, 163, 160, 160, 147, 149, 149, 122, 132, 144, 130, 144, 102, 124, 144]

# M. Hollander, D. Wolfe, "Nonparametric statistical methods", 1973, page 29: Hamilton depression scales of nine
# patients before and after a tranquilizer (the example of R's wilcox.test)
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]

VALUES = st.lists(st.floats(-40, 40), min_size=3, max_size=12)


def test_paired_t_of_students_sleep_data() -> None:
    found = paired_t(DRUG_2, DRUG_1)
    assert found.num == 10
    assert found.statistic == pytest.approx(4.0621, abs=5e-5)  # as R's t.test(extra ~ group, paired) prints it
    assert found.p == pytest.approx(0.002833, abs=5e-7)


def test_paired_t_of_darwins_maize() -> None:
    found = paired_t(CROSSED, SELFED)
    assert found.statistic == pytest.approx(2.148, abs=5e-4)  # Fisher's t
    assert found.p == pytest.approx(0.0497, abs=5e-5)


def test_wilcoxon_of_hollander_and_wolfe() -> None:
    found = wilcoxon(BEFORE, AFTER)
    assert found.statistic == 5  # V = 40 of the positive ranks, 45 - 40 of the negative
    assert found.p == pytest.approx(2 * 0.01953, abs=1e-5)  # one-sided in the book


def test_wilcoxon_leaves_ties_with_zero_out() -> None:
    assert wilcoxon([1, 2, 3, 4, 5.5], [1, 1, 1, 1, 1]).p == wilcoxon([2, 3, 4, 5.5], [1, 1, 1, 1]).p


def test_holms_adjusted_values() -> None:
    # S. Holm's procedure on the four values of Wikipedia's example ("Holm-Bonferroni method"): 0.005 and 0.01 are
    # rejected at 0.05, 0.03 and 0.04 are not
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_what_was_not_tested() -> None:
    found = holm([0.02, math.nan, 0.03])
    assert found[0] == pytest.approx(0.04)
    assert math.isnan(found[1])
    assert math.isnan(holm([math.nan])[0])
    assert holm([]) == []


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_statsmodels_and_between_the_value_and_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)
    for adjusted, p in zip(holm(p_values), p_values, strict=True):
        assert p <= adjusted + 1e-12
        assert adjusted <= min(1.0, p * len(p_values)) + 1e-12


def test_effect_of_students_sleep_data() -> None:
    found = effect(DRUG_2, DRUG_1)
    assert found.mean == pytest.approx(1.58)
    assert found.median == pytest.approx(1.3)
    # d is t / sqrt(n); the correction is near Hedges' 1 - 3 / (4 df - 1)
    assert found.cohen_d == pytest.approx(4.0621 / math.sqrt(10) * (1 - 3 / (4 * 9 - 1)), rel=2e-3)
    assert found.share_better == pytest.approx(0.95)  # nine of ten, and a tie
    # Efron and Tibshirani's subject of many a bootstrap: near the t interval 0.70 to 2.46, the skew to the right
    assert 0.7 < found.mean_interval.low < 1.1
    assert 2.2 < found.mean_interval.high < 3.0


def test_bootstrap_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = [
        interval.low <= 0.5 <= interval.high
        for interval in (effect(rng.normal(0.5, 1.0, 40), np.zeros(40)).mean_interval for _ in range(100))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)


def test_values_without_a_number_are_left_out_in_pairs() -> None:
    values = [1.0, 2.0, math.nan, 4.0, math.inf, 6.5]
    others = [0.0, math.nan, 1.0, 2.0, 1.0, 1.0]
    for test in (paired_t, wilcoxon, effect):
        assert test(values, others) == test([1.0, 4.0, 6.5], [0.0, 2.0, 1.0])
    assert paired_t(values, others).num == 3


def test_nothing_to_compare_is_no_certainty() -> None:
    assert math.isnan(paired_t([1.0], [2.0]).p)
    assert paired_t([], []).num == effect([], []).num == 0
    assert paired_t([1.0, 2.0], [1.0, 2.0]).p == wilcoxon([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert across_seeds([[1.0, 2.0]], [[0.0, 0.0]]) is None
    assert across_seeds([[1.0, 2.0]] * 2, [[1.0, 2.0]] * 2).p == 1.0


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        paired_t([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="seeds, songs"):
        across_seeds([1, 2], [1, 2])


@given(VALUES, st.floats(0.01, 100), st.floats(-50, 50))
def test_tests_do_not_depend_on_scale_or_order(values: list[float], scale: float, shift: float) -> None:
    differences = np.round(values, 3)
    flipped = paired_t(np.full(len(values), shift), differences + shift)
    found = paired_t(differences + shift, np.full(len(values), shift))
    assert found.p == pytest.approx(flipped.p, rel=1e-6, abs=1e-9)
    assert found.num == len(values)
    if np.ptp(differences) > 0.01:
        zeros = np.zeros(len(values))
        assert paired_t(scale * differences, zeros).p == pytest.approx(paired_t(differences, zeros).p, rel=1e-6)


def crossed(seed: int, seeds: int, songs: int, seed_sd: float, song_sd: float, mean: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    by_seed, by_song = rng.normal(0, seed_sd, (seeds, 1)), rng.normal(0, song_sd, (1, songs))
    return mean + by_seed + by_song + rng.normal(0, 0.5, (seeds, songs))


def test_across_seeds_is_the_mixed_model_of_statsmodels() -> None:
    table = crossed(3, 4, 12, 0.8, 1.0, mean=0.7)
    found = across_seeds(table, np.zeros_like(table))
    rows = pd.DataFrame(
        [{"value": table[s, n], "seed": s, "song": n, "all": 1} for s in range(4) for n in range(12)]
    )
    components = {"seed": "0 + C(seed)", "song": "0 + C(song)"}
    model = formula.mixedlm("value ~ 1", rows, groups="all", vc_formula=components, re_formula="0")
    fitted = model.fit(reml=True)
    by_name = dict(zip(model.exog_vc.names, fitted.vcomp, strict=True))
    assert found is not None
    assert found.seed_variance == pytest.approx(by_name["seed"], rel=1e-3)
    assert found.song_variance == pytest.approx(by_name["song"], rel=1e-3)
    assert found.rest_variance == pytest.approx(fitted.scale, rel=1e-3)
    error = (found.interval.high - found.mean) / stats.t.ppf(0.975, found.df)
    assert error == pytest.approx(float(fitted.bse["Intercept"]), rel=1e-3)


def test_across_seeds_without_a_seed_effect_is_the_t_test_of_means() -> None:
    table = crossed(5, 3, 20, 0.0, 1.5, mean=0.4)
    table -= table.mean(axis=1, keepdims=True) - table.mean()  # seeds agree to the last digit
    found = across_seeds(table, np.zeros_like(table))
    means = paired_t(table.mean(axis=0), np.zeros(20))
    assert found is not None
    assert found.seed_variance == 0.0
    assert found.p == pytest.approx(means.p, rel=1e-9)
    assert found.df == pytest.approx(19)


def test_across_seeds_doubts_what_one_lucky_training_brought() -> None:
    # two seeds, each far from the other: every song says the same within a seed
    table = np.array([[0.1] * 30, [2.0] * 30]) + np.random.default_rng(0).normal(0, 0.05, (2, 30))
    assert paired_t(table.mean(axis=0), np.zeros(30)).p < 1e-10
    found = across_seeds(table, np.zeros_like(table))
    assert found is not None
    assert found.p > 0.2
    assert found.df == pytest.approx(1.0, abs=0.1)


def test_across_seeds_rejects_as_often_as_it_says() -> None:
    zeros = np.zeros((4, 15))
    found = [across_seeds(crossed(seed, 4, 15, 0.5, 1.0), zeros) for seed in range(400)]
    assert np.mean([one is not None and one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=0.035)


def test_a_song_that_one_seed_lacks_is_left_out_of_all() -> None:
    table = crossed(7, 3, 8, 0.3, 1.0)
    hole = table.copy()
    hole[1, 4] = math.nan
    zeros = np.zeros_like(table)
    assert across_seeds(hole, zeros) == across_seeds(np.delete(table, 4, axis=1), np.delete(zeros, 4, axis=1))
