"""Points, lines and boxes as SVG that takes its colours from the page: what `charts` is for distributions.

Drawn by hand, in a box of `WIDTH` units across. What is drawn is made of numbers; texts are escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH = 370.0
_HEIGHT = 170.0
_LEFT, _RIGHT, _BOTTOM, _TOP = 30.0, 8.0, 30.0, 8.0
_ROW, _LABEL = 38.0, 13.0
_TEXT = 9.5
_MAX_CHARS = 60
_BOXED = 8
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Values under a name: of `strips` their places, of `points` and `lines` their heights over `x`."""

    name: str
    colour: str
    values: Sequence[float]
    x: Sequence[float] = ()
    is_dashed: bool = False


def strips(rows: Sequence[Series], label: str, unit: str, span: Sequence[float] = ()) -> str:
    """Draw the values of each row as points, with their median, and from eight values on with their quartiles.

    Parameters
    ----------
    rows : sequence of Series
        Finite values; a row without any keeps its place.
    label : str
        What the picture shows, for those who cannot see it.
    unit : str
        Below the axis.
    span : sequence of float
        Values that the axis reaches too, so that pictures beside each other share it.

    Returns
    -------
    str
        An `<svg>` element without a size of its own; empty when there are no values.
    """
    values = [value for row in rows for value in row.values]
    if not values:
        return ""
    bottom = _TOP + _ROW * len(rows)
    marks = _ticks([*values, *span], 6)
    x = _scale(marks, 4.0, WIDTH - _RIGHT)
    parts = [_line(x(mark), _TOP, x(mark), bottom, "--rule") for mark in marks]
    parts += [_text(x(mark), bottom + 11, _number(mark), "middle") for mark in marks]
    parts.append(_text(WIDTH - _RIGHT, bottom + 22, unit, "end"))
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        middle = top + _LABEL + (_ROW - _LABEL) / 2
        parts.append(_text(4.0, top + _LABEL - 3, row.name, "start"))
        if not row.values:
            continue
        for place, value in enumerate(row.values):
            # spread evenly by the golden ratio: the same values give the same picture
            y = middle + 12.0 * ((place * _GOLDEN) % 1.0 - 0.5)
            parts.append(_dot(x(value), y, row.colour))
        low, median, high = np.quantile(row.values, [0.25, 0.5, 0.75])
        if len(row.values) >= _BOXED:
            parts.append(
                f'<rect x="{_place(x(low))}" y="{_place(middle - 8)}" '
                f'width="{_place(max(0.5, x(high) - x(low)))}" height="16" rx="2" '
                f'style="fill: var({row.colour}); fill-opacity: 0.16"/>'
            )
        parts.append(_line(x(median), middle - 8, x(median), middle + 8, row.colour, 2.2))
    return _svg(parts, bottom + 26, label)


def points(series: Sequence[Series], label: str, x_unit: str, y_unit: str) -> str:
    """Draw values over others as points.

    Parameters
    ----------
    series : sequence of Series
        Finite values.
    label : str
        What the picture shows, for those who cannot see it.
    x_unit, y_unit : str
        Beside the axes.

    Returns
    -------
    str
        As `strips`.
    """

    def paint(row: Series, x: _Scale, y: _Scale) -> list[str]:
        return [_dot(x(at), y(value), row.colour) for at, value in zip(row.x, row.values, strict=True)]

    return _over(series, label, x_unit, y_unit, paint)


def lines(series: Sequence[Series], label: str, x_unit: str, y_unit: str) -> str:
    """Draw values over others as lines: as `points`, with `x` ascending."""

    def paint(row: Series, x: _Scale, y: _Scale) -> list[str]:
        path = "L".join(f"{_place(x(at))} {_place(y(v))}" for at, v in zip(row.x, row.values, strict=True))
        dashes = "; stroke-dasharray: 4 3" if row.is_dashed else ""
        line = f'<path d="M{path}" style="fill: none; stroke: var({row.colour}); stroke-width: 1.6{dashes}"/>'
        return [line, *(_dot(x(at), y(v), row.colour) for at, v in zip(row.x, row.values, strict=True))]

    return _over(series, label, x_unit, y_unit, paint)


_Scale = Callable[[float], float]


def _over(
    series: Sequence[Series],
    label: str,
    x_unit: str,
    y_unit: str,
    paint: Callable[[Series, _Scale, _Scale], list[str]],
) -> str:
    across = [at for row in series for at in row.x]
    upwards = [value for row in series for value in row.values]
    if not across:
        return ""
    bottom = _HEIGHT - _BOTTOM
    x_marks, y_marks = _ticks(across, 6), _ticks(upwards, 4)
    x, y = _scale(x_marks, _LEFT, WIDTH - _RIGHT), _scale(y_marks, bottom, _TOP + 12)
    parts = [_line(_LEFT, y(mark), WIDTH - _RIGHT, y(mark), "--rule") for mark in y_marks]
    parts += [_text(_LEFT - 5, y(mark) + 3, _number(mark), "end") for mark in y_marks]
    parts += [_text(x(mark), bottom + 12, _number(mark), "middle") for mark in x_marks]
    parts += [_text(0.0, _TOP + 1, y_unit, "start"), _text(WIDTH - _RIGHT, bottom + 24, x_unit, "end")]
    for row in series:
        if row.values:
            parts += paint(row, x, y)
    return _svg(parts, _HEIGHT, label)


def _ticks(values: Sequence[float], most: int) -> list[float]:
    """Round numbers around all values: at least two, at most about `most`."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _scale(marks: Sequence[float], start: float, end: float) -> _Scale:
    return lambda value: start + (value - marks[0]) / (marks[-1] - marks[0]) * (end - start)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 0.6) -> str:
    path = f"M{_place(x1)} {_place(y1)}L{_place(x2)} {_place(y2)}"
    return f'<path d="{path}" style="stroke: var({colour}); stroke-width: {width}"/>'


def _dot(x: float, y: float, colour: str) -> str:
    style = f"fill: var({colour}); fill-opacity: 0.6"
    return f'<circle cx="{_place(x)}" cy="{_place(y)}" r="2.2" style="{style}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    short = text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
    style = f"fill: var(--soft); font-size: {_TEXT}px; text-anchor: {anchor}"
    return f'<text x="{_place(x)}" y="{_place(y)}" style="{style}">{html.escape(short)}</text>'


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    box = f"0 0 {WIDTH:g} {height:g}"
    return f'<svg role="img" aria-label="{html.escape(label)}" viewBox="{box}">{"".join(parts)}</svg>'


def _place(value: float) -> str:
    return f"{value:.1f}"


def _number(value: float) -> str:
    return f"{round(value, 9):g}".replace("-", "−")
