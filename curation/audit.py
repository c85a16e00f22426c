"""Judging songs by ear: which to hear first, how many to hear, what the share of bad ones says of all.

Two orders have a purpose each. *Doubtful first* finds bad songs fast: what is measured of a song (grade, reasons,
how its pair aligned) is summed up in one number. *Random* estimates the share of bad songs in the corpus, which the
doubtful ones would overstate: its first songs, as far as all of them are judged, are a simple random sample.

Conventions
-----------
Doubt is in [0, 1], for ordering only: 1 less the product of (1 - part) over what is known of the song, so that what
is not known adds none. The random order sorts hashes of the song ids, so that songs which come or go leave the rest
in order.

References
----------
E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22(158), 1927: the
interval. J. B. S. Haldane, "On a method of estimating frequencies", Biometrika 33(3), 1945: why a sample may end
before a song that is not judged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import norm

Order: TypeAlias = Literal["doubtful", "random", "title"]
"""In which songs are heard."""

Judgement: TypeAlias = Literal["unheard", "accepted", "rejected"]
"""What a person says of a song or a stem, as in the column `audit` of the stems table."""

REASONS: Mapping[str, str] = {
    "residue": "instrumental left in the vocals",
    "no_singing": "no singing in the vocals",
    "voice_in_instrumental": "voices in the instrumental",
    "misaligned": "mixture and instrumental are out of step",
    "wrong_pair": "not the same song, or another version of it",
    "damaged": "gaps, clicks or distortion",
    "noise": "noise, or a poor recording",
    "wrong_label": "a stem is not what its name says",
    "other": "something else: see the note",
}
"""What songs are rejected for, in the order of the keys 1 to 9."""

_GRADE = {"A": 0.0, "B": 0.3, "C": 0.6, "D": 0.9}
_REASON, _MOST_REASONS = 0.1, 0.4
_CONFIDENCE, _COHERENCE, _RESIDUAL, _DAMAGED = 0.8, 0.2, 0.4, 0.8
# residual in vocal-free frames: as good as releases get, and where `curation.evidence` sees no pair any more
_RESIDUAL_DB = (-30.0, -4.5)


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95, population: float = math.inf
) -> tuple[float, float]:
    """The interval in which a share lies, as far as a sample tells (Wilson's score interval).

    Parameters
    ----------
    successes : int
        Of the sample, 0 to `trials`.
    trials : int
        Size of the sample; of none, nothing is known.
    confidence : float (0, 1)
    population : float
        Of how many the sample is, drawn without putting any back: of all of them, the share is known.

    Returns
    -------
    tuple of float
        Lowest and highest share, in [0, 1].

    Raises
    ------
    ValueError
        If the numbers are none of a sample, or the confidence is none.

    Examples
    --------
    >>> [round(limit, 3) for limit in wilson_interval(3, 41)]
    [0.025, 0.194]
    """
    if not 0 <= successes <= trials <= population:
        raise ValueError(f"{successes} of {trials}, of {population} in all, is no share")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    if trials == population:
        return share, share
    # the finite population correction: what is left to be drawn varies less
    weight = _quantile(confidence) ** 2 / trials * (1 - (trials - 1) / (population - 1))
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    # the ends are exact, and rounding would miss them
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, (1.0 if successes == trials else min(1.0, centre + half))


def sample_size(share: float, within: float, confidence: float = 0.95, population: float = math.inf) -> int:
    """How large a sample has an interval that is so narrow.

    Parameters
    ----------
    share : float [0, 1]
        What the sample will find.
    within : float (0, 1)
        Half of the interval's width.
    confidence : float (0, 1)
    population : float >= 1
        Of how many the sample is.

    Returns
    -------
    int
        The smallest sample whose Wilson interval is at most ``2 * within`` wide.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    if not (0 <= share <= 1 and 0 < within < 1):
        raise ValueError(f"share is {share} and within {within}; expected 0 to 1, and more than 0")
    # the interval's half width is at most w where 4 w^2 (n + z^2)^2 >= 4 z^2 p (1 - p) n + z^4: a quadratic in n
    square, spread = _quantile(confidence) ** 2, share * (1 - share)
    a = 4 * within**2
    b = 8 * within**2 * square - 4 * square * spread
    c = (4 * within**2 - 1) * square**2
    inside = b * b - 4 * a * c
    if inside < 0:
        return 0
    size = (-b + math.sqrt(inside)) / (2 * a)
    if size <= 0:
        return 0
    # of so many, fewer are worth as much; a hair less, lest rounding asks for one more
    return math.ceil(size / (1 + (size - 1) / population) - 1e-9)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1, such as 0.95")
    return float(norm.ppf((1 + confidence) / 2))


def doubt_parts(
    *,
    grade: str | None = None,
    num_reasons: int = 0,
    confidence: float | None = None,
    coherence: float | None = None,
    residual_db: float | None = None,
    damaged_fraction: float | None = None,
) -> dict[str, float]:
    """What makes a song doubtful, by what it is known from.

    Parameters
    ----------
    grade : str, optional
        A to D, of `curation.defects`.
    num_reasons : int
        How many defects it was given for.
    confidence : float, optional
        Of the pair, as `curation.evidence.confidence`.
    coherence : float, optional
        Of mixture and instrumental; lower where the vocals are loud too, so it says little.
    residual_db : float, optional
        What the instrumental leaves unexplained where nobody sings.
    damaged_fraction : float, optional
        Of the song, as a cleaning found.

    Returns
    -------
    dict of str to float
        Parts of what is known, each in [0, 1].
    """
    parts: dict[str, float] = {}
    if grade in _GRADE:
        parts["grade"] = _GRADE[grade]
    if num_reasons > 1:  # the first is the grade's
        parts["reasons"] = min(_MOST_REASONS, _REASON * (num_reasons - 1))
    if confidence is not None:
        parts["confidence"] = _CONFIDENCE * _unit(1 - confidence)
    if coherence is not None:
        parts["coherence"] = _COHERENCE * _unit(1 - coherence)
    if residual_db is not None:
        low, high = _RESIDUAL_DB
        parts["residual"] = _RESIDUAL * _unit((residual_db - low) / (high - low))
    if damaged_fraction is not None:
        parts["damaged"] = _DAMAGED * _unit(damaged_fraction)
    return {name: round(part, 4) for name, part in parts.items()}


def doubt_of(parts: Mapping[str, float]) -> float:
    """Sum up what makes a song doubtful.

    Parameters
    ----------
    parts : mapping of str to float
        Of `doubt_parts`.

    Returns
    -------
    float
        In [0, 1]: 1 less the product of 1 less each part.
    """
    return round(1 - math.prod(1 - part for part in parts.values()), 4)


def _unit(value: float) -> float:
    return float(np.clip(value, 0, 1))


def random_order(song_ids: Iterable[str], seed: int = 0) -> list[str]:
    """Songs in an order that nothing about them decides.

    Parameters
    ----------
    song_ids : iterable of str
    seed : int
        Another one gives another order.

    Returns
    -------
    list of str
        By a hash of each id: that of the rest does not change where a song is added or leaves.
    """

    def place(song_id: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{song_id}".encode("utf-8", "backslashreplace"), digest_size=16).digest()

    return sorted(song_ids, key=lambda song_id: (place(song_id), song_id))


@dataclass(frozen=True)
class Sample:
    """What the songs heard in random order say of the corpus.

    Attributes
    ----------
    heard, rejected : int
        Songs of the sample.
    skipped : int
        Songs without a verdict before the last one that was judged in the random order: the sample ends at the
        first of them, and goes on when it is judged.
    rate : float or None
        Share of the rejected; None where nothing was heard.
    low, high : float
        Wilson's interval.
    confidence, within : float
        Of the interval, and half of the width that it is to have.
    needed : int
        How many more to hear until it has, at this rate (one half, before anything was heard).
    """

    heard: int
    rejected: int
    skipped: int
    rate: float | None
    low: float
    high: float
    confidence: float
    within: float
    needed: int


def sample_of(
    order: Sequence[str],
    is_rejected: Mapping[str, bool],
    at_random: Iterable[str],
    *,
    within: float = 0.05,
    confidence: float = 0.95,
) -> Sample:
    """Estimate the share of bad songs in a corpus.

    The sample is the beginning of the random order, up to the first song without a verdict: all songs up to there
    count, in whatever order they were judged, and none beyond. A song that was chosen for its doubt, or looked up
    by its title, counts when the random order has come to it, and so does not bias the share. While none of these
    songs was judged in the random order, and others are left, there is no sample.

    Parameters
    ----------
    order : sequence of str
        All songs, as `random_order` has them.
    is_rejected : mapping of str to bool
        Of each song that was judged.
    at_random : iterable of str
        Those of them that were judged in this order.
    within, confidence : float (0, 1)
        What is wanted of the interval.

    Returns
    -------
    Sample
    """
    drawn = set(at_random) & is_rejected.keys()
    gap = next((place for place, song_id in enumerate(order) if song_id not in is_rejected), len(order))
    # before anybody listened at random, the songs up to the gap are those that were chosen
    heard = gap if gap == len(order) or not drawn.isdisjoint(order[:gap]) else 0
    rejected = sum(is_rejected[song_id] for song_id in order[:heard])
    rate = rejected / heard if heard else None
    low, high = wilson_interval(rejected, heard, confidence, len(order))
    wanted = sample_size(0.5 if rate is None else rate, within, confidence, max(1, len(order)))
    end = max((place for place, song_id in enumerate(order) if song_id in drawn), default=0)
    return Sample(
        heard=heard,
        rejected=rejected,
        skipped=sum(song_id not in is_rejected for song_id in order[:end]),
        rate=rate,
        low=low,
        high=high,
        confidence=confidence,
        within=within,
        needed=min(max(0, wanted - heard), len(order) - heard),
    )
