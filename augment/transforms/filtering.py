"""The random band-stop filter of the singing-voice study.

The response is ``1 - exp(-(f - mu)^2 / (2 sigma^2))``: nothing passes at `mu`, all passes far from it. On
waveforms it is a symmetric filter, which delays nothing, with this response at the bins of a transform of 2048
frames (those of the study's spectrograms).

References
----------
L. Pretet, R. Hennequin, J. Royo-Letelier, A. Vaglio, "Singing voice separation: a study on training data", ICASSP
2019, section 4.1; after J. Schlueter, T. Grill, "Exploring data augmentation for improved singing voice detection
with neural networks", ISMIR 2015.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from augment.distributions import draw_uniform
from augment.transforms.convolution import convolve_centered, zero_phase_filter
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Filter", "band_stop_response", "band_stop_taps"]

_SIZE = 2048

Floats = npt.NDArray[np.float64]


class Filter(Rule):
    """Take out a band of the shape of a bell, the same of all targets."""

    center_hz: Annotated[Range, within(0)] = (0.0, 4410.0)
    """Middle of the bell, drawn uniformly: mu."""

    width_hz: Annotated[Range, within(1)] = (500.0, 1000.0)
    """Standard deviation of the bell, drawn uniformly: sigma."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `center_hz` and `width_hz`."""
        return {"center_hz": draw_uniform(rng, self.center_hz), "width_hz": draw_uniform(rng, self.width_hz)}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, center_hz: float, width_hz: float) -> Stack:
        """Filter without delay."""
        return convolve_centered(stack, band_stop_taps(sample_rate, center_hz, width_hz))


def band_stop_response(frequencies_hz: npt.NDArray[np.floating], center_hz: float, width_hz: float) -> Floats:
    """The study's response: ``1 - exp(-(f - mu)^2 / (2 sigma^2))``.

    Parameters
    ----------
    frequencies_hz : np.ndarray
    center_hz, width_hz : float
        `mu` and `sigma`.

    Returns
    -------
    np.ndarray of float64 [shape=frequencies_hz.shape]
        0 to 1.
    """
    return np.asarray(-np.expm1(-((frequencies_hz - center_hz) ** 2) / (2.0 * width_hz**2)))


def band_stop_taps(sample_rate: int, center_hz: float, width_hz: float) -> Floats:
    """Taps of the symmetric filter with the study's response.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    center_hz, width_hz : float
        `mu` and `sigma`.

    Returns
    -------
    np.ndarray of float64 [shape=(2049,)]
        The middle tap is time 0.
    """
    frequencies_hz = np.fft.rfftfreq(_SIZE, 1.0 / sample_rate)
    return zero_phase_filter(band_stop_response(frequencies_hz, center_hz, width_hz))
