"""The best and the worst songs: a spectrogram and an excerpt of each stem, what they do over time.

Songs are worked on in threads, a block of audio at a time each: decoders, FFTs and encoders run beside each other.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from builders.report.curves import Curves, Lane, lanes, read_curves
from builders.report.pictures import Spectrogram, spectrogram, spectrogram_png
from builders.report.players import CLIP_S, around_worst, data_uri, encoded, loudest_start
from builders.report.songs import Song, Stem, stem_colours
from builders.report.words import clock
from curation.defects import is_voice_stem
from manifests.corpus import MIXTURE, Corpus
from manifests.errors import StemloomError

_MAX_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A stem's spectrogram and excerpt as data URIs, or why there is none."""

    stem: Stem
    colour: str
    png: str | None
    clip: str | None
    error: str | None


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A song with its pictures and lanes; the excerpt as shares of its length, and in words."""

    song: Song
    pictures: tuple[Picture, ...]
    lanes: tuple[Lane, ...]
    clip_start: float
    clip_width: float
    clip_words: str
    error: str | None


def portraits(
    corpus: Corpus, best: Sequence[Song], worst: Sequence[Song], kbps: float
) -> tuple[list[Portrait], list[Portrait]]:
    """Picture songs.

    Parameters
    ----------
    corpus : Corpus
    best, worst : sequence of Song
        Of the best, the excerpt is where the voice is loudest; of the worst, around the strongest residue.
    kbps : float
        Of the excerpts.

    Returns
    -------
    best, worst : list of Portrait
        In the same order. What cannot be read is said where its picture would be.
    """
    tasks = [*((song, False) for song in best), *((song, True) for song in worst)]
    found = threaded(partial(_portrait, corpus, kbps), tasks)
    return found[: len(best)], found[len(best) :]


def threaded(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do the same with each of several things, beside each other; results are in their order."""
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


def look(corpus: Corpus, stems: Iterable[Stem]) -> tuple[dict[str, Spectrogram], dict[str, str]]:
    """Look at stems.

    Parameters
    ----------
    corpus : Corpus
        That finds the audio of their rows.
    stems : iterable of Stem

    Returns
    -------
    seen : dict of str to Spectrogram
        By the stem's name.
    errors : dict of str to str
        Why the others cannot be seen.
    """
    seen: dict[str, Spectrogram] = {}
    errors: dict[str, str] = {}
    for stem in stems:
        try:
            path = corpus.path_of(stem.row)
            seen[stem.name] = spectrogram(path, stem.row["num_frames"], stem.row["sample_rate"])
        except StemloomError as error:
            errors[stem.name] = str(error)
    return seen, errors


def painted(
    corpus: Corpus,
    stems: Iterable[Stem],
    colours: Mapping[str, str],
    seen: Mapping[str, Spectrogram],
    errors: Mapping[str, str],
    start_s: float,
    kbps: float,
) -> tuple[Picture, ...]:
    """Paint stems on one scale of brightness, and take the same excerpt of each.

    Parameters
    ----------
    corpus : Corpus
        That finds the audio of their rows.
    stems : iterable of Stem
    colours : mapping of str to str
        CSS variable of each.
    seen, errors : mapping of str to Spectrogram, and to str
        Of `look`.
    start_s : float
        Of the excerpt.
    kbps : float

    Returns
    -------
    tuple of Picture
    """
    top_db = max((float(picture.levels_db.max()) for picture in seen.values()), default=0.0)
    blank = (Picture(stem, colours[stem.name], None, None, errors.get(stem.name)) for stem in stems)
    return tuple(_painted(corpus, picture, seen.get(picture.stem.name), top_db, start_s, kbps) for picture in blank)


def _portrait(corpus: Corpus, kbps: float, task: tuple[Song, bool]) -> Portrait:
    song, is_worst = task
    colours = stem_colours([stem.name for stem in song.stems])
    seen, errors = look(corpus, song.stems)
    curves, fault = None, None
    try:
        curves = read_curves(corpus.folder, song.song_id)
    except StemloomError as error:
        fault = str(error)
    curves = curves or _curves_of(song, seen)
    start_s, words = _excerpt(curves, is_worst)
    clip_s = min(CLIP_S, song.duration_s)
    start_s = max(0.0, min(start_s, song.duration_s - clip_s))
    return Portrait(
        song,
        painted(corpus, song.stems, colours, seen, errors, start_s, kbps),
        tuple(lanes(curves, colours)) if curves is not None else (),
        start_s / song.duration_s,
        clip_s / song.duration_s,
        f"{clock(start_s)}–{clock(start_s + clip_s)}, {words}",
        fault,
    )


def _painted(
    corpus: Corpus, picture: Picture, seen: Spectrogram | None, top_db: float, start_s: float, kbps: float
) -> Picture:
    """The picture of a stem that was read, and its excerpt."""
    if seen is None:
        return picture
    row = picture.stem.row
    start = min(round(start_s * row["sample_rate"]), row["num_frames"] - 1)
    wanted = min(round(CLIP_S * row["sample_rate"]), row["num_frames"] - start)
    png, clip, error = data_uri("image/png", spectrogram_png(seen.levels_db, top_db)), None, None
    try:
        audio = corpus.load(row, start, wanted)
        clip = data_uri(*encoded(audio, row["sample_rate"], kbps))
    except StemloomError as fault:
        error = str(fault)
    return dataclasses.replace(picture, png=png, clip=clip, error=error)


def _curves_of(song: Song, seen: dict[str, Spectrogram]) -> Curves | None:
    """Levels alone, as the spectrograms saw them."""
    lengths = {(len(found.power), found.column_frames) for found in seen.values()}
    if len(lengths) != 1:
        return None
    frames = next(iter(seen.values())).column_frames
    rate = song.stems[0].row["sample_rate"]
    return Curves(frames / rate, {name: np.sqrt(found.power) for name, found in seen.items()})


def _excerpt(curves: Curves | None, is_worst: bool) -> tuple[float, str]:
    """Where a song's excerpt starts, in seconds, and why there."""
    if curves is None:
        return 0.0, "the beginning"
    if is_worst and curves.grade is not None and np.nanmax(curves.grade, initial=0) > 0:
        # each grade counts more than any length of the better ones
        return loudest_start(100.0**curves.grade, curves.step_s), "where it is worst"
    if is_worst and curves.residue_db is not None and np.isfinite(curves.residue_db).any():
        return around_worst(np.where(np.isfinite(curves.residue_db), curves.residue_db, -np.inf), curves.step_s), (
            "around the strongest residue"
        )
    voices = [name for name in curves.rms if is_voice_stem(name)]
    voice = max(voices, key=lambda name: float(np.square(curves.rms[name]).sum()), default=None)
    if voice is not None:
        return loudest_start(np.square(curves.rms[voice]), curves.step_s), f"the loudest {voice}"
    any_stem = MIXTURE if MIXTURE in curves.rms else next(iter(curves.rms), None)
    if any_stem is None:
        return 0.0, "the beginning"
    return loudest_start(np.square(curves.rms[any_stem]), curves.step_s), "the loudest part"
