"""Convolving a stack with filters, and filters without delay that have a given response."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from augment.transforms.rule import Stack

__all__ = ["convolve", "convolve_centered", "zero_phase_filter"]

Floats = npt.NDArray[np.float64]


def convolve(stack: Stack, taps: npt.NDArray[np.floating], first: int) -> Stack:
    """Convolve with a filter, or with one for each channel; the length stays.

    Parameters
    ----------
    stack : np.ndarray of float32 [shape=(targets, channels, frames)]
    taps : np.ndarray [shape=(taps,) or (channels, taps)]
    first : int
        The tap that is time 0: 0 for a filter that only looks back, the middle for a symmetric one.

    Returns
    -------
    np.ndarray of float32 [shape=(targets, channels, frames)]
    """
    kernels = np.asarray(taps, np.float32)[None] if taps.ndim == 2 else np.asarray(taps, np.float32)[None, None]
    full = scipy.signal.oaconvolve(stack, kernels, mode="full", axes=-1)
    return np.ascontiguousarray(full[..., first : first + stack.shape[-1]], np.float32)


def convolve_centered(stack: Stack, taps: npt.NDArray[np.floating]) -> Stack:
    """Convolve with filters whose middle tap is time 0.

    Parameters
    ----------
    stack : np.ndarray of float32 [shape=(targets, channels, frames)]
    taps : np.ndarray [shape=(taps,) or (channels, taps)]
        An odd number of taps.

    Returns
    -------
    np.ndarray of float32 [shape=(targets, channels, frames)]
    """
    return convolve(stack, taps, taps.shape[-1] // 2)


def zero_phase_filter(response: npt.NDArray[np.number]) -> Floats:
    """Taps of a filter that has the given response at the bins of a transform of even length.

    Parameters
    ----------
    response : np.ndarray [shape=(..., size // 2 + 1)]
        From 0 Hz to half the sample rate; real for a filter that is symmetric in time.

    Returns
    -------
    np.ndarray of float64 [shape=(..., size + 1)]
        The middle tap is time 0.
    """
    size = 2 * (response.shape[-1] - 1)
    taps = np.fft.fftshift(scipy.fft.irfft(response, size, axis=-1), axes=-1)
    # The tap at -size / 2 stands for both ends: halved, it makes the filter symmetric.
    taps = np.concatenate([taps, taps[..., :1]], axis=-1)
    taps[..., [0, -1]] *= 0.5
    return np.asarray(taps, np.float64)
