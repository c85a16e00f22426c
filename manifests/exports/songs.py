"""The songs of a corpus as an export takes them: checked against their files, grouped, named and placed.

A song's name is `Artist - Title` where these are known (the title from the tracks table), fit for a file system.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from manifests.audio import probe
from manifests.corpus import MIXTURE, Corpus, Row
from manifests.errors import AudioError, RecipeError, TableError, did_you_mean
from manifests.exports.mixing import Shape, Sound, full_scale_gain, resampled_frames
from manifests.exports.names import unique_names
from manifests.exports.placing import How, Placed, place, take_file, with_suffix
from manifests.tables import find_table

FACTS = ("title", "artist", "genre", "split", "license", "grade", "weight")
"""What is known about a song besides its audio."""

TRAIN, VALIDATION, TEST = "train", "validation", "test"

Progress: TypeAlias = Callable[[str, int, int, int], None]
"""Called with what is done, songs done, songs in all, and songs that failed."""

AudioUse: TypeAlias = Literal["copy", "link", "refer"]
"""Copy files as they are, hard-link them where the file system can, or refer to where they are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Song:
    """A song to be exported.

    Attributes
    ----------
    song_id : str
    name : str
        For files and folders: unique among the songs exported.
    title : str or None
        From the tracks table.
    rows : mapping of str to mapping
        Stem to its row of the stems table.
    sounds : mapping of str to Sound
        Stem to its file, which holds what the row says.
    """

    song_id: str
    name: str
    title: str | None
    rows: Mapping[str, Row]
    sounds: Mapping[str, Sound]

    @property
    def split(self) -> str | None:
        """The split of all of its stems."""
        split: str | None = next(iter(self.rows.values()))["split"]
        return split

    @property
    def num_frames(self) -> int:
        """Length of each stem."""
        return next(iter(self.sounds.values())).info.num_frames

    @property
    def sample_rate(self) -> int:
        """Of each stem, in Hz."""
        return next(iter(self.sounds.values())).info.sample_rate

    @property
    def channels(self) -> int:
        """Of each stem."""
        return next(iter(self.sounds.values())).info.channels

    @property
    def facts(self) -> dict[str, Any]:
        """What `FACTS` lists, None where it is not known."""
        row = self.rows.get(MIXTURE) or next(iter(self.rows.values()))
        return {key: self.title if key == "title" else row.get(key) for key in FACTS}


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes
    ----------
    folder : Path
    songs : mapping of str to int
        Songs by split, as the layout names it.
    files : mapping of str to int
        Audio files by what became of them: linked, copied, encoded, referred.
    """

    folder: Path
    songs: Mapping[str, int]
    files: Mapping[How, int]


def silent(stage: str, done: int, total: int, failed: int) -> None:
    """Tell nobody about progress."""


def exported(folder: Path, splits: Iterable[str], hows: Iterable[How]) -> Exported:
    """Count what an export wrote: the split of each song, and what became of each file."""
    return Exported(folder, dict(Counter(splits)), dict(Counter(hows)))


def checked_songs(corpus: Corpus, songs: Collection[str] | None, progress: Progress = silent) -> list[Song]:
    """The songs of a corpus, each of whose files is there and holds what its row says.

    Parameters
    ----------
    corpus : Corpus
    songs : collection of str or None
        Ids of those wanted; None for all.
    progress : callable
        Told about stage `check`.

    Returns
    -------
    list of Song
        In the order of the stems table.

    Raises
    ------
    TableError
        When there is no song, or none of that id; a row's root is not known; a file is missing, or its rate, length
        or channels are not its row's; or the stems of a song differ in these, or in their split.
    AudioError
        When a file cannot be decoded.
    """
    table = find_table(corpus.folder, "stems")
    ids = corpus.songs()
    if songs is not None:
        unknown = sorted(set(songs) - set(ids))
        if unknown:
            raise TableError(
                f"{table}: has no song '{unknown[0]}'{did_you_mean(unknown[0], ids)}; choose of those it has"
            )
        ids = [song_id for song_id in ids if song_id in set(songs)]
    if not ids:
        raise TableError(f"{table}: has no songs to export")
    titles = _titles(corpus)
    rows = {song_id: corpus.song(song_id) for song_id in ids}
    labels = {
        song_id: " - ".join(text for text in (_first(stems)["artist"], titles.get(song_id, song_id)) if text)
        for song_id, stems in rows.items()
    }
    names = unique_names(labels)
    numbers = {key: row for row, key in enumerate(zip(corpus.stems["song_id"], corpus.stems["stem"], strict=True))}
    checked = []
    for done, (song_id, stems) in enumerate(rows.items()):
        progress("check", done, len(rows), 0)
        sounds = {
            stem: _checked_sound(
                corpus, row, f"{table}: row {numbers[song_id, stem]} (song '{song_id}', stem '{stem}')"
            )
            for stem, row in stems.items()
        }
        for field in ("num_frames", "sample_rate", "channels", "split"):
            if len({row[field] for row in stems.values()}) > 1:
                found = ", ".join(f"{stem} {row[field]}" for stem, row in stems.items())
                raise TableError(
                    f"{table}: stems of song '{song_id}' differ in {field} ({found}); leave the song out"
                )
        checked.append(Song(song_id, names[song_id], titles.get(song_id), stems, sounds))
    progress("check", len(rows), len(rows), 0)
    return checked


def _first(stems: Mapping[str, Row]) -> Row:
    return next(iter(stems.values()))


def _titles(corpus: Corpus) -> dict[str, str]:
    """Song id to title: a song is named after its mixture, which is a track."""
    if corpus.tracks is None:
        return {}
    titles = corpus.tracks["song_title"].fillna(corpus.tracks["title"])
    known = titles.notna()
    return dict(zip(corpus.tracks["track_id"][known], titles[known], strict=True))


def _checked_sound(corpus: Corpus, row: Row, where: str) -> Sound:
    try:
        path = corpus.path_of(row)
        if not path.is_file():
            raise TableError(f"file {path} is missing; put it back, or leave the song out")
        info = probe(path)
    except (TableError, AudioError) as error:
        raise type(error)(f"{where}: {error}") from error
    for field in ("sample_rate", "num_frames", "channels"):
        found = getattr(info, field)
        if found != row[field]:
            raise TableError(
                f"{where}: {field} is {row[field]}, and file {path} has {found}; run 'stemloom check', "
                "then build the song again"
            )
    return Sound(path, info)


def place_song(
    song: Song,
    sounds: Mapping[Path, Sequence[Sound]],
    *,
    take: Collection[str],
    encode: Literal[".flac", ".wav"],
    link: bool,
    sample_rate: int | None = None,
) -> dict[Path, Placed]:
    """Put files of a song where they belong, with one gain for all where one of them would pass full scale.

    Parameters
    ----------
    song : Song
    sounds, take, encode, link
        As for `placing.place`.
    sample_rate : int, optional
        To resample to, in Hz; the song's own by default.

    Returns
    -------
    dict of Path to Placed
        As `placing.place`.

    Raises
    ------
    AudioError, RecipeError, BuildError
        As `placing.place`.
    """
    rate = sample_rate or song.sample_rate
    shape = Shape(resampled_frames(song.num_frames, song.sample_rate, rate), song.channels, rate)
    gain = full_scale_gain(sounds, shape, take=take)
    if gain != 1:
        _log.info("song '%s': its files are multiplied by %.4g, so that none passes full scale", song.song_id, gain)
    return place(sounds, shape, take=take, encode=encode, link=link, gain=gain)


def require_audio(audio: str, known: Sequence[str] = ("copy", "link", "refer")) -> None:
    """Refuse what is not a way to treat audio files.

    Raises
    ------
    RecipeError
        When it is none of `known`.
    """
    if audio not in known:
        raise RecipeError(f"audio '{audio}' is not possible here; use {' or '.join(map(repr, known))}")


def shared_audio(
    songs: Sequence[Song],
    folder: Path,
    audio: AudioUse,
    progress: Progress = silent,
) -> dict[str, dict[str, Placed]]:
    """The files of songs for a layout that takes any format and lists where each is.

    Parameters
    ----------
    songs : sequence of Song
    folder : Path
        Files go to `audio/<song>/<stem>` in it, with the suffix they have.
    audio : {'copy', 'link', 'refer'}
        Copy them, hard-link them where the file system can, or leave them where they are.
    progress : callable
        Told about stage `export`.

    Returns
    -------
    dict of str to dict of str to Placed
        Song id to stem to file.

    Raises
    ------
    AudioError, BuildError
        As `placing.take_file`.
    """
    files: dict[str, dict[str, Placed]] = {}
    for done, song in enumerate(songs):
        progress("export", done, len(songs), 0)
        names = unique_names({stem: stem for stem in song.sounds})
        files[song.song_id] = {}
        for stem, sound in song.sounds.items():
            target = with_suffix(folder / "audio" / song.name / names[stem], sound.path.suffix.lower())
            files[song.song_id][stem] = (
                Placed(sound.path, "referred")
                if audio == "refer"
                else take_file(sound.path, target, link=audio == "link")
            )
    progress("export", len(songs), len(songs), 0)
    return files


def lasting_path(path: Path, folder: Path, out: Path) -> str:
    """The absolute path of a file, once the folder that it is written to has its name.

    Parameters
    ----------
    path : Path
        In `folder`, or anywhere else.
    folder : Path
        What `new_folder(out)` gave.
    out : Path
        Its name to be.

    Returns
    -------
    str
        Under `out` when `path` is in `folder`.
    """
    return os.path.abspath(out.resolve() / path.relative_to(folder) if path.is_relative_to(folder) else path)
