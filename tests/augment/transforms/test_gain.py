from __future__ import annotations

import math

import numpy as np
import pytest

from augment.transforms.gain import Gain, Remix, Scale
from augment.transforms.rule import Scene

SCENE = Scene(4, 8000, 1, ("a", "b", "c"))


def draws(rule: Gain | Scale, count: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([rule.draw(rng, SCENE)["gain"] for _ in range(count)])


def test_gain_is_uniform_as_a_factor_by_default_as_in_open_unmix() -> None:
    found = draws(Gain())
    assert found.min() >= 0.25
    assert found.max() <= 1.25
    assert found.mean() == pytest.approx(0.75, abs=0.02)


def test_gain_in_db_and_scale_are_uniform_in_db() -> None:
    for rule, widest in ((Gain(gain_db=(-6.0, 6.0)), 6.0), (Scale(), 10.0)):
        levels = 20 * np.log10(draws(rule))
        assert np.abs(levels).max() <= widest + 1e-9
        assert np.mean(levels < widest / 2) == pytest.approx(0.75, abs=0.03)


def test_gains_multiply() -> None:
    stack = np.ones((3, 1, 4), np.float32)
    np.testing.assert_array_equal(Gain.apply(stack.copy(), 8000, gain=0.5), 0.5 * stack)
    np.testing.assert_array_equal(Scale.apply(stack.copy(), 8000, gain=2.0), 2 * stack)
    np.testing.assert_array_equal(
        Remix.apply(stack.copy(), 8000, gains=[0.5, 1.0, 2.0])[:, 0, 0], np.float32([0.5, 1, 2])
    )


def test_remix_draws_a_gain_for_each_target_within_nine_db() -> None:
    gains = Remix().draw(np.random.default_rng(0), SCENE)["gains"]
    assert len(set(gains)) == 3
    assert max(abs(20 * math.log10(gain)) for gain in gains) <= 9
    assert len(Remix().draw(np.random.default_rng(0), Scene(4, 8000, 1))["gains"]) == 1


def test_remix_refuses_another_number_of_targets() -> None:
    with pytest.raises(ValueError, match="2 gains for 3 targets"):
        Remix.apply(np.ones((3, 1, 4), np.float32), 8000, gains=[1.0, 1.0])
