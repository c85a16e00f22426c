"""Vocals from a mixture and its aligned instrumental.

Conventions
-----------
Audio is float32 ``(channels, frames)``. Whatever the method, the stems sum to the mixture (to the rounding of
float32): the vocals are estimated, and the instrumental that comes out is the mixture minus the vocals, so that
codec noise and anything else unexplained stays where it does least harm, in the accompaniment.

Methods
-------
``half-wave``
    The positive part of the difference of the two magnitude spectrograms, gains matched, with the mixture's phase:
    Humphrey et al., "Mining labeled data from web-scale collections for vocal activity detection in music", ISMIR
    2017; Pretet et al., "Singing voice separation: a study on training data", ICASSP 2019, section 2.3.
``transfer``
    Complex subtraction of the instrumental heard through its robust transfer function (`curation.transfer`), in
    blocks of 30 s, then a soft mask from each band's error floor: what is below the error that the instrumental
    leaves in vocal-free frames is not vocals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import librosa
import numpy as np
import numpy.typing as npt
import scipy.ndimage

from curation.alignment import matched_gain
from curation.transfer import Spectrum, estimate_transfer, power

Audio = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]
Method = Literal["transfer", "half-wave"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Ways to derive vocals."""

_BLOCK_S = 30.0
_OVERLAP_S = 1.0


@dataclass(frozen=True)
class Derivation:
    """A mixture taken apart.

    Attributes
    ----------
    vocals, instrumental : np.ndarray [shape=(channels, frames), float32]
        They sum to the mixture.
    residual_db : float
        Power that the instrumental could not explain over the mixture's power, in the tenth of the audible frames
        that it explains best (those without vocals). Below -20 dB is a good pair.
    method : str
    """

    vocals: Audio
    instrumental: Audio
    residual_db: float
    method: Method


def derive_vocals(
    mixture: Audio, accompaniment: Audio, sample_rate: int, method: Method = "transfer"
) -> Derivation:
    """Estimate the vocals of a mixture, given its instrumental aligned to a fraction of a sample.

    Parameters
    ----------
    mixture, accompaniment : np.ndarray [shape=(channels, frames), float32]
        Of equal length; the accompaniment as `curation.alignment.render` gives it. Channel counts may differ.
    sample_rate : int > 0
    method : {'transfer', 'half-wave'}

    Returns
    -------
    Derivation

    Raises
    ------
    ValueError
        If a signal is empty or not two-dimensional, the lengths differ or the method is unknown.
    """
    for name, audio in (("mixture", mixture), ("accompaniment", accompaniment)):
        if audio.ndim != 2 or not audio.size:
            raise ValueError(f"{name} has shape {audio.shape}; expected (channels, frames), not empty")
    if mixture.shape[-1] != accompaniment.shape[-1]:
        raise ValueError(f"mixture {mixture.shape} and accompaniment {accompaniment.shape} differ in length")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; expected one of {METHODS}")
    if accompaniment.shape[0] not in (1, mixture.shape[0]) and method == "half-wave":
        accompaniment = accompaniment.mean(axis=0, keepdims=True, dtype=np.float32)
    residuals: list[Floats] = []
    if method == "half-wave":
        gain = matched_gain(mixture.mean(axis=0), accompaniment.mean(axis=0))

        def block(x: Audio, y: Audio) -> Audio:
            return _half_wave(x, gain * y, residuals)
    else:

        def block(x: Audio, y: Audio) -> Audio:
            return _transfer(x, y, residuals)

    vocals = _in_blocks(block, mixture, accompaniment, sample_rate)
    residual = np.concatenate(residuals)
    residual_db = float(10 * np.log10(np.percentile(residual, 10) + 1e-12)) if len(residual) else 0.0
    return Derivation(vocals, mixture - vocals, residual_db, method)


def _in_blocks(block: Callable[[Audio, Audio], Audio], x: Audio, y: Audio, sample_rate: int) -> Audio:
    """Run `block` on about 30 s at a time, cross-faded over 1 s, so that memory does not grow with the song."""
    frames = x.shape[-1]
    count = max(1, round(frames / (_BLOCK_S * sample_rate)))
    edges = np.linspace(0, frames, count + 1).astype(int)
    half = round(_OVERLAP_S * sample_rate / 2)
    out = np.zeros_like(x)
    for start, end in pairwise(edges):
        low, high = max(0, int(start) - half), min(frames, int(end) + half)
        piece = block(x[:, low:high], y[:, low:high])
        fade = np.ones(high - low, np.float32)
        if low > 0:
            fade[: 2 * half] = np.linspace(0, 1, 2 * half, dtype=np.float32)
        if high < frames:
            fade[-2 * half :] *= np.linspace(1, 0, 2 * half, dtype=np.float32)
        out[:, low:high] += piece * fade
    return out


