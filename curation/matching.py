"""Which fingerprints hold the same recording, and at what offset.

Conventions
-----------
Fingerprints are those of `curation.chromaprint`: uint32, shape ``(items,)``. The offset of a pair (a, b)
says that ``a[i]`` goes with ``b[i + offset_items]``; swapping a and b negates it. With a mixture as a and
its instrumental as b, ``offset_items * HOP_FRAMES * sample_rate / SAMPLE_RATE`` is the lag in frames, to
about one item.

The bit error rate is the fraction of the 32 bits that differ, 0 to 1, averaged over the items that overlap.
Items of silence (`curation.chromaprint.SILENCE`) are evidence of nothing: an overlap counts only the pairs
of items in which neither is silent, otherwise any two files that start with silence would match.

What to expect: unrelated recordings reach 0.43 at their best offset (less where only a part overlaps), a
mixture and its instrumental 0.18 to 0.36, depending on how loud the vocals are; MAX_BIT_ERROR_RATE lies
between. Songs that repeat themselves, and other versions of one song, reach low rates too: take several
offsets from `best_matches`, and let the waveforms decide. Where the speeds differ by 0.5 % or more, no single
offset fits, and `window_matches` finds one per window.

How pairs are found: `join_candidates` looks for items that are equal in all their bits, of which the
moments without vocals give enough, and counts how many agree on one offset. Only these pairs need the bit
error rate.

References
----------
Haitsma, Kalker, "A highly robust audio fingerprinting system", ISMIR 2002: bit error rate, exact hits first.
Wang, "An industrial-strength audio search algorithm", ISMIR 2003: votes per offset.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.fft

from curation.chromaprint import SILENCE, Fingerprint
from curation.joining import changes

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_BIT_ERROR_RATE = 0.38

_BITS = 32
_LOOKS = 128
# The sums are whole numbers; up to this length single precision gets them right with room to spare.
_SINGLE_PRECISION_LENGTH = 16384
_GOLDEN_RATIO = np.uint32(2654435769)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """``a[i]`` goes with ``b[i + offset_items]``.

    Attributes
    ----------
    offset_items : int
    bit_error_rate : float
        0 to 1; unrelated recordings are above 0.43.
    overlap_items : int
        Pairs of items that were compared: those of the overlap in which neither is silent.
    """

    offset_items: int
    bit_error_rate: float
    overlap_items: int


@dataclass(frozen=True)
class WindowMatch:
    """Where the items ``start_item`` (in) to ``end_item`` (out) of one fingerprint are in another."""

    start_item: int
    end_item: int
    match: Match


def bit_error_rates(a: Fingerprint, b: Fingerprint, min_overlap: int) -> tuple[Ints, Floats]:
    """Bit error rate at every offset at which enough items overlap.

    Parameters
    ----------
    a, b : np.ndarray of uint32 [shape=(items_a,), (items_b,)]
    min_overlap : int
        Pairs of items, neither of them silent, that an offset must compare; at least 1.

    Returns
    -------
    offsets : np.ndarray of int64 [shape=(offsets,)]
        Ascending.
    rates : np.ndarray of float64 [shape=(offsets,)]
        0 to 1.

    Raises
    ------
    ValueError
        If a fingerprint is not one-dimensional uint32, or `min_overlap` is below 1.
    """
    offsets, rates, _ = _rates(a, b, min_overlap)
    return offsets, rates


def match_at(a: Fingerprint, b: Fingerprint, offset_items: int) -> Match:
    """How two fingerprints agree at one offset: a thousandth of the work of `best_match`.

    Parameters
    ----------
    a, b : np.ndarray of uint32 [shape=(items_a,), (items_b,)]
    offset_items : int

    Returns
    -------
    Match
        With a bit error rate of 1 where no two items overlap that are not silent.
    """
    first, end = max(0, -offset_items), max(0, -offset_items, min(len(a), len(b) - offset_items))
    here, there = a[first:end], b[first + offset_items : end + offset_items]
    heard = (here != SILENCE) & (there != SILENCE)
    overlap = int(np.count_nonzero(heard))
    errors = int(np.bitwise_count((here ^ there)[heard]).sum())
    return Match(offset_items, errors / (_BITS * overlap) if overlap else 1.0, overlap)


def glanced(items: Fingerprint, a: Ints, b: Ints, offset_items: Ints) -> Floats:
    """Bit error rates of many pairs, each at one offset, by 128 items of their overlap.

    Unrelated recordings have 0.5, with a standard deviation of about 0.01.

    Parameters
    ----------
    items : np.ndarray of uint32 [shape=(items,)]
        Fingerprints, end to end.
    a, b : np.ndarray of int64 [shape=(2, pairs)]
        Where each fingerprint begins in `items`, and its end.
    offset_items : np.ndarray of int64 [shape=(pairs,)]

    Returns
    -------
    np.ndarray of float64 [shape=(pairs,)]
        1 where no two of these items overlap that are not silent.
    """
    first = np.maximum(0, -offset_items)
    overlaps = np.minimum(a[1] - a[0], b[1] - b[0] - offset_items) - first
    rates, some = np.ones(len(first)), np.flatnonzero(overlaps > 0)
    places = (a[0] + first)[some, np.newaxis] + overlaps[some, np.newaxis] * np.arange(_LOOKS) // _LOOKS
    here, there = items[places], items[places + (b[0] - a[0] + offset_items)[some, np.newaxis]]
    heard = (here != SILENCE) & (there != SILENCE)
    counts = np.count_nonzero(heard, axis=1)
    errors = np.where(heard, np.bitwise_count(here ^ there), 0).sum(axis=1)
    rates[some] = np.where(counts, errors / np.maximum(1, _BITS * counts), 1)
    return rates


def least_overlap(a: Fingerprint, b: Fingerprint) -> int:
    """Items of an overlap below which two fingerprints share a passage at most: half of the shorter one.

    Parameters
    ----------
    a, b : np.ndarray of uint32 [shape=(items_a,), (items_b,)]

    Returns
    -------
    int
        At least 1. Silence does not count.
    """
    return max(1, (min(_num_heard(a), _num_heard(b)) + 1) // 2)


def best_matches(
    a: Fingerprint,
    b: Fingerprint,
    *,
    count: int = 5,
    min_overlap: int | None = None,
    separation_items: int = 4,
) -> list[Match]:
    """Offsets at which two fingerprints agree best, the best first.

    Each is a local minimum of the bit error rate, and no two are closer than `separation_items`: the
    neighbours of a good offset, which are nearly as good, do not count.

    Parameters
    ----------
    a, b : np.ndarray of uint32 [shape=(items_a,), (items_b,)]
    count : int
        Most matches to return.
    min_overlap : int, optional
        As for `bit_error_rates`. Half the items of the shorter one that are not silent unless given.
    separation_items : int
        In items, of 0.124 s.

    Returns
    -------
    list of Match
        Empty when no offset has enough overlap, as with empty or silent fingerprints.
    """
    if min_overlap is None:
        min_overlap = least_overlap(a, b)
    return _minima(*_rates(a, b, min_overlap), count=count, separation=separation_items)


def best_match(a: Fingerprint, b: Fingerprint, *, min_overlap: int | None = None) -> Match | None:
    """Offset at which two fingerprints agree best, or None when no offset has enough overlap.

    Parameters
    ----------
    a, b : np.ndarray of uint32 [shape=(items_a,), (items_b,)]
    min_overlap : int, optional
        As for `best_matches`.
    """
    matches = best_matches(a, b, count=1, min_overlap=min_overlap)
    return matches[0] if matches else None


def window_matches(
    a: Fingerprint,
    b: Fingerprint,
    *,
    window_items: int = 162,
    hop_items: int = 81,
    offset_range: tuple[int, int] | None = None,
) -> list[WindowMatch]:
    """Best offset of each window of a in b, on its own: for differing speeds, and for edits.

    Parameters
    ----------
    a, b : np.ndarray of uint32 [shape=(items_a,), (items_b,)]
    window_items : int
        Length of a window; 162 items are 20 s. A fingerprint shorter than that is one window.
    hop_items : int
        From one window to the next.
    offset_range : tuple of int, optional
        Smallest and largest offset to consider; everything unless given. In songs that repeat themselves, a
        range around the offset of the whole keeps the windows on the right bar.

    Returns
    -------
    list of WindowMatch
        In the order of a. Windows that are silent for more than half of their length, and those for which b
        has less than half a window to compare, are left out.

    Raises
    ------
    ValueError
        If a fingerprint is not one-dimensional uint32, or a length is below 1.
    """
    _validate("a", a)
    _validate("b", b)
    if window_items < 1 or hop_items < 1:
        raise ValueError(f"window_items is {window_items}, hop_items {hop_items}; expected at least 1")
    window_items = min(window_items, len(a))
    min_overlap = max(1, (window_items + 1) // 2)
    length = scipy.fft.next_fast_len(window_items + len(b) + 1, real=True)
    spectra = _spectra(b, length)
    matches = []
    for start in range(0, len(a) - window_items + 1, hop_items) if len(a) else ():
        window = a[start : start + window_items]
        offsets, errors, overlaps = _compared(_spectra(window, length), spectra, len(window), len(b), length)
        offsets -= start
        wanted = overlaps >= min_overlap
        if offset_range is not None:
            wanted &= (offsets >= offset_range[0]) & (offsets <= offset_range[1])
        if wanted.any():
            rates = np.where(wanted, errors / (_BITS * np.maximum(overlaps, 1)), np.inf)
            best = int(np.argmin(rates))
            match = Match(int(offsets[best]), float(rates[best]), int(overlaps[best]))
            matches.append(WindowMatch(start, start + window_items, match))
    return matches


def _validate(name: str, items: Fingerprint) -> None:
    if items.ndim != 1 or items.dtype != np.uint32:
        raise ValueError(
            f"fingerprint {name!r} is {items.dtype} of shape {items.shape}, expected uint32 of shape (items,)"
        )


def _num_heard(items: Fingerprint) -> int:
    return int(np.count_nonzero(items != SILENCE))


def _rates(a: Fingerprint, b: Fingerprint, min_overlap: int) -> tuple[Ints, Floats, Ints]:
    _validate("a", a)
    _validate("b", b)
    if min_overlap < 1:
        raise ValueError(f"min_overlap is {min_overlap}, expected at least 1")
    length = scipy.fft.next_fast_len(len(a) + len(b) + 1, real=True)
    offsets, errors, overlaps = _compared(_spectra(a, length), _spectra(b, length), len(a), len(b), length)
    enough = overlaps >= min_overlap
    return offsets[enough], errors[enough] / (_BITS * overlaps[enough]), overlaps[enough]


def _spectra(items: Fingerprint, length: int) -> npt.NDArray[np.complexfloating]:
    """Spectra of the 32 bit planes (+-1, silence 0) and of the mask of what is not silent, ``(33, bins)``."""
    heard = items != SILENCE
    planes = np.zeros((_BITS + 1, length), np.float32 if length <= _SINGLE_PRECISION_LENGTH else np.float64)
    bits = np.unpackbits(np.ascontiguousarray(items).view(np.uint8).reshape(-1, 4), axis=1)
    planes[:_BITS, : len(items)] = np.where(heard, bits.T * np.int8(2) - np.int8(1), np.int8(0))
    planes[_BITS, : len(items)] = heard
    return np.asarray(scipy.fft.rfft(planes, axis=1))


def _compared(
    spectra_a: npt.NDArray[np.complexfloating],
    spectra_b: npt.NDArray[np.complexfloating],
    num_a: int,
    num_b: int,
    length: int,
) -> tuple[Ints, Ints, Ints]:
    """Offsets, bit errors and compared pairs of items, at all offsets at which a and b touch."""
    products = spectra_a.conj() * spectra_b
    sums = np.stack([products[:_BITS].sum(axis=0), products[_BITS]])
    agreement, overlaps = scipy.fft.irfft(sums, length, axis=1)
    overlaps = np.rint(overlaps).astype(np.int64)
    # Equal bits add 1 to the agreement, different ones take 1 away.
    errors = np.rint((_BITS * overlaps - agreement) / 2).astype(np.int64)
    offsets = np.arange(1 - num_a, num_b) if num_a and num_b else np.zeros(0, np.int64)
    return offsets, errors[offsets], overlaps[offsets]


def _minima(offsets: Ints, rates: Floats, overlaps: Ints, *, count: int, separation: int) -> list[Match]:
    # Offsets without enough overlap are missing, so neighbours in the array need not be neighbours in time.
    step = np.diff(offsets) == 1
    low_left = np.concatenate([[True], ~step | (rates[1:] <= rates[:-1])])[: len(rates)]
    low_right = np.concatenate([~step | (rates[:-1] <= rates[1:]), [True]])[: len(rates)]
    lowest = np.flatnonzero(low_left & low_right)
    chosen: list[int] = []
    for index in lowest[np.argsort(rates[lowest], kind="stable")]:
        if len(chosen) == count:
            break
        if all(abs(offsets[index] - offsets[other]) >= separation for other in chosen):
            chosen.append(int(index))
    return [Match(int(offsets[i]), float(rates[i]), int(overlaps[i])) for i in chosen]


def join_candidates(
    prints: Mapping[str, Fingerprint] | Iterable[tuple[str, Fingerprint]],
    *,
    max_tracks_per_key: int = 20,
    min_votes: int = 6,
    max_offsets_per_pair: int = 1,
    sample_one_in: int = 1,
) -> pd.DataFrame:
    """Pairs of tracks that share sub-fingerprints at one offset, without comparing every two tracks.

    Left out are items of silence, items that repeat the one before or after (held tones and other
    standstills), and items found in many tracks. Of the rest, every item that two tracks share is a vote for
    (a, b, offset).

    Parameters
    ----------
    prints : mapping or iterable of (track_id, np.ndarray of uint32 [shape=(items,)])
    max_tracks_per_key : int
        An item that more tracks have says little, and its pairs grow with the square of their number.
    min_votes : int
        Votes that an offset needs. Unrelated tracks rarely get 3; mixtures with loud vocals may get no more,
        so a lower number finds more pairs, of which the bit error rate sorts out the false ones.
    max_offsets_per_pair : int
        Rows per pair at most, those with the most votes.
    sample_one_in : int
        Use one item in this many, chosen by a hash of its value, so that all tracks choose alike. For
        catalogues whose items exceed the memory (about 40 bytes an item); votes become fewer by the same
        factor.

    Returns
    -------
    pandas.DataFrame
        Columns a, b (str, ``a < b``), votes (int64), offset_items (int64); most votes first.

    Raises
    ------
    ValueError
        If two fingerprints have one id, one is not one-dimensional uint32, or a setting is out of range.
    """
    if max_tracks_per_key < 2 or min(min_votes, max_offsets_per_pair, sample_one_in) < 1:
        raise ValueError(
            f"max_tracks_per_key is {max_tracks_per_key}, expected at least 2; min_votes {min_votes}, "
            f"max_offsets_per_pair {max_offsets_per_pair}, sample_one_in {sample_one_in}, expected at least 1"
        )
    tracks = sorted(prints.items() if isinstance(prints, Mapping) else prints, key=lambda track: track[0])
    for track_id, items in tracks:
        _validate(track_id, items)
    for (track_id, _), (next_id, _) in pairwise(tracks):
        if track_id == next_id:
            raise ValueError(f"two fingerprints have the id {track_id!r}")

    postings = _postings([items for _, items in tracks], sample_one_in)
    first, second, offset = _shared(_without_hot_keys(postings, max_tracks_per_key))
    first, second, offset, votes = _counted(first, second, offset)
    enough = votes >= min_votes
    first, second, offset, votes = first[enough], second[enough], offset[enough], votes[enough]

    # Ranks within each pair: the most votes first, of equals the smaller shift.
    order = np.lexsort((np.abs(offset), -votes, second, first))
    first, second, offset, votes = first[order], second[order], offset[order], votes[order]
    starts_pair = np.flatnonzero(changes(first) | changes(second))
    rank = np.arange(len(votes)) - np.repeat(starts_pair, np.diff([*starts_pair, len(votes)]))
    kept = np.flatnonzero(rank < max_offsets_per_pair)
    kept = kept[np.argsort(-votes[kept], kind="stable")]

    ids = pd.Series([track_id for track_id, _ in tracks], dtype="str")
    return pd.DataFrame(
        {
            "a": ids.iloc[first[kept]].array,
            "b": ids.iloc[second[kept]].array,
            "votes": votes[kept],
            "offset_items": offset[kept],
        }
    )


@dataclass(frozen=True)
class _Postings:
    """Who has which item where, ordered by the items' values, then by track, then by place."""

    key: Fingerprint
    track: Ints
    place: Ints

    def __getitem__(self, wanted: Bools) -> _Postings:
        return _Postings(self.key[wanted], self.track[wanted], self.place[wanted])


