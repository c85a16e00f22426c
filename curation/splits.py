"""Training, validation and test: every song in one split, and every artist too.

Groups (`curation.artists.artist_groups`) are dealt, never songs, so that no group is in two splits. They are dealt
in the order of a hash of their ids (`curation.balance.unit_hash`), which depends neither on the order of the rows
nor on which other groups there are.

Pins
----
Some songs are placed beforehand, and their whole groups with them: those that `fixed` names, those whose ``split``
is in `keep` (the test set of an imported corpus), and those in `previous`, an earlier assignment. All pins are
equal. Where two of them want one group in two splits, nothing is guessed: the error names both songs.

What stays where it is when songs are added
-------------------------------------------
=====================================  =============================================================================
with `previous`                        everybody, whatever else is asked for; new groups fill up what splits lack
`shares`, ``stratify=False``           everybody whose group keeps its id: a group's hash alone says where it goes
`shares` (stratified), or `hours`      not guaranteed: the cut moves, and with it groups whose hash is near it
=====================================  =============================================================================

So a corpus that grows passes its earlier assignment as `previous`. A new song may join two groups that were apart
(a duet of their artists). If both are in one split, nothing happens. If not, one of them would have to move, which
is an error that names songs of both; leave the new song out, or one side's songs out of `previous`. Without
`previous`, the joined group goes where its id says.

How well the shares are met
---------------------------
Stratified, and with hours: in total within half a group, and the largest split takes what is left; in each genre
as well as the total and whole groups allow. A group too large for what a split still lacks is left to a larger
split, so that the large group which collaborations make of a catalogue is no test set. Unstratified shares are
met on average only: with n equal groups the share p of a split has the standard deviation sqrt(p (1 - p) / n), and
a large group may land anywhere.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.artists import by_song_id
from curation.balance import checked_shares, milliseconds, unit_hash
from curation.pins import pinned_splits
from manifests.errors import RecipeError, TableError
from manifests.imports.musdb18 import VALIDATION_TRACKS

__all__ = ["MUSDB18_VALIDATION", "assign_splits"]

MUSDB18_VALIDATION = VALIDATION_TRACKS
"""The songs of MUSDB18's training set that its authors set aside for validation (``mus.yaml`` of `musdb`).

