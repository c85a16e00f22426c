"""Recordings that are in two splits, in an external test set, or in the corpus twice.

Conventions
-----------
Fingerprints are those of `curation.chromaprint`, by song id and stem. Stems of one song are never compared with
each other: they share their music on purpose. Give mixtures, or mixtures and instrumentals; single stems, such as
drums, may share a loop of a sample library without being one recording. Offsets and bit error rates are those of
`curation.matching`.

How it works
------------
Two prints are compared if at least two of their items are equal at one offset. With three, the best rate over at
least half of the shorter print counts, or else the rate at the offset itself, if 10 s or more are in common there
(two excerpts that overlap). With two or more, any 10 s at the offset count: a jingle, a sample, a medley. Silence
counts nowhere, and what holds fewer than a dozen different items (tones, beeps, hum) matches nothing.

Thresholds
----------
Measured on 300 rendered releases of 90 songs (codecs, masters, edits, drift), about 14,000 unrelated pairs:

============================================  =====================================
two releases of one mixture                   0.00 to 0.03, remastered to 0.10
a mixture and its instrumental                0.07 to 0.39, median 0.24
live versions, other takes                    0.28 to 0.44
covers, unrelated songs                       above 0.43, some repetitive ones less
============================================  =====================================

All 249 pairs of releases of one take agree in three items or more, and so do 14 of the unrelated pairs, of which 4
are below 0.38. So `find_leaks` goes up to `curation.matching.MAX_BIT_ERROR_RATE`: a missed leak costs more than a
song that is moved in vain. It does not look for covers. `find_duplicates` stops at `MAX_DUPLICATE_ERROR_RATE`: the
same audio, whatever the codec and the master. (A mixture with little singing and its instrumental are then the same
audio, too.)

Excerpts have to be the same audio in either case, since 10 s of other songs with the same chords and samples come
near: 0.126 was the lowest of about 10,000 unrelated pairs. Of 344 excerpts (another codec, master, equaliser and
level, pasted anywhere into an unrelated song), 96 % are found of 10 s, 98 % of 12 s and of 15 s, and no unrelated
pair is reported (`benchmarks/leaks.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.chromaprint import SILENCE, Fingerprint
from curation.matching import MAX_BIT_ERROR_RATE, Match, best_match, join_candidates
from manifests.errors import RecipeError, TableError

__all__ = ["DUPLICATE_OVERLAP", "EXTERNAL", "MAX_DUPLICATE_ERROR_RATE", "find_duplicates", "find_leaks"]

EXTERNAL = "external"
"""What the external set is called as a split."""
MAX_DUPLICATE_ERROR_RATE = 0.12
DUPLICATE_OVERLAP = 0.15
"""Songs that share less of the shorter one share a sample or a jingle: one is no copy of the other. Radio edits,
where bars are missing, share 17 % and more with their songs in one piece; an a cappella and a remix shared 9 %."""

_MIN_VOTES, _VOTES_OF_A_WHOLE = 2, 3
_OFFSETS_PER_PAIR = 3
_LEAST_OVERLAP_ITEMS = 81
# 10 s have 59 items that hear nothing else, of which the first and the last ones suffer most from a cut.
_EXCERPT_ITEMS = 48
_LEAST_DIFFERENT_ITEMS = 12
_BITS = 32

Key = tuple[str, str]
Floats = npt.NDArray[np.float64]


def find_leaks(
    prints: Mapping[Key, Fingerprint],
    splits: Mapping[str, str | None],
    external: Mapping[str, Fingerprint] | None = None,
    *,
    max_bit_error_rate: float = MAX_BIT_ERROR_RATE,
    sample_one_in: int = 1,
) -> pd.DataFrame:
    """Songs of one split that are nearly the same as songs of another, or of an external set.

    Parameters
    ----------
    prints : mapping of (song_id, stem) to np.ndarray of uint32 [shape=(items,)]
    splits : mapping of str to str or None
        Split of every song; a song with None belongs to none and can leak into the external set only.
    external : mapping of str to np.ndarray of uint32 [shape=(items,)], optional
        A test set that the corpus must not contain, by any ids.
    max_bit_error_rate : float
        Of whole songs, 0 to 0.5; excerpts have at most `MAX_DUPLICATE_ERROR_RATE`.
    sample_one_in : int
        Look for equal items among one in this many, for corpora that exceed the memory; see
        `curation.matching.join_candidates`. Fewer leaks are found.

    Returns
    -------
    pd.DataFrame
        song_a, stem_a, split_a, song_b, stem_b, split_b, votes, offset_items, overlap_items (of what is shared),
        overlap_fraction (of the shorter print),
        bit_error_rate; the lowest rate first, a row per two prints. For the external set, song_b is its id, stem_b
        null and split_b `EXTERNAL`.

    Raises
    ------
    TableError
        If a song with a fingerprint has no entry in `splits`, or a split is named `EXTERNAL`.
    RecipeError
        If a setting is out of range.
    ValueError
        If a fingerprint is not one-dimensional uint32.
    """
    keys: list[tuple[str, str | None]] = list(prints)
    missing = sorted({song for song, _ in keys} - set(splits))
    if missing:
        raise TableError(
            f"leaks: {len(missing)} songs have a fingerprint and no split (first: '{missing[0]}'); "
            "assign splits to all of them"
        )
    split_of = [splits[song] for song, _ in keys]
    if EXTERNAL in split_of:
        raise TableError(
            f"leaks: song '{keys[split_of.index(EXTERNAL)][0]}' is in a split named '{EXTERNAL}', the name of "
            "the external set; rename the split"
        )
    others = dict(external or {})
    keys += [(name, None) for name in others]
    split_of += [EXTERNAL] * len(others)
    code = pd.factorize(np.array(split_of, dtype=object))[0]  # -1 for none
    is_external = np.arange(len(keys)) >= len(prints)

    pairs = _candidates([*prints.values(), *others.values()], sample_one_in)
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    assigned = (code[a] >= 0) & (code[b] >= 0)
    pairs = pairs[(code[a] != code[b]) & (assigned | is_external[b]) & ~(is_external[a] & is_external[b])]
    return _near(keys, [*prints.values(), *others.values()], pairs, max_bit_error_rate, split_of)


def find_duplicates(
    prints: Mapping[Key, Fingerprint],
    *,
    max_bit_error_rate: float = MAX_DUPLICATE_ERROR_RATE,
    sample_one_in: int = 1,
) -> pd.DataFrame:
    """Songs that hold the same audio, or an excerpt of it.

    Parameters
    ----------
    prints : mapping of (song_id, stem) to np.ndarray of uint32 [shape=(items,)]
    max_bit_error_rate : float
        0 to 0.5.
    sample_one_in : int
        As for `find_leaks`.

    Returns
    -------
    pd.DataFrame
        song_a, stem_a, song_b, stem_b, votes, offset_items, overlap_items, overlap_fraction (of the shorter
        print: below `DUPLICATE_OVERLAP` it is an excerpt that both have), bit_error_rate; the lowest rate first, a
        row per two prints of different songs.

    Raises
    ------
    RecipeError
        If a setting is out of range.
    ValueError
        If a fingerprint is not one-dimensional uint32.
    """
    pairs = _candidates(list(prints.values()), sample_one_in)
    return _near(list(prints), list(prints.values()), pairs, max_bit_error_rate, None)


def _candidates(prints: Sequence[Fingerprint], sample_one_in: int) -> pd.DataFrame:
    """Pairs worth a comparison, as positions: columns a, b (``a < b``), votes, offset_items; most votes first."""
    if sample_one_in < 1:
        raise RecipeError(f"leaks: sample_one_in is {sample_one_in}, expected at least 1")
    # Ids of one width are in the order of the positions.
    named = ((f"{position:012d}", items) for position, items in enumerate(prints))
    pairs = join_candidates(
        named, min_votes=_MIN_VOTES, max_offsets_per_pair=_OFFSETS_PER_PAIR, sample_one_in=sample_one_in
    )
    return pairs.astype({"a": np.int64, "b": np.int64})


def _near(
    keys: Sequence[tuple[str, str | None]],
    prints: Sequence[Fingerprint],
    pairs: pd.DataFrame,
    max_bit_error_rate: float,
    split_of: Sequence[str | None] | None,
) -> pd.DataFrame:
    """The pairs of different songs whose prints match."""
    if not 0.0 <= max_bit_error_rate <= 0.5:
        raise RecipeError(f"leaks: max_bit_error_rate is {max_bit_error_rate}, expected 0 to 0.5")
    offsets: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b, votes, offset in zip(*(pairs[key].tolist() for key in pairs.columns), strict=True):
        if keys[a][0] != keys[b][0] or None in (keys[a][1], keys[b][1]):
            offsets.setdefault((a, b), []).append((votes, offset))
    found: list[tuple[int, int, int, Match]] = []
    for (a, b), voted in offsets.items():
        match = _match(prints[a], prints[b], voted, max_bit_error_rate)
        if match is not None:
            found.append((a, b, voted[0][0], match))
    found.sort(key=lambda row: (row[3].bit_error_rate, row[0], row[1]))

    columns: dict[str, Any] = {}
    for name, places in (("a", [row[0] for row in found]), ("b", [row[1] for row in found])):
        columns[f"song_{name}"] = pd.array([keys[place][0] for place in places], dtype=pd.StringDtype())
        columns[f"stem_{name}"] = pd.array([keys[place][1] for place in places], dtype=pd.StringDtype())
        if split_of is not None:
            columns[f"split_{name}"] = pd.array([split_of[place] for place in places], dtype=pd.StringDtype())
    columns["votes"] = np.array([row[2] for row in found], dtype=np.int64)
    columns["offset_items"] = np.array([row[3].offset_items for row in found], dtype=np.int64)
    columns["overlap_items"] = np.array([row[3].overlap_items for row in found], dtype=np.int64)
    shorter = [min(len(prints[a]), len(prints[b])) for a, b, *_ in found]
    columns["overlap_fraction"] = columns["overlap_items"] / np.maximum(np.array(shorter, dtype=np.int64), 1)
    columns["bit_error_rate"] = np.array([row[3].bit_error_rate for row in found], dtype=np.float64)
    return pd.DataFrame(columns)


def _match(
    a: Fingerprint, b: Fingerprint, voted: Sequence[tuple[int, int]], max_bit_error_rate: float
) -> Match | None:
    """How two prints match, given the votes and offsets of their equal items, the most votes first."""
    whole = _whole(a, b, *voted[0], max_bit_error_rate)
    if whole is not None and whole.bit_error_rate <= MAX_DUPLICATE_ERROR_RATE:
        return whole
    # An excerpt that is the same audio says more than wholes that are alike.
    excerpts = (_excerpt(*_aligned(a, b, offset), offset, max_bit_error_rate) for _, offset in voted)
    return next(filter(None, excerpts), whole)


def _whole(a: Fingerprint, b: Fingerprint, votes: int, offset: int, max_bit_error_rate: float) -> Match | None:
    """How two prints match over at least half of the shorter one, or else wherever they overlap at an offset."""
    if votes < _VOTES_OF_A_WHOLE or min(map(_num_different, (a, b))) < _LEAST_DIFFERENT_ITEMS:
        return None
    match = best_match(a, b)
    if match is not None and match.bit_error_rate <= max_bit_error_rate:
        return match
    _, errors = _aligned(a, b, offset)
    if len(errors) < _LEAST_OVERLAP_ITEMS or errors.mean() > max_bit_error_rate:
        return None
    return Match(offset, float(errors.mean()), len(errors))


def _excerpt(items: Fingerprint, errors: Floats, offset: int, max_bit_error_rate: float) -> Match | None:
    """The longest stretch around the best 10 s that is the same audio, or None where these are not."""
    if len(errors) < _EXCERPT_ITEMS:
        return None
    limit = min(max_bit_error_rate, MAX_DUPLICATE_ERROR_RATE)
    sums = np.concatenate([[0.0], np.cumsum(errors)])
    start = int(np.argmin(sums[_EXCERPT_ITEMS:] - sums[:-_EXCERPT_ITEMS]))
    end = start + _EXCERPT_ITEMS
    is_same = sums[end] - sums[start] <= limit * _EXCERPT_ITEMS
    if not is_same or _num_different(items[start:end]) < _LEAST_DIFFERENT_ITEMS:
        return None
    # What lies beyond is added as long as that keeps the rate below the limit.
    gains = np.arange(len(sums)) * limit - sums
    start, end = int(np.argmin(gains[: start + 1])), end + int(np.argmax(gains[end:]))
    return Match(offset, float(sums[end] - sums[start]) / (end - start), end - start)


def _aligned(a: Fingerprint, b: Fingerprint, offset: int) -> tuple[Fingerprint, Floats]:
    """Items of a that go with an item of b at an offset, neither of them silent, and their bit error rates."""
    first, end = max(0, -offset), max(0, -offset, min(len(a), len(b) - offset))
    one, other = a[first:end], b[first + offset : end + offset]
    heard = (one != SILENCE) & (other != SILENCE)
    return one[heard], np.bitwise_count(one[heard] ^ other[heard]) / _BITS


def _num_different(items: Fingerprint) -> int:
    return len(np.unique(items[items != SILENCE]))
