"""MoisesDB, and what is laid out like it.

    folder/[moisesdb_v0.1/]<song>/data.json
    folder/[moisesdb_v0.1/]<song>/<stem>/<track>.<extension>

`data.json` names the song, its artist and genre, and the tracks of each stem:

    {"song": "...", "artist": "...", "genre": "...",
     "stems": [{"stemName": "vocals", "tracks": [{"id": "...", "extension": "wav", "has_bleed": false}]}]}

A stem is the sum of its tracks, the mixture that of all, as in the dataset's own package; silence follows a track
that is shorter than the longest. (The package cuts the tracks of a stem to the shortest of them.)

References
----------
Pereira, Araujo, Korzeniowski, Vogl: MoisesDB, a dataset for source separation beyond 4 stems (ISMIR 2023),
arXiv:2307.15913. https://github.com/moises-ai/moises-db
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from manifests.corpus import MIXTURE
from manifests.errors import RecipeError, TableError
from manifests.imports.songs import FoundSong, NoSong, folders_below, plain_text, require_songs_folder, stem_name
from manifests.paths import resolve

DATA = "data.json"


def find_songs(folder: Path, bleed: Literal["keep", "reject"] = "keep") -> tuple[list[FoundSong], list[NoSong]]:
    """Find the songs of MoisesDB.

    Parameters
    ----------
    folder : Path
        Holds the songs' folders, at any depth. Hidden folders are left out, links are followed.
    bleed : {'keep', 'reject'}
        What to do with a song that says of a track that other instruments are heard in it.

    Returns
    -------
    found : list of FoundSong
        By path.
    rejected : list of NoSong

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it holds no `data.json`, or `bleed` is not known.
    """
    if bleed not in ("keep", "reject"):
        raise RecipeError(f"bleed '{bleed}' is not known; use 'keep' or 'reject'")
    require_songs_folder(folder)
    found: list[FoundSong] = []
    rejected: list[NoSong] = []
    for place, names in folders_below(folder):
        if DATA not in names:
            continue
        where = plain_text(place.relative_to(folder).as_posix())
        try:
            data = json.loads((place / DATA).read_text(encoding="utf-8"))
            song, bleeding = _song(place, where, data), _bleeding(data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, TableError) as error:
            rejected.append(NoSong(where, f"{DATA} is not right", f"{type(error).__name__}: {error}"))
            continue
        if bleeding and bleed == "reject":
            rejected.append(NoSong(where, "bleed", f"its {DATA} says so of {', '.join(bleeding)}"))
        else:
            found.append(song)
    if not found and not rejected:
        raise RecipeError(f"{folder}: holds no {DATA}; give the folder of MoisesDB")
    return sorted(found, key=lambda song: song.path), rejected


def _song(folder: Path, where: str, data: dict[str, Any]) -> FoundSong:
    stems: dict[str, tuple[Path, ...]] = {}
    for stem in data["stems"]:
        name = stem_name(stem["stemName"])
        if name == MIXTURE:
            raise ValueError(f"a stem is named '{MIXTURE}', which is the sum of all")
        paths = (f"{stem['stemName']}/{track['id']}.{track['extension']}" for track in stem["tracks"])
        stems[name] = stems.get(name, ()) + tuple(resolve(folder, path) for path in paths)
    stems = {name: paths for name, paths in stems.items() if paths}
    texts = (data.get(key) for key in ("artist", "song", "genre"))
    artist, title, genre = (text if isinstance(text, str) and text else None for text in texts)
    return FoundSong(where, stems, artist=artist, title=title, genre=genre)


def _bleeding(data: dict[str, Any]) -> list[str]:
    """The tracks that are said to hold other instruments too."""
    return [
        f"{stem['stemName']}/{track['id']}"
        for stem in data["stems"]
        for track in stem["tracks"]
        if track.get("has_bleed", False)
    ]
