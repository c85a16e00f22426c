"""Seconds of songs to hear: of the best, the middle and the worst, what went in, what was wanted, what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.audio import Audio, write
from training.songs import Song

__all__ = ["chosen_songs", "excerpt_start", "write_excerpt"]

_STEP_S = 0.5
_SILENT_POWER = 1e-8
_BIT_DEPTH = 16
_RANKS = ("best", "median", "worst")


def chosen_songs(values: Mapping[str, float], count: int) -> dict[str, str]:
    """Choose songs by a score.

    Parameters
    ----------
    values : mapping of str to float
        By song; NaN is not chosen.
    count : int
        How many of each kind, where there are so many; none is of two kinds.

    Returns
    -------
    dict of str to {'best', 'median', 'worst'}
        By song, in this order.
    """
    ranked = sorted((song for song in values if values[song] == values[song]), key=lambda song: values[song])
    middle = (len(ranked) - 1) / 2
    central = sorted(ranked, key=lambda song: abs(ranked.index(song) - middle))
    found: dict[str, str] = {}
    for rank, songs in (("best", ranked[::-1]), ("worst", ranked), ("median", central)):
        found |= dict.fromkeys([song for song in songs if song not in found][:count], rank)
    return {song: rank for rank in _RANKS for song, kind in found.items() if kind == rank}


def excerpt_start(references: Audio, sample_rate: int, num_frames: int) -> int:
    """Where most is to hear of all references at once.

    Parameters
    ----------
    references : np.ndarray [shape=(targets, channels, frames)]
    sample_rate : int
        In Hz.
    num_frames : int
        Of the excerpt.

    Returns
    -------
    int
        Its first frame: where the mean of the targets' levels in dB is highest.
    """
    step = max(1, round(_STEP_S * sample_rate))
    powers = np.array(list(_powers(references, step))).T
    levels = np.log10(powers + _SILENT_POWER).sum(axis=0)
    width = min(len(levels), max(1, num_frames // step))
    total = np.concatenate([[0.0], np.cumsum(levels)])
    start = int(np.argmax(total[width:] - total[:-width])) * step
    return max(0, min(start, int(references.shape[2]) - num_frames))


def write_excerpt(folder: Path, song: Song, estimates: Audio, length_s: float) -> dict[str, Any]:
    """Write an excerpt as FLAC: mixture, references, estimates.

    Parameters
    ----------
    folder : Path
        For the files.
    song : Song
    estimates : np.ndarray of float32 [shape=(targets, channels, frames)]
    length_s : float
        In seconds; a shorter song is written whole.

    Returns
    -------
    dict
        JSON values: ``start_s``, ``length_s``, ``gain_db`` (of all files alike, where one would leave full scale),
        and ``files``, a list of ``role`` ('mixture', 'reference', 'estimate'), ``target`` and ``path`` in `folder`.

    Raises
    ------
    BuildError
        The disk refuses.
    """
    num_frames = min(song.mixture.shape[1], max(1, round(length_s * song.sample_rate)))
    start = excerpt_start(song.references, song.sample_rate, num_frames)
    part = slice(start, start + num_frames)
    sounds = list(_sounds(song, estimates, part))
    peak = max(float(np.abs(audio).max()) for _, _, audio in sounds)
    gain = min(1.0, 1.0 / peak) if peak > 0.0 else 1.0
    files = []
    for number, (role, target, audio) in enumerate(sounds):
        # numbered: a target may be called what no file can be
        path = f"{number:02d}-{role}.flac"
        write(folder / path, np.clip(audio * np.float32(gain), -1, 1), song.sample_rate, _BIT_DEPTH)
        files.append({"role": role, "target": target, "path": path})
    return {
        "start_s": start / song.sample_rate,
        "length_s": num_frames / song.sample_rate,
        "gain_db": float(20.0 * np.log10(gain)),
        "files": files,
    }


def _sounds(song: Song, estimates: Audio, part: slice) -> Iterator[tuple[str, str | None, Audio]]:
    yield "mixture", None, np.array(song.mixture[:, part])
    for number, target in enumerate(song.targets):
        yield "reference", target, np.array(song.references[number, :, part])
        yield "estimate", target, np.array(estimates[number, :, part])


def _powers(references: Audio, step: int) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, references.shape[2], step):
        yield np.square(references[..., start : start + step], dtype=np.float64).mean(axis=(1, 2))
