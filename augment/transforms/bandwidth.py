"""Narrower bands: a low pass as from a lower sample rate, a high pass as over a telephone.

Both are windowed sincs (Kaiser, 80 dB), symmetric in time: they delay nothing. The low pass falls within the last
tenth below its cutoff, as a converter to twice that sample rate would; the high pass rises between half its
cutoff and it.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import scipy.signal

from augment.distributions import draw_log_uniform
from augment.transforms.convolution import convolve_centered
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Bandwidth", "band_taps"]

_STOP_DB = 80.0

Floats = npt.NDArray[np.float64]


class Bandwidth(Rule):
    """Take away the highest frequencies, and the lowest if asked to."""

    cutoff_hz: Annotated[Range, within(50)] = (3500.0, 16000.0)
    """Nothing above it is left; log-uniform. Above half the sample rate nothing changes."""

    high_pass_hz: Annotated[Range, within(10)] | None = None
    """All above it stays, nothing below its half does; log-uniform. None: no high pass."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `cutoff_hz`, and `high_pass_hz` if there is one."""
        drawn = {"cutoff_hz": draw_log_uniform(rng, self.cutoff_hz)}
        if self.high_pass_hz is not None:
            drawn["high_pass_hz"] = draw_log_uniform(rng, self.high_pass_hz)
        return drawn

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, cutoff_hz: float, high_pass_hz: float | None = None) -> Stack:
        """Filter without delay."""
        if cutoff_hz < sample_rate / 2.0:
            stack = convolve_centered(stack, band_taps(sample_rate, 0.9 * cutoff_hz, cutoff_hz))
        if high_pass_hz is not None:
            low = band_taps(sample_rate, 0.5 * high_pass_hz, min(high_pass_hz, 0.5 * sample_rate))
            low = -low
            low[len(low) // 2] += 1.0
            stack = convolve_centered(stack, low)
        return stack


def band_taps(sample_rate: int, pass_hz: float, stop_hz: float) -> Floats:
    """Taps of a symmetric low pass.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    pass_hz, stop_hz : float
        All below the first passes, all above the second is 80 dB lower; the second is at most half the sample rate.

    Returns
    -------
    np.ndarray of float64 [shape=(taps,)]
        An odd number; the middle tap is time 0.
    """
    count, beta = scipy.signal.kaiserord(_STOP_DB, (stop_hz - pass_hz) / (0.5 * sample_rate))
    middle_hz = min(0.5 * (pass_hz + stop_hz), 0.4999 * sample_rate)
    return np.asarray(scipy.signal.firwin(count | 1, middle_hz, window=("kaiser", beta), fs=sample_rate))
