import doctest
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

import curation.alignment
from curation.alignment import (
    NO_ALIGNMENT,
    Alignment,
    Segment,
    align,
    delayed,
    matched_gain,
    on_mixture_clock,
    presence,
    render,
)
from curation.evidence import exchanged
from tests.synthesis import fractional_delay, pink_noise, resampled, song, tone

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


@pytest.mark.parametrize("ppm", [60.0, -200.0, 500.0, -1000.0, 2000.0])
def test_a_large_drift_does_not_break_the_alignment(tune: tuple[np.ndarray, np.ndarray], ppm: float) -> None:
    instrumental, vocals = (stem[:, : 30 * RATE] for stem in tune)
    release = resampled(_padded(instrumental, 5000), ppm)
    found = align(instrumental + vocals, -release, RATE)
    assert len(found.segments) == 1
    assert found.num_frames > 29.9 * RATE
    assert found.drift_ppm == pytest.approx(ppm, abs=0.05)
    assert found.lag_frames == pytest.approx(5000 * (1 + ppm * 1e-6), abs=0.01)
    assert found.polarity == -1


def test_a_drift_of_a_long_song_is_found_though_it_smears_the_whole_songs_correlation() -> None:
    instrumental, vocals = song(np.random.default_rng(4), 120.0, 11_025)
    found = align(instrumental + vocals, resampled(instrumental, 1000.0), 11_025)
    assert found.drift_ppm == pytest.approx(1000, abs=0.05)
    assert len(found.segments) == 1


@pytest.mark.parametrize(("mixture_rate", "other_rate"), [(8000, 22_050), (96_000, 44_100), (22_050, 8000)])
def test_any_two_rates_align(tune: tuple[np.ndarray, np.ndarray], mixture_rate: int, other_rate: int) -> None:
    instrumental, vocals = (stem[:1, 5 * RATE : 22 * RATE] for stem in tune)
    mixture = on_mixture_clock(instrumental + vocals, RATE, mixture_rate, 0.0)
    found = align(
        mixture, on_mixture_clock(_padded(instrumental, 441), RATE, other_rate, 0.0), mixture_rate, other_rate
    )
    # 4 kHz of bandwidth allow less than 11
    assert found.lag_frames == pytest.approx(0.02 * mixture_rate, abs=0.03 if other_rate == 8000 else 0.01)
    assert found.num_frames > 16.9 * mixture_rate


def test_an_excerpt_aligns_inside_the_whole_and_the_whole_around_an_excerpt(
    tune: tuple[np.ndarray, np.ndarray],
) -> None:
    instrumental, vocals = tune
    short = (instrumental + vocals)[:, 21 * RATE : 31 * RATE]
    found = align(short, instrumental, RATE)
    assert found.lag_frames == pytest.approx(21 * RATE, abs=0.01)
    assert (found.longest.start_frame, found.longest.end_frame) == pytest.approx((0, 10 * RATE), abs=2)
    found = align(instrumental + vocals, instrumental[:, 21 * RATE : 31 * RATE], RATE)
    assert found.lag_frames == pytest.approx(-21 * RATE, abs=0.01)
    assert (found.longest.start_frame, found.longest.end_frame) == pytest.approx((21 * RATE, 31 * RATE), abs=2)


