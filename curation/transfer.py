"""The transfer function from an instrumental to the mixture that contains it.

A mixture release is its instrumental release, heard through another equaliser, another stereo width, another gain
(a fade, a bus compressor) and another codec, plus vocals. This module estimates the first part while the vocals
disturb it: ``X ~ level(t) * response(f) @ Y`` by iteratively reweighted least squares, so that the time-frequency
bins without vocals decide.

Conventions
-----------
Spectra are complex64 ``(channels, bins, frames)``; ``response`` is complex64 ``(bins, mixture channels,
instrumental channels)``, a matrix per bin, so that width, balance, swapped channels and mono are covered; ``level``
is float32 ``(frames,)``, real, about 1 on average.

References
----------
Holland and Welsch, "Robust regression using iteratively reweighted least-squares", Communications in
Statistics A6, 1977. The weight ``1 / (|E|^2 + eps |HY|^2)`` is the maximum-likelihood weight of a complex
Gaussian error whose variance is unknown in every bin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

Spectrum = npt.NDArray[np.complex64]
Floats = npt.NDArray[np.float32]

_TINY = np.float32(1e-20)
_RIDGE = np.float32(1e-4)
_FAINT = np.float32(1e-9)
_MAX_LEVEL = np.float32(8)


@dataclass(frozen=True)
class Transfer:
    """What turns the instrumental's spectrum into the accompaniment inside the mixture.

    Attributes
    ----------
    response : np.ndarray [shape=(bins, mixture channels, instrumental channels), complex64]
        Equaliser and channel matrix, static over the spectra it was estimated from.
    level : np.ndarray [shape=(frames,), float32]
        The gain over time, real, at the frames that `estimate_transfer` saw.
    precision : np.ndarray [shape=(bins, mixture channels), float32]
        ``sum_t w |level * response @ Y|^2``: how well each bin of the response is known.
    """

    response: Spectrum
    level: Floats
    precision: Floats

    def apply(self, instrumental: Spectrum, level: Floats | None = None) -> Spectrum:
        """The accompaniment inside the mixture, ``level * response @ Y``, (channels, bins, frames)."""
        modelled = self.response @ np.ascontiguousarray(instrumental.transpose(1, 0, 2))
        modelled *= self.level if level is None else level
        return modelled.transpose(1, 0, 2)


def power(spectrum: Spectrum) -> Floats:
    """Squared magnitude without the square root that ``abs`` takes."""
    return spectrum.real**2 + spectrum.imag**2


def estimate_transfer(
    mixture: Spectrum,
    instrumental: Spectrum,
    *,
    passes: int = 6,
    smooth_bins: int = 5,
    smooth_frames: int = 11,
    floor: float = 1e-3,
) -> Transfer:
    """Fit ``mixture = level(t) * response(f) @ instrumental + error`` robustly.

    Parameters
    ----------
    mixture, instrumental : np.ndarray [shape=(channels, bins, frames), complex64]
        STFTs of the aligned signals; the channel counts may differ.
    passes : int > 0
        Reweighting passes; six converge to 0.1 dB of the residual.
    smooth_bins : int > 0, odd
        The response is shared by this many neighbouring bins.
    smooth_frames : int > 0, odd
        The level is shared by this many neighbouring frames (about 0.5 s keeps it from following the vocals).
    floor : float > 0
        Error power, relative to the accompaniment's, below which an error no longer gains weight.

    Returns
    -------
    Transfer

    Raises
    ------
    ValueError
        If bins or frames differ.
    """
    if mixture.shape[1:] != instrumental.shape[1:]:
        raise ValueError(f"mixture {mixture.shape} and instrumental {instrumental.shape} differ in bins or frames")
    x = np.ascontiguousarray(mixture.transpose(1, 0, 2))
    y = np.ascontiguousarray(instrumental.transpose(1, 0, 2))
    y_adjoint = np.conj(y).transpose(0, 2, 1)
    channels = x.shape[1]
    level: Floats = np.ones(x.shape[2], np.float32)
    # 120 dB below the mean bin nothing has weight: digital silence must not divide by nothing
    tiny = np.float32(1e-12 * (power(x).mean() + power(y).mean()) + 1e-30)
    weight = 1 / (power(x) + power(y).mean(axis=1, keepdims=True) + tiny)
    response = np.zeros((x.shape[0], channels, y.shape[1]), np.complex64)
    precision = np.zeros(x.shape[:2], np.float32)
    for _ in range(max(1, passes)):
        for channel in range(channels):
            weighted = weight[:, channel] * level
            cross = (weighted * x[:, channel])[:, None] @ y_adjoint
            gram = (y * (weighted * level)[:, None]) @ y_adjoint
            response[:, channel] = _solve(_share(cross, smooth_bins)[:, 0], _share(gram, smooth_bins))
        modelled = response @ y
        modelled_power = power(modelled)
        error_power = power(x - level * modelled)
        # over all channels: where one cancels, a single frame must not outweigh the rest
        floor_power = np.float32(floor) * level**2 * modelled_power.mean(axis=1, keepdims=True)
        weight = 1 / (error_power + floor_power + tiny)
        top = np.einsum("fct,fct->t", weight, x.real * modelled.real + x.imag * modelled.imag)
        bottom = np.einsum("fct,fct->t", weight, modelled_power)
        gain = _share(top, smooth_frames) / (_share(bottom, smooth_frames) + _TINY)
        # silence under the instrumental must not become a gain without bound
        level = np.clip(gain, 0, _MAX_LEVEL).astype(np.float32)
        precision = np.einsum("fct,fct,t->fc", weight, modelled_power, level**2)
    return Transfer(response, level, precision)


def _solve(cross: Spectrum, gram: Spectrum) -> Spectrum:
    """Row ``h`` of the response with ``h @ gram = cross``, for every bin; gram is Hermitian, lightly ridged."""
    diagonal = np.einsum("fdd->fd", gram).real
    ridge = _RIDGE * diagonal.mean(axis=1) + _FAINT * diagonal.mean() + _TINY
    loaded = gram + ridge[:, None, None] * np.eye(gram.shape[1], dtype=np.float32)
    solved: Spectrum
    if gram.shape[1] == 1:
        solved = cross / loaded[:, 0]
    else:
        solved = np.linalg.solve(loaded.transpose(0, 2, 1), cross[:, :, None])[:, :, 0]
    return solved


def _share(values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """Moving average along the first axis."""
    if width <= 1:
        return values
    shared: npt.NDArray[Any] = scipy.ndimage.uniform_filter1d(values, width, axis=0, mode="nearest")
    return shared


def stft(audio: npt.NDArray[np.float32], n_fft: int, hop_frames: int) -> Spectrum:
    """Hann STFT without padding, ``(channels, n_fft // 2 + 1, frames)``, for measuring (not for resynthesis).

    Frame ``k`` covers samples ``k * hop_frames ... k * hop_frames + n_fft``; what is left of the last frame is
    not seen.
    """
    if audio.shape[-1] < n_fft:
        raise ValueError(f"audio has {audio.shape[-1]} frames, fewer than n_fft {n_fft}")
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, n_fft, axis=-1)[..., ::hop_frames, :]
    spectrum = scipy.fft.rfft(frames * window, axis=-1)
    return np.moveaxis(spectrum, -1, -2).astype(np.complex64, copy=False)
