"""Integrated loudness and sample peak of a programme, measured block by block in bounded memory.

Conventions
-----------
Audio is float, shape ``(channels, frames)``, full scale +-1. Loudness is in LUFS (= LKFS), peaks are in dB of
full scale. Both have a floor instead of minus infinity, so that they survive any table format:
`SILENCE_LUFS` (-70.0) is the absolute gate, below which no gated loudness exists; `SILENCE_PEAK_DB` (-150.0)
lies below one 24-bit step.

Channels are weighted in the order of WAVE_FORMAT_EXTENSIBLE: mono; L R; L R C; L R Ls Rs; L R C Ls Rs;
L R C LFE Ls Rs. Surrounds count 1.41 and the LFE counts nothing.

A programme shorter than one gating block (400 ms) is measured as if silence followed it up to 400 ms;
otherwise an incomplete last block is left out, as the Recommendation asks.

References
----------
ITU-R BS.1770-4, Annex 1: K-weighting, 400 ms blocks with 75 % overlap, absolute gate at -70 LKFS, relative
gate at -10 LU. Coefficients at other rates than 48 kHz: B. De Man, "Evaluation of implementations of the EBU
R128 loudness measurement", AES 145, 2018; they give the tabled ones at 48 kHz.
"""

import math
from array import array

import numpy as np
import numpy.typing as npt
import scipy.signal

from manifests.errors import AudioError

__all__ = ["MAX_CHANNELS", "SILENCE_LUFS", "SILENCE_PEAK_DB", "LoudnessMeter", "loudness_lufs"]

SILENCE_LUFS = -70.0
SILENCE_PEAK_DB = -150.0

_CHANNEL_WEIGHTS: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (1.0, 1.0),
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 1.41, 1.41),
    (1.0, 1.0, 1.0, 1.41, 1.41),
    (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
)
MAX_CHANNELS = len(_CHANNEL_WEIGHTS)
_LOWEST_RATE, _HIGHEST_RATE = 8_000, 192_000
_STEPS_PER_SECOND = 10
_STEPS_PER_BLOCK = 4
_RELATIVE_GATE = 0.1
_CHUNK_FRAMES = 1 << 16
_GAIN_STEPS = 10
_GAIN_TOLERANCE_DB = 0.001
_SHELF_HZ, _SHELF_QUALITY = 1681.9744509555319, 0.7071752369554193
_SHELF_DB, _SHELF_SLOPE = 3.99984385397, 0.499666774155
_HIGH_PASS_HZ, _HIGH_PASS_QUALITY = 38.13547087613982, 0.5003270373253953

Floats = npt.NDArray[np.float64]