Some of their artists have other songs in the training set; `assign_splits` takes those to validation as well.
"""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

_REST = "train"


def assign_splits(
    songs: pd.DataFrame,
    groups: pd.Series[str],
    shares: Mapping[str, float] | None = None,
    *,
    hours: Mapping[str, float] | None = None,
    seed: int,
    fixed: Mapping[str, str] | None = None,
    previous: pd.Series[Any] | Mapping[str, str] | None = None,
    keep: Collection[str] = ("test",),
    stratify: bool = True,
    missing: Literal["error", "drop"] = "error",
) -> pd.Series[str]:
    """Place every song in a split, every group in one.

    Parameters
    ----------
    songs : pd.DataFrame
        Columns ``song_id`` and ``seconds``; ``genre`` to stratify (null is a stratum as well), ``split`` for
        `keep`, ``artist`` and ``title`` for the names in `fixed`.
    groups : pd.Series of str
        Group of every song, indexed by song id; songs that are not in `songs` do not matter.
    shares : mapping of str to float, optional
        Split to its share of the hours, 0 to 1, summing to 1 (to 1e-6). Either this or `hours`.
    hours : mapping of str to float, optional
        Split to its hours, above 0; what remains is ``train``.
    seed : int
        Of the order in which groups are dealt.
    fixed : mapping of str to str, optional
        Names of songs to splits: a song id, ``Artist - Title``, or a title that one group has; case, accents and
        punctuation do not count. ``dict.fromkeys(MUSDB18_VALIDATION, "validation")`` is MUSDB18's own list.
    previous : pd.Series or mapping of str to str, optional
        Song id to split, of an earlier assignment; nulls, and songs that are no more, do not matter.
    keep : collection of str
        Songs whose ``split`` is one of these stay there; ``()`` releases them all.
    stratify : bool
        Meet the shares in every genre.
    missing : {'error', 'drop'}
        What to do about a name in `fixed` that no song has: refuse, or log it and go on.

    Returns
    -------
    pd.Series of str
        ``split``, indexed by song id in ascending order.

    Raises
    ------
    RecipeError
        If shares or hours are none, both, out of range, or more than there is; if a split that is asked for gets no
        group (one artist cannot fill two); if a fixed name has no song or several; if a split is not known; if
        two pins contradict each other.
    TableError
        If a column or a song's group is missing, ids are null or there twice, or a length is not above 0.
    """
    if isinstance(keep, str) or missing not in ("error", "drop"):
        raise ValueError(f"keep is {keep!r}, missing {missing!r}; expected several splits, and 'error' or 'drop'")
    frame = by_song_id(songs, "seconds", *(["genre"] if stratify else []))
    plan, by_hours = _plan(shares, hours)
    known = {*plan, *keep}
    dealt = _groups(frame, groups, seed, stratify)
    pinned = pinned_splits(
        frame,
        dealt.of_song,
        dealt.names,
        known=known,
        keep=keep,
        previous=previous,
        fixed=fixed or {},
        missing=missing,
    )
    wanted = _wanted(plan, by_hours, dealt, pinned)
    _warn_if_overfull(dealt, pinned, wanted)
    by_hash_alone = not (stratify or by_hours)
    split_of = _drawn(dealt, pinned, plan) if by_hash_alone else _dealt(dealt, pinned, wanted)
    empty = sorted(split for split in plan if wanted[split] > 0 and split not in split_of)
    if empty:
        raise RecipeError(
            f"splits: {', '.join(empty)} would get none of the {len(dealt.names)} artist groups, of which "
            f"{pinned.count(None)} are free to go anywhere, and a group is never in two splits; add songs of other "
            f"artists, or ask for fewer splits{', or stratify' if by_hash_alone else ''}"
        )
    split = np.array(split_of, dtype=object)[dealt.of_song]
    return pd.Series(split, index=frame.index, name="split", dtype="str")


def _plan(shares: Mapping[str, float] | None, hours: Mapping[str, float] | None) -> tuple[dict[str, float], bool]:
    """What each split is to have, as shares or as hours (those of the rest are 0 here), and whether it is hours."""
    if (shares is None) == (hours is None):
        raise RecipeError("splits: give either shares or hours, and not both")
    if shares is not None:
        return checked_shares(shares, "splits"), False
    assert hours is not None
    numbers: Mapping[str, object] = hours
    if not hours or _REST in hours:
        raise RecipeError(f"splits: hours are those of the other splits; '{_REST}' gets what remains")
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise RecipeError(f"splits: the hours of '{name}' are {value!r}; expected a number above 0")
    return {name: float(value) for name, value in sorted({**hours, _REST: 0.0}.items())}, True


@dataclass(frozen=True)
class _Groups:
    """What is dealt: groups in the order of their ids, and their parts, a group's songs of one genre.

    Attributes
    ----------
    names : list of str
    draw : np.ndarray of float64 [shape=(groups,)]
        Hash of the id, [0, 1).
    size : np.ndarray of float64 [shape=(groups,)]
        Milliseconds.
    of_song : np.ndarray of int64 [shape=(songs,)]
        The group of every song.
    of_part : np.ndarray of int64 [shape=(parts,)]
        The group of every part, ascending.
    part_genre : np.ndarray of int64 [shape=(parts,)]
        The genre, from 0; only 0 when not stratified.
    part_size : np.ndarray of float64 [shape=(parts,)]
        Milliseconds.
    """

    names: list[str]
    draw: Floats
    size: Floats
    of_song: Ints
    of_part: Ints
    part_genre: Ints
    part_size: Floats


def _groups(frame: pd.DataFrame, groups: pd.Series[str], seed: int, stratify: bool) -> _Groups:
    if not groups.index.is_unique:
        raise TableError("groups: a song is there twice; make the groups again")
    ids = groups.reindex(frame.index)
    lost = ids.index[ids.isna()]
    if len(lost):
        raise TableError(f"groups: {len(lost)} songs have none (first: {lost[0]!r}); make the groups again")
    of_song, names = pd.factorize(ids, sort=True)
    of_song, song_size = of_song.astype(np.int64), milliseconds(frame["seconds"])
    song_genre = np.zeros(len(frame), dtype=np.int64)
    if stratify:
        song_genre = pd.factorize(frame["genre"], sort=True, use_na_sentinel=False)[0].astype(np.int64)
    genres = song_genre.max(initial=0) + 1
    parts, part_of_song = np.unique(of_song * genres + song_genre, return_inverse=True)
    return _Groups(
        names=names.tolist(),
        draw=unit_hash(names, seed),
        size=np.bincount(of_song, weights=song_size, minlength=len(names)).astype(np.float64),
        of_song=of_song,
        of_part=parts // genres,
        part_genre=parts % genres,
        part_size=np.bincount(part_of_song, weights=song_size, minlength=len(parts)).astype(np.float64),
    )


def _wanted(
    plan: Mapping[str, float], by_hours: bool, groups: _Groups, pinned: Sequence[str | None]
) -> dict[str, float]:
    """Milliseconds that each split is to have, of the songs that are in one of them."""
    total = float(groups.size[[split is None or split in plan for split in pinned]].sum())
    if not by_hours:
        return {split: share * total for split, share in plan.items()}
    wanted = {split: hours * 3.6e6 for split, hours in plan.items()}
    wanted[_REST] = total - math.fsum(wanted.values())
    if wanted[_REST] <= 0:
        listed = ", ".join(f"{split} {hours:g}" for split, hours in plan.items() if split != _REST)
        raise RecipeError(
            f"splits: hours ({listed}) leave nothing of {total / 3.6e6:.3g} to '{_REST}'; ask for fewer"
        )
    return wanted


def _warn_if_overfull(groups: _Groups, pinned: Sequence[str | None], wanted: Mapping[str, float]) -> None:
    """Log where songs that were placed beforehand, with all that share an artist with them, are far too many."""
    for split, goal in wanted.items():
        there = float(groups.size[[pin == split for pin in pinned]].sum())
        if there > 2 * goal:
            log.warning(
                "split '%s' has %.3g h of songs placed beforehand and of those that share an artist with them; "
                "%.3g h were asked for",
                split,
                there / 3.6e6,
                goal / 3.6e6,
            )


def _drawn(groups: _Groups, pinned: Sequence[str | None], shares: Mapping[str, float]) -> list[str | None]:
    """Each group where its own hash says, and nothing else."""
    names, bounds = list(shares), np.cumsum(list(shares.values()))
    places = np.searchsorted(bounds[:-1] / bounds[-1], groups.draw, side="right").tolist()
    return [split or names[place] for split, place in zip(pinned, places, strict=True)]


def _dealt(groups: _Groups, pinned: Sequence[str | None], wanted: Mapping[str, float]) -> list[str | None]:
    """Groups dealt in the order of their hashes to the splits that lack something, the smallest split first."""
    splits = list(wanted)
    owed = _owed(groups, pinned, wanted)
    deck = [group for group in np.argsort(groups.draw, kind="stable").tolist() if pinned[group] is None]
    place, sizes = list(pinned), groups.size.tolist()
    *smaller, largest = sorted(range(len(splits)), key=lambda at: (owed[at].sum(), splits[at]))
    for at in smaller:
        _take(groups, deck, place, splits[at], owed[at].tolist())
    place = [split or splits[largest] for split in place]
    for at in smaller:
        if owed[at].any() and splits[at] not in place:
            # Every group was too large: better the smallest of those that another split can spare than none.
            counts = Counter(place)
            spare = [group for group in deck if counts[place[group]] > 1]
            if spare:
                place[min(spare, key=sizes.__getitem__)] = splits[at]
    return place


def _owed(groups: _Groups, pinned: Sequence[str | None], wanted: Mapping[str, float]) -> Floats:
    """Milliseconds of free songs that each split is to get of each genre [shape=(splits, genres)].

    In total what a split lacks besides its pinned songs, in proportion to what it lacks of each genre.
    """
    number = {None: 0} | {split: at for at, split in enumerate(wanted, start=1)}
    split_of_part = np.array([number.get(split, -1) for split in pinned], dtype=np.int64)[groups.of_part]
    genres = groups.part_genre.max(initial=0) + 1
    has = np.zeros((len(number), genres))
    for at in range(len(number)):
        there = split_of_part == at
        has[at] = np.bincount(groups.part_genre[there], weights=groups.part_size[there], minlength=genres)
    free, pins, goals = has[0], has[1:], np.array(list(wanted.values()))
    lacking = np.maximum(goals - pins.sum(axis=1), 0)
    lacking *= free.sum() / max(lacking.sum(), 1)
    of_genre = has.sum(axis=0) / max(has.sum(), 1)
    owed: Floats = np.maximum(np.outer(goals, of_genre) - pins, 0)
    owed *= (lacking / np.maximum(owed.sum(axis=1), 1))[:, None]
    return owed


def _take(groups: _Groups, deck: Sequence[int], place: list[str | None], split: str, owed: list[float]) -> None:
    """Give a split free groups until it has, as nearly as they allow, what it is owed.

    First those, in the order of the deck, that bring it nearer in total and in every genre they have. Then, since
    groups have several genres and small genres may have no group that is small enough, those that bring it nearer
    in total, always the one that harms the genres least: a genre's error counts by its square over the genre's
    size, as in the chi-squared statistic.
    """
    sizes, part_genre, part_size = groups.size.tolist(), groups.part_genre.tolist(), groups.part_size.tolist()
    starts = np.searchsorted(groups.of_part, np.arange(len(sizes) + 1)).tolist()
    weights = (1 / np.maximum(np.bincount(groups.part_genre, weights=groups.part_size), 1)).tolist()
    rest = math.fsum(owed)

    def parts(group: int) -> list[tuple[int, float]]:
        return [(part_genre[at], part_size[at]) for at in range(starts[group], starts[group + 1])]

    def harm(group: int) -> float:
        added = math.fsum((size - 2 * owed[genre]) * size * weights[genre] for genre, size in parts(group))
        return added / float(sizes[group])

    def take(group: int) -> None:
        nonlocal rest
        place[group] = split
        rest -= sizes[group]
        for genre, size in parts(group):
            owed[genre] -= size

    for group in deck:
        if rest <= 0:
            return
        if (
            place[group] is None
            and sizes[group] < 2 * rest
            and all(size < 2 * owed[genre] for genre, size in parts(group))
        ):
            take(group)
    heap = [
        (harm(group), at, group)
        for at, group in enumerate(deck)
        if place[group] is None and sizes[group] < 2 * rest
    ]
    heapq.heapify(heap)
    while heap and rest > 0:
        _, at, group = heapq.heappop(heap)
        if sizes[group] >= 2 * rest:
            continue
        # What was taken since has made it more harmful, never less: the first that still leads is the best of all.
        place_in_line = (harm(group), at, group)
        if heap and place_in_line > heap[0]:
            heapq.heappush(heap, place_in_line)
        else:
            take(group)
