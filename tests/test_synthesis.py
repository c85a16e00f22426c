"""The test signals are what they say, since every other test leans on them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from tests.synthesis import fractional_delay, pink_noise, resampled, song, tone


@pytest.mark.parametrize("delay", [0.0, 0.37, -2.5, 100.02, 7.0])
def test_fractional_delay_moves_a_tone_exactly(delay: float) -> None:
    frames = np.arange(2000, 20000)
    moved = fractional_delay(tone(1000.0, 22050, 22050), delay)[0, frames]
    assert moved == pytest.approx(0.5 * np.sin(2 * np.pi * 1000 / 22050 * (frames - delay)), abs=2e-5)


def test_whole_delay_is_a_shift_that_is_not_circular() -> None:
    noise = pink_noise(np.random.default_rng(0), 2, 5000)
    moved = fractional_delay(noise, 3.0)
    assert moved[:, 3:] == pytest.approx(noise[:, :-3], abs=1e-6)
    assert moved[:, :3] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("ppm", [-40.0, 0.0, 25.0, 3000.0])
def test_resampled_moves_frame_t_to_t_times_one_plus_drift(ppm: float) -> None:
    original = tone(997.0, 88200)
    slow = resampled(original, ppm)
    frames = np.arange(4000, 84000)
    expected = 0.5 * np.sin(2 * np.pi * 997 / 44100 * (frames / (1 + ppm * 1e-6)))
    assert slow[0, frames] == pytest.approx(expected, abs=2e-6)
    assert abs(slow.shape[-1] - 88200 * (1 + ppm * 1e-6)) <= 1


def test_pink_noise_falls_by_3_db_per_octave() -> None:
    noise = pink_noise(np.random.default_rng(0), 2, 1 << 16, rms=0.2)
    assert np.sqrt(np.mean(noise**2, axis=-1)) == pytest.approx(0.2, rel=1e-5)
    power = np.abs(scipy.fft.rfft(noise)) ** 2
    octaves = np.array([power[:, 2**k : 2 ** (k + 1)].mean() for k in range(8, 15)])
    slope = np.polyfit(np.arange(7), 10 * np.log10(octaves), 1)[0]
    assert slope == pytest.approx(-10 * np.log10(2), abs=0.15)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.1


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_song_is_linear_bounded_and_sings_now_and_then(sample_rate: int) -> None:
    instrumental, vocals = song(np.random.default_rng(1), 8.0, sample_rate)
    assert instrumental.shape == vocals.shape == (2, 8 * sample_rate)
    assert instrumental.dtype == vocals.dtype == np.float32
    assert max(np.abs(part).max() for part in (instrumental, vocals, instrumental + vocals)) <= 0.9001
    sung = np.abs(vocals).max(axis=0) > 1e-4
    assert 0.3 < sung.mean() < 0.95
    ratio_db = 10 * np.log10(np.mean(vocals[:, sung] ** 2) / np.mean(instrumental[:, sung] ** 2))
    assert ratio_db == pytest.approx(-3.0, abs=0.5)


def test_song_depends_on_its_generator() -> None:
    one, two, other = (song(np.random.default_rng(seed), 2.0, 22050)[0] for seed in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
