"""Catalogues of a few short songs made in code, their builds, and what a build leaves on disk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from builders.catalog import CatalogBuilder
from builders.engine import LITTLE, LocalEngine, Needs, Outcome
from builders.recipe import CatalogRecipe
from manifests.audio import Audio
from manifests.corpus import Corpus
from tests.synthesis import song

RATE = 22050
SECONDS = 8.0
FRAMES = round(SECONDS * RATE)
MIN_SONG_S = 5.0


@functools.cache
def parts(number: int, seconds: float = SECONDS, sample_rate: int = RATE) -> tuple[Audio, Audio]:
    """Instrumental and vocals of a song; not to be changed."""
    return song(np.random.default_rng(number), seconds, sample_rate)


def mixture(number: int, seconds: float = SECONDS, sample_rate: int = RATE) -> Audio:
    """Instrumental and vocals together."""
    instrumental, vocals = parts(number, seconds, sample_rate)
    return instrumental + vocals


def mixture_with_intro(number: int, seconds: float = SECONDS, sample_rate: int = RATE) -> Audio:
    """A mixture whose first half is its instrumental: what is found by its sound alone needs such a stretch."""
    instrumental, vocals = parts(number, seconds, sample_rate)
    sung = np.array(vocals)
    sung[:, : sung.shape[1] // 2] = 0
    return instrumental + sung


def write_file(path: Path, audio: Audio, sample_rate: int = RATE, **tags: str) -> Path:
    """Write a music file, 16 bit, in the format of its suffix, with tags (title, artist, album, date)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", sample_rate, len(audio)) as file:
        for name, text in tags.items():
            setattr(file, name, text)
        file.write(audio.T)
    return path


def write_pair(
    folder: Path,
    number: int,
    names: tuple[str, str] = ("Song {}.flac", "Song {} (Instrumental).flac"),
    seconds: float = SECONDS,
) -> tuple[Path, Path]:
    """Write a song's mixture and its instrumental."""
    files = (mixture(number, seconds), parts(number, seconds)[0])
    first, second = (
        write_file(folder / name.format(number), audio) for name, audio in zip(names, files, strict=True)
    )
    return first, second


def write_catalog(folder: Path, *numbers: int) -> Path:
    """Write the pairs of some songs."""
    for number in numbers:
        write_pair(folder, number)
    return folder


def build(folder: Path, out: Path, *, settings: dict[str, Any] | None = None, **recipe: Any) -> Corpus:
    """Build a catalogue in this process.

    `settings` are the builder's, the rest are the recipe's.
    """
    builder = {"jobs": 0, **(settings or {})}
    return CatalogBuilder(out, CatalogRecipe(**{"min_song_s": MIN_SONG_S, **recipe}), **builder).build(folder)


def contents(out: Path) -> dict[str, bytes]:
    """All that a build leaves to its reader, but for run.json, which holds times and paths."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("run.json", ".lock") and ".cache" not in path.parts
    }


def rejections(corpus: Corpus) -> dict[str, tuple[str, str, str]]:
    """The rejected table: path to stage, reason and detail; no path twice."""
    assert corpus.rejected is not None
    rows = corpus.rejected.to_dict("records")
    found = {str(row["path"]): (str(row["stage"]), str(row["reason"]), str(row["detail"])) for row in rows}
    assert len(found) == len(rows)
    return found


def chosen_paths(corpus: Corpus) -> set[tuple[str, str]]:
    """Mixture and instrumental of each song."""
    assert corpus.pairs is not None
    chosen = corpus.pairs[corpus.pairs["status"] == "chosen"]
    return set(zip(chosen["mixture_path"], chosen["instrumental_path"], strict=True))


def largest_error(corpus: Corpus) -> float:
    """How far the stems of any song are from summing to its mixture."""
    errors = [0.0]
    for song_id in corpus.songs():
        stems = {stem: corpus.load((song_id, stem)) for stem in ("mixture", "instrumental", "vocals")}
        errors.append(float(np.abs(stems["mixture"] - stems["instrumental"] - stems["vocals"]).max()))
    return max(errors)


class Meddler:
    """An engine that runs everything in this process, and does something before each item.

    `meddle` is called with the name of the stage's function and the item's key.
    """

    def __init__(self, meddle: Callable[[str, str], None]) -> None:
        self.meddle = meddle

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        name = stage_name(stage)
        for key, item in items:
            self.meddle(name, key)
            yield from LocalEngine(0).run(stage, [(key, item)])


def stage_name(stage: Callable[[Any], Any]) -> str:
    """The name of a stage's function, be it partial."""
    return str(getattr(stage, "func", stage).__name__)
