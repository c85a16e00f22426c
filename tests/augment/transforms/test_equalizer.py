from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from augment.transforms.equalizer import Equalizer, biquad
from augment.transforms.rule import Scene
from tests.synthesis import tone

RATE = 44100


def level_db(section: np.ndarray, frequency_hz: float) -> float:
    _, response = scipy.signal.freqz(section[:3], section[3:], worN=[frequency_hz], fs=RATE)
    return float(20 * np.log10(np.abs(response[0])))


@given(st.floats(40, 15000), st.floats(-20, 20), st.floats(0.3, 5))
def test_bands_have_the_gains_of_the_cookbook(center_hz: float, gain_db: float, quality: float) -> None:
    peak = biquad(RATE, "peak", center_hz, gain_db, quality)
    assert level_db(peak, center_hz) == pytest.approx(gain_db, abs=1e-6)
    assert level_db(peak, 0.0) == pytest.approx(0.0, abs=1e-4)
    assert level_db(peak, RATE / 2) == pytest.approx(0.0, abs=1e-4)
    low = biquad(RATE, "low_shelf", center_hz, gain_db, quality)
    high = biquad(RATE, "high_shelf", center_hz, gain_db, quality)
    for shelf, raised_hz, flat_hz in ((low, 0.0, RATE / 2), (high, RATE / 2, 0.0)):
        assert level_db(shelf, raised_hz) == pytest.approx(gain_db, abs=1e-3)
        assert level_db(shelf, flat_hz) == pytest.approx(0.0, abs=1e-3)
        # at its centre a shelf has half its gain, whatever its Q adds on both sides
        assert abs(level_db(shelf, center_hz) - gain_db / 2) < 1e-6
    for section in (peak, low, high):
        assert np.abs(np.roots(section[3:])).max() < 1


def test_the_quality_is_the_centre_over_the_width_between_half_the_gain() -> None:
    peak = biquad(RATE, "peak", 500.0, 12.0, 2.0)
    # for a narrow band far below half the sample rate, edges at 250 Hz / 2 to both sides, geometrically
    half_width = 500.0 / (2 * 2.0)
    upper = half_width + np.hypot(half_width, 500.0)
    assert level_db(peak, upper) == pytest.approx(6.0, abs=0.05)
    assert level_db(peak, 500.0**2 / upper) == pytest.approx(6.0, abs=0.05)


def test_a_tone_comes_out_at_the_level_that_scipy_says() -> None:
    bands = [
        {"kind": "peak", "center_hz": 1000.0, "gain_db": 6.0, "quality": 1.0},
        {"kind": "high_shelf", "center_hz": 2000.0, "gain_db": -9.0, "quality": 0.7},
    ]
    out = Equalizer.apply(tone(1500.0, 30000)[None], RATE, bands=bands)[0, 0, 10000:]
    expected = sum(level_db(biquad(RATE, **band), 1500.0) for band in bands)
    assert 20 * np.log10(np.sqrt(2 * np.mean(out**2)) / 0.5) == pytest.approx(expected, abs=0.01)


def test_draws_lie_in_their_ranges_and_below_half_the_sample_rate() -> None:
    rng = np.random.default_rng(0)
    rule = Equalizer(min_bands=2, max_bands=5, shelves=0.5)
    drawn = [rule.draw(rng, Scene(1, 16000, 1))["bands"] for _ in range(400)]
    assert {len(bands) for bands in drawn} == {2, 3, 4, 5}
    bands = [band for bands in drawn for band in bands]
    kinds = [band["kind"] for band in bands]
    assert kinds.count("peak") == pytest.approx(len(kinds) / 2, rel=0.1)
    assert kinds.count("low_shelf") == pytest.approx(len(kinds) / 4, rel=0.2)
    assert all(80 <= band["center_hz"] <= 7200 and abs(band["gain_db"]) <= 6 for band in bands)
    assert np.median([band["center_hz"] for band in bands]) == pytest.approx(np.sqrt(80 * 12000), rel=0.2)
