"""What two aligned signals are to each other: a mixture and its instrumental, one recording twice, or neither.

The aligned pair is fitted both ways with the robust transfer function (`curation.transfer`). Where the second
signal is an instrumental of the first, the fit leaves the vocals: nothing in the frames without singing, much in
the others, and only energy that the first signal has and the second has not.

Conventions
-----------
Levels are in dB of residual power over mixture power, per half second, each third-octave-like band weighted
equally over 100-3000 Hz (codecs keep these bands; their noise above would pass for vocals).

The thresholds were set on labelled catalogues rendered from real and synthetic multitracks (see
docs/benchmarks.md): true pairs explain their quietest frames to -8 dB or better and leave at least -3 dB in their
loudest; one recording under two masters never leaves more than -7 dB; songs that share only a voice (a remix)
explain nothing better than -3.5 dB.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from curation.alignment import Alignment, Segment
from curation.transfer import estimate_transfer, power, stft

Audio = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Relation = Literal["mixture-instrumental", "instrumental-mixture", "same recording", "unrelated"]

_WINDOW_S = 4096 / 44_100
_HOPS_PER_HALF_SECOND = 11
_BLOCK_S = 30.0
_MAX_BLOCKS = 6
_BAND_EDGES_HZ = np.geomspace(30, 6400, 24)
_MID_HZ = (100.0, 3000.0)
_BASS_HZ = (30.0, 95.0)

MAX_EXPLAINED_DB = -4.5
MIN_COVERAGE = 0.5
SAME_LOUDEST_DB = -5.0
MIN_CONTAINMENT = 0.7
VOICE_BASS_DB = -30.0
TIE_DB = 1.0
LABEL_DB = 1.0


@dataclass(frozen=True)
class Evidence:
    """How one signal is contained in another.

    Attributes
    ----------
    residual_db : float
        Residual over mixture in the best twentieth of the half seconds: the vocal-free frames of a true pair.
    typical_db, loudest_db : float
        The median, and the level that one half second in twenty exceeds.
    containment : float
        Share of the residual that the mixture has and the accompaniment has not: about 1 for a true pair, 0 when
        the two are exchanged, in between when each has something of its own.
    coherence : float [0, 1]
        Squared coherence of mixture and accompaniment, mean over the bands.
    same_fraction : float [0, 1]
        Share of the half seconds that leave less than `SAME_LOUDEST_DB`.
    bass_db : float
        The accompaniment's level in 30-95 Hz over 100-3000 Hz: voices alone have next to no bass.
    residual_bass_db : float
        The same of the residual.
    """

    residual_db: float
    typical_db: float
    loudest_db: float
    containment: float
    coherence: float
    same_fraction: float
    bass_db: float
    residual_bass_db: float


def weigh(mixture: Audio, accompaniment: Audio, sample_rate: int) -> Evidence:
    """Measure how an aligned accompaniment is contained in a mixture.

    Parameters
    ----------
    mixture, accompaniment : np.ndarray [shape=(frames,), float32]
        Mono, aligned to a fraction of a sample, gain free. At least 1 s.
    sample_rate : int > 0

    Returns
    -------
    Evidence
        From up to six blocks of 30 s spread evenly over the signals.

    Raises
    ------
    ValueError
        If the shapes differ or are shorter than 1 s.
    """
    if mixture.shape != accompaniment.shape or mixture.ndim != 1:
        raise ValueError(f"mixture {mixture.shape} and accompaniment {accompaniment.shape} must be one mono shape")
    if len(mixture) < sample_rate:
        raise ValueError(f"{len(mixture)} frames are too short to weigh; at least 1 s is needed")
    n_fft = 2 ** round(np.log2(_WINDOW_S * sample_rate))
    frequency = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    edges = np.unique(np.searchsorted(frequency, _BAND_EDGES_HZ[sample_rate / 2 > _BAND_EDGES_HZ]))
    centre = np.sqrt(frequency[edges[:-1]] * frequency[edges[1:]])
    blocks = [
        _band_powers(mixture[start:end], accompaniment[start:end], edges, n_fft)
        for start, end in _blocks(len(mixture), sample_rate)
    ]
    mixed, modelled, error, error_mixture, error_modelled = np.concatenate(blocks, axis=2)
    mid = (centre >= _MID_HZ[0]) & (centre <= _MID_HZ[1])
    bass = (centre >= _BASS_HZ[0]) & (centre <= _BASS_HZ[1])
    weight = 1 / (mixed[mid].mean(axis=1, keepdims=True) + 1e-12)
    level = (weight * mixed[mid]).sum(axis=0)
    # digital silence explains nothing, however much there is of it
    heard = level > (1e-4 * np.median(level[level > 0]) if level.any() else 0)
    residual = (weight * error[mid]).sum(axis=0)[heard] / level[heard] if heard.any() else np.ones(1)
    low, middle, high = 10 * np.log10(np.percentile(residual, [5, 50, 95]) + 1e-12)
    extra_mixture = float((weight * error_mixture[mid]).sum())
    extra_modelled = -float((weight * error_modelled[mid]).sum())
    total = extra_mixture + extra_modelled
    return Evidence(
        residual_db=float(low),
        typical_db=float(middle),
        loudest_db=float(high),
        containment=extra_mixture / total if total > 0 else 0.5,
        coherence=_coherence(mixed[mid], modelled[mid], error_modelled[mid]),
        same_fraction=float((residual < 10 ** (SAME_LOUDEST_DB / 10)).mean()),
        bass_db=_ratio_db(modelled[bass].sum(), modelled[mid].sum()),
        residual_bass_db=_ratio_db(error[bass].sum(), error[mid].sum()),
    )


def _blocks(num_frames: int, sample_rate: int) -> list[tuple[int, int]]:
    size = round(_BLOCK_S * sample_rate)
    count = max(1, num_frames // size)
    edges = np.linspace(0, num_frames, count + 1).astype(int)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MAX_BLOCKS)).round().astype(int))
    return [(int(edges[i]), int(edges[i + 1])) for i in chosen]


def _band_powers(mixture: Audio, accompaniment: Audio, edges: npt.NDArray[np.intp], n_fft: int) -> Floats:
    """|X|^2, |A|^2, |E|^2, Re<E, X>, Re<E, A> summed over bands and half seconds: (5, bands, half seconds)."""
    x = stft(mixture[None], n_fft, n_fft // 2)[:, : edges[-1]]
    y = stft(accompaniment[None], n_fft, n_fft // 2)[:, : edges[-1]]
    modelled = estimate_transfer(x, y).apply(y)[0]
    x = x[0]
    error = x - modelled
    half_seconds = np.arange(0, x.shape[1], _HOPS_PER_HALF_SECOND)
    planes = (
        power(x),
        power(modelled),
        power(error),
        (error * np.conj(x)).real,
        (error * np.conj(modelled)).real,
    )
    banded = [np.add.reduceat(plane, edges[:-1], axis=0) for plane in planes]
    return np.stack([np.add.reduceat(plane, half_seconds, axis=1) for plane in banded]).astype(np.float64)


def _coherence(mixed: Floats, modelled: Floats, error_modelled: Floats) -> float:
    """Re<X, A> is Re<E, A> + |A|^2, since E = X - A."""
    inner = (error_modelled + modelled).sum(axis=1)
    squared = inner**2 / (mixed.sum(axis=1) * modelled.sum(axis=1) + 1e-20)
    return float(np.clip(squared, 0, 1).mean())


def _ratio_db(top: float, bottom: float) -> float:
    return float(10 * np.log10((top + 1e-20) / (bottom + 1e-20)))


def decide(
    forward: Evidence, backward: Evidence, alignment: Alignment, num_frames: int, *, is_labelled: bool = False
) -> tuple[Relation, str | None]:
    """What the two signals are to each other, and why, if they are no pair.

    Parameters
    ----------
    forward : Evidence
        Of the second signal as accompaniment of the first.
    backward : Evidence
        Of the first signal as accompaniment of the second.
    alignment : Alignment
        Of the second inside the first.
    num_frames : int > 0
        Frames of the shorter signal's music, at the first signal's rate.
    is_labelled : bool
        Titles call the second signal an instrumental and the first not: this breaks near ties.

    Returns
    -------
    relation : str
    reason : str or None
        The reason that no pair is seen; None for the two pair relations.
    """
    coverage = alignment.num_frames / max(num_frames, 1)
    if coverage < MIN_COVERAGE:
        return "unrelated", f"only {coverage:.0%} of the music runs in parallel (at least {MIN_COVERAGE:.0%})"
    residual_db = min(forward.residual_db, backward.residual_db)
    if residual_db > MAX_EXPLAINED_DB:
        return "unrelated", (
            f"the best frames leave {residual_db:.1f} dB unexplained (at most {MAX_EXPLAINED_DB:.1f} dB)"
        )
    # the better explained way round: codec noise in the other one looks like something of its own
    loudest_db = min(forward.loudest_db, backward.loudest_db)
    if loudest_db < SAME_LOUDEST_DB:
        return "same recording", (
            f"95 % of the frames leave less than {loudest_db:.1f} dB unexplained: one recording twice"
        )
    margin_db = direction_db(forward, backward)
    if abs(margin_db) < TIE_DB and not is_labelled:
        return "unrelated", f"neither clearly contains the other (margin {margin_db:.1f} dB, at least {TIE_DB})"
    is_forward = margin_db + (LABEL_DB if is_labelled else 0) >= 0
    chosen = forward if is_forward else backward
    if chosen.containment < MIN_CONTAINMENT:
        return "unrelated", (
            f"each has what the other has not (containment {chosen.containment:.2f}, at least {MIN_CONTAINMENT})"
        )
    if chosen.bass_db < VOICE_BASS_DB and chosen.residual_bass_db > chosen.bass_db + 10:
        return "unrelated", (
            f"the shared part has no bass ({chosen.bass_db:.0f} dB) and the rest has: "
            "an a cappella, not an instrumental"
        )
    return ("mixture-instrumental" if is_forward else "instrumental-mixture"), None


def direction_db(forward: Evidence, backward: Evidence) -> float:
    """Positive when the first signal contains the second: a residual weighs less in the louder of the two."""
    return (backward.typical_db + backward.loudest_db) - (forward.typical_db + forward.loudest_db)


def confidence(evidence: Evidence, alignment: Alignment) -> float:
    """A pair's confidence in [0, 1], for ordering: 1 is beyond doubt.

    The geometric mean of saturating scores: peak ratio of the correlations, agreement of the windows, how well
    the quietest frames are explained, and containment.
    """
    scores = (
        np.clip((alignment.peak_ratio - 1) / 2, 0, 1),
        np.clip(alignment.agreement, 0, 1),
        np.clip(-evidence.residual_db / 12, 0, 1),
        np.clip(1 - abs(1 - evidence.containment), 0, 1),
    )
    return float(np.prod(scores) ** (1 / len(scores)))


def exchanged(alignment: Alignment, sample_rate: int, other_rate: int) -> Alignment:
    """The same alignment seen from the other file: mixture and instrumental exchange their places.

    Parameters
    ----------
    alignment : Alignment
        Frames at `sample_rate`, the first file's rate.
    sample_rate, other_rate : int > 0
        Rates of the first and the second file.

    Returns
    -------
    Alignment
        Frames at `other_rate`; the first file is now the accompaniment.
    """
    speed = 1 + alignment.drift_ppm * 1e-6
    ratio = other_rate / sample_rate
    segments = tuple(
        Segment(
            round((segment.lag_frames + segment.start_frame * speed) * ratio),
            round((segment.lag_frames + segment.end_frame * speed) * ratio),
            -segment.lag_frames / speed * ratio,
        )
        for segment in alignment.segments
    )
    return replace(
        alignment,
        segments=tuple(sorted(segments, key=lambda segment: segment.start_frame)),
        drift_ppm=(1 / speed - 1) * 1e6,
        lag_error_frames=alignment.lag_error_frames / speed * ratio,
    )
