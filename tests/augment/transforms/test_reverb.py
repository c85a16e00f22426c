from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.reverb import Reverb, synthetic_response
from augment.transforms.rule import Scene
from manifests.errors import RecipeError
from tests.synthesis import pink_noise

RATE = 44100
ROOM = {"rt60_s": 0.5, "wet_db": -10.0, "pre_delay_s": 0.02, "damping_hz": 6000.0, "seed": 3}


def rt60_s(response: np.ndarray, sample_rate: int) -> float:
    """By Schroeder's backward integration, from -5 to -35 dB (ISO 3382)."""
    decay = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))
    inside = np.flatnonzero((decay <= -5) & (decay >= -35))
    slope, _ = np.polyfit(inside / sample_rate, decay[inside], 1)
    return float(-60 / slope)


@pytest.mark.parametrize("wanted_s", [0.2, 0.6, 1.5])
def test_the_room_decays_by_sixty_db_in_its_time(wanted_s: float) -> None:
    response = synthetic_response(RATE, 2, **{**ROOM, "rt60_s": wanted_s})
    for channel in response:
        assert rt60_s(channel[1:], RATE) == pytest.approx(wanted_s, rel=0.1)


@given(st.floats(-40, 10), st.floats(0, 0.1), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_energy_over_the_direct_sounds_is_the_drawn_one_after_the_pre_delay(
    wet_db: float, pre_delay_s: float, seed: int
) -> None:
    response = synthetic_response(
        8000, 2, **{**ROOM, "wet_db": wet_db, "pre_delay_s": pre_delay_s, "rt60_s": 0.2, "seed": seed}
    )
    np.testing.assert_array_equal(response[:, 0], 1.0)
    np.testing.assert_allclose(10 * np.log10(np.sum(response[:, 1:] ** 2, axis=1)), wet_db, atol=1e-6)
    assert not response[:, 1 : round(pre_delay_s * 8000)].any()


def test_the_late_field_is_another_one_on_each_side() -> None:
    left, right = synthetic_response(RATE, 2, **ROOM)[:, 1:]
    assert abs(np.sum(left * right)) / np.sqrt(np.sum(left**2) * np.sum(right**2)) < 0.15


def test_damping_takes_the_highs_of_the_reverberation() -> None:
    def share(damping_hz: float) -> float:
        spectrum = (
            np.abs(np.fft.rfft(synthetic_response(RATE, 1, **{**ROOM, "damping_hz": damping_hz})[0, 1:])) ** 2
        )
        return float(spectrum[len(spectrum) // 2 :].sum() / spectrum.sum())

    assert share(1000.0) < 0.05 < 0.25 < share(15000.0)


def test_an_impulse_comes_out_as_the_response_and_what_rings_on_is_cut() -> None:
    stack = np.zeros((1, 2, 6000), np.float32)
    stack[0, :, 100] = 1.0
    out = Reverb.apply(stack, RATE, **ROOM)[0]
    np.testing.assert_allclose(out[:, 100:], synthetic_response(RATE, 2, **ROOM)[:, :5900], atol=1e-6)
    np.testing.assert_allclose(out[:, :100], 0.0, atol=1e-6)


def test_a_measured_response_is_aligned_at_its_peak_and_of_unit_energy(tmp_path: Path) -> None:
    response = np.zeros(3000, np.float32)
    response[[500, 1500]] = 0.8, 0.3
    soundfile.write(tmp_path / "hall.wav", response, RATE, subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("no audio")
    drawn = Reverb(folder=tmp_path).draw(np.random.default_rng(0), Scene(4000, RATE, 2))
    assert drawn == {"path": (tmp_path / "hall.wav").as_posix()}
    audio = pink_noise(np.random.default_rng(0), 2, 4000)[None]
    out = Reverb.apply(audio.copy(), RATE, **drawn)
    direct, echo = np.array([0.8, 0.3]) / np.hypot(0.8, 0.3)
    expected = direct * audio
    expected[..., 1000:] += echo * audio[..., :-1000]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_measured_response_is_resampled(tmp_path: Path) -> None:
    time = np.arange(22050) / 22050
    noise = np.random.default_rng(0).standard_normal(22050) * 10 ** (-3 * time / 0.4)
    soundfile.write(tmp_path / "hall.wav", 0.1 * noise, 22050, subtype="FLOAT")
    stack = np.zeros((1, 1, 40000), np.float32)
    stack[0, 0, 0] = 1.0
    out = Reverb.apply(stack, RATE, path=(tmp_path / "hall.wav").as_posix())
    assert rt60_s(out[0, 0], RATE) == pytest.approx(0.4, rel=0.1)


def test_a_folder_without_audio_and_a_silent_response_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no audio file"):
        Reverb(folder=tmp_path).draw(np.random.default_rng(0), Scene(1, RATE, 1))
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), RATE)
    with pytest.raises(RecipeError, match="silent"):
        Reverb.apply(np.ones((1, 1, 10), np.float32), RATE, path=(tmp_path / "silent.wav").as_posix())
