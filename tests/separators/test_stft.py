"""Audio to spectra and back."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import AudioError, RecipeError
from separators.stft import istft, stft


@settings(deadline=None)
@given(
    frames=st.integers(1, 3000),
    window=st.sampled_from([64, 100, 512]),
    part=st.sampled_from([2, 3, 4, 8]),
    seed=st.integers(0, 9),
)
def test_audio_of_any_length_comes_back(frames: int, window: int, part: int, seed: int) -> None:
    audio = torch.randn(2, 2, frames, generator=torch.Generator().manual_seed(seed))
    hop = window // part
    spectrum = stft(audio, window, hop)
    assert spectrum.shape == (2, 2, window // 2 + 1, 1 + -(-frames // hop))
    again = istft(spectrum, window, hop, frames)
    assert again.shape == audio.shape
    assert (again - audio).abs().max() < 1e-5


def test_spectra_are_those_of_scipy() -> None:
    audio = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    window = scipy.signal.windows.hann(256, sym=False)
    reference = scipy.signal.ShortTimeFFT(window, hop=64, fs=1, fft_mode="onesided", phase_shift=None)
    wanted = reference.stft(np.pad(audio.astype(float), ((0, 0), (128, 128 + 24))), p0=2, p1=19)
    found = stft(torch.from_numpy(audio), 256, 64).numpy()
    assert found.shape == wanted.shape == (2, 129, 17)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_half_precision_and_autocast_do_not_reach_the_spectrum() -> None:
    audio = torch.randn(1, 2, 500, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrum = stft(audio, 64, 16)
        again = istft(spectrum, 64, 16, 500)
    assert spectrum.dtype == torch.complex64
    assert (again - audio.float()).abs().max() < 1e-5


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(AudioError, match="0 frames"):
        stft(torch.zeros(1, 2, 0), 64, 16)
    for window, hop in [(63, 16), (64, 33), (64, 0)]:
        with pytest.raises(RecipeError, match=f"window_frames is {window} and hop_frames {hop}"):
            stft(torch.zeros(1, 2, 10), window, hop)
    with pytest.raises(RecipeError, match="33 bins and 2 columns"):
        istft(stft(torch.zeros(1, 2, 10), 64, 16), 64, 16, 17)
