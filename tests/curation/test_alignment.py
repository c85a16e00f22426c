from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.alignment import NO_ALIGNMENT, align, delayed, matched_gain, on_mixture_clock, presence, render
from curation.evidence import exchanged
from tests.synthesis import fractional_delay, pink_noise, resampled, song

RATE = 22_050


@pytest.fixture(scope="module")
def tune() -> tuple[np.ndarray, np.ndarray]:
    """Instrumental and vocals of 40 s, equally loud."""
    instrumental, vocals = song(np.random.default_rng(11), 40.0, RATE)
    return instrumental, vocals * np.float32(np.sqrt(np.mean(instrumental**2) / np.mean(vocals**2)))


def _padded(audio: np.ndarray, before: int, after: int = 0) -> np.ndarray:
    return np.pad(audio, ((0, 0), (before, after)))


@pytest.mark.parametrize(("lead", "fraction", "sign"), [(5000, 0.37, 1), (0, 0.5, -1), (12_345, 0.0, -1)])
def test_a_fractional_lag_is_found_under_vocals(
    tune: tuple[np.ndarray, np.ndarray], lead: int, fraction: float, sign: int
) -> None:
    instrumental, vocals = tune
    release = fractional_delay(_padded(instrumental, lead, 4000), fraction) * np.float32(0.4 * sign)
    found = align(instrumental + vocals, release, RATE)
    assert found.lag_frames == pytest.approx(lead + fraction, abs=0.01)
    assert found.drift_ppm == pytest.approx(0, abs=0.05)
    assert found.polarity == sign


