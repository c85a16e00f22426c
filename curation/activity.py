"""Where a stem sounds: its level step by step, which steps are active, which segments are salient.

Conventions
-----------
Audio is float, shape ``(channels, frames)``, full scale +-1. A level curve holds one energy per step, the sum of
the squares over the step's frames and over all channels; steps follow each other from frame 0 on, and the last one
ends with the signal, so it may be shorter. ``rms`` sums the channels (as the gates of `curation.gates` do), a level
in dB averages them, so that a stereo copy of a mono signal has the same level; the floor is `SILENCE_LEVEL_DB`.

References
----------
Y. Luo, J. Yu, "Music Source Separation with Band-split RNN", IEEE/ACM TASLP 31, 2023 (arXiv 2209.15174), section
IV-A: the source activity detector of `salient_segments`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.errors import AudioError, RecipeError

__all__ = [
    "ACTIVE_DB",
    "SALIENT_STEP_S",
    "SILENCE_LEVEL_DB",
    "LevelCurve",
    "LevelMeter",
    "Salience",
    "active_fraction",
    "active_steps",
    "level_curve",
    "salient_segments",
]

ACTIVE_DB = -60.0
"""A step below this level is silence, as in the column `active_fraction` of the stems table."""
SALIENT_STEP_S = 0.6
"""Step of a curve for `salient_segments`: a tenth of the paper's segment of 6 s."""
SILENCE_LEVEL_DB = -150.0

_CHUNK_FRAMES = 1 << 16
_LOUD_QUANTILE = 0.95

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LevelCurve:
    """The energy of a signal, step by step.

    Attributes
    ----------
    energies : np.ndarray of float64 [shape=(steps,)]
        Sum of squares over frames and channels.
    step_frames : int
        Length of every step but the last, which is what `num_frames` leaves.
    num_frames : int
    sample_rate : int
        In Hz.
    channels : int
    """

    energies: Floats
    step_frames: int
    num_frames: int
    sample_rate: int
    channels: int

    @property
    def lengths(self) -> Ints:
        """Frames of each step, shape ``(steps,)``."""
        starts = np.arange(len(self.energies)) * self.step_frames
        return np.minimum(self.step_frames, self.num_frames - starts)

    @property
    def rms(self) -> Floats:
        """``sqrt(1/N sum_n ||s(n)||^2)`` of each step: channels are summed; shape ``(steps,)``."""
        return np.asarray(np.sqrt(self.energies / self.lengths))

    @property
    def levels_db(self) -> Floats:
        """Mean power of each step over frames and channels, in dB, at least `SILENCE_LEVEL_DB`."""
        powers = self.energies / (self.lengths * self.channels)
        return np.asarray(10.0 * np.log10(np.maximum(powers, 10.0 ** (SILENCE_LEVEL_DB / 10.0))))


class LevelMeter:
    """Level curve of a signal that arrives in blocks of any length; memory is 8 bytes per step.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    channels : int
        At least 1.
    step_frames : int
        At least 1.

    Examples
    --------
    >>> meter = LevelMeter(8000, 2, step_frames=8000)
    >>> for _ in range(3):
    ...     meter.add(np.full((2, 4000), 0.5, np.float32))
    >>> meter.curve.energies, meter.curve.rms
    (array([4000., 2000.]), array([0.70710678, 0.70710678]))
    """

    def __init__(self, sample_rate: int, channels: int, step_frames: int) -> None:
        if min(sample_rate, channels, step_frames) < 1:
            raise ValueError(
                f"sample_rate is {sample_rate}, channels {channels}, step_frames {step_frames}; expected at least 1"
            )
        self.sample_rate = sample_rate
        self.channels = channels
        self.step_frames = step_frames
        self.num_frames = 0
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
            chunk = block[:, start : start + _CHUNK_FRAMES].astype(np.float64)
            self._add_powers(np.einsum("cf,cf->f", chunk, chunk))

    @property
    def curve(self) -> LevelCurve:
        """The curve of all frames so far."""
        is_open = self.num_frames % self.step_frames > 0
        energies = np.array([*self._energies, self._open_energy] if is_open else self._energies, np.float64)
        return LevelCurve(energies, self.step_frames, self.num_frames, self.sample_rate, self.channels)

    def _add_powers(self, powers: Floats) -> None:
        if not math.isfinite(float(powers.sum())):
            raise AudioError(
                f"level curve: a NaN or infinite sample after frame {self.num_frames}; decode the file again"
            )
        ends = np.arange(self.step_frames - self.num_frames % self.step_frames, len(powers), self.step_frames)
        sums = np.add.reduceat(powers, [0, *ends])
        sums[0] += self._open_energy
        self.num_frames += len(powers)
        if self.num_frames % self.step_frames == 0:
            sums = np.append(sums, 0.0)
        self._energies.extend(sums[:-1])
        self._open_energy = float(sums[-1])


