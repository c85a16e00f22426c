from __future__ import annotations

import numpy as np
import pytest

from augment.transforms.filtering import Filter, band_stop_taps
from augment.transforms.rule import Scene
from tests.synthesis import tone

RATE = 44100


@pytest.mark.parametrize(("center_hz", "width_hz"), [(0.0, 500.0), (1000.0, 700.0), (4410.0, 1000.0)])
def test_an_impulse_shows_the_response_of_the_study_without_delay(center_hz: float, width_hz: float) -> None:
    stack = np.zeros((1, 1, 8192), np.float32)
    stack[0, 0, 4096] = 1.0
    out = Filter.apply(stack, RATE, center_hz=center_hz, width_hz=width_hz)[0, 0]
    frequencies_hz = np.fft.rfftfreq(8192, 1 / RATE)
    expected = 1 - np.exp(-((frequencies_hz - center_hz) ** 2) / (2 * width_hz**2))
    spectrum = np.fft.rfft(np.roll(out, -4096))
    np.testing.assert_allclose(spectrum[::4].real, expected[::4], atol=1e-5)
    # the bell has a corner at 0 Hz, where the taps end too early
    np.testing.assert_allclose(spectrum.real, expected, atol=4e-3)
    np.testing.assert_allclose(spectrum.imag, 0.0, atol=1e-5)


def test_a_tone_in_the_middle_of_the_bell_is_gone_and_one_far_from_it_is_untouched() -> None:
    # 2067.1875 Hz is a bin of 2048 frames
    stack = np.stack([tone(2067.1875, 20000), tone(12000.0, 20000)])
    out = Filter.apply(stack.copy(), RATE, center_hz=2067.1875, width_hz=500.0)
    assert np.abs(out[0, :, 2000:-2000]).max() < 1e-4
    np.testing.assert_allclose(out[1, :, 2000:-2000], stack[1, :, 2000:-2000], atol=1e-4)


def test_taps_are_symmetric() -> None:
    taps = band_stop_taps(RATE, 1234.0, 600.0)
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-12)


def test_draws_lie_in_the_ranges_of_the_study() -> None:
    rng = np.random.default_rng(0)
    drawn = [Filter().draw(rng, Scene(1, RATE, 1)) for _ in range(500)]
    centers, widths = (np.array([step[name] for step in drawn]) for name in ("center_hz", "width_hz"))
    assert 0 <= centers.min() < 100
    assert 4300 < centers.max() <= 4410
    assert 500 <= widths.min() < 510
    assert 990 < widths.max() <= 1000
