"""Fingerprint matching against brute force, planted runs, and mixtures with their instrumentals."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.chromaprint import HOP_FRAMES, SAMPLE_RATE, SILENCE, Fingerprint, fingerprint
from curation.matching import (
    MAX_BIT_ERROR_RATE,
    Match,
    best_match,
    best_matches,
    bit_error_rates,
    glanced,
    join_candidates,
    match_at,
    window_matches,
)

Floats = npt.NDArray[np.float64]


def prints_of(*, min_size: int = 0, max_size: int = 40) -> st.SearchStrategy[Fingerprint]:
    """Fingerprints in which silence, held items and items known from elsewhere are frequent."""
    item = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([SILENCE, 0, 1, 2**32 - 1]))
    return st.lists(item, min_size=min_size, max_size=max_size).map(lambda items: np.array(items, np.uint32))


def draw(rng: np.random.Generator, size: int) -> Fingerprint:
    return rng.integers(0, 2**32, size, dtype=np.uint32)


def flipped(items: Fingerprint, rate: float, rng: np.random.Generator) -> Fingerprint:
    """The items with every bit wrong with probability `rate`."""
    wrong = rng.random((len(items), 32)) < rate
    return items ^ np.packbits(wrong, axis=1).view(np.uint32).ravel()


def compared_one_by_one(a: Fingerprint, b: Fingerprint, min_overlap: int) -> dict[int, float]:
    rates = {}
    for offset in range(1 - len(a), len(b)):
        pairs = [(int(x), int(b[i + offset])) for i, x in enumerate(a) if 0 <= i + offset < len(b)]
        heard = [(x, y) for x, y in pairs if SILENCE not in (x, y)]
        if len(heard) >= min_overlap:
            rates[offset] = sum((x ^ y).bit_count() for x, y in heard) / (32 * len(heard))
    return rates


def spans_of(prints: list[Fingerprint]) -> npt.NDArray[np.int64]:
    ends = np.cumsum([len(one) for one in prints])
    return np.stack([ends - [len(one) for one in prints], ends])


class TestGlanced:
    @settings(deadline=None)
    @given(
        prints=st.lists(prints_of(), min_size=1, max_size=4),
        pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-50, 50)), max_size=8),
    )
    def test_short_overlaps_are_compared_at_128_places_that_are_evenly_spread(
        self, prints: list[Fingerprint], pairs: list[tuple[int, int, int]]
    ) -> None:
        spans = spans_of(prints)
        expected = []
        for a, b, offset in ((a % len(prints), b % len(prints), offset) for a, b, offset in pairs):
            overlap = [
                (int(x), int(prints[b][i + offset]))
                for i, x in enumerate(prints[a])
                if 0 <= i + offset < len(prints[b])
            ]
            looks = [overlap[look * len(overlap) // 128] for look in range(128) if overlap]
            heard = [(x, y) for x, y in looks if SILENCE not in (x, y)]
            wrong = sum((x ^ y).bit_count() for x, y in heard)
            expected.append(wrong / (32 * len(heard)) if heard else 1.0)
        a, b = ([pair[side] % len(prints) for pair in pairs] for side in (0, 1))
        offsets = np.array([offset for *_, offset in pairs], np.int64)
        items = np.concatenate(prints).astype(np.uint32)
        found = glanced(items, spans[:, np.array(a, np.int64)], spans[:, np.array(b, np.int64)], offsets)
        assert found.tolist() == expected

    def test_tells_strangers_from_pairs(self) -> None:
        rng = np.random.default_rng(1)
        song = draw(rng, 1700)
        prints = [song, np.concatenate([draw(rng, 200), flipped(song, 0.35, rng)]), draw(rng, 1700)]
        spans = spans_of(prints)
        found = glanced(
            np.concatenate(prints), spans[:, [0, 0, 0]], spans[:, [1, 1, 2]], np.array([200, 201, 0], np.int64)
        )
        assert found == pytest.approx([0.35, 0.5, 0.5], abs=0.03)
        assert match_at(song, prints[1], 200).bit_error_rate == pytest.approx(0.35, abs=0.01)


class TestBitErrorRates:
    @settings(deadline=None)
    @given(a=prints_of(), b=prints_of(), min_overlap=st.integers(1, 20))
    def test_equal_the_bits_counted_one_by_one(self, a: Fingerprint, b: Fingerprint, min_overlap: int) -> None:
        offsets, rates = bit_error_rates(a, b, min_overlap)
        expected = compared_one_by_one(a, b, min_overlap)
        assert offsets.tolist() == list(expected)
        assert rates.tolist() == list(expected.values())

    @settings(deadline=None)
    @given(a=prints_of(), b=prints_of())
    def test_swapping_negates_the_offsets(self, a: Fingerprint, b: Fingerprint) -> None:
        offsets, rates = bit_error_rates(a, b, 1)
        swapped_offsets, swapped_rates = bit_error_rates(b, a, 1)
        assert swapped_offsets.tolist() == (-offsets[::-1]).tolist()
        assert swapped_rates.tolist() == rates[::-1].tolist()

    @pytest.mark.parametrize("size", [8000, 9000])
    def test_are_exact_for_long_fingerprints(self, size: int) -> None:
        rng = np.random.default_rng(1)
        a, b = draw(rng, size), draw(rng, size)
        b[3:] = flipped(a[:-3], 0.01, rng)
        offsets, rates = bit_error_rates(a, b, 1)
        for offset in (-size + 1, -4000, 0, 3, size // 2, size - 1):
            x = a[max(0, -offset) : size - max(0, offset)]
            y = b[max(0, offset) : size + min(0, offset)]
            assert rates[offsets == offset].item() == np.bitwise_count(x ^ y).sum() / (32 * len(x))

    def test_opposite_bits_are_all_wrong(self) -> None:
        a = draw(np.random.default_rng(2), 50)
        offsets, rates = bit_error_rates(a, ~a, 50)
        assert (offsets.tolist(), rates.tolist()) == ([0], [1.0])

    def test_what_is_no_fingerprint_is_named(self) -> None:
        good = np.zeros(3, np.uint32)
        with pytest.raises(ValueError, match=r"'b' is int64 of shape \(3,\)"):
            bit_error_rates(good, np.zeros(3, np.int64), 1)
        with pytest.raises(ValueError, match=r"'a' is uint32 of shape \(1, 3\)"):
            bit_error_rates(good[None], good, 1)
        with pytest.raises(ValueError, match="min_overlap is 0"):
            bit_error_rates(good, good, 0)


class TestBestMatches:
    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        before_a=st.integers(0, 60),
        before_b=st.integers(0, 60),
        rate=st.floats(0.0, 0.3),
    )
    def test_planted_run_is_found_at_its_offset(self, seed: int, before_a: int, before_b: int, rate: float) -> None:
        rng = np.random.default_rng(seed)
        shared = draw(rng, 200)
        a = np.concatenate([draw(rng, before_a), shared, draw(rng, 30)])
        b = np.concatenate([draw(rng, before_b), flipped(shared, rate, rng), draw(rng, 10)])
        match = best_match(a, b)
        assert match is not None
        assert match.offset_items == before_b - before_a
        overlap = min(before_a, before_b) + 200 + 10
        assert match.overlap_items == overlap
        expected = (200 * rate + 0.5 * (overlap - 200)) / overlap
        assert match.bit_error_rate == pytest.approx(expected, abs=0.04)
        reverse = best_match(b, a)
        assert reverse == Match(-match.offset_items, match.bit_error_rate, match.overlap_items)

    def test_repeating_song_gives_its_other_bars_too_but_not_their_neighbours(self) -> None:
        rng = np.random.default_rng(3)
        bar = np.repeat(draw(rng, 8), 2)  # neighbours agree, as in real fingerprints
        song = flipped(np.tile(bar, 10), 0.05, rng)
        matches = best_matches(song, flipped(song, 0.1, rng), count=5)
        assert matches[0].offset_items == 0
        offsets = [match.offset_items for match in matches]
        assert len(set(offsets)) == 5
        assert all(offset % 16 == 0 for offset in offsets)
        rates = [match.bit_error_rate for match in matches]
        assert rates == sorted(rates)
        assert rates[0] < 0.13 < rates[1]

    def test_matches_keep_their_distance(self) -> None:
        rng = np.random.default_rng(4)
        a, b = draw(rng, 300), draw(rng, 300)
        for separation in (1, 4, 25):
            offsets = sorted(m.offset_items for m in best_matches(a, b, count=8, separation_items=separation))
            assert len(offsets) == 8
            assert np.diff(offsets).min() >= separation

    def test_common_silence_is_no_match(self) -> None:
        rng = np.random.default_rng(5)
        lead_in = np.full(150, SILENCE, np.uint32)
        a, b = np.concatenate([lead_in, draw(rng, 200)]), np.concatenate([lead_in, draw(rng, 200)])
        match = best_match(a, b)
        assert match is not None
        assert match.bit_error_rate > 0.43
        assert match.overlap_items <= 200

    @pytest.mark.parametrize("a", [np.zeros(0, np.uint32), np.full(300, SILENCE, np.uint32)])
    def test_nothing_to_compare_is_no_match(self, a: Fingerprint) -> None:
        b = draw(np.random.default_rng(6), 300)
        assert best_match(a, b) is None
        assert best_matches(b, a) == []
        assert window_matches(a, b) == []
        assert window_matches(b, a) == []

    def test_overlap_below_the_minimum_is_not_considered(self) -> None:
        rng = np.random.default_rng(7)
        a, b = draw(rng, 100), draw(rng, 100)
        b[:30] = a[70:]
        match = best_match(a, b)
        assert match is not None
        assert match.offset_items != -70
        assert best_match(a, b, min_overlap=30) == Match(-70, 0.0, 30)


class TestWindowMatches:
    def test_inserted_bar_shows_as_a_second_offset(self) -> None:
        rng = np.random.default_rng(8)
        a = draw(rng, 1000)
        b = np.concatenate([draw(rng, 7), a[:500], draw(rng, 40), a[500:]])
        windows = window_matches(a, flipped(b, 0.2, rng), window_items=100, hop_items=50)
        assert [w.start_item for w in windows] == list(range(0, 901, 50))
        assert all(w.end_item - w.start_item == 100 for w in windows)
        offsets = {w.start_item: w.match.offset_items for w in windows}
        assert {offsets[start] for start in range(0, 401, 50)} == {7}
        assert {offsets[start] for start in range(500, 901, 50)} == {47}
        assert all(w.match.bit_error_rate < 0.25 for w in windows if w.start_item != 450)

    def test_slower_copy_moves_the_offset_steadily(self) -> None:
        rng = np.random.default_rng(9)
        # Each item lasts several hops, so that the slower copy differs by repeating some of them.
        a = np.repeat(draw(rng, 400), 4)
        b = a[np.rint(np.arange(int(1600 * 1.01)) / 1.01).astype(int).clip(0, 1599)]
        windows = window_matches(a, b)
        middles = np.array([(w.start_item + w.end_item) / 2 for w in windows])
        offsets = np.array([w.match.offset_items for w in windows])
        np.testing.assert_allclose(offsets, 0.01 * middles, atol=1.0)
        assert all(w.match.bit_error_rate < MAX_BIT_ERROR_RATE for w in windows)

    def test_offset_range_keeps_windows_on_the_right_bar(self) -> None:
        rng = np.random.default_rng(10)
        bar = draw(rng, 60)
        a = np.tile(bar, 4)
        b = np.concatenate([flipped(np.tile(bar, 2), 0.2, rng), np.tile(bar, 2)])
        free = window_matches(a, b, window_items=60, hop_items=60)
        assert {w.match.offset_items for w in free[:2]} != {0}
        near = window_matches(a, b, window_items=60, hop_items=60, offset_range=(-10, 10))
        assert [w.match.offset_items for w in near] == [0, 0, 0, 0]

    def test_silent_windows_are_left_out(self) -> None:
        a = draw(np.random.default_rng(11), 400)
        a[100:300] = SILENCE
        starts = [w.start_item for w in window_matches(a, a, window_items=100, hop_items=50)]
        assert starts == [0, 50, 250, 300]

    def test_short_fingerprint_is_one_window(self) -> None:
        a = draw(np.random.default_rng(12), 50)
        (window,) = window_matches(a, np.concatenate([draw(np.random.default_rng(13), 9), a]))
        assert (window.start_item, window.end_item, window.match) == (0, 50, Match(9, 0.0, 50))

    @pytest.mark.parametrize(("window_items", "hop_items"), [(0, 1), (1, 0)])
    def test_lengths_must_be_positive(self, window_items: int, hop_items: int) -> None:
        a = np.zeros(9, np.uint32)
        with pytest.raises(ValueError, match="expected at least 1"):
            window_matches(a, a, window_items=window_items, hop_items=hop_items)


def counted_one_by_one(
    prints: Mapping[str, Fingerprint], max_tracks: int, min_votes: int
) -> dict[tuple[str, str], dict[int, int]]:
    places: dict[int, list[tuple[str, int]]] = {}
    for track_id in sorted(prints):
        items = prints[track_id].tolist()
        for i, item in enumerate(items):
            if item != SILENCE and item not in (*items[max(0, i - 1) : i], *items[i + 1 : i + 2]):
                places.setdefault(item, []).append((track_id, i))
    votes: dict[tuple[str, str], Counter[int]] = {}
    for found in places.values():
        if len({track_id for track_id, _ in found}) <= max_tracks and len(found) <= 4 * max_tracks:
            for (a, i), (b, j) in itertools.combinations(found, 2):
                if a != b:
                    votes.setdefault((a, b), Counter())[j - i] += 1
    enough = {pair: {o: v for o, v in c.items() if v >= min_votes} for pair, c in votes.items()}
    return {pair: offsets for pair, offsets in enough.items() if offsets}


def as_votes(candidates: pd.DataFrame) -> dict[tuple[str, str], dict[int, int]]:
    result: dict[tuple[str, str], dict[int, int]] = {}
    for a, b, votes, offset in candidates.itertuples(index=False):
        result.setdefault((a, b), {})[offset] = votes
    return result


class TestJoinCandidates:
    @settings(deadline=None)
    @given(
        prints=st.dictionaries(
            st.text("abc", min_size=1, max_size=3),
            st.lists(st.sampled_from([SILENCE, *range(12)]), max_size=30).map(lambda x: np.array(x, np.uint32)),
            max_size=6,
        ),
        max_tracks=st.integers(2, 4),
        min_votes=st.integers(1, 3),
    )
    def test_votes_equal_those_counted_one_by_one(
        self, prints: dict[str, Fingerprint], max_tracks: int, min_votes: int
    ) -> None:
        expected = counted_one_by_one(prints, max_tracks, min_votes)
        every = join_candidates(
            prints, max_tracks_per_key=max_tracks, min_votes=min_votes, max_offsets_per_pair=1000
        )
        assert as_votes(every) == expected
        assert every["votes"].is_monotonic_decreasing
        assert (every["a"] < every["b"]).all()
        best = as_votes(join_candidates(prints, max_tracks_per_key=max_tracks, min_votes=min_votes))
        assert best.keys() == expected.keys()
        for pair, offsets in best.items():
            ((offset, votes),) = offsets.items()
            assert votes == max(expected[pair].values()) == expected[pair][offset]

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), before=st.integers(0, 300), later=st.booleans())
    def test_planted_pair_is_found_among_strangers(self, seed: int, before: int, later: bool) -> None:
        rng = np.random.default_rng(seed)
        prints = {f"stranger {i}": draw(rng, 500) for i in range(20)}
        shared = flipped(prints["stranger 7"], 0.1, rng)  # 3.4 % of the items stay whole
        name = "zebra" if later else "aardvark"
        prints[name] = np.concatenate([draw(rng, before), shared])
        pair, offset = (("stranger 7", name), before) if later else ((name, "stranger 7"), -before)
        whole = int(np.count_nonzero(shared == prints["stranger 7"]))
        found = join_candidates(prints, min_votes=3)
        assert as_votes(found) == ({pair: {offset: whole}} if whole >= 3 else {})

    def test_offset_is_that_of_best_match(self) -> None:
        rng = np.random.default_rng(14)
        a = draw(rng, 300)
        b = np.concatenate([draw(rng, 21), a])
        (row,) = join_candidates([("b", b), ("a", a)]).itertuples(index=False)
        match = best_match(a, b)
        assert match is not None
        assert (row.a, row.b, row.votes, row.offset_items) == ("a", "b", 300, match.offset_items)

    def test_items_in_many_tracks_do_not_vote(self) -> None:
        rng = np.random.default_rng(15)
        jingle = draw(rng, 30)
        prints = {f"{i:02}": np.concatenate([draw(rng, 50), jingle]) for i in range(21)}
        assert join_candidates(prints).empty
        del prints["20"]
        assert len(join_candidates(prints)) == 20 * 19 // 2

    def test_standstills_do_not_vote(self) -> None:
        rng = np.random.default_rng(16)
        held = np.repeat(draw(rng, 20), 5)
        silence = np.full(100, SILENCE, np.uint32)
        prints = {name: np.concatenate([silence, draw(rng, 50), held]) for name in ("a", "b")}
        assert join_candidates(prints, min_votes=1).empty

    def test_sampling_thins_the_votes_of_all_tracks_alike(self) -> None:
        rng = np.random.default_rng(17)
        a = draw(rng, 8000)
        (row,) = join_candidates({"a": a, "b": a[100:]}, sample_one_in=8).itertuples(index=False)
        assert row.offset_items == -100
        assert row.votes == pytest.approx(7900 / 8, rel=0.1)

    @pytest.mark.parametrize("prints", [{}, {"a": np.zeros(0, np.uint32), "b": np.arange(9, dtype=np.uint32)}])
    def test_nothing_shared_is_an_empty_table_of_the_same_columns(self, prints: dict[str, Fingerprint]) -> None:
        rng = np.random.default_rng(18)
        a = draw(rng, 50)
        empty, full = join_candidates(prints), join_candidates({"a": a, "b": a})
        assert len(full) == 1
        assert empty.empty
        assert empty.dtypes.to_dict() == full.dtypes.to_dict()
        assert empty.dtypes.astype(str).to_dict() == {
            "a": "str",
            "b": "str",
            "votes": "int64",
            "offset_items": "int64",
        }

    def test_bad_input_is_named(self) -> None:
        one = np.zeros(3, np.uint32)
        with pytest.raises(ValueError, match="two fingerprints have the id 'x'"):
            join_candidates([("x", one), ("x", one)])
        with pytest.raises(ValueError, match=r"'y' is int64 of shape \(3,\)"):
            join_candidates({"y": np.zeros(3, np.int64)})  # type: ignore[arg-type]
        for setting in ("min_votes", "max_offsets_per_pair", "sample_one_in"):
            with pytest.raises(ValueError, match=f"{setting} 0"):
                join_candidates({}, **{setting: 0})
        with pytest.raises(ValueError, match="max_tracks_per_key is 1"):
            join_candidates({}, max_tracks_per_key=1)


def melody(rng: np.random.Generator, notes: int, level: float) -> Floats:
    """Random notes of a third of a second with four harmonics."""
    t = np.arange(SAMPLE_RATE // 3) / SAMPLE_RATE
    pitches = 110 * 2 ** (rng.integers(0, 36, notes) / 12)
    harmonics = np.arange(1, 5)
    waves = np.sin(2 * np.pi * pitches[:, None, None] * harmonics[:, None] * t) / harmonics[:, None]
    return np.asarray(waves.sum(axis=1) * np.exp(-4 * t) * level).ravel()


def heard(signal: Floats) -> Fingerprint:
    return fingerprint(np.rint(signal * 32767).clip(-32768, 32767).astype(np.int16))


def test_instrumental_that_starts_later_has_a_positive_offset() -> None:
    rng = np.random.default_rng(19)
    band = melody(rng, 180, 0.2) + melody(rng, 180, 0.2)
    vocals = melody(rng, 180, 0.12) * (np.arange(band.size) % (8 * SAMPLE_RATE) < 5 * SAMPLE_RATE)
    delay = 25 * HOP_FRAMES
    mixture, instrumental = heard(band + vocals), heard(np.concatenate([np.zeros(delay), band]))
    stranger = heard(melody(rng, 180, 0.2) + melody(rng, 180, 0.2))

    match = best_match(mixture, instrumental)
    assert match is not None
    assert match.offset_items == 25
    assert match.bit_error_rate < MAX_BIT_ERROR_RATE
    (row,) = join_candidates({"m": mixture, "i": instrumental, "s": stranger}).itertuples(index=False)
    assert (row.a, row.b, row.offset_items) == ("i", "m", -25)
    other = best_match(mixture, stranger)
    assert other is not None
    assert other.bit_error_rate > MAX_BIT_ERROR_RATE
