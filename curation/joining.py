"""Pairs of tracks that share music, found by a join of their fingerprints that can be cut into parts.

Comparing every two tracks of a catalogue is out of the question from some thousands on. Here each moment of a track
is named by a **key**, tracks with equal keys meet, and every meeting is a vote for (a, b, offset). All of it is
sorting and searching in arrays of 64-bit integers, of which each part fits the memory: `builders.join` runs the
parts on one machine, and `builders.cluster_join` on many.

Keys
----
The two bits that each of Chromaprint's classifiers gives are a level in Gray code. Its upper bit, the *coarse* one,
compares with one threshold, the lower with two, and is wrong twice as often where a voice is laid over the music. A
key is 12 coarse bits (without those of the four classifiers that are wrong most often) of the items at
`KEY_ITEMS`: 0, 0.5 and 1.5 s. Compared with an item that is equal in all its 32 bits, on 89 mixtures with their
instrumentals, two unrelated moments agree about as rarely (6e-8 against 4e-8), and pairs with loud voices share
more: the weakest tenth 16 keys against 10, the weakest fiftieth 6 against 2 (docs/scale.md).

Items of silence have no key, nor have items that equal the one before or after (held tones and other standstills).

Conventions
-----------
Tracks are numbers in the order of their arrival, and the order decides: a pair is (a, b) with ``a < b``, and of
each key only the first `crowd` places count. So a catalogue that grows keeps what was found before, and finds the
same as one that came at once. The offset of (a, b) says that ``a[i]`` goes with ``b[i + offset_items]``.

A **posting** is a key and the place where it is, in a uint64 (`PostingLayout`). The first bits of the 32-bit key
say which part of the join it is in; postings of a part are sorted. Of a track, the first 65,536 items (2.3 hours)
count.

A **vote** is ``a | b | offset | time``, uint64, its fields as wide as the catalogue needs (`VoteLayout`). Votes
count once in half a second: neighbouring items say the same twice.

References
----------
Haitsma, Kalker, "A highly robust audio fingerprinting system", ISMIR 2002: exact hits of sub-fingerprints first.
Wang, "An industrial-strength audio search algorithm", ISMIR 2003: votes per offset, and keys of several moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.chromaprint import SILENCE, Fingerprint

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

KEY_ITEMS = (0, 4, 12)
"""Items of a key, counted from its place."""

MAX_ITEMS = 1 << 16

_COARSE_BITS = np.uint32(0x2A28A2AA)
_PER_TRACK = 4
_TIME_ITEMS = 4
_KEY_BITS, _ITEM_BITS = 32, 16
_ITEM_MASK = np.uint64(MAX_ITEMS - 1)
_LEAST_TIME_BITS = 4
_CHUNK_TRACKS = 1 << 16
_MEETINGS = 1 << 17
_MANY = 32
_BLOCK_ITEMS = 1 << 16
_FIRST_MIX, _SECOND_MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True)
class Postings:
    """Postings of some tracks, cut into parts.

    Attributes
    ----------
    words : np.ndarray of uint64 [shape=(postings,)]
        Part after part, each sorted.
    bounds : np.ndarray of int64 [shape=(parts + 1,)]
        Part `p` is ``words[bounds[p]:bounds[p + 1]]``.
    """

    words: Words
    bounds: Ints


@dataclass(frozen=True)
class PostingLayout:
    """How postings are packed, and cut into parts: ``rest of the key | track | item``.

    Attributes
    ----------
    parts : int
        A power of 2. The first bits of a key say which part it is in, and leave room for as many more tracks.
    """

    parts: int

    @classmethod
    def of(cls, num_tracks: int) -> PostingLayout:
        """The layout for some number of tracks: one part for some thousands of them, 1,024 for up to 67 million."""
        return cls(1 if num_tracks <= 4096 else 1024)

    @property
    def rest_bits(self) -> int:
        """Bits of a key in a posting."""
        return _KEY_BITS - (self.parts.bit_length() - 1)

    @property
    def max_tracks(self) -> int:
        """Tracks that can be told apart."""
        return 1 << (64 - self.rest_bits - _ITEM_BITS)

    def tracks(self, words: Words) -> Ints:
        """The tracks of postings."""
        return (words << np.uint64(self.rest_bits) >> np.uint64(self.rest_bits + _ITEM_BITS)).astype(np.int64)


def postings_of(
    items: Fingerprint, lengths: Ints, first_track: int, layout: PostingLayout, *, sample_one_in: int = 1
) -> Postings:
    """Postings of tracks that arrived one after another.

    Parameters
    ----------
    items : np.ndarray of uint32 [shape=(items,)]
        Their fingerprints, end to end.
    lengths : np.ndarray of int64 [shape=(tracks,)]
        Items of each, at most 65,536 tracks.
    first_track : int
        Number of the first one.
    layout : PostingLayout
    sample_one_in : int
        Keep one key in this many, the same ones for all tracks. The join gets smaller and finds less.

    Returns
    -------
    Postings
        Of a track, at most 4 for one key: loops repeat themselves, and say at no offset more than at another.

    Raises
    ------
    ValueError
        If the lengths do not add up, or there are too many tracks.
    """
    if len(items) != lengths.sum() or len(lengths) > _CHUNK_TRACKS:
        raise ValueError(
            f"{len(items)} items and {len(lengths)} lengths that add up to {lengths.sum()}; expected as many, and "
            f"at most {_CHUNK_TRACKS} tracks"
        )
    if first_track + len(lengths) > layout.max_tracks:
        raise ValueError(f"track {first_track + len(lengths) - 1} of at most {layout.max_tracks}; use more parts")
    ends = np.cumsum(lengths)
    found = [_keyed(items, lengths, ends, begin, sample_one_in) for begin in range(0, len(items), _BLOCK_ITEMS)]
    words = np.concatenate([np.zeros(0, np.uint64), *found])
    words.sort()
    words = words[_not_beyond(words >> np.uint64(_ITEM_BITS), _PER_TRACK)]
    first_keys = np.arange(layout.parts, dtype=np.uint64) << np.uint64(layout.rest_bits + 32)
    bounds = np.append(np.searchsorted(words, first_keys), len(words))
    # in place: these are the largest arrays of the join
    tracks = words >> np.uint64(_ITEM_BITS)
    tracks &= np.uint64(_CHUNK_TRACKS - 1)
    tracks += np.uint64(first_track)
    tracks <<= np.uint64(_ITEM_BITS)
    tracks |= words & _ITEM_MASK
    words >>= np.uint64(32)
    words <<= np.uint64(64 - layout.rest_bits)  # what the part says already goes over the edge
    words |= tracks
    return Postings(words, bounds)


@dataclass(frozen=True)
class Indexed:
    """One part of postings that arrived earlier.

    Attributes
    ----------
    words : np.ndarray of uint64 [shape=(postings,)]
        Sorted; they may be mapped, and are looked at in as few places as possible.
    crowds : np.ndarray of uint64 [shape=(keys,)]
        Their `crowds_of`.
    """

    words: Words
    crowds: Words


def crowds_of(part: Words, layout: PostingLayout) -> Words:
    """Keys that have 32 postings or more: ``rest of the key | number of postings``.

    Parameters
    ----------
    part : np.ndarray of uint64 [shape=(postings,)]
        Sorted, of one part.
    layout : PostingLayout

    Returns
    -------
    np.ndarray of uint64 [shape=(keys,)]
        Sorted.
    """
    shift = np.uint64(64 - layout.rest_bits)
    rest = part >> shift
    later = rest[_MANY - 1 :]
    keys = distinct(later[later == rest[: len(later)]])
    begin, end = _range(part, keys, shift)
    return keys << shift | (end - begin).astype(np.uint64)


def without_crowds(part: Words, older: Sequence[Indexed], crowd: int, layout: PostingLayout) -> Words:
    """Leave out postings whose key has `crowd` earlier ones.

    Parameters
    ----------
    part : np.ndarray of uint64 [shape=(postings,)]
        Sorted, of one part.
    older : sequence of Indexed
        The same part of tracks that arrived earlier. Only keys that may have a crowd are looked up.
    crowd : int
        At least 1.
    layout : PostingLayout

    Returns
    -------
    np.ndarray of uint64
    """
    shift = np.uint64(64 - layout.rest_bits)
    part = part[_not_beyond(part >> shift, crowd)]
    if not older:
        return part
    rest = part >> shift
    first = np.flatnonzero(changes(rest))
    keys, own = rest[first], np.diff(first, append=len(part))
    most = np.zeros(len(keys), np.int64)
    for one in older:
        begin, end = _range(one.crowds, keys, shift)
        most += _MANY - 1
        many = np.flatnonzero(end > begin)
        most[many] += (one.crowds[begin[many]] & ((np.uint64(1) << shift) - np.uint64(1))).astype(np.int64)
    crowded = np.flatnonzero(most + own > crowd)
    before = np.zeros(len(keys), np.int64)
    for one in older:
        begin, end = _range(one.words, keys[crowded], shift)
        before[crowded] += end - begin
    rank = np.arange(len(part)) - np.repeat(first, own)
    return np.asarray(part[rank + np.repeat(before, own) < crowd])


def meetings(left: Words, right: Words | None, layout: PostingLayout) -> Iterator[tuple[Words, Words]]:
    """Postings of different tracks with one key.

    Parameters
    ----------
    left : np.ndarray of uint64 [shape=(postings,)]
        Sorted, of one part.
    right : np.ndarray of uint64 or None
        The same part of other tracks; None: those of `left` meet each other.
    layout : PostingLayout

    Yields
    ------
    left, right : np.ndarray of uint64 [shape=(meetings,)]
        Some 100,000 at a time, which stay in the processor's cache; each two postings once, in whatever order.
    """
    shift = np.uint64(64 - layout.rest_bits)
    if right is None:
        begin = np.searchsorted(left, left >> shift << shift)
        end = np.arange(len(left))
        right = left
    else:
        if len(left) > len(right):
            left, right = right, left
        begin, end = _range(right, left >> shift, shift)
    met = np.flatnonzero(end > begin)
    begin, counts = begin[met], (end - begin)[met]
    cuts = np.cumsum(counts)
    done = 0
    while done < len(met):
        until = max(done + 1, int(np.searchsorted(cuts, (cuts[done - 1] if done else 0) + _MEETINGS, side="right")))
        here, number = met[done:until], counts[done:until]
        one = np.repeat(left[here], number)
        starts = np.repeat(begin[done:until] - (np.cumsum(number) - number), number)
        other = right[starts + np.arange(len(one))]
        differ = (one ^ other) << np.uint64(layout.rest_bits) >> np.uint64(layout.rest_bits + _ITEM_BITS) != 0
        yield one[differ], other[differ]
        done = until


@dataclass(frozen=True)
class VoteLayout:
    """How votes are packed: ``a | b | offset | time``.

    Attributes
    ----------
    track_bits, offset_bits, time_bits : int
        Of a and of b; of the offset; of the time.
    reach : int
        What is added to offsets, so that none is negative.
    time_shift : int
        Binary digits of a place that its time leaves out.
    """

    track_bits: int
    offset_bits: int
    time_bits: int
    reach: int
    time_shift: int

    @classmethod
    def of(cls, num_tracks: int, longest_items: int) -> VoteLayout:
        """The layout for some number of tracks, the longest of which has some number of items.

        Votes count once in half a second, or longer where the bits do not suffice.

        Raises
        ------
        ValueError
            If they suffice for no time at all.
        """
        reach = min(longest_items, MAX_ITEMS)
        track_bits = max(1, (num_tracks - 1).bit_length())
        offset_bits = (2 * reach + 1).bit_length()  # one offset to spare at the upper end
        time_shift = _TIME_ITEMS.bit_length() - 1
        while (time_bits := (reach >> time_shift).bit_length()) + offset_bits + 2 * track_bits > 64:
            time_shift += 1
            if time_bits < _LEAST_TIME_BITS:
                raise ValueError(
                    f"votes for {num_tracks} tracks of up to {reach} items exceed 64 bits; join them in parts, or "
                    "leave the longest out"
                )
        return cls(track_bits, offset_bits, time_bits, reach, time_shift)

    def pack(self, one: Words, other: Words, layout: PostingLayout) -> Words:
        """Votes of postings that met, in whatever order each two come."""
        rest, below = np.uint64(layout.rest_bits), np.uint64(layout.rest_bits + _ITEM_BITS)
        one, other = one << rest, other << rest  # what is left is compared by its track
        early, late = np.minimum(one, other), np.maximum(one, other)
        place_a, place_b = early >> rest & _ITEM_MASK, late >> rest & _ITEM_MASK
        word = (early >> below) << np.uint64(self.track_bits) | late >> below
        word = word << np.uint64(self.offset_bits) | (place_b + np.uint64(self.reach) - place_a)
        return word << np.uint64(self.time_bits) | place_a >> np.uint64(self.time_shift)

    def first_votes(self, tracks: Ints) -> Words:
        """The smallest vote that each track can have as a: where votes can be cut."""
        return tracks.astype(np.uint64) << np.uint64(self.track_bits + self.offset_bits + self.time_bits)

    def counted(self, votes: Words, min_votes: int) -> Pairs:
        """Pairs of tracks, each at the offset with the most votes.

        A shift between two offsets gives votes to both: those of the next offset count, too.

        Parameters
        ----------
        votes : np.ndarray of uint64 [shape=(votes,)]
            All votes of the tracks that they have as a, in any order, each any number of times.
        min_votes : int
            At least 1.

        Returns
        -------
        Pairs
            In the order of a and b.
        """
        time, offset = np.uint64(self.time_bits), np.uint64(self.offset_bits)
        votes = distinct(votes)
        pair = votes >> (time + offset)
        first = np.flatnonzero(changes(pair))
        sizes = np.diff(first, append=len(votes))
        votes = votes[np.repeat(sizes >= min_votes, sizes)]  # nearly all pairs of strangers end here

        cell = votes >> time
        first = np.flatnonzero(changes(cell))
        cells, own = cell[first], np.diff(first, append=len(votes))
        follows = np.append(cells[1:] == cells[:-1] + np.uint64(1), False)[: len(cells)]
        of_next = np.where(follows, np.append(own[1:], 0)[: len(cells)], 0)
        beside = votes + (np.uint64(1) << time)
        found = np.searchsorted(votes, beside)
        is_twice = votes[np.minimum(found, len(votes) - 1)] == beside if len(votes) else np.zeros(0, np.bool_)
        twice = np.add.reduceat(is_twice, first) if len(first) else own
        score = own + of_next - twice

        pair = cells >> offset
        order = np.lexsort((-own, -score, pair))
        best = order[changes(pair[order])]
        best = best[score[best] >= min_votes]
        # the one of the two offsets that has more votes of its own
        moved = of_next[best] > own[best]
        shifted = (cells[best] & ((np.uint64(1) << offset) - np.uint64(1))).astype(np.int64) - self.reach + moved
        b = pair[best] & ((np.uint64(1) << np.uint64(self.track_bits)) - np.uint64(1))
        a = pair[best] >> np.uint64(self.track_bits)
        return Pairs(a.astype(np.int64), b.astype(np.int64), score[best].astype(np.int64), shifted)


@dataclass(frozen=True)
class Pairs:
    """Pairs of tracks that share music: four columns.

    Attributes
    ----------
    a, b : np.ndarray of int64 [shape=(pairs,)]
        Tracks, ``a < b``.
    votes : np.ndarray of int64 [shape=(pairs,)]
    offset_items : np.ndarray of int64 [shape=(pairs,)]
    """

    a: Ints
    b: Ints
    votes: Ints
    offset_items: Ints


def _keyed(items: Fingerprint, lengths: Ints, ends: Ints, begin: int, sample_one_in: int) -> Words:
    """``key | track | item`` of a block of items, which stays in the processor's cache."""
    end = min(begin + _BLOCK_ITEMS, len(items))
    reach = KEY_ITEMS[-1]
    # one item before and some after, of silence where there are none
    near = np.full(end - begin + 1 + reach, SILENCE, np.uint32)
    near[int(begin == 0) : len(items) - begin + 1] = items[max(0, begin - 1) : end + reach]
    here = near[1 : end - begin + 1]

    first, last = np.searchsorted(ends, (begin, end - 1), side="right")
    tracks = np.arange(first, last + 1)
    counts = np.minimum(ends[tracks], end) - np.maximum(ends[tracks] - lengths[tracks], begin)
    track = np.repeat(tracks, counts)
    place = np.arange(begin, end) - np.repeat((ends - lengths)[tracks], counts)
    left = np.repeat(lengths[tracks], counts) - place

    wanted = (left > reach) & (place < MAX_ITEMS)
    wanted &= (here != near[: len(here)]) | (place == 0)
    wanted &= here != near[2 : len(here) + 2]
    for later in KEY_ITEMS:
        wanted &= near[1 + later : 1 + later + len(here)] != SILENCE
    coarse = (near & _COARSE_BITS).astype(np.uint64)
    one, two, three = (coarse[1 + later : 1 + later + len(here)] for later in KEY_ITEMS)
    mixed = (one << np.uint64(32) | two) * _FIRST_MIX
    mixed = (mixed ^ mixed >> np.uint64(29) ^ three) * _SECOND_MIX
    keys = (mixed ^ mixed >> np.uint64(31)) >> np.uint64(32)
    if sample_one_in > 1:
        wanted &= keys % np.uint64(sample_one_in) == 0
    words = keys << np.uint64(32) | track.astype(np.uint64) << np.uint64(_ITEM_BITS) | place.astype(np.uint64)
    return np.asarray(words[wanted])


