"""Points, lines, boxes, intervals and matrices as SVG in the colours of the page: what `charts` is for counts.

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
_NAMES = 92.0
_MATRIX_CHARS = 18
_BOXED = 8
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A value under a name, with the interval that it lies in, and perhaps a second one."""

    name: str
    colour: str
    value: float
    low: float
    high: float
    outer: tuple[float, float] | None = None


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


def standalone(svg: str, colours: str) -> str:
    """A picture of a page as a file of its own.

    Parameters
    ----------
    svg : str
        Of a function of this module.
    colours : str
        CSS that sets the variables, for `:root`.

    Returns
    -------
    str
        Light or dark as its reader is.
    """
    ground = f"{colours} svg {{ background: var(--page); font-family: sans-serif; }}"
    opening = '<svg xmlns="http://www.w3.org/2000/svg"'
    return svg.replace("<svg", opening, 1).replace(">", f"><style>{ground}</style>", 1)


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


def intervals(rows: Sequence[Difference], label: str, unit: str) -> str:
    """Draw differences, one below the other, around a line at zero.

    Parameters
    ----------
    rows : sequence of Difference
        Intervals that are not finite are not drawn, nor are rows without a finite value.
    label : str
        What the picture shows, for those who cannot see it.
    unit : str
        Below the axis.

    Returns
    -------
    str
        As `strips`. The interval is a thick line, the second one a thin line.
    """
    ends = [end for row in rows for end in (row.value, row.low, row.high, *(row.outer or ()))]
    ends = [end for end in ends if math.isfinite(end)]
    if not ends:
        return ""
    height = 19.0
    bottom = _TOP + height * len(rows)
    marks = _ticks([*ends, 0.0], 6)
    x = _scale(marks, _NAMES, WIDTH - _RIGHT)
    parts = [_line(x(mark), _TOP, x(mark), bottom, "--rule" if mark else "--soft") for mark in marks]
    parts += [_text(x(mark), bottom + 11, _number(mark), "middle") for mark in marks]
    parts.append(_text(WIDTH - _RIGHT, bottom + 22, unit, "end"))
    for number, row in enumerate(rows):
        y = _TOP + height * (number + 0.5)
        parts.append(_text(_NAMES - 8, y + 3, row.name, "end"))
        for span, width in ((row.outer, 1.0), ((row.low, row.high), 4.0)):
            if span is not None and all(map(math.isfinite, span)):
                parts.append(_line(x(span[0]), y, x(span[1]), y, row.colour, width))
        if math.isfinite(row.value):
            style = f"fill: var(--page); stroke: var({row.colour}); stroke-width: 1.6"
            parts.append(f'<circle cx="{_place(x(row.value))}" cy="{_place(y)}" r="3" style="{style}"/>')
    return _svg(parts, bottom + 26, label)


def matrix(
    names: Sequence[str], cells: Sequence[Sequence[tuple[str, str, float] | None]], label: str, note: str
) -> str:
    """Draw a square table with coloured cells.

    Parameters
    ----------
    names : sequence of str
        Of rows and columns.
    cells : sequence of sequence of (text, colour, strength) or None
        By row and column: a short text, the CSS variable of a colour, and how much of it, from 0 to 1.
    label : str
        What the picture shows, for those who cannot see it.
    note : str
        Below it.

    Returns
    -------
    str
        As `strips`; empty without names.
    """
    if not names:
        return ""
    side = (WIDTH - _NAMES - _RIGHT) / len(names)
    height = min(side, 26.0)
    head = 12.0 + 5.0 * max(len(name[:_MATRIX_CHARS]) for name in names) * math.sin(math.radians(40))
    parts = []
    for number, name in enumerate(names):
        short = name if len(name) <= _MATRIX_CHARS else f"{name[: _MATRIX_CHARS - 1]}…"
        at, top = _NAMES + side * (number + 0.5), head + height * (number + 0.5)
        turned = _text(at - 3, head - 5, short, "start")
        parts.append(f'<g transform="rotate(-40 {_place(at)} {_place(head - 5)})">{turned}</g>')
        parts.append(_text(_NAMES - 8, top + 3, short, "end"))
        for place, cell in enumerate(cells[number]):
            if cell is None:
                continue
            text, colour, strength = cell
            corner = f'x="{_place(_NAMES + side * place + 0.5)}" y="{_place(head + height * number + 0.5)}"'
            size = f'width="{_place(side - 1)}" height="{_place(height - 1)}" rx="2"'
            parts.append(f'<rect {corner} {size} style="fill: var({colour}); fill-opacity: {strength:.2f}"/>')
            ink = "--card" if strength > 0.6 else "--ink"
            style = f"fill: var({ink}); font-size: {min(8.5, side / 4):.1f}px; text-anchor: middle"
            middle = f'x="{_place(_NAMES + side * (place + 0.5))}" y="{_place(top + 3)}"'
            parts.append(f'<text {middle} style="{style}">{html.escape(text)}</text>')
    bottom = head + height * len(names)
    parts.append(_text(_NAMES, bottom + 14, note, "start"))
    return _svg(parts, bottom + 22, label)


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