def test_a_short_common_stretch_counts_from_the_length_asked_for(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    short = (instrumental + vocals)[:, 12 * RATE : 17 * RATE]
    assert align(short, instrumental, RATE).segments == ()
    found = align(short, instrumental, RATE, min_segment_s=4.0)
    assert found.lag_frames == pytest.approx(12 * RATE, abs=0.01)


@pytest.mark.parametrize("factor", [1e-4, 30.0])
def test_the_level_does_not_matter(tune: tuple[np.ndarray, np.ndarray], factor: float) -> None:
    instrumental, vocals = (stem[:, : 15 * RATE] for stem in tune)
    found = align(np.float32(factor) * (instrumental + vocals), _padded(instrumental, 321), RATE)
    assert found.lag_frames == pytest.approx(321, abs=0.01)
    assert found.num_frames > 14.9 * RATE


def test_one_channel_aligns_with_two(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = (stem[:, : 15 * RATE] for stem in tune)
    mono = (instrumental + vocals).mean(axis=0, keepdims=True)
    assert align(mono, _padded(instrumental, 77), RATE).lag_frames == pytest.approx(77, abs=0.01)
    assert align(instrumental + vocals, instrumental[1:], RATE).lag_frames == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("muted", ["both", "instrumental"])
def test_silence_in_the_middle_does_not_part_a_song(tune: tuple[np.ndarray, np.ndarray], muted: str) -> None:
    instrumental, vocals = tune
    mixture, release = instrumental + vocals, instrumental.copy()
    release[:, 15 * RATE : 19 * RATE] = 0
    if muted == "both":
        mixture[:, 15 * RATE : 19 * RATE] = 0
    found = align(mixture, release, RATE)
    assert len(found.segments) == 1
    assert found.num_frames > 39.9 * RATE
    assert found.lag_frames == pytest.approx(0, abs=0.01)


def test_music_that_the_instrumental_lacks_is_left_out_to_the_frame(tune: tuple[np.ndarray, np.ndarray]) -> None:
    """The mixture has a bar of 3 s more, or another intro, or another ending: borders within 15 ms."""
    instrumental, vocals = tune
    mixture = instrumental + vocals
    start, end = 14 * RATE + 123, 17 * RATE + 456
    found = align(mixture, np.concatenate([instrumental[:, :start], instrumental[:, end:]], axis=1), RATE)
    borders = [border for s in found.segments for border in (s.start_frame, s.end_frame)]
    assert borders == pytest.approx([0, start, end, mixture.shape[1]], abs=0.015 * RATE)
    assert [s.lag_frames for s in found.segments] == pytest.approx([0, start - end], abs=0.01)
    other, other_vocals = song(np.random.default_rng(7), 40.0, RATE)
    other += other_vocals
    found = align(np.concatenate([other[:, : 10 * RATE], mixture[:, 10 * RATE :]], axis=1), instrumental, RATE)
    assert [s.start_frame for s in found.segments] == pytest.approx([10 * RATE], abs=0.015 * RATE)
    found = align(np.concatenate([mixture[:, : 26 * RATE], other[:, 26 * RATE :]], axis=1), instrumental, RATE)
    assert [s.end_frame for s in found.segments] == pytest.approx([26 * RATE], abs=0.015 * RATE)


def test_a_cut_is_placed_within_milliseconds(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    mixture = instrumental + vocals
    cut = 14 * RATE + 123
    edited = np.concatenate([mixture[:, :cut], mixture[:, cut + 66_483 :]], axis=1)
    found = align(1e-4 * edited, np.float32(0.5) * instrumental, RATE)
    assert [s.lag_frames for s in found.segments] == pytest.approx([0, 66_483], abs=0.01)
    assert found.segments[0].end_frame == pytest.approx(cut, abs=0.005 * RATE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    audio = pink_noise(np.random.default_rng(1), 2, 10 * RATE)
    broken = audio.copy()
    broken[1, 500] = bad
    with pytest.raises(ValueError, match=r"mixture holds NaN or infinity \(first at frame 500\)"):
        align(broken, audio, RATE)
    with pytest.raises(ValueError, match="instrumental holds NaN or infinity"):
        align(audio, broken, RATE)


def test_another_song_does_not_align(tune: tuple[np.ndarray, np.ndarray]) -> None:
    other, _ = song(np.random.default_rng(7), 30.0, RATE)
    assert align(tune[0] + tune[1], other, RATE).num_frames < 0.3 * other.shape[1]


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
    spectrum = scipy.fft.rfft(np.random.default_rng(seed).standard_normal(frames))
    frequency = np.fft.rfftfreq(frames)
    spectrum[frequency > 0.45] = 0
    periodic = np.tile(scipy.fft.irfft(spectrum, frames).astype(np.float32), 3)[None]
    found = delayed(periodic, frames + start, 2000)[0]
    expected = scipy.fft.irfft(spectrum * np.exp(2j * np.pi * frequency * start), frames)[:2000]
    assert np.square(found - expected).mean() < 10 ** (-95 / 10) * np.square(expected).mean()


@given(start=st.floats(-900, 2000), first=st.integers(0, 700), count=st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_a_stretch_of_a_delayed_signal_is_the_signal_delayed_for_that_stretch(
    start: float, first: int, count: int
) -> None:
    audio = pink_noise(np.random.default_rng(1), 2, 1000)
    whole = delayed(audio, start, 1000)
    found = delayed(audio, start + first, count)
    assert found.shape == (2, count)
    assert found == pytest.approx(whole[:, first : first + count], abs=1e-6)


def test_a_long_signal_is_delayed_without_seams() -> None:
    audio = pink_noise(np.random.default_rng(2), 1, 1_200_000)
    found = delayed(audio, 7.25, 1_190_000)
    expected = fractional_delay(audio, -7.25)[:, :1_190_000]
    # the last octave's tail is the interpolator's transition band
    error = np.abs(np.fft.rfft(found - expected)[0, : 1_190_000 // 2 * 9 // 10])
    assert np.square(error).sum() < 1e-9 * np.square(np.abs(np.fft.rfft(expected))).sum()


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


@pytest.mark.parametrize("ppm", [-1000.0, 0.0, 37.5])
def test_the_mixtures_clock_plays_frame_n_at_n_times_one_plus_drift(ppm: float) -> None:
    source = tone(997.0, 48_000, 48_000, channels=1)
    found = on_mixture_clock(source, 48_000, 44_100, ppm)[0]
    frames = np.arange(2000, 40_000)
    expected = 0.5 * np.sin(2 * np.pi * 997 / 44_100 * frames * (1 + ppm * 1e-6))
    assert found[frames] == pytest.approx(expected, abs=1e-5)


def test_one_clock_and_one_rate_need_no_resampling() -> None:
    audio = pink_noise(np.random.default_rng(4), 2, 1000)
    assert on_mixture_clock(audio, RATE, RATE, 0.0) is audio


def test_render_plays_each_segment_from_its_place_in_its_polarity() -> None:
    audio = pink_noise(np.random.default_rng(5), 2, 9000)
    alignment = Alignment((Segment(100, 2100, -40.0), Segment(2500, 5000, 1200.0)), 0.0, -1, 5.0, 1.0, 0.0)
    first, second = render(audio, RATE, RATE, alignment)
    assert np.array_equal(first, -audio[:, 60:2060])
    assert np.array_equal(second, -audio[:, 3700:6200])


def test_what_is_rendered_cancels_the_instrumental_in_the_mixture(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    release = resampled(fractional_delay(_padded(instrumental, 3000), 0.43), 120.0)
    found = align(instrumental + vocals, release, RATE)
    (rendered,) = render(release, RATE, RATE, found)
    segment = found.longest
    expected = instrumental[:, segment.start_frame : segment.end_frame]
    # the resampler's transition band is left out
    spectra = [np.fft.rfft(audio[:, 2000:-2000], axis=1) for audio in (rendered - expected, expected)]
    error, signal = (np.square(np.abs(s[:, : int(0.8 * s.shape[1])])).sum() for s in spectra)
    assert 10 * np.log10(error / signal) < -50


def test_the_matched_gain_is_not_moved_by_vocals(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = (stem.mean(axis=0) for stem in tune)
    gain = float(matched_gain(np.float32(0.31) * instrumental + vocals, instrumental))
    assert 20 * np.log10(gain / 0.31) == pytest.approx(0, abs=0.1)
    assert matched_gain(vocals, np.zeros_like(vocals)) == 0


def test_an_alignment_sums_up_its_segments() -> None:
    alignment = replace(NO_ALIGNMENT, segments=(Segment(0, 10, 3.0), Segment(20, 50, 4.0)))
    assert (alignment.num_frames, alignment.lag_frames, alignment.longest.num_frames) == (40, 4.0, 30)
    assert NO_ALIGNMENT.num_frames == 0
    assert np.isnan(NO_ALIGNMENT.lag_frames)


def test_the_example_in_the_documentation_holds() -> None:
    assert doctest.testmod(curation.alignment).failed == 0