def level_curve(blocks: Iterable[npt.NDArray[np.floating]], sample_rate: int, *, step_s: float = 1.0) -> LevelCurve:
    """Level curve of audio that arrives in blocks, in bounded memory.

    Parameters
    ----------
    blocks : iterable of np.ndarray [shape=(channels, frames)]
        Such as those of `manifests.audio.blocks`; at least one.
    sample_rate : int
        In Hz.
    step_s : float
        Length of a step, rounded to whole frames.

    Returns
    -------
    LevelCurve

    Raises
    ------
    RecipeError
        If a step is shorter than a frame.
    ValueError
        If there is no block, or their shapes do not fit each other.
    AudioError
        If a block holds a NaN or an infinity.

    Examples
    --------
    >>> curve = level_curve([np.full((1, 16000), 0.1)], 8000)
    >>> curve.levels_db.round(6)
    array([-20., -20.])
    """
    if not 0.5 <= step_s * sample_rate < math.inf:
        raise RecipeError(f"level curve: step_s is {step_s}, expected at least one frame at {sample_rate} Hz")
    meter: LevelMeter | None = None
    for block in blocks:
        if meter is None:
            meter = LevelMeter(sample_rate, block.shape[0], max(1, round(step_s * sample_rate)))
        meter.add(block)
    if meter is None:
        raise ValueError("level curve: there is no block to measure")
    return meter.curve


def active_steps(curve: LevelCurve, *, threshold_db: float = ACTIVE_DB, range_db: float | None = None) -> Bools:
    """Which steps of a curve sound.

    Parameters
    ----------
    curve : LevelCurve
        With steps of 1 s for the activity of a singer, shorter ones for `active_fraction`.
    threshold_db : float
        A step must be louder than this.
    range_db : float, optional
        A step must also be no more than this below the stem's loud passages (the 95th percentile of the steps
        above `threshold_db`). Wanted for stems that are never silent, such as vocals with a residue of the
        instrumental.

    Returns
    -------
    np.ndarray of bool [shape=(steps,)]

    Raises
    ------
    RecipeError
        If `range_db` is not positive.
    """
    if range_db is not None and not range_db > 0:
        raise RecipeError(f"activity: range_db is {range_db}, expected a positive number of dB")
    levels = curve.levels_db
    active = levels > threshold_db
    if range_db is not None and active.any():
        active &= levels >= np.quantile(levels[active], _LOUD_QUANTILE) - range_db
    return np.asarray(active)


def active_fraction(curve: LevelCurve, *, threshold_db: float = ACTIVE_DB, range_db: float | None = None) -> float:
    """Share of a signal's frames that lie in active steps, 0 to 1; 0 when there are no frames.

    Parameters
    ----------
    curve : LevelCurve
    threshold_db, range_db : float
        As for `active_steps`.

    Raises
    ------
    RecipeError
        As `active_steps`.
    """
    active = active_steps(curve, threshold_db=threshold_db, range_db=range_db)
    return float(curve.lengths[active].sum() / curve.num_frames) if curve.num_frames else 0.0


