"""Small corpora to mix: songs of four stems, and loose voices, music and effects of one stem each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from augment.plan import MixturePlan
from augment.pool import Pool, make_pool
from augment.recipe import MixRecipe
from manifests.audio import Audio, quantise
from manifests.corpus import Corpus
from manifests.tables import frame_of, write_table
from tests.manifests.exports.small_corpus import sounds, write_song, write_tables
from tests.synthesis import pink_noise

RATE = 8000


def noise(seed: int, frames: int, channels: int = 2, rms: float = 0.05) -> Audio:
    return quantise(pink_noise(np.random.default_rng(seed), channels, frames, rms=rms))


def loose_corpus(
    folder: Path, kinds: dict[str, int], frames: int = 4000, rate: int = RATE, channels: int = 2, **facts: Any
) -> Corpus:
    """So many sounds of each kind, a song each."""
    rows = []
    for kind, number in kinds.items():
        for which in range(number):
            seed = 1000 * sorted(kinds).index(kind) + which
            name = f"{kind}{which}"
            rows += write_song(folder, name, {kind: noise(seed, frames, channels)}, rate=rate, **facts)
    return write_tables(folder, rows)


def song_corpus(folder: Path, songs: int = 3, frames: int = 4000, **facts: Any) -> Corpus:
    """Songs of bass, drums, other and vocals, and their mixture."""
    rows = []
    for seed in range(songs):
        rows += write_song(folder, f"song{seed}", sounds(seed, frames=frames), rate=RATE, **facts)
    return write_tables(folder, rows)


def with_clips(corpus: Corpus, clips: list[tuple[str, int, int]]) -> Corpus:
    """The corpus with clips: song, start and length."""
    rows = [
        {"clip_id": f"{song}-{start}", "song_id": song, "start_frame": start, "num_frames": length}
        for song, start, length in clips
    ]
    write_table(corpus.folder, "clips", frame_of("clips", rows))
    return Corpus.open(corpus.folder)


def recipe(**fields: Any) -> MixRecipe:
    """A recipe at 8 kHz, half a second long, of voices, music and effects unless told otherwise."""
    sources = {
        "dialogue": {"stems": "speech", "count": [0, 1], "gain_db": [-10, 10]},
        "music": {"stems": "music", "count": [0, 2], "gain_db": [-10, 10]},
        "effects": {"stems": "effects", "count": [0, 3], "gain_db": [-10, 10]},
    }
    return MixRecipe.model_validate({"sample_rate": RATE, "length_s": 0.25, "sources": sources, **fields})


def one_source(**fields: Any) -> MixRecipe:
    """A recipe with one source, `effects`."""
    top = {name: fields.pop(name) for name in list(fields) if name in MixRecipe.model_fields}
    return recipe(**top, sources={"effects": {"stems": "effects", **fields}})


def pool_of(mix: MixRecipe, corpus: Corpus) -> Pool:
    return make_pool(mix, corpus)


def spans(plan: MixturePlan) -> list[tuple[int, int]]:
    """Where the events of a plan start and stop."""
    return [(event.offset_frame, event.offset_frame + event.length_frames) for event in plan.events]
