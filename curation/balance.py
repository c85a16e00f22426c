"""How much of each genre a corpus has, and how to bring it to the distribution of another.

A catalogue has the genres that its owner sells: Catalog A of the paper leans to children's music and hip hop.
Catalog B is the part of it whose genres are distributed as in a reference corpus. `choose_songs` makes such a part,
with as many hours as can be; `song_weights` keeps all songs and says how often to draw each.

Conventions
-----------
A distribution is a mapping of genre to share, 0 to 1, which sums to 1. Genres are compared as they are written:
make them alike with `curation.genres.normalise_genres` first. A null counts as ``unknown``.

A reference is such a mapping, the `distribution` of another corpus, or ``'uniform'``: the same share for every
genre of this corpus but ``other`` and ``unknown``, which are no genres.

How songs are chosen
--------------------
With H_g hours of genre g and a reference r_g, no part of the corpus with these shares has more than
``T = min_g H_g / r_g`` hours, and the genre where the minimum is (`Balance.limiting`) is kept whole. Every other
genre keeps the first of its songs in the order of a hash, up to the one that brings it nearest to ``T r_g``. So the
choice depends on the seed and the songs alone, and when T grows, what was kept is kept still.

References
----------
Prétet, Hennequin, Royo-Letelier, Vaglio, "Singing voice separation: a study on training data", ICASSP 2019, section
2.3 and figure 1.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.artists import by_song_id
from curation.genres import OTHER, UNKNOWN
from manifests.errors import RecipeError, TableError, did_you_mean

__all__ = ["Balance", "GenreBalance", "choose_songs", "distribution", "song_weights"]

Floats = npt.NDArray[np.float64]
Unit: TypeAlias = Literal["hours", "songs"]
Missing: TypeAlias = Literal["error", "drop"]
Reference: TypeAlias = "Mapping[str, float] | pd.Series[float] | Literal['uniform']"

_TOLERANCE = 1e-6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenreBalance:
    """What a genre has before and after.

    Attributes
    ----------
    genre : str
    reference : float
        Share that was asked for, 0 to 1; 0 where the reference has no such genre.
    songs_before, songs_after : int
    hours_before, hours_after : float
    """

    genre: str
    reference: float
    songs_before: int
    songs_after: int
    hours_before: float
    hours_after: float


@dataclass(frozen=True)
class Balance:
    """A part of a corpus that is distributed like a reference.

    Attributes
    ----------
    kept : tuple of str
        Ids of the songs, ascending.
    genres : tuple of GenreBalance
        One for each genre of the corpus, by name.
    limiting : str
        The genre of which there is least for its share: more of it would let more of all others in.
    dropped : tuple of str
        Genres that the reference has and the corpus has not, left out of the reference.
    """

    kept: tuple[str, ...]
    genres: tuple[GenreBalance, ...]
    limiting: str
    dropped: tuple[str, ...] = ()

    @property
    def hours_before(self) -> float:
        """Hours of the corpus."""
        return math.fsum(genre.hours_before for genre in self.genres)

    @property
    def hours_after(self) -> float:
        """Hours of the songs kept."""
        return math.fsum(genre.hours_after for genre in self.genres)


def distribution(songs: pd.DataFrame, by: Unit = "hours") -> pd.Series[float]:
    """Share of each genre in a corpus.

    Parameters
    ----------
    songs : pd.DataFrame
        Columns ``song_id``, ``genre`` and ``seconds``.
    by : {'hours', 'songs'}
        What is shared out.

    Returns
    -------
    pd.Series of float
        ``share``, indexed by genre in ascending order; sums to 1.

    Raises
    ------
    TableError
        If there are no songs, a column is missing, ids are null or there twice, or a length is not above 0.
    """
    corpus = _Corpus.of(songs)
    amount = corpus.amounts(by)
    return pd.Series(amount / amount.sum(), index=pd.Index(corpus.genres, name="genre", dtype="str"), name="share")


def choose_songs(songs: pd.DataFrame, reference: Reference, *, seed: int, missing: Missing = "error") -> Balance:
    """Choose songs such that their hours are distributed over genres like a reference, and as many as can be.

    Parameters
    ----------
    songs : pd.DataFrame
        Columns ``song_id``, ``genre`` and ``seconds``, in any order.
    reference : mapping of str to float, pd.Series of float or 'uniform'
        Genre to its share.
    seed : int
        Of the order in which songs of a genre are taken.
    missing : {'error', 'drop'}
        What to do about a genre of the reference of which there is no song: refuse, or scale up the others. The
        result names those left out.

    Returns
    -------
    Balance
        Each genre has its share of the most hours possible, to half of the longest of its songs.

    Raises
    ------
    RecipeError
        If the reference is empty, has a share that is no number from 0 to 1, does not sum to 1 (to 1e-6), or has
        a genre that the songs have not; nothing of it remains; or it is 'uniform' and no song has a genre.
    TableError
        As for `distribution`.
    """
    corpus = _Corpus.of(songs)
    shares, dropped = _resolved(reference, corpus, missing)
    time = corpus.amounts("hours")
    limits = [amount / share if share > 0 else math.inf for amount, share in zip(time, shares, strict=True)]
    limiting = int(np.argmin(limits))

    order = np.lexsort((unit_hash(corpus.ids, seed), corpus.genre_of))
    ends = np.searchsorted(corpus.genre_of[order], np.arange(len(time)), side="right")
    kept_rows, genres = [], []
    for genre, (rows, share) in enumerate(zip(np.split(order, ends[:-1]), shares, strict=True)):
        # Songs that are at least half within the budget.
        until = np.cumsum(corpus.size[rows])
        budget = share * limits[limiting]
        kept = rows[until - corpus.size[rows] / 2 <= budget] if share > 0 else rows[:0]
        kept_rows.append(kept)
        hours = float(corpus.size[kept].sum()) / 3.6e6
        genres.append(
            GenreBalance(corpus.genres[genre], share, len(rows), len(kept), float(time[genre]) / 3.6e6, hours)
        )
    kept = np.sort(np.concatenate(kept_rows))
    log.info("%d of %d songs kept; '%s' is the limit", len(kept), len(corpus.ids), corpus.genres[limiting])
    return Balance(tuple(corpus.ids[kept].tolist()), tuple(genres), corpus.genres[limiting], dropped)


def song_weights(
    songs: pd.DataFrame, reference: Reference, *, by: Unit = "songs", missing: Missing = "error"
) -> pd.Series[float]:
    """Weights with which all songs together are distributed like a reference; none needs to be left out.

    Songs of a genre weigh the same: its share in the reference over its share in the corpus.

    Parameters
    ----------
    songs : pd.DataFrame
        Columns ``song_id``, ``genre`` and ``seconds``, in any order.
    reference : mapping of str to float, pd.Series of float or 'uniform'
        As for `choose_songs`.
    by : {'songs', 'hours'}
        What is drawn with these weights: songs, of which each gives one clip (sums of the weights by genre are
        distributed like the reference), or moments (sums of weight times length are).
    missing : {'error', 'drop'}
        As for `choose_songs`; what is left out is logged.

    Returns
    -------
    pd.Series of float
        ``weight``, at least 0, indexed by song id in ascending order; the mean (over songs, or over time) is 1.
        Songs of a genre that the reference has not weigh 0.

    Raises
    ------
    RecipeError, TableError
        As for `choose_songs`.
    """
    corpus = _Corpus.of(songs)
    shares, _ = _resolved(reference, corpus, missing)
    amount = corpus.amounts(by)
    weights = np.array(shares) / (amount / amount.sum())
    index = pd.Index(corpus.ids, name="song_id", dtype="str")
    return pd.Series(weights[corpus.genre_of], index=index, name="weight")


def unit_hash(keys: Iterable[str], seed: int) -> Floats:
    """A number in [0, 1) for each key, which depends on nothing but the key and the seed.

    Numbers of different keys are as good as independent and uniform. They are part of the format: the same on every
    machine and in every version, so that a corpus can be split again.

    Parameters
    ----------
    keys : iterable of str [shape=(keys,)]
    seed : int

    Returns
    -------
    np.ndarray of float64 [shape=(keys,)]
        The upper 53 bits of the 64-bit BLAKE2b digest of ``seed/key``, read as big-endian, times 2 to the -53.
    """
    start = hashlib.blake2b(f"{seed}/".encode(), digest_size=8)
    digests = bytearray()
    for key in keys:
        digest = start.copy()
        digest.update(key.encode())
        digests += digest.digest()
    return (np.frombuffer(digests, dtype=">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def checked_shares(shares: Mapping[str, object], what: str) -> dict[str, float]:
    """Shares by name, ascending, scaled to sum to 1 to the last digit, or a RecipeError that says what is wrong."""
    if not shares:
        raise RecipeError(f"{what}: is empty; give names and shares that sum to 1")
    numbers = {}
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= float(share) <= 1 + _TOLERANCE:
            raise RecipeError(f"{what}: the share of '{name}' is {share!r}; expected a number from 0 to 1")
        numbers[name] = float(share)
    total = math.fsum(numbers.values())
    if abs(total - 1) > _TOLERANCE:
        listed = ", ".join(f"{name} {share:g}" for name, share in numbers.items())
        raise RecipeError(f"{what}: the shares ({listed}) sum to {total:.9g}; make them sum to 1")
    return {name: numbers[name] / total for name in sorted(numbers)}


def milliseconds(seconds: pd.Series[Any]) -> Floats:
    """Lengths in whole milliseconds, at least 1: their sums are exact, and so do not depend on the order."""
    lengths: Floats = np.maximum(np.rint(seconds.to_numpy(dtype=np.float64) * 1000), 1.0)
    return lengths


@dataclass(frozen=True)
class _Corpus:
    """Songs by ascending id.

    Attributes
    ----------
    ids : np.ndarray of str [shape=(songs,)]
    size : np.ndarray of float64 [shape=(songs,)]
        Milliseconds.
    genres : list of str
        Ascending.
    genre_of : np.ndarray of int64 [shape=(songs,)]
        The genre of every song.
    """

    ids: npt.NDArray[np.object_]
    size: Floats
    genres: list[str]
    genre_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, songs: pd.DataFrame) -> _Corpus:
        frame = by_song_id(songs, "genre", "seconds")
        if frame.empty:
            raise TableError("songs: there are none, so that no genre has a share; give a corpus that has songs")
        genre_of, genres = pd.factorize(frame["genre"].astype(object).fillna(UNKNOWN), sort=True)
        ids = frame.index.to_numpy(dtype=object)
        return cls(ids, milliseconds(frame["seconds"]), list(genres), genre_of.astype(np.int64))

    def amounts(self, by: Unit) -> Floats:
        """Milliseconds or songs of each genre."""
        if by not in ("hours", "songs"):
            raise ValueError(f"by is {by!r}; expected 'hours' or 'songs'")
        return np.bincount(self.genre_of, weights=self.size if by == "hours" else None).astype(np.float64)


def _resolved(reference: Reference, corpus: _Corpus, missing: Missing) -> tuple[list[float], tuple[str, ...]]:
    """The reference's share of each genre of the corpus, and the genres that were dropped from it."""
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is {missing!r}; expected 'error' or 'drop'")
    if isinstance(reference, str):
        shares = _uniform(reference, corpus.genres)
    else:
        shares = checked_shares({str(genre): share for genre, share in reference.items()}, "reference")
    absent = sorted(genre for genre, share in shares.items() if share > 0 and genre not in corpus.genres)
    if absent and missing == "error":
        raise RecipeError(
            f"reference: no song has the genre '{absent[0]}'{did_you_mean(absent[0], corpus.genres)}"
            + (f", nor {', '.join(absent[1:])}" if absent[1:] else "")
            + f"; the songs have {', '.join(corpus.genres)}; take it out, or drop it (missing='drop')"
        )
    kept = {genre: share for genre, share in shares.items() if share > 0 and genre not in absent}
    if not kept:
        raise RecipeError(f"reference: no song has any of its genres ({', '.join(absent)}); give another reference")
    if absent:
        log.warning("the reference has genres that no song has, which are left out: %s", ", ".join(absent))
    total = math.fsum(kept.values())
    return [kept.get(genre, 0.0) / total for genre in corpus.genres], tuple(absent)


def _uniform(reference: str, genres: list[str]) -> dict[str, float]:
    if reference != "uniform":
        raise RecipeError(f"reference: is {reference!r}; expected genres and their shares, or 'uniform'")
    named = [genre for genre in genres if genre not in (OTHER, UNKNOWN)]
    if not named:
        raise RecipeError("reference: 'uniform' needs songs with a genre, and none has one; give their genres")
    return dict.fromkeys(named, 1 / len(named))
