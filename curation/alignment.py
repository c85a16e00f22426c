"""Where, how fast and how loud an instrumental runs inside a mixture, to a fraction of a sample.

Conventions
-----------
``position in the instrumental = lag_frames + t * (1 + drift_ppm * 1e-6)`` for a mixture frame ``t``; both are
counted at the mixture's sample rate, so a positive lag means that the instrumental's music starts later in its
file. ``gain_db`` is what the instrumental must be multiplied by to match the mixture, ``polarity`` is +1 or -1.
Audio is float32 ``(channels, frames)``.

Method
------
1. Both signals, mono, at 11,025 Hz; cross-correlation with a partial phase transform (exponent 0.6) proposes
   lags. Its peaks are several where the mixture is an edit of the instrumental.
2. Windows of 4 s around each proposal give local lags; a line through them (RANSAC over all pairs of windows)
   is lag and drift, further parallel lines are edits; Viterbi assigns every window to a line or to none. A drift
   that smears windows of 4 s is measured first, roughly, in windows of 0.5 s, and taken out of the instrumental.
3. The instrumental is resampled to the mixture's clock, and in windows of 8 s the phase slope of the robust
   transfer function (`curation.transfer`: bins without vocals decide) gives the rest of the lag, to a few
   thousandths of a sample; a robust line through these refines lag and drift. This step is repeated until the
   drift is settled.
4. Cuts between segments are placed where the summed error of the left lag before and the right lag after is
   smallest; stretches where the instrumental is not in the mixture are left out of the segments.

References
----------
Knapp and Carter, "The generalized correlation method for estimation of time delay", IEEE Trans. ASSP 24(4),
1976 (partial phase transform, and the phase-slope estimator's coherence weights).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage
import soxr

from curation.transfer import Spectrum, estimate_transfer, power, stft

Audio = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COARSE_RATE = 11_025
_WINDOW = 4 * COARSE_RATE
_HOP = 2 * COARSE_RATE
_REACH = COARSE_RATE // 4
_FAINT_PEAK = 0.1
_LINE_TOLERANCE = 2.0
_MAX_DRIFT = 5e-3
_STEADY, _MAX_CLOCKS = 5e-5, 4
_PROBE, _EXCERPT, _SHORT_WINDOW = 2 * COARSE_RATE, 30 * COARSE_RATE, COARSE_RATE // 2
_FINE_FFT = 4096
_FINE_HOP = 2048
_FINE_SECONDS = 8.0
_MAX_REFINEMENTS, _SETTLED_PPM = 4, 0.02
_MIN_PRESENCE = 0.2
_MIN_GAP_S = 0.25
_LOWEST_HZ, _HIGHEST_HZ = 100.0, 8000.0


@dataclass(frozen=True)
class Segment:
    """A stretch of the mixture that one lag explains: frames ``start_frame`` (in) to ``end_frame`` (out)."""

    start_frame: int
    end_frame: int
    lag_frames: float

    @property
    def num_frames(self) -> int:
        """Length in mixture frames."""
        return self.end_frame - self.start_frame


@dataclass(frozen=True)
class Alignment:
    """How an instrumental runs inside a mixture. See the module's conventions.

    Attributes
    ----------
    segments : tuple of Segment
        In mixture order, disjoint; empty when nothing aligns. More than one where the mixture is an edit.
    drift_ppm : float
    polarity : int
        +1 or -1.
    peak_ratio : float
        Highest over second highest peak of the window correlations, median over windows. True pairs are above 2.
    agreement : float [0, 1]
        Share of the audible windows that lie on one of the lines.
    lag_error_frames : float
        Standard error of the lag, from the scatter of the windows around the line.
    """

    segments: tuple[Segment, ...]
    drift_ppm: float
    polarity: int
    peak_ratio: float
    agreement: float
    lag_error_frames: float

    @property
    def longest(self) -> Segment:
        """The segment that explains most of the mixture."""
        return max(self.segments, key=lambda segment: segment.num_frames)

    @property
    def lag_frames(self) -> float:
        """The lag of the longest segment; NaN when nothing aligns."""
        return self.longest.lag_frames if self.segments else float("nan")

    @property
    def num_frames(self) -> int:
        """Mixture frames that some segment explains."""
        return sum(segment.num_frames for segment in self.segments)


NO_ALIGNMENT = Alignment((), 0.0, 1, 0.0, 0.0, float("nan"))


def align(
    mixture: Audio,
    instrumental: Audio,
    sample_rate: int,
    instrumental_rate: int | None = None,
    *,
    min_segment_s: float = 6.0,
) -> Alignment:
    """Find lag, drift, polarity and edits of an instrumental inside a mixture.

    Parameters
    ----------
    mixture, instrumental : np.ndarray [shape=(channels, frames), float32]
        Channel counts may differ: the mean of the channels is aligned.
    sample_rate : int > 0
        The mixture's sample rate, in Hz; the result's frames are counted at it.
    instrumental_rate : int > 0, optional
        The instrumental's own sample rate; the mixture's by default.
    min_segment_s : float > 0
        Shorter common stretches are left out.

    Returns
    -------
    Alignment
        `NO_ALIGNMENT` (no segments) when no lag explains the two signals. Whether the pair is a true one is
        for `curation.evidence` to decide, which sees the aligned signals.

    Raises
    ------
    ValueError
        If a signal is not two-dimensional, or holds NaN or infinity.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> music = rng.standard_normal((1, 441_000)).astype(np.float32) * 0.1
    >>> found = align(music[:, 1000:], music, 44_100)
    >>> round(float(found.lag_frames), 2)
    1000.0
    """
    for name, audio in (("mixture", mixture), ("instrumental", instrumental)):
        if audio.ndim != 2:
            raise ValueError(f"{name} has shape {audio.shape}; expected (channels, frames)")
    instrumental_rate = instrumental_rate or sample_rate
    mono_mixture = mixture.mean(axis=0, dtype=np.float32)
    mono_instrumental = instrumental.mean(axis=0, dtype=np.float32)
    for name, mono in (("mixture", mono_mixture), ("instrumental", mono_instrumental)):
        if not np.isfinite(mono).all():
            raise ValueError(f"{name} holds NaN or infinity (first at frame {int(np.argmin(np.isfinite(mono)))})")
    coarse = _coarse_alignment(
        _resample(mono_mixture, sample_rate, COARSE_RATE, "HQ"),
        _resample(mono_instrumental, instrumental_rate, COARSE_RATE, "HQ"),
    )
    if coarse is None:
        return NO_ALIGNMENT
    scale = sample_rate / COARSE_RATE
    alignment = Alignment(
        tuple(
            Segment(round(s.start_frame * scale), round(s.end_frame * scale), s.lag_frames * scale)
            for s in coarse.segments
        ),
        coarse.drift_ppm,
        coarse.polarity,
        coarse.peak_ratio,
        coarse.agreement,
        float("nan"),
    )
    for attempt in range(_MAX_REFINEMENTS):
        before_ppm = alignment.drift_ppm
        clocked = on_mixture_clock(mono_instrumental[None], instrumental_rate, sample_rate, before_ppm)[0]
        # the first pass brings the lag within a frame, which few reweightings do
        alignment = _refine(mono_mixture, clocked, sample_rate, alignment, passes=3 if attempt == 0 else 6)
        if not alignment.segments:
            return NO_ALIGNMENT
        if attempt == 0:
            alignment = _place_cuts(mono_mixture, clocked, sample_rate, alignment)
        # a window of 8 s must not be smeared by what is left of the drift
        elif abs(alignment.drift_ppm - before_ppm) < _SETTLED_PPM:
            break
    return _trim(mono_mixture, clocked, sample_rate, alignment, round(min_segment_s * sample_rate))


def on_mixture_clock(instrumental: Audio, instrumental_rate: int, sample_rate: int, drift_ppm: float) -> Audio:
    """Resample an instrumental to the mixture's rate and clock (one resampling for both).

    Parameters
    ----------
    instrumental : np.ndarray [shape=(channels, frames), float32]
    instrumental_rate, sample_rate : int > 0
        Rates of the instrumental's file and of the mixture.
    drift_ppm : float
        As in `Alignment`.

    Returns
    -------
    np.ndarray [shape=(channels, frames'), float32]
        Frame ``n`` is the instrumental at ``n * (1 + drift_ppm * 1e-6)`` frames of the mixture's rate.
    """
    speed = 1 + drift_ppm * 1e-6
    if instrumental_rate == sample_rate and abs(speed - 1) * instrumental.shape[-1] < 1e-3:
        return instrumental
    return np.stack([_resample(channel, instrumental_rate * speed, sample_rate, "VHQ") for channel in instrumental])


def delayed(audio: Audio, start: float, num_frames: int) -> Audio:
    """``num_frames`` frames of a signal from a fractional position on; zeros outside the signal.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames), float32]
    start : float
        Position of the first output frame; may be negative.
    num_frames : int >= 0

    Returns
    -------
    np.ndarray [shape=(channels, num_frames), float32]
        Interpolated by a Kaiser-windowed sinc of 128 taps (error below -100 dB up to 0.45 of the rate).
    """
    whole = int(np.floor(start))
    fraction = start - whole
    half = 64
    padded = _slice(audio, whole - half, num_frames + 2 * half)
    if fraction < 1e-6:
        return np.ascontiguousarray(padded[:, half : half + num_frames])
    taps = np.arange(-half + 1, half + 1) - fraction
    kernel = np.sinc(taps) * np.i0(10.0 * np.sqrt(np.clip(1 - (taps / half) ** 2, 0, 1))) / np.i0(10.0)
    kernel /= kernel.sum()
    # output n = sum_k padded[n + 1 + k] * kernel[k], k = 0 ... 127
    return _correlate(padded[:, 1:], kernel)[:, :num_frames]


def _correlate(audio: Audio, kernel: Floats) -> Audio:
    """Valid correlation with a short kernel, ``sum_k audio[n + k] * kernel[k]``, by overlap-save."""
    size = 1 << 14
    step = size - len(kernel) + 1
    frames = audio.shape[1] - len(kernel) + 1
    spectrum = np.conj(scipy.fft.rfft(kernel, size)).astype(np.complex64)
    out = np.empty((audio.shape[0], frames), np.float32)
    for start in range(0, frames, 64 * step):
        stop = min(start + 64 * step, frames)
        count = -(-(stop - start) // step)
        piece = _slice(audio, start, (count - 1) * step + size)
        blocks = np.lib.stride_tricks.sliding_window_view(piece, size, axis=-1)[:, ::step]
        valid = scipy.fft.irfft(scipy.fft.rfft(blocks) * spectrum, size)[..., :step]
        out[:, start:stop] = valid.reshape(audio.shape[0], -1)[:, : stop - start]
    return out


def render(
    instrumental: Audio, instrumental_rate: int, sample_rate: int, alignment: Alignment
) -> tuple[Audio, ...]:
    """The instrumental as it runs under each segment of the mixture: same rate, clock, lag and polarity.

    Parameters
    ----------
    instrumental : np.ndarray [shape=(channels, frames), float32]
    instrumental_rate, sample_rate : int > 0
    alignment : Alignment

    Returns
    -------
    tuple of np.ndarray [shape=(channels, segment.num_frames), float32]
        One per segment. The gain is left as it is.
    """
    clocked = on_mixture_clock(instrumental, instrumental_rate, sample_rate, alignment.drift_ppm)
    return tuple(
        np.float32(alignment.polarity)
        * delayed(clocked, _clocked_start(segment, alignment.drift_ppm), segment.num_frames)
        for segment in alignment.segments
    )


def _clocked_start(segment: Segment, drift_ppm: float) -> float:
    """Position of a segment's first frame in the instrumental on the mixture's clock."""
    return segment.start_frame + segment.lag_frames / (1 + drift_ppm * 1e-6)


def _resample(mono: npt.NDArray[np.float32], rate_in: float, rate_out: float, quality: str) -> Audio:
    if rate_in == rate_out:
        return mono
    out: Audio = soxr.resample(mono, rate_in, rate_out, quality=quality)
    return out


def _slice(audio: Audio, start: int, num_frames: int) -> Audio:
    """A slice that may reach beyond either end, zero-filled there."""
    out = np.zeros((*audio.shape[:-1], num_frames), np.float32)
    low, high = max(start, 0), min(start + num_frames, audio.shape[-1])
    if high > low:
        out[..., low - start : high - start] = audio[..., low:high]
    return out


# Coarse: windows, lines, edits


def _coarse_alignment(x: Audio, y: Audio) -> Alignment | None:
    """Alignment in frames of `COARSE_RATE`, to about one frame."""
    if min(len(x), len(y)) < _HOP or not x.any() or not y.any():
        return None
    best: Alignment | None = None
    speed, clocked = 1.0, y
    for _ in range(_MAX_CLOCKS):
        proposals = _global_lags(x, clocked)
        found = _on_lines(x, clocked, proposals)
        if found is not None and (best is None or _is_clearer(found, best)):
            best = _at_speed(found, speed)
        sharp = found is not None and found.peak_ratio > 2
        slope = found.drift_ppm * 1e-6 if found is not None and sharp else _short_slope(x, clocked)
        if slope is None or abs(slope) < _STEADY:
            break
        speed *= 1 + slope
        clocked = _resample(y, COARSE_RATE * speed, COARSE_RATE, "HQ")
    return best


def _is_clearer(one: Alignment, other: Alignment) -> bool:
    return one.peak_ratio * one.agreement > other.peak_ratio * other.agreement


def _at_speed(alignment: Alignment, speed: float) -> Alignment:
    """An alignment to the instrumental itself, from one to its copy that was resampled to play `speed` faster."""
    return replace(
        alignment,
        segments=tuple(replace(s, lag_frames=speed * s.lag_frames) for s in alignment.segments),
        drift_ppm=(speed * (1 + alignment.drift_ppm * 1e-6) - 1) * 1e6,
    )


def _short_slope(x: Audio, y: Audio) -> float | None:
    """Slope of the lags in an excerpt, from windows too short for a drift to smear; None where no line holds them.

    The whole signals' correlation is smeared even more than windows are, so each excerpt is found by its middle.
    """
    length = min(_EXCERPT, len(x) // _SHORT_WINDOW * _SHORT_WINDOW)
    starts = np.arange(0, length, _SHORT_WINDOW)
    rows = np.arange(len(starts))
    middle = max(0, (length - _PROBE) // 2)
    for first in np.unique(np.linspace(0, len(x) - length, 5).astype(int)[1:4]):
        excerpt = x[first : first + length]
        probe = excerpt[middle : middle + _PROBE]
        if not probe.any():
            continue
        lag, height, ratio = _local_lags(excerpt, y, starts, _SHORT_WINDOW, _global_lags(probe, y) - middle)
        best = np.argmax(np.abs(height), axis=1)
        trusted = np.flatnonzero(_audible(excerpt, starts, _SHORT_WINDOW) & (ratio[rows, best] > 1.3))
        if len(trusted) < 4:
            continue
        centres, lags = starts[trusted].astype(float), lag[rows, best][trusted]
        slope, offset = _best_line(centres, lags, np.abs(height)[rows, best][trusted])
        on_line = np.abs(lags - offset - slope * centres) < 2 * _LINE_TOLERANCE
        if on_line.sum() >= max(4, 0.25 * len(trusted)):
            return slope
    return None


def _on_lines(x: Audio, y: Audio, proposals: Ints) -> Alignment | None:
    """The lines through the windows' lags, for a drift that does not smear the windows."""
    window = min(_WINDOW, len(x))
    starts = np.arange(0, max(len(x) - window, 0) + 1, _HOP)
    audible = _audible(x, starts, window)
    if not audible.any():
        return None
    local_lag, height, ratio = _local_lags(x, y, starts, window, proposals)
    best = np.argmax(np.abs(height), axis=1)
    rows = np.arange(len(starts))
    chosen_ratio = np.where(audible, ratio[rows, best], 0)
    trusted = np.flatnonzero(chosen_ratio > 1.3)
    if len(trusted) < min(2, len(starts)):
        return None
    centres = (starts + window / 2).astype(float)
    slope, offset = _best_line(
        centres[trusted], local_lag[rows, best][trusted], np.abs(height)[rows, best][trusted]
    )
    offsets = _parallel_offsets(centres, local_lag, ratio, audible, slope, offset)
    on_line, signed = _heights_on_lines(local_lag, height, centres, slope, offsets)
    labels = _assign(on_line, audible)
    segments = _in_order(_segments_of(labels, starts, window, offsets, len(x)))
    if not segments:
        return None
    matched = audible & (labels >= 0)
    polarity = 1 if signed[matched].sum() >= 0 else -1
    return Alignment(
        tuple(segments),
        slope * 1e6,
        polarity,
        float(np.median(chosen_ratio[audible])),
        float((on_line[audible].max(axis=1) > 0).mean()),
        float("nan"),
    )


