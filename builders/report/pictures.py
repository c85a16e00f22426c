"""Spectrograms: measured in one pass over a file, painted as small PNGs."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.audio import Audio, blocks

COLUMNS, ROWS = 420, 88
"""Size of a spectrogram picture in pixels: time, and frequency on a logarithmic axis."""

LOWEST_HZ = 40.0
RANGE_DB = 65.0

_WINDOW = 2048
_MIN_COLUMN = 256
_BLOCK_FRAMES = 1 << 17
_SHADES = 64
_FLOOR = 1e-12

Levels = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """Levels over time and frequency.

    Attributes
    ----------
    levels_db : np.ndarray [shape=(ROWS, columns)]
        Power per band in dB, the highest frequency first; up to `COLUMNS` columns. Bands are equally wide in
        octaves, so that pink noise is level.
    power : np.ndarray [shape=(columns,)]
        Mean square of each column, of all channels.
    column_frames : int
        Frames of a column; the last one may have fewer.
    """

    levels_db: Levels
    power: Levels
    column_frames: int


def spectrogram(path: Path, num_frames: int, sample_rate: int) -> Spectrogram:
    """Measure a file, in one pass and in memory that does not grow with it.

    Parameters
    ----------
    path : Path
        An audio file.
    num_frames : int
        Its length.
    sample_rate : int
        In Hz.

    Returns
    -------
    Spectrogram
        Of the mean of its channels.

    Raises
    ------
    AudioError
        When the file cannot be decoded.
    """
    column_frames = max(_MIN_COLUMN, -(-num_frames // COLUMNS))
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, ROWS + 1) * _WINDOW / sample_rate
    columns, power = [], []
    # several columns at a time: the decoder is twice as fast with large blocks
    for block in blocks(path, max(1, _BLOCK_FRAMES // column_frames) * column_frames):
        for start in range(0, block.shape[1], column_frames):
            column = block[:, start : start + column_frames]
            columns.append(_bands(column, edges))
            power.append(float(np.square(column).mean(dtype=np.float64)))
    levels_db = 10 * np.log10(np.array(columns).T[::-1] + _FLOOR)
    return Spectrogram(levels_db, np.array(power), column_frames)


def _bands(audio: Audio, edges: Levels) -> Levels:
    """Power between each two of the edges, given in bins."""
    mono = audio.mean(axis=0, dtype=np.float32)
    # whole windows only: the edge of a padded one would light up every frequency
    size = min(len(mono), _WINDOW)
    count = len(mono) // size
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    spectra = np.fft.rfft(mono[: count * size].reshape(count, size) * window, _WINDOW)
    power = np.square(np.abs(spectra)).mean(axis=0, dtype=np.float64) / np.square(window).sum(dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(power)])
    # power of bins up to a fraction of a bin, so that bands narrower than a bin have their share
    return np.asarray(np.diff(np.interp(edges + 0.5, np.arange(len(total)), total)))


def spectrogram_png(levels: Levels, top_db: float, range_db: float = RANGE_DB) -> bytes:
    """Paint a spectrogram.

    Parameters
    ----------
    levels : np.ndarray [shape=(rows, columns)]
        Of `spectrogram`.
    top_db : float
        The level of the brightest shade.
    range_db : float
        How far below that the darkest is.

    Returns
    -------
    bytes
        A PNG of one byte per pixel and a palette: a quarter of what matplotlib would write.
    """
    from matplotlib import colormaps

    shades = np.clip((levels - top_db) / range_db + 1, 0, 1) * (_SHADES - 1)
    palette = (colormaps["magma"](np.linspace(0, 1, _SHADES))[:, :3] * 255).round().astype(np.uint8)
    rows, columns = levels.shape
    # each row starts with the number of its filter: none
    pixels = np.pad(shades.round().astype(np.uint8), ((0, 0), (1, 0)))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(pixels.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
