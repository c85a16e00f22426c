"""A random equalizer: a few peaks and shelves in a row.

References
----------
R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients" (W3C Working Group Note,
2021): peaking EQ, low shelf, high shelf.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.signal
from pydantic import Field

from augment.distributions import draw_log_uniform, draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Equalizer", "biquad"]

Kind = Literal["peak", "low_shelf", "high_shelf"]
_KINDS: tuple[Kind, ...] = ("peak", "low_shelf", "high_shelf")

Floats = npt.NDArray[np.float64]


class Equalizer(Rule):
    """Raise and lower bands of the spectrum."""

    min_bands: Annotated[int, Field(ge=1, le=32)] = 1
    """The fewest bands."""

    max_bands: Annotated[int, Field(ge=1, le=32)] = 4
    """A whole number up to this, at least `min_bands`."""

    center_hz: Annotated[Range, within(10)] = (80.0, 12000.0)
    """Log-uniform; never above 0.45 times the sample rate."""

    gain_db: Annotated[Range, within(-60, 60)] = (-6.0, 6.0)
    """Of each band, drawn uniformly."""

    quality: Annotated[Range, within(0.1, 100)] = (0.5, 2.0)
    """Q, log-uniform."""

    shelves: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the bands that are shelves, low and high alike."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `bands`, each with `kind`, `center_hz`, `gain_db` and `quality`."""
        count = int(rng.integers(self.min_bands, max(self.min_bands, self.max_bands) + 1))
        highest_hz = 0.45 * scene.sample_rate
        shares = [1.0 - self.shelves, self.shelves / 2.0, self.shelves / 2.0]
        return {
            "bands": [
                {
                    "kind": _KINDS[int(rng.choice(3, p=shares))],
                    "center_hz": min(draw_log_uniform(rng, self.center_hz), highest_hz),
                    "gain_db": draw_uniform(rng, self.gain_db),
                    "quality": draw_log_uniform(rng, self.quality),
                }
                for _ in range(count)
            ]
        }

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, bands: Sequence[Mapping[str, Any]]) -> Stack:
        """Filter, from rest."""
        if not bands:
            return stack
        sections = np.stack([biquad(sample_rate, **band) for band in bands])
        return np.asarray(scipy.signal.sosfilt(sections, stack, axis=-1), np.float32)


def biquad(sample_rate: int, kind: Kind, center_hz: float, gain_db: float, quality: float) -> Floats:
    """One band as a second-order section.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    kind : {'peak', 'low_shelf', 'high_shelf'}
    center_hz : float
        Middle of a peak; where a shelf has half its gain in dB. Below half the sample rate.
    gain_db : float
    quality : float
        Q, above 0.

    Returns
    -------
    np.ndarray of float64 [shape=(6,)]
        ``b0, b1, b2, 1, a1, a2``.
    """
    amplitude = 10.0 ** (gain_db / 40.0)
    omega = 2.0 * math.pi * center_hz / sample_rate
    cosine, alpha = math.cos(omega), math.sin(omega) / (2.0 * quality)
    if kind == "peak":
        b = [1.0 + alpha * amplitude, -2.0 * cosine, 1.0 - alpha * amplitude]
        a = [1.0 + alpha / amplitude, -2.0 * cosine, 1.0 - alpha / amplitude]
    else:
        # A high shelf is a low shelf with the frequency axis turned over: cos changes its sign.
        sign = 1.0 if kind == "low_shelf" else -1.0
        up, down, bend = amplitude + 1.0, amplitude - 1.0, 2.0 * math.sqrt(amplitude) * alpha
        turned = sign * cosine
        b = [
            amplitude * (up - down * turned + bend),
            2.0 * sign * amplitude * (down - up * turned),
            amplitude * (up - down * turned - bend),
        ]
        a = [up + down * turned + bend, -2.0 * sign * (down + up * turned), up + down * turned - bend]
    return np.asarray(np.array([*b, *a]) / a[0])
