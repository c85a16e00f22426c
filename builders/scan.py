"""From a folder of files to the tracks table: walk, hash, decode once, read tags.

Three stages: `walk_folder` lists files, `hash` gives each its content id, `survey` decodes each content once, in
blocks, and measures what later stages need (loudness, where the music starts and ends, the fingerprint). Equal
files share one survey.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from builders.stage import Product, Stage
from curation.chromaprint import PcmStream, open_stream
from curation.loudness import LoudnessMeter
from curation.tags import read_tags
from curation.versions import label
from manifests.audio import AUDIO_SUFFIXES, Audio, blocks, content_id, probe
from manifests.errors import AudioError

ROOT = "catalog"
"""The name of the catalogue's folder in tables."""

SILENCE_DB = -60.0
_LEVEL_WINDOW_S = 0.05


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
            "detail": self.detail,
        }


@dataclass(frozen=True)
class FoundFile:
    """A file of the catalogue: its folder, and its POSIX path below it."""

    folder: str
    path: str
    content_id: str = ""

    @property
    def location(self) -> Path:
        """Where the file is."""
        return Path(self.folder, *PurePosixPath(self.path).parts)


def require_folder(folder: Path) -> None:
    """Raise `AudioError` unless the catalogue is there."""
    if not folder.is_dir():
        raise AudioError(f"{folder}: is no folder; give the folder that holds the music files")


def walk_folder(folder: Path) -> tuple[list[str], list[Reject]]:
    """Every audio file below a folder, sorted, as POSIX paths relative to it.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    paths : list of str
    rejects : list of Reject
        Files that are not audio by their suffix, folders that cannot be read, links that lead in a circle.

    Raises
    ------
    AudioError
        If the folder does not exist or is no folder.
    """
    require_folder(folder)
    paths: list[str] = []
    rejects: list[Reject] = []
    # real folders between the root and a folder: a link back to one of them would never end
    for path, error in _walk(folder, "", (os.path.realpath(folder),)):
        if error is not None:
            rejects.append(Reject(None, path, "scan", *error))
        elif Path(path).suffix.lower() in AUDIO_SUFFIXES:
            paths.append(path)
        else:
            rejects.append(
                Reject(None, path, "scan", "not audio", f"suffix {Path(path).suffix!r} is no audio format")
            )
    return sorted(paths), sorted(rejects, key=lambda reject: reject.path)


def _walk(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, str] | None]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield prefix or ".", ("unreadable folder", f"{folder}: {error.strerror}; change its permissions")
        return
    for entry in entries:
        path = prefix + _table_text(entry.name)
        if path != prefix + entry.name:
            yield path, ("file name", "the name is not valid UTF-8; rename the file")
        elif entry.is_dir():
            real = os.path.realpath(entry.path)
            if real in above:
                yield path, ("link loop", f"links back to {real}; remove the link")
            else:
                yield from _walk(Path(entry.path), f"{path}/", (*above, real))
        elif entry.is_file():
            yield path, None
        else:
            yield path, ("not a file", "a broken link, a device or a pipe")


def _table_text(name: str) -> str:
    """File names are bytes to the system; a table holds text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def hash_file(file: FoundFile) -> Product:
    """The content id of a file."""
    return Product({"content_id": content_id(file.location)})


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
    if file.content_id and content_id(path) != file.content_id:
        raise AudioError(f"{path}: changed while it was read; run the same command again when it is at rest")
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
