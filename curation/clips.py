"""Cutting songs into clips, what the clips hold, and a test set that is balanced over genres.

Conventions
-----------
Tables have a row per song or per clip; positions and lengths are whole frames at the song's own rate, settings in
seconds are rounded to them. A clip's columns are those of the clips table; `clip_rms` and `voiced_fraction` give
further ones, from the level curves of `curation.activity`. Random choices hash the seed with the song's or the
clip's id: they depend neither on the order of the rows nor on which other songs there are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute

from curation.activity import ACTIVE_DB, LevelCurve, active_steps
from curation.balance import unit_hash
from curation.genres import OTHER, UNKNOWN
from manifests.errors import RecipeError, TableError, did_you_mean

__all__ = [
    "PerSong",
    "balanced_test_set",
    "clip_rms",
    "cut_clips",
    "salient_fraction",
    "touches",
    "voiced_fraction",
]

PerSong = Literal["all", "one"]

QUIET_ENERGY = 1e-3
"""A chunk of less energy (sum of squares) holds nothing, as in BSRNN."""

NO_GENRE = (OTHER, UNKNOWN)
"""Values of `genre` that name none."""

_SONG_COLUMNS = ("song_id", "num_frames", "sample_rate", "split", "genre", "artist")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Longer than any song, and a product with the number of songs still fits 64 bits.
_LONGEST_FRAMES = 2.0**40

log = logging.getLogger(__name__)


def cut_clips(
    songs: pd.DataFrame,
    *,
    length_s: float,
    hop_s: float | None = None,
    margin_s: float = 0.0,
    per_song: PerSong = "all",
    seed: int = 0,
    spans: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> pd.DataFrame:
    """Cut songs into clips of one length.

    With ``'all'``, clips follow each other every `hop_s` from the end of the first margin on, as long as they
    end before the second. With ``'one'``, each song gives one clip, which starts at any frame between the
    margins with equal probability. Songs shorter than a clip and its margins give none (and are logged):
    ``songs[~songs.song_id.isin(clips.song_id)]``.

    Parameters
    ----------
    songs : pd.DataFrame
        A row per song with song_id, num_frames, sample_rate, split, genre, artist.
    length_s : float
        Length of a clip, at least one frame.
    hop_s : float, optional
        From one start to the next, at least one frame; `length_s` unless given. For ``'all'`` only.
    margin_s : float
        Left out at the beginning and the end of every song.
    per_song : {'all', 'one'}
    seed : int
        At least 0; decides where the one clip is.
    spans : mapping of str to sequence of (first frame, first frame behind), optional
        For each song, apart and in order, the parts that clips are cut from; a song without any gives none. For
        ``'all'`` only.

    Returns
    -------
    pd.DataFrame
        clip_id (``<song_id>-<start_frame>-<num_frames>``), song_id, start_frame, num_frames, split, genre,
        artist; in the order of `songs`, then of time; rows numbered from 0.

    Raises
    ------
    RecipeError
        If a setting is out of range.
    TableError
        If a column is missing, a song is there twice, or a length or rate is null or not positive.

    Examples
    --------
    >>> songs = pd.DataFrame({"song_id": ["a"], "num_frames": [80_000], "sample_rate": [8_000], "split": ["train"],
    ...                       "genre": ["rock"], "artist": ["A"]})
    >>> cut_clips(songs, length_s=3.0, margin_s=1.0).start_frame.tolist()
    [8000, 32000]
    """
    if per_song not in get_args(PerSong):
        raise RecipeError(
            f"clips: per_song is {per_song!r}{did_you_mean(str(per_song), get_args(PerSong))}; "
            f"choose one of {', '.join(get_args(PerSong))}"
        )
    if per_song == "one" and hop_s is not None:
        raise RecipeError(f"clips: hop_s is {hop_s}, but one clip per song has no hop; leave it out")
    if per_song == "one" and spans is not None:
        raise RecipeError("clips: one clip per song is cut from whole songs; leave 'per_song' or the parts out")
    if seed < 0:
        raise RecipeError(f"clips: seed is {seed}, expected at least 0")
    _require(songs, _SONG_COLUMNS, unique="song_id")
    song_frames = _whole(songs, "num_frames", "song_id", at_least=1)
    rates = _whole(songs, "sample_rate", "song_id", at_least=1)
    length = _frames("length_s", length_s, rates, at_least=1)
    hop = length if hop_s is None else _frames("hop_s", hop_s, rates, at_least=1)
    margin = _frames("margin_s", margin_s, rates, at_least=0)

    # Where clips are cut: a row for each song, or for each part of one.
    part, first, end = np.arange(len(songs)), margin, song_frames - margin
    if spans is not None:
        named = [spans.get(name, ()) for name in songs["song_id"]]
        part = np.repeat(part, [len(parts) for parts in named])
        edges = np.array([edge for parts in named for edge in parts], np.int64).reshape(-1, 2)
        first, end = np.maximum(first[part], edges[:, 0]), np.minimum(end[part], edges[:, 1])
    room = end - first - length[part]
    fits = room >= 0
    short = len(songs) - len(np.unique(part[fits]))
    log.info("%d of %d songs are too short for a clip", short, len(songs))
    if per_song == "all":
        counts = np.where(fits, room // hop[part] + 1, 0)
        row = np.repeat(np.arange(len(part)), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        song = part[row]
        start = first[row] + place * hop[song]
    else:
        song = np.flatnonzero(fits)
        draws = unit_hash((f"clip of {name}" for name in songs["song_id"].iloc[song]), seed)
        start = margin[song] + (draws * (room[song] + 1)).astype(np.int64)

    def text(key: str) -> Any:
        return songs[key].astype(pd.StringDtype()).iloc[song].array

    song_ids = text("song_id")
    columns = {
        # First, while there is room for what it is made of: there may be tens of millions.
        "clip_id": _clip_ids(song_ids, start, length[song]),
        "song_id": song_ids,
        "start_frame": pd.array(start, dtype=pd.Int64Dtype()),
        "num_frames": pd.array(length[song], dtype=pd.Int64Dtype()),
        "split": text("split"),
        "genre": text("genre"),
        "artist": text("artist"),
    }
    return pd.DataFrame(columns, copy=False)


def clip_rms(clips: pd.DataFrame, curves: Mapping[str, LevelCurve]) -> pd.Series[Any]:
    """RMS of one stem in every clip, channels summed: a column ``rms_<stem>`` of the clips table.

    Exact where a clip starts and ends with steps of the curve. Elsewhere the energy of the step that it cuts is
    taken as evenly spread, so the shorter the steps, the better: with 50 ms, clips of 11.88 s of music come out
    to within some 0.5 %.

    Parameters
    ----------
    clips : pd.DataFrame
        With clip_id, song_id, start_frame, num_frames.
    curves : mapping of str to LevelCurve
        The stem's level curve by song id, at the song's own rate.

    Returns
    -------
    pd.Series of float64
        At least 0, NaN for songs without a curve; the index of `clips`.

    Raises
    ------
    TableError
        If a column is missing, or a clip ends after its song's curve.
    """
    energies = _clip_totals(clips, curves, {song: curve.energies for song, curve in curves.items()})
    return pd.Series(
        np.sqrt(energies / _whole(clips, "num_frames", "clip_id", at_least=1)), index=clips.index, name="rms"
    )


def voiced_fraction(
    clips: pd.DataFrame,
    curves: Mapping[str, LevelCurve],
    *,
    threshold_db: float = ACTIVE_DB,
    range_db: float | None = None,
) -> pd.Series[Any]:
    """Share of each clip's frames in which the voice sounds, 0 to 1.

    Parameters
    ----------
    clips : pd.DataFrame
        With clip_id, song_id, start_frame, num_frames.
    curves : mapping of str to LevelCurve
        Level curve of the vocals (or dialogue) by song id, in steps of 1 s or less.
    threshold_db, range_db : float
        Which steps are active, as for `curation.activity.active_steps`.

    Returns
    -------
    pd.Series of float64
        NaN for songs without a curve; the index of `clips`.

    Raises
    ------
    TableError
        As `clip_rms`.
    RecipeError
        As `curation.activity.active_steps`.
    """
    active = {
        song: np.where(active_steps(curve, threshold_db=threshold_db, range_db=range_db), curve.lengths, 0.0)
        for song, curve in curves.items()
    }
    fractions = _clip_totals(clips, curves, active) / _whole(clips, "num_frames", "clip_id", at_least=1)
    return pd.Series(np.minimum(fractions, 1.0), index=clips.index, name="voiced_fraction")


def salient_fraction(
    clips: pd.DataFrame, curves: Mapping[str, LevelCurve], *, chunks: int = 10, quantile: float = 0.15
) -> pd.Series[Any]:
    """Share of each clip's chunks that are louder than the song's quiet ones: BSRNN's detector, on clips.

    Every clip is divided into ten chunks, and the threshold is the 15 % quantile of the energies of all chunks of
    that length in its song, or 1e-3 (`curation.activity.salient_segments`, which does so on 6 s windows). The gate
    'bsrnn' asks for six of ten.

    Parameters
    ----------
    clips : pd.DataFrame
        With clip_id, song_id, start_frame, num_frames.
    curves : mapping of str to LevelCurve
        One stem's level curve by song id, in steps well below a chunk.
    chunks : int
        At least 1.
    quantile : float
        0 to 1.

    Returns
    -------
    pd.Series of float64
        0 to 1, NaN for songs without a curve; the index of `clips`.

    Raises
    ------
    TableError
        As `clip_rms`.
    """
    _require(clips, ("clip_id", "song_id"))
    starts, lengths = _whole(clips, "start_frame", "clip_id"), _whole(clips, "num_frames", "clip_id", at_least=1)
    edges = starts[:, np.newaxis] + lengths[:, np.newaxis] * np.arange(chunks + 1) // chunks
    pieces = pd.DataFrame(
        {
            "clip_id": np.repeat(clips["clip_id"].to_numpy(dtype=object), chunks),
            "song_id": np.repeat(clips["song_id"].to_numpy(dtype=object), chunks),
            "start_frame": edges[:, :-1].ravel(),
            "num_frames": np.maximum(np.diff(edges, axis=1).ravel(), 1),
        }
    )
    energies = _clip_totals(pieces, curves, {song: curve.energies for song, curve in curves.items()})
    thresholds = np.full(len(clips), np.nan)
    for song_id, rows in clips.groupby("song_id", sort=False).indices.items():
        for length in np.unique(lengths[rows]) if song_id in curves else ():
            same = rows[lengths[rows] == length]
            thresholds[same] = _quiet_energy(curves[str(song_id)], int(length) // chunks, quantile)
    loud = energies.reshape(-1, chunks) > thresholds[:, np.newaxis]
    fractions = np.where(np.isnan(thresholds), np.nan, loud.mean(axis=1))
    return pd.Series(fractions, index=clips.index, name="salient_fraction")


def _quiet_energy(curve: LevelCurve, chunk_frames: int, quantile: float) -> float:
    """The energy that one chunk in seven stays below, at least that of silence."""
    steps = max(1, round(chunk_frames / curve.step_frames))
    whole = curve.energies[: len(curve.energies) // steps * steps]
    if not len(whole):
        return QUIET_ENERGY
    return max(QUIET_ENERGY, float(np.quantile(whole.reshape(-1, steps).sum(axis=1), quantile)))


def balanced_test_set(
    clips: pd.DataFrame, *, count: int = 1900, by: str = "genre", groups: int | None = 10, seed: int = 0
) -> pd.DataFrame:
    """Draw a test set with equally many clips of each of the most frequent genres, or of other groups.

    Groups are ranked by their number of songs (ties by name); `NO_GENRE` and null are none. Within a group the
    clips are spread as evenly as possible: no song has two more than another unless that one has no more to give.
    Where `count` is not a multiple of `groups`, the most frequent ones have one clip more.

    Parameters
    ----------
    clips : pd.DataFrame
        With clip_id, song_id and the column `by`: those of the split that the test set may draw from.
    count : int
        Clips in all; at least `groups`.
    by : str
        What the groups are: ``genre``, ``artist``, ``song_id``.
    groups : int, optional
        At least 1; None: all of them.
    seed : int
        At least 0.

    Returns
    -------
    pd.DataFrame
        `count` rows of `clips`, in their order and with their index.

    Raises
    ------
    RecipeError
        If a setting is out of range, there are fewer groups, or one of them has too few clips.
    TableError
        If a column is missing, or a clip is there twice.
    """
    if seed < 0:
        raise RecipeError(f"test set: seed is {seed}, expected at least 0")
    _require(clips, ("clip_id", "song_id", by), unique="clip_id")
    named = clips[clips[by].notna() & ~clips[by].isin(NO_GENRE)]
    songs = named.groupby(by)["song_id"].nunique()
    number = len(songs) if groups is None else groups
    if not 1 <= number <= count:
        raise RecipeError(f"test set: count is {count}, of {number} {by}s; expected at least one of each")
    ranked = songs.sort_index().sort_values(ascending=False, kind="stable").index[:number]
    if len(ranked) < number:
        raise RecipeError(
            f"test set: {by}s are {number}, but the clips have {len(ranked)} ({', '.join(ranked)}); take fewer"
        )
    rows = np.flatnonzero(clips[by].isin(ranked))
    group = ranked.get_indexer(pd.Index(clips[by].iloc[rows]))
    wanted = np.array([count // number + (rank < count % number) for rank in range(number)])
    available = np.bincount(group, minlength=number)
    if (available < wanted).any():
        short = int(np.argmin(available - wanted))
        raise RecipeError(
            f"test set: {by} '{ranked[short]}' has {available[short]} clips, {wanted[short]} are wanted; "
            f"lower count to {available.min() * number}, take fewer {by}s, or cut clips with a shorter hop"
        )
    song, song_ids = pd.factorize(clips["song_id"].iloc[rows])
    # Deal in rounds: in each, every song of a group that still has clips gives one.
    clip_lots = unit_hash((f"test {name}" for name in clips["clip_id"].iloc[rows]), seed)
    song_lots = unit_hash((f"test {name}" for name in song_ids), seed)[song]
    turn = _ranks((group, song), (clip_lots,))
    place = _ranks((group,), (turn, song_lots))
    return clips.iloc[rows[place < wanted[group]]]


def touches(clips: pd.DataFrame, spans: Mapping[str, Sequence[tuple[int, int]]]) -> npt.NDArray[np.bool_]:
    """Which clips share a frame with a span of their song.

    Parameters
    ----------
    clips : pd.DataFrame
        With song_id, start_frame, num_frames.
    spans : mapping of str to sequence of (first frame, first frame behind)

    Returns
    -------
    np.ndarray of bool [shape=(clips,)]
    """
    ends = clips["start_frame"] + clips["num_frames"]
    return np.array(
        [
            any(first < end and start < last for first, last in spans.get(song_id, ()))
            for song_id, start, end in zip(clips["song_id"], clips["start_frame"], ends, strict=True)
        ],
        np.bool_,
    )


def _clip_ids(song_ids: Any, starts: Ints, lengths: Ints) -> Any:
    parts = [pyarrow.array(part).cast(pyarrow.large_string()) for part in (song_ids, starts, lengths)]
    ids = pyarrow.compute.binary_join_element_wise(*parts, pyarrow.scalar("-", pyarrow.large_string()))
    return pd.array(ids, dtype=pd.StringDtype())


def _clip_totals(clips: pd.DataFrame, curves: Mapping[str, LevelCurve], values: Mapping[str, Floats]) -> Floats:
    """Sum over each clip's frames of values that steps of curves have; NaN for songs without a curve."""
    _require(clips, ("clip_id", "song_id"))
    starts, lengths = _whole(clips, "start_frame", "clip_id"), _whole(clips, "num_frames", "clip_id", at_least=1)
    totals = np.full(len(clips), np.nan)
    song = pd.Index(list(curves), dtype=pd.StringDtype()).get_indexer(
        pd.Index(clips["song_id"], dtype=pd.StringDtype())
    )
    rows = np.flatnonzero(song >= 0)
    if not rows.size:
        return totals
    song, starts, ends = song[rows], starts[rows], starts[rows] + lengths[rows]
    num_frames = np.array([curve.num_frames for curve in curves.values()])
    late = np.flatnonzero(ends > num_frames[song])
    if late.size:
        clip = clips.iloc[rows[late[0]]]
        raise TableError(
            f"clips: '{clip['clip_id']}' ends at frame {ends[late[0]]}, and the level curve of '{clip['song_id']}' "
            f"at {num_frames[song[late[0]]]}; measure the song again, or cut it again"
        )
    # Sums up to each step's start, song after song; each song has one entry more than steps.
    sums = np.concatenate([np.concatenate([[0.0], np.cumsum(values[key])]) for key in curves])
    num_steps = np.array([len(curve.energies) for curve in curves.values()])
    first_sum = np.cumsum(num_steps + 1) - (num_steps + 1)
    step_frames = np.array([curve.step_frames for curve in curves.values()])

    def up_to(frames: Ints) -> Floats:
        step = np.minimum(frames // step_frames[song], num_steps[song] - 1)
        before = step * step_frames[song]
        share = (frames - before) / np.minimum(step_frames[song], num_frames[song] - before)
        at = first_sum[song] + step
        return np.asarray(sums[at] + share * (sums[at + 1] - sums[at]))

    # Rounding can leave a silent clip a hair below nothing.
    totals[rows] = np.maximum(up_to(ends) - up_to(starts), 0.0)
    return totals


def _ranks(groups: Sequence[Ints], keys: Sequence[npt.NDArray[Any]]) -> Ints:
    """Place of each row within its group, from 0 on, when the group is sorted by the keys, the first one first."""
    order = np.lexsort((*reversed(keys), *reversed(groups)))
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for group in groups:
        new[1:] |= np.diff(group[order]) != 0
    starts = np.flatnonzero(new)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return ranks


def _frames(name: str, seconds: float, rates: Ints, *, at_least: int) -> Ints:
    """A setting in frames of each song."""
    if not 0.0 <= seconds < math.inf:
        raise RecipeError(f"clips: {name} is {seconds}, expected a number of seconds, at least 0")
    frames = np.rint(np.minimum(seconds * rates, _LONGEST_FRAMES)).astype(np.int64)
    if (frames < at_least).any():
        raise RecipeError(f"clips: {name} is {seconds}, less than one frame at {rates.min()} Hz; lengthen it")
    return np.asarray(frames)


def _require(table: pd.DataFrame, columns: Sequence[str], *, unique: str | None = None) -> None:
    missing = [key for key in columns if key not in table.columns]
    if missing:
        raise TableError(f"clips: the table has no column '{missing[0]}'; it needs {', '.join(columns)}")
    if unique is not None:
        if table[unique].isna().any():
            raise TableError(f"clips: column '{unique}' has nulls; every row needs one of its own")
        repeated = table[unique].duplicated().to_numpy()
        if repeated.any():
            first = table[unique].iloc[int(np.flatnonzero(repeated)[0])]
            raise TableError(f"clips: {unique} '{first}' is there twice; keep one row of it")


def _whole(table: pd.DataFrame, key: str, label: str, *, at_least: int = 0) -> Ints:
    """A column of whole numbers."""
    _require(table, (key,))
    values = pd.to_numeric(table[key], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~((values >= at_least) & (values == np.floor(values)) & (values < 2.0**53)))
    if wrong.size:
        row = table.iloc[int(wrong[0])]
        raise TableError(
            f"clips: column '{key}' is {row[key]} for {label} '{row[label]}', expected a whole number, at least "
            f"{at_least}; correct the table"
        )
    return np.asarray(values.astype(np.int64))