def distinct(words: Words) -> Words:
    """Sorted words, each once. `np.unique` hashes them first, which takes longer.

    Parameters
    ----------
    words : np.ndarray of uint64 [shape=(words,)]

    Returns
    -------
    np.ndarray of uint64
    """
    words = np.sort(words)
    return np.asarray(words[changes(words)])


def changes(values: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Whether each value differs from the one before; the first does.

    Parameters
    ----------
    values : np.ndarray of integers [shape=(values,)]

    Returns
    -------
    np.ndarray of bool [shape=(values,)]
    """
    result = np.ones(len(values), np.bool_)
    result[1:] = values[1:] != values[:-1]
    return result


def _not_beyond(values: Words, most: int) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted values has fewer than `most` equal ones before it."""
    kept = np.ones(len(values), np.bool_)
    kept[most:] = values[most:] != values[:-most]
    return kept


def _range(part: Words, rest: Words, shift: np.uint64) -> tuple[Ints, Ints]:
    """Where the postings of each key (its rest) begin and end in a sorted part."""
    begin = np.searchsorted(part, rest << shift)
    # not the next key's begin: a part's last key has no next one that fits the word
    end = np.searchsorted(part, rest << shift | ((np.uint64(1) << shift) - np.uint64(1)), side="right")
    return begin, end
