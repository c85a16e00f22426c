from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.loudness import Loudness, Peak
from augment.transforms.rule import Scene
from tests.synthesis import pink_noise

RATE = 48000


def noises(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([pink_noise(rng, 2, RATE, rms=rms) for rms in (0.02, 0.1, 0.3)])


@given(st.floats(-50, -5))
@settings(max_examples=8, deadline=None)
def test_the_sum_reaches_its_loudness(lufs: float) -> None:
    stack = noises()
    out = Loudness.apply(stack.copy(), RATE, lufs=lufs)
    measured = pyloudnorm.Meter(RATE).integrated_loudness(out.sum(axis=0).T.astype(np.float64))
    assert measured == pytest.approx(lufs, abs=0.1)
    gains = out / np.where(stack == 0, 1, stack)
    np.testing.assert_allclose(gains, gains[0, 0, 0], rtol=1e-4, err_msg="one gain for all")


def test_loudness_stops_at_the_largest_gain() -> None:
    stack = noises() * np.float32(0.01)
    out = Loudness.apply(stack.copy(), RATE, lufs=-14.0, max_gain_db=6.0)
    np.testing.assert_allclose(out, stack * 10 ** (6 / 20), rtol=1e-5)


def test_loudness_is_drawn_as_asked() -> None:
    rng, scene = np.random.default_rng(0), Scene(1, RATE, 2)
    uniform = [Loudness(loudness_lufs=(-30, -20)).draw(rng, scene)["lufs"] for _ in range(300)]
    normal = [Loudness(loudness_lufs={"normal": (-27, 4)}).draw(rng, scene)["lufs"] for _ in range(1000)]
    assert -30 <= min(uniform) < -29 < -21 < max(uniform) <= -20
    assert np.mean(normal) == pytest.approx(-27, abs=0.5)
    assert np.std(normal) == pytest.approx(4, abs=0.4)


def test_the_peak_of_the_sum_reaches_its_level() -> None:
    stack = noises()
    out = Peak.apply(stack.copy(), RATE, peak_db=-3.0)
    assert np.abs(out.sum(axis=0)).max() == pytest.approx(10 ** (-3 / 20), rel=1e-5)
    np.testing.assert_allclose(out[0] * np.abs(stack[1]).max(), stack[0] * np.abs(out[1]).max(), atol=1e-5)


def test_only_down_leaves_lower_peaks_alone() -> None:
    stack = noises() * np.float32(0.1)
    np.testing.assert_array_equal(Peak.apply(stack.copy(), RATE, peak_db=-1.0, only_down=True), stack)
    loud = stack * np.float32(100)
    assert np.abs(Peak.apply(loud, RATE, peak_db=-1.0, only_down=True).sum(axis=0)).max() < 0.9


def test_targets_that_cancel_are_silence() -> None:
    stack = noises()[:1]
    both = np.concatenate([stack, -stack])
    np.testing.assert_array_equal(Peak.apply(both.copy(), RATE, peak_db=-1.0), both)
    np.testing.assert_array_equal(Loudness.apply(both.copy(), RATE, lufs=-14.0), both)
