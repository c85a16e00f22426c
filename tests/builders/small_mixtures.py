"""Loose voices, music and effects to mix, and sets of mixtures of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from augment.plan import MixturePlan, plans_of
from augment.recipe import MixRecipe
from builders.mixtures import MixtureBuilder
from builders.recipe import MixtureRecipe
from manifests.audio import Audio, quantise
from manifests.corpus import Corpus
from manifests.tables import read_table
from tests.manifests.exports.small_corpus import files_of, write_song, write_tables
from tests.synthesis import pink_noise

RATE = 8000
FRAMES = 6000

FACTS: dict[str, dict[str, Any]] = {
    "speech": {"language": "en", "transcript": "hello there", "license": "CC-BY-4.0"},
    "music": {"genre": "rock", "artist": "Band", "license": "cc by 4.0"},
    "effects": {"tags": "dog; bark", "license": "CC0"},
}


def noise(seed: int, frames: int = FRAMES, channels: int = 2, rms: float = 0.05) -> Audio:
    return quantise(pink_noise(np.random.default_rng(seed), channels, frames, rms=rms))


def sound_rows(
    folder: Path, kind: str, number: int, *, first: int = 0, frames: int = FRAMES, channels: int = 2, **facts: Any
) -> list[dict[str, Any]]:
    """So many sounds of a kind, a song each, with what is known of the kind."""
    rows = []
    for which in range(first, first + number):
        sound = noise(1000 * list(FACTS).index(kind) + which, frames, channels)
        known = {"provenance": "recorded", **FACTS[kind], **facts}
        rows += write_song(folder, f"{kind}{which}", {kind: sound}, rate=RATE, **known)
    return rows


def sound_corpus(folder: Path, numbers: Mapping[str, int] | None = None, **facts: Any) -> Corpus:
    """A library of single sounds: 3 of each kind, unless told otherwise."""
    numbers = numbers or dict.fromkeys(FACTS, 3)
    return write_tables(
        folder, [row for kind in numbers for row in sound_rows(folder, kind, numbers[kind], **facts)]
    )


def split_corpus(folder: Path) -> Corpus:
    """The same, of the splits train (sounds 0 to 2) and test (3 and 4)."""
    rows = [row for kind in FACTS for row in sound_rows(folder, kind, 3, split="train")]
    rows += [row for kind in FACTS for row in sound_rows(folder, kind, 2, first=3, split="test")]
    return write_tables(folder, rows)


def mix_recipe(**fields: Any) -> MixRecipe:
    """Speech, music and effects, 0.5 s at 8 kHz, unless told otherwise."""
    sources = {
        "speech": {"stems": "speech", "gain_db": [-10, 0]},
        "music": {"stems": "music", "count": [0, 2], "gain_db": [-10, 0]},
        "effects": {"stems": "effects", "count": [0, 3], "place": "scatter", "length_s": [0.1, 0.4]},
    }
    return MixRecipe.model_validate({"sample_rate": RATE, "length_s": 0.5, "sources": sources, **fields})


def build_mixtures(
    out: Path,
    corpora: Path | list[Path],
    mix: MixRecipe | None = None,
    *,
    kind: str = "universal",
    jobs: int = 0,
    table_format: Any = "parquet",
    **settings: Any,
) -> Corpus:
    """A set of 6 mixtures, in this process, unless told otherwise."""
    size = {} if settings.get("splits") else {"num": 6}
    recipe = MixtureRecipe(**{**size, **settings})
    builder = MixtureBuilder(out, kind, mix or mix_recipe(), recipe, jobs=jobs, table_format=table_format)
    return builder.build([corpora] if isinstance(corpora, Path) else corpora)


def run_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text()))


def plans_in(out: Path) -> list[MixturePlan]:
    return plans_of(read_table(out, "mixtures"))


def bytes_of(out: Path) -> dict[str, bytes]:
    """Every file that a build promises to be the same."""
    ours = (".cache", ".lock", "run.json")
    return {name: (out / name).read_bytes() for name in files_of(out) if not name.startswith(ours)}
