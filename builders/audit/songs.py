"""The songs of a build as the audit shows them: in which order, what is known of each, where its audio lies.

Tracks are what can be heard of a song: its stems, and the mixture, made of them where there is no such row.
'difference' is no track of its own: mixture less instrumental, which is heard against the vocals.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.audit.standing import why_not
from builders.audit.verdicts import Verdict
from builders.report.records import rows_of
from builders.report.songs import Song, list_songs
from curation.audit import Order, doubt_of, doubt_parts, random_order
from manifests.corpus import MIXTURE, Corpus, Row
from manifests.errors import AudioError, StemloomError, TableError, did_you_mean
from manifests.tables import empty_table

log = logging.getLogger(__name__)

DIFFERENCE = "difference"
"""Mixture less instrumental."""

INSTRUMENTALS = ("instrumental", "accompaniment")
"""What is nudged, and taken from the mixture."""

COLUMNS = ("song_id", "title", "artist", "genre", "grade", "doubt", "duration_s", "reasons")
"""Of the queue."""

_FIRST = (MIXTURE, *INSTRUMENTALS, "vocals")
_PAIR = (
    "lag_frames",
    "drift_ppm",
    "gain_db",
    "polarity",
    "coherence",
    "residual_db",
    "confidence",
    "bit_error_rate",
)
# of a large catalogue, all columns would take seconds
_PAIR_COLUMNS = [*_PAIR, "song_id", "status", "mixture_id", "instrumental_id", "segments"]
_TRACK_COLUMNS = ["track_id", "title", "song_title", "version", "artist", "genre"]


class OutsideError(StemloomError):
    """A file that does not lie under its root, where its row says so or a symbolic link leads there."""


class UnknownError(StemloomError):
    """A song, or a track of it, that is not in the build."""


@dataclass(frozen=True)
class Part:
    """A file whose audio is part of a track: added, or taken away, and nudged or not."""

    path: Path
    num_frames: int
    sign: float
    is_nudged: bool

    def require_file(self) -> None:
        """See that the file is there.

        Raises
        ------
        AudioError
            When it is not.
        """
        if not self.path.is_file():
            raise AudioError(f"{self.path}: is missing; restore it, or reject the song as damaged")


@dataclass(frozen=True)
class Track:
    """What can be heard of a song: the sum of its parts.

    Attributes
    ----------
    name : str
    parts : tuple of Part
    content : tuple of str
        What the files hold: content ids, or else what the file system knows.
    num_frames, sample_rate, channels : int
    """

    name: str
    parts: tuple[Part, ...]
    content: tuple[str, ...]
    num_frames: int
    sample_rate: int
    channels: int


class SongBook:
    """All songs of a build, looked up by id; no audio is read.

    Parameters
    ----------
    corpus : Corpus
        Its tables are read at once.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        tracks, pairs = corpus.tracks, corpus.pairs
        if tracks is None:
            tracks = empty_table("tracks")
        if pairs is None:
            pairs = empty_table("pairs")
        chosen = pairs.loc[(pairs["status"] == "chosen") & pairs["song_id"].notna(), _PAIR_COLUMNS]
        listed = list_songs(corpus, tracks[_TRACK_COLUMNS], chosen)
        self.songs: dict[str, Song] = {song.song_id: song for song in listed}
        self.pairs: dict[str, dict[str, Any]] = {row["song_id"]: row for row in rows_of(chosen)}
        self.damaged = _damaged(corpus)
        self.parts = {song_id: self._doubt_parts(song) for song_id, song in self.songs.items()}
        self.doubts = {song_id: doubt_of(parts) for song_id, parts in self.parts.items()}

    def _doubt_parts(self, song: Song) -> dict[str, float]:
        pair = self.pairs.get(song.song_id, {})
        return doubt_parts(
            grade=song.grade,
            num_reasons=len(song.reasons),
            confidence=pair.get("confidence"),
            coherence=pair.get("coherence"),
            residual_db=song.residual_db,
            damaged_fraction=self.damaged.get(song.song_id),
        )

    @functools.lru_cache(maxsize=4)  # noqa: B019  # there is one book in a process
    def order(self, order: Order) -> list[str]:
        """All songs in an order."""
        ids = sorted(self.songs)
        if order == "random":
            return random_order(ids)
        if order == "doubtful":
            return sorted(ids, key=lambda song_id: -self.doubts[song_id])
        return sorted(
            ids, key=lambda song_id: (self.songs[song_id].title.casefold(), self.songs[song_id].artist or "")
        )

    def queue(self, order: Order) -> list[list[Any]]:
        """Rows of `COLUMNS`, in an order."""
        rows: list[list[Any]] = []
        for song_id in self.order(order):
            song = self.songs[song_id]
            facts = [song.title, song.artist, song.genre, song.grade, self.doubts[song_id]]
            rows.append([song_id, *facts, round(song.duration_s, 3), list(song.reasons)])
        return rows

    def rows(self, song_id: str) -> dict[str, Row]:
        """The stems of a song by name.

        Raises
        ------
        UnknownError
            When it is not in the build.
        """
        if song_id not in self.songs:
            hint = did_you_mean(song_id, self.songs) if len(self.songs) < 1000 else ""
            raise UnknownError(f"the build has no song '{song_id}'{hint}; it may have been built again: reload")
        return self.corpus.song(song_id)

    def counts(self, verdict: Verdict) -> bool:
        """Whether a verdict is on what is there."""
        song_id = verdict.song_id
        return song_id in self.songs and why_not(verdict, {song_id: self.rows(song_id)}) is None

    def details(self, song_id: str) -> dict[str, Any]:
        """What is known of a song, as JSON values, but for its verdicts.

        Raises
        ------
        UnknownError
            When it is not in the build.
        """
        rows = self.rows(song_id)
        song = self.songs[song_id]
        listed = [self._listed(song_id, name, rows) for name in self.track_names(song_id)]
        first = listed[0]
        pair = self.pairs.get(song_id)
        return {
            "song_id": song_id,
            "title": song.title,
            "artist": song.artist,
            "genre": song.genre,
            "split": song.split,
            "grade": song.grade,
            "reasons": [_reason(text) for text in song.reasons],
            "weight": next((row["weight"] for row in rows.values() if row.get("weight") is not None), None),
            **{name: first[name] for name in ("sample_rate", "channels", "num_frames")},
            "duration_s": first["num_frames"] / first["sample_rate"],
            "doubt": self.doubts[song_id],
            "doubt_parts": self.parts[song_id],
            "pair": None
            if pair is None
            else {key: pair[key] for key in _PAIR} | {"segments": _json(pair["segments"])},
            "tracks": listed,
            "pseudo": [DIFFERENCE] if self._minus(rows) else [],
        }

    def track_names(self, song_id: str) -> list[str]:
        """What can be heard of a song: mixture, instrumental and vocals first, then as in the stems table."""
        rows = self.rows(song_id)
        names = list(rows) if MIXTURE in rows or not _sums(rows) else [MIXTURE, *rows]
        return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))

    def _listed(self, song_id: str, name: str, rows: Mapping[str, Row]) -> dict[str, Any]:
        row = rows.get(name, {})
        some = row or next(iter(rows.values()))
        problem = None
        try:
            for part in self.track(song_id, name).parts:
                part.require_file()
        except StemloomError as error:
            problem = str(error)
        facts = ("provenance", "loudness_lufs", "active_fraction", "residual_db", "grade", "audit")
        return {
            "name": name,
            "kind": "mixture" if name == MIXTURE else "stem",
            "is_made": not row,
            **{fact: row.get(fact) for fact in facts},
            "reasons": [_reason(text) for text in _json(row.get("reasons")) or []],
            "num_frames": max(int(found["num_frames"]) for found in ([row] if row else rows.values())),
            "sample_rate": int(some["sample_rate"]),
            "channels": int(some["channels"]),
            "problem": problem,
        }

    def _minus(self, rows: Mapping[str, Row]) -> str | None:
        """The stem that is taken from the mixture to hear the difference."""
        found = next((name for name in INSTRUMENTALS if name in rows), None)
        return found if found is not None and len(rows) > 1 and _sums(rows) else None

    def track(self, song_id: str, name: str) -> Track:
        """What a track is made of.

        Parameters
        ----------
        song_id : str
        name : str
            A stem, 'mixture' or 'difference'.

        Returns
        -------
        Track

        Raises
        ------
        UnknownError
            When there is no such song, or it has no such track.
        OutsideError
            When a file does not lie under its root.
        """
        rows = self.rows(song_id)
        if name in rows:
            added, taken = [name], None
        elif name == MIXTURE and _sums(rows):
            added, taken = list(rows), None
        elif name == DIFFERENCE and self._minus(rows):
            added, taken = [MIXTURE] if MIXTURE in rows else list(rows), self._minus(rows)
        else:
            raise UnknownError(
                f"song '{song_id}' has no track '{name}'; it has {', '.join(self.track_names(song_id))}"
            )
        signs = [(stem, 1.0, stem == name and name in INSTRUMENTALS) for stem in added]
        if taken is not None:
            signs.append((taken, -1.0, True))
        parts = tuple(
            Part(self.path_of(rows[stem]), int(rows[stem]["num_frames"]), sign, is_nudged)
            for stem, sign, is_nudged in signs
        )
        used = [rows[stem] for stem, _, _ in signs]
        return Track(
            name,
            parts,
            tuple(_content(row, part.path) for row, part in zip(used, parts, strict=True)),
            max(part.num_frames for part in parts),
            int(used[0]["sample_rate"]),
            int(used[0]["channels"]),
        )

    def path_of(self, row: Row) -> Path:
        """The file of a row, wherever links lead within its root.

        Raises
        ------
        OutsideError
            When it does not.
        """
        try:
            return self.corpus.path_of(row).resolve()
        except TableError as error:
            raise OutsideError(str(error)) from error


