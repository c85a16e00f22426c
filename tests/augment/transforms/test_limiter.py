from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.limiter import Limiter, limiter_gain
from tests.synthesis import pink_noise, tone

RATE = 16000


def plainly(peaks: np.ndarray, threshold: float, release_frames: float, look_ahead: int) -> np.ndarray:
    """The limiter as a loop over frames."""
    needed = np.concatenate([np.zeros(look_ahead), 1 - np.minimum(1, threshold / np.maximum(peaks, 1e-30))])
    held = [needed[start : start + look_ahead + 1].max() for start in range(len(needed))]
    falling, state = [], 0.0
    for value in held:
        state = max(value, state * np.exp(-1 / release_frames))
        falling.append(state)
    window = np.hanning(look_ahead + 3)[1:-1]
    return 1 - np.convolve(falling, window / window.sum(), mode="valid")


@given(st.integers(0, 10**6), st.integers(1, 400), st.integers(0, 40), st.floats(1, 500), st.floats(0.01, 2))
@settings(max_examples=60, deadline=None)
def test_the_gain_curve_keeps_every_frame_below_the_threshold_and_is_the_plain_limiters(
    seed: int, num_frames: int, look_ahead: int, release_frames: float, threshold: float
) -> None:
    peaks = np.abs(np.random.default_rng(seed).standard_cauchy(num_frames)) * 0.1
    gain = limiter_gain(peaks, threshold, release_frames, look_ahead)
    assert gain.shape == peaks.shape
    assert (peaks * gain <= threshold).all()
    assert (gain > 0).all()
    assert (gain <= 1 + 1e-12).all()
    np.testing.assert_allclose(gain, plainly(peaks, threshold, release_frames, look_ahead), atol=2e-6)


@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(-30, 0))
@settings(max_examples=30, deadline=None)
def test_the_sum_never_passes_the_threshold(seed: int, targets: int, threshold_db: float) -> None:
    stack = np.random.default_rng(seed).normal(0, 0.5, (targets, 2, 3000)).astype(np.float32)
    out = Limiter.apply(stack.copy(), RATE, threshold_db=threshold_db, release_s=0.05, look_ahead_s=0.002)
    assert np.abs(out.sum(axis=0)).max() <= 10 ** (threshold_db / 20)


def test_all_targets_and_channels_share_the_gain() -> None:
    stack = pink_noise(np.random.default_rng(0), 6, 8000, rms=0.3).reshape(3, 2, 8000)
    out = Limiter.apply(stack.copy(), RATE, threshold_db=-6.0, release_s=0.05, look_ahead_s=0.005)
    gains = np.where(np.abs(stack) > 1e-3, out / stack, np.nan)
    spread = np.nanmax(gains, axis=(0, 1)) - np.nanmin(gains, axis=(0, 1))
    assert np.nanmax(spread) < 1e-4
    assert np.nanmin(gains) < 0.9


def test_what_is_below_the_threshold_is_untouched() -> None:
    stack = tone(440.0, 4000, RATE, amplitude=0.4)[None]
    out = Limiter.apply(stack.copy(), RATE, threshold_db=-6.0, release_s=0.1, look_ahead_s=0.005)
    np.testing.assert_array_equal(out, stack)


def test_the_gain_falls_before_a_peak_and_comes_back_after_the_release() -> None:
    peaks = np.full(4000, 0.1)
    peaks[1000] = 2.0
    gain = limiter_gain(peaks, 1.0, 200.0, 50)
    assert (gain[:950] == 1.0).all()
    assert gain[1000] == pytest.approx(0.5, abs=1e-5)
    assert gain[975] < 0.95
    # The reduction falls to 1/e in 200 frames.
    assert (1 - gain[1500]) / (1 - gain[1300]) == pytest.approx(np.exp(-1), rel=1e-3)
