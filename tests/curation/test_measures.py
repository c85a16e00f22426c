"""Measures against closed forms, planted faults and real codecs, whatever the blocks."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.measures import FULL_SCALE, Measures, StemMeter, measure
from manifests.errors import AudioError
from manifests.loudness import loudness_lufs
from tests.synthesis import Audio, pink_noise, song, tone

RATE = 44_100


def noise(seconds: float, *, rate: int = RATE, rms: float = 0.1) -> Audio:
    """White stereo noise: full bandwidth."""
    return (rms * np.random.default_rng(0).standard_normal((2, round(seconds * rate)))).astype(np.float32)


def in_16_bit(audio: Audio) -> Audio:
    """As a file of 16 bit with dither holds it."""
    rng = np.random.default_rng(1)
    dither = rng.uniform(-0.5, 0.5, audio.shape) + rng.uniform(-0.5, 0.5, audio.shape)
    return (np.round(audio * 32768 + dither) / 32768).astype(np.float32)


def through_mp3(audio: Audio, level: float) -> Audio:
    """Audio through LAME at a constant bit rate, 320 kbit/s at level 0, and back."""
    file = io.BytesIO()
    options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
    soundfile.write(file, audio.T, RATE, compression_level=level, **options)
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32")[0].T)


class TestLevels:
    def test_of_a_sine_are_known(self) -> None:
        found = measure([tone(1000.0, 3 * RATE, amplitude=0.5)], RATE)
        # 0.5 / sqrt(2) in each of two channels, which are summed.
        assert found.rms == pytest.approx(0.5, rel=1e-4)
        assert found.peak == pytest.approx(0.5, rel=1e-4)
        assert found.dc_offset < 1e-4
        assert found.silent_fraction == found.clipped_fraction == 0
        assert (found.num_frames, found.sample_rate, found.channels) == (3 * RATE, RATE, 2)

    def test_rms_sums_the_channels(self) -> None:
        mono = tone(1000.0, RATE, amplitude=0.5, channels=1)
        assert measure([mono], RATE).rms == pytest.approx(0.5 / math.sqrt(2), rel=1e-4)
        assert measure([np.vstack([mono, 0 * mono])], RATE).rms == pytest.approx(0.5 / math.sqrt(2), rel=1e-4)

    @pytest.mark.parametrize(("amplitude", "channels"), [(1.0, 1), (0.1, 1), (0.1, 2)])
    def test_loudness_is_that_of_bs_1770(self, amplitude: float, channels: int) -> None:
        audio = tone(997.0, 48_000, 48_000, amplitude=amplitude, channels=channels)
        found = measure([audio], 48_000).loudness_lufs
        assert found == loudness_lufs(audio, 48_000)
        expected = -3.01 + 20 * math.log10(amplitude) + 10 * math.log10(channels)
        assert found == pytest.approx(expected, abs=0.05)

    @pytest.mark.parametrize("offset", [0.25, -0.25])
    def test_dc_is_that_of_the_worst_channel(self, offset: float) -> None:
        audio = tone(1000.0, RATE, amplitude=0.1)
        audio[1] += offset
        assert measure([audio], RATE).dc_offset == pytest.approx(0.25, abs=1e-4)

    def test_silence_is_what_is_below_minus_60_db(self) -> None:
        audio = np.hstack([tone(1000.0, RATE, amplitude=10 ** (level / 20)) for level in (-20, -56, -58, -90)])
        # A sine of amplitude -56 dB has -59 dB.
        assert measure([audio], RATE).silent_fraction == pytest.approx(0.5, abs=0.01)

    def test_of_silence_are_none(self) -> None:
        found = measure([np.zeros((2, RATE), np.float32)], RATE)
        assert (found.rms, found.peak, found.dc_offset, found.clipped_fraction) == (0, 0, 0, 0)
        assert found.silent_fraction == 1
        assert found.loudness_lufs == -70
        assert math.isnan(found.bandwidth_hz)
        assert math.isnan(found.cutoff_hz)


class TestClipping:
    @pytest.mark.parametrize(
        ("runs", "clipped"), [([], 0), ([1], 0), ([2], 0), ([3], 3), ([2, 2], 0), ([3, 4], 7), ([100], 100)]
    )
    @pytest.mark.parametrize("full", [FULL_SCALE, -1.0, 1.5])
    def test_counts_the_samples_of_runs_of_three(self, runs: list[int], clipped: int, full: float) -> None:
        audio = np.zeros((1, 1000), np.float32)
        at = 5
        for run in runs:
            audio[0, at : at + run] = full
            at += run + 1
        assert measure([audio], RATE).clipped_fraction == clipped / 1000

    def test_a_change_of_sign_ends_a_run(self) -> None:
        audio = np.tile(np.array([[1.0, 1.0, -1.0, -1.0]], np.float32), 100)
        assert measure([audio], RATE).clipped_fraction == 0

    def test_a_run_in_one_channel_is_no_run_in_another(self) -> None:
        audio = np.zeros((2, 100), np.float32)
        audio[0, :2] = audio[1, 2:4] = 1
        assert measure([audio], RATE).clipped_fraction == 0

    def test_a_sine_driven_into_the_ceiling_is_clipped_where_it_would_exceed_it(self) -> None:
        loud = tone(441.0, RATE, amplitude=2.0)
        # Beyond half of its peak a sine is for two thirds of its time.
        assert measure([np.clip(loud, -1, 1)], RATE).clipped_fraction == pytest.approx(2 / 3, abs=0.02)

    def test_a_sine_at_full_scale_is_not_clipped(self) -> None:
        assert measure([tone(441.0, RATE, amplitude=1.0)], RATE).clipped_fraction == 0


class TestBandwidth:
    @pytest.mark.parametrize("cutoff", [4_000, 11_000, 16_000, 19_000])
    def test_ends_at_a_steep_low_pass(self, cutoff: int) -> None:
        taps = scipy.signal.firwin(1023, cutoff, fs=RATE, window=("kaiser", 12.0))
        filtered = scipy.signal.oaconvolve(noise(8), taps[None], "same", axes=1).astype(np.float32)
        for audio in (filtered, in_16_bit(filtered)):
            found = measure([audio], RATE)
            assert found.bandwidth_hz == found.cutoff_hz == pytest.approx(cutoff, abs=200)

    @pytest.mark.parametrize("rate", [8_000, 16_000, 22_050])
    def test_of_a_signal_resampled_from_a_lower_rate_is_half_of_it(self, rate: int) -> None:
        rng = np.random.default_rng(0)
        low = pink_noise(rng, 2, 8 * rate)
        audio = soxr.resample(low.T, rate, RATE).T.astype(np.float32)
        for found in (measure([audio], RATE), measure([in_16_bit(audio)], RATE)):
            assert found.cutoff_hz == found.bandwidth_hz
            assert 0.93 * rate / 2 <= found.cutoff_hz <= 1.02 * rate / 2

    @pytest.mark.parametrize(("level", "low", "high"), [(0.65, 16_000, 17_200), (0.0, 19_900, 20_700)])
    def test_of_an_mp3_is_its_encoders_cut_off(self, level: float, low: float, high: float) -> None:
        # 128 and 320 kbit/s
        decoded = through_mp3(noise(8), level)
        for audio in (decoded, in_16_bit(decoded)):
            assert low <= measure([audio], RATE).cutoff_hz <= high

    def test_of_full_band_noise_is_all(self) -> None:
        for audio in (noise(4), in_16_bit(noise(4, rms=0.01)), pink_noise(np.random.default_rng(0), 2, 4 * RATE)):
            found = measure([audio], RATE)
            assert found.bandwidth_hz == found.cutoff_hz == RATE / 2

    def test_of_a_dull_recording_is_low_without_a_cut_off(self) -> None:
        sos = scipy.signal.butter(2, 1000, fs=RATE, output="sos")
        audio = in_16_bit(scipy.signal.sosfilt(sos, noise(8), axis=1).astype(np.float32))
        assert measure([audio], RATE).cutoff_hz == RATE / 2

    def test_of_a_song_has_no_cut_off(self) -> None:
        instrumental, vocals = song(np.random.default_rng(3), 12.0)
        assert measure([instrumental + vocals], RATE).cutoff_hz == RATE / 2

    def test_is_not_moved_by_a_click(self) -> None:
        taps = scipy.signal.firwin(1023, 16_000, fs=RATE, window=("kaiser", 12.0))
        audio = scipy.signal.oaconvolve(noise(20), taps[None], "same", axes=1).astype(np.float32)
        audio[:, RATE] = 0.9
        assert measure([audio], RATE).cutoff_hz == pytest.approx(16_000, abs=200)

    def test_counts_what_sounds_rarely(self) -> None:
        taps = scipy.signal.firwin(1023, 8_000, fs=RATE, window=("kaiser", 12.0))
        audio = scipy.signal.oaconvolve(noise(20), taps[None], "same", axes=1).astype(np.float32)
        audio[:, :RATE] += 0.1 * noise(1)
        assert measure([audio], RATE).bandwidth_hz == RATE / 2

    @pytest.mark.parametrize("rate", [8_000, 48_000, 96_000])
    def test_knows_other_rates(self, rate: int) -> None:
        assert measure([noise(3, rate=rate)], rate).cutoff_hz == rate / 2

    def test_of_less_than_one_spectrum_is_measured_too(self) -> None:
        assert measure([noise(0.01)], RATE).bandwidth_hz == RATE / 2


@settings(deadline=None, max_examples=30)
@given(
    cuts=st.lists(st.integers(0, 12_000), max_size=8),
    seed=st.integers(0, 9),
    rate=st.sampled_from([8_000, 44_100]),
    gain=st.sampled_from([0.001, 0.3, 2.0]),
)
def test_what_is_measured_does_not_depend_on_the_blocks(cuts: list[int], seed: int, rate: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    audio = np.clip(gain * pink_noise(rng, 2, 12_000, rms=0.5), -1, 1)
    whole = measure([audio], rate)
    parts = measure(np.split(audio, sorted(cuts), axis=1), rate)
    for field in dataclasses.fields(Measures):
        one, other = getattr(whole, field.name), getattr(parts, field.name)
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12, nan_ok=True), field.name


def test_runs_of_clipped_samples_may_cross_any_number_of_blocks() -> None:
    audio = np.zeros((1, 50), np.float32)
    audio[0, 10:20] = 1
    assert measure(np.split(audio, 50, axis=1), RATE).clipped_fraction == 10 / 50


def test_a_meter_can_be_read_at_any_time() -> None:
    meter = StemMeter(RATE, 1)
    with pytest.raises(ValueError, match="no frame to measure"):
        _ = meter.measures
    meter.add(np.full((1, RATE), 0.5, np.float32))
    assert meter.measures.rms == pytest.approx(0.5)
    meter.add(np.zeros((1, RATE), np.float32))
    assert meter.measures.rms == pytest.approx(0.5 / math.sqrt(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    audio = np.zeros((2, 1000), np.float32)
    audio[1, 500] = bad
    with pytest.raises(AudioError, match="NaN or infinite sample"):
        measure([audio], RATE)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no block to measure"):
        measure([], RATE)
    with pytest.raises(ValueError, match="no frame to measure"):
        measure([np.zeros((2, 0), np.float32)], RATE)
    with pytest.raises(ValueError, match="shape"):
        measure([np.zeros((2, 10), np.float32), np.zeros((1, 10), np.float32)], RATE)
    with pytest.raises(AudioError, match="sample_rate 4000"):
        measure([np.zeros((2, 10), np.float32)], 4000)
    with pytest.raises(AudioError, match="7 channels"):
        measure([np.zeros((7, 10), np.float32)], RATE)
