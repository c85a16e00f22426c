"""Corpora of a few short songs, on the grid of a 24-bit file, so that sums can be compared exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from manifests.audio import Audio, content_id, quantise, write
from manifests.corpus import Corpus
from manifests.tables import frame_of, write_table
from tests.synthesis import pink_noise

RATE = 8000
FRAMES = 2000
FOUR = ("bass", "drums", "other", "vocals")


def sounds(seed: int, stems: tuple[str, ...] = FOUR, frames: int = FRAMES, rms: float = 0.05) -> dict[str, Audio]:
    """Stems, and the mixture that is their sum."""
    rng = np.random.default_rng(seed)
    parts = {stem: quantise(pink_noise(rng, 2, frames, rms=rms)) for stem in stems}
    return {"mixture": np.sum([*parts.values()], axis=0, dtype=np.float32), **parts}


def write_song(
    folder: Path, song_id: str, stems: Mapping[str, Audio], suffix: str = ".flac", rate: int = RATE, **facts: Any
) -> list[dict[str, Any]]:
    """Write a song's files; its rows of the stems table."""
    rows = []
    for stem, audio in stems.items():
        path = f"audio/{song_id}/{stem}{suffix}"
        write(folder / path, audio, rate)
        rows.append(
            {
                "song_id": song_id,
                "stem": stem,
                "root": ".",
                "path": path,
                "num_frames": audio.shape[1],
                "sample_rate": rate,
                "channels": audio.shape[0],
                "provenance": "derived",
                "audit": "unheard",
                "content_id": content_id(folder / path),
                **facts,
            }
        )
    return rows


def write_tables(folder: Path, rows: list[dict[str, Any]], titles: Mapping[str, str] | None = None) -> Corpus:
    """Write the stems table, and tracks with the songs' titles."""
    tracks = [
        {
            "track_id": row["song_id"],
            "root": "music",
            "path": f"{row['song_id']}.flac",
            "codec": "flac",
            "version": "original",
            "title": f"{(titles or {})[row['song_id']]} (Remastered)",
            "song_title": (titles or {})[row["song_id"]],
            **{key: row[key] for key in ("num_frames", "sample_rate", "channels")},
        }
        for row in rows
        if row["stem"] == "mixture" and row["song_id"] in (titles or {})
    ]
    if tracks:
        write_table(folder, "tracks", frame_of("tracks", tracks))
    write_table(folder, "stems", frame_of("stems", rows))
    return Corpus.open(folder)


def small_corpus(folder: Path, stems: tuple[str, ...] = FOUR, suffix: str = ".flac") -> Corpus:
    """Four songs: one of no split, and one of each split."""
    rows: list[dict[str, Any]] = []
    titles = {}
    for seed, (song_id, split) in enumerate({"s0": None, "s1": "train", "s2": "validation", "s3": "test"}.items()):
        facts = {"artist": f"Band {seed}", "genre": "rock", "split": split, "license": "CC0"}
        rows += write_song(folder, song_id, sounds(seed, stems), suffix, **facts)
        titles[song_id] = f"Song {seed}"
    return write_tables(folder, rows, titles)


def files_of(folder: Path) -> list[str]:
    """All files in a folder, hidden ones too, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
