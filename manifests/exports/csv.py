"""Plain CSV: a table of stems, a table of songs, one of clips where there are any, and the audio.

    out/
      stems.csv                        a row for each file: the columns of the stems table, `title` and `file`
      songs.csv                        a row for each song: what is known about it, and a column for each stem
      clips.csv                        a row for each clip of these songs: the columns of the clips table
      audio/<song>/<stem>.<suffix>     where audio is copied or linked

`file` in `stems.csv`, and the stems' columns in `songs.csv`, are relative to the folder of the CSV for audio that
lies in it, and absolute for audio that is referred to. UTF-8, comma, quotes where needed, lines end with a line
feed, an empty cell is null (and so empty text is null).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from manifests.corpus import Corpus
from manifests.errors import TableError
from manifests.exports.folder import new_folder, refuse_taken
from manifests.exports.groups import refuse_stems_named
from manifests.exports.placing import Placed
from manifests.exports.songs import (
    FACTS,
    TRAIN,
    AudioUse,
    Exported,
    Progress,
    Song,
    checked_songs,
    exported,
    require_audio,
    shared_audio,
    silent,
)
from manifests.files import replacing
from manifests.schemas import FLOAT, INTEGER, STRING, columns_of, dtype_of
from manifests.tables import find_table, frame_of, read_table

STEMS, SONGS, CLIPS = "stems.csv", "songs.csv", "clips.csv"

_SHAPE = ("num_frames", "sample_rate", "channels", "seconds")
_PARSE = {STRING: str, INTEGER: int, FLOAT: float}


def export(
    corpus: Corpus,
    out: Path,
    *,
    songs: Collection[str] | None = None,
    audio: AudioUse = "copy",
    progress: Progress = silent,
) -> Exported:
    """Write a corpus as CSV.

    Parameters
    ----------
    corpus : Corpus
    out : Path
        A new or empty folder.
    songs : collection of str, optional
        Ids of the songs to export; all by default.
    audio : {'copy', 'link', 'refer'}
        Copy the files as they are, hard-link them where the file system can, or refer to where they are.
    progress : callable, optional
        Called with stage, songs done, songs in all, 0.

    Returns
    -------
    Exported
        Songs by split.

    Raises
    ------
    TableError
        When the corpus does not hold what its tables say.
    AudioError
        When a file cannot be decoded.
    RecipeError
        When `audio` is not known, or a stem is named like another column.
    BuildError
        When `out` is not new or empty, or the disk refuses.
    """
    require_audio(audio)
    refuse_taken(out)
    chosen = checked_songs(corpus, songs, progress)
    refuse_stems_named(chosen, ("song_id", *FACTS, *_SHAPE), SONGS)
    clips = None if find_table(corpus.folder, "clips") is None else read_table(corpus.folder, "clips")
    with new_folder(out) as folder:
        files = shared_audio(chosen, folder, audio, progress)
        stems = list(dict.fromkeys(stem for song in chosen for stem in song.sounds))
        columns = list(columns_of("stems", corpus.stems.columns))
        _write(
            folder / SONGS,
            ["song_id", *FACTS, *_SHAPE, *stems],
            (_song_row(song, files[song.song_id], folder) for song in chosen),
        )
        _write(
            folder / STEMS,
            [*columns, "title", "file"],
            (
                {**row, "title": song.title, "file": _file(files[song.song_id][stem], folder)}
                for song in chosen
                for stem, row in song.rows.items()
            ),
        )
        if clips is not None:
            _write(folder / CLIPS, list(clips.columns), _rows_of(clips, {song.song_id for song in chosen}))
    hows = [file.how for stems_of_song in files.values() for file in stems_of_song.values()]
    return exported(out, [song.split or TRAIN for song in chosen], hows)


def read(folder: Path) -> pd.DataFrame:
    """Read `stems.csv` back, typed.

    Parameters
    ----------
    folder : Path
        What `export` wrote.

    Returns
    -------
    pd.DataFrame
        The columns of the stems table, as they were but for empty text, which is null; then `title`, and `file`
        as an absolute path.

    Raises
    ------
    TableError
        When the file is missing, is no CSV, or breaks the schema of the stems table.
    """
    path = folder / STEMS
    fix = "export the corpus again"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            rows = [dict(zip(header, (cell or None for cell in line), strict=True)) for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        raise TableError(f"{path}: cannot be read as CSV ({error}); {fix}") from error
    if missing := {"title", "file"} - set(header):
        raise TableError(f"{path}: column '{min(missing)}' is missing; {fix}")
    extra = {key: [row.pop(key) for row in rows] for key in ("title", "file")}
    kinds = {name: _PARSE[dtype_of(column)] for name, column in columns_of("stems", header).items()}
    try:
        typed = [
            {key: None if text is None else kinds.get(key, str)(text) for key, text in row.items()} for row in rows
        ]
    except ValueError as error:
        raise TableError(f"{path}: a cell is not of its column's type ({error}); {fix}") from error
    try:
        frame = frame_of("stems", typed)
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    frame["title"] = pd.Series(extra["title"], dtype=STRING)
    frame["file"] = pd.Series([os.path.abspath(folder / str(file)) for file in extra["file"]], dtype=STRING)
    return frame


def _song_row(song: Song, files: Mapping[str, Placed], folder: Path) -> dict[str, Any]:
    return {
        "song_id": song.song_id,
        **song.facts,
        "num_frames": song.num_frames,
        "sample_rate": song.sample_rate,
        "channels": song.channels,
        "seconds": song.num_frames / song.sample_rate,
        **{stem: _file(file, folder) for stem, file in files.items()},
    }


def _rows_of(clips: pd.DataFrame, song_ids: Collection[str]) -> Iterable[dict[str, Any]]:
    chosen = clips[clips["song_id"].isin(song_ids)].astype(object)
    return [
        {str(key): value for key, value in row.items()}
        for row in chosen.where(chosen.notna(), None).to_dict("records")
    ]


def _file(file: Placed, folder: Path) -> str:
    if file.path.is_relative_to(folder):
        return file.path.relative_to(folder).as_posix()
    return os.path.abspath(file.path)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        # lines end as in RFC 4180: with a bare line feed, a carriage return in a cell would not be quoted
        table = csv.DictWriter(text, columns, extrasaction="raise", lineterminator="\r\n")
        table.writeheader()
        table.writerows(rows)
        text.flush()
        text.detach()
