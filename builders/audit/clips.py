"""What the page hears and sees of a track: clips as WAV, peaks of the whole song, spectrograms as PNG.

Clips are decoded as crops, pictures in blocks or windows: no file is ever whole in memory. A nudge delays the
instrumental by a fraction of a frame with a windowed sinc, the same for every frame, so that clips that follow each
other join without a seam.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.signal import oaconvolve

from builders.audit.songs import Part, Track
from builders.report.pictures import spectrogram_png
from manifests.audio import Audio, blocks, read

MAX_CLIP_S = 60.0
"""Of one request."""

MAX_NUDGE_S = 1.0

RANGE_DB = 80.0
"""Of a spectrogram: from a sine of full scale, 0 dB, down."""

# flat within 1e-4 up to 0.97 of half the rate
_HALF_TAPS, _BETA = 256, 10.0
_BLOCK_FRAMES = 1 << 18
_WINDOW = 2048
_MOST_WINDOWS = 4
_WINDOWS_AT_ONCE = 128
_LOWEST_HZ = 30.0
_HANN_BINS = 1.5  # over how many bins a Hann window spreads a sine's power

Floats = npt.NDArray[np.float64]


def clip(track: Track, start_frame: int, num_frames: int, nudge_frames: float = 0.0) -> Audio:
    """Frames of a track, with zeros beyond its ends.

    Parameters
    ----------
    track : Track
    start_frame : int
        May be negative.
    num_frames : int >= 1
    nudge_frames : float
        How much later than in its file the instrumental is heard.

    Returns
    -------
    np.ndarray [shape=(channels, num_frames)]
        float32.

    Raises
    ------
    AudioError
        When a file cannot be decoded.
    """
    total = np.zeros((track.channels, num_frames), np.float32)
    for part in track.parts:
        nudge = nudge_frames if part.is_nudged else 0.0
        whole = int(np.floor(nudge))
        audio = _delayed(part, start_frame - whole, num_frames, nudge - whole)
        total += audio if part.sign == 1 else part.sign * audio
    return total


def _crop(part: Part, start_frame: int, num_frames: int) -> Audio:
    """Frames of a file, with zeros beyond its ends."""
    first, last = max(0, start_frame), min(part.num_frames, start_frame + num_frames)
    if first >= last:
        return np.zeros((1, num_frames), np.float32)
    part.require_file()
    audio, _ = read(part.path, first, last - first)
    return np.pad(audio, ((0, 0), (first - start_frame, start_frame + num_frames - last)))


def _delayed(part: Part, start_frame: int, num_frames: int, delay_frames: float) -> Audio:
    """Frames of a file that is heard so much later, by less than a frame."""
    if delay_frames == 0:
        return _crop(part, start_frame, num_frames)
    audio = _crop(part, start_frame - _HALF_TAPS, num_frames + 2 * _HALF_TAPS)
    places = np.arange(-_HALF_TAPS, _HALF_TAPS + 1)
    # the window moves with the sinc, so that all frequencies are delayed alike
    inside = np.clip(1 - np.square((places - delay_frames) / (_HALF_TAPS + 1)), 0, None)
    taps = np.sinc(places - delay_frames) * np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA)
    return np.asarray(oaconvolve(audio.astype(np.float64), taps[np.newaxis], mode="valid", axes=1), np.float32)


def wav(audio: Audio, sample_rate: int) -> bytes:
    """A WAV file of 32 bit floats.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
    sample_rate : int

    Returns
    -------
    bytes
        The same for the same audio.
    """
    channels, num_frames = audio.shape
    data = audio.T.astype("<f4").tobytes()
    form = struct.pack("<HHIIHHH", 3, channels, sample_rate, 4 * channels * sample_rate, 4 * channels, 32, 0)
    chunks = b"".join(
        name + struct.pack("<I", len(body)) + body
        for name, body in ((b"fmt ", form), (b"fact", struct.pack("<I", num_frames)), (b"data", data))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def peaks(track: Track, bins: int) -> bytes:
    """The outline of a whole track.

    Parameters
    ----------
    track : Track
    bins : int >= 1

    Returns
    -------
    bytes
        int8 [shape=(bins, 2)]: lowest and highest sample of each bin, of all channels; 127 is full scale.

    Raises
    ------
    AudioError
        When a file cannot be decoded.
    """
    edges = np.arange(bins + 1) * track.num_frames // bins
    lows, highs = np.full(bins, np.inf), np.full(bins, -np.inf)
    start = 0
    for block in _blocks(track):
        end = start + block.shape[1]
        # from the bin that goes on here, or those that start here, to the last that starts in this block
        first = min(np.searchsorted(edges, start), np.searchsorted(edges, start, side="right") - 1)
        last = min(np.searchsorted(edges, end), bins)
        inner = np.clip(edges[first:last] - start, 0, None)
        # of more bins than frames, some begin where others do: reduceat gives them that one frame
        lows[first:last] = np.minimum(lows[first:last], np.minimum.reduceat(block.min(axis=0), inner))
        highs[first:last] = np.maximum(highs[first:last], np.maximum.reduceat(block.max(axis=0), inner))
        start = end
    outline = np.stack([lows, highs], axis=1)
    outline[~np.isfinite(outline)] = 0
    return bytes(np.rint(127 * np.clip(outline, -1, 1)).astype(np.int8).tobytes())


def _blocks(track: Track) -> Iterator[Audio]:
    """The sum of a track's files, block by block."""
    for part in track.parts:
        part.require_file()
    streams = [(part.sign, blocks(part.path, _BLOCK_FRAMES)) for part in track.parts]
    left = track.num_frames
    while left > 0:
        total = np.zeros((track.channels, min(left, _BLOCK_FRAMES)), np.float32)
        for sign, stream in streams:
            block = next(stream, None)
            if block is not None:
                total[:, : block.shape[1]] += np.float32(sign) * block[:, : total.shape[1]]
        yield total
        left -= _BLOCK_FRAMES


