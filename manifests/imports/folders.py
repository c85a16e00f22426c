"""A folder for each song, a file for each stem.

    folder/[train/|validation/|test/][.../]Artist - Title/{mixture,vocals,drums,...}.<suffix>
    folder/[train/|validation/|test/][.../]Film/{DX,MX,FX}[.L|.R|.C|.LFE|.Ls|.Rs].<suffix>, segments.csv

Every folder that holds audio files is a song; a file's name is its stem's name. The split is that of the top folder
where it is named after one. This reads what `manifests.exports.msst` writes as types 1 and 4, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from manifests.audio import AUDIO_SUFFIXES
from manifests.corpus import MIXTURE
from manifests.downmix import LAYOUTS, split_speaker
from manifests.errors import RecipeError
from manifests.exports.songs import TEST, TRAIN, VALIDATION
from manifests.imports.segments import Spans, in_segments, read_segments
from manifests.imports.songs import (
    FoundSong,
    NoSong,
    artist_and_title,
    file_stem,
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

_SIDES = {"L": "R", "Ls": "Rs", "Lb": "Rb"}
_PARTNERS: Mapping[str, str] = {**_SIDES, **{right: left for left, right in _SIDES.items()}}

Files = TypeVar("Files", bound=Sequence[Path])


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
        Folders with several files of a stem, or without a loudspeaker's, or with a table that is wrong.

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it holds no audio, or no stem that is wanted.
    """
    found, rejected = song_folders(folder, mixture, stems, rename=rename, speakers=speakers, segments=segments)
    if not found and not rejected:
        called = _called(rename)
        names = {
            stem
            for _, paths in _audio_below(folder)
            for stem in _by_stem(paths, mixture, called, speakers and _is_by_speaker(paths))
        }
        if names:
            there = ", ".join(sorted(names)[:20]) + (" ..." if len(names) > 20 else "")
            raise RecipeError(
                f"{folder}: none of the files found is a wanted stem: there are {there}, and asked for are "
                f"{', '.join(stems or ())}; correct field 'stems' or 'rename'"
            )
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
    called = _called(rename)
    for place, paths in _audio_below(folder):
        by_speaker = speakers and _is_by_speaker(paths)
        table = None if segments is None or not (place / segments).is_file() else place / segments
        files = _by_stem(paths, mixture, called, by_speaker)
        if table is None:  # else a file that is no wanted stem may hold some
            files = _wanted(files, stems)
        relative = place.relative_to(folder)
        where = plain_text(relative.as_posix())
        problem = next(filter(None, (_stem_problem(group, by_speaker) for group in files.values())), None)
        if problem is not None:
            rejected.append(NoSong(where, *problem))
            continue
        artist, title = artist_and_title(plain_text(place.resolve().name if place == folder else place.name))
        split = SPLITS.get(relative.parts[0].lower()) if len(relative.parts) > 1 else None
        sources = {stem: tuple(group) for stem, group in files.items()}
        spans: Spans = {}
        if table is not None:
            try:
                sources, spans = in_segments(sources, read_segments(table), called, by_speaker=by_speaker)
            except RecipeError as error:
                rejected.append(NoSong(where, "segments", str(error)))
                continue
            sources = _wanted(sources, stems)
            spans = {key: span for key, span in spans.items() if key[0] in sources}
        if sources:
            found.append(FoundSong(where, sources, artist=artist, title=title, split=split, spans=spans))
    return sorted(found, key=lambda song: song.path), rejected


def _called(rename: Mapping[str, str] | None) -> dict[str, str]:
    return {stem_name(old): stem_name(new) for old, new in (rename or {}).items()}


def _audio_below(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders that hold audio files, and these."""
    for place, names in folders_below(folder):
        if paths := [place / name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES]:
            yield place, paths


def _is_by_speaker(paths: Sequence[Path]) -> bool:
    """Whether some stem has a file for each loudspeaker: a file alone may end like that by chance, as 'Take.C'."""
    counts = Counter(file_stem(path, by_speaker=True) for path in paths)
    return any(counts[file_stem(path, by_speaker=True)] > 1 for path in paths if split_speaker(path.stem)[1])


def _by_stem(
    paths: Sequence[Path], mixture: str, called: Mapping[str, str], by_speaker: bool
) -> dict[str, list[Path]]:
    """Files by the stems that they are named after."""
    files: dict[str, list[Path]] = {}
    for path in paths:
        stem = file_stem(path, by_speaker)
        stem = MIXTURE if stem == stem_name(mixture) else called.get(stem, stem)
        files.setdefault(stem, []).append(path)
    return files


def _wanted(files: Mapping[str, Files], stems: Collection[str] | None) -> dict[str, Files]:
    return {stem: group for stem, group in files.items() if stem == MIXTURE or stems is None or stem in stems}


def _stem_problem(paths: Sequence[Path], by_speaker: bool) -> tuple[str, str] | None:
    """Why files cannot be one stem: there should be one, or one for each loudspeaker; None if they can."""
    named = [split_speaker(path.stem)[1] for path in paths]
    is_apart = by_speaker and None not in named and len({file_stem(path, by_speaker=True) for path in paths}) == 1
    if len(paths) > 1 and not (is_apart and len(set(named)) == len(named)):
        alike = ", ".join(plain_text(path.name) for path in paths)
        return "several files of a stem", f"{alike}; keep one of them"
    if not is_apart:
        return None
    there = [speaker for speaker in LAYOUTS["7.1"] if speaker in named]
    missing = [_PARTNERS[speaker] for speaker in there if _PARTNERS.get(speaker, speaker) not in there]
    if there == ["LFE"]:
        missing = ["L", "R"]
    if not missing:
        return None
    name = plain_text(split_speaker(paths[0].stem)[0])
    return "loudspeaker missing", f"{name} has {', '.join(there)} and no {', '.join(missing)}; put it back"