def _sums(rows: Mapping[str, Row]) -> bool:
    """Whether the stems of a song can be added."""
    shapes = {(row["sample_rate"], row["channels"]) for row in rows.values()}
    return len(rows) > 1 and len(shapes) == 1


def _content(row: Row, path: Path) -> str:
    if row["content_id"] is not None:
        return str(row["content_id"])
    try:
        found = path.stat()
        return f"{path}/{found.st_size}/{found.st_mtime_ns}"
    except OSError:
        return str(path)


def _reason(text: str) -> dict[str, str | None]:
    """'C: accompaniment in the vocals at -14 dB' as the grade that it gives and its words."""
    grade, colon, words = str(text).partition(": ")
    return {"reason": grade, "text": words} if colon and len(grade) == 1 else {"reason": None, "text": str(text)}


def _json(text: str | None) -> list[Any] | None:
    found = None if text is None else json.loads(text)
    return found if isinstance(found, list) else None


def _damaged(corpus: Corpus) -> dict[str, float]:
    """The most that a cleaning found damaged of any stem, by song."""
    if corpus.cleaned is None:
        return {}
    known = corpus.cleaned.dropna(subset=["damaged_fraction"])
    return {str(key): float(value) for key, value in known.groupby("song_id")["damaged_fraction"].max().items()}
