"""A look-ahead peak limiter on the sum of the targets; all targets share its gain.

The reduction that each frame needs (1 minus the gain that brings it to the threshold) is held for the look-ahead
before it, falls exponentially after it, and is smoothed by a window as long as the look-ahead. Each smoothed
value is an average of values that are all at least what the frame needs, so that the sum never passes the
threshold. The release is ``max over s <= t of r(s) exp(-(t - s) / release)``, which is a running maximum of ``log
r(s) + s / release``: no loop over frames.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.signal
from pydantic import Field

from augment.distributions import draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Limiter", "limiter_gain"]

# Targets are rounded one by one; their sum must not round up past the threshold.
_MARGIN = 1.0 - 1e-6

Floats = npt.NDArray[np.float64]


class Limiter(Rule):
    """Keep the sum's peaks below a threshold."""

    threshold_db: Annotated[Range, within(-96, 24)] = (-1.0, -1.0)
    """In dB of full scale, drawn uniformly."""

    release_s: Annotated[Range, within(0.001, 10)] = (0.05, 0.2)
    """Time in which the reduction falls to 1/e, drawn uniformly."""

    look_ahead_s: Annotated[float, Field(ge=0, le=0.1)] = 0.005
    """Time before a peak in which the gain goes down."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `threshold_db` and `release_s`."""
        return {
            "threshold_db": draw_uniform(rng, self.threshold_db),
            "release_s": draw_uniform(rng, self.release_s),
            "look_ahead_s": self.look_ahead_s,
        }

    @staticmethod
    def apply(
        stack: Stack, sample_rate: int, *, threshold_db: float, release_s: float, look_ahead_s: float
    ) -> Stack:
        """Multiply all targets, in place, by the gain that limits their sum."""
        peaks = np.abs(stack.sum(axis=0, dtype=np.float64)).max(axis=0)
        threshold = 10.0 ** (threshold_db / 20.0)
        if float(peaks.max(initial=0.0)) <= threshold:
            return stack
        gain = limiter_gain(peaks, threshold, release_s * sample_rate, round(look_ahead_s * sample_rate))
        return np.multiply(stack, gain.astype(np.float32), out=stack)


def limiter_gain(peaks: Floats, threshold: float, release_frames: float, look_ahead_frames: int) -> Floats:
    """Gain curve that keeps a signal below a threshold.

    Parameters
    ----------
    peaks : np.ndarray of float64 [shape=(frames,)]
        Largest magnitude of each frame over the channels.
    threshold : float
        Above 0; a factor, not dB.
    release_frames : float
        Above 0.
    look_ahead_frames : int
        At least 0; how long before a peak the gain begins to fall.

    Returns
    -------
    np.ndarray of float64 [shape=(frames,)]
        Above 0, at most 1; ``peaks * gain <= threshold``.
    """
    ceilings = threshold * _MARGIN / np.maximum(peaks, threshold * _MARGIN)
    needed = np.pad(1.0 - ceilings, (look_ahead_frames, 0))
    size = look_ahead_frames + 1
    held = scipy.ndimage.maximum_filter1d(needed, size, mode="constant", cval=0.0, origin=-(size // 2))
    slope = np.arange(len(held)) / release_frames
    with np.errstate(divide="ignore"):
        falling = np.exp(np.maximum.accumulate(np.log(held) + slope) - slope)
    window = scipy.signal.windows.hann(size + 2)[1:-1]
    smooth = scipy.signal.oaconvolve(falling, window / window.sum(), mode="valid")
    return np.asarray(np.minimum(1.0 - smooth, ceilings))
