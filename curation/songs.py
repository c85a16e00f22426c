"""Songs: which pair makes a song's triplet, and the songs of a corpus, one row each.

`choose_pairs` is for a song that has several mixtures and instrumentals. Input are compared pairs: what
`curation.evidence` found two tracks to be to each other. The mixture of a pair contains the instrumental, so tracks
of one song are ordered by what they contain (instrumental, instrumental with backing vocals, full mixture). Only a
track that nothing else contains is a mixture: the difference between an instrumental with backing vocals and one
without is no lead voice.

`songs_of` makes the table that genres, artists, balance, splits and clips work on from the stems of a corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.versions import SAME_TAKE, WITHOUT_LEAD
from manifests.errors import TableError

__all__ = ["Compared", "Status", "Verdict", "choose_pairs", "songs_of"]

Status = Literal["chosen", "alternative", "refused"]
Ints = npt.NDArray[np.int64]

_OF_THE_SONG = ("artist", "album_artist", "genre", "split", "grade")
_NEEDED = ("song_id", "stem", "num_frames", "sample_rate", "artist", "genre", "split", "license")


@dataclass(frozen=True)
class Compared:
    """Two tracks whose waveforms were compared.

    Attributes
    ----------
    pair_id : str
    mixture_id, instrumental_id : str
        In their order when `is_pair`, else in any.
    is_pair : bool
        The instrumental is contained in the mixture.
    is_same : bool
        One recording twice.
    confidence : float [0, 1]
    residual_db : float
        What the instrumental leaves in vocal-free frames.
    mixture_version, instrumental_version : str
        Version labels of `curation.versions`.
    """

    pair_id: str
    mixture_id: str
    instrumental_id: str
    is_pair: bool
    is_same: bool
    confidence: float
    residual_db: float
    mixture_version: str
    instrumental_version: str


@dataclass(frozen=True)
class Verdict:
    """What becomes of a pair: its status, the song it belongs to (the chosen mixture's id), the reason against."""

    status: Status
    song_id: str | None
    reason: str | None


def choose_pairs(compared: Sequence[Compared]) -> dict[str, Verdict]:
    """Choose one pair for every song.

    Parameters
    ----------
    compared : sequence of Compared
        In any order; the result does not depend on it.

    Returns
    -------
    dict of str to Verdict
        One for each compared pair, by pair id. Pairs that the waveforms refused stay refused without a reason
        here (the evidence has it).
    """
    pairs = sorted((pair for pair in compared if pair.is_pair), key=lambda pair: pair.pair_id)
    verdicts = {pair.pair_id: Verdict("refused", None, None) for pair in compared if not pair.is_pair}
    containers: dict[str, Compared] = {}
    for pair in pairs:
        known = containers.get(pair.instrumental_id)
        if known is None or pair.confidence > known.confidence:
            containers[pair.instrumental_id] = pair
    true_pairs = []
    for pair in pairs:
        container = containers.get(pair.mixture_id)
        if container is None:
            true_pairs.append(pair)
            continue
        verdicts[pair.pair_id] = Verdict(
            "refused",
            None,
            f"the mixture is itself contained in {container.mixture_id}: both are instrumentals, one with backing "
            "vocals",
        )
    links = [(p.mixture_id, p.instrumental_id) for p in true_pairs]
    links += [(p.mixture_id, p.instrumental_id) for p in compared if p.is_same]
    song_of = _components(links)
    by_song: dict[str, list[Compared]] = {}
    for pair in true_pairs:
        by_song.setdefault(song_of[pair.mixture_id], []).append(pair)
    for same_song in by_song.values():
        best = max(same_song, key=_merit)
        for pair in same_song:
            status: Status = "chosen" if pair is best else "alternative"
            verdicts[pair.pair_id] = Verdict(status, best.mixture_id, None)
    return verdicts


def _merit(pair: Compared) -> tuple[bool, bool, float, float, str]:
    """What makes a pair the better one of a song; the id makes it unambiguous."""
    clean = pair.instrumental_version in WITHOUT_LEAD - {"tv_track"}
    same_take = pair.mixture_version in SAME_TAKE
    return (clean, same_take, round(pair.confidence, 1), -pair.residual_db, pair.pair_id)


def _components(links: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Connected components: every node to its component's smallest node."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in links:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {node: root(node) for node in parent}


def songs_of(stems: pd.DataFrame) -> pd.DataFrame:
    """The songs of a corpus, one row each.

    Parameters
    ----------
    stems : pd.DataFrame
        Rows of the stems table, in any order: song_id, stem, num_frames, sample_rate, artist, genre, split, license
        and, where there are such columns, grade and album_artist.

    Returns
    -------
    pd.DataFrame
        song_id, artist, album_artist, genre, split, license, grade (text), num_frames, sample_rate (int64),
        seconds (float64), sorted by song_id, rows numbered from 0. A song's artist is the one that any of its
        stems has, and so on; null when all of them are null. Its length is the mixture's, or that of the shortest
        stem where there is no mixture, so that a clip of the song is one of every stem. Its license is all of its
        stems', sorted and joined by ``'; '``.

    Raises
    ------
    TableError
        If a column is missing, a song id is null, a length or rate is null or below 1, a song has two mixtures, or
        stems of one song disagree on its artist, album artist, genre, split or grade.

    Examples
    --------
    >>> rows = {"song_id": "a", "stem": ["vocals", "mixture"], "num_frames": [8000, 16000], "sample_rate": 8000,
    ...         "artist": ["Ann", None], "genre": None, "split": "train", "license": "CC0-1.0"}
    >>> songs_of(pd.DataFrame(rows))[["song_id", "artist", "split", "seconds"]].values.tolist()
    [['a', 'Ann', 'train', 2.0]]
    """
    missing = [column for column in _NEEDED if column not in stems]
    if missing:
        raise TableError(f"stems: column '{missing[0]}' is missing; read the table with 'manifests.read_table'")
    codes, ids = pd.factorize(stems["song_id"], sort=True)
    if len(codes) and codes.min() < 0:
        row = int(np.argmin(codes))
        raise TableError(f"stems: column 'song_id' is null in row {row}; give every stem its song")
    song = codes.astype(np.int64)
    columns: dict[str, Any] = {"song_id": pd.array(ids.to_numpy(dtype=object), dtype=pd.StringDtype())}
    for column in _OF_THE_SONG:
        if column in stems:
            columns[column] = _agreed(stems, column, song, ids)
        else:
            columns[column] = pd.array(np.full(len(ids), None), dtype=pd.StringDtype())
    columns["license"] = _joined(stems["license"], song, len(ids))

    frames, rate = _positive(stems, "num_frames"), _positive(stems, "sample_rate")
    row_of = _row_of_length(stems, song, ids, frames / rate)
    columns["num_frames"], columns["sample_rate"] = frames[row_of], rate[row_of]
    columns["seconds"] = columns["num_frames"] / columns["sample_rate"]
    order = ("song_id", "artist", "album_artist", "genre", "split", "license", "grade")
    return pd.DataFrame({key: columns[key] for key in (*order, "num_frames", "sample_rate", "seconds")})


def _agreed(stems: pd.DataFrame, column: str, song: Ints, ids: pd.Index[Any]) -> Any:
    """The one value that the stems of each song have, or null."""
    codes, values = pd.factorize(stems[column])
    known = np.flatnonzero(codes >= 0)
    first = np.full(len(ids), -1)
    # The last assignment wins, which is that of the first row.
    first[song[known[::-1]]] = known[::-1]
    against = known[codes[known] != codes[first[song[known]]]]
    if against.size:
        row = against[np.argmin(song[against])]
        one, other = (stems.iloc[at] for at in (first[song[row]], row))
        raise TableError(
            f"stems: song '{ids[song[row]]}' has {column} '{one[column]}' (stem '{one['stem']}') and "
            f"'{other[column]}' (stem '{other['stem']}'); give all stems of a song one {column} "
            f"(songs like this: {len(np.unique(song[against]))})"
        )
    return pd.array(_texts(values)[np.where(first >= 0, codes[first], -1)], dtype=pd.StringDtype())


def _joined(column: pd.Series[Any], song: Ints, count: int) -> Any:
    """All values that the stems of each song have, sorted and joined, or null."""
    codes, values = pd.factorize(column, sort=True)
    known = codes >= 0
    pairs = np.unique(song[known] * len(values) + codes[known])
    of_song, code = np.divmod(pairs, max(len(values), 1))
    first = np.full(count, -1)
    first[of_song[::-1]] = code[::-1]
    result = _texts(values)[first]
    several = np.flatnonzero(np.bincount(of_song, minlength=count) > 1)
    begins, ends = np.searchsorted(of_song, several), np.searchsorted(of_song, several, side="right")
    for at, begin, end in zip(several.tolist(), begins.tolist(), ends.tolist(), strict=True):
        result[at] = "; ".join(values[code[begin:end]])
    return pd.array(result, dtype=pd.StringDtype())


def _texts(values: pd.Index[Any]) -> npt.NDArray[np.object_]:
    """Values by code; -1 takes the last, null."""
    return np.array([*values, None], dtype=object)


def _positive(stems: pd.DataFrame, column: str) -> Ints:
    values = stems[column].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~(values >= 1))
    if wrong.size:
        row = stems.iloc[int(wrong[0])]
        raise TableError(
            f"stems: column '{column}' is {row[column]} for stem '{row['stem']}' of song '{row['song_id']}', "
            "expected at least 1; correct the table"
        )
    return values.astype(np.int64)


def _row_of_length(stems: pd.DataFrame, song: Ints, ids: pd.Index[Any], seconds: npt.NDArray[np.float64]) -> Ints:
    """The row of each song's mixture, or of its shortest stem."""
    mixtures = np.flatnonzero((stems["stem"] == "mixture").to_numpy(dtype=bool, na_value=False))
    counts = np.bincount(song[mixtures], minlength=len(ids))
    if (counts > 1).any():
        twice = int(np.argmax(counts > 1))
        raise TableError(f"stems: song '{ids[twice]}' has {counts[twice]} mixtures; keep one row of it")
    rows = np.zeros(len(ids), np.int64)
    rows[song[mixtures]] = mixtures
    others = np.flatnonzero(counts[song] == 0)
    longest_first = others[np.argsort(-seconds[others], kind="stable")]
    rows[song[longest_first]] = longest_first
    return rows
