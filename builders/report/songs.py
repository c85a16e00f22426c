"""The songs of a build as the page shows them, the best first.

Best is by grade, then by residual: the power in vocal-free frames that the instrumental could not explain. Songs
without a grade come after those with one, songs without a residual after those with one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pandas as pd

from builders.report.records import rows_of
from manifests.corpus import CORPUS_ROOT, MIXTURE, Corpus, Row

PICTURED = 10
"""Songs with pictures and players at either end, where they have no more than four stems each."""

PICTURED_STEMS = 80
"""Stems with pictures and players in all."""

_SHARED = ("artist", "genre", "split", "grade")
_OTHER_COLOURS = ("--one", "--two", "--three", "--four", "--five", "--six")
_COLOURS = {MIXTURE: "--mixture", "vocals": "--vocals", "dialogue": "--vocals", "speech": "--vocals"}


@dataclass(frozen=True)
class Stem:
    """A stem as the page shows it: its name, its file for the browser, its row."""

    name: str
    href: str | None
    row: Row


@dataclass(frozen=True)
class Song:
    """A row of the table of songs. What is not known is None."""

    song_id: str
    title: str
    artist: str | None
    genre: str | None
    split: str | None
    grade: str | None
    reasons: tuple[str, ...]
    versions: tuple[str, ...]
    duration_s: float
    residual_db: float | None
    confidence: float | None
    segments: int | None
    stems: tuple[Stem, ...]


def list_songs(corpus: Corpus, tracks: pd.DataFrame, pairs: pd.DataFrame) -> list[Song]:
    """Every song of a corpus, the best first.

    Parameters
    ----------
    corpus : Corpus
    tracks, pairs : pd.DataFrame
        Its tables, without rows where it has none: titles, versions and how the pair aligned come from them.

    Returns
    -------
    list of Song
    """
    by_track = {row["track_id"]: row for row in rows_of(tracks)}
    by_song = {row["song_id"]: row for row in rows_of(pairs[pairs["status"] == "chosen"])}
    songs = []
    for song_id in corpus.songs():
        rows = corpus.song(song_id)
        row = rows.get(MIXTURE) or next(iter(rows.values()))
        track, pair = by_track.get(song_id, {}), by_song.get(song_id, {})
        sides = [by_track.get(pair.get(f"{role}_id"), {}) for role in ("mixture", "instrumental")]
        residuals = [stem["residual_db"] for stem in rows.values() if stem["residual_db"] is not None]
        known = {key: next((r[key] for r in rows.values() if r.get(key) is not None), None) for key in _SHARED}
        songs.append(
            Song(
                song_id=song_id,
                title=title_of(track, song_id),
                artist=known["artist"] or track.get("artist"),
                genre=known["genre"] or track.get("genre"),
                split=known["split"],
                grade=known["grade"],
                reasons=_reasons(rows.values()),
                versions=tuple(side["version"] for side in sides if side),
                duration_s=row["num_frames"] / row["sample_rate"],
                residual_db=max(residuals, default=None),
                confidence=pair.get("confidence"),
                segments=_count_segments(pair.get("segments")),
                stems=tuple(stem_of(name, stem) for name, stem in _ordered(rows)),
            )
        )
    return sorted(songs, key=_place)


def _place(song: Song) -> tuple[object, ...]:
    return (song.grade or "Z", song.residual_db is None, song.residual_db or 0.0, song.song_id)


def is_ranked(songs: Iterable[Song]) -> bool:
    """Whether there is anything to tell good songs by."""
    return any(song.grade is not None or song.residual_db is not None for song in songs)


def ends(songs: Sequence[Song], num_others: int = 0) -> tuple[list[Song], list[Song]]:
    """The best songs and the worst, the worst of all first; none of them is in both lists.

    There are `PICTURED` at either end, or fewer: where there are not that many songs, and where songs have so many
    stems that there would be more than `PICTURED_STEMS` pictures, with the others that the page has.
    """
    count = min(_room(songs, num_others), -(-len(songs) // 2))
    best = list(songs[:count])
    return best, list(songs[max(count, len(songs) - count) :][::-1])


def some(songs: Sequence[Song], num_others: int = 0, seed: int = 0) -> list[Song]:
    """A few songs at random, in their order: as many as `ends` has at either end."""
    places = np.random.default_rng(seed).permutation(len(songs))[: _room(songs, num_others)]
    return [songs[place] for place in sorted(places.tolist())]


def _room(songs: Sequence[Song], num_others: int) -> int:
    """How many songs of the page's pictures there is room for, twice."""
    most = max((len(song.stems) for song in songs), default=1)
    return min(PICTURED, max(1, max(0, PICTURED_STEMS - num_others) // (2 * most)))


def title_of(track: Row, song_id: str) -> str:
    """What a song is called: as its row of the tracks table says, else by its id."""
    return track.get("song_title") or track.get("title") or song_id


def stem_of(name: str, row: Row) -> Stem:
    """A row of the stems table as the page shows it."""
    # a file outside of the build is no link
    return Stem(name, quote(str(row["path"])) if row["root"] == CORPUS_ROOT else None, row)


def stem_colours(names: Sequence[str]) -> dict[str, str]:
    """CSS variable of the colour of each stem: mixtures and voices have their own, the others take turns."""
    others = [name for name in names if name not in _COLOURS]
    return {
        name: _COLOURS[name] if name in _COLOURS else _OTHER_COLOURS[others.index(name) % len(_OTHER_COLOURS)]
        for name in names
    }


def _ordered(rows: dict[str, Row]) -> list[tuple[str, Row]]:
    """Stems with the mixture first, the others as they stand in the table."""
    return sorted(rows.items(), key=lambda item: item[0] != MIXTURE)


def _reasons(rows: Iterable[Row]) -> tuple[str, ...]:
    """Why the song has its grade: what its stems' rows say, each once."""
    found: dict[str, None] = {}
    for row in rows:
        text = row.get("reasons")
        listed = None if text is None else json.loads(text)
        found.update(dict.fromkeys(str(reason) for reason in listed) if isinstance(listed, list) else {})
    return tuple(found)


def _count_segments(text: str | None) -> int | None:
    segments = None if text is None else json.loads(text)
    return len(segments) if isinstance(segments, list) else None
