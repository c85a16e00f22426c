"""FMA, a part of the Free Music Archive with its tables.

    folder/[fma_small/|fma_medium/|fma_large/|fma_full/]000/000002.mp3
    folder/fma_metadata/tracks.csv, or beside the folder

`tracks.csv` has three lines of header: groups (album, artist, set, track), the names in them, and `track_id` alone.
Every track is a song of the one stem `music`. Many have voices in them, which `stemloom clean` takes out. The table
is the same for all sizes of the dataset; a track that is missing is one of the sizes that the found ones are of.

References
----------
Defferrard, Benzi, Vandergheynst, Bresson: FMA, a dataset for music analysis (ISMIR 2017), arXiv:1612.01840.
https://github.com/mdeff/fma
"""

from __future__ import annotations

import csv
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.audio import AUDIO_SUFFIXES
from manifests.errors import RecipeError
from manifests.exports.songs import TEST, TRAIN, VALIDATION
from manifests.imports.songs import FoundSong, NoSong, folders_below, plain_text, require_songs_folder

log = logging.getLogger(__name__)

STEM = "music"
TRACKS = "tracks.csv"

_SPLITS = {"training": TRAIN, "validation": VALIDATION, "test": TEST}
_SUBSETS = ("small", "medium", "large")
_DATASETS = ("fma_small", "fma_medium", "fma_large", "fma_full")
_FACTS = {
    "artist": ("artist", "name"),
    "title": ("track", "title"),
    "genre": ("track", "genre_top"),
    "license": ("track", "license"),
    "language": ("track", "language_code"),
}
_SPLIT, _SUBSET = ("set", "split"), ("set", "subset")
_LONGEST_CELL = 2**24
"""Characters: artists tell their lives in it."""


@dataclass(frozen=True)
class Track:
    """What the table says of a track.

    Attributes
    ----------
    facts : dict
        Fields of `FoundSong`.
    size : int
        Of the smallest dataset that has it: 0 small, 1 medium, 2 large and full.
    """

    facts: dict[str, Any]
    size: int


def find_songs(folder: Path, metadata: Path | None = None) -> tuple[list[FoundSong], list[NoSong]]:
    """Find the tracks.

    Parameters
    ----------
    folder : Path
        The dataset, or the folder above it. Hidden files are left out, links are followed.
    metadata : Path, optional
        `tracks.csv`; by default that of `fma_metadata` in the folder or beside it.

    Returns
    -------
    found : list of FoundSong
        By path.
    rejected : list of NoSong
        Files without a row of the table, and rows without a file.

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it holds no tracks, or there is no table, or one of another shape.
    """
    require_songs_folder(folder)
    table = _table(folder) if metadata is None else metadata
    tracks = read_tracks(table)
    found: list[FoundSong] = []
    rejected: list[NoSong] = []
    there: set[int] = set()
    # beside the dataset may be others, whose files have numbers too
    datasets = [folder / name for name in _DATASETS if (folder / name).is_dir()] or [folder]
    for place, names in itertools.chain.from_iterable(map(folders_below, datasets)):
        for path in (place / name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES):
            where = plain_text(path.relative_to(folder).as_posix())
            number = int(path.stem) if path.stem.isdecimal() else None
            if number is None or number not in tracks:
                rejected.append(NoSong(where, "no row", f"{table} has no track of this number; take the file out"))
            else:
                there.add(number)
                found.append(FoundSong(where, {STEM: (path,)}, **tracks[number].facts))
    if not found:
        raise RecipeError(
            f"{folder}: holds no track such as 000/000002.mp3 of {table}; give the folder of fma_small, "
            "fma_medium, fma_large or fma_full"
        )
    largest = max(tracks[number].size for number in there)
    wanted = {number for number, track in tracks.items() if track.size <= largest}
    log.info("%s: %d rows are of larger datasets than the found ones", table, len(tracks) - len(wanted))
    for number in sorted(wanted - there):
        where = f"{number // 1000:03d}/{number:06d}.mp3"
        detail = f"{table} has a row of it, and {folder} no such file; unpack the archive again"
        rejected.append(NoSong(where, "no file", detail))
    return sorted(found, key=lambda song: song.path), sorted(rejected, key=lambda song: song.path)


def read_tracks(path: Path) -> dict[int, Track]:
    """What the table says.

    Parameters
    ----------
    path : Path
        `tracks.csv`.

    Returns
    -------
    dict of int to Track
        By number.

    Raises
    ------
    RecipeError
        With the line and column that is not as FMA has it.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such file; take it from fma_metadata.zip")
    tracks: dict[int, Track] = {}
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            columns = _columns(path, [next(lines, []) for _ in range(3)])
            for cells in lines:
                if not cells:
                    continue
                number, track = _track(path, lines.line_num, cells, columns)
                if number in tracks:
                    raise _wrong(path, lines.line_num, f"track_id {number} stands in an earlier row too")
                tracks[number] = track
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: cannot be read as CSV in UTF-8 ({error}); unpack the archive again") from error
    finally:
        csv.field_size_limit(before)
    return tracks


def _columns(path: Path, header: list[list[str]]) -> list[tuple[str, str]]:
    """Group and name of each column."""
    columns = list(zip(header[0], header[1], strict=False))
    for group, name in (*_FACTS.values(), _SPLIT, _SUBSET):
        if (group, name) not in columns:
            raise _wrong(path, 2, f"has no column '{name}' of '{group}'")
    if header[2][:1] != ["track_id"]:
        raise _wrong(path, 3, f"column 1 is '{''.join(header[2][:1])}', expected 'track_id'")
    return columns


def _track(path: Path, line: int, cells: list[str], columns: list[tuple[str, str]]) -> tuple[int, Track]:
    """A row's number and what it says; `line` is its last, since a cell may hold several."""
    if len(cells) != len(columns):
        raise _wrong(path, line, f"has {len(cells)} columns, and the header {len(columns)}")
    row = {pair: cell.strip() for pair, cell in zip(columns, cells, strict=True)}
    if not cells[0].isdecimal():
        raise _wrong(path, line, f"column 'track_id' is '{cells[0]}', expected a number")
    for pair, known in ((_SPLIT, _SPLITS), (_SUBSET, _SUBSETS)):
        if row[pair] not in known:
            raise _wrong(path, line, f"column '{pair[1]}' is '{row[pair]}', expected {', '.join(known)}")
    facts = {name: row[pair] or None for name, pair in _FACTS.items()}
    return int(cells[0]), Track(facts | {"split": _SPLITS[row[_SPLIT]]}, _SUBSETS.index(row[_SUBSET]))


def _wrong(path: Path, line: int, problem: str) -> RecipeError:
    return RecipeError(f"{path}: line {line}: {problem}; take {TRACKS} from fma_metadata.zip")


def _table(folder: Path) -> Path:
    for place in (folder / "fma_metadata", folder, folder.resolve().parent / "fma_metadata"):
        if (place / TRACKS).is_file():
            return place / TRACKS
    raise RecipeError(
        f"{folder}: there is no fma_metadata/{TRACKS} in it or beside it; unpack fma_metadata.zip there, or give "
        "its path as 'metadata'"
    )
