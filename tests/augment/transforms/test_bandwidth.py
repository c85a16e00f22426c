from __future__ import annotations

import numpy as np
import pytest

from augment.transforms.bandwidth import Bandwidth
from augment.transforms.rule import Scene
from tests.synthesis import pink_noise

RATE = 44100


def response(**parameters: float) -> tuple[np.ndarray, np.ndarray]:
    stack = np.zeros((1, 1, 1 << 15), np.float32)
    stack[0, 0, 1 << 14] = 1.0
    out = Bandwidth.apply(stack, RATE, **parameters)[0, 0]
    return np.fft.rfftfreq(1 << 15, 1 / RATE), np.fft.rfft(np.roll(out, -(1 << 14)))


@pytest.mark.parametrize("cutoff_hz", [1000.0, 4000.0, 16000.0])
def test_nothing_is_left_above_the_cutoff_and_nothing_happens_below_it(cutoff_hz: float) -> None:
    frequencies_hz, found = response(cutoff_hz=cutoff_hz)
    assert np.abs(found[frequencies_hz > cutoff_hz]).max() < 1.5e-4
    below = found[frequencies_hz < 0.9 * cutoff_hz]
    np.testing.assert_allclose(below, 1.0, atol=3e-4, err_msg="no gain, no phase, no delay")


def test_a_telephone_has_no_bass() -> None:
    frequencies_hz, found = response(cutoff_hz=3400.0, high_pass_hz=300.0)
    assert np.abs(found[frequencies_hz < 150]).max() < 2e-4
    inner = (frequencies_hz > 300) & (frequencies_hz < 3000)
    np.testing.assert_allclose(found[inner], 1.0, atol=3e-4)


def test_a_cutoff_above_half_the_sample_rate_changes_nothing() -> None:
    audio = pink_noise(np.random.default_rng(0), 2, 1000)[None]
    np.testing.assert_array_equal(Bandwidth.apply(audio.copy(), 16000, cutoff_hz=8000.0), audio)


def test_a_high_pass_is_drawn_only_where_it_is_asked_for() -> None:
    rng, scene = np.random.default_rng(0), Scene(1, RATE, 1)
    assert set(Bandwidth().draw(rng, scene)) == {"cutoff_hz"}
    drawn = Bandwidth(cutoff_hz=3400.0, high_pass_hz=(200.0, 400.0)).draw(rng, scene)
    assert drawn["cutoff_hz"] == 3400.0
    assert 200 <= drawn["high_pass_hz"] <= 400