def _half_wave(x: Audio, y: Audio, residuals: list[Floats]) -> Audio:
    spectrum = _stft(x, 2048, 512)
    magnitude = np.abs(spectrum)
    excess = np.maximum(magnitude - np.abs(_stft(y, 2048, 512)), 0)
    residuals.append(_residual(excess**2, magnitude**2))
    return _istft(spectrum * (excess / (magnitude + 1e-20)), 512, x.shape[-1])


def _transfer(x: Audio, y: Audio, residuals: list[Floats]) -> Audio:
    n_fft, hop = 4096, 1024
    mixture, instrumental = _stft(x, n_fft, hop), _stft(y, n_fft, hop)
    # every second frame is enough to estimate: neighbours share three quarters of their samples
    transfer = estimate_transfer(mixture[..., ::2], instrumental[..., ::2])
    frames = mixture.shape[-1]
    level = np.interp(np.arange(frames), np.arange(0, frames, 2), transfer.level).astype(np.float32)
    accompaniment = transfer.apply(instrumental, level)
    error = mixture - accompaniment
    residuals.append(_residual(power(error), power(mixture)))
    return _istft(error * soft_mask(error, accompaniment), hop, x.shape[-1])


def soft_mask(error: Spectrum, accompaniment: Spectrum, *, over: float = 2.5, max_floor: float = 0.5) -> Floats:
    """Gain of each bin of the error, 0 where it is no more than what the accompaniment always leaves.

    Parameters
    ----------
    error, accompaniment : np.ndarray [shape=(channels, bins, frames), complex64]
    over : float > 0
        How much above a band's error floor an error must be to count in full as vocals (spectral subtraction's
        over-subtraction factor).
    max_floor : float (0, 1]
        Bound of the floor, so that a song that is sung throughout is not masked away.

    Returns
    -------
    np.ndarray [shape=(channels, bins, frames), float32], range [0, 1]
        The floor is the tenth percentile over time of error power over accompaniment power in each bin, where
        the accompaniment is heard: silence leaves no error and says nothing about the floor.
    """
    error_power = _blur(power(error))
    accompaniment_power = _blur(power(accompaniment))
    level = accompaniment_power[..., ::2].sum(axis=(0, 1))
    heard = level > 1e-6 * level.mean()
    if not heard.any():
        return np.ones_like(error_power)
    ratio = error_power[..., ::2][..., heard] / (accompaniment_power[..., ::2][..., heard] + 1e-12)
    floor = np.percentile(ratio, 10, axis=-1).astype(np.float32)
    floor = np.minimum(scipy.ndimage.uniform_filter1d(floor, 9, axis=-1, mode="nearest"), np.float32(max_floor))
    noise = np.float32(over) * floor[..., None] * accompaniment_power
    mask: Floats = np.maximum(0, 1 - noise / (error_power + 1e-20))
    return mask


def _blur(values: Floats) -> Floats:
    """3 x 3 moving average over bins and frames, 0 or more: a running sum ends silence a rounding error below."""
    over_bins = scipy.ndimage.uniform_filter1d(values, 3, axis=-2, mode="nearest")
    blurred: Floats = scipy.ndimage.uniform_filter1d(over_bins, 3, axis=-1, mode="nearest")
    return np.maximum(blurred, 0)


def _residual(error: Floats, mixture: Floats) -> Floats:
    """Residual over mixture per audible frame."""
    level = mixture.sum(axis=(0, 1))
    audible = level > 1e-4 * np.median(level)
    residual: Floats = error.sum(axis=(0, 1))[audible] / (level[audible] + 1e-20)
    return residual


def _stft(audio: Audio, n_fft: int, hop_frames: int) -> Spectrum:
    if audio.shape[-1] < n_fft:
        # silence behind it, which the inverse cuts off again
        audio = np.pad(audio, ((0, 0), (0, n_fft - audio.shape[-1])))
    spectrum: Spectrum = librosa.stft(audio, n_fft=n_fft, hop_length=hop_frames)
    return spectrum


def _istft(spectrum: Spectrum, hop_frames: int, num_frames: int) -> Audio:
    audio: Audio = librosa.istft(spectrum, hop_length=hop_frames, length=num_frames)
    return audio.astype(np.float32, copy=False)
