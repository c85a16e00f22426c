"""The best and the worst songs: a spectrogram and an excerpt of each stem, what they do over time.

Songs are worked on in threads, a block of audio at a time each: decoders, FFTs and encoders run beside each other.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from builders.report.curves import Curves, Lane, lanes, read_curves
from builders.report.pictures import Spectrogram, spectrogram, spectrogram_png
from builders.report.players import CLIP_S, around_worst, bit_rate, data_uri, encoded, loudest_start
from builders.report.songs import Song, Stem, stem_colours
from builders.report.words import clock
from curation.defects import is_voice_stem
from manifests.corpus import MIXTURE, Corpus
from manifests.errors import StemloomError

_MAX_THREADS = 8


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


def portraits(corpus: Corpus, best: Sequence[Song], worst: Sequence[Song]) -> tuple[list[Portrait], list[Portrait]]:
    """Picture songs.

    Parameters
    ----------
    corpus : Corpus
    best, worst : sequence of Song
        Of the best, the excerpt is where the voice is loudest; of the worst, around the strongest residue.

    Returns
    -------
    best, worst : list of Portrait
        In the same order. What cannot be read is said where its picture would be.
    """
    kbps = bit_rate(sum(len(song.stems) for song in (*best, *worst)))
    tasks = [*((song, False) for song in best), *((song, True) for song in worst)]
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(partial(_portrait, corpus, kbps), tasks))
    return found[: len(best)], found[len(best) :]


def _portrait(corpus: Corpus, kbps: float, task: tuple[Song, bool]) -> Portrait:
    song, is_worst = task
    colours = stem_colours([stem.name for stem in song.stems])
    seen: dict[str, Spectrogram] = {}
    errors: dict[str, str] = {}
    for stem in song.stems:
        try:
            path = corpus.path_of(stem.row)
            seen[stem.name] = spectrogram(path, stem.row["num_frames"], stem.row["sample_rate"])
        except StemloomError as error:
            errors[stem.name] = str(error)
    curves, fault = None, None
    try:
        curves = read_curves(corpus.folder, song.song_id)
    except StemloomError as error:
        fault = str(error)
    curves = curves or _curves_of(song, seen)
    start_s, words = _excerpt(curves, is_worst)
    clip_s = min(CLIP_S, song.duration_s)
    start_s = max(0.0, min(start_s, song.duration_s - clip_s))
    top_db = max((float(picture.levels_db.max()) for picture in seen.values()), default=0.0)
    pictures = []
    for stem in song.stems:
        picture = Picture(stem, colours[stem.name], None, None, errors.get(stem.name))
        pictures.append(_painted(corpus, picture, seen.get(stem.name), top_db, start_s, kbps))
    return Portrait(
        song,
        tuple(pictures),
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
