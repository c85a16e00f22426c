"""Judging by ear: the interval of a share, how many songs it takes, which to hear first, what the sample says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erfinv
from scipy.stats import binomtest, hypergeom

from curation.audit import (
    doubt_of,
    doubt_parts,
    random_order,
    sample_of,
    sample_size,
    wilson_interval,
)

SHARES = st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@given(SHARES, st.floats(0.5, 0.999))
def test_the_interval_is_wilsons(share: tuple[int, int], confidence: float) -> None:
    successes, trials = share
    wanted = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(SHARES, st.integers(2, 300))
def test_of_few_songs_a_sample_tells_more(share: tuple[int, int], left: int) -> None:
    successes, trials = share
    low, high = wilson_interval(successes, trials, population=trials + left)
    wide = wilson_interval(successes, trials)
    assert wide[0] <= low <= successes / trials <= high <= wide[1]
    # a sample of infinitely many is worth as much where it is larger by the finite population correction
    worth = trials * (trials + left - 1) / left
    assert (high - low) / 2 == pytest.approx(half_width(successes / trials, worth, 0.95), abs=1e-9)


@pytest.mark.parametrize(("drawn", "population"), [(20, 50), (40, 200)])
def test_the_interval_of_few_holds_as_often_as_it_says(drawn: int, population: int) -> None:
    holds = []
    for bad in range(population + 1):
        found = np.arange(max(0, drawn - (population - bad)), min(drawn, bad) + 1)
        limits = np.array([wilson_interval(int(k), drawn, population=population) for k in found])
        inside = (limits[:, 0] <= bad / population + 1e-9) & (bad / population <= limits[:, 1] + 1e-9)
        holds.append(float(hypergeom.pmf(found, population, bad, drawn)[inside].sum()))
    assert 0.945 <= np.mean(holds) <= 0.97


@given(SHARES)
def test_of_all_songs_the_share_is_known(share: tuple[int, int]) -> None:
    successes, trials = share
    assert wilson_interval(successes, trials, population=trials) == (successes / trials,) * 2


def test_of_no_sample_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(2, 1), (-1, 3)])
def test_a_share_is_of_its_sample(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson_interval(successes, trials)
    with pytest.raises(ValueError, match="of 3 in all, is no share"):
        wilson_interval(1, 4, population=3)


@given(st.floats(0, 1), st.floats(0.01, 0.3), st.floats(0.6, 0.99))
def test_the_sample_is_the_smallest_whose_interval_is_so_narrow(
    share: float, within: float, confidence: float
) -> None:
    size = sample_size(share, within, confidence)
    assert half_width(share, size, confidence) <= within + 1e-9
    assert size == 0 or half_width(share, size - 1, confidence) > within - 1e-9


@given(st.floats(0, 1), st.floats(0.01, 0.3), st.integers(1, 5000))
def test_of_few_songs_fewer_are_needed(share: float, within: float, population: int) -> None:
    size = sample_size(share, within, population=population)
    assert size <= min(population, sample_size(share, within))
    for heard, is_enough in ((size, True), (size - 1, False)):
        if 0 < heard < population:
            worth = heard * (population - 1) / (population - heard)
            assert (half_width(share, worth, 0.95) <= within + (1e-9 if is_enough else -1e-9)) is is_enough


def half_width(share: float, trials: float, confidence: float) -> float:
    """Wilson's interval, written out as in the textbooks."""
    if trials == 0:
        return 0.5
    z = math.sqrt(2) * float(erfinv(confidence))
    inside = share * (1 - share) / trials + z * z / (4 * trials * trials)
    return z / (1 + z * z / trials) * math.sqrt(inside)


class TestDoubt:
    def test_what_is_not_known_makes_no_doubt(self) -> None:
        assert doubt_parts() == {}
        assert doubt_of({}) == 0

    def test_parts_add_up_as_chances(self) -> None:
        parts = doubt_parts(grade="C", confidence=0.5)
        assert set(parts) == {"grade", "confidence"}
        assert doubt_of(parts) == pytest.approx(1 - (1 - parts["grade"]) * (1 - parts["confidence"]), abs=1e-4)

    @given(
        st.sampled_from("ABCD"),
        st.integers(0, 9),
        st.floats(0, 1),
        st.floats(0, 1),
        st.floats(-60, 10),
        st.floats(0, 1),
    )
    def test_doubt_is_a_share(
        self, grade: str, reasons: int, confidence: float, coherence: float, residual_db: float, damaged: float
    ) -> None:
        parts = doubt_parts(
            grade=grade,
            num_reasons=reasons,
            confidence=confidence,
            coherence=coherence,
            residual_db=residual_db,
            damaged_fraction=damaged,
        )
        assert all(0 <= part <= 1 for part in parts.values())
        assert max(parts.values()) - 1e-3 <= doubt_of(parts) <= 1

    @pytest.mark.parametrize(
        ("better", "worse"),
        [
            ({"grade": "A"}, {"grade": "B"}),
            ({"grade": "C"}, {"grade": "D"}),
            ({"grade": "C", "num_reasons": 1}, {"grade": "C", "num_reasons": 3}),
            ({"confidence": 0.9}, {"confidence": 0.4}),
            ({"coherence": 0.9}, {"coherence": 0.4}),
            ({"residual_db": -25.0}, {"residual_db": -10.0}),
            ({"damaged_fraction": 0.0}, {"damaged_fraction": 0.2}),
        ],
    )
    def test_what_is_worse_is_more_doubtful(self, better: dict, worse: dict) -> None:
        assert doubt_of(doubt_parts(**better)) < doubt_of(doubt_parts(**worse))


