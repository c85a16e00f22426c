"""From mono to stereo, and stereo made wider or narrower.

Every method keeps the mean power of the channels (what a meter that averages channels reads): a plain copy to
both sides does, so does the constant-power pan ``gL^2 + gR^2 = 2``, the all-pass pair, the room whose filters
have unit energy, and ``M/S`` gains with ``gM^2 + gS^2 = 2``. So a mono effect comes out as loud as its plain
stereo copy.

The avenue is the one left open by S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track",
TISMIR 7(1), 2024: Divide and Remaster is mono, the challenge's films are stereo.

`decorrelate` filters left and right by ``exp(+j phi / 2)`` and ``exp(-j phi / 2)``: all-pass filters whose sum is
``2 cos(phi / 2)``. The phase difference `phi` swings smoothly over frequency between +-`spread_degrees` (at most
150), so that a downmix never dips deeper than ``20 log10(cos(spread / 2))`` (-6 dB at the default's upper end,
120). It vanishes towards 0 Hz: the bass stays in the middle. After M. R. Schroeder, "An artificial stereophonic
effect obtained from a single audio signal", JAES 6(2), 1958, with phases in place of combs.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from augment.distributions import draw_uniform
from augment.transforms.convolution import convolve, convolve_centered, zero_phase_filter
from augment.transforms.rule import Range, Rule, Scene, Stack, draw_seed, within

__all__ = ["MonoToStereo", "decorrelating_pair", "pan_gains", "room_pair"]

Method = Literal["plain", "pan", "decorrelate", "room", "width"]

_PAIR_SIZE = 4096
_BASS_HZ = 150.0
_SWING_S = (0.001, 0.004)
_ROOM_REFLECTIONS = 24
_SOUND_M_PER_S = 343.0

Floats = npt.NDArray[np.float64]


class MonoToStereo(Rule):
    """Make stereo of mono by a method that is drawn. Stereo takes `width` only, unless both sides are equal."""

    methods: dict[Method, Annotated[float, Field(ge=0)]] = Field(
        default={"plain": 1.0, "pan": 1.0, "decorrelate": 1.0, "room": 1.0}
    )
    """How often each is drawn, relative to the others. `width` is drawn for stereo only, and there the rest leaves
    alone what is not the same on both sides."""

    position: Annotated[Range, within(-1, 1)] = (-0.8, 0.8)
    """pan: -1 is left, 0 the middle, 1 right; drawn uniformly."""

    spread_degrees: Annotated[Range, within(0, 150)] = (60.0, 120.0)
    """decorrelate: largest phase difference between the sides, drawn uniformly."""

    size_m: Annotated[Range, within(1, 20)] = (2.0, 8.0)
    """room: about how far its walls are apart, drawn uniformly."""

    wet_db: Range = (-10.0, -3.0)
    """room: energy of the reflections over that of the direct sound, drawn uniformly."""

    width: Annotated[Range, within(0, 4)] = (0.3, 1.7)
    """width: gain of the side over that of the middle; 0 is mono, 1 changes nothing. Drawn uniformly."""

    @model_validator(mode="after")
    def _refuse_no_method(self) -> Self:
        if not sum(self.methods.values()) > 0:
            raise ValueError("methods: all weigh 0; give one of them a weight above 0")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `method` and what it needs."""
        weights = {method: weight for method, weight in self.methods.items() if weight > 0}
        if scene.channels == 1 and len(weights) > 1:
            weights.pop("width", None)
        shares = np.array(list(weights.values()))
        method = list(weights)[int(rng.choice(len(weights), p=shares / shares.sum()))]
        drawn: dict[Method, dict[str, Any]] = {
            "plain": {},
            "pan": {"position": draw_uniform(rng, self.position)},
            "decorrelate": {"spread_degrees": draw_uniform(rng, self.spread_degrees), "seed": draw_seed(rng)},
            "room": {
                "size_m": draw_uniform(rng, self.size_m),
                "wet_db": draw_uniform(rng, self.wet_db),
                "seed": draw_seed(rng),
            },
            "width": {"width": draw_uniform(rng, self.width)},
        }
        return {"method": method, **drawn[method]}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, method: Method, **settings: float) -> Stack:
        """Make two channels of one.

        Parameters
        ----------
        stack : np.ndarray of float32 [shape=(targets, channels, frames)]
            Mono becomes stereo; stereo stays it; more channels are left alone.
        sample_rate : int
            In Hz.
        method : str
        **settings
            What the method needs.

        Returns
        -------
        np.ndarray of float32 [shape=(targets, max(2, channels), frames)]
        """
        channels = stack.shape[1]
        if channels > 2:
            return stack
        if method == "width":
            return _widened(stack, settings["width"]) if channels == 2 else np.repeat(stack, 2, axis=1)
        if channels == 2 and not np.array_equal(stack[:, 0], stack[:, 1]):
            return stack
        mono = stack[:, :1]
        if method == "pan":
            return mono * pan_gains(settings["position"]).astype(np.float32)[:, None]
        if method == "decorrelate":
            pair = decorrelating_pair(sample_rate, settings["spread_degrees"], int(settings["seed"]))
            return convolve_centered(np.repeat(mono, 2, axis=1), pair)
        if method == "room":
            pair = room_pair(sample_rate, settings["size_m"], settings["wet_db"], int(settings["seed"]))
            return convolve(np.repeat(mono, 2, axis=1), pair, 0)
        return np.repeat(mono, 2, axis=1)

    @staticmethod
    def output_channels(channels: int, **parameters: Any) -> int:
        """Two for mono, otherwise as many as come in."""
        return max(channels, 2)


