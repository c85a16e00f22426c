from __future__ import annotations

import numpy as np
import pytest

from augment.transforms.fade import Fade
from augment.transforms.rule import Scene


def test_fades_are_raised_cosines() -> None:
    out = Fade.apply(np.ones((1, 2, 100), np.float32), 8000, in_frames=40, out_frames=20)[0, 0]
    frames = np.arange(40) + 0.5
    np.testing.assert_allclose(out[:40], np.sin(np.pi * frames / 80) ** 2, atol=1e-6)
    np.testing.assert_array_equal(out[40:80], 1.0)
    np.testing.assert_allclose(out[80:], np.cos(np.pi * (np.arange(20) + 0.5) / 40) ** 2, atol=1e-6)


def test_a_fade_out_and_a_fade_in_sum_to_one() -> None:
    ones = np.ones((1, 1, 64), np.float32)
    both = Fade.apply(ones.copy(), 8000, in_frames=64, out_frames=0) + Fade.apply(
        ones.copy(), 8000, in_frames=0, out_frames=64
    )
    np.testing.assert_allclose(both, 1.0, atol=1e-6)


def test_fades_are_drawn_in_frames_and_shortened_to_the_audio() -> None:
    drawn = Fade(in_s=0.5, out_s=0.25).draw(np.random.default_rng(0), Scene(10, 8000, 1))
    assert drawn == {"in_frames": 4000, "out_frames": 2000}
    out = Fade.apply(np.ones((1, 1, 10), np.float32), 8000, **drawn)
    assert out[0, 0, 0] < 0.01
    assert out[0, 0, -1] < 0.01
    assert out[0, 0].max() == pytest.approx(0.25, abs=0.05)
