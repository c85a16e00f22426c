"""The join of fingerprints, against one that compares every two items."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.chromaprint import SILENCE, Fingerprint
from curation.joining import (
    KEY_ITEMS,
    MAX_ITEMS,
    Indexed,
    PostingLayout,
    VoteLayout,
    Words,
    crowds_of,
    meetings,
    postings_of,
    without_crowds,
)

COARSE = [29, 27, 25, 21, 19, 15, 13, 9, 7, 5, 3, 1]


def draw(rng: np.random.Generator, items: int) -> Fingerprint:
    return rng.integers(0, 2**32, items, dtype=np.uint32)


def key_at(items: Fingerprint, place: int) -> tuple[int, ...] | None:
    """The 36 bits of a key, one by one; None where there is no key."""
    if place + KEY_ITEMS[-1] >= len(items) or any(items[place + later] == SILENCE for later in KEY_ITEMS):
        return None
    if (place and items[place - 1] == items[place]) or items[place + 1] == items[place]:
        return None
    return tuple(int(items[place + later]) >> bit & 1 for later in KEY_ITEMS for bit in COARSE)


def found(
    prints: list[Fingerprint], min_votes: int, layout: PostingLayout, crowd: int = 1000
) -> dict[tuple[int, int], tuple[int, int]]:
    """Votes and offset of every pair, by the join."""
    lengths = np.array([len(items) for items in prints], np.int64)
    postings = postings_of(np.concatenate([np.zeros(0, np.uint32), *prints]), lengths, 0, layout)
    votes = VoteLayout.of(len(prints), int(lengths.max(initial=1)))
    packed: list[Words] = [np.zeros(0, np.uint64)]
    for part in range(layout.parts):
        words = postings.words[postings.bounds[part] : postings.bounds[part + 1]]
        assert (np.diff(words.astype(object)) > 0).all()
        kept = without_crowds(words, [], crowd, layout)
        packed += [votes.pack(*met, layout) for met in meetings(kept, None, layout)]
    pairs = votes.counted(np.concatenate(packed), min_votes)
    columns = (pairs.a, pairs.b, pairs.votes, pairs.offset_items)
    return {(a, b): (n, offset) for a, b, n, offset in zip(*(column.tolist() for column in columns), strict=True)}


def counted_one_by_one(prints: list[Fingerprint], min_votes: int) -> dict[tuple[int, int], int]:
    """Votes of every pair, every two places compared: once in half a second, an offset and the next together."""
    places: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for track, items in enumerate(prints):
        own: dict[tuple[int, ...], int] = defaultdict(int)
        for place in range(len(items)):
            key = key_at(items, place)
            if key is not None and own[key] < 4:
                own[key] += 1
                places[key].append((track, place))
    times: dict[tuple[int, int, int], set[int]] = defaultdict(set)
    for same in places.values():
        for (a, place_a), (b, place_b) in itertools.combinations(sorted(same), 2):
            if a != b:
                times[a, b, place_b - place_a].add(place_a // 4)
    best: dict[tuple[int, int], int] = defaultdict(int)
    for (a, b, offset), when in times.items():
        best[a, b] = max(best[a, b], len(when | times.get((a, b, offset + 1), set())))
    return {pair: votes for pair, votes in best.items() if votes >= min_votes}


@settings(max_examples=60, deadline=None)
@given(
    prints=st.lists(
        st.lists(st.sampled_from([SILENCE, 0, 2, 8, 10, 32, 1 << 29]), max_size=60).map(
            lambda items: np.array(items, np.uint32)
        ),
        max_size=5,
    ),
    min_votes=st.integers(1, 3),
    parts=st.sampled_from([1, 1024]),
)
def test_votes_equal_those_counted_one_by_one(prints: list[Fingerprint], min_votes: int, parts: int) -> None:
    by_join = found(prints, min_votes, PostingLayout(parts))
    assert {pair: votes for pair, (votes, _) in by_join.items()} == counted_one_by_one(prints, min_votes)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), before=st.integers(0, 300))
def test_a_planted_pair_is_found_at_its_offset_among_strangers(seed: int, before: int) -> None:
    rng = np.random.default_rng(seed)
    prints = [draw(rng, 500) for _ in range(20)]
    fine_bits = np.uint32(0xFFFFFFFF ^ sum(1 << bit for bit in COARSE))
    prints.append(np.concatenate([draw(rng, before), prints[7] ^ draw(rng, 500) & fine_bits]))
    # 488 places in windows of 4
    assert found(prints, 3, PostingLayout.of(len(prints))) == {(7, 20): (122, before)}


def test_an_offset_and_the_next_one_vote_together() -> None:
    rng = np.random.default_rng(1)
    music = draw(rng, 400)
    late = np.concatenate([music[:200], draw(rng, 1), music[200:]])
    # 47 windows at offset 0, as many others at offset 1
    assert found([music, late], 1, PostingLayout(1)) == {(0, 1): (94, 0)}


def test_crowds_keep_those_who_came_first_whoever_comes_later() -> None:
    rng = np.random.default_rng(2)
    jingle = draw(rng, 40)
    prints = [np.concatenate([draw(rng, 30), jingle]) for _ in range(12)]
    layout = PostingLayout(1)
    everyone = found(prints, 1, layout)
    assert set(everyone) == set(itertools.combinations(range(12), 2))
    few = found(prints, 1, layout, crowd=5)
    assert set(few) == set(itertools.combinations(range(5), 2))
    lengths = np.array([70] * 12)
    whole = postings_of(np.concatenate(prints), lengths, 0, layout).words
    first = postings_of(np.concatenate(prints[:3]), lengths[:3], 0, layout).words
    later = postings_of(np.concatenate(prints[3:]), lengths[3:], 3, layout).words
    first = without_crowds(first, [], 5, layout)
    later = without_crowds(later, [indexed(first[::2], layout), indexed(first[1::2], layout)], 5, layout)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, later])), without_crowds(whole, [], 5, layout))


def indexed(words: Words, layout: PostingLayout) -> Indexed:
    return Indexed(words, crowds_of(words, layout))


@given(
    sizes=st.lists(st.integers(0, 90), min_size=3, max_size=3),
    keys=st.integers(1, 4),
    crowd=st.integers(1, 120),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_catalogue_that_grows_keeps_of_each_key_what_one_that_came_at_once_does(
    sizes: list[int], keys: int, crowd: int, seed: int
) -> None:
    rng, layout = np.random.default_rng(seed), PostingLayout(1)
    rest = rng.choice(np.array([0, 1, 5, 2**32 - 1], np.uint64)[:keys], sum(sizes))
    words = rest << np.uint64(32) | np.arange(sum(sizes), dtype=np.uint64)
    older: list[Indexed] = []
    for arrived in np.split(words, np.cumsum(sizes)[:-1]):
        older.append(indexed(without_crowds(np.sort(arrived), older, crowd, layout), layout))
    found = np.sort(np.concatenate([one.words for one in older]))
    np.testing.assert_array_equal(found, without_crowds(np.sort(words), [], crowd, layout))
    assert max((int(one.crowds[0] & np.uint64(2**32 - 1)) for one in older if len(one.crowds)), default=0) <= crowd


def test_keys_that_cannot_have_a_crowd_are_not_looked_up() -> None:
    layout = PostingLayout(1)
    keys = np.arange(4, dtype=np.uint64) << np.uint64(32)
    old = np.repeat(keys, [1, 31, 32, 50]) + np.arange(114, dtype=np.uint64)
    unseen = Indexed(np.zeros(0, np.uint64), crowds_of(old, layout))
    assert (unseen.crowds & np.uint64(2**32 - 1)).tolist() == [32, 50]
    new = keys + np.uint64(1000)
    np.testing.assert_array_equal(without_crowds(new, [unseen], 51, layout), new)
    assert without_crowds(new, [indexed(old, layout)], 50, layout).tolist() == new[:3].tolist()


def test_new_postings_meet_old_ones_as_if_all_had_come_at_once() -> None:
    rng = np.random.default_rng(3)
    prints = [rng.choice(np.array([1, 2, 8, 32, 128], np.uint32), 80) for _ in range(9)]
    layout = PostingLayout(1)
    words = postings_of(np.concatenate(prints), np.array([80] * 9), 0, layout).words
    is_new = layout.tracks(words) >= 5

    def met(left: Words, right: Words | None) -> list[tuple[int, int]]:
        pairs = [np.sort(np.stack(two), axis=0) for two in meetings(left, right, layout)]
        return [(int(one), int(other)) for two in pairs for one, other in two.T]

    old, new = words[~is_new], words[is_new]
    apart = met(old, None) + met(new, None) + met(new, old)
    assert len(apart) > 100
    assert sorted(apart) == sorted(met(words, None))
    assert sorted(met(new, old)) == sorted(met(old, new))


def test_silence_and_standstills_have_no_key() -> None:
    rng = np.random.default_rng(4)
    held = np.repeat(draw(rng, 20), 5)
    silence = np.full(100, SILENCE, np.uint32)
    assert found([np.concatenate([silence, held])] * 2, 1, PostingLayout(1)) == {}


def test_sampling_keeps_the_same_keys_of_all_tracks() -> None:
    rng = np.random.default_rng(5)
    items, layout = draw(rng, 8000), PostingLayout(1024)
    words = [
        postings_of(items[first:], np.array([8000 - first]), 0, layout, sample_one_in=8).words for first in (0, 100)
    ]
    assert len(words[0]) == pytest.approx(8000 / 8, rel=0.1)
    places = [set((one & np.uint64(0xFFFF)).tolist()) for one in words]
    assert {place - 100 for place in places[0] if place > 100} == places[1] - {0}


def test_blocks_of_items_do_not_show() -> None:
    rng = np.random.default_rng(6)
    lengths = np.array([70_000, 3, 0, 60_000, 1])
    items = draw(rng, int(lengths.sum()))
    layout = PostingLayout(1)
    together = postings_of(items, lengths, 0, layout).words
    ends = np.cumsum(lengths)
    apart = [
        postings_of(items[e - n : e], np.array([n]), t, layout).words
        for t, (e, n) in enumerate(zip(ends, lengths, strict=True))
    ]
    np.testing.assert_array_equal(together, np.sort(np.concatenate(apart)))
    assert int((together[layout.tracks(together) == 0] & np.uint64(0xFFFF)).max()) < MAX_ITEMS


@pytest.mark.parametrize(
    ("num_tracks", "longest", "bits"), [(2, 1, 0), (1_000_000, 2419, 0), (4_000_000, 2419, 3), (1 << 20, 65_536, 9)]
)
def test_votes_fit_64_bits_by_coarser_times(num_tracks: int, longest: int, bits: int) -> None:
    layout = VoteLayout.of(num_tracks, longest)
    assert 2 * layout.track_bits + layout.offset_bits + layout.time_bits <= 64
    assert layout.time_shift == 2 + bits


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="3 items and 1 lengths that add up to 4"):
        postings_of(np.zeros(3, np.uint32), np.array([4]), 0, PostingLayout(1))
    with pytest.raises(ValueError, match="track 65536 of at most 65536"):
        postings_of(np.zeros(3, np.uint32), np.array([3]), 65_536, PostingLayout(1))
    with pytest.raises(ValueError, match="exceed 64 bits"):
        VoteLayout.of(1 << 26, 65_536)