class LoudnessMeter:
    """Meter that is fed blocks of any length; what it reads does not depend on how the signal was cut.

    Memory is one chunk of audio and 8 bytes per 100 ms of programme (0.3 MB per hour).

    Parameters
    ----------
    sample_rate : int
        Frames per second, 8,000 to 192,000.
    channels : int
        1 to `MAX_CHANNELS`.

    Raises
    ------
    AudioError
        If the rate or the number of channels is outside these ranges.

    Examples
    --------
    >>> meter = LoudnessMeter(48_000, 2)
    >>> for _ in range(10):
    ...     meter.add(np.zeros((2, 4096), np.float32))
    >>> meter.integrated_lufs, meter.peak_db
    (-70.0, -150.0)
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        if not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
            raise AudioError(
                f"loudness: sample_rate {sample_rate}, can measure {_LOWEST_RATE} to {_HIGHEST_RATE}; resample it"
            )
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"loudness: {channels} channels, can weigh 1 to {MAX_CHANNELS}; downmix first")
        self.sample_rate = sample_rate
        self.channels = channels
        self.num_frames = 0
        self._weights: Floats = np.array(_CHANNEL_WEIGHTS[channels - 1])
        self._sos = k_weighting(sample_rate)
        self._state: Floats = np.zeros((len(self._sos), channels, 2))
        self._peak = 0.0
        self._energies = array("d")
        self._open_energy = 0.0

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
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"block has shape {block.shape}, meter expects ({self.channels}, frames)")
        for start in range(0, block.shape[1], _CHUNK_FRAMES):
            self._add_chunk(block[:, start : start + _CHUNK_FRAMES])

    @property
    def peak_db(self) -> float:
        """Largest absolute sample so far in dB full scale, at least `SILENCE_PEAK_DB`."""
        return SILENCE_PEAK_DB if self._peak <= 0.0 else max(SILENCE_PEAK_DB, 20.0 * math.log10(self._peak))

    @property
    def integrated_lufs(self) -> float:
        """Gated loudness of all frames so far in LUFS, at least `SILENCE_LUFS`."""
        return self._gated(1.0)

    def gain_db_to(self, lufs: float) -> float | None:
        """The gain that brings all frames so far to a loudness.

        It is not just the difference: what a gain lifts over the absolute gate counts from then on.

        Parameters
        ----------
        lufs : float
            Above `SILENCE_LUFS`.

        Returns
        -------
        float or None
            In dB; None for silence, which no gain makes louder.
        """
        found = self.integrated_lufs
        if found <= SILENCE_LUFS:
            return None
        gain_db = lufs - found
        for _ in range(_GAIN_STEPS):
            found = self._gated(10.0 ** (gain_db / 10.0))
            if found <= SILENCE_LUFS or abs(lufs - found) < _GAIN_TOLERANCE_DB:
                break
            gain_db += lufs - found
        return gain_db

    def _gated(self, factor: float) -> float:
        """The loudness if all power were `factor` times what it is."""
        steps = np.array(self._energies)
        if len(steps) < _STEPS_PER_BLOCK:
            steps = np.array([float(steps.sum()) + self._open_energy, 0.0, 0.0, 0.0])
        blocks = np.lib.stride_tricks.sliding_window_view(steps, _STEPS_PER_BLOCK).sum(axis=1)
        powers = blocks * (factor * _STEPS_PER_SECOND / _STEPS_PER_BLOCK / self.sample_rate)
        loud = powers[powers > _power(SILENCE_LUFS)]
        if not loud.size:
            return SILENCE_LUFS
        gated = loud[loud > _RELATIVE_GATE * loud.mean()]
        return -0.691 + 10.0 * math.log10(float(gated.mean()))

    def _add_chunk(self, chunk: npt.NDArray[np.floating]) -> None:
        peak = float(np.abs(chunk).max())
        if not math.isfinite(peak):
            raise AudioError(
                f"loudness: a NaN or infinite sample after frame {self.num_frames}; decode the file again"
            )
        self._peak = max(self._peak, peak)
        filtered, self._state = scipy.signal.sosfilt(self._sos, chunk.astype(np.float64), axis=1, zi=self._state)
        # Digital silence lets the state decay into denormal numbers, which filter tens of times slower.
        self._state[np.abs(self._state) < 1e-30] = 0.0
        self._add_power(self._weights @ np.square(filtered))

    def _add_power(self, power: Floats) -> None:
        """Sum weighted squares into steps of 100 ms that end at ``floor(step * sample_rate / 10)``."""
        start = 0
        while (stop := self._step_end() - self.num_frames) <= len(power):
            self._energies.append(self._open_energy + float(power[start:stop].sum()))
            self._open_energy, start = 0.0, stop
        self._open_energy += float(power[start:].sum())
        self.num_frames += len(power)

    def _step_end(self) -> int:
        return (len(self._energies) + 1) * self.sample_rate // _STEPS_PER_SECOND


def loudness_lufs(audio: npt.NDArray[np.floating], sample_rate: int) -> float:
    """Integrated loudness of a whole signal.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        Full scale +-1, 1 to `MAX_CHANNELS` channels.
    sample_rate : int
        Frames per second, 8,000 to 192,000.

    Returns
    -------
    float
        LUFS, at least `SILENCE_LUFS`.

    Raises
    ------
    ValueError
        If `audio` does not have two dimensions.
    AudioError
        As `LoudnessMeter`.

    Examples
    --------
    A full-scale sine of 997 Hz in one channel reads -3.01 LUFS:

    >>> sine = np.sin(2 * np.pi * 997 / 48_000 * np.arange(48_000))
    >>> round(loudness_lufs(sine[None], 48_000), 2)
    -3.01
    """
    if audio.ndim != 2:
        raise ValueError(f"audio has shape {audio.shape}, expected (channels, frames)")
    meter = LoudnessMeter(sample_rate, audio.shape[0])
    meter.add(audio)
    return meter.integrated_lufs


def k_weighting(sample_rate: int) -> Floats:
    """Pre-filter of BS.1770-4 as second-order sections [shape=(2, 6)]: high shelf, then high pass.

    As in other implementations, the high pass has the numerator 1, -2, 1 at every rate; the calibration tone
    (997 Hz, full scale, one channel) then reads -3.01 LUFS within 0.05 from 8 to 192 kHz.
    """
    k = math.tan(math.pi * _SHELF_HZ / sample_rate)
    high = 10.0 ** (_SHELF_DB / 20.0)
    band = high**_SHELF_SLOPE
    a0 = 1.0 + k / _SHELF_QUALITY + k * k
    b0 = high + band * k / _SHELF_QUALITY + k * k
    b2 = high - band * k / _SHELF_QUALITY + k * k
    shelf = [b0 / a0, 2.0 * (k * k - high) / a0, b2 / a0, 1.0, *_feedback(k, _SHELF_QUALITY)]
    k = math.tan(math.pi * _HIGH_PASS_HZ / sample_rate)
    high_pass = [1.0, -2.0, 1.0, 1.0, *_feedback(k, _HIGH_PASS_QUALITY)]
    return np.array([shelf, high_pass])


def _feedback(k: float, quality: float) -> tuple[float, float]:
    a0 = 1.0 + k / quality + k * k
    return 2.0 * (k * k - 1.0) / a0, (1.0 - k / quality + k * k) / a0


def _power(loudness: float) -> float:
    return float(10.0 ** ((loudness + 0.691) / 10.0))
