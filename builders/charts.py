"""Pictures for a report: histograms as SVG that takes its colours from the page, spectrograms as small PNGs.

Colours in the SVG are CSS variables (`--ink`, `--rule` and one per series), so that one picture serves a light
and a dark page.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.audio import blocks

COLUMNS, ROWS = 420, 88
"""Size of a spectrogram picture in pixels: time, and frequency on a logarithmic axis."""

LOWEST_HZ = 40.0
RANGE_DB = 65.0

_WINDOW = 2048
_MIN_COLUMN = 256
_SHADES = 64
_BINS = 24

# matplotlib knows no CSS: it paints in stand-in colours, which are then replaced.
_STAND_INS = {"--ink": "#010203", "--rule": "#010204"}
_ID = re.compile(r' id="(?!clip|m)[a-zA-Z]+\w*_\d+"')
_FONT = re.compile(r"font: ([\d.]+)px [^;\"]*")

Levels = npt.NDArray[np.float64]


def histogram(series: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw stacked counts.

    Parameters
    ----------
    series : mapping of str to sequence of float
        CSS variable of its colour (``--chosen``) to finite values, in the order of stacking.
    label : str
        What the picture shows, for those who cannot see it.

    Returns
    -------
    str
        An `<svg>` element without a size of its own; empty when there are no values.
    """
    values = np.concatenate([np.asarray(found, np.float64) for found in series.values()] or [np.zeros(0)])
    if len(values) == 0:
        return ""
    # Only a page with pictures pays for matplotlib's import.
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    stand_ins = {**_STAND_INS, **{name: f"#0102{16 + i:02x}" for i, name in enumerate(series)}}
    ink, rule = stand_ins["--ink"], stand_ins["--rule"]
    # text as text, in the page's font; ids that are the same for the same picture, and unlike another's
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 8.5}):
        figure = Figure(figsize=(3.7, 1.6))
        figure.patch.set_visible(False)
        # fixed margins, with room for counts of five digits: a layout engine would draw everything twice
        axes = figure.add_axes((0.1, 0.15, 0.86, 0.8))
        axes.patch.set_visible(False)
        edges = _edges(values)
        below = np.zeros(_BINS)
        for name, found in series.items():
            above = below + np.histogram(found, edges)[0]
            axes.stairs(above, edges, baseline=below, fill=True, facecolor=stand_ins[name])
            below = above
        axes.set_ylim(0, 1.05 * below.max())
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=rule, linewidth=0.6)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set_color(ink)
        axes.tick_params(colors=ink, length=0, axis="y")
        axes.tick_params(colors=ink, length=2.5, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return _inlined(picture.getvalue(), label, stand_ins)


def _edges(values: Levels) -> Levels:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def _inlined(svg: str, label: str, stand_ins: Mapping[str, str]) -> str:
    """A stand-alone SVG as an element of a page: sized and coloured by it, ids kept to those that are used."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _FONT.sub(r"font-size: \1px", _ID.sub("", svg))
    for name, colour in stand_ins.items():
        svg = svg.replace(colour, f"var({name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def spectrogram(path: Path, num_frames: int, sample_rate: int) -> Levels:
    """Measure levels over time and frequency, in one pass and in memory that does not grow with the file.

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
    np.ndarray [shape=(ROWS, columns)]
        Power per band in dB, the highest frequency first; up to `COLUMNS` columns. Bands are equally wide in
        octaves, so that pink noise is level.

    Raises
    ------
    AudioError
        When the file cannot be decoded.
    """
    column_frames = max(_MIN_COLUMN, -(-num_frames // COLUMNS))
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, ROWS + 1) * _WINDOW / sample_rate
    columns = []
    for block in blocks(path, column_frames):
        mono = block.mean(axis=0, dtype=np.float64)
        # whole windows only: the edge of a padded one would light up every frequency
        size = min(len(mono), _WINDOW)
        count = len(mono) // size
        window = np.hanning(size + 2)[1:-1]
        spectra = np.fft.rfft(mono[: count * size].reshape(count, size) * window, _WINDOW)
        power = np.square(np.abs(spectra)).mean(axis=0) / np.square(window).sum()
        total = np.concatenate([[0.0], np.cumsum(power)])
        # power of bins up to a fraction of a bin, so that bands narrower than a bin have their share
        columns.append(np.diff(np.interp(edges + 0.5, np.arange(len(total)), total)))
    return np.asarray(10 * np.log10(np.array(columns).T[::-1] + 1e-12))


def spectrogram_png(levels: Levels, top_db: float) -> bytes:
    """Paint a spectrogram.

    Parameters
    ----------
    levels : np.ndarray [shape=(rows, columns)]
        Of `spectrogram`.
    top_db : float
        The level of the brightest shade; `RANGE_DB` below is the darkest.

    Returns
    -------
    bytes
        A PNG of one byte per pixel and a palette: a quarter of what matplotlib would write.
    """
    from matplotlib import colormaps

    shades = np.clip((levels - top_db) / RANGE_DB + 1, 0, 1) * (_SHADES - 1)
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
