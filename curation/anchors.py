"""Anchors: where in a sound a class is heard best, by probabilities over time.

A library says "Dog, Vehicle" of ten seconds, and not where. A sound event detector has a probability of each class
over time; an *anchor* is the stretch of a given length (2 s) with the highest mean probability of a class. Two
anchors of different classes, added, are a mixture with known parts.

Conventions
-----------
Probabilities are held for a *column*, a whole number of frames; the last column ends with the sound. A mean over a
stretch weighs the columns that it cuts by what it has of them. As a function of where a stretch starts that mean is
linear between the places where one of its ends meets that of a column, so that looking there finds the highest.

References
----------
Q. Kong et al., "Source separation with weakly labelled data: an approach to computational auditory scene analysis",
ICASSP 2020 (arXiv 2002.02065).

Q. Kong et al., "Universal Source Separation with Weakly Labelled Data", 2023 (arXiv 2305.07447): anchor segment
mining, by the mean probability of a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from manifests.errors import RecipeError

__all__ = ["Anchor", "AnchorLimits", "find_anchors"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

_DIGITS = 6
"""Means are compared to so many: a cumulative sum has more, but they are noise, and equal means must be equal."""


@dataclass(frozen=True, kw_only=True)
class AnchorLimits:
    """What an anchor must be, and how many there may be.

    Attributes
    ----------
    min_probability : float
        Mean probability of its label, at least.
    max_other : float
        Mean probability of any other label, labelled or not, at most; 1 lets others sound.
    per_label : int or None
        Anchors of one label in a sound; None: as many as there are.
    per_song : int or None
        Anchors in a sound.

    Raises
    ------
    RecipeError
        A number is out of its range.
    """

    min_probability: float = 0.3
    max_other: float = 1.0
    per_label: int | None = 1
    per_song: int | None = None

    def __post_init__(self) -> None:
        for name in ("min_probability", "max_other"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be from 0 to 1")
        for name in ("per_label", "per_song"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"{name} is {value}: it must be at least 1")


@dataclass(frozen=True)
class Anchor:
    """A stretch of a sound in which a label is heard.

    Attributes
    ----------
    label : int
        Row of the probabilities.
    start_frame, num_frames : int
    probability : float
        Mean over the stretch, to six digits.
    """

    label: int
    start_frame: int
    num_frames: int
    probability: float


def find_anchors(
    probabilities: npt.ArrayLike,
    *,
    column_frames: int,
    num_frames: int,
    length_frames: int,
    labels: Sequence[int] = (),
    spans: Sequence[tuple[int, int]] | None = None,
    limits: AnchorLimits | None = None,
) -> list[Anchor]:
    """Find the stretches of a sound in which its labels are heard best.

    The best is taken, then the best of those that do not overlap it, and so on. Of equal ones that of the first
    label comes first, then the earliest.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(labels, columns)]
        0 to 1.
    column_frames : int
        Of a column, at least 1.
    num_frames : int
        Of the sound, at least 1.
    length_frames : int
        Of an anchor, at least 1. What is no longer than that is an anchor as a whole.
    labels : sequence of int
        Rows that may be found; none: any.
    spans : sequence of (first frame, first frame behind), optional
        The parts that an anchor may lie in, each anchor in one; those that touch are one. None: anywhere.
    limits : AnchorLimits, optional

    Returns
    -------
    list of Anchor
        The highest probability first.

    Raises
    ------
    ValueError
        The columns are more or fewer than the frames need, a probability is not from 0 to 1, or a label is no row.

    Examples
    --------
    >>> curve = [[0.1, 0.9, 0.9, 0.1]]
    >>> find_anchors(curve, column_frames=10, num_frames=40, length_frames=20)
    [Anchor(label=0, start_frame=10, num_frames=20, probability=0.9)]
    """
    limits = limits or AnchorLimits()
    curves = np.asarray(probabilities)
    columns = -(-num_frames // column_frames)
    if curves.ndim != 2 or curves.shape[1] != columns:
        raise ValueError(f"probabilities of the shape {curves.shape} must be of {columns} columns")
    if not ((curves >= 0) & (curves <= 1)).all():  # NaN is not either
        raise ValueError("probabilities must be from 0 to 1")
    wanted = sorted(set(labels)) or list(range(len(curves)))
    if not all(0 <= label < len(curves) for label in wanted):
        raise ValueError(f"labels {wanted} must be rows of {len(curves)}")
    edges = np.minimum(np.arange(columns + 1, dtype=np.int64) * column_frames, num_frames)
    starts, ends = _stretches(edges, _joined(spans, num_frames), length_frames)
    if not len(starts):
        return []
    means, others = _means(curves, edges, starts, ends, wanted)
    open_ = (means >= limits.min_probability) & (others <= limits.max_other)
    scores = np.where(open_, means, -1.0)
    return _picked(scores, starts, ends, wanted, limits)


def _joined(spans: Sequence[tuple[int, int]] | None, num_frames: int) -> Ints:
    """Spans in order, those that touch as one [shape=(spans, 2)]."""
    joined: list[list[int]] = []
    for first, end in sorted([(0, num_frames)] if spans is None else spans):
        first, end = max(first, 0), min(end, num_frames)
        if first >= end:
            continue
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([first, end])
    return np.array(joined, np.int64).reshape(-1, 2)


def _stretches(edges: Ints, spans: Ints, length: int) -> tuple[Ints, Ints]:
    """Starts and ends of all stretches that can be best, by start."""
    if not len(spans):
        return spans[:, 0], spans[:, 1]
    first, end = spans.T
    grid = np.concatenate([edges, edges - length])
    span = np.maximum(np.searchsorted(first, grid, side="right") - 1, 0)
    grid = grid[(grid >= first[span]) & (grid + length <= end[span])]
    fits = end - first >= length
    starts = np.unique(np.concatenate([grid, first, (end - length)[fits]]))
    span = np.searchsorted(first, starts, side="right") - 1
    return starts, np.minimum(starts + length, end[span])


def _means(
    curves: npt.NDArray[Any], edges: Ints, starts: Ints, ends: Ints, wanted: Sequence[int]
) -> tuple[Floats, Floats]:
    """Mean over each stretch of each wanted label, and of the highest other [shape=(wanted, stretches)].

    Row by row: of many labels only the wanted are kept.
    """
    place = {label: number for number, label in enumerate(wanted)}
    means = np.zeros((len(wanted), len(starts)))
    first, second = (np.zeros(len(starts)) for _ in range(2))
    widths, lengths = np.diff(edges), ends - starts
    for label, curve in enumerate(curves):
        area = np.concatenate([[0.0], np.cumsum(curve * widths, dtype=np.float64)])
        mean = np.round((np.interp(ends, edges, area) - np.interp(starts, edges, area)) / lengths, _DIGITS)
        if label in place:
            means[place[label]] = mean
        second = np.maximum(second, np.minimum(first, mean))
        first = np.maximum(first, mean)
    # the highest other is the highest, or where that is the label itself, the second; equal ones are two
    return means, np.where(means == first, second, first)


def _picked(scores: Floats, starts: Ints, ends: Ints, wanted: Sequence[int], limits: AnchorLimits) -> list[Anchor]:
    """The best, again and again; what is taken or overlaps has the score -1."""
    found: list[Anchor] = []
    counts = np.zeros(len(wanted), np.int64)
    while limits.per_song is None or len(found) < limits.per_song:
        row, place = divmod(int(scores.argmax()), len(starts))
        best = float(scores[row, place])
        if best < 0:
            break
        start, end = int(starts[place]), int(ends[place])
        found.append(Anchor(wanted[row], start, end - start, best))
        scores[:, (starts < end) & (ends > start)] = -1
        counts[row] += 1
        if counts[row] == limits.per_label:
            scores[row] = -1
    return found
