"""MUSDB18-HQ, as it is distributed, and what `manifests.exports.musdb18` writes.

    folder/{train,test}/Artist - Title/{mixture,bass,drums,other,vocals}.wav

The validation songs lie in `train`: those that a `setup.yaml` beside it lists as `validation_tracks`, or, where
there is no such file, the 14 that the dataset's authors name. Other files are left alone.

References
----------
Rafii, Liutkus, Stoeter, Mimilakis, Bittner: MUSDB18-HQ, an uncompressed version of MUSDB18 (2019),
doi:10.5281/zenodo.3338373. The validation songs: `configs/mus.yaml` of https://github.com/sigsep/sigsep-mus-db
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import yaml

from manifests.corpus import MIXTURE
from manifests.errors import RecipeError
from manifests.exports.musdb18 import SETUP, STEMS
from manifests.exports.songs import TEST, TRAIN, VALIDATION
from manifests.imports.folders import song_folders
from manifests.imports.songs import FoundSong, NoSong
from manifests.plain import yaml_of

VALIDATION_TRACKS = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)
"""Folders in `train` that MUSDB18's authors set aside for validation."""


def find_songs(folder: Path) -> tuple[list[FoundSong], list[NoSong]]:
    """Find the songs of MUSDB18-HQ.

    Parameters
    ----------
    folder : Path
        Holds `train` or `test` or both.

    Returns
    -------
    found : list of FoundSong
        By path.
    rejected : list of NoSong
        Songs that lack a stem which others of them have, among others.

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it is not MUSDB18-HQ.
    """
    songs, rejected = song_folders(folder, stems=STEMS)
    songs = [song for song in songs if _is_in_place(song.path)]
    rejected = [song for song in rejected if _is_in_place(song.path)]
    if not songs and not rejected:
        if next(folder.rglob("*.stem.mp4"), None) is not None:
            raise RecipeError(
                f"{folder}: holds MUSDB18's compressed stems (.stem.mp4), whose mixture is not their sum; get "
                "MUSDB18-HQ, or decode them with 'musdbconvert' and ask for make_mixture"
            )
        raise RecipeError(
            f"{folder}: has no songs in 'train' or 'test'; give the folder of MUSDB18-HQ that holds these"
        )
    validation = _validation_tracks(folder / SETUP)
    stems = {stem for song in songs for stem in song.stems} - {MIXTURE}
    found = []
    for song in songs:
        if missing := sorted(stems - song.stems.keys()):
            detail = f"it has no {missing[0]}.wav, as others have; put it back"
            rejected.append(NoSong(song.path, "stem missing", detail))
        elif song.split == TRAIN and _folded(PurePosixPath(song.path).name) in validation:
            found.append(dataclasses.replace(song, split=VALIDATION))
        else:
            found.append(song)
    return found, rejected


def _is_in_place(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) == 2 and parts[0] in (TRAIN, TEST)


def _validation_tracks(path: Path) -> set[str]:
    """Names of the songs that are set aside, by a setup file of `musdb` if there is one."""
    names: Collection[object] = VALIDATION_TRACKS
    if path.exists():
        try:
            setup = yaml_of(path.read_text(encoding="utf-8"))
            names = list(setup.get("validation_tracks") or ())
        except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
            raise RecipeError(f"{path}: is no setup file of musdb ({error}); correct or remove it") from error
    return {_folded(str(name)) for name in names}


def _folded(name: str) -> str:
    """File systems differ in how they compose letters."""
    return unicodedata.normalize("NFC", name)
