import numpy as np
import pytest
import scipy.signal

from curation.transfer import estimate_transfer, power, stft
from tests.synthesis import pink_noise, song

N_FFT, HOP = 2048, 1024


def _error_db(estimate: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    return float(
        10 * np.log10((weight * np.abs(estimate - truth) ** 2).sum() / (weight * np.abs(truth) ** 2).sum())
    )


def test_a_known_filter_is_recovered_under_vocals() -> None:
    instrumental, vocals = song(np.random.default_rng(1), 15.0, 22_050)
    sos = scipy.signal.butter(2, 3000, "low", fs=22_050, output="sos")
    mixture = scipy.signal.sosfilt(sos, instrumental, axis=1).astype(np.float32) + vocals
    spectrum = stft(instrumental, N_FFT, HOP)
    found = estimate_transfer(stft(mixture, N_FFT, HOP), spectrum)
    accompaniment = found.apply(spectrum)
    expected = stft(scipy.signal.sosfilt(sos, instrumental, axis=1).astype(np.float32), N_FFT, HOP)
    error = power(accompaniment - expected).sum() / power(expected).sum()
    assert 10 * np.log10(error) < -30


def test_stereo_width_balance_and_swapped_channels_are_recovered() -> None:
    instrumental = pink_noise(np.random.default_rng(2), 2, 22_050 * 8)
    matrix = np.array([[0.2, 0.9], [1.1, -0.1]], np.float32)
    found = estimate_transfer(stft(matrix @ instrumental, N_FFT, HOP), stft(instrumental, N_FFT, HOP))
    weight = np.ones((N_FFT // 2 + 1, 1, 1))
    weight[:4] = 0
    level = float(np.median(found.level))
    assert _error_db(found.response * level, matrix[None], weight) < -50


def test_a_mono_instrumental_fits_a_stereo_mixture() -> None:
    instrumental = pink_noise(np.random.default_rng(3), 1, 22_050 * 5)
    mixture = np.concatenate([0.5 * instrumental, -0.25 * instrumental])
    spectrum = stft(instrumental, N_FFT, HOP)
    found = estimate_transfer(stft(mixture, N_FFT, HOP), spectrum)
    assert found.response.shape == (N_FFT // 2 + 1, 2, 1)
    error = power(found.apply(spectrum) - stft(mixture, N_FFT, HOP)).sum() / power(stft(mixture, N_FFT, HOP)).sum()
    assert 10 * np.log10(error) < -50


def test_a_fade_is_followed_by_the_level() -> None:
    frames = 22_050 * 12
    instrumental = pink_noise(np.random.default_rng(4), 1, frames)
    fade = np.ones(frames, np.float32)
    fade[-22_050 * 4 :] = np.linspace(1, 0.1, 22_050 * 4)
    spectrum = stft(instrumental, N_FFT, HOP)
    found = estimate_transfer(stft(instrumental * fade, N_FFT, HOP), spectrum)
    expected = fade[N_FFT // 2 :: HOP][: len(found.level)]
    ratio = found.level * np.abs(np.median(found.response[50:500, 0, 0]))
    assert np.abs(ratio - expected)[:-12].max() < 0.05


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("faint", [1.0, 1e-6])
def test_digital_silence_on_either_side_gives_finite_numbers(faint: float) -> None:
    rng = np.random.default_rng(5)
    instrumental = faint * pink_noise(rng, 2, 22_050 * 6)
    mixture = instrumental.copy()
    mixture[:, :40_000] = 0
    instrumental[:, 30_000:80_000] = 0
    mixture[0, 90_000:] = 0
    for x, y in ((mixture, instrumental), (0 * mixture, instrumental), (mixture, 0 * instrumental)):
        found = estimate_transfer(stft(x, N_FFT, HOP), stft(y, N_FFT, HOP), smooth_bins=1)
        assert np.isfinite(found.response).all()
        assert np.isfinite(found.level).all()
        assert np.isfinite(found.precision).all()


def test_spectra_of_different_lengths_are_refused() -> None:
    spectrum = stft(pink_noise(np.random.default_rng(6), 1, 22_050), N_FFT, HOP)
    with pytest.raises(ValueError, match="differ in bins or frames"):
        estimate_transfer(spectrum, spectrum[..., 1:])
