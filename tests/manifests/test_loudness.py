"""The meter against pyloudnorm, ITU-R BS.1770-4's own numbers and closed forms."""

import warnings

import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import AudioError
from manifests.loudness import (
    MAX_CHANNELS,
    SILENCE_LUFS,
    SILENCE_PEAK_DB,
    LoudnessMeter,
    k_weighting,
    loudness_lufs,
)
from tests.synthesis import pink_noise, tone

Audio = npt.NDArray[np.float32]


def pyloudnorm_lufs(audio: Audio, sample_rate: int) -> float:
    """Reference with the Recommendation's coefficients; its default ones read 0.043 LU low."""
    meter = pyloudnorm.Meter(sample_rate, filter_class="DeMan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(meter.integrated_loudness(audio.T.astype(np.float64)))


def programme(sample_rate: int, channels: int, seconds: float = 4.0, seed: int = 0) -> Audio:
    """Noise with loud, quiet and silent passages, a low and a high tone."""
    rng = np.random.default_rng(seed)
    frames = round(seconds * sample_rate)
    noise = pink_noise(rng, channels, frames, rms=0.3)
    time = np.arange(frames) / sample_rate
    tones = 0.1 * np.sin(2 * np.pi * 55.0 * time) + 0.05 * np.sin(2 * np.pi * 3100.0 * time)
    gains = 10.0 ** (np.array([-6.0, -30.0, -12.0, -200.0, -3.0, -45.0, -18.0]) / 20.0)
    envelope = np.repeat(gains, -(-frames // len(gains)))[:frames]
    balance = np.linspace(1.0, 0.4, channels)[:, None]
    return np.asarray((noise + tones) * envelope * balance * 0.3, np.float32)


@pytest.mark.parametrize("sample_rate", [44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_reads_what_pyloudnorm_reads(sample_rate: int, channels: int, seed: int) -> None:
    audio = programme(sample_rate, channels, seed=seed)
    assert loudness_lufs(audio, sample_rate) == pytest.approx(pyloudnorm_lufs(audio, sample_rate), abs=0.02)


@pytest.mark.parametrize("sample_rate", [44_100, 48_000])
def test_stays_close_to_pyloudnorms_default_filters(sample_rate: int) -> None:
    audio = programme(sample_rate, 2)
    default = pyloudnorm.Meter(sample_rate).integrated_loudness(audio.T.astype(np.float64))
    assert loudness_lufs(audio, sample_rate) == pytest.approx(default, abs=0.06)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_calibration_tone_reads_minus_3_01_at_any_rate(sample_rate: int) -> None:
    sine = tone(997.0, sample_rate, sample_rate, amplitude=1.0, channels=1)
    assert loudness_lufs(sine, sample_rate) == pytest.approx(-3.01, abs=0.05)


def test_filter_at_48_khz_is_the_tabled_one() -> None:
    tabled = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    np.testing.assert_allclose(k_weighting(48_000), tabled, atol=1e-9)


def test_ebu_3341_gating_cases() -> None:
    """EBU Tech 3341 (2016), cases 3 to 5: stereo 1 kHz tones of these levels and lengths read -23 +- 0.1."""
    cases = (
        ((-36.0, 10), (-23.0, 60), (-36.0, 10)),
        ((-72.0, 10), (-36.0, 10), (-23.0, 60), (-36.0, 10), (-72.0, 10)),
        ((-26.0, 20), (-20.0, 20.1), (-26.0, 20)),
    )
    rate = 48_000
    for case in cases:
        meter = LoudnessMeter(rate, 2)
        for level_db, seconds in case:
            meter.add(tone(1000.0, round(seconds * rate), rate, amplitude=10.0 ** (level_db / 20.0)))
        assert meter.integrated_lufs == pytest.approx(-23.0, abs=0.1)


def test_lfe_is_ignored_and_surrounds_count_1_41() -> None:
    five = programme(48_000, 5)
    lfe = tone(60.0, five.shape[1], 48_000, amplitude=0.9, channels=1)
    five_one = np.concatenate([five[:3], lfe, five[3:]])
    assert loudness_lufs(five_one, 48_000) == pytest.approx(loudness_lufs(five, 48_000), abs=1e-9)
    front, surround = np.zeros((2, 4, 48_000), np.float32)
    front[0] = surround[2] = tone(1000.0, 48_000, 48_000, channels=1)[0]
    gain = loudness_lufs(surround, 48_000) - loudness_lufs(front, 48_000)
    assert gain == pytest.approx(10.0 * np.log10(1.41), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 66_150), max_size=6),
    sample_rate=st.sampled_from([11_025, 22_050, 44_100, 44_056]),
)
def test_reading_does_not_depend_on_how_the_signal_is_cut(cuts: list[int], sample_rate: int) -> None:
    audio = programme(44_100, 2, seconds=1.5)
    meter = LoudnessMeter(sample_rate, 2)
    for block in np.split(audio, sorted(cuts), axis=1):
        meter.add(block)
    assert meter.num_frames == audio.shape[1]
    assert meter.integrated_lufs == pytest.approx(loudness_lufs(audio, sample_rate), abs=1e-9)
    assert meter.peak_db == pytest.approx(20 * np.log10(np.abs(audio).max()), abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(gain_db=st.floats(-20.0, 20.0))
def test_a_gain_moves_the_reading_by_itself(gain_db: float) -> None:
    audio = pink_noise(np.random.default_rng(3), 2, 48_000)
    louder = audio.astype(np.float64) * 10.0 ** (gain_db / 20.0)
    assert loudness_lufs(louder, 48_000) - loudness_lufs(audio, 48_000) == pytest.approx(gain_db, abs=1e-6)


def test_silence_and_emptiness_read_the_documented_floors() -> None:
    for frames in (0, 100, 48_000):
        meter = LoudnessMeter(48_000, 2)
        meter.add(np.zeros((2, frames), np.float32))
        assert (meter.integrated_lufs, meter.peak_db) == (SILENCE_LUFS, SILENCE_PEAK_DB)
    assert loudness_lufs(tone(1000.0, 48_000, amplitude=1e-4), 48_000) == SILENCE_LUFS


def test_a_programme_shorter_than_a_block_counts_as_followed_by_silence() -> None:
    short = tone(1000.0, 9_600, 48_000, channels=1)
    padded = np.pad(short, ((0, 0), (0, 9_600)))
    assert loudness_lufs(short, 48_000) == pytest.approx(loudness_lufs(padded, 48_000), abs=0.02)
    assert loudness_lufs(short, 48_000) > SILENCE_LUFS


def test_a_trailing_click_shorter_than_a_step_is_left_out() -> None:
    audio = tone(1000.0, 48_000, 48_000, amplitude=0.1)
    with_click = np.concatenate([audio, tone(3000.0, 4_799, 48_000, amplitude=0.9)], axis=1)
    assert loudness_lufs(with_click, 48_000) == pytest.approx(loudness_lufs(audio, 48_000), abs=1e-9)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(AudioError, match="sample_rate 4000"):
        LoudnessMeter(4_000, 2)
    with pytest.raises(AudioError, match="7 channels"):
        LoudnessMeter(48_000, MAX_CHANNELS + 1)
    with pytest.raises(ValueError, match=r"\(1, 10\), meter expects \(2, frames\)"):
        LoudnessMeter(48_000, 2).add(np.zeros((1, 10), np.float32))
    with pytest.raises(ValueError, match=r"expected \(channels, frames\)"):
        loudness_lufs(np.zeros(10, np.float32), 48_000)
    for bad in (np.nan, np.inf):
        block = np.zeros((2, 10), np.float32)
        block[1, 3] = bad
        with pytest.raises(AudioError, match="NaN or infinite"):
            LoudnessMeter(48_000, 2).add(block)


@pytest.mark.parametrize("lufs", [-10.0, -16.3, -30.0, -50.0, -66.0])
def test_the_gain_to_a_loudness_reaches_it_also_where_the_gate_decides(lufs: float) -> None:
    """A short knock and a long quiet tail: a gain lifts the tail over the absolute gate, or drops it below."""
    rng = np.random.default_rng(0)
    knock = rng.standard_normal((1, 4800)) * 0.3
    tails = [rng.standard_normal((1, 48_000)) * level for level in (1e-3, 3e-4, 1e-4)]
    audio = np.concatenate([knock, *tails], axis=1)
    meter = LoudnessMeter(48_000, 1)
    meter.add(audio)
    gain_db = meter.gain_db_to(lufs)
    assert gain_db is not None
    assert loudness_lufs(audio * 10 ** (gain_db / 20), 48_000) == pytest.approx(lufs, abs=0.01)


def test_silence_has_no_gain_to_a_loudness() -> None:
    meter = LoudnessMeter(48_000, 1)
    meter.add(np.zeros((1, 48_000)))
    assert meter.gain_db_to(-20.0) is None
