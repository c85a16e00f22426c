"""LibriSpeech, and what is laid out like it: read books, a file for each utterance.

    folder/[LibriSpeech/]SPEAKERS.TXT, CHAPTERS.TXT
    folder/[LibriSpeech/]SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac
    folder/[LibriSpeech/]SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt

A subset's folder alone is taken too, if the tables lie beside it. Every utterance is a song of the one stem
`speech`. `SPEAKERS.TXT` says who reads, and of which subset: a reader is in one, so that the splits (`train-*`,
`dev-*`, `test-*`) share nobody. The folders of subsets may be called anything, as those of the same utterances cut
from the original MP3 files are, which reach higher than LibriSpeech's 8 kHz.

References
----------
Panayotov, Chen, Povey, Khudanpur: Librispeech, an ASR corpus based on public domain audio books (ICASSP 2015).
https://www.openslr.org/12: CC BY 4.0
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.audio import AUDIO_SUFFIXES
from manifests.errors import RecipeError
from manifests.exports.songs import TEST, TRAIN, VALIDATION
from manifests.imports.songs import FoundSong, NoSong, folders_below, plain_text, require_songs_folder

log = logging.getLogger(__name__)

STEM = "speech"
LICENSE = "CC BY 4.0"
TOP, SPEAKERS, CHAPTERS = "LibriSpeech", "SPEAKERS.TXT", "CHAPTERS.TXT"

_SPLITS = {"train": TRAIN, "dev": VALIDATION, "test": TEST}
_UTTERANCE = re.compile(r"(\d+)-(\d+)-\d+")
_TRANSCRIPT = ".trans.txt"


@dataclass(frozen=True)
class Reader:
    """Who reads, with the number that tells namesakes apart, and the split."""

    name: str
    split: str


def find_songs(folder: Path) -> tuple[list[FoundSong], list[NoSong]]:
    """Find the utterances.

    Parameters
    ----------
    folder : Path
        LibriSpeech, the folder above it, or that of a subset. Hidden files are left out, links are followed.

    Returns
    -------
    found : list of FoundSong
        By path.
    rejected : list of NoSong
        Audio files that are no utterance of a known reader, and lines of transcripts without a file.

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it holds no utterances or there is no `SPEAKERS.TXT`, or a table is not as LibriSpeech has it.
    """
    require_songs_folder(folder)
    readers = read_speakers(_table(folder, SPEAKERS))
    titles = _read_chapters(folder)
    files: list[Path] = []
    transcripts: dict[str, tuple[Path, str]] = {}
    home = folder / TOP
    for place, names in folders_below(home if home.is_dir() else folder):
        files += [place / name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES]
        for path in (place / name for name in names if name.endswith(_TRANSCRIPT)):
            transcripts |= {key: (path, text) for key, text in read_transcripts(path).items()}
    found: list[FoundSong] = []
    rejected: list[NoSong] = []
    for path in files:
        where = plain_text(path.relative_to(folder).as_posix())
        match = _UTTERANCE.fullmatch(path.stem)
        reader = readers.get(match[1]) if match else None
        if match is None:
            detail = "is not called SPEAKER-CHAPTER-UTTERANCE; take it out of the folder"
            rejected.append(NoSong(where, "no utterance", detail))
        elif reader is None:
            detail = f"{SPEAKERS} has no reader {match[1]}; take the table of the archive that the file is from"
            rejected.append(NoSong(where, "no speaker", detail))
        else:
            found.append(
                FoundSong(
                    where,
                    {STEM: (path,)},
                    artist=reader.name,
                    title=titles.get(match[2]),
                    split=reader.split,
                    license=LICENSE,
                    language="en",
                    transcript=transcripts.get(path.stem, (path, None))[1],
                )
            )
    if not found:
        raise RecipeError(
            f"{folder}: holds no utterance such as 19-198-0000.flac of a reader in {SPEAKERS}; give the folder of "
            "LibriSpeech"
        )
    if untold := sum(song.transcript is None for song in found):
        log.warning("%s: %d of %d utterances have no line in a *%s", folder, untold, len(found), _TRANSCRIPT)
    for key in sorted(transcripts.keys() - {path.stem for path in files}):
        path = transcripts[key][0]
        detail = f"{path.name} has a line of it, and no folder such a file; unpack the archive again"
        rejected.append(NoSong(plain_text((path.parent / key).relative_to(folder).as_posix()), "no file", detail))
    return sorted(found, key=lambda song: song.path), sorted(rejected, key=lambda song: song.path)


def read_speakers(path: Path) -> dict[str, Reader]:
    """Who reads.

    Parameters
    ----------
    path : Path
        Lines of `ID | SEX | SUBSET | MINUTES | NAME`; those that start with `;` are comments.

    Returns
    -------
    dict of str to Reader
        By id.

    Raises
    ------
    RecipeError
        With the line and column that is not like that.
    """
    readers: dict[str, Reader] = {}
    for number, cells in _rows(path, ("ID", "SEX", "SUBSET", "MINUTES", "NAME")):
        key, _, subset, _, name = cells
        split = _SPLITS.get(subset.partition("-")[0])
        if split is None:
            raise RecipeError(
                f"{path}: line {number}: column 'SUBSET' is '{subset}', expected train-..., dev-... or test-...; "
                "take the file from an archive of LibriSpeech"
            )
        # a person may be called |CBW|Simon
        readers[key] = Reader(f"{name.strip('| ') or 'reader'} ({key})", split)
    return readers


def read_transcripts(path: Path) -> dict[str, str]:
    """What is read in the utterances of a chapter.

    Parameters
    ----------
    path : Path
        Lines of an utterance's id and its text.

    Returns
    -------
    dict of str to str

    Raises
    ------
    RecipeError
        With the line that does not begin with an id.
    """
    transcripts = {}
    for number, line in enumerate(_lines(path), 1):
        key, _, text = line.strip().partition(" ")
        if not key:
            continue
        if not _UTTERANCE.fullmatch(key):
            raise RecipeError(
                f"{path}: line {number}: column 1 is '{key}', expected SPEAKER-CHAPTER-UTTERANCE; take the file "
                "from an archive of LibriSpeech"
            )
        transcripts[key] = text.strip()
    return transcripts


def _read_chapters(folder: Path) -> dict[str, str]:
    """The titles of chapters with those of their books; none without the table."""
    try:
        path = _table(folder, CHAPTERS)
    except RecipeError as error:
        log.warning("%s; utterances have no titles", error)
        return {}
    columns = ("ID", "READER", "MINUTES", "SUBSET", "PROJ.", "BOOK ID", "CH. TITLE", "PROJECT TITLE")
    return {cells[0]: f"{cells[-1]}: {cells[-2]}" for _, cells in _rows(path, columns)}


def _table(folder: Path, name: str) -> Path:
    for place in (folder / TOP, folder, folder.resolve().parent):
        if (place / name).is_file():
            return place / name
    raise RecipeError(
        f"{folder}: there is no {name} in it or beside it; put that of an archive of LibriSpeech beside the subsets"
    )


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table with their numbers, comments left out; the last column takes whatever is left."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith(";"):
            continue
        cells = [cell.strip() for cell in line.split("|", len(columns) - 1)]
        if len(cells) < len(columns):
            problem = f"has {len(cells)} columns, expected {' | '.join(columns)}"
        elif not cells[0].isdecimal():
            problem = f"column 'ID' is '{cells[0]}', expected a number"
        else:
            yield number, cells
            continue
        raise RecipeError(f"{path}: line {number}: {problem}; take the file from an archive of LibriSpeech")


def _lines(path: Path) -> list[str]:
    try:
        # a name that is not UTF-8 shall not cost the import
        return path.read_text("utf-8", "backslashreplace").splitlines()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror or error}); let it be read") from error
