"""Reverberation: rooms made of noise, or impulse responses from a folder.

A synthetic response is the direct sound (1 at frame 0), and after a pre-delay some early reflections and Gaussian
noise that decays by 60 dB in `rt60_s`, other noise in every channel, through a gentle low pass. The energy of
what follows the direct sound is `wet_db` over the direct sound's (minus the direct-to-reverberant ratio). It
follows from the parameters, its seed included.

A response from a file is resampled, brought to unit energy (the mean over its channels) and moved so that its
peak, the direct sound, is at frame 0. Its first channel is used for all channels where their numbers differ.

References
----------
J. A. Moorer, "About this reverberation business", Computer Music Journal 3(2), 1979: late reverberation is
exponentially decaying noise.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import scipy.signal
import soxr

from augment.distributions import draw_log_uniform, draw_uniform
from augment.transforms.convolution import convolve
from augment.transforms.rule import Range, Rule, Scene, Stack, draw_seed, within
from manifests.audio import AUDIO_SUFFIXES, probe, read
from manifests.errors import RecipeError

__all__ = ["Reverb", "measured_response", "room_response", "synthetic_response"]

_EARLY_SHARE = 0.1
_EARLY_COUNT = 12
_EARLY_LEVEL = 0.25
_MAX_RESPONSE_S = 10.0

Floats = npt.NDArray[np.float64]


class Reverb(Rule):
    """Put it into a room; what rings on past the end is cut."""

    rt60_s: Annotated[Range, within(0.05, 10)] = (0.2, 1.2)
    """Time in which the reverberation falls by 60 dB, log-uniform."""

    wet_db: Annotated[Range, within(-60, 30)] = (-20.0, -6.0)
    """Energy of the reverberation over that of the direct sound, drawn uniformly."""

    pre_delay_s: Annotated[Range, within(0, 0.5)] = (0.0, 0.03)
    """Between direct sound and reverberation, drawn uniformly."""

    damping_hz: Annotated[Range, within(100)] = (3000.0, 12000.0)
    """The reverberation falls by 6 dB an octave above it; log-uniform."""

    folder: Path | None = None
    """Impulse responses to draw from (all audio files below it, each as likely) instead of synthetic rooms."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw a synthetic room, or the `path` of a response.

        Raises
        ------
        RecipeError
            If there is no audio file in the folder.
        """
        if self.folder is not None:
            paths = _responses(self.folder)
            return {"path": paths[int(rng.integers(len(paths)))]}
        return {
            "rt60_s": draw_log_uniform(rng, self.rt60_s),
            "wet_db": draw_uniform(rng, self.wet_db),
            "pre_delay_s": draw_uniform(rng, self.pre_delay_s),
            "damping_hz": draw_log_uniform(rng, self.damping_hz),
            "seed": draw_seed(rng),
        }

    @staticmethod
    def apply(stack: Stack, sample_rate: int, **parameters: Any) -> Stack:
        """Convolve with the room's response.

        Raises
        ------
        AudioError
            If a response's file cannot be read.
        """
        taps, first = room_response(sample_rate, stack.shape[1], **parameters)
        return convolve(stack, taps[:, : first + stack.shape[-1]], first)


def room_response(sample_rate: int, channels: int, **parameters: Any) -> tuple[Floats, int]:
    """The response that a step's parameters stand for.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    channels : int
        Of the audio.
    **parameters
        As drawn by `Reverb`.

    Returns
    -------
    taps : np.ndarray of float64 [shape=(channels, taps)]
    first : int
        The tap that is time 0.
    """
    if "path" in parameters:
        taps, first = measured_response(parameters["path"], sample_rate)
        return (taps if len(taps) == channels else np.repeat(taps[:1], channels, axis=0)), first
    return synthetic_response(sample_rate, channels, **parameters), 0


def synthetic_response(
    sample_rate: int,
    channels: int,
    *,
    rt60_s: float,
    wet_db: float,
    pre_delay_s: float,
    damping_hz: float,
    seed: int,
) -> Floats:
    """Direct sound, early reflections and decaying noise.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    channels : int
        Each has noise and reflections of its own.
    rt60_s, wet_db, pre_delay_s, damping_hz : float
        See `Reverb`.
    seed : int
        Of all noise.

    Returns
    -------
    np.ndarray of float64 [shape=(channels, taps)]
        The direct sound is at frame 0 and is 1.
    """
    rng = np.random.default_rng(seed)
    start = 1 + round(pre_delay_s * sample_rate)
    times_s = np.arange(max(2, math.ceil(rt60_s * sample_rate))) / sample_rate
    decay = 10.0 ** (-3.0 * times_s / rt60_s)
    wet = rng.standard_normal((channels, len(times_s)))
    early = max(1, round(_EARLY_SHARE * len(times_s)))
    places = rng.integers(0, early, (channels, _EARLY_COUNT))
    signs = rng.choice([-1.0, 1.0], places.shape)
    # A reflection stands out of the noise, whose energy until then is about its number of frames.
    np.add.at(wet, (np.arange(channels)[:, None], places), _EARLY_LEVEL * math.sqrt(early) * signs)
    wet *= decay
    low_pass = scipy.signal.butter(1, min(damping_hz, 0.45 * sample_rate), fs=sample_rate, output="sos")
    wet = scipy.signal.sosfilt(low_pass, wet, axis=-1)
    wet *= 10.0 ** (wet_db / 20.0) / np.sqrt(np.sum(wet**2, axis=-1, keepdims=True))
    response = np.zeros((channels, start + wet.shape[-1]))
    response[:, 0] = 1.0
    response[:, start:] = wet
    return response


@functools.lru_cache(maxsize=8)
def measured_response(path: str, sample_rate: int) -> tuple[Floats, int]:
    """The response in a file, kept for the next call.

    Parameters
    ----------
    path : str
        An audio file, of which the first 10 s are used.
    sample_rate : int
        To resample to, in Hz.

    Returns
    -------
    taps : np.ndarray of float64 [shape=(channels, taps)]
        The mean energy of the channels is 1.
    first : int
        The frame of the direct sound.

    Raises
    ------
    AudioError
        If the file cannot be read.
    RecipeError
        If it is silent.
    """
    info = probe(Path(path))
    audio, rate = read(Path(path), 0, min(info.num_frames, round(_MAX_RESPONSE_S * info.sample_rate)))
    taps = audio.astype(np.float64)
    if rate != sample_rate:
        taps = np.asarray(soxr.resample(np.ascontiguousarray(taps.T), rate, sample_rate, "VHQ").T)
    energy = float(np.sum(taps**2)) / max(1, len(taps))
    if energy == 0.0:
        raise RecipeError(f"{path}: the impulse response is silent; take it out of the folder")
    return taps / math.sqrt(energy), int(np.argmax(np.abs(taps).max(axis=0)))


@functools.lru_cache(maxsize=32)
def _responses(folder: Path) -> tuple[str, ...]:
    paths = sorted(path.as_posix() for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise RecipeError(f"reverb: folder {folder} holds no audio file; name a folder with impulse responses")
    return tuple(paths)