def _widened(stack: Stack, width: float) -> Stack:
    middle_gain = math.sqrt(2.0 / (1.0 + width**2))
    middle = np.float32(0.5 * middle_gain) * (stack[:, 0] + stack[:, 1])
    side = np.float32(0.5 * middle_gain * width) * (stack[:, 0] - stack[:, 1])
    return np.stack([middle + side, middle - side], axis=1)


def pan_gains(position: float) -> Floats:
    """Gains of left and right at constant power.

    Parameters
    ----------
    position : float
        -1 (left) to 1 (right).

    Returns
    -------
    np.ndarray of float64 [shape=(2,)]
        Their squares sum to 2.

    Examples
    --------
    >>> pan_gains(0.0).round(6), pan_gains(-1.0).round(6)
    (array([1., 1.]), array([1.414214, 0.      ]))
    """
    angle = (position + 1.0) * math.pi / 4.0
    return math.sqrt(2.0) * np.array([math.cos(angle), max(0.0, math.sin(angle))])


def decorrelating_pair(sample_rate: int, spread_degrees: float, seed: int) -> Floats:
    """All-pass filters for left and right whose phases differ by up to `spread_degrees`.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    spread_degrees : float
        0 to 150.
    seed : int
        Of the way in which the difference swings over frequency.

    Returns
    -------
    np.ndarray of float64 [shape=(2, 4097)]
        The middle tap is time 0.
    """
    rng = np.random.default_rng(seed)
    frequencies_hz = np.fft.rfftfreq(_PAIR_SIZE, 1.0 / sample_rate)
    # The swing's rate is a time: the filters ring about that long, before and after.
    knots_hz = np.linspace(0.0, sample_rate / 2.0, 24)
    rates_s = np.interp(frequencies_hz, knots_hz, rng.uniform(*_SWING_S, len(knots_hz)))
    swing = np.cumsum(rates_s) * frequencies_hz[1] * 2.0 * math.pi + rng.uniform(0.0, 2.0 * math.pi)
    bass = frequencies_hz**2 / (frequencies_hz**2 + _BASS_HZ**2)
    difference = math.radians(spread_degrees) * bass * np.sin(swing)
    # A real filter's phase at half the sample rate is 0.
    difference *= np.minimum(1.0, (len(frequencies_hz) - 1 - np.arange(len(frequencies_hz))) / 64.0)
    return zero_phase_filter(np.exp(0.5j * np.stack([difference, -difference])))


def room_pair(sample_rate: int, size_m: float, wet_db: float, seed: int) -> Floats:
    """Direct sound and the early reflections of a small room, with another pattern on each side.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    size_m : float
        About how far the walls are apart.
    wet_db : float
        Energy of the reflections over that of the direct sound.
    seed : int
        Of the patterns.

    Returns
    -------
    np.ndarray of float64 [shape=(2, taps)]
        Each of unit energy; the direct sound is at frame 0.
    """
    rng = np.random.default_rng(seed)
    crossing_s = size_m / _SOUND_M_PER_S
    delays_s = crossing_s * (0.3 + 4.0 * rng.random((2, _ROOM_REFLECTIONS)))
    levels = rng.choice([-1.0, 1.0], delays_s.shape) * 10.0 ** (-delays_s / crossing_s * 3.0 / 20.0)
    pair = np.zeros((2, 2 + int(4.3 * crossing_s * sample_rate)))
    np.add.at(pair, (np.arange(2)[:, None], 1 + np.floor(delays_s * sample_rate).astype(int)), levels)
    pair *= 10.0 ** (wet_db / 20.0) / np.sqrt(np.sum(pair**2, axis=1, keepdims=True))
    pair[:, 0] = 1.0
    return np.asarray(pair / np.sqrt(np.sum(pair**2, axis=1, keepdims=True)))
