"""Libraries of single sounds: speech, music, effects, a file for each sound.

    folder/[train/|validation/|test/]STEM/[.../]Artist - Title.<suffix>
    folder/STEM/[train/|validation/|test/][.../]Artist - Title.<suffix>

Every audio file is a song of one stem, without a mixture. The top folder names the stem; the split is that of the
top folder or the one below it, where one is named after a split, and that folder does not name the stem.

A metadata table says more than folders and names do, or otherwise: a CSV file (UTF-8, with a header) with the
column `path`, relative to the folder and POSIX, and any of `COLUMNS`. What stands in it wins; an empty cell says
nothing.
"""

from __future__ import annotations

import csv
import difflib
import logging
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from manifests.audio import AUDIO_SUFFIXES
from manifests.corpus import MIXTURE
from manifests.errors import RecipeError, did_you_mean
from manifests.imports.folders import SPLITS
from manifests.imports.songs import (
    FoundSong,
    NoSong,
    artist_and_title,
    folders_below,
    plain_text,
    require_songs_folder,
    stem_name,
)

log = logging.getLogger(__name__)

COLUMNS = ("stem", "artist", "title", "genre", "split", "license", "language", "tags", "transcript")
"""What a metadata table may say of a file."""


def find_songs(
    folder: Path, stem: str | None = None, metadata: Path | None = None
) -> tuple[list[FoundSong], list[NoSong]]:
    """Find the audio files.

    Parameters
    ----------
    folder : Path
        Where to look. Hidden files and folders are left out, links are followed.
    stem : str, optional
        Of all files, but for those of which the metadata has another; that of their folder by default.
    metadata : Path, optional
        A CSV file with the columns `path` and any of `COLUMNS`.

    Returns
    -------
    found : list of FoundSong
        By path. Each has one stem, of one file.
    rejected : list of NoSong
        Files of which nothing says what stem they are, and rows of the metadata without a file.

    Raises
    ------
    AudioError
        When there is no such folder.
    RecipeError
        When it holds no audio, `stem` is the mixture, or the metadata cannot be read, has a column that is not
        known, or names a file twice.
    """
    if stem is not None and stem_name(stem) == MIXTURE:
        raise RecipeError(f"field 'stem' is '{stem}', which is the sum of stems; say what the sounds are")
    require_songs_folder(folder)
    rows = {} if metadata is None else read_metadata(metadata)
    files = [
        place / name
        for place, names in folders_below(folder)
        for name in names
        if Path(name).suffix.lower() in AUDIO_SUFFIXES
    ]
    if not files:
        raise RecipeError(f"{folder}: holds no audio file; give the folder of a library")
    found: list[FoundSong] = []
    rejected: list[NoSong] = []
    named: set[str] = set()
    for path in files:
        relative = path.relative_to(folder)
        where = plain_text(relative.as_posix())
        facts = _guesses(relative)
        if stem is not None:
            facts["stem"] = stem_name(stem)
        if (key := _folded(where)) in rows:
            named.add(key)
            facts |= rows[key]
        name = facts.pop("stem")
        if name is None:
            rejected.append(NoSong(where, "no stem", "lies in no folder that names its stem; give 'stem'"))
        elif name == MIXTURE:
            detail = f"its stem is named '{MIXTURE}', which is the sum of stems; say what the sound is"
            rejected.append(NoSong(where, "no stem", detail))
        else:
            found.append(FoundSong(where, {name: (path,)}, **facts))
    for where in rows.keys() - named:
        detail = (
            f"{metadata} has a row of it, and {folder} no such audio file; correct the path, or take the row out"
        )
        rejected.append(NoSong(where, "no file", detail))
    if rows and len(named) < len(files):
        log.warning(
            "%s: has no row of %d of %d files: they are taken for what their folders and names say",
            metadata,
            len(files) - len(named),
            len(files),
        )
    return sorted(found, key=lambda song: song.path), sorted(rejected, key=lambda song: song.path)


def read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """What a table says of files.

    Parameters
    ----------
    path : Path
        A CSV file with the columns `path` and any of `COLUMNS`.

    Returns
    -------
    dict of str to dict
        Path (composed, NFC) to what its row says: stems as `stem_name` has them, splits as corpora name them, no
        entry for an empty cell.

    Raises
    ------
    RecipeError
        When the file cannot be read, has no column `path` or one that is not known, names a path twice or not at
        all, or misspells a split.
    """
    if not path.is_file():
        raise RecipeError(f"field 'metadata' is '{path}': there is no such file; correct the path")
    found: dict[str, dict[str, str | None]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            _require_columns(path, header)
            for cells in lines:
                if not cells:
                    continue
                where = f"{path}: line {lines.line_num}"
                if len(cells) > len(header):
                    raise RecipeError(
                        f"{where}: has {len(cells)} cells, and the header {len(header)}; quote commas"
                    )
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
                if "path" not in row:
                    raise RecipeError(f"{where}: has no path; name the file, or take the row out")
                key = _folded(PurePosixPath(row.pop("path")).as_posix())
                if key in found:
                    raise RecipeError(f"{where}: path '{key}' stands in an earlier row too; keep one of them")
                if (meant := _misspelt_split(row.get("split", ""))) is not None:
                    raise RecipeError(
                        f"{where}: split '{row['split']}' is not known (did you mean '{meant}'?); write that, or a "
                        "name of your own that is less like it"
                    )
                found[key] = _fitted(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: cannot be read as CSV in UTF-8 ({error}); correct the file") from error
    return found


def _require_columns(path: Path, header: list[str]) -> None:
    known = ("path", *COLUMNS)
    for name in header:
        if name not in known:
            hint = did_you_mean(name, known)
            raise RecipeError(f"{path}: column '{name}' is not known{hint}; columns are {', '.join(known)}")
        if header.count(name) > 1:
            raise RecipeError(f"{path}: column '{name}' is there {header.count(name)} times; keep one of them")
    if "path" not in header:
        raise RecipeError(f"{path}: has no column 'path'; its columns are {', '.join(header) or 'none'}")


def _fitted(row: Mapping[str, str]) -> dict[str, Any]:
    """A row in the words of the stems table."""
    fitted: dict[str, str | None] = dict(row)
    if "stem" in row:
        fitted["stem"] = stem_name(row["stem"])
    if "split" in row:
        fitted["split"] = SPLITS.get(row["split"].lower(), row["split"])
    return fitted


def _misspelt_split(name: str) -> str | None:
    """The split that was meant; none for one that is known, or that somebody may call so."""
    folded = name.lower()
    if folded in SPLITS or not folded.isalpha():
        return None
    # the first letter is rarely wrong: 'eval', 'extra' and 'pretrain' are names of their own
    known = [split for split in SPLITS if split[0] == folded[0]]
    near = difflib.get_close_matches(folded, known, n=1, cutoff=0.75)
    return near[0] if near else None


def _guesses(relative: PurePath) -> dict[str, Any]:
    """What a file's folders and name say of it."""
    top = [plain_text(name) for name in relative.parts[:-1][:2]]
    of_split = next((name for name in top if name.lower() in SPLITS), None)
    if of_split is not None:
        top.remove(of_split)
    artist, title = artist_and_title(plain_text(relative.stem))
    return {
        "stem": stem_name(top[0]) if top else None,
        "split": None if of_split is None else SPLITS[of_split.lower()],
        "artist": artist,
        "title": title,
    }


def _folded(path: str) -> str:
    """File systems differ in how they compose letters."""
    return unicodedata.normalize("NFC", path)
