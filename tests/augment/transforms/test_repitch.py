from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.repitch import Repitch, Tempo
from augment.transforms.rule import Scene
from tests.synthesis import tone

RATE = 44100
SCENE = Scene(1000, RATE, 2)


def frequency_hz(audio: np.ndarray) -> float:
    inner = audio[8000:-8000]
    size = 1 << 19
    return float(np.abs(np.fft.rfft(inner * np.hanning(len(inner)), size)).argmax() * RATE / size)


@pytest.mark.parametrize(("semitones", "rate"), [(2.0, 1.0), (-2.0, 1.05), (0.5, 0.95)])
def test_a_tone_moves_by_its_semitones(semitones: float, rate: float) -> None:
    out = Repitch.apply(tone(1000.0, 60000)[None], RATE, semitones=semitones, rate=rate)
    assert frequency_hz(out[0, 0]) == pytest.approx(1000.0 * 2 ** (semitones / 12), rel=2e-3)


def test_tempo_keeps_the_pitch_and_moves_events() -> None:
    audio = tone(1000.0, 60000)[None]
    out = Tempo.apply(audio.copy(), RATE, rate=1.1)
    assert frequency_hz(out[0, 0]) == pytest.approx(1000.0, rel=1e-3)
    clicks = np.zeros((1, 1, 60000), np.float32)
    clicks[0, 0, [20000, 42000]] = 1.0
    moved = np.abs(Tempo.apply(clicks, RATE, rate=1.1)[0, 0])
    for place in (20000 / 1.1, 42000 / 1.1):
        near = moved[round(place) - 3000 : round(place) + 3000]
        assert np.sum(np.arange(6000) * near**2) / np.sum(near**2) == pytest.approx(3000, abs=100)


def test_nothing_to_do_changes_nothing() -> None:
    audio = tone(500.0, 3000)[None]
    np.testing.assert_array_equal(Repitch.apply(audio.copy(), RATE, semitones=0.0, rate=1.0), audio)
    assert Repitch.input_frames(3000, semitones=0.0, rate=1.0) == 3000


@given(st.integers(1, 20000), st.floats(0.88, 1.12))
@settings(max_examples=15, deadline=None)
def test_the_frames_asked_for_are_there(num_frames: int, rate: float) -> None:
    needed = Tempo.input_frames(num_frames, rate=rate)
    assert needed <= num_frames * rate + 2
    out = Tempo.apply(np.zeros((1, 1, needed), np.float32), RATE, rate=rate)
    assert num_frames <= out.shape[-1] <= num_frames + 3


def test_draws_are_those_of_demucs() -> None:
    rng = np.random.default_rng(0)
    drawn = [Repitch(whole_semitones=True).draw(rng, SCENE) for _ in range(2000)]
    semitones, counts = np.unique([step["semitones"] for step in drawn], return_counts=True)
    assert semitones.tolist() == [-2, -1, 0, 1, 2]
    assert counts.min() > 330
    rates = np.array([step["rate"] for step in drawn])
    assert np.std(rates) == pytest.approx(0.05, rel=0.07)
    assert rates.min() >= 0.88
    assert rates.max() <= 1.12


def test_semitones_are_uniform_otherwise() -> None:
    rng = np.random.default_rng(0)
    semitones = [Repitch().draw(rng, SCENE)["semitones"] for _ in range(500)]
    assert len(set(semitones)) == 500
    assert -2 <= min(semitones) < -1.9 < 1.9 < max(semitones) <= 2