class TestRandomOrder:
    IDS = tuple(f"song{number}" for number in range(300))

    def test_it_is_the_same_whatever_the_order_of_the_table(self) -> None:
        assert random_order(self.IDS) == random_order(reversed(self.IDS))
        assert sorted(random_order(self.IDS)) == sorted(self.IDS)

    def test_songs_that_leave_do_not_disturb_the_rest(self) -> None:
        left = [song for song in self.IDS if not song.endswith("7")]
        assert random_order(left) == [song for song in random_order(self.IDS) if song in left]

    def test_nothing_about_a_song_decides_its_place(self) -> None:
        places = [self.IDS.index(song) for song in random_order(self.IDS)]
        assert abs(np.corrcoef(places, range(len(places)))[0, 1]) < 0.2
        assert random_order(self.IDS, seed=1) != random_order(self.IDS)


class TestSample:
    ORDER = tuple("abcdefghij")

    def test_nothing_heard(self) -> None:
        sample = sample_of(self.ORDER, {}, [])
        assert (sample.heard, sample.rate, sample.low, sample.high) == (0, None, 0.0, 1.0)
        assert sample.needed == len(self.ORDER)  # more than there are would be needed

    def test_songs_judged_in_the_random_order_count(self) -> None:
        sample = sample_of(self.ORDER, {"a": False, "b": True, "c": False}, "abc")
        assert (sample.heard, sample.rejected, sample.skipped) == (3, 1, 0)
        assert (sample.low, sample.high) == wilson_interval(1, 3, population=10)

    def test_a_song_judged_elsewhere_counts_when_the_random_order_has_come_to_it(self) -> None:
        judged = {"a": False, "b": True, "e": True}
        sample = sample_of(self.ORDER, judged, "a")
        assert (sample.heard, sample.rejected, sample.skipped) == (2, 1, 0)  # e lies ahead
        judged |= {"c": False, "d": False}
        sample = sample_of(self.ORDER, judged, "acd")
        assert (sample.heard, sample.rejected) == (5, 2)

    def test_what_is_judged_beyond_a_skipped_song_counts_when_that_is_judged(self) -> None:
        judged = {"a": False, "c": True, "d": True, "f": False}
        sample = sample_of(self.ORDER, judged, "acf")
        assert (sample.heard, sample.rejected, sample.skipped) == (1, 0, 2)  # b and e
        sample = sample_of(self.ORDER, judged | {"b": False}, "abcf")
        assert (sample.heard, sample.rejected, sample.skipped) == (4, 2, 1)

    def test_who_only_looked_for_bad_songs_has_no_sample(self) -> None:
        sample = sample_of(self.ORDER, {"a": True, "b": True}, "")
        assert (sample.heard, sample.rate, sample.low, sample.high) == (0, None, 0.0, 1.0)

    @pytest.mark.parametrize("heard_at_random", [1, 2, 3])
    def test_songs_chosen_because_they_are_bad_do_not_bias_the_rate(self, heard_at_random: int) -> None:
        is_bad = dict(zip("abcdefg", (True, True, False, True, False, False, False), strict=True))
        chosen = "abc"  # all doubtful songs were judged before anybody listened at random
        rates = []
        for order in itertools.permutations(is_bad):
            at_random = [song for song in order if song not in chosen][:heard_at_random]
            judged = {song: is_bad[song] for song in (*chosen, *at_random)}
            rates.append(sample_of(order, judged, at_random).rate)
        assert np.mean([rate for rate in rates if rate is not None]) == pytest.approx(3 / 7)
        assert None not in rates

    @pytest.mark.parametrize("at_random", ["", "abcdefghij"])
    def test_when_all_songs_are_judged_the_share_is_known(self, at_random: str) -> None:
        judged = {song: song in "cfg" for song in self.ORDER}
        sample = sample_of(self.ORDER, judged, at_random, within=0.001)
        assert (sample.low, sample.rate, sample.high) == (0.3, 0.3, 0.3)
        assert (sample.heard, sample.skipped, sample.needed) == (10, 0, 0)

    def test_of_no_songs_nothing_is_needed(self) -> None:
        assert sample_of([], {}, []).needed == 0

    def test_a_verdict_taken_back_does_not_count(self) -> None:
        assert sample_of(self.ORDER, {"a": False}, "ab").heard == 1

    def test_how_many_more_at_this_rate(self) -> None:
        order = [f"{number:04}" for number in range(1000)]
        judged = {song: place % 10 == 0 for place, song in enumerate(order[:40])}
        sample = sample_of(order, judged, judged, within=0.05)
        assert sample.rate == 0.1
        assert sample.needed == sample_size(0.1, 0.05, population=1000) - 40 > 0
