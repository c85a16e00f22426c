from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.rule import Scene
from augment.transforms.warping import Shift, Stretch
from tests.synthesis import pink_noise, tone

RATE = 44100


def frequency_hz(audio: np.ndarray) -> float:
    size = 1 << 19
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), size))
    return float(spectrum.argmax() * RATE / size)


@pytest.mark.parametrize("rule", [Stretch, Shift])
def test_a_factor_of_one_changes_nothing(rule: type[Stretch] | type[Shift]) -> None:
    audio = pink_noise(np.random.default_rng(0), 2, 20001)[None]
    np.testing.assert_allclose(rule.apply(audio.copy(), RATE, factor=1.0), audio, atol=1e-6)


@pytest.mark.parametrize("factor", [0.7, 0.93, 1.3])
def test_a_stretched_tone_keeps_its_pitch_and_level(factor: float) -> None:
    out = Stretch.apply(tone(1000.0, 44100)[None], RATE, factor=factor)[0, 0]
    assert len(out) == pytest.approx(44100 * factor, abs=1)
    inner = out[4000:-4000]
    assert frequency_hz(inner) == pytest.approx(1000.0, abs=0.2)
    assert np.sqrt(2 * np.mean(inner**2)) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("factor", [0.7, 0.93, 1.3])
def test_a_shifted_tone_is_at_the_factor_times_its_frequency(factor: float) -> None:
    out = Shift.apply(tone(1000.0, 44100)[None], RATE, factor=factor)[0, 0]
    assert out.shape == (44100,)
    assert frequency_hz(out[4000:-4000]) == pytest.approx(1000.0 * factor, rel=2e-4)


def test_what_is_shifted_past_half_the_sample_rate_is_lost() -> None:
    out = Shift.apply(tone(19000.0, 30000)[None], RATE, factor=1.3)
    assert np.abs(out[..., 4000:-4000]).max() < 1e-3


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_stretching_moves_events_away_from_the_middle_or_towards_it(factor: float) -> None:
    audio = np.zeros((1, 1, 88200), np.float32)
    offsets = (-30000, -10000, 15000)
    for offset in offsets:
        audio[0, 0, 44100 + offset - 3000 : 44100 + offset + 3000] = tone(1000.0, 6000, channels=1)
    out = Stretch.apply(audio, RATE, factor=factor)[0, 0]
    middle = len(out) // 2
    for offset in offsets:
        place, reach = middle + round(offset * factor), round(3000 * factor) + 2000
        energy = out[place - reach : place + reach] ** 2
        assert np.sum(np.arange(2 * reach) * energy) / np.sum(energy) == pytest.approx(reach, abs=100)
        assert np.sum(energy) == pytest.approx(0.125 * 6000 * factor, rel=0.1)


def test_a_note_that_begins_later_sounds_as_one_that_was_there_from_the_start() -> None:
    # Partials are spread over several bins, which must not cancel each other after a silence.
    late = tone(1003.0, 60000)[None]
    late[..., :20000] = 0.0
    for rule, factor in ((Stretch, 0.9), (Stretch, 1.2), (Shift, 1.2)):
        whole = rule.apply(tone(1003.0, 60000)[None], RATE, factor=factor)[..., -20000:-4000]
        part = rule.apply(late.copy(), RATE, factor=factor)[..., -20000:-4000]
        assert np.mean(part**2) == pytest.approx(np.mean(whole**2), rel=0.02)


def test_a_gliding_tone_stays_whole() -> None:
    seconds = np.arange(88200) / RATE
    glide = np.sin(2 * np.pi * (500 * seconds + 250 * seconds**2)).astype(np.float32)
    for rule in (Stretch, Shift):
        out = rule.apply(glide[None, None].copy(), RATE, factor=1.1)[0, 0, 8000:-8000]
        assert np.sqrt(2 * np.mean(out**2)) == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize("rule", [Stretch, Shift])
def test_the_stereo_image_stays(rule: type[Stretch] | type[Shift]) -> None:
    mono = pink_noise(np.random.default_rng(0), 1, 20000)
    out = rule.apply(np.concatenate([mono, -0.5 * mono])[None], RATE, factor=1.17)[0]
    np.testing.assert_allclose(out[1], -0.5 * out[0], atol=1e-5)


@given(st.integers(1, 300000), st.floats(0.25, 4))
@settings(max_examples=200)
def test_the_input_is_as_long_as_it_must_be_and_no_longer(num_frames: int, factor: float) -> None:
    needed = Stretch.input_frames(num_frames, factor=factor)
    returned = int(np.floor(needed * factor + 1e-9))
    assert num_frames <= max(1, returned) <= num_frames + factor
    assert needed == 1 or (needed - 1) * factor < num_frames


def test_factors_are_uniform_in_the_range_of_the_study() -> None:
    rng, scene = np.random.default_rng(0), Scene(1, RATE, 1)
    for rule in (Stretch(), Shift()):
        factors = [rule.draw(rng, scene)["factor"] for _ in range(1000)]
        assert 0.7 <= min(factors) < 0.71
        assert 1.29 < max(factors) <= 1.3
        assert np.mean(factors) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rule", [Stretch, Shift])
@pytest.mark.parametrize("level", [1e-45, 1e-42, 1e-38, 1e-30])
def test_a_filters_tail_that_dies_away_stays_finite(rule: type[Stretch] | type[Shift], level: float) -> None:
    audio = pink_noise(np.random.default_rng(0), 1, 8000)
    audio[:, 2000:] *= np.float32(level)
    with np.errstate(all="raise", under="ignore"):
        out = rule.apply(audio[None], RATE, factor=1.1)
    assert np.isfinite(out).all()
    assert np.abs(out[..., 6000:]).max() <= 10 * level
