"""What a stem measures: level, loudness, silence, clipping, DC offset, and where its spectrum ends.

Conventions
-----------
Audio is float, shape ``(channels, frames)``, full scale +-1. `Measures` says what each measure is; a measure that
does not exist (the bandwidth of silence) is NaN in memory and null in a table. What a signal measures does not
depend on how it was cut into blocks.

Bandwidth
---------
The spectrum is Welch's (Hann window, one frame after the other), in bands of 100 Hz, as the level that a band
exceeds in 1 % of the frames that are not silent: sounds that are rare, such as sibilants and cymbals, count, and
a single click does not. A *cut-off* is a frequency at which this spectrum falls by at least 25 dB within 600 Hz, to
less than -70 dB of full scale (as density: noise of that level over the whole band) and stays there. Filters of
instruments, microphones and equalisers are not that steep: measured were 50 to 90 dB at the cut-offs of codecs
and of resampled signals, and at most 24 dB elsewhere, where few harmonics end. If there is a cut-off, the
bandwidth ends there, halfway down in dB; else where the spectrum falls below what 16 bits with dither can hold
(6 dB above -96 dB).

What a cut-off says: at 44.1 kHz, LAME cuts MP3 of 128 kbit/s at 16.6 to 17.1 kHz, of 192 at 18.7 to 19.2, of 320 at
20.1 to 20.6; Opus cuts at 20; a signal resampled from 8 or 16 kHz ends at 4 or 8. A mixture that has one of these
was not lossless all its life, whatever the file's format, 16 bit or more. A dull recording fades into its noise
instead: it has a low bandwidth and no cut-off. What it cannot say: an encoder that was told not to filter, or AAC
above some 256 kbit/s, leaves no cut-off; music that had nothing left above 14 kHz shows a shallow one or none after
encoding; a dull and noise-free synthetic stem, or a bass whose harmonics end, can show one though nothing has cut
it (judge the mixture, or drums and vocals); and a converter's own filter, between 20 and 22 kHz, is one as well.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: the RMS of a
class.
ITU-R BS.1770-4: loudness, by `manifests.loudness`.
P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", 1967.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from curation.activity import LevelMeter, active_fraction
from manifests.loudness import LoudnessMeter

__all__ = ["FULL_SCALE", "Measures", "StemMeter", "measure"]

FULL_SCALE = 1.0 - 2.0**-15
"""The largest sample of a 16-bit file."""

_CHUNK_FRAMES = 1 << 16
_SILENCE_STEP_S = 0.05
_CLIPPED_RUN = 3

_BAND_HZ = 100.0
_LARGEST_BIN_HZ = 25.0
_SPECTRUM_QUANTILE = 0.99
_SILENT_FRAME = 1e-6
_LOWEST_DB, _NUM_LEVELS = -150, 181
_NOTHING_DB = -90.0
_CUT_DB = 25.0
_CUT_FLOOR_DB = -70.0
_CUT_BANDS = 6
_EDGE_BANDS = 3

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measures:
    """What a stem, or a segment of one, measures.

    Attributes
    ----------
    num_frames, sample_rate, channels : int
    rms : float
        ``sqrt(1/N sum_n ||s(n)||^2)`` over N frames: channels are summed, so stereo copies of a mono signal have
        sqrt(2) times its RMS.
    peak : float
        Largest absolute sample, of any channel.
    loudness_lufs : float
        Integrated, BS.1770-4; at least `manifests.loudness.SILENCE_LUFS`.
    silent_fraction : float
        Share of the time below -60 dBFS (mean power over the channels), in steps of 50 ms; 0 to 1.
    clipped_fraction : float
        Share of the samples that are in runs of at least three at `FULL_SCALE` or beyond, of one sign; 0 to 1.
        Clipping that was turned down afterwards is not seen. A full-scale sine below 55 Hz has such runs too.
    dc_offset : float
        Largest absolute mean of a channel.
    bandwidth_hz : float
        Where the spectrum ends (see the module's text), in steps of 100 Hz; NaN for silence.
    cutoff_hz : float
        `bandwidth_hz` if the spectrum ends at a cut-off, else half the sample rate; NaN for silence.
    """

    num_frames: int
    sample_rate: int
    channels: int
    rms: float
    peak: float
    loudness_lufs: float
    silent_fraction: float
    clipped_fraction: float
    dc_offset: float
    bandwidth_hz: float
    cutoff_hz: float


class StemMeter:
    """Measures of a signal that arrives in blocks of any length, in bounded memory.

    It holds a chunk of audio, half a megabyte of spectral statistics, and 16 bytes per 100 ms.

    Parameters
    ----------
    sample_rate : int
        In Hz, 8,000 to 192,000.
    channels : int
        1 to `manifests.loudness.MAX_CHANNELS`.

    Raises
    ------
    AudioError
        If the rate or the number of channels is outside these ranges.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._loudness = LoudnessMeter(sample_rate, channels)
        self._levels = LevelMeter(sample_rate, channels, round(_SILENCE_STEP_S * sample_rate))
        self._spectrum = _LongTermSpectrum(sample_rate, channels)
        self._sums: Floats = np.zeros(channels)
        self._peak = 0.0
        self._clipped = 0
        # The signs of the last two samples at full scale, and whether the two and the one before are a run.
        self._signs = np.zeros((channels, 2), np.int8)
        self._in_run = np.zeros((channels, 1), np.bool_)

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Measure the next frames.

        Parameters
        ----------
        block : np.ndarray [shape=(channels, frames)]
            Any number of frames, also none.

        Raises
        ------
        ValueError
            If the shape does not fit the meter.
        AudioError
            If the block holds a NaN or an infinity.
        """
        self._loudness.add(block)
        for start in range(0, block.shape[1], _CHUNK_FRAMES):
            chunk = block[:, start : start + _CHUNK_FRAMES]
            self._levels.add(chunk)
            self._spectrum.add(chunk)
            self._sums += chunk.sum(axis=1, dtype=np.float64)
            self._peak = max(self._peak, float(np.abs(chunk).max()))
            self._clipped += self._newly_clipped(chunk)

    @property
    def measures(self) -> Measures:
        """What all frames so far measure.

        Raises
        ------
        ValueError
            If there is none.
        """
        curve = self._levels.curve
        if not curve.num_frames:
            raise ValueError("measures: there is no frame to measure")
        bandwidth, cutoff = self._spectrum.bandwidth_and_cutoff()
        return Measures(
            num_frames=curve.num_frames,
            sample_rate=curve.sample_rate,
            channels=curve.channels,
            rms=math.sqrt(float(curve.energies.sum()) / curve.num_frames),
            peak=self._peak,
            loudness_lufs=self._loudness.integrated_lufs,
            silent_fraction=1.0 - active_fraction(curve),
            clipped_fraction=self._clipped / (curve.num_frames * curve.channels),
            dc_offset=float(np.abs(self._sums).max()) / curve.num_frames,
            bandwidth_hz=bandwidth,
            cutoff_hz=cutoff,
        )

    def _newly_clipped(self, chunk: npt.NDArray[np.floating]) -> int:
        """Samples found to be in clipped runs. A run that is longer than the chunk is counted as it goes on."""
        signs = np.where(chunk >= FULL_SCALE, np.int8(1), np.where(chunk <= -FULL_SCALE, np.int8(-1), np.int8(0)))
        signs = np.concatenate([self._signs, signs], axis=1)
        runs = (signs[:, 2:] != 0) & (signs[:, 2:] == signs[:, 1:-1]) & (signs[:, 2:] == signs[:, :-2])
        starts = runs & ~np.concatenate([self._in_run, runs[:, :-1]], axis=1)
        self._signs, self._in_run = signs[:, -2:], runs[:, -1:]
        # Of a run of n samples, n - 2 have two others before them.
        return int(np.count_nonzero(runs) + (_CLIPPED_RUN - 1) * np.count_nonzero(starts))


def measure(blocks: Iterable[npt.NDArray[np.floating]], sample_rate: int) -> Measures:
    """Measure audio that arrives in blocks.

    Parameters
    ----------
    blocks : iterable of np.ndarray [shape=(channels, frames)]
        Such as those of `manifests.audio.blocks`; at least one frame in all.
    sample_rate : int
        In Hz, 8,000 to 192,000.

    Returns
    -------
    Measures

    Raises
    ------
    ValueError
        If there is no frame, or the blocks' shapes do not fit each other.
    AudioError
        If the rate or the number of channels cannot be measured, or a block holds a NaN or an infinity.

    Examples
    --------
    >>> sine = 0.5 * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(48_000))
    >>> measures = measure([np.stack([sine, sine])], 48_000)
    >>> round(measures.rms, 6), round(measures.peak, 6), measures.dc_offset < 1e-9
    (0.5, 0.5, True)
    """
    meter: StemMeter | None = None
    for block in blocks:
        if meter is None:
            meter = StemMeter(sample_rate, block.shape[0])
        meter.add(block)
    if meter is None:
        raise ValueError("measures: there is no block to measure")
    return meter.measures


class _LongTermSpectrum:
    """How often each band has which level: a histogram over the frames that are not silent.

    A level is the power density of a band times the width of the whole spectrum, channels summed, in dB: white
    noise has its own power in every band.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate
        size = 1 << math.ceil(math.log2(sample_rate / _LARGEST_BIN_HZ))
        window = scipy.signal.get_window("hann", size)
        self._window = (window / math.sqrt(float(np.square(window).sum()))).astype(np.float32)
        num_bands = int(sample_rate / 2 / _BAND_HZ)
        self._starts = np.ceil(np.arange(num_bands) * _BAND_HZ / (sample_rate / size)).astype(np.int64)
        self._widths = np.diff(self._starts, append=size // 2 + 1)
        self._counts = np.zeros((num_bands, _NUM_LEVELS), np.int64)
        self._pending = np.zeros((channels, 0), np.float32)
        self._num_spectra = 0

    def add(self, chunk: npt.NDArray[np.floating]) -> None:
        pending = np.concatenate([self._pending, chunk], axis=1, dtype=np.float32)
        whole = pending.shape[1] // len(self._window) * len(self._window)
        self._pending = pending[:, whole:]
        if whole:
            self._count(pending[:, :whole])

    def bandwidth_and_cutoff(self) -> tuple[float, float]:
        """Where the spectrum ends, and where it ends at a cut-off, in Hz; NaN when all frames are silent."""
        nyquist = self.sample_rate / 2
        levels = self._levels()
        if levels is None:
            return math.nan, math.nan
        end = _cut(levels)
        if end is not None:
            return end * _BAND_HZ, end * _BAND_HZ
        heard = np.flatnonzero(levels > _NOTHING_DB)
        if not heard.size:
            return 0.0, nyquist
        # The last band goes on to the end of the spectrum.
        return (nyquist if heard[-1] == len(levels) - 1 else (heard[-1] + 1) * _BAND_HZ), nyquist

    def _levels(self) -> Ints | None:
        """Level of each band that 1 % of the frames exceed, in whole dB; None when all frames are silent."""
        counts = self._counts
        if not self._num_spectra and self._pending.shape[1]:
            # Shorter than one frame of the spectrum: as if silence followed.
            size = len(self._window)
            short = _LongTermSpectrum(self.sample_rate, self._pending.shape[0])
            short._count(np.pad(self._pending, ((0, 0), (0, size - self._pending.shape[1]))))
            counts = short._counts
        total = counts[0].sum()
        if not total:
            return None
        at_most = np.cumsum(counts, axis=1)
        return np.asarray(np.argmax(at_most >= math.ceil(_SPECTRUM_QUANTILE * total), axis=1) + _LOWEST_DB)

    def _count(self, audio: npt.NDArray[np.float32]) -> None:
        """Count the levels of whole frames, shape ``(channels, spectra * size)``."""
        size = len(self._window)
        frames = audio.reshape(audio.shape[0], -1, size)
        self._num_spectra += frames.shape[1]
        frames = frames[:, np.square(frames).mean(axis=(0, 2)) > _SILENT_FRAME]
        spectra = np.asarray(scipy.fft.rfft(frames * self._window, axis=2))
        # Both halves of the spectrum: white noise of power 1 has density 1.
        powers = (np.square(spectra.real) + np.square(spectra.imag)).sum(axis=0)
        densities = np.add.reduceat(powers, self._starts, axis=1) / self._widths
        levels = 10.0 * np.log10(np.maximum(densities, 10.0 ** (_LOWEST_DB / 10)))
        cells = np.clip(np.rint(levels - _LOWEST_DB), 0, _NUM_LEVELS - 1).astype(np.int64)
        cells += np.arange(len(self._starts)) * _NUM_LEVELS
        self._counts += np.bincount(cells.ravel(), minlength=self._counts.size).reshape(self._counts.shape)


def _cut(levels: Ints) -> int | None:
    """Number of bands below the highest cut-off, or None when there is none."""
    if len(levels) <= _EDGE_BANDS + _CUT_BANDS:
        return None
    below = np.lib.stride_tricks.sliding_window_view(levels, _EDGE_BANDS).mean(axis=1)
    # The loudest of all bands that lie at least six above the last one of `below`.
    above = np.maximum.accumulate(levels[::-1])[::-1][_EDGE_BANDS - 1 + _CUT_BANDS :]
    below = below[: len(above)]
    steep = np.flatnonzero((below - above >= _CUT_DB) & (above <= _CUT_FLOOR_DB))
    if not steep.size:
        return None
    # A cut-off makes a run of steep places: the steepest one of the highest run.
    first = steep[np.flatnonzero(np.diff(steep, prepend=-2) > 1)[-1]]
    place = first + int(np.argmax((below - above)[first : steep[-1] + 1]))
    halfway = (below[place] + above[place]) / 2
    return int(np.flatnonzero(levels > halfway)[-1]) + 1
