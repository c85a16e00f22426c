"""A curated corpus of a few half-second songs: grades, reasons, splits, licences, clips, curves, gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from manifests.tables import TableFormat, frame_of, read_table, write_table
from tests.builders.small_build import FRAMES, edit, make_build

GRADES = ("A", "A", "B", "C")
GENRES = ("rock", "jazz", "rock", "folk")
LICENSES = ("CC-BY-4.0", "CC-BY-4.0", "http://creativecommons.org/licenses/by-nc/3.0/", None)
REASONS = ([], [], ["residue of -18 dB"], ["voice in the instrumental in 3 of 60 s", "residue of -14 dB"])
GATE = {
    "name": "quiet",
    "measure": "rms",
    "stem": "vocals",
    "minimum": 0.01,
    "maximum": None,
    "edges": [0.001, 0.01, 0.1, 1.0],
    "counts": [2, 5, 1],
    "kept": 6,
    "dropped": 2,
}


def make_curated(folder: Path, *, songs: int = 4, format: TableFormat = "parquet") -> Path:
    """Write a curated corpus: songs `song0` (grade A, train), `song1` ..., the worst ones last."""
    make_build(folder, songs=songs, format=format)

    def grade(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            number = int(str(row["song_id"]).removeprefix("song")) % 4
            row.update(
                grade=GRADES[number],
                reasons=json.dumps(REASONS[number]),
                genre=GENRES[number],
                license=LICENSES[number],
                split="validation" if number == 1 else "train",
                weight=1.0,
                rms=0.05,
                loudness_lufs=-20.0 - number,
            )

    edit(folder, "stems", grade)
    write_table(folder, "stems", read_table(folder, "stems"), format)
    clips = [
        {
            "clip_id": f"song{number}-0",
            "song_id": f"song{number}",
            "start_frame": 0,
            "num_frames": FRAMES // 2,
            "split": "train",
            "voiced_fraction": 0.25 * (number % 4),
            "rms_vocals": 0.05,
        }
        for number in range(songs)
    ]
    write_table(folder, "clips", frame_of("clips", clips), format)
    rejects = [
        {
            "id": "gone0",
            "path": "audio/gone0/mixture.flac",
            "stage": "grade",
            "reason": "grade D",
            "detail": "silent",
        },
        {
            "id": "gone1",
            "path": "audio/gone1/mixture.flac",
            "stage": "gate",
            "reason": "rms_vocals",
            "detail": "0.001",
        },
    ]
    write_table(folder, "rejected", frame_of("rejected", rejects), format)
    for number in range(songs):
        write_curves(folder, f"song{number}", worst_second=number)
    run = json.loads((folder / "run.json").read_text())
    del run["catalog"]
    run.update(
        builder="curate",
        corpus="corpora/songs",
        source={"builder": "catalog", "recipe": {}},
        counts={
            "inspect": {"in": songs + 2, "kept": songs + 2, "rejected": 0},
            "grade": {"in": songs + 2, "kept": songs + 1, "rejected": 1},
            "gate": {"in": songs + 1, "kept": songs, "rejected": 1},
        },
        wall_s={"inspect": 9.0, "grade": 0.1},
        rejected={"grade": {"grade D": 1}, "gate": {"rms_vocals": 1}},
        hours={"in": 0.5, "kept": 0.25, "rejected": {"grade": {"grade D": 0.125}}},
        gates=[GATE],
        genres={
            "before": {"rock": 3.0, "jazz": 1.0},
            "after": {"rock": 1.0, "jazz": 1.0},
            "reference": {"rock": 0.5, "jazz": 0.5},
        },
        splits={
            "train": {"songs": songs - 1, "hours": 0.75, "artists": 3},
            "validation": {"songs": 1, "hours": 0.25, "artists": 1},
        },
        grades={"A": 2, "B": 1, "C": 1, "D": 1},
        leaks={"within": 0, "unseen": 0},
    )
    (folder / "run.json").write_text(json.dumps(run))
    settings = {"builder": "curate", "recipe": run["recipe"]}
    (folder / "recipe.json").write_text(json.dumps(settings))
    return folder


def write_curves(folder: Path, song_id: str, *, worst_second: int = 0, seconds: int = 5) -> None:
    """Curves of a song with the strongest residue, and the loudest vocals, in one second."""
    at = np.arange(seconds) == worst_second
    (folder / "curves").mkdir(exist_ok=True)
    np.savez(
        folder / "curves" / f"{song_id}.npz",
        rms_mixture=np.full(seconds, 0.1, np.float32),
        rms_instrumental=np.full(seconds, 0.08, np.float32),
        rms_vocals=np.where(at, 0.2, 0.01).astype(np.float32),
        voice_vocals=np.where(at, 0.9, 0.1).astype(np.float32),
        voice_instrumental=np.full(seconds, 0.05, np.float32),
        residue_db=np.where(at, -8.0, -35.0).astype(np.float32),
    )
