"""Stretch and shift of the singing-voice study, on waveforms.

The study scales the axes of magnitude spectrograms (`augment.transforms.spectrogram` does that alone). Here
magnitudes are scaled the same way, by linear interpolation, and a phase vocoder makes the phases, so that there
is audio to train any network with. Spectrograms are of 2048 frames every 512, with a Hann window before and after.

- stretch by `factor`: what is `d` frames from the middle moves to ``factor * d``; more than 1 is longer and slower.
  ``num_frames`` frames need ``ceil(num_frames / factor)``; all of the input is used, with its middle in the middle.
- shift by `factor`: what is at f Hz moves to ``factor * f``; 0 Hz stays, what passes half the sample rate is
  lost. More than 1 is higher. The envelope moves with the pitch.

Between two spectra a bin's phase advances by what all channels of a target show together, the angle of ``sum_c
X_c[n+1] conj(X_c[n])``. Stretching repeats or skips such advances, shifting multiplies them by the factor; what
that adds to the input's phases is followed along the peaks of the spectrum and is the same for all bins around a
peak (identity phase locking), so that partials stay whole, also where they begin or glide. Each channel keeps its
own phase besides: the stereo image stays. As vocoders do, this blurs attacks over a window (46 ms at 44.1 kHz).

References
----------
L. Pretet, R. Hennequin, J. Royo-Letelier, A. Vaglio, "Singing voice separation: a study on training data", ICASSP
2019, section 4.1. Phase vocoder: J. L. Flanagan, R. M. Golden, Bell System Technical Journal 45, 1966; J. Laroche,
M. Dolson, "Improved phase vocoder time-scale modification of audio", IEEE TSAP 7(3), 1999.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage
import scipy.signal

from augment.distributions import draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Shift", "Stretch"]

_SIZE = 2048
_HOP = 512
_OVERLAP = _SIZE // _HOP
_SMALLEST = 1e-30

Audio = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Spectra = npt.NDArray[np.complex64]


class Stretch(Rule):
    """Make it longer and slower (above 1) or shorter and faster, at the same pitch."""

    factor: Annotated[Range, within(0.25, 4)] = (0.7, 1.3)
    """Drawn uniformly; 1 changes nothing."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `factor`."""
        return {"factor": draw_uniform(rng, self.factor)}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, factor: float) -> Stack:
        """Stretch all that comes in: ``floor(frames * factor)`` frames go out, at least 1."""
        num_frames = max(1, math.floor(stack.shape[-1] * factor + 1e-9))
        return np.stack([_stretched(audio, num_frames, factor) for audio in stack])

    @staticmethod
    def input_frames(num_frames: int, *, factor: float) -> int:
        """Frames that are stretched to `num_frames` or up to `factor` more."""
        return max(1, math.ceil(num_frames / factor - 1e-9))


class Shift(Rule):
    """Move all frequencies up (above 1) or down, at the same speed."""

    factor: Annotated[Range, within(0.25, 4)] = (0.7, 1.3)
    """Drawn uniformly; 1 changes nothing."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `factor`."""
        return {"factor": draw_uniform(rng, self.factor)}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, factor: float) -> Stack:
        """Shift; the length stays."""
        return np.stack([_shifted(audio, factor) for audio in stack])


def _stretched(audio: Audio, num_frames: int, factor: float) -> Audio:
    spectra = _spectra(audio)
    count = spectra.shape[1]
    reach = _reach(num_frames)
    places = count // 2 + np.arange(-reach, reach + 1) / factor
    low = np.clip(np.floor(places).astype(np.intp), 0, count - 1)
    nearest = np.clip(np.round(places).astype(np.intp), 0, count - 1)
    advances = _advances(spectra)
    elapsed = np.concatenate([np.zeros((1, advances.shape[1])), np.cumsum(advances[:-1], axis=0)])
    added = advances[low[:-1]] - np.diff(elapsed[nearest], axis=0)
    turns = _turns(added, _peaks(spectra)[nearest])
    magnitudes = np.swapaxes(_interpolated(np.swapaxes(np.abs(spectra), 1, 2), places), 1, 2)
    return _audio(magnitudes * _unit(spectra[:, nearest]) * turns, num_frames)


def _shifted(audio: Audio, factor: float) -> Audio:
    spectra = _spectra(audio)
    bins = spectra.shape[2]
    places = np.arange(bins) / factor
    nearest = np.minimum(np.round(places).astype(np.intp), bins - 1)
    turns = _turns((factor - 1.0) * _advances(spectra)[:-1], _peaks(spectra))
    magnitudes = _interpolated(np.abs(spectra), places)
    return _audio(magnitudes * _unit(spectra[:, :, nearest]) * turns[:, nearest], audio.shape[-1])


