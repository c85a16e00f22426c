"""From a folder of files to the tracks table: walk, hash, decode once, read tags.

Three stages: `walk_folder` lists files, `hash` gives each its content id, `survey` decodes each content once, in
blocks, and measures what later stages need (loudness, where the music starts and ends, the fingerprint). Equal
files share one survey.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from builders.stage import Product, Stage
from curation.chromaprint import PcmStream, open_stream
from curation.tags import read_tags
from curation.versions import label
from manifests.audio import AUDIO_SUFFIXES, Audio, blocks, content_id, probe, read
from manifests.errors import AudioError
from manifests.loudness import LoudnessMeter
from manifests.paths import is_portable
from manifests.staging import located, url_of
from manifests.stores import Store

ROOT = "catalog"
"""The name of the catalogue's folder in tables."""

SILENCE_DB = -60.0
_LEVEL_WINDOW_S = 0.05
_UNREAD = frozenset(
    (".ac3", ".amr", ".ape", ".dff", ".dsf", ".dts", ".mka", ".mpc", ".ra", ".tak", ".tta", ".wma", ".wv")
)


@dataclass(frozen=True)
class Reject:
    """Something left out, and why: a row of the rejected table."""

    id: str | None
    path: str
    stage: str
    reason: str
    detail: str

    def row(self) -> dict[str, str | None]:
        """As a row of the rejected table."""
        return {
            "id": self.id,
            "path": self.path,
            "stage": self.stage,
            "reason": self.reason,
            "detail": _table_text(self.detail),
        }


@dataclass(frozen=True)
class FoundFile:
    """A file of the catalogue: its folder, and its POSIX path below it."""

    folder: str
    path: str
    content_id: str = ""

    @property
    def location(self) -> Path:
        """Where the file is, staged if it is in a bucket."""
        return located(Path(self.folder), self.path)


def require_folder(folder: Path) -> None:
    """Raise `AudioError` unless the catalogue is there."""
    if url_of(folder) is None and not folder.is_dir():
        raise AudioError(f"{folder}: is no folder; give the folder that holds the music files")


def walk_folder(folder: Path) -> tuple[list[str], list[Reject]]:
    """Every audio file below a folder, sorted, as POSIX paths relative to it.

    Links are followed. A folder that can be reached in several ways is listed once, by the way without links if
    there is one.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    paths : list of str
    rejects : list of Reject
        Files that are by their suffix no audio or audio that is not read, names that a table cannot hold, folders
        that cannot be read, links that lead nowhere or to a folder that is listed already.

    Raises
    ------
    AudioError
        If the folder does not exist or is no folder.
    BuildError
        If it is in a bucket, and its store cannot be read.
    """
    require_folder(folder)
    paths: list[str] = []
    rejects: list[Reject] = []
    url = url_of(folder)
    for path, problem in _walk(folder) if url is None else _objects(Store(url)):
        if problem is not None:
            rejects.append(Reject(None, path, "scan", *problem))
        elif Path(path).suffix.lower() in AUDIO_SUFFIXES:
            paths.append(path)
        else:
            rejects.append(Reject(None, path, "scan", *_unread(Path(path).suffix)))
    return sorted(paths), sorted(rejects, key=lambda reject: reject.path)


def _unread(suffix: str) -> tuple[str, str]:
    """Why a file of this suffix is left out, as (reason, detail)."""
    if suffix.lower() in _UNREAD - AUDIO_SUFFIXES:
        detail = f"{suffix} is audio of a format that is not read; rewrite it with 'ffmpeg -i IN OUT.flac'"
        return "unread format", detail
    return "not audio", f"suffix {suffix!r} is no audio format"


def _walk(folder: Path) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Files, and with a reason and a detail what is none. No recursion: folders nest deeper than Python does."""
    folders, links = deque([("", os.fspath(folder))]), deque[tuple[str, str]]()
    listed: set[tuple[int, int]] = set()
    while folders or links:
        prefix, location = folders.popleft() if folders else links.popleft()
        try:
            status = os.stat(location)
            entries = sorted(os.scandir(location), key=lambda entry: entry.name)
        except OSError as error:
            fix = "change its permissions"
            yield prefix.rstrip("/") or ".", ("unreadable folder", f"{location}: {error.strerror}; {fix}")
            continue
        if (status.st_dev, status.st_ino) in listed:
            real = os.path.realpath(location)
            yield prefix.rstrip("/"), ("link", f"leads to {real}, which is listed already; remove the link")
            continue
        listed.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = prefix + _table_text(entry.name)
            problem = _name_problem(entry.name, path)
            try:
                if problem is None and entry.is_dir():
                    (links if entry.is_symlink() else folders).append((f"{path}/", entry.path))
                    continue
                if problem is None and not entry.is_file():
                    problem = ("not a file", "a broken link, a device or a pipe")
            except OSError as error:
                # a link to itself, or one through a folder that may not be entered
                problem = ("not a file", f"the link cannot be followed ({error.strerror}); remove it")
            yield path, problem


def _objects(store: Store) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """The objects of a folder in a bucket, as `_walk` tells of files."""
    objects = store.listed()
    if not objects:
        raise AudioError(f"{store.url}: holds no objects; give the folder that holds the music files")
    for path in objects:
        problem = _name_problem(path, path)
        if problem is None and (len(path.split("/")) != len(PurePosixPath(path).parts) or "/./" in f"/{path}/"):
            problem = ("file name", "the name has an empty part, which no folder can have; rename the object")
        yield path, problem


def _name_problem(name: str, path: str) -> tuple[str, str] | None:
    """Why a name cannot stand in a table, as (reason, detail); None if it can."""
    if _table_text(name) != name:
        return "file name", "the name is not valid UTF-8; rename the file"
    if not is_portable(path):
        return "file name", "the name reads as a path that leads out of the catalogue; rename the file"
    return None


def _table_text(text: str) -> str:
    """File names are bytes to the system; a table holds text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def hash_file(file: FoundFile) -> Product:
    """The content id of a file."""
    return Product({"content_id": content_id(file.location)})


