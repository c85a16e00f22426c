"""A folder for each song, a file for each stem.

    folder/[train/|validation/|test/][.../]Artist - Title/{mixture,vocals,drums,...}.<suffix>
    folder/[train/|validation/|test/][.../]Film/{DX,MX,FX}[.L|.R|.C|.LFE|.Ls|.Rs].<suffix>, segments.csv

Every folder that holds audio files is a song; a file's name is its stem's name. The split is that of the top folder
where it is named after one. This reads what `manifests.exports.msst` writes as types 1 and 4, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from manifests.audio import AUDIO_SUFFIXES
from manifests.corpus import MIXTURE
from manifests.downmix import split_speaker
from manifests.errors import RecipeError
from manifests.exports.songs import TEST, TRAIN, VALIDATION
from manifests.imports.segments import Spans, in_segments, read_segments
from manifests.imports.songs import (
    FoundSong,
    NoSong,
    artist_and_title,
    folders_below,
    plain_text,
    require_songs_folder,
    stem_name,
)

SPLITS: Mapping[str, str] = {
    "train": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
}
"""What folders name splits, and what corpora call them."""


def find_songs(
    folder: Path,
    mixture: str = MIXTURE,
    stems: Collection[str] | None = None,
    *,
    rename: Mapping[str, str] | None = None,
    speakers: bool = False,
    segments: str | None = None,
) -> tuple[list[FoundSong], list[NoSong]]:
    """Find the folders that hold audio files.

    Parameters
    ----------
    folder : Path
        Where to look. Hidden files and folders are left out, links are followed.
    mixture : str
        Name of the mixtures' files, without suffix.
    stems : collection of str, optional
        Stems to take besides the mixture, named as `stem_name` does; all by default.
    rename : mapping of str to str, optional
        What stems are called, by what their files are; `stems` has the new names.
    speakers : bool
        A stem may have a file for each loudspeaker, whose name ends the file's.
    segments : str, optional
        Name of the table in a song's folder that says what is heard when in its files (`segments.read_segments`):
        stems are what it says then, and each a sum of parts of files. Files that it does not name are stems of
        their own.

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
        When it holds no audio.
    """
    found, rejected = song_folders(folder, mixture, stems, rename=rename, speakers=speakers, segments=segments)
    if not found and not rejected:
        raise RecipeError(
            f"{folder}: no folder in it holds audio files; give the one that holds the songs' folders"
        )
    return found, rejected


def song_folders(
    folder: Path,
    mixture: str = MIXTURE,
    stems: Collection[str] | None = None,
    *,
    rename: Mapping[str, str] | None = None,
    speakers: bool = False,
    segments: str | None = None,
) -> tuple[list[FoundSong], list[NoSong]]:
    """As `find_songs`, for which nothing is no error."""
    require_songs_folder(folder)
    found: list[FoundSong] = []
    rejected: list[NoSong] = []
    called = {stem_name(old): stem_name(new) for old, new in (rename or {}).items()}
    for place, names in folders_below(folder):
        files = _stems_in(place, names, mixture, stems, called, speakers)
        if not files:
            continue
        relative = place.relative_to(folder)
        where = plain_text(relative.as_posix())
        if several := [paths for paths in files.values() if not _is_one_stem(paths, speakers)]:
            alike = ", ".join(plain_text(path.name) for path in several[0])
            rejected.append(NoSong(where, "several files of a stem", f"{alike}; keep one of them"))
            continue
        artist, title = artist_and_title(plain_text(place.resolve().name if place == folder else place.name))
        split = SPLITS.get(relative.parts[0].lower()) if len(relative.parts) > 1 else None
        sources = {stem: tuple(paths) for stem, paths in files.items()}
        spans: Spans = {}
        if segments is not None and (place / segments).is_file():
            try:
                sources, spans = in_segments(sources, read_segments(place / segments), called)
            except RecipeError as error:
                rejected.append(NoSong(where, "segments", str(error)))
                continue
        found.append(FoundSong(where, sources, artist=artist, title=title, split=split, spans=spans))
    return sorted(found, key=lambda song: song.path), rejected


def _stems_in(
    place: Path,
    names: Collection[str],
    mixture: str,
    stems: Collection[str] | None,
    called: Mapping[str, str],
    speakers: bool,
) -> dict[str, list[Path]]:
    """The audio files of a folder by the stems that they are wanted for."""
    files: dict[str, list[Path]] = {}
    paths = [place / name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES]
    bases = Counter(split_speaker(path.stem)[0] for path in paths)
    for path in paths:
        base = split_speaker(path.stem)[0]
        # a file of its own may end like that by chance: 'Take.C'
        stem = stem_name(plain_text(base if speakers and bases[base] > 1 else path.stem))
        stem = MIXTURE if stem == stem_name(mixture) else called.get(stem, stem)
        if stem == MIXTURE or stems is None or stem in stems:
            files.setdefault(stem, []).append(path)
    return files


def _is_one_stem(paths: Collection[Path], speakers: bool) -> bool:
    """Whether there is one file, or one for each loudspeaker."""
    named = [split_speaker(path.stem)[1] for path in paths]
    return len(named) == 1 or (speakers and None not in named and len(set(named)) == len(named))