def _audible(x: Audio, starts: Ints, window: int) -> npt.NDArray[np.bool_]:
    energy = np.concatenate([[0.0], np.cumsum(x.astype(np.float64) ** 2)])
    level = energy[np.minimum(starts + window, len(x))] - energy[starts]
    audible: npt.NDArray[np.bool_] = level > 1e-5 * max(level.max(), 1e-12)
    return audible


def _phase_transform(cross: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.complexfloating]:
    magnitude = np.abs(cross)
    whitened: npt.NDArray[np.complexfloating] = (
        cross / (magnitude + 1e-9 * magnitude.max(axis=-1, keepdims=True) + 1e-30) ** 0.6
    )
    return whitened


def _global_lags(x: Audio, y: Audio, peaks: int = 6) -> Ints:
    """Lags of the highest peaks of the whole signals' cross-correlation, best first."""
    size = scipy.fft.next_fast_len(len(x) + len(y), real=True)
    cross = scipy.fft.rfft(y, size) * np.conj(scipy.fft.rfft(x, size))
    correlation = np.abs(scipy.fft.irfft(_phase_transform(cross), size))
    lags: list[int] = []
    highest = float(correlation.max())
    for _ in range(peaks):
        peak = int(np.argmax(correlation))
        # bars that an edit keeps stand out of the noise as well
        if lags and correlation[peak] < _FAINT_PEAK * highest:
            break
        lags.append(peak if peak < len(y) else peak - size)
        for near in (peak, peak - size, peak + size):
            correlation[max(near - _REACH // 2, 0) : max(near + _REACH // 2, 0)] = 0
    return np.array(lags)


def _local_lags(x: Audio, y: Audio, starts: Ints, window: int, proposals: Ints) -> tuple[Floats, Floats, Floats]:
    """Each window's lag near each proposal, its signed height over the noise, and its peak ratio.

    Returns three arrays (windows, proposals).
    """
    width = window + 2 * _REACH
    size = scipy.fft.next_fast_len(width + window, real=True)
    shape = (len(starts), len(proposals))
    lag, height, ratio = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, start in enumerate(starts):
        x_spectrum = np.conj(scipy.fft.rfft(x[start : start + window], size))
        around = np.stack([_slice(y, start + proposal - _REACH, width) for proposal in proposals])
        correlation = scipy.fft.irfft(_phase_transform(scipy.fft.rfft(around, size) * x_spectrum), size)
        correlation = correlation[:, : 2 * _REACH + 1]
        magnitude = np.abs(correlation)
        peak = np.argmax(magnitude, axis=1)
        top = magnitude[np.arange(len(proposals)), peak]
        noise = np.median(magnitude, axis=1) + 1e-20
        away = np.abs(np.arange(2 * _REACH + 1)[None] - peak[:, None]) > 12
        second = np.max(np.where(away, magnitude, 0), axis=1) + 1e-20
        lag[row] = proposals - _REACH + peak
        height[row] = correlation[np.arange(len(proposals)), peak] / noise
        ratio[row] = np.where(top > 0, top / second, 0)
    return lag, height, ratio


def _best_line(t: Floats, lag: Floats, weight: Floats) -> tuple[float, float]:
    """Slope and offset of the line through most windows: every pair of windows proposes one."""
    if len(t) == 1:
        return 0.0, float(lag[0])
    i, j = np.triu_indices(len(t), 1)
    slope = (lag[j] - lag[i]) / (t[j] - t[i])
    keep = np.abs(slope) <= _MAX_DRIFT
    if not keep.any():
        best = int(np.argmax(weight))
        return 0.0, float(lag[best])
    slope, offset = slope[keep], (lag[i] - slope * t[i])[keep]
    votes = np.empty(len(slope))
    for block in range(0, len(slope), 2048):
        part = slice(block, block + 2048)
        distance = np.abs(lag[None] - offset[part, None] - slope[part, None] * t[None])
        votes[part] = ((distance < _LINE_TOLERANCE) * np.minimum(weight, 50)[None]).sum(axis=1)
    best = int(np.argmax(votes))
    inliers = np.abs(lag - offset[best] - slope[best] * t) < _LINE_TOLERANCE
    if inliers.sum() < 3:
        return float(slope[best]), float(offset[best])
    fitted = np.polyfit(t[inliers], lag[inliers], 1)
    return float(fitted[0]), float(fitted[1])


def _parallel_offsets(
    centres: Floats, lag: Floats, ratio: Floats, audible: npt.NDArray[np.bool_], slope: float, first: float
) -> Floats:
    """Offsets of the lines, the best first: edits have the same drift and another lag."""
    offset = lag - slope * centres[:, None]
    free = (ratio > 1.5) & audible[:, None] & (np.abs(offset - first) > _LINE_TOLERANCE)
    taken = np.any((np.abs(offset - first) <= _LINE_TOLERANCE) & (ratio > 1.5), axis=1)
    free &= ~taken[:, None]
    found = [first]
    while len(found) < 6:
        left = offset[free]
        if len(left) < 2:
            break
        near = np.abs(left[:, None] - left[None]) <= _LINE_TOLERANCE
        best = int(np.argmax(near.sum(axis=1)))
        if near[best].sum() < 2:
            break
        centre = float(np.mean(left[near[best]]))
        found.append(centre)
        free &= np.abs(offset - centre) > 2 * _LINE_TOLERANCE
    return np.array(found)


def _heights_on_lines(
    lag: Floats, height: Floats, centres: Floats, slope: float, offsets: Floats
) -> tuple[Floats, Floats]:
    """For each window and line the height of the window's peak if it lies on the line, else 0; and signed."""
    distance = np.abs(lag[:, :, None] - slope * centres[:, None, None] - offsets[None, None])
    on = distance <= 2 * _LINE_TOLERANCE
    on_line = np.max(np.where(on, np.abs(height)[:, :, None], 0), axis=1)
    signed = np.sum(np.where(on, height[:, :, None], 0), axis=(1, 2))
    return on_line, signed


def _assign(on_line: Floats, audible: npt.NDArray[np.bool_]) -> Ints:
    """Viterbi: the line of every window, -1 for none. Silent windows follow their neighbours."""
    windows, lines = on_line.shape
    # relative to the window's best: repeated bars reach high peaks too, the true bar the highest
    best = on_line.max(axis=1, keepdims=True)
    fit = np.minimum(best, 20.0) * (on_line / np.maximum(best, 1e-9)) ** 2
    reward = np.concatenate([fit, np.full((windows, 1), 7.0)], axis=1)
    reward[~audible] = 0
    switch = 15.0
    score, back = reward[0].copy(), np.zeros((windows, lines + 1), np.int64)
    for row in range(1, windows):
        stay, jump = score, score.max() - switch
        back[row] = np.where(stay >= jump, np.arange(lines + 1), int(np.argmax(score)))
        score = np.maximum(stay, jump) + reward[row]
    labels = np.empty(windows, np.int64)
    labels[-1] = int(np.argmax(score))
    for row in range(windows - 1, 0, -1):
        labels[row - 1] = back[row, labels[row]]
    return np.where(labels == lines, -1, labels)


def _segments_of(labels: Ints, starts: Ints, window: int, offsets: Floats, num_frames: int) -> list[Segment]:
    """Runs of equal labels as segments; a run reaches half-way into the windows that it shares."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    runs = np.split(np.arange(len(labels)), edges)
    segments = []
    for position, run in enumerate(runs):
        if labels[run[0]] < 0:
            continue
        start, end = int(starts[run[0]]), int(starts[run[-1]]) + window
        if position > 0:
            start = (int(starts[run[0]]) + int(starts[run[0] - 1]) + window) // 2
        end = (int(starts[run[-1] + 1]) + end) // 2 if position < len(runs) - 1 else num_frames
        segments.append(Segment(start, end, float(offsets[labels[run[0]]])))
    return segments


def _in_order(segments: list[Segment]) -> list[Segment]:
    """The longest chain of segments that never goes far back in the instrumental.

    An edit cuts; it does not play a bar again. A short segment that goes back is a repeated bar taken for its twin.
    A long one follows a bar that only the mixture has: its border is known to a window here.
    """
    best: list[tuple[int, list[Segment]]] = []
    for segment in segments:
        total, before = 0, list[Segment]()
        for length, chain in best:
            last = chain[-1]
            back = last.end_frame + last.lag_frames - segment.start_frame - segment.lag_frames
            price = 2 * _WINDOW if back > COARSE_RATE else 0
            if back <= _WINDOW and length - price > total:
                total, before = length - price, chain
        best.append((total + segment.num_frames, [*before, segment]))
    return max(best, key=lambda chain: chain[0], default=(0, []))[1]


# Fine: phase slopes of the robust transfer function


def _refine(x: Audio, clocked: Audio, sample_rate: int, alignment: Alignment, passes: int) -> Alignment:
    """Better lags and drift from windows at the full rate; `clocked` is on the alignment's clock."""
    times, errors, weights, owners = [], [], [], []
    for owner, segment in enumerate(alignment.segments):
        base = segment.lag_frames / (1 + alignment.drift_ppm * 1e-6)
        for start, length in _fine_windows(segment, sample_rate):
            measured = _window_delay(x, clocked, start, length, base, sample_rate, passes)
            if measured is not None:
                times.append(start + length / 2)
                errors.append(measured[0])
                weights.append(measured[1])
                owners.append(owner)
    if not times:
        return replace(alignment, segments=())
    slope, offsets, scatter = _fit_lines(
        np.array(times),
        np.array(errors),
        np.array(weights),
        np.array(owners),
        len(alignment.segments),
    )
    speed = 1 + alignment.drift_ppm * 1e-6
    segments = tuple(
        replace(segment, lag_frames=speed * (segment.lag_frames / speed + offset))
        for segment, offset in zip(alignment.segments, offsets, strict=True)
        if np.isfinite(offset)
    )
    return replace(
        alignment,
        segments=segments,
        drift_ppm=(speed * (1 + slope) - 1) * 1e6,
        lag_error_frames=scatter,
    )


def _fine_windows(segment: Segment, sample_rate: int) -> list[tuple[int, int]]:
    """Windows (start, length) that tile a segment, each about 8 s."""
    count = max(1, round(segment.num_frames / (_FINE_SECONDS * sample_rate)))
    edges = np.linspace(segment.start_frame, segment.end_frame, count + 1).astype(int)
    return [(int(a), int(b - a)) for a, b in pairwise(edges) if b - a > 4 * _FINE_FFT]


def _window_delay(
    x: Audio, clocked: Audio, start: int, length: int, base: float, sample_rate: int, passes: int
) -> tuple[float, float] | None:
    """What must be added to the lag in one window, in frames, and its inverse variance."""
    nearest = round(base)
    frequency = np.fft.rfftfreq(_FINE_FFT)
    band = (frequency * sample_rate >= _LOWEST_HZ) & (frequency * sample_rate <= _HIGHEST_HZ)
    omega = 2 * np.pi * frequency[band].astype(np.float64)
    mixture = stft(_slice(x, start, length)[None], _FINE_FFT, _FINE_HOP)[:, band]
    instrumental = stft(_slice(clocked, start + nearest, length)[None], _FINE_FFT, _FINE_HOP)[:, band]
    if min(power(mixture).mean(), power(instrumental).mean()) < 1e-9:
        return None
    transfer = estimate_transfer(mixture, instrumental, smooth_bins=1, passes=passes)
    strength = transfer.precision[:, 0].astype(np.float64)
    if not strength.sum() > 0:
        return None
    delay = _phase_slope(transfer.response[:, 0, 0], strength, omega)
    return nearest + delay - base, float((strength * omega**2).sum())


def _phase_slope(response: Spectrum, strength: Floats, omega: Floats) -> float:
    """Delay in frames whose phase ramp explains the response, by a search and weighted least squares."""
    unit = response / (np.abs(response) + 1e-30) * np.sqrt(strength)
    grid = np.arange(-8, 8.01, 0.25)
    score = np.abs(np.exp(-1j * grid[:, None] * omega[None]) @ unit)
    delay = float(grid[np.argmax(score)])
    for _ in range(3):
        turned = response * np.exp(-1j * delay * omega)
        sign = 1.0 if (turned.real * strength).sum() >= 0 else -1.0
        phase = np.angle(sign * turned)
        delay += float((strength * omega * phase).sum() / (strength * omega**2).sum())
    return delay


def _fit_lines(t: Floats, error: Floats, weight: Floats, owner: Ints, lines: int) -> tuple[float, Floats, float]:
    """One slope and an offset per line, robust (Huber weights by the scatter); NaN for a line without windows."""
    design = np.zeros((len(t), lines + 1))
    design[np.arange(len(t)), owner] = 1
    centre = t.mean()
    design[:, -1] = t - centre
    several = np.bincount(owner, minlength=lines).max() >= 2
    columns = np.flatnonzero(np.bincount(owner, minlength=lines) > 0)
    used = np.append(columns, lines) if several else columns
    robust = weight / weight.max()
    solution = np.zeros(lines + 1)
    scale = 0.0
    for _ in range(10):
        root = np.sqrt(robust)[:, None]
        solution[used] = np.linalg.lstsq(design[:, used] * root, error * root[:, 0], rcond=None)[0]
        residual = np.abs(error - design @ solution)
        scale = 1.4826 * float(np.median(residual)) + 1e-4
        robust = weight / weight.max() / (1 + (residual / (2 * scale)) ** 2)
    offsets = np.full(lines, np.nan)
    offsets[columns] = solution[columns] - solution[-1] * centre
    return float(solution[-1]), offsets, scale / np.sqrt(len(t))


# Cuts and trims


def _place_cuts(x: Audio, clocked: Audio, sample_rate: int, alignment: Alignment) -> Alignment:
    """Move the border between adjoining segments to where the left lag stops and the right one starts to fit.

    Where the mixture has something of its own between them, that is two borders.
    """
    segments = list(alignment.segments)
    for left in range(len(segments) - 1):
        first, second = segments[left], segments[left + 1]
        if second.start_frame - first.end_frame > 4 * sample_rate:
            continue
        low = max(first.start_frame, min(first.end_frame, second.start_frame) - 4 * sample_rate)
        high = min(second.end_frame, max(first.end_frame, second.start_frame) + 4 * sample_rate)
        costs = [_misfit(x, clocked, low, high - low, segment, alignment.drift_ppm) for segment in (first, second)]
        before = np.concatenate([[0.0], np.cumsum(costs[0])])
        after = np.concatenate([np.cumsum(costs[1][::-1])[::-1], [0.0]])
        resume = int(np.argmin(np.minimum.accumulate(before) + after))
        stop = int(np.argmin(before[: resume + 1]))
        if resume - stop < _MIN_GAP_S * sample_rate:
            stop = resume = int(np.argmin(before + after))
        segments[left] = replace(first, end_frame=low + stop)
        segments[left + 1] = replace(second, start_frame=low + resume)
    kept = tuple(segment for segment in segments if segment.num_frames > 0)
    return replace(alignment, segments=kept)


def _misfit(x: Audio, clocked: Audio, start: int, length: int, segment: Segment, drift_ppm: float) -> Floats:
    """Squared error of one lag less that of none, frame by frame, the gain matched over the stretch."""
    position = start + segment.lag_frames / (1 + drift_ppm * 1e-6)
    other = delayed(clocked[None], position, length)[0].astype(np.float64)
    mixture = _slice(x, start, length).astype(np.float64)
    # the median of local gains: half of the stretch belongs to the other segment
    blocks = max(1, length // 8192)
    edges = np.linspace(0, length, blocks + 1).astype(int)[:-1]
    energy = np.add.reduceat(other * other, edges)
    loud = energy > 0.05 * energy.max()
    gains = np.add.reduceat(mixture * other, edges)[loud] / energy[loud]
    gain = np.median(gains[np.abs(gains) >= 0.5 * np.abs(gains).max()]) if loud.any() else 0.0
    misfit: Floats = (mixture - gain * other) ** 2 - mixture**2
    return misfit


def presence(mixture: Audio, accompaniment: Audio, sample_rate: int, *, window_s: float = 1.0) -> Floats:
    """How much two aligned signals share, per window: near 1 where one is in the other, near 0 where neither is.

    The larger of ``<X, A> / <A, A>``, which vocals in the mixture do not move, since they are not correlated with
    the accompaniment, and ``<X, A> / (|X| |A|)``, which stays clear of 0 when the vocals are in the other signal.
    Bins of 100-4000 Hz, each whitened so that loud bass does not decide alone.

    Parameters
    ----------
    mixture, accompaniment : np.ndarray [shape=(frames,), float32]
        Mono and aligned; the accompaniment in the mixture's gain.
    sample_rate : int > 0
    window_s : float > 0

    Returns
    -------
    np.ndarray [shape=(windows,)]
        NaN where either signal is silent.
    """
    x = stft(mixture[None], _FINE_FFT, _FINE_HOP)[0]
    a = stft(accompaniment[None], _FINE_FFT, _FINE_HOP)[0]
    frequency = np.fft.rfftfreq(_FINE_FFT, 1 / sample_rate)
    band = (frequency >= _LOWEST_HZ) & (frequency <= _HIGHEST_HZ / 2)
    x, a = x[band], a[band]
    whitening = 1 / (power(a).mean(axis=1, keepdims=True) + power(x).mean(axis=1, keepdims=True) + 1e-12)
    step = max(1, round(window_s * sample_rate / _FINE_HOP))
    edges = np.arange(0, x.shape[1], step)

    def windows(plane: npt.NDArray[np.float32]) -> Floats:
        summed: Floats = np.add.reduceat((plane * whitening).sum(axis=0), edges).astype(np.float64)
        return summed

    inner, energy, heard = windows((x * np.conj(a)).real), windows(power(a)), windows(power(x))
    silent = np.minimum(energy / (np.median(energy) + 1e-12), heard / (np.median(heard) + 1e-12)) < 1e-4
    smaller = np.minimum(energy, np.sqrt(energy * heard))
    return np.where(silent, np.nan, inner / np.where(silent, 1, smaller))


def _trim(x: Audio, clocked: Audio, sample_rate: int, alignment: Alignment, min_frames: int) -> Alignment:
    """Cut stretches where the instrumental is not in the mixture; drop segments that become too short."""
    kept = []
    cuts = {s.start_frame for s in alignment.segments} & {s.end_frame for s in alignment.segments}
    for segment in alignment.segments:
        position = _clocked_start(segment, alignment.drift_ppm)
        start = segment.start_frame + max(0, int(np.ceil(-position)))
        end = min(segment.end_frame, segment.start_frame + int(np.floor(len(clocked) - position)), len(x))
        if end - start < max(min_frames, 2 * _FINE_FFT):
            continue
        whole = replace(segment, start_frame=start, end_frame=end)
        other = delayed(clocked[None], _clocked_start(whole, alignment.drift_ppm), whole.num_frames)[0]
        mixture = x[start:end]
        gain = matched_gain(mixture, other)
        # what windows have bounded is known to a window; files' ends and cuts are known
        vague_start = start == segment.start_frame and start not in cuts | {0}
        vague_end = end == segment.end_frame and end not in cuts | {len(x)}
        kept += _present_runs(whole, mixture, gain * other, sample_rate, min_frames, vague_start, vague_end)
    return replace(alignment, segments=tuple(kept))


def matched_gain(mixture: Audio, other: Audio) -> np.float32:
    """Signed broadband gain that brings a signal to its level inside a mixture.

    Parameters
    ----------
    mixture, other : np.ndarray [shape=(frames,), float32]
        Mono and aligned.

    Returns
    -------
    np.float32
        The median of the least-squares gains of stretches of 0.7 s; 0 when `other` is silent.
    """
    edges = np.arange(0, len(mixture), 1 << 15)
    inner = np.add.reduceat(mixture.astype(np.float64) * other, edges)
    energy = np.add.reduceat(other.astype(np.float64) ** 2, edges)
    loud = energy > 0.05 * energy.max()
    return np.float32(np.median(inner[loud] / energy[loud])) if energy.max() > 0 else np.float32(0)


def _present_runs(
    segment: Segment,
    mixture: Audio,
    accompaniment: Audio,
    sample_rate: int,
    min_frames: int,
    vague_start: bool,
    vague_end: bool,
) -> list[Segment]:
    coefficient = presence(mixture, accompaniment, sample_rate)
    absent = np.nan_to_num(coefficient, nan=1.0) < _MIN_PRESENCE
    # one doubtful second is the estimator's noise; two and more are another arrangement
    absent = scipy.ndimage.binary_opening(absent, np.ones(2, np.bool_))
    labels, count = scipy.ndimage.label(~absent)
    step = max(1, round(sample_rate / _FINE_HOP)) * _FINE_HOP
    misfit = (mixture - accompaniment).astype(np.float64) ** 2 - mixture.astype(np.float64) ** 2
    fit = np.concatenate([[0.0], np.cumsum(misfit)])
    runs = []
    for index in range(1, count + 1):
        where = np.flatnonzero(labels == index)
        last = int(where[-1]) + 1 == len(absent)
        start, end = int(where[0]) * step, len(mixture) if last else int(where[-1] + 1) * step
        # windows tell where to look, the waveform tells the frame
        reach = min(2 * step, (end - start) // 2)
        low, high = end - reach, min(end + step, len(mixture))
        if where[0] > 0 or vague_start:
            first = max(0, start - step)
            start = first + int(np.argmax(fit[first : start + reach]))
        if not last or vague_end:
            end = low + int(np.argmin(fit[low : high + 1]))
        if end - start >= min_frames:
            borders = (segment.start_frame + start, segment.start_frame + end)
            runs.append(Segment(*borders, segment.lag_frames))
    return runs