@dataclass(frozen=True, eq=False)
class Salience:
    """Which of a signal's overlapping segments hold enough of it to train with.

    Attributes
    ----------
    start_frames : np.ndarray of int64 [shape=(segments,)]
    num_frames : int
        Length of a segment.
    fractions : np.ndarray of float64 [shape=(segments,)]
        Share of a segment's chunks whose energy exceeds the threshold.
    salient : np.ndarray of bool [shape=(segments,)]
        More than half of the chunks do.
    threshold_energy : float
    """

    start_frames: Ints
    num_frames: int
    fractions: Floats
    salient: Bools
    threshold_energy: float


def salient_segments(
    curve: LevelCurve,
    *,
    chunks: int = 10,
    quantile: float = 0.15,
    floor_energy: float = 1e-3,
    min_fraction: float = 0.5,
) -> Salience:
    """BSRNN's source activity detector: segments of which most chunks are louder than the track's quiet ones.

    The track is split into segments with 50 % overlap, each of 10 chunks. The threshold is the 15 % quantile of
    the energies of all chunks of all segments (those in two segments count twice), or 1e-3 if that is larger. A
    segment is salient if more than 50 % of its chunks exceed it. An unfinished segment at the end is left out.

    The paper says "energy" and gives no unit. Here it is the sum of squares, over a chunk's frames and channels:
    1e-3 is then -77 dBFS for 0.6 s of stereo at 44.1 kHz, a floor below which there is silence. Some
    implementations take the mean instead, where 1e-3 is -30 dBFS and removes quiet music; for that, pass
    ``floor_energy=1e-3 * curve.step_frames * curve.channels``. (The paper also sets the energy of silent chunks
    to 1e-5. The threshold is never below 1e-3, so it is left out here: it moves the quantile by at most 1e-5.)

    Parameters
    ----------
    curve : LevelCurve
        Its steps are the chunks: `SALIENT_STEP_S` gives the paper's segments of 6 s.
    chunks : int
        Per segment; even, so that half a segment is a whole number of them.
    quantile : float
        0 to 1.
    floor_energy : float
        At least 0.
    min_fraction : float
        Share of the chunks that must be exceeded for a segment to be salient, 0 to 1.

    Returns
    -------
    Salience
        Without segments when the signal is shorter than one; the threshold is then the floor.

    Raises
    ------
    RecipeError
        If a setting is out of its range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> audio = 0.1 * rng.standard_normal((2, 24 * 8000))
    >>> audio[:, 12 * 8000 :] = 0.0
    >>> salience = salient_segments(level_curve([audio], 8000, step_s=SALIENT_STEP_S))
    >>> salience.start_frames[salience.salient] / 8000
    array([0., 3., 6.])
    """
    if chunks < 2 or chunks % 2:
        raise RecipeError(f"salience: chunks is {chunks}, expected an even number of chunks per segment")
    for name, value in (("quantile", quantile), ("min_fraction", min_fraction)):
        if not 0.0 <= value <= 1.0:
            raise RecipeError(f"salience: {name} is {value}, expected 0 to 1")
    if not floor_energy >= 0.0:
        raise RecipeError(f"salience: floor_energy is {floor_energy}, expected at least 0")
    whole = curve.energies[: curve.num_frames // curve.step_frames]
    if len(whole) < chunks:
        segments, threshold = np.zeros((0, chunks)), floor_energy
    else:
        segments = np.lib.stride_tricks.sliding_window_view(whole, chunks)[:: chunks // 2]
        threshold = max(floor_energy, float(np.quantile(segments, quantile)))
    fractions = np.mean(segments > threshold, axis=1)
    return Salience(
        start_frames=np.arange(len(segments)) * (chunks // 2 * curve.step_frames),
        num_frames=chunks * curve.step_frames,
        fractions=np.asarray(fractions),
        salient=np.asarray(fractions > min_fraction),
        threshold_energy=threshold,
    )
