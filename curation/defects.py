"""What is wrong with a song's stems: leaked music in the vocals, no voice in the vocals, voices in the rest.

The catalogue paper (below) found these three defects by ear in half of its songs and had no way to detect them.
Here each has a witness of its own, second by second:

leakage   The part of the vocals that the accompaniment predicts through one linear filter (`curation.transfer`).
          Voices and accompaniments share no phase: over a song, what is coherent has leaked. A pair that was
          subtracted one sample out of place leaks at -9 to -4 dB, a half-wave-rectified spectral difference at
          -28 to -17 dB, a difference through the fitted transfer function below -26 dB.
excess    The part of the accompaniment that is louder than the mixture that should contain it: backing vocals that
          only the instrumental release has, another take. Of right pairs 0.1 to 0.6 % of the energy are
          cancelled that much by chance, of instrumentals with other voices 1 to 10 %.
level     How loud the vocals are over the mixture while they sound. The difference of two releases without singing
          is their codecs' noise.
voice     Whether a voice is to be heard (`curation.voice`), in the vocals and in the rest. A classifier or a
          separator of the user's own can be a further witness: any function of ``(audio, sample_rate)`` to
          probabilities every `curation.voice.STEP_S`.

Conventions
-----------
Stems that `is_voice_stem` should have voices, all others but the mixture should not. A song of one stem, such as
a sound of a library, has no other to be judged by: only voices that should not be there are a defect of it. Curves
have one value per second; a rest shorter than a second belongs to the last. Grades are A (clean) to D (defective),
of a second and of a song; a song's grade is its worst defect's.

References
----------
Pretet, Hennequin, Royo-Letelier and Vaglio, "Singing voice separation: a study on training data", ICASSP 2019,
section 2.3 (the defects).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.transfer import estimate_transfer, power, stft
from manifests.schemas import GRADES

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

VOICE_WORDS = frozenset(
    {"vocal", "vocals", "voice", "voices", "vox", "singing", "choir", "speech", "dialogue", "dialog"}
)
"""A stem whose name has one of these words should have voices."""

VOICED = 0.5
"""The probability above which a voice is heard."""

LEAKAGE_DB = (-25.0, -18.0, -12.0)
"""Accompaniment in the vocals: grade A up to the first, B up to the second, C up to the third."""

NOISE_DB, FAINT_DB = -20.0, -8.0
"""Vocals that never are louder than this over the mixture: noise; or noise unless a voice is heard in them."""

EXCESS_SHARE = (0.005, 0.0065, 0.008)
"""Accompaniment that the mixture has not: grades as for `LEAKAGE_DB`."""

SURE = 0.9
"""The probability above which a voice is beyond doubt: accordions and violins stay below it."""

STRAY_SHARE = (0.02, 0.04, 0.06)
"""Share of the time in which there are voices in the accompaniment beyond doubt: grades as for `LEAKAGE_DB`."""

_HEARD_DB = 30.0
_N_FFT_S = 0.128
_BAND_HZ = (100.0, 7600.0)
_EXCESS_BAND_HZ = (150.0, 5000.0)
_LOST_RATIO = 0.1
_NOTHING_DB = -90.0


def is_voice_stem(stem: str) -> bool:
    """Whether a stem should have voices, by its name: vocals, lead_vocals, dialogue ..."""
    return not VOICE_WORDS.isdisjoint(re.split(r"[^a-z]+", stem.lower()))


def leakage_curve(voices: Floats, rest: Floats, sample_rate: int) -> Floats:
    """How much of the accompaniment is in the vocals, second by second.

    Parameters
    ----------
    voices, rest : np.ndarray [shape=(frames,), float32]
        The sum of the stems that should have voices, and of the others; mono, aligned.
    sample_rate : int
        In Hz; at least 16,000 sees all that counts.

    Returns
    -------
    np.ndarray [shape=(seconds,), float32]
        Power of the part of `voices` that `rest` predicts, over the power of `rest`, in dB: all bands from 100 to
        7,600 Hz count alike. `NOTHING_DB` where there is no accompaniment.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if voices.shape != rest.shape or voices.ndim != 1:
        raise ValueError(f"voices {voices.shape} and rest {rest.shape} must be one mono shape")
    seconds = max(1, len(voices) // sample_rate)
    n_fft = 2 ** round(np.log2(_N_FFT_S * sample_rate))
    if len(voices) < 2 * n_fft:
        return np.full(seconds, _NOTHING_DB, np.float32)
    frequency = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    band = (frequency > _BAND_HZ[0]) & (frequency < _BAND_HZ[1])
    x = stft(voices[np.newaxis], n_fft, n_fft // 2)[:, band]
    y = stft(rest[np.newaxis], n_fft, n_fft // 2)[:, band]
    leaked = power(estimate_transfer(x, y).apply(y)[0])
    heard = power(y[0])
    weight = 1 / (power(x[0]) + heard).mean(axis=1, keepdims=True).clip(1e-12)
    middles = (np.arange(heard.shape[1]) * (n_fft // 2) + n_fft / 2) / sample_rate
    edges = np.searchsorted(middles, np.arange(seconds))
    top = np.add.reduceat((weight * leaked).sum(axis=0), edges)
    bottom = np.add.reduceat((weight * heard).sum(axis=0), edges)
    floor = 1e-6 * bottom.mean() + 1e-20
    return np.asarray(10 * np.log10(np.maximum(top / (bottom + floor), 10 ** (_NOTHING_DB / 10))), np.float32)


def excess_curve(mixture: Floats, rest: Floats, sample_rate: int) -> Floats:
    """How much of the accompaniment is not in the mixture, second by second.

    Parameters
    ----------
    mixture, rest : np.ndarray [shape=(frames,), float32]
        The mixture, and the sum of the stems that should have no voices; mono, aligned.
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray [shape=(seconds,), float32]
        Share of the accompaniment's energy in time-frequency bins where the mixture has less than a tenth of it:
        all bands from 150 to 5,000 Hz count alike, and seconds sum to the share of the whole song.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if mixture.shape != rest.shape or mixture.ndim != 1:
        raise ValueError(f"mixture {mixture.shape} and rest {rest.shape} must be one mono shape")
    seconds = max(1, len(rest) // sample_rate)
    n_fft = 2 ** round(np.log2(_N_FFT_S * sample_rate))
    excess = np.zeros(seconds, np.float32)
    if len(rest) < 2 * n_fft:
        return excess
    hop_frames = n_fft // 4
    frequency = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    band = (frequency > _EXCESS_BAND_HZ[0]) & (frequency < _EXCESS_BAND_HZ[1])
    x = power(stft(mixture[np.newaxis], n_fft, hop_frames)[0, band])
    y = power(stft(rest[np.newaxis], n_fft, hop_frames)[0, band])
    level = y.sum(axis=0)
    # what is next to silent has only rounding in it
    y[:, level < 1e-3 * np.percentile(level, 95)] = 0
    weight = 1 / (y.mean(axis=1, keepdims=True) + 1e-12)
    lost = (weight * np.where(x < _LOST_RATIO * y, y, 0)).sum(axis=0)
    middles = (np.arange(y.shape[1]) * hop_frames + n_fft / 2) / sample_rate
    places = np.minimum(middles.astype(int), seconds - 1)
    excess[:] = np.bincount(places, lost, seconds) / ((weight * y).sum() + 1e-12)
    return excess


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is wrong with a song.

    Attributes
    ----------
    grade : {'A', 'B', 'C', 'D'}
        The worst of its defects'.
    reasons : tuple of str
        One for each defect, the worst first, with its measure; empty for grade A.
    seconds : np.ndarray [shape=(seconds,), int8]
        Grade of every second: 0 (A) to 3 (D).
    """

    grade: str
    reasons: tuple[str, ...]
    seconds: npt.NDArray[np.int8]


def judge(
    levels_db: Mapping[str, Floats], voices: Mapping[str, Floats], leakage_db: Floats, excess: Floats
) -> Verdict:
    """Grade a song by what the witnesses say.

    Parameters
    ----------
    levels_db : mapping of str to np.ndarray [shape=(seconds,)]
        Stem to its level second by second, mean power in dB; all stems of the song.
    voices : mapping of str to np.ndarray [shape=(seconds,)]
        Stem to the probability of a voice, of all stems but the mixture.
    leakage_db : np.ndarray [shape=(seconds,)]
        Of `leakage_curve`; empty when the song has no voice stem, or no other.
    excess : np.ndarray [shape=(seconds,)]
        Of `excess_curve`; empty when the song has no mixture, or nothing but voices.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        If there is no stem, or curves differ in length.
    """
    seconds = _common_length([*levels_db.values(), *voices.values()], [leakage_db, excess])
    powers = {stem: 10 ** (np.asarray(level, np.float64) / 10) for stem, level in levels_db.items()}
    whole = powers["mixture"] if "mixture" in powers else np.sum(list(powers.values()), axis=0)
    heard = whole > np.percentile(whole, 95) * 10 ** (-_HEARD_DB / 10)
    sung = _strongest([voices[stem] for stem in voices if is_voice_stem(stem)], seconds)
    stray = _strongest([voices[stem] for stem in voices if not is_voice_stem(stem)], seconds)
    parts = [stem for stem in powers if stem != "mixture"]
    vocals = _total(powers, [stem for stem in parts if is_voice_stem(stem)])
    rest = _total(powers, [stem for stem in parts if not is_voice_stem(stem)])
    defects: list[tuple[int, str]] = []
    grades = np.zeros(seconds, np.int8)

    leaked = 0
    if len(leakage_db) and heard.any():
        song_db = 10 * np.log10(np.mean(10 ** (np.asarray(leakage_db, np.float64)[heard] / 10)))
        leaked = _step(song_db, LEAKAGE_DB)
        defects.append((leaked, f"accompaniment in the vocals at {song_db:.0f} dB"))
        grades = np.maximum(grades, np.where(heard, np.digitize(leakage_db, LEAKAGE_DB), 0).astype(np.int8))
    if len(excess) and leaked < GRADES.index(
        "C"
    ):  # what is in the vocals is missing in the mixture's accompaniment
        share = float(np.sum(excess))
        grade = _step(share, EXCESS_SHARE)
        defects.append((grade, f"{share:.1%} of the accompaniment is not in the mixture"))
        if grade:  # the seconds that have most of it
            grades[excess > 2 * EXCESS_SHARE[0] / seconds] = grade
    if vocals is not None and heard.any():
        share_db = 10 * np.log10(vocals[heard] / whole[heard] + 1e-12)
        loudest_db = float(np.percentile(share_db, 95))
        is_voice = float(np.percentile(sung[heard], 90)) > SURE
        grade = 3 if loudest_db < NOISE_DB or (loudest_db < FAINT_DB and not is_voice) else 0
        defects.append((grade, f"no singing: the vocals are at most {loudest_db:.0f} dB over the mixture"))
        if grade:
            grades[heard] = np.maximum(grades[heard], grade)
    if rest is not None and heard.any():
        loud = heard & (rest > whole * 10 ** (-_HEARD_DB / 10))
        share = float((stray[loud] > SURE).mean()) if loud.any() else 0.0
        where = "accompaniment" if len(powers) > 1 else parts[0]
        defects.append((_step(share, STRAY_SHARE), f"voices in the {where} in {share:.0%} of its time"))
        is_flawed = share > STRAY_SHARE[-1]
        grades[loud] = np.maximum(
            grades[loud], np.where(stray[loud] > (VOICED if is_flawed else SURE), 3 if is_flawed else 1, 0)
        )

    found = sorted((defect for defect in defects if defect[0]), reverse=True)
    worst = max((grade for grade, _ in found), default=0)
    return Verdict(GRADES[worst], tuple(f"{GRADES[grade]}: {text}" for grade, text in found), grades)


def _step(value: float, limits: tuple[float, ...]) -> int:
    return int(np.digitize(value, limits))


def _total(powers: Mapping[str, npt.NDArray[np.float64]], stems: Iterable[str]) -> npt.NDArray[np.float64] | None:
    curves = [powers[stem] for stem in sorted(stems)]
    return np.sum(curves, axis=0, dtype=np.float64) if curves else None


def _strongest(curves: list[Floats], seconds: int) -> Floats:
    return np.max(curves, axis=0) if curves else np.zeros(seconds, np.float32)


def _common_length(curves: list[Floats], optional: list[Floats]) -> int:
    lengths = {len(curve) for curve in curves} | {len(curve) for curve in optional if len(curve)}
    if len(lengths) != 1:
        raise ValueError(f"curves have {sorted(lengths)} seconds; expected one length, and at least one stem")
    return lengths.pop()