def read_found(file: FoundFile) -> tuple[Audio, int]:
    """Read a file whole, and make sure that it is the one that was hashed.

    Parameters
    ----------
    file : FoundFile
        With its content id.

    Returns
    -------
    audio : np.ndarray [shape=(channels, frames), float32]
    sample_rate : int

    Raises
    ------
    AudioError
        If the file cannot be decoded, or is not what it was.
    """
    audio, sample_rate = read(file.location)
    refuse_changed(file)
    return audio, sample_rate


def refuse_changed(file: FoundFile) -> None:
    """Raise `AudioError` if a file's bytes are no longer what its content id says.

    Called after the file was read: what was made of other bytes must not be kept under this id.
    """
    if content_id(file.location) != file.content_id:
        raise AudioError(
            f"{file.location}: changed while it was read; run the same command again when it is at rest"
        )


def survey_file(file: FoundFile) -> Product:
    """Decode a file once and measure it.

    Parameters
    ----------
    file : FoundFile
        With its content id, which is checked again after decoding.

    Returns
    -------
    Product
        The measured columns of the tracks table, and the array ``fingerprint``.

    Raises
    ------
    AudioError
        If the file cannot be decoded, or changes while it is read.
    """
    path = file.location
    info = probe(path)
    meter = LoudnessMeter(info.sample_rate, info.channels)
    levels = _LevelTrack(info.sample_rate)
    pcm, prints = PcmStream(info.sample_rate), open_stream()
    num_frames = 0
    for block in blocks(path):
        meter.add(block)
        levels.add(block)
        prints.add(pcm.add(block))
        num_frames += block.shape[1]
    prints.add(pcm.finish())
    refuse_changed(file)
    start, end = levels.music(num_frames)
    tags = read_tags(path)
    is_silent = start is None
    return Product(
        {
            "codec": info.codec,
            "num_frames": num_frames,
            "sample_rate": info.sample_rate,
            "channels": info.channels,
            "title": tags.title,
            "artist": tags.artist,
            "album_artist": tags.album_artist,
            "album": tags.album,
            "genre": tags.genre,
            "year": tags.year,
            "isrc": tags.isrc,
            "recording_mbid": tags.recording_mbid,
            "work_mbid": tags.work_mbid,
            "loudness_lufs": None if is_silent else float(meter.integrated_lufs),
            "peak_db": None if is_silent else float(meter.peak_db),
            "music_start_frame": start,
            "music_end_frame": end,
        },
        {"fingerprint": prints.finish()},
    )


class _LevelTrack:
    """RMS levels in windows of 50 ms, the mean (a DC offset) taken out, from blocks of any length."""

    def __init__(self, sample_rate: int) -> None:
        self.window = max(1, round(_LEVEL_WINDOW_S * sample_rate))
        self.rest: Audio | None = None
        self.powers: list[Any] = []

    def add(self, block: Audio) -> None:
        joined = block if self.rest is None else np.concatenate([self.rest, block], axis=1)
        whole = joined.shape[1] // self.window * self.window
        self.rest = joined[:, whole:]
        if whole:
            windows = joined[:, :whole].reshape(joined.shape[0], -1, self.window)
            self.powers.append(windows.var(axis=2, dtype=np.float64).max(axis=0))

    def music(self, num_frames: int) -> tuple[int | None, int | None]:
        """First and last frame (out) of what is louder than `SILENCE_DB`; None for silence."""
        if self.rest is not None and self.rest.shape[1] > 1:
            self.powers.append(np.atleast_1d(self.rest.var(axis=1, dtype=np.float64).max()))
        powers = np.concatenate(self.powers) if self.powers else np.zeros(0)
        loud = np.flatnonzero(powers > 10 ** (SILENCE_DB / 10))
        if len(loud) == 0:
            return None, None
        return int(loud[0]) * self.window, min(num_frames, (int(loud[-1]) + 1) * self.window)


HASH: Stage[FoundFile] = Stage("hash", 1, hash_file, {})
SURVEY: Stage[FoundFile] = Stage("survey", 1, survey_file, {})


def track_row(file: FoundFile, survey: dict[str, Any]) -> dict[str, Any]:
    """A row of the tracks table: what the survey measured, and what the title says about the version."""
    title = survey["title"] or PurePosixPath(file.path).stem
    found = label(title, survey["album"], survey["artist"])
    return {
        "track_id": file.content_id,
        "root": ROOT,
        "path": file.path,
        **survey,
        "song_title": found.song_title,
        "version": found.version,
        "license": None,
    }
