"""Separations that know the answer, and one that knows nothing: what a separator's figures are held against.

Oracles mask the mixture's spectrum, as most separators do, with masks made of the references; they bound what a
mask of their kind can reach. The masks of a channel are made of that channel alone. Spectra have the window of the
dialogue study: a sine of 43 ms (2064 frames at 48 kHz), half of which overlap.

Conventions
-----------
References have shape ``(sources, channels, frames)`` and are all that is in the mixture [shape=(channels, frames)]:
what they lack must be a source of its own (`with_residual`). Estimates have the references' shape, float32, and sum
to the mixture.

References
----------
- M. Strauss et al., "A Hands-on Comparison of DNNs for Dialog Separation Using Transfer Learning from Music Source
  Separation", Interspeech 2021, section 4.1: the window and the exponent 2 of `ideal_ratio_mask`.
- S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: x / 3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.fft

from manifests.audio import Audio

__all__ = [
    "ORACLES",
    "Oracle",
    "ideal_binary_mask",
    "ideal_ratio_mask",
    "scaled_identity",
    "window_frames",
    "with_residual",
]

_WINDOW_S = 0.043
_BLOCK_COLUMNS = 512
_RESIDUAL = 1e-4
"""The loudest sample that the references may lack: rounding of stems to 16 bits stays below."""

Complex: TypeAlias = npt.NDArray[np.complexfloating]
Floats: TypeAlias = npt.NDArray[np.floating]

Oracle: TypeAlias = Callable[[Audio, Audio, int], Audio]
"""Takes references, mixture and sample rate."""


def ideal_ratio_mask(references: Audio, mixture: Audio, sample_rate: int, *, power: float = 2.0) -> Audio:
    """Give each source its share of what the references have at each place: ``|s_j|^p / sum_k |s_k|^p``.

    Parameters
    ----------
    references : np.ndarray of float32 [shape=(sources, channels, frames)]
    mixture : np.ndarray of float32 [shape=(channels, frames)]
    sample_rate : int
        In Hz.
    power : float > 0
        2 is a Wiener filter, 1 the ratio of magnitudes.

    Returns
    -------
    np.ndarray of float32 [shape=(sources, channels, frames)]
        Where no reference has anything, sources have equal shares of the mixture.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the power is not positive.

    Examples
    --------
    >>> references = np.array([[[0.6, 0.6]], [[0.2, 0.2]]], np.float32)
    >>> ideal_ratio_mask(references, references.sum(axis=0), 100).round(2)
    array([[[0.72, 0.72]],
    <BLANKLINE>
           [[0.08, 0.08]]], dtype=float32)
    """
    if not power > 0.0:
        raise ValueError(f"power is {power}: it must be positive")
    return _masked(references, mixture, sample_rate, functools.partial(_ratios, power=power))


def ideal_binary_mask(references: Audio, mixture: Audio, sample_rate: int) -> Audio:
    """Give each place of the spectrum to the source that is loudest there.

    Parameters
    ----------
    references : np.ndarray of float32 [shape=(sources, channels, frames)]
    mixture : np.ndarray of float32 [shape=(channels, frames)]
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray of float32 [shape=(sources, channels, frames)]
        Of sources that are equally loud, the first has it.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    return _masked(references, mixture, sample_rate, _loudest)


def scaled_identity(references: Audio, mixture: Audio, sample_rate: int) -> Audio:
    """Give each source an equal part of the mixture: ``x / n``.

    Parameters
    ----------
    references : np.ndarray [shape=(sources, channels, frames)]
        Only counted.
    mixture : np.ndarray of float32 [shape=(channels, frames)]
    sample_rate : int
        Not used.

    Returns
    -------
    np.ndarray of float32 [shape=(sources, channels, frames)]

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(references, mixture)
    share = (mixture / len(references)).astype(np.float32)
    return np.repeat(share[None], len(references), axis=0)


ORACLES: Mapping[str, Oracle] = MappingProxyType(
    {
        "ideal ratio mask": ideal_ratio_mask,
        "ideal binary mask": ideal_binary_mask,
        "scaled identity": scaled_identity,
    }
)
"""By the names that tables have them under."""


def with_residual(references: Audio, mixture: Audio) -> Audio:
    """References, and what they lack of the mixture as a last source, where they lack anything.

    Parameters
    ----------
    references : np.ndarray of float32 [shape=(sources, channels, frames)]
    mixture : np.ndarray of float32 [shape=(channels, frames)]

    Returns
    -------
    np.ndarray of float32 [shape=(sources or sources + 1, channels, frames)]

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(references, mixture)
    residual = mixture - references.sum(axis=0)
    if np.abs(residual).max(initial=0.0) <= _RESIDUAL:
        return references
    return np.concatenate([references, residual[None]])


