from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment.distributions import draw_log_uniform
from augment.transforms.gain import Gain
from augment.transforms.reverb import Reverb
from augment.transforms.rule import draw_seed
from augment.transforms.rules import rule_of
from manifests.errors import RecipeError


def test_one_number_is_a_range_without_width() -> None:
    assert Gain.model_validate({"gain_db": 3}).gain_db == (3.0, 3.0)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("scale", {"gain_db": [3, -3]}, ["gain_db", "3", "-3", "smaller number first"]),
        ("reverb", {"rt60_s": [0.0, 1.0]}, ["rt60_s", "0 to 1", "0.05 to 10"]),
        ("gain", {"gain": [-1, 1]}, ["gain", "0 and more"]),
        ("gain", {"gain": 1, "gain_db": 0}, ["gain and gain_db are both given"]),
        ("swap", {"p": 1.5}, ["p", "1.5"]),
        ("swap", {"prob": 0.5}, ["prob"]),
        ("limiter", {"treshold_db": -1}, ["threshold_db"]),
        ("scale", {"gain_db": [0, math.inf]}, ["gain_db"]),
    ],
)
def test_wrong_settings_are_told_with_field_value_and_fix(
    name: str, settings: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        rule_of(name, settings)
    assert [word for word in [f"transform '{name}'", *words] if word not in str(caught.value)] == []


@given(st.floats(1e-3, 1e5), st.floats(1.0, 1e3), st.integers(0, 1000))
def test_log_uniform_draws_stay_in_their_range(low: float, ratio: float, seed: int) -> None:
    high = low * ratio
    assert low <= draw_log_uniform(np.random.default_rng(seed), (low, high)) <= high


def test_log_uniform_draws_have_their_median_at_the_geometric_mean() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_log_uniform(rng, (10.0, 1000.0)) for _ in range(4000)]
    assert np.mean(np.array(draws) < 100.0) == pytest.approx(0.5, abs=0.03)


def test_seeds_are_what_every_generator_takes() -> None:
    rng = np.random.default_rng(0)
    seeds = [draw_seed(rng) for _ in range(100)]
    assert all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    assert max(seeds) > 2**31


def test_a_rule_survives_being_written_and_read() -> None:
    rule = Reverb(rt60_s=(0.3, 0.4), p=0.25)
    assert Reverb.model_validate(rule.model_dump(mode="json", exclude_defaults=True)) == rule
