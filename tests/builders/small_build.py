"""A finished catalogue build of a few half-second songs, written with the tables' own functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.recipe import CatalogRecipe
from manifests.audio import Audio, content_id, quantise, write
from manifests.tables import TableFormat, frame_of, read_table, write_table
from tests.synthesis import pink_noise

RATE = 22050
FRAMES = RATE // 2
STEMS = ("mixture", "instrumental", "vocals")


def make_build(folder: Path, *, songs: int = 2, format: TableFormat = "parquet", **track: Any) -> Path:
    """Write a build that is all well: songs `song0`, `song1` ..., a refused pair and a rejected file.

    `track` sets columns of every row of the tracks table.
    """
    tracks, pairs, stems = [], [], []
    for number in range(songs):
        song_id, other_id = f"song{number}", f"inst{number}"
        for track_id, version in ((song_id, "original"), (other_id, "instrumental")):
            tracks.append(track_row(track_id, f"Title {number}", version, f"Artist {number}", **track))
        pairs.append(pair_row(song_id, other_id, "chosen", number))
        stems += [stem_row(folder, song_id, stem, audio) for stem, audio in sounds(number).items()]
    refused = pair_row("song0", "inst1", "refused", 0, reason="fingerprints differ (bit error rate 0.47)")
    rejects = [{"path": "a/cut.mp3", "stage": "scan", "reason": "unreadable", "detail": "cut short"}]
    write_table(folder, "tracks", frame_of("tracks", tracks), format)
    write_table(folder, "pairs", frame_of("pairs", [*pairs, refused]), format)
    write_table(folder, "rejected", frame_of("rejected", rejects), format)
    write_table(folder, "stems", frame_of("stems", stems), format)
    recipe = CatalogRecipe().model_dump(mode="json")
    (folder / "recipe.json").write_text(json.dumps({"builder": "catalog", "recipe": recipe}))
    run = {
        "builder": "catalog",
        "recipe": recipe,
        "catalog": "music",
        "versions": {"python": "3.11.7"},
        "inputs": sorted(str(row["track_id"]) for row in tracks),
        "counts": {"survey": {"in": 5, "kept": 4, "rejected": 1}, "choose": {"chosen": songs, "refused": 1}},
        "rejected": {"scan": {"unreadable": 1}},
        "hours": {"in": 0.5, "kept": 0.25},
        "wall_s": {"survey": 75.0, "derive": 0.5},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def sounds(number: int) -> dict[str, Audio]:
    """The stems of a song, on the grid of 24 bits."""
    rng = np.random.default_rng(number)
    vocals, instrumental = (quantise(pink_noise(rng, 2, FRAMES, rms=0.05)) for _ in range(2))
    return {"mixture": vocals + instrumental, "instrumental": instrumental, "vocals": vocals}


def track_row(track_id: str, title: str, version: str, artist: str, **changes: Any) -> dict[str, Any]:
    return {
        "track_id": track_id,
        "root": "catalog",
        "path": f"{track_id}.flac",
        "codec": "flac",
        "num_frames": FRAMES,
        "sample_rate": RATE,
        "channels": 2,
        "title": title,
        "song_title": title,
        "version": version,
        "artist": artist,
        **changes,
    }


def pair_row(
    mixture_id: str, instrumental_id: str, status: str, number: int, reason: str | None = None
) -> dict[str, Any]:
    return {
        "pair_id": f"{mixture_id}-{instrumental_id}",
        "mixture_id": mixture_id,
        "instrumental_id": instrumental_id,
        "mixture_path": f"{mixture_id}.flac",
        "instrumental_path": f"{instrumental_id}.flac",
        "evidence": "fingerprint (12 votes)",
        "votes": 12,
        "bit_error_rate": 0.1,
        "lag_frames": 2205.0 * (number + 1),
        "drift_ppm": 1.5,
        "polarity": 1,
        "residual_db": -30.0,
        "confidence": 0.99,
        "status": status,
        "segments": json.dumps([[0, FRAMES, 220.5]]),
        "reason": reason,
        "song_id": mixture_id if status == "chosen" else None,
    }


def stem_row(folder: Path, song_id: str, stem: str, audio: Audio) -> dict[str, Any]:
    """Write a stem and describe it."""
    path = f"audio/{song_id}/{stem}.flac"
    write(folder / path, audio, RATE)
    number = int(song_id.removeprefix("song"))
    return {
        "song_id": song_id,
        "stem": stem,
        "root": ".",
        "path": path,
        "num_frames": audio.shape[1],
        "sample_rate": RATE,
        "channels": audio.shape[0],
        "artist": f"Artist {number}",
        "provenance": "derived",
        "residual_db": -30.0 + number,
        "audit": "unheard",
        "pair_id": f"{song_id}-inst{number}",
        "content_id": content_id(folder / path),
    }


def edit(build: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of a table in place."""
    frame = read_table(build, name).astype(object)
    rows: list[dict[str, Any]] = [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
    change(rows)
    write_table(build, name, frame_of(name, rows))


def replace_stem(build: Path, song_id: str, stem: str, audio: Audio) -> None:
    """Write other audio for a stem, and its row with it."""

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if (row["song_id"], row["stem"]) == (song_id, stem):
                row.update(stem_row(build, song_id, stem, audio))

    edit(build, "stems", change)
