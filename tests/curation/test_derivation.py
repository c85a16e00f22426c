import librosa
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.alignment import matched_gain
from curation.derivation import METHODS, derive_vocals, soft_mask
from tests.synthesis import pink_noise, song

RATE = 22_050


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    e, r = estimate.ravel().astype(float), reference.ravel().astype(float)
    target = (e @ r) / (r @ r) * r
    return float(10 * np.log10((target @ target) / ((e - target) @ (e - target))))


@pytest.fixture(scope="module")
def tune() -> tuple[np.ndarray, np.ndarray]:
    return song(np.random.default_rng(31), 24.0, RATE)


@given(
    channels=st.integers(1, 2),
    other_channels=st.integers(1, 2),
    frames=st.integers(1, 9000),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=25, deadline=None)
def test_the_stems_sum_to_the_mixture(channels: int, other_channels: int, frames: int, method: str) -> None:
    rng = np.random.default_rng(frames)
    mixture = pink_noise(rng, channels, max(frames, 16))[:, :frames]
    accompaniment = pink_noise(rng, other_channels, max(frames, 16))[:, :frames]
    derived = derive_vocals(mixture, accompaniment, RATE, method)  # type: ignore[arg-type]
    assert derived.vocals.shape == mixture.shape
    assert np.abs(derived.vocals + derived.instrumental - mixture).max() <= 1e-6
    assert np.isfinite(derived.vocals).all()


def test_transfer_beats_half_wave_by_ten_db_on_an_equalised_lossless_pair(
    tune: tuple[np.ndarray, np.ndarray],
) -> None:
    instrumental, vocals = tune
    sos = scipy.signal.butter(1, 2000, "low", fs=RATE, output="sos")
    release = 0.7 * instrumental + 0.5 * scipy.signal.sosfilt(sos, instrumental, axis=1).astype(np.float32)
    mixture = instrumental + vocals
    half_wave = si_sdr(derive_vocals(mixture, release, RATE, "half-wave").vocals, vocals)
    transfer = si_sdr(derive_vocals(mixture, release, RATE).vocals, vocals)
    assert transfer > half_wave + 10
    assert transfer > 25


def test_a_mixture_without_vocals_gives_silent_vocals(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, _ = tune
    noise = pink_noise(np.random.default_rng(1), 2, instrumental.shape[1], rms=3e-4)
    derived = derive_vocals(0.5 * instrumental + noise, instrumental, RATE)
    assert 20 * np.log10(np.std(derived.vocals) / np.std(instrumental)) < -40
    assert derived.residual_db < -30


def test_half_wave_is_the_positive_part_of_the_magnitude_difference(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = (stem[:, : 8 * RATE] for stem in tune)
    mixture = instrumental + vocals
    gain = matched_gain(mixture.mean(axis=0), instrumental.mean(axis=0))
    x, y = (librosa.stft(a, n_fft=2048, hop_length=512) for a in (mixture, gain * instrumental))
    expected = librosa.istft(
        np.maximum(np.abs(x) - np.abs(y), 0) * np.exp(1j * np.angle(x)), hop_length=512, length=mixture.shape[1]
    )
    found = derive_vocals(mixture, instrumental, RATE, "half-wave").vocals
    assert np.abs(found - expected).max() < 1e-4


def test_a_long_song_is_derived_block_by_block_without_seams() -> None:
    instrumental, vocals = song(np.random.default_rng(5), 70.0, RATE)
    derived = derive_vocals(instrumental + vocals, instrumental, RATE)
    error = derived.vocals - vocals
    windows = np.square(error[:, : error.shape[1] // RATE * RATE]).reshape(2, -1, RATE).mean(axis=(0, 2))
    assert 10 * np.log10(windows.max() / np.mean(vocals**2)) < -20


def test_the_mask_is_a_gain() -> None:
    rng = np.random.default_rng(2)
    shape = (2, 64, 80)
    error = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    accompaniment = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    mask = soft_mask(0.1 * error, accompaniment)
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask.mean() < 0.2
    assert soft_mask(100 * error, accompaniment).mean() > 0.95


def test_bad_arguments_are_refused() -> None:
    audio = np.zeros((1, 5000), np.float32)
    with pytest.raises(ValueError, match="differ in length"):
        derive_vocals(audio, audio[:, 1:], RATE)
    with pytest.raises(ValueError, match="'magic' is unknown"):
        derive_vocals(audio, audio, RATE, "magic")  # type: ignore[arg-type]