def test_a_negative_lag_is_found(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    found = align(_padded(instrumental + vocals, 7000), instrumental, RATE)
    assert found.lag_frames == pytest.approx(-7000, abs=0.01)
    assert found.longest.start_frame == pytest.approx(7000, abs=2)


@pytest.mark.parametrize("ppm", [-35.0, 3.0, 250.0])
def test_drift_is_found_under_vocals(tune: tuple[np.ndarray, np.ndarray], ppm: float) -> None:
    instrumental, vocals = tune
    found = align(instrumental + vocals, resampled(instrumental, ppm), RATE)
    assert found.drift_ppm == pytest.approx(ppm, abs=0.05)
    assert found.lag_frames == pytest.approx(0, abs=0.05)


def test_releases_at_different_rates_align(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    other = on_mixture_clock(_padded(instrumental, 3000), RATE, 24_000, 0.0)
    found = align(instrumental + vocals, other, RATE, 24_000)
    assert found.lag_frames == pytest.approx(3000, abs=0.01)
    (rendered,) = render(other, 24_000, RATE, found)
    segment = found.longest
    expected = instrumental[:, segment.start_frame : segment.end_frame]
    # the resamplers' transition band is left out
    spectra = [np.fft.rfft(audio[:, 2000:-2000], axis=1) for audio in (rendered - expected, expected)]
    error, signal = (np.square(np.abs(s[:, : int(0.8 * s.shape[1])])).sum() for s in spectra)
    assert 10 * np.log10(error / signal) < -70


def test_a_cut_bar_gives_two_segments_that_meet_at_the_cut(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    mixture = instrumental + vocals
    edited = np.concatenate([mixture[:, : 15 * RATE], mixture[:, 19 * RATE + 777 :]], axis=1)
    found = align(edited, instrumental, RATE)
    assert [round(s.lag_frames) for s in found.segments] == [0, 4 * RATE + 777]
    assert found.segments[0].end_frame == pytest.approx(15 * RATE, abs=0.02 * RATE)
    assert found.segments[0].end_frame == found.segments[1].start_frame


def test_a_different_ending_is_left_out(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    other = pink_noise(np.random.default_rng(99), 2, 14 * RATE)
    mixture = np.concatenate([(instrumental + vocals)[:, : 26 * RATE], other], axis=1)
    found = align(mixture, instrumental, RATE)
    assert len(found.segments) == 1
    assert found.longest.end_frame == pytest.approx(26 * RATE, abs=2.5 * RATE)


def test_unrelated_music_does_not_align(tune: tuple[np.ndarray, np.ndarray]) -> None:
    noise = pink_noise(np.random.default_rng(1), 2, 30 * RATE)
    found = align(tune[0] + tune[1], noise, RATE)
    assert found.num_frames < 0.3 * tune[0].shape[1]


@pytest.mark.parametrize("frames", [0, 10, 3000])
def test_too_little_audio_does_not_align(frames: int) -> None:
    audio = np.zeros((2, frames), np.float32)
    assert align(audio, audio, RATE) == NO_ALIGNMENT


def test_silence_and_a_constant_do_not_align() -> None:
    silence = np.zeros((1, 20 * RATE), np.float32)
    assert align(silence, silence, RATE) == NO_ALIGNMENT
    assert align(pink_noise(np.random.default_rng(0), 1, 20 * RATE), silence, RATE) == NO_ALIGNMENT


def test_a_one_dimensional_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="instrumental has shape"):
        align(np.zeros((1, 100), np.float32), np.zeros(100, np.float32), RATE)


def test_exchanging_the_roles_agrees_with_aligning_the_other_way(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    release = resampled(_padded(instrumental, 4000), 40.0)
    forward = align(instrumental + vocals, release, RATE)
    backward = align(release, instrumental + vocals, RATE)
    turned = exchanged(forward, RATE, RATE)
    assert turned.lag_frames == pytest.approx(backward.lag_frames, abs=0.02)
    assert turned.drift_ppm == pytest.approx(backward.drift_ppm, abs=0.05)
    again = exchanged(turned, RATE, RATE)
    assert again.lag_frames == pytest.approx(forward.lag_frames, abs=1e-6)
    assert again.drift_ppm == pytest.approx(forward.drift_ppm, abs=1e-9)


@given(start=st.floats(-300, 5000, allow_nan=False), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_delayed_equals_a_phase_shift(start: float, seed: int) -> None:
    frames = 6000
    spectrum = scipy.fft.rfft(pink_noise(np.random.default_rng(seed), 1, frames)[0])
    frequency = np.fft.rfftfreq(frames)
    spectrum[frequency > 0.42] = 0
    audio = scipy.fft.irfft(spectrum, frames).astype(np.float32)[None]
    periodic = np.tile(audio, 3)
    found = delayed(periodic, frames + start, 2000)[0]
    expected = scipy.fft.irfft(spectrum * np.exp(2j * np.pi * frequency * start), frames)[:2000]
    assert np.abs(found - expected).max() < 10 ** (-80 / 20) * np.abs(audio).max()


@given(start=st.integers(-500, 1500), count=st.integers(1, 900))
def test_delayed_by_whole_frames_is_a_slice_with_zeros_outside(start: int, count: int) -> None:
    audio = pink_noise(np.random.default_rng(0), 2, 1000)
    padded = np.pad(audio, ((0, 0), (1000, 3000)))
    assert np.array_equal(delayed(audio, float(start), count), padded[:, start + 1000 : start + 1000 + count])


@given(gain_db=st.floats(-12, 12), sign=st.sampled_from([-1, 1]))
@settings(max_examples=10, deadline=None)
def test_the_matched_gain_is_signed_and_exact_without_vocals(gain_db: float, sign: int) -> None:
    audio = pink_noise(np.random.default_rng(3), 1, 4 * RATE)[0]
    gain = sign * 10 ** (gain_db / 20)
    assert float(matched_gain(np.float32(gain) * audio, audio)) == pytest.approx(gain, rel=1e-3)


def test_presence_is_one_inside_and_zero_outside_whoever_sings(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = (stem.mean(axis=0) for stem in tune)
    other = song(np.random.default_rng(5), 40.0, RATE)[0].mean(axis=0)[: len(instrumental)]
    inside = presence(instrumental + vocals, instrumental, RATE)
    turned = presence(instrumental, instrumental + vocals, RATE)
    outside = presence(other + vocals, instrumental, RATE)
    assert np.nanmedian(inside) == pytest.approx(1, abs=0.1)
    assert np.nanmin(turned) > 0.25
    assert np.nanmedian(np.abs(outside)) < 0.2


def test_segments_are_disjoint_and_in_order(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    mixture = instrumental + vocals
    edited = np.concatenate(
        [mixture[:, : 10 * RATE], mixture[:, 13 * RATE : 22 * RATE], mixture[:, 27 * RATE :]], axis=1
    )
    found = align(edited, instrumental, RATE)
    assert len(found.segments) == 3
    for before, after in pairwise(found.segments):
        assert before.end_frame <= after.start_frame
        assert before.lag_frames < after.lag_frames
