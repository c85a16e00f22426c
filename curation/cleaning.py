"""Voices in stems that should have none: where they are, what is taken out, and what is too far gone.

A separator has said what of a stem is voice. What it says of music without voices is never nothing, so that its
estimate is subtracted only where a voice is to be heard, by the probabilities of a witness (`curation.voice`) in
the stem or in the estimate. Step by step a stem is then

kept      no voice is heard, or what the separator found of it is too faint to matter: not a sample changes;
cleaned   the estimate is subtracted, with fades at the edges;
dropped   the voice is so loud that what would be left is damaged, or it is still heard in what is left: no clip for
          training holds these steps.

A witness is seldom certain of a voice that is not there, and often half sure of one that is: a voice is heard where
the probability passes one threshold, in parts where it passes a higher one at least once (hysteresis).

Conventions
-----------
A *step* is `curation.voice.STEP_S` (0.32 s). Levels are of a step's energies, all channels. Audio is float32
``(channels, frames)``.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024, section 5: the
winners cleaned their music and effects with a music source separation model, and subtracted what it found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, label

from manifests.audio import Audio
from manifests.errors import RecipeError

__all__ = [
    "Cleaning",
    "CleaningLimits",
    "Span",
    "free_spans",
    "judge_rest",
    "judge_steps",
    "pure_spans",
    "subtract",
    "voice_ratio_db",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Span: TypeAlias = tuple[int, int]
"""The first frame, and the first behind the last."""

# the highest sample of 16 bits, which 24 hold too: +1 itself is none
_HIGHEST = np.float32(1 - 2**-15)

FAINTEST_DB = -120.0
"""The ratio where there is no voice at all."""


@dataclass(frozen=True, kw_only=True)
class CleaningLimits:
    """What is heard, what is cleaned, and what is dropped.

    Attributes
    ----------
    voiced : float
        Probability from which a voice is heard.
    certain : float
        Probability that is reached in every part with a voice, at least once; not below `voiced`. If both are 0,
        the ratio alone decides, for separators that find next to nothing where there is nothing.
    faint_db : float
        Ratio of voice to stem below which nothing is done.
    damaged_db : float
        Ratio above which what would be left is damaged.
    pause_steps : int
        Steps without a voice between two with one that are cleaned all the same.
    margin_steps : int
        Steps around those with a voice that are cleaned too.
    max_dropped : float
        Share of the steps that sound. If more of them are damaged, all of the stem is dropped.

    Raises
    ------
    RecipeError
        A number is out of its range.
    """

    voiced: float = 0.5
    certain: float = 0.9
    faint_db: float = -30.0
    damaged_db: float = -3.0
    pause_steps: int = 3
    margin_steps: int = 1
    max_dropped: float = 0.5

    def __post_init__(self) -> None:
        for name in ("voiced", "certain", "max_dropped"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be from 0 to 1")
        if self.certain < self.voiced:
            raise RecipeError(f"certain is {self.certain}, below voiced, {self.voiced}: raise the first")
        for name in ("pause_steps", "margin_steps"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be at least 0")
        if not self.faint_db < self.damaged_db:
            raise RecipeError(
                f"faint_db is {self.faint_db} and damaged_db {self.damaged_db}: the first must be the lower one"
            )


@dataclass(frozen=True)
class Cleaning:
    """What is to be done to a stem.

    Attributes
    ----------
    verdict : {'kept', 'cleaned', 'dropped'}
        Of the stem as a whole.
    cleaned : tuple of Span
        In frames, in order and apart: where the estimate is subtracted.
    damaged : tuple of Span
        Those parts of `cleaned` that nothing is to be trained with.
    voice_db : float
        Of the voice over the stem, both only where a voice is heard; `FAINTEST_DB` if there is none.
    cleaned_fraction, damaged_fraction : float
        Of the steps that sound.
    """

    verdict: Literal["kept", "cleaned", "dropped"]
    cleaned: tuple[Span, ...]
    damaged: tuple[Span, ...]
    voice_db: float
    cleaned_fraction: float
    damaged_fraction: float


def voice_ratio_db(voice: npt.ArrayLike, stem: npt.ArrayLike) -> Floats:
    """How loud the voice is over the stem that it is part of, step by step.

    Parameters
    ----------
    voice, stem : np.ndarray [shape=(steps,)]
        Energies.

    Returns
    -------
    np.ndarray of float64 [shape=(steps,)]
        In dB, from `FAINTEST_DB` to 0: an estimate that is louder than the stem is all of it.
    """
    found, whole = np.asarray(voice, np.float64), np.asarray(stem, np.float64)
    share = np.divide(found, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.asarray(10 * np.log10(np.clip(share, 10 ** (FAINTEST_DB / 10), 1)))


def judge_steps(
    voice: npt.ArrayLike,
    stem: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    step_frames: int,
    num_frames: int,
    limits: CleaningLimits | None = None,
) -> Cleaning:
    """Decide what becomes of a stem.

    Parameters
    ----------
    voice, stem : np.ndarray [shape=(steps,)]
        Energies of the separator's estimate and of the stem.
    probability : np.ndarray [shape=(steps,) or shorter]
        Of a voice, 0 to 1. A rest shorter than a step may have none, and is as the step before.
    step_frames : int
        Of a step; the last ends with the stem.
    num_frames : int
        Of the stem.
    limits : CleaningLimits, optional

    Returns
    -------
    Cleaning

    Raises
    ------
    ValueError
        The curves are of other lengths.
    """
    limits = limits or CleaningLimits()
    found, whole = np.asarray(voice, np.float64), np.asarray(stem, np.float64)
    steps = -(-num_frames // step_frames)
    chance = np.asarray(probability, np.float64)
    if found.shape != (steps,) or whole.shape != (steps,) or not steps - 1 <= len(chance) <= steps:
        raise ValueError(
            f"voice {found.shape}, stem {whole.shape} and probability {chance.shape} must be of {steps} steps"
        )
    if len(chance) < steps:
        chance = np.append(chance, chance[-1] if len(chance) else 0.0)
    ratio = voice_ratio_db(found, whole)
    sounds = whole > 0
    heard = sounds & (chance >= limits.voiced) & (ratio >= limits.faint_db)
    parts, _ = label(_without_pauses(heard, limits.pause_steps))
    heard &= np.isin(parts, parts[heard & (chance >= limits.certain)])
    cleaned = _widened(_without_pauses(heard, limits.pause_steps), limits.margin_steps)
    damaged = heard & (ratio > limits.damaged_db)
    num_sounding = max(1, int(sounds.sum()))
    damaged_fraction = float((damaged & sounds).sum() / num_sounding)
    verdict: Literal["kept", "cleaned", "dropped"] = "kept"
    if heard.any():
        verdict = "dropped" if damaged_fraction > limits.max_dropped else "cleaned"
    return Cleaning(
        verdict,
        _spans(cleaned, step_frames, num_frames),
        _spans(damaged, step_frames, num_frames),
        float(voice_ratio_db([found[heard].sum()], [whole[heard].sum()])[0]),
        float((cleaned & sounds).sum() / num_sounding),
        damaged_fraction,
    )


def judge_rest(
    judged: Cleaning,
    stem: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    step_frames: int,
    num_frames: int,
    limits: CleaningLimits | None = None,
) -> Cleaning:
    """Decide again, after what is left of a stem was heard: where it still has a voice, it is damaged.

    Parameters
    ----------
    judged : Cleaning
    stem : np.ndarray [shape=(steps,)]
        Energies of the stem as it was.
    probability : np.ndarray [shape=(steps,) or shorter]
        Of a voice in the cleaned stem; see `judge_steps`.
    step_frames, num_frames : int
        Of a step, and in all.
    limits : CleaningLimits, optional

    Returns
    -------
    Cleaning
    """
    limits = limits or CleaningLimits()
    sounds, chance = np.asarray(stem, np.float64) > 0, np.asarray(probability, np.float64)
    still = np.zeros(len(sounds), np.bool_)
    still[: len(chance)] = chance >= limits.certain
    still &= sounds & _steps(judged.cleaned, step_frames, len(sounds))
    damaged = still | _steps(judged.damaged, step_frames, len(sounds))
    fraction = float((damaged & sounds).sum() / max(1, int(sounds.sum())))
    return replace(
        judged,
        verdict="dropped" if fraction > limits.max_dropped else judged.verdict,
        damaged=_spans(damaged, step_frames, num_frames),
        damaged_fraction=fraction,
    )


def subtract(stem: Audio, voice: Audio, spans: Sequence[Span], start: int, fade_frames: int) -> tuple[Audio, Audio]:
    """Take the voice out of a block of a stem, inside of spans.

    Parameters
    ----------
    stem, voice : np.ndarray of float32 [shape=(channels, frames)]
    spans : sequence of Span
        Of the whole stem, in order and apart.
    start : int
        The block's first frame in the stem.
    fade_frames : int
        Over which the subtraction sets in before a span, and fades out behind it (raised cosines).

    Returns
    -------
    cleaned, removed : np.ndarray of float32 [shape=(channels, frames)]
        Their sum is the stem. Outside of the spans and their fades the first is the stem, and the second zero. No
        sample of the first is beyond full scale where the stem is not.
    """
    weight = _weight(spans, start, stem.shape[1], fade_frames)
    most = np.maximum(_HIGHEST, np.abs(stem))
    cleaned = np.clip(stem - weight * voice, -most, most)
    return cleaned, stem - cleaned


def free_spans(damaged: Sequence[Span], num_frames: int, min_frames: int = 1) -> list[Span]:
    """What is left between spans.

    Parameters
    ----------
    damaged : sequence of Span
        In any order; they may overlap.
    num_frames : int
        In all.
    min_frames : int
        What is shorter is left out, unless nothing is damaged.

    Returns
    -------
    list of Span

    Examples
    --------
    >>> free_spans([(40, 60), (50, 70), (75, 80)], 100, min_frames=10)
    [(0, 40), (80, 100)]
    """
    if not damaged:
        return [(0, num_frames)]
    free, position = [], 0
    for start, end in [*sorted(damaged), (num_frames, num_frames)]:
        if start - position >= max(1, min_frames):
            free.append((position, start))
        position = max(position, end)
    return free


def pure_spans(
    voices: npt.ArrayLike,
    voices_db: npt.ArrayLike,
    rest: npt.ArrayLike,
    *,
    step_frames: int,
    num_frames: int,
    voiced: float = 0.5,
    silent_db: float = -60.0,
    stray: float = 0.5,
    pause_steps: int = 1,
    min_steps: int = 1,
) -> list[Span]:
    """Where a stem of voices holds voices or silence and nothing else, and the other stems hold no voices.

    What is heard as no voice between two steps with one (a breath, a closed lip) belongs to them, if it is short.

    Parameters
    ----------
    voices : np.ndarray [shape=(steps,)]
        Probability of a voice in the stem of voices.
    voices_db : np.ndarray [shape=(steps,)]
        Its level.
    rest : np.ndarray [shape=(steps,)]
        Probability of a voice in the other stems: the highest of them.
    step_frames, num_frames : int
        Of a step, and in all: the last step may be shorter.
    voiced : float
        Probability from which a voice is heard in the stem of voices.
    silent_db : float
        Level below which that stem is silent.
    stray : float
        Probability from which a voice is heard in the others.
    pause_steps : int
        How many steps without a voice may lie between two with one.
    min_steps : int
        Shorter spans are left out.

    Returns
    -------
    list of Span

    Raises
    ------
    ValueError
        The curves are of other lengths.

    References
    ----------
    M. Strauss et al., "A Hands-On Comparison of DNNs for Dialog Separation Using Transfer Learning from Music
    Source Separation", Interspeech 2021, section 3: stems of broadcasts were cleaned so by hand.
    """
    said, level, other = (np.asarray(curve, np.float64) for curve in (voices, voices_db, rest))
    steps = -(-num_frames // step_frames)
    if not said.shape == level.shape == other.shape == (steps,):
        raise ValueError(f"curves {said.shape}, {level.shape} and {other.shape} must be of {steps} steps")
    spoken = _without_pauses(said >= voiced, pause_steps)
    pure = (spoken | (level < silent_db)) & (other < stray)
    return [
        (start, end)
        for start, end in _spans(pure, step_frames, num_frames)
        if end - start >= min(min_steps * step_frames, num_frames)
    ]


def _weight(spans: Sequence[Span], start: int, num_frames: int, fade_frames: int) -> Audio:
    """How much is subtracted of each frame, 0 to 1: the highest of what each span asks for."""
    weight = np.zeros(num_frames, np.float32)
    for first, end in spans:
        reach = (max(start, first - fade_frames), min(start + num_frames, end + fade_frames))
        if reach[0] >= reach[1]:
            continue
        place = np.arange(*reach)
        outside = np.maximum(np.maximum(first - place, place - (end - 1)), 0)
        found = 0.5 + 0.5 * np.cos(np.pi * outside / (fade_frames + 1))
        part = weight[reach[0] - start : reach[1] - start]
        np.maximum(part, found.astype(np.float32), out=part)
    return weight


def _without_pauses(heard: Bools, longest: int) -> Bools:
    """Runs of False between two True that are no longer than this become True."""
    places = np.flatnonzero(heard)
    filled = heard.copy()
    gaps = np.flatnonzero((np.diff(places) > 1) & (np.diff(places) <= longest + 1))
    for gap in gaps:
        filled[places[gap] : places[gap + 1]] = True
    return filled


def _widened(heard: Bools, steps: int) -> Bools:
    return np.asarray(binary_dilation(heard, np.ones(3, np.bool_), iterations=steps) if steps else heard)


def _steps(spans: Sequence[Span], step_frames: int, steps: int) -> Bools:
    """The steps that spans of whole steps hold."""
    found = np.zeros(steps, np.bool_)
    for start, end in spans:
        found[start // step_frames : -(-end // step_frames)] = True
    return found


def _spans(steps: Bools, step_frames: int, num_frames: int) -> tuple[Span, ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], steps, [False]]).astype(np.int8)))
    return tuple(
        (int(first) * step_frames, min(int(end) * step_frames, num_frames)) for first, end in edges.reshape(-1, 2)
    )
