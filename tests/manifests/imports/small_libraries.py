"""Small look-alikes of public libraries of sounds: their folders, their formats, the headers of their tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from manifests.audio import Audio
from tests.synthesis import pink_noise

SPEAKERS = """\
; Some pipe(|) separated metadata about all LibriVox readers, whose speech is used in the corpus.
;
;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Kara Shallenberg
60   | M | train-clean-100  | 20.18 | |CBW|Simon
84   | F | dev-clean        |  8.02 | Christie Nowak
61   | M | test-clean       |  8.08 | Paul-Gabriel Wiener
"""
CHAPTERS = """\
; Some pipe(|) separated metadata about the audio chapters included in the corpus.
;ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE
198    | 19   | 14.68 | train-clean-100  | 1051 | 121   | 01 | Northanger Abbey (version 2)
121123 | 84   | 2.85  | dev-clean        | 5015 | 1184  | Chapter 063: Number One | Count of Monte Cristo | Volume 3
"""
UTTERANCES = {
    "train-clean-100": ["19-198-0000", "19-198-0001", "60-121082-0000"],
    "dev-clean": ["84-121123-0000"],
    "test-clean": ["61-70968-0000"],
}

# The second line of tracks.csv, by the groups in its first.
COLUMNS = {
    "album": "comments date_created date_released engineer favorites id information listens producer tags title "
    "tracks type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created favorites id latitude "
    "location longitude members name related_projects tags website wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top genres genres_all "
    "information interest language_code license listens lyricist number publisher tags title",
}
PAIRS = [(group, name) for group, names in COLUMNS.items() for name in names.split()]
BY_NC_SA = "Attribution-NonCommercial-ShareAlike 3.0 International"
TRACKS: Mapping[int, Mapping[tuple[str, str], str]] = {
    2: {
        ("artist", "name"): "AWOL",
        ("artist", "bio"): 'He said: "music",\n\nand <p>more</p>',
        ("set", "split"): "training",
        ("set", "subset"): "small",
        ("track", "genre_top"): "Hip-Hop",
        ("track", "language_code"): "en",
        ("track", "license"): BY_NC_SA,
        ("track", "title"): "Food",
    },
    140: {("artist", "name"): "Nicky Cook", ("set", "split"): "validation", ("set", "subset"): "medium"},
    1039: {("artist", "name"): "Zoë, Ü", ("set", "split"): "test", ("set", "subset"): "small"},
    155066: {("artist", "name"): "Not Here", ("set", "split"): "training", ("set", "subset"): "large"},
}

CLIPS = {
    "dev": {
        "64760": ("Electric_guitar,Guitar,Plucked_string_instrument,Musical_instrument,Music", "train"),
        "21914": ("Bark,Dog,Domestic_animals_and_pets,Animal", "train"),
        "180913": ("Raindrop,Rain,Water", "train"),
        "209": ("Shout,Human_voice", "val"),
        "363": ("Wind", "val"),
        "374": ("Slam,Door", "val"),
    },
    "eval": {"37199": ("Knock,Door", None), "100": ("Car_passing_by,Car,Motor_vehicle_(road),Vehicle", None)},
}
CC0 = "http://creativecommons.org/publicdomain/zero/1.0/"


def sound(name: str, frames: int, channels: int = 1) -> Audio:
    return pink_noise(np.random.default_rng(sum(name.encode())), channels, frames)


def write_sound(path: Path, audio: Audio, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp3":
        soundfile.write(path, audio.T, rate, "MPEG_LAYER_III", format="MP3")
    else:
        soundfile.write(path, audio.T, rate, "PCM_16")


def write_librispeech(home: Path, frames: int = 1600) -> Path:
    """LibriSpeech's folder."""
    for subset, names in UTTERANCES.items():
        for name in names:
            speaker, chapter, _ = name.split("-")
            place = home / subset / speaker / chapter
            write_sound(place / f"{name}.flac", sound(name, frames), 16000)
            with (place / f"{speaker}-{chapter}.trans.txt").open("a") as file:
                file.write(f"{name} SAID {name}\n")
    (home / "SPEAKERS.TXT").write_text(SPEAKERS, encoding="utf-8")
    (home / "CHAPTERS.TXT").write_text(CHAPTERS, encoding="utf-8")
    return home


def write_tracks(path: Path, tracks: Mapping[int, Mapping[tuple[str, str], str]]) -> Path:
    """FMA's table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["", *(group for group, _ in PAIRS)])
        lines.writerow(["", *(name for _, name in PAIRS)])
        lines.writerow(["track_id", *("" for _ in PAIRS)])
        for number, row in tracks.items():
            lines.writerow([number, *(row.get(pair, "") for pair in PAIRS)])
    return path


def write_fma(folder: Path, frames: int = 4410, size: str = "medium") -> Path:
    """The folder that FMA's archives are unpacked in."""
    write_tracks(folder / "fma_metadata" / "tracks.csv", TRACKS)
    for number in (2, 140, 1039):
        name = f"{number:06d}"
        path = folder / f"fma_{size}" / name[:3] / f"{name}.mp3"
        write_sound(path, sound(name, frames, 2), 44100)
    return folder


def write_fsd50k(home: Path, frames: int = 4410) -> Path:
    """FSD50K's folder."""
    (home / "FSD50K.ground_truth").mkdir(parents=True)
    (home / "FSD50K.metadata").mkdir()
    for part, clips in CLIPS.items():
        with (home / "FSD50K.ground_truth" / f"{part}.csv").open("w", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["fname", "labels", "mids", *(["split"] if part == "dev" else [])])
            for name, (labels, split) in clips.items():
                mids = ",".join("/m/0" for _ in labels.split(","))
                lines.writerow([name, labels, mids, *([split] if split else [])])
                write_sound(home / f"FSD50K.{part}_audio" / f"{name}.wav", sound(name, frames), 44100)
        told = {
            name: {
                "title": f"{name}.wav",
                "description": "",
                "tags": [],
                "license": CC0,
                "uploader": f"user of {name}",
            }
            for name in clips
        }
        (home / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json").write_text(json.dumps(told))
    return home