def spectrogram(track: Track, start_frame: int, num_frames: int, width: int, height: int) -> bytes:
    """A picture of a track: time, and frequency on the mel scale, the highest on top.

    Parameters
    ----------
    track : Track
    start_frame : int
    num_frames : int >= 1
        What the picture spans.
    width, height : int >= 1
        In pixels.

    Returns
    -------
    bytes
        A PNG. Power of all channels, in the colours of `RANGE_DB` below a sine of full scale, the same in each.

    Raises
    ------
    AudioError
        When a file cannot be decoded.
    """
    per_column = int(np.clip(-(-num_frames // (width * _WINDOW)), 1, _MOST_WINDOWS))
    count = width * per_column
    centres = start_frame + ((np.arange(count) + 0.5) * num_frames / count).astype(np.int64)
    edges = _mel_edges(track.sample_rate, height) * _WINDOW / track.sample_rate
    columns = [
        _bands(_windows(track, centres[place : place + _WINDOWS_AT_ONCE]), edges)
        for place in range(0, count, _WINDOWS_AT_ONCE)
    ]
    power = np.concatenate(columns).reshape(width, per_column, height).mean(axis=1)
    return spectrogram_png(10 * np.log10(power.T[::-1] + 1e-12), 0.0, RANGE_DB)


def _mel_edges(sample_rate: int, height: int) -> Floats:
    """Frequencies in Hz between which the rows lie: HTK's mel scale."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (_LOWEST_HZ, sample_rate / 2))
    return np.asarray(700 * (10 ** (np.linspace(low, high, height + 1) / 2595) - 1))


def _windows(track: Track, centres: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Frames around some places [shape=(places, channels, _WINDOW)]."""
    first = int(centres[0]) - _WINDOW // 2
    audio = clip(track, first, int(centres[-1]) + _WINDOW // 2 - first)
    views = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW, axis=1)
    return views[:, centres - centres[0]].swapaxes(0, 1)


def _bands(frames: npt.NDArray[np.float32], edges: Floats) -> Floats:
    """Power in each row [shape=(windows, rows)]; 1 for a sine of full scale."""
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    spectra = np.fft.rfft(frames * window)
    power = np.square(np.abs(spectra)).mean(axis=1, dtype=np.float64) * (4 / np.square(window.sum()) / _HANN_BINS)
    total = np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))
    # up to a fraction of a bin, so that rows narrower than a bin have their share
    places = np.clip(edges + 0.5, 0, total.shape[1] - 1)
    below = np.minimum(places.astype(np.int64), total.shape[1] - 2)
    at_edges = total[:, below] + (places - below) * (total[:, below + 1] - total[:, below])
    return np.asarray(np.diff(at_edges, axis=1) / np.minimum(np.diff(places), 1))
