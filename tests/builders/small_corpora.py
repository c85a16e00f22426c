"""Corpora of short songs to curate, some of them with defects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from builders.curate import CurateBuilder
from builders.engine import LITTLE, LocalEngine, Needs, Outcome
from builders.inspection import InspectItem
from builders.recipe import CurateRecipe
from manifests.audio import Audio, quantise
from manifests.corpus import Corpus
from tests.manifests.exports.small_corpus import write_song, write_tables
from tests.synthesis import song

RATE = 16_000
SECONDS = 12.0
GENRES = ("Rock", "pop; Dance", "Hip-Hop")


@functools.cache
def stems(number: int) -> dict[str, Audio]:
    """Stems of a song; not to be changed."""
    instrumental, vocals = song(np.random.default_rng(number), SECONDS, RATE)
    return whole({"instrumental": instrumental * 0.5, "vocals": vocals * 0.5})


def whole(parts: dict[str, Audio]) -> dict[str, Audio]:
    """Parts on a file's grid, and the mixture that is their sum."""
    parts = {stem: quantise(np.asarray(audio, np.float32)) for stem, audio in parts.items()}
    return {"mixture": np.sum([*parts.values()], axis=0, dtype=np.float32), **parts}


def misaligned(number: int, shift: int = 3) -> dict[str, Audio]:
    """A song whose instrumental was subtracted some samples out of place."""
    parts = stems(number)
    shifted = np.zeros_like(parts["instrumental"])
    shifted[:, shift:] = parts["instrumental"][:, :-shift]
    return whole({"instrumental": shifted, "vocals": parts["mixture"] - shifted})


def unsung(number: int) -> dict[str, Audio]:
    """An instrumental taken for a mixture: the vocals are noise at -40 dB."""
    instrumental = stems(number)["instrumental"]
    noise = np.random.default_rng(1).standard_normal(instrumental.shape) * 0.01 * np.std(instrumental)
    return whole({"instrumental": instrumental, "vocals": noise.astype(np.float32)})


def other_choir(number: int) -> dict[str, Audio]:
    """A song whose instrumental has voices of its own, which the mixture has not."""
    parts = stems(number)
    choir = 0.7 * np.roll(stems(number + 500)["vocals"], RATE // 2, axis=1)
    return whole({"instrumental": parts["instrumental"] + choir, "vocals": parts["vocals"] - choir})


def write_corpus(folder: Path, songs: Sequence[tuple[str, dict[str, Audio]]], **facts: Any) -> Corpus:
    """A corpus of named songs: each by an artist of its own, genres in turn, unless told otherwise."""
    rows = []
    for number, (name, parts) in enumerate(songs):
        known = {"artist": f"Artist {name}", "genre": GENRES[number % 3], "license": "CC-BY-4.0", **facts}
        rows += write_song(folder, name, parts, rate=RATE, **known)
    return write_tables(folder, rows)


class RememberingEngine(LocalEngine):
    """Works in this process, and inspects no song twice: songs are the same in many tests."""

    remembered: ClassVar[dict[Any, Any]] = {}

    def run(
        self, stage: Callable[[Any], Any], items: Iterable[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        for key, item in items:
            is_song = isinstance(item, InspectItem) and stage.keywords == {"witness": None}
            known = self.remembered.get(item.content_ids) if is_song else None
            if known is not None:
                yield Outcome(key, known, None)
                continue
            for outcome in super().run(stage, iter([(key, item)]), needs):
                if is_song and outcome.result is not None:
                    self.remembered[item.content_ids] = outcome.result
                yield outcome


def curate(corpus: Corpus, out: Path, **settings: Any) -> Corpus:
    """Curate in this process."""
    recipe = CurateRecipe(**{"clip_s": 3.0, "shares": {"train": 1.0}, **settings})
    return CurateBuilder(out, recipe, engine=RememberingEngine(0)).build(corpus.folder)


def reasons(corpus: Corpus) -> dict[str, str]:
    """Why songs were left out: stage and reason by song."""
    assert corpus.rejected is not None
    return {row.id: f"{row.stage}: {row.reason}" for row in corpus.rejected.itertuples()}
