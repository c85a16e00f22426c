"""Judging by ear: the interval of a share, how many songs it takes, which to hear first, what the sample says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erfinv
from scipy.stats import binomtest

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


def test_of_no_sample_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(2, 1), (-1, 3)])
def test_a_share_is_of_its_sample(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson_interval(successes, trials)


@given(st.floats(0, 1), st.floats(0.01, 0.3), st.floats(0.6, 0.99))
def test_the_sample_is_the_smallest_whose_interval_is_so_narrow(
    share: float, within: float, confidence: float
) -> None:
    size = sample_size(share, within, confidence)
    assert half_width(share, size, confidence) <= within + 1e-9
    assert size == 0 or half_width(share, size - 1, confidence) > within - 1e-9


def half_width(share: float, trials: int, confidence: float) -> float:
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
        assert (sample.low, sample.high) == wilson_interval(1, 3)

    def test_what_is_judged_elsewhere_counts_once_the_random_order_has_come_to_it(self) -> None:
        judged = {"a": False, "b": True, "c": False, "i": True}
        sample = sample_of(self.ORDER, judged, "ac")
        assert (sample.heard, sample.rejected) == (3, 1)  # i lies ahead

    def test_skipped_songs_are_told_and_nothing_is_made_up_behind_them(self) -> None:
        judged = {"a": False, "c": True, "d": False, "f": False}
        sample = sample_of(self.ORDER, judged, "adf")
        assert (sample.heard, sample.rejected, sample.skipped) == (3, 0, 2)  # not c: chosen for its doubt

    def test_a_verdict_taken_back_does_not_count(self) -> None:
        assert sample_of(self.ORDER, {"a": False}, "ab").heard == 1

    def test_how_many_more_at_this_rate(self) -> None:
        order = [f"{number:04}" for number in range(1000)]
        judged = {song: place % 10 == 0 for place, song in enumerate(order[:40])}
        sample = sample_of(order, judged, judged, within=0.05)
        assert sample.rate == 0.1
        assert sample.needed == sample_size(0.1, 0.05) - 40
