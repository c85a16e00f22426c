"""Distributions as SVG that takes its colours from the page.

Colours are CSS variables (`--ink`, `--rule`, `--bad` and one per series), so that one picture serves a light and a
dark page. What is drawn is made of numbers; the only texts are labels of ours, which are escaped all the same.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 24
_MAX_BARS = 40
# matplotlib knows no CSS: it paints in stand-in colours, which are then replaced.
_STAND_INS = {"--ink": "#010203", "--rule": "#010204"}
_ID = re.compile(r' id="(?!clip|m)[a-zA-Z]+\w*_\d+"')
_FONT = re.compile(r"font: ([\d.]+)px [^;\"]*")

Floats = npt.NDArray[np.float64]


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
    edges = _edges(series)
    if edges is None:
        return ""

    def paint(axes: Axes, colours: Mapping[str, str]) -> None:
        below = np.zeros(_BINS)
        for name, found in series.items():
            above = below + np.histogram(found, edges)[0]
            axes.stairs(above, edges, baseline=below, fill=True, facecolor=colours[name])
            below = above
        axes.set_ylim(0, 1.05 * below.max())

    return _drawn(label, list(series), paint)


def outlines(series: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw counts of several series over each other: as `histogram`, but as lines, and each from zero."""
    edges = _edges(series)
    if edges is None:
        return ""

    def paint(axes: Axes, colours: Mapping[str, str]) -> None:
        highest = 1
        for name, found in series.items():
            counts = np.histogram(found, edges)[0]
            highest = max(highest, int(counts.max()))
            axes.stairs(counts, edges, fill=True, facecolor=colours[name], alpha=0.14)
            axes.stairs(counts, edges, edgecolor=colours[name], linewidth=1.2)
        axes.set_ylim(0, 1.05 * highest)

    return _drawn(label, list(series), paint)


def gate(edges: Floats, counts: Floats, minimum: float | None, maximum: float | None, label: str) -> str:
    """Draw the distribution that a gate cuts: what passes, what does not, and the threshold.

    Parameters
    ----------
    edges : np.ndarray [shape=(bins + 1,)]
        Ascending and finite. The axis is logarithmic where they are positive, and more even in logarithms.
    counts : np.ndarray [shape=(bins,)]
        At least 0.
    minimum, maximum : float or None
        What passes is at least the one, or at most the other; None is no limit.
    label : str
        What the picture shows, for those who cannot see it.

    Returns
    -------
    str
        An `<svg>` element in the colours `--chosen`, `--bad` and `--ink`; empty when there are no counts.
    """
    if len(counts) == 0 or counts.sum() == 0:
        return ""
    limits = [limit for limit in (minimum, maximum) if limit is not None]
    is_logarithmic = bool(edges[0] > 0) and _unevenness(np.log(edges)) < 0.9 * _unevenness(edges)

    def paint(axes: Axes, colours: Mapping[str, str]) -> None:
        # a bin that a limit divides is drawn in two colours: where in the bin its values are is not known
        cuts = np.unique(np.concatenate([edges, [cut for cut in limits if edges[0] < cut < edges[-1]]]))
        heights = counts[np.clip(np.searchsorted(edges, cuts[:-1], side="right") - 1, 0, len(counts) - 1)]
        middles = (cuts[:-1] + cuts[1:]) / 2
        passes = (middles >= (-np.inf if minimum is None else minimum)) & (
            middles <= (np.inf if maximum is None else maximum)
        )
        for name, mask in (("--chosen", passes), ("--bad", ~passes)):
            axes.stairs(np.where(mask, heights, 0), cuts, fill=True, facecolor=colours[name])
        if is_logarithmic:
            axes.set_xscale("log")
        for cut in limits:
            axes.axvline(cut, color=colours["--ink"], linewidth=1, linestyle=(0, (3, 2)))
        axes.set_ylim(0, 1.05 * counts.max())

    return _drawn(label, ["--chosen", "--bad"], paint, is_logarithmic=is_logarithmic)


def wholes(heights: Mapping[int, float], label: str) -> str:
    """Draw how often whole numbers were there.

    Parameters
    ----------
    heights : mapping of int to float
        Counts of at least 0, by number; numbers between those that are there have none.
    label : str
        What the picture shows, for those who cannot see it.

    Returns
    -------
    str
        An `<svg>` element in the colour `--chosen`, with a bar for each number (several where there are many);
        empty when there are no counts.
    """
    if sum(heights.values()) == 0:
        return ""
    first, last = min(heights), max(heights)
    step = 1 + (last - first) // _MAX_BARS
    edges = np.arange(first, last + step + 1, step) - 0.5
    counts = np.histogram(list(heights), edges, weights=list(heights.values()))[0]

    def paint(axes: Axes, colours: Mapping[str, str]) -> None:
        axes.bar((edges[:-1] + edges[1:]) / 2, counts, 0.86 * step, color=colours["--chosen"])
        axes.set_ylim(0, 1.05 * counts.max())

    return _drawn(label, ["--chosen"], paint, is_whole=True)


def _unevenness(edges: Floats) -> float:
    """Spread of the widths of bins, relative to their mean."""
    widths = np.diff(edges)
    return float(widths.std() / widths.mean())


def _edges(series: Mapping[str, Sequence[float]]) -> Floats | None:
    """Equal bins over all values; None when there is no value."""
    values = np.concatenate([np.asarray(found, np.float64) for found in series.values()] or [np.zeros(0)])
    if len(values) == 0:
        return None
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def _drawn(
    label: str,
    names: Sequence[str],
    paint: Callable[[Axes, Mapping[str, str]], None],
    *,
    is_logarithmic: bool = False,
    is_whole: bool = False,
) -> str:
    """A figure with counts upwards: axes, what `paint` draws into them, and the page's colours."""
    # Only a page with pictures pays for matplotlib's import.
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    stand_ins = {**_STAND_INS, **{name: f"#0102{16 + i:02x}" for i, name in enumerate(names)}}
    ink, rule = stand_ins["--ink"], stand_ins["--rule"]
    # text as text, in the page's font; ids that are the same for the same picture, and unlike another's
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 8.5}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(3.7, 1.6))
        figure.patch.set_visible(False)
        # fixed margins, with room for counts of five digits: a layout engine would draw everything twice
        axes = figure.add_axes((0.1, 0.15, 0.86, 0.8))
        axes.patch.set_visible(False)
        paint(axes, stand_ins)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=rule, linewidth=0.6)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set_color(ink)
        axes.tick_params(colors=ink, length=0, axis="y")
        axes.tick_params(colors=ink, length=2.5, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0), numticks=8) if is_logarithmic else MaxNLocator(5, integer=is_whole)
        )
        if is_logarithmic:
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return _inlined(picture.getvalue(), label, stand_ins)


def _inlined(svg: str, label: str, stand_ins: Mapping[str, str]) -> str:
    """A stand-alone SVG as an element of a page: sized and coloured by it, ids kept to those that are used."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _FONT.sub(r"font-size: \1px", _ID.sub("", svg))
    for name, colour in stand_ins.items():
        svg = svg.replace(colour, f"var({name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1).strip()
