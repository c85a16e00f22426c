"""FSD50K: sounds of Freesound, labelled by people.

    folder/[FSD50K/]FSD50K.dev_audio/64760.wav, FSD50K.eval_audio/37199.wav
    folder/[FSD50K/]FSD50K.ground_truth/dev.csv, eval.csv
    folder/[FSD50K/]FSD50K.metadata/dev_clips_info_FSD50K.json, eval_clips_info_FSD50K.json

Either of the two sets may be missing. Every clip is a song of one stem. By their labels clips are sorted as for
Divide and Remaster: sounds of places and machines that go on are `background`, others `foreground`, and clips
with voices or music in them are left out. Labels come with what they are kinds of (`Rain,Water`), and sometimes
speak for both: then the larger part decides, and `foreground` where there is none.

The tables of Divide and Remaster count what is to be left out among these votes; here one such label is enough, as
in the tools of its third version.

References
----------
Fonseca, Favory, Pons, Font, Serra: FSD50K, an open dataset of human-labeled sound events (TASLP 2022).
Petermann, Wichern, Wang, Le Roux: The cocktail fork problem (ICASSP 2022); the sorting of labels is that of its
tools, https://github.com/darius522/dnr-utils, standardization.py
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manifests.audio import AUDIO_SUFFIXES
from manifests.errors import RecipeError
from manifests.exports.songs import TEST, TRAIN, VALIDATION
from manifests.imports.songs import FoundSong, NoSong, folders_below, plain_text, require_songs_folder

log = logging.getLogger(__name__)

FOREGROUND, BACKGROUND, EFFECTS = "foreground", "background", "effects"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AMBIENT = _words(
    """
    Aircraft Alarm Bird Boat_and_Water_vehicle Bus Car Car_passing_by Chatter Cheering Crowd
    Domestic_animals_and_pets Domestic_sounds_and_home_sounds Engine Fire Fixed-wing_aircraft_and_airplane Fowl
    Frying_(food) Gull_and_seagull Hiss Idling Insect Livestock_and_farm_animals_and_working_animals Mechanical_fan
    Mechanisms Microwave_oven Motor_vehicle_(road) Motorcycle Ocean Race_car_and_auto_racing Rail_transport Rain
    Raindrop Sink_(filling_or_washing) Siren Stream Subway_and_metro_and_underground Thunder Thunderstorm
    Traffic_noise_and_roadway_noise Train Trickle_and_dribble Truck Vehicle Walk_and_footsteps Water_tap_and_faucet
    Waves_and_surf Wild_animals Wind
    """
)
"""Labels that speak for the background, of Divide and Remaster's tools (see the references)."""

NO_EFFECT = _words(
    """
    Accordion Acoustic_guitar Bass_drum Bass_guitar Bowed_string_instrument Brass_instrument Breathing
    Child_speech_and_kid_speaking Chime Chuckle_and_chortle Church_bell Conversation Cough Cowbell Crash_cymbal
    Crying_and_sobbing Cymbal Drum Drum_kit Electric_guitar Female_singing Female_speech_and_woman_speaking Gasp
    Giggle Glockenspiel Gong Guitar Harmonica Harp Hi-hat Human_group_actions Human_voice Keyboard_(musical)
    Laughter Male_singing Male_speech_and_man_speaking Mallet_percussion Marimba_and_xylophone Music
    Musical_instrument Organ Percussion Piano Plucked_string_instrument Rattle_(instrument) Respiratory_sounds
    Ringtone Screaming Screech Shout Sigh Singing Snare_drum Sneeze Speech Speech_synthesizer Strum Tabla Tambourine
    Trumpet Whispering Wind_chime Wind_instrument_and_woodwind_instrument Yell
    """
)
"""Labels of voices and music, and of what is heard as such; of the same source."""

_SPLITS = {"train": TRAIN, "val": VALIDATION}
_SETS = ("dev", "eval")
_TRUTH = "FSD50K.ground_truth"


@dataclass(frozen=True)
class Clip:
    """What the tables say of a clip."""

    labels: tuple[str, ...]
    split: str