def window_frames(sample_rate: int) -> int:
    """Length of the window: the even number nearest to 43 ms.

    Parameters
    ----------
    sample_rate : int
        In Hz.

    Returns
    -------
    int
        At least 2.
    """
    return max(2, 2 * round(_WINDOW_S * sample_rate / 2))


def _ratios(spectra: Complex, power: float) -> Floats:
    levels = np.abs(spectra)
    # relative to the loudest, so that no power of a small number vanishes
    loudest = levels.max(axis=0)
    shares = np.divide(levels, loudest, out=np.ones_like(levels), where=loudest > 0.0) ** power
    return np.asarray(shares / shares.sum(axis=0))


def _loudest(spectra: Complex) -> Floats:
    winners = np.abs(spectra).argmax(axis=0)
    return np.asarray(np.arange(len(spectra)).reshape(-1, *[1] * winners.ndim) == winners, np.float64)


def _masked(references: Audio, mixture: Audio, sample_rate: int, masks: Callable[[Complex], Floats]) -> Audio:
    """Mask the mixture's spectrum, some columns at a time: spectra of a whole song are many times its size."""
    _check(references, mixture)
    estimates = np.zeros(references.shape, np.float32)
    frames = mixture.shape[1]
    window = np.sin(np.pi * (np.arange(size := window_frames(sample_rate)) + 0.5) / size)
    hop = size // 2
    # column k starts at (k - 1) * hop, so that two cover every frame; the squared sines of the two add up to one
    columns = 1 + -(-frames // hop)
    for first in range(0, columns, _BLOCK_COLUMNS):
        count = min(_BLOCK_COLUMNS, columns - first)
        start = (first - 1) * hop
        spectra = _spectra(references, start, count, window)
        separated = scipy.fft.irfft(masks(spectra) * _spectra(mixture, start, count, window), size) * window
        halves = separated.reshape(*separated.shape[:-1], 2, hop)
        added = np.zeros((*separated.shape[:-2], count + 1, hop))
        added[..., :-1, :] += halves[..., 0, :]
        added[..., 1:, :] += halves[..., 1, :]
        left, right = max(0, start), min(frames, start + (count + 1) * hop)
        whole = added.reshape(*added.shape[:-2], -1)
        estimates[..., left:right] += whole[..., left - start : right - start].astype(np.float32)
    return estimates


def _spectra(audio: Audio, start: int, count: int, window: npt.NDArray[np.float64]) -> Complex:
    """Spectra [shape=(..., columns, bins)] of windows from frame `start` on, which may be before the first."""
    size, hop = len(window), len(window) // 2
    stop = start + (count + 1) * hop
    part = audio[..., max(0, start) : stop].astype(np.float64)
    sides = max(0, -start), max(0, stop - audio.shape[-1])
    padded = np.pad(part, [(0, 0)] * (audio.ndim - 1) + [sides])
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[..., ::hop, :]
    return np.asarray(scipy.fft.rfft(windows * window))


def _check(references: Audio, mixture: Audio) -> None:
    if references.ndim != 3 or len(references) == 0 or references.shape[1:] != mixture.shape:
        raise ValueError(
            f"references have shape {references.shape}, mixture {mixture.shape}; expected "
            "(sources, channels, frames) of at least one source, and (channels, frames)"
        )