def _postings(prints: Sequence[Fingerprint], sample_one_in: int) -> _Postings:
    """Postings of the items that at least two places have."""
    items = np.concatenate([np.zeros(0, np.uint32), *prints])
    lengths = np.array([len(one) for one in prints], dtype=np.int64)
    track = np.repeat(np.arange(len(prints)), lengths)
    repeats = np.zeros(len(items) + 1, np.bool_)
    repeats[1:-1] = (items[1:] == items[:-1]) & (track[1:] == track[:-1])
    wanted = (items != SILENCE) & ~repeats[1:] & ~repeats[:-1]
    if sample_one_in > 1:
        wanted &= (items * _GOLDEN_RATIO >> np.uint32(8)) % np.uint32(sample_one_in) == 0

    # One integer of 64 bits per item, value above index: sorting them is much faster than an argsort.
    index = np.flatnonzero(wanted)
    packed = np.sort(items[index].astype(np.uint64) << np.uint64(32) | index.astype(np.uint64))
    key = (packed >> np.uint64(32)).astype(np.uint32)
    new_key = changes(key)
    shared = ~(new_key & np.append(new_key[1:], True))
    index = (packed[shared] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return _Postings(key[shared], track[index], index - starts[track[index]])


def _without_hot_keys(postings: _Postings, max_tracks: int) -> _Postings:
    new_key = changes(postings.key)
    group = np.cumsum(new_key) - 1
    num_items = np.bincount(group)
    num_tracks = np.bincount(group[new_key | changes(postings.track)])
    # Loops of electronic music repeat an item many times within a track: as useless, and as expensive.
    hot = (num_tracks > max_tracks) | (num_items > 4 * max_tracks)
    log.debug("%d of %d shared items dropped as hot", np.count_nonzero(hot), len(hot))
    return postings[~hot[group]]


def _shared(postings: _Postings) -> tuple[Ints, Ints, Ints]:
    """The two tracks, the lower number first, and the offset of every item that two tracks share."""
    starts = np.flatnonzero(changes(postings.key))
    sizes = np.diff([*starts, len(postings.key)])
    end = np.repeat(starts + sizes, sizes)
    left = np.arange(len(end))
    lefts, rights = [left[:0]], [left[:0]]
    for distance in range(1, sizes.max(initial=1)):
        left = left[left + distance < end[left]]
        differ = left[postings.track[left] != postings.track[left + distance]]
        lefts.append(differ)
        rights.append(differ + distance)
    one, other = np.concatenate(lefts), np.concatenate(rights)
    return postings.track[one], postings.track[other], postings.place[other] - postings.place[one]


def _counted(first: Ints, second: Ints, offset: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """The distinct triples, and how often each occurs."""
    num_tracks = int(second.max(initial=0)) + 1
    reach = int(np.abs(offset).max(initial=0))
    width = 2 * reach + 1
    if num_tracks**2 * width >= 2**63:
        raise ValueError(f"{num_tracks} tracks with offsets up to {reach} items exceed 64 bits; join parts of them")
    triples = np.sort((first * num_tracks + second) * width + offset + reach)
    starts = np.flatnonzero(changes(triples))
    pair, shifted = np.divmod(triples[starts], width)
    return *np.divmod(pair, num_tracks), shifted - reach, np.diff([*starts, len(triples)])