def find_songs(folder: Path, labels: Literal["sort", "ignore"] = "sort") -> tuple[list[FoundSong], list[NoSong]]:
    """Find the clips.

    Parameters
    ----------
    folder : Path
        FSD50K, or the folder above it. Hidden files are left out, links are followed.
    labels : {'sort', 'ignore'}
        Sort clips into `foreground` and `background`, without those of voices and music; or take all of them as
        `effects`.

    Returns
    -------
    found : list of FoundSong
        By path.
    rejected : list of NoSong
        Clips of voices or music, files without a row of the tables, and rows without a file.

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it holds no clips, a table is missing or of another shape, or `labels` is not known.
    """
    if labels not in ("sort", "ignore"):
        raise RecipeError(f"labels '{labels}' is not known; use 'sort' or 'ignore'")
    require_songs_folder(folder)
    home = _home(folder)
    found: list[FoundSong] = []
    rejected: list[NoSong] = []
    for part in _SETS:
        audio = home / f"FSD50K.{part}_audio"
        if not audio.is_dir():
            continue
        table = home / _TRUTH / f"{part}.csv"
        clips = read_labels(table, TEST if part == "eval" else None)
        told = read_clips(home / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json")
        there = set()
        for place, names in folders_below(audio):
            for path in (place / name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES):
                where = plain_text(path.relative_to(folder).as_posix())
                there.add(path.stem)
                clip = clips.get(path.stem)
                stem = EFFECTS if clip is None or labels == "ignore" else stem_of(clip.labels)
                if clip is None:
                    rejected.append(NoSong(where, "no row", f"{table} has no clip {path.stem}; take the file out"))
                elif stem is None:
                    detail = f"labelled {', '.join(clip.labels)}; 'labels: ignore' takes all clips"
                    rejected.append(NoSong(where, "voice or music", detail))
                else:
                    facts = told.get(path.stem, {})
                    tags = ";".join(clip.labels)
                    found.append(FoundSong(where, {stem: (path,)}, split=clip.split, tags=tags, **facts))
        for name in sorted(clips.keys() - there):
            where = plain_text((audio / f"{name}.wav").relative_to(folder).as_posix())
            detail = f"{table} has a row of it, and {audio} no such file; unpack the archive again"
            rejected.append(NoSong(where, "no file", detail))
    if not found and not rejected:
        raise RecipeError(
            f"{home}: holds no clips in FSD50K.dev_audio or FSD50K.eval_audio; unpack the archives there"
        )
    if unlicensed := sum(song.license is None for song in found):
        log.warning("%s: the metadata has no licence of %d of %d clips", home, unlicensed, len(found))
    return sorted(found, key=lambda song: song.path), sorted(rejected, key=lambda song: song.path)


def stem_of(labels: Collection[str]) -> str | None:
    """What a clip is in a mixture for the cinema.

    Parameters
    ----------
    labels : collection of str
        Of the vocabulary; others count as foreground.

    Returns
    -------
    {'foreground', 'background'} or None
        None with a label of voices or music.

    Examples
    --------
    >>> stem_of(["Raindrop", "Rain", "Water"]), stem_of(["Bark", "Dog"]), stem_of(["Shout", "Door"])
    ('background', 'foreground', None)
    """
    if not NO_EFFECT.isdisjoint(labels):
        return None
    ambient = len(AMBIENT.intersection(labels))
    return BACKGROUND if 2 * ambient > len(set(labels)) else FOREGROUND


def read_labels(path: Path, split: str | None = None) -> dict[str, Clip]:
    """The labels of clips.

    Parameters
    ----------
    path : Path
        `dev.csv` or `eval.csv`.
    split : str, optional
        Of all clips; that of the column `split` by default.

    Returns
    -------
    dict of str to Clip
        By name of the file without suffix.

    Raises
    ------
    RecipeError
        With the line and column that is not as FSD50K has it.
    """
    _require(path)
    columns = ["fname", "labels", "mids", *([] if split else ["split"])]
    clips: dict[str, Clip] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            if (header := next(lines, [])) != columns:
                raise _wrong(path, 1, f"is '{','.join(header)}', expected '{','.join(columns)}'")
            for cells in lines:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise _wrong(path, lines.line_num, f"has {len(cells)} columns, expected {len(columns)}")
                row = dict(zip(columns, cells, strict=True))
                name, labels = row["fname"], tuple(filter(None, row["labels"].split(",")))
                if not name.isdecimal() or name in clips:
                    problem = f"column 'fname' is '{name}', expected a number that no other row has"
                    raise _wrong(path, lines.line_num, problem)
                if not labels:
                    raise _wrong(path, lines.line_num, "column 'labels' is empty")
                if split is None and row["split"] not in _SPLITS:
                    problem = f"column 'split' is '{row['split']}', expected {', '.join(_SPLITS)}"
                    raise _wrong(path, lines.line_num, problem)
                clips[name] = Clip(labels, split or _SPLITS[row["split"]])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: cannot be read as CSV in UTF-8 ({error}); unpack the archive again") from error
    return clips


def read_clips(path: Path) -> dict[str, dict[str, Any]]:
    """Who uploaded clips, under which licence and title.

    Parameters
    ----------
    path : Path
        `dev_clips_info_FSD50K.json` or `eval_clips_info_FSD50K.json`.

    Returns
    -------
    dict of str to dict
        Name of the file without suffix to `artist`, `title` and `license`.

    Raises
    ------
    RecipeError
        With the line, or the clip and field, that is not as FSD50K has it.
    """
    _require(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise _wrong(path, error.lineno, f"column {error.colno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{path}: cannot be read as JSON in UTF-8 ({error}); unpack the archive again") from error
    if not isinstance(data, dict):
        raise _wrong(path, 1, f"holds a {type(data).__name__}, expected an object of clips")
    clips = {}
    for name, record in data.items():
        fields = record if isinstance(record, dict) else {}
        for field in ("uploader", "title", "license"):
            if not isinstance(fields.get(field), str):
                raise RecipeError(
                    f"{path}: clip '{name}': field '{field}' is {fields.get(field)!r}, expected text; unpack the "
                    "archive again"
                )
        artist, title, license = (fields[field].strip() or None for field in ("uploader", "title", "license"))
        clips[name] = {"artist": artist, "title": title, "license": license}
    return clips


def _home(folder: Path) -> Path:
    below = (path for path in sorted(folder.iterdir()) if path.is_dir())
    for place in (folder, *below):
        if (place / _TRUTH).is_dir():
            return place
    raise RecipeError(f"{folder}: holds no {_TRUTH}, nor does a folder in it; unpack FSD50K.ground_truth.zip there")


def _require(path: Path) -> None:
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such file; unpack {path.parent.name}.zip there")


def _wrong(path: Path, line: int, problem: str) -> RecipeError:
    return RecipeError(f"{path}: line {line}: {problem}; unpack {path.parent.name}.zip again")
