"""Where a class is heard best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curation.anchors import Anchor, AnchorLimits, find_anchors
from manifests.errors import RecipeError

COLUMN = 100


def curves(columns: int, **bumps: tuple[int, int, float]) -> np.ndarray:
    """A row for each bump: a probability from one column to before another, and 0 elsewhere."""
    rows = np.zeros((len(bumps), columns))
    for row, (first, end, value) in zip(rows, bumps.values(), strict=True):
        row[first:end] = value
    return rows


def find(probabilities: Any, length: int = 200, labels: Any = (), spans: Any = None, **limits: Any) -> list[Anchor]:
    probabilities = np.asarray(probabilities)
    return find_anchors(
        probabilities,
        column_frames=COLUMN,
        num_frames=probabilities.shape[1] * COLUMN,
        length_frames=length,
        labels=labels,
        spans=spans,
        limits=AnchorLimits(**limits),
    )


def test_a_bump_is_found_where_it_is() -> None:
    assert find(curves(20, dog=(7, 9, 0.9))) == [Anchor(0, 700, 200, 0.9)]


def test_the_mean_weighs_the_columns_that_are_cut() -> None:
    # 2.5 columns: both of the bump, and half a column of nothing on the left, which is the earlier
    (found,) = find(curves(20, dog=(7, 9, 0.9)), length=250)
    assert found == Anchor(0, 650, 250, pytest.approx(0.9 * 2 / 2.5))


@given(
    arrays(np.float64, st.integers(1, 12), elements=st.integers(0, 8).map(lambda n: n / 8)),
    st.integers(1, 700),
    st.integers(1, COLUMN),
)
def test_no_start_at_all_is_better(curve: np.ndarray, length: int, last: int) -> None:
    num_frames = (len(curve) - 1) * COLUMN + last
    (found,) = find_anchors(
        curve[None],
        column_frames=COLUMN,
        num_frames=num_frames,
        length_frames=length,
        limits=AnchorLimits(min_probability=0),
    )
    frames = np.repeat(curve, COLUMN)[:num_frames]
    sums = np.convolve(frames, np.ones(min(length, num_frames)), "valid")
    assert found.probability == pytest.approx(sums.max() / min(length, num_frames), abs=1e-6)
    stretch = frames[found.start_frame : found.start_frame + found.num_frames]
    assert len(stretch) == min(length, num_frames)
    assert stretch.mean() == pytest.approx(found.probability, abs=1e-6)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.floats(0, 1)),
    st.integers(1, 900),
    st.one_of(st.none(), st.integers(1, 5)),
    st.one_of(st.none(), st.integers(1, 5)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.one_of(st.none(), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=4)),
)
def test_anchors_are_apart_inside_in_order_and_within_the_limits(
    probabilities: np.ndarray,
    length: int,
    per_label: int | None,
    per_song: int | None,
    least: float,
    most: float,
    spans: list[tuple[int, int]] | None,
) -> None:
    limits = {"per_label": per_label, "per_song": per_song, "min_probability": least, "max_other": most}
    found = find(probabilities, length, spans=spans, **limits)
    num_frames = probabilities.shape[1] * COLUMN
    allowed = np.zeros(num_frames, bool)
    for first, end in [(0, num_frames)] if spans is None else spans:
        allowed[first : max(end, first)] = True
    heard = np.zeros(num_frames, int)
    frames = np.repeat(probabilities, COLUMN, axis=1)
    for anchor in found:
        inside = slice(anchor.start_frame, anchor.start_frame + anchor.num_frames)
        assert 0 <= anchor.start_frame < anchor.start_frame + anchor.num_frames <= num_frames
        assert allowed[inside].all()
        assert anchor.num_frames <= length
        heard[inside] += 1
        means = frames[:, inside].mean(axis=1)
        assert means[anchor.label] == pytest.approx(anchor.probability, abs=2e-6)
        assert np.delete(means, anchor.label).max(initial=0) <= most + 2e-6
        assert anchor.probability >= least
    assert heard.max() <= 1
    assert [anchor.probability for anchor in found] == sorted((a.probability for a in found), reverse=True)
    assert len(found) <= (per_song or len(found))
    counts = np.bincount([anchor.label for anchor in found], minlength=1)
    assert counts.max() <= (per_label or len(found))


def test_of_equal_ones_the_first_label_and_the_earliest_place_are_taken() -> None:
    same = np.full((2, 5000), 0.7123)
    found = find(same, per_label=None, per_song=3)
    assert [(a.label, a.start_frame) for a in found] == [(0, 0), (0, 200), (0, 400)]


def test_only_labels_are_found_and_none_means_any() -> None:
    both = curves(20, dog=(2, 4, 0.5), car=(10, 12, 0.8), rain=(15, 17, 0.9))
    assert [a.label for a in find(both, labels=[1, 0])] == [1, 0]
    assert [a.label for a in find(both)] == [2, 1, 0]
    assert [a.label for a in find(both, per_song=1)] == [2]


def test_several_places_of_a_label_come_best_first() -> None:
    curve = curves(20, dog=(2, 4, 0.5))
    curve[0, 10:12] = 0.8
    assert [a.start_frame for a in find(curve, per_label=None)] == [1000, 200]
    assert [a.start_frame for a in find(curve, per_label=1)] == [1000]


def test_a_place_is_of_one_label_only() -> None:
    together = curves(20, dog=(2, 6, 0.9), car=(2, 4, 0.8))
    assert find(together) == [Anchor(0, 200, 200, 0.9)]  # of the car no other place is likely enough
    found = find(together, min_probability=0.0)
    assert [a.label for a in found] == [0, 1]


def test_others_may_sound_only_so_far() -> None:
    # over the dog's first half there is a car, which is no label of the file
    both = curves(20, dog=(4, 8, 0.9), car=(4, 6, 0.4))
    assert find(both, labels=[0], max_other=1.0)[0].start_frame == 400
    assert find(both, labels=[0], max_other=0.2)[0].start_frame == 500
    assert find(both, labels=[0], max_other=0.1)[0].start_frame == 600
    everywhere = curves(20, dog=(4, 8, 0.9), car=(0, 20, 0.4))
    assert find(everywhere, labels=[0], max_other=0.39) == []


def test_two_that_are_equally_likely_are_each_others_others() -> None:
    assert find(np.full((2, 4), 0.9), max_other=0.5) == []


def test_what_is_no_longer_than_an_anchor_is_one_as_a_whole() -> None:
    assert find(np.full((1, 2), 0.5), length=200) == [Anchor(0, 0, 200, 0.5)]
    assert find(np.full((1, 2), 0.5), length=1000) == [Anchor(0, 0, 200, 0.5)]
    assert find(np.full((1, 2), 0.5), length=1000, min_probability=0.6) == []


def test_anchors_lie_in_one_span_each_and_spans_that_touch_are_one() -> None:
    curve = curves(20, dog=(4, 8, 0.9))
    (found,) = find(curve, spans=[(0, 500), (650, 2000)])
    assert found == Anchor(0, 650, 200, pytest.approx(0.9 * 150 / 200))
    assert find(curve, spans=[(500, 600), (300, 500)])[0] == Anchor(0, 400, 200, 0.9)
    assert find(curve, spans=[(450, 520)])[0] == Anchor(0, 450, 70, 0.9)
    assert find(curve, spans=[]) == []


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1, np.inf])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        find([[0.5, value]])


def test_other_columns_and_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of 3 columns"):
        find_anchors([[0.5, 0.5]], column_frames=100, num_frames=201, length_frames=10)
    with pytest.raises(ValueError, match="must be rows of 1"):
        find([[0.5, 0.5]], labels=[1])


@pytest.mark.parametrize(
    "wrong", [{"min_probability": 1.1}, {"max_other": -0.1}, {"per_label": 0}, {"per_song": 0}]
)
def test_impossible_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(wrong))} is"):
        AnchorLimits(**wrong)