def _advances(spectra: Spectra) -> Floats:
    """Unwrapped phase from each spectrum to the next, shape ``(spectra, bins)``; the last one is as of silence."""
    expected = (2.0 * math.pi * _HOP / _SIZE) * np.arange(spectra.shape[2])
    crossed = np.sum(spectra[:, 1:] * np.conj(spectra[:, :-1]), axis=0)
    advances = np.tile(expected, (spectra.shape[1], 1))
    advances[:-1] += np.angle(crossed * np.exp(-1j * expected))
    return advances


def _peaks(spectra: Spectra) -> Ints:
    """For each bin the nearest one that is louder than two neighbours on both sides, shape ``(spectra, bins)``."""
    power = np.sum(np.square(np.abs(spectra)), axis=0)
    bins = np.arange(power.shape[1])
    is_peak = (power > 0.0) & (power == scipy.ndimage.maximum_filter1d(power, 5, axis=1))
    far = 2 * len(bins)
    below = np.maximum.accumulate(np.where(is_peak, bins, -far), axis=1)
    above = np.minimum.accumulate(np.where(is_peak, bins, far)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.where(bins - below <= above - bins, below, above)
    # In silence each bin is for itself.
    return np.asarray(np.where(is_peak.any(axis=1, keepdims=True), nearest, bins), np.intp)


def _turns(added: Floats, peaks: Ints) -> Spectra:
    """Factors of modulus 1, shape ``(spectra, bins)``, whose phase grows by `added` along the peaks."""
    phases = np.zeros(peaks.shape)
    # Each spectrum follows from the one before it: a loop over a hundred a second.
    for number in range(1, len(phases)):
        phases[number] = (phases[number - 1] + added[number - 1])[peaks[number]]
    return np.asarray(np.exp(1j * phases), np.complex64)


def _interpolated(values: Audio, places: Floats) -> Audio:
    """Values between the elements of the last axis; 0 beyond its ends."""
    count = values.shape[-1]
    low = np.floor(places).astype(np.intp)
    shares = (places - low).astype(np.float32)
    inside = (low >= 0) & (places <= count - 1)
    first = np.clip(low, 0, count - 1)
    between = values[..., first] * (1.0 - shares) + values[..., np.minimum(first + 1, count - 1)] * shares
    return np.asarray(between * inside, np.float32)


def _unit(spectra: Spectra) -> Spectra:
    magnitudes = np.abs(spectra)
    silent = magnitudes < _SMALLEST  # a filter's tail decays into numbers that nothing can be divided by
    return np.asarray(np.where(silent, 1.0, spectra / np.where(silent, 1.0, magnitudes)), np.complex64)


def _window() -> Audio:
    # The squares of periodic Hann windows every quarter of their length sum to 3/2.
    return (scipy.signal.windows.hann(_SIZE, sym=False) / math.sqrt(1.5)).astype(np.float32)


def _reach(num_frames: int) -> int:
    """Spectra on each side of the middle one, so that every frame is in as many windows as any other."""
    return math.ceil((num_frames // 2 + _SIZE) / _HOP)


def _spectra(audio: Audio) -> Spectra:
    """Spectra around the frame ``frames // 2``, shape ``(channels, spectra, bins)``.

    Phases count from the middle of each window, so that the bins of one sinusoid have one phase.
    """
    num_frames = audio.shape[-1]
    before = _reach(num_frames) * _HOP + _SIZE // 2 - num_frames // 2
    after = _reach(num_frames) * _HOP + _SIZE // 2 - (num_frames - num_frames // 2)
    padded = np.pad(audio, ((0, 0), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SIZE, axis=-1)[:, ::_HOP]
    spectra = scipy.fft.rfft(windows * _window(), axis=-1)
    spectra[..., 1::2] *= -1.0
    return np.asarray(spectra, np.complex64)


def _audio(spectra: Spectra, num_frames: int) -> Audio:
    """Audio of spectra around its middle frame, shape ``(channels, num_frames)``."""
    channels, count, _ = spectra.shape
    spectra[..., 1::2] *= -1.0
    blocks = scipy.fft.irfft(spectra, _SIZE, axis=-1) * _window()
    quarters = blocks.reshape(channels, count, _OVERLAP, _HOP)
    added = np.zeros((channels, count + _OVERLAP - 1, _HOP), np.float32)
    for part in range(_OVERLAP):
        added[:, part : part + count] += quarters[:, :, part]
    start = (count // 2) * _HOP + _SIZE // 2 - num_frames // 2
    return np.ascontiguousarray(added.reshape(channels, -1)[:, start : start + num_frames])
