"""What becomes of stems with voices in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.cleaning import (
    FAINTEST_DB,
    CleaningLimits,
    free_spans,
    judge_rest,
    judge_steps,
    pure_spans,
    subtract,
    voice_ratio_db,
)
from manifests.errors import RecipeError

STEP = 100

spans = st.lists(st.tuples(st.integers(0, 990), st.integers(1, 200)), max_size=6).map(
    lambda found: sorted((start, min(start + length, 1000)) for start, length in found)
)


def judged(ratios_db, probability, last=STEP, **limits):
    voice = 10 ** (np.asarray(ratios_db, float) / 10)
    return judge_steps(
        voice,
        np.ones(len(voice)),
        probability,
        step_frames=STEP,
        num_frames=(len(voice) - 1) * STEP + last,
        limits=CleaningLimits(**limits),
    )


def test_ratio_is_of_energies_and_never_above_the_stem() -> None:
    found = voice_ratio_db([1, 0.1, 0, 5, 0], [1, 1, 1, 1, 0])
    np.testing.assert_allclose(found, [0, -10, FAINTEST_DB, 0, FAINTEST_DB])


def test_a_stem_without_voices_is_kept_however_much_the_separator_finds() -> None:
    found = judged([-1, -2, -1], [0.4, 0.1, 0.2])
    assert found.verdict == "kept"
    assert (found.cleaned, found.damaged) == ((), ())
    assert (found.voice_db, found.cleaned_fraction, found.damaged_fraction) == (FAINTEST_DB, 0, 0)


def test_a_voice_too_faint_to_matter_is_kept() -> None:
    assert judged([-31, -40], [1, 1]).verdict == "kept"
    assert judged([-29, -40], [1, 1]).verdict == "cleaned"


def test_a_voice_is_cleaned_with_a_margin_and_without_pauses() -> None:
    #        0    1    2    3    4    5    6    7    8    9
    heard = [0.1, 0.1, 0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]
    found = judged([-10] * 10, heard, last=50, pause_steps=2, margin_steps=1)
    assert found.cleaned == ((100, 700),)
    assert found.cleaned_fraction == pytest.approx(0.6)
    assert found.voice_db == pytest.approx(-10)
    apart = judged([-10] * 10, heard, last=50, pause_steps=1, margin_steps=0)
    assert apart.cleaned == ((200, 300), (500, 600))


def test_half_a_suspicion_counts_only_beside_certainty() -> None:
    heard = [0.6, 0.6, 0.1, 0.1, 0.1, 0.6, 0.95, 0.1, 0.6, 0.1]
    found = judged([-10] * 10, heard, last=50, pause_steps=1, margin_steps=0)
    assert found.cleaned == ((500, 900),)
    assert judged([-10] * 3, [0.85, 0.89, 0.85]).verdict == "kept"
    # what is certain but too faint makes nothing else certain
    assert judged([-10, -40], [0.6, 1.0]).verdict == "kept"


def test_where_a_voice_is_still_heard_the_rest_is_damaged() -> None:
    first = judged([-10] * 6, [0.1, 1, 1, 1, 0.1, 1], pause_steps=0, margin_steps=0, max_dropped=0.4)
    assert (first.verdict, first.damaged) == ("cleaned", ())
    rest = {"step_frames": STEP, "num_frames": 600, "limits": CleaningLimits(max_dropped=0.4)}
    better = judge_rest(first, np.ones(6), [1, 0.2, 0.95, 0.3, 1, 0.1], **rest)
    assert (better.verdict, better.damaged) == ("cleaned", ((200, 300),))  # only of what was cleaned
    assert better.damaged_fraction == pytest.approx(1 / 6)
    worse = judge_rest(first, np.ones(6), [0, 1, 1, 1, 0], **rest)
    assert (worse.verdict, worse.damaged) == ("dropped", ((100, 400),))
    loud = judged([-10, -1, -10, -10], [0.9] * 4)
    both = judge_rest(loud, np.ones(4), [0, 0, 1, 0], step_frames=STEP, num_frames=400)
    assert both.damaged == ((100, 300),)


def test_the_last_span_ends_with_the_stem() -> None:
    assert judged([-10, -10], [0.9, 0.9], last=7).cleaned == ((0, 107),)
    assert judged([-10, -10], [0.9], last=7).cleaned == ((0, 107),)  # a rest without a probability


def test_what_would_be_damaged_is_marked_and_too_much_of_it_dropped() -> None:
    some = judged([-10, -1, -10, -10], [0.9] * 4, max_dropped=0.25)
    assert (some.verdict, some.damaged, some.damaged_fraction) == ("cleaned", ((100, 200),), 0.25)
    assert judged([-10, -1, -1, -10], [0.9] * 4, max_dropped=0.25).verdict == "dropped"


def test_silence_counts_for_nothing() -> None:
    found = judge_steps([0, 0.5, 0], [0, 1, 0], [1, 1, 1], step_frames=STEP, num_frames=300)
    assert found.cleaned_fraction == 1
    assert judge_steps([0], [0], [1], step_frames=STEP, num_frames=10).verdict == "kept"


def test_without_a_witness_the_ratio_decides() -> None:
    found = judged([-40, -10, -40], [0, 0, 0], voiced=0, certain=0, margin_steps=0)
    assert found.cleaned == ((100, 200),)


def test_curves_of_other_lengths_are_a_bug() -> None:
    with pytest.raises(ValueError, match="must be of 3 steps"):
        judge_steps([1, 1], [1, 1, 1], [1, 1, 1], step_frames=STEP, num_frames=300)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"voiced": 1.5}, "voiced is 1.5"),
        ({"voiced": 0.5, "certain": 0.4}, "certain is 0.4, below voiced"),
        ({"max_dropped": -0.1}, "max_dropped is -0.1"),
        ({"pause_steps": -1}, "pause_steps is -1"),
        ({"faint_db": -3.0}, "the first must be the lower one"),
    ],
)
def test_impossible_limits_are_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        CleaningLimits(**limits)  # type: ignore[arg-type]


@given(found=spans, fade=st.integers(0, 60), cut=st.integers(1, 1000), seed=st.integers(0, 9))
@settings(deadline=None)
def test_both_parts_sum_to_the_stem_and_nothing_changes_outside(found, fade: int, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stem = rng.uniform(-1, 1, (2, 1000)).astype(np.float32)
    voice = rng.uniform(-1, 1, (2, 1000)).astype(np.float32)
    cleaned, removed = subtract(stem, voice, found, 0, fade)
    np.testing.assert_allclose(cleaned + removed, stem, atol=2e-7)
    assert np.abs(cleaned).max() <= 1
    inside, near = np.zeros(1000, bool), np.zeros(1000, bool)
    for start, end in found:
        inside[start:end] = True
        near[max(0, start - fade) : end + fade] = True
    np.testing.assert_array_equal(cleaned[:, ~near], stem[:, ~near])
    most = np.maximum(1 - 2**-15, np.abs(stem))  # +1 is no sample of whole steps
    np.testing.assert_allclose(cleaned[:, inside], np.clip(stem - voice, -most, most)[:, inside])
    # blocks give what the whole gives
    parts = [subtract(stem[:, a:b], voice[:, a:b], found, a, fade)[0] for a, b in ((0, cut), (cut, 1000)) if a < b]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), cleaned)


def test_fades_are_raised_cosines() -> None:
    ones = np.ones((1, 12), np.float32)
    _, removed = subtract(ones, ones, [(5, 7)], 0, 3)
    side = 0.5 + 0.5 * np.cos(np.pi * np.arange(3, 0, -1) / 4)
    np.testing.assert_allclose(removed[0], [0, 0, *side, 1, 1, *side[::-1], 0, 0], atol=1e-6)


@given(found=spans, least=st.integers(1, 300))
def test_what_is_free_and_what_is_damaged_share_no_frame(found, least: int) -> None:
    free = free_spans(found, 1000, least)
    hit = np.zeros(1000, int)
    for start, end in free:
        assert end - start >= (least if found else 1)
        hit[start:end] += 1
    assert hit.max(initial=0) <= 1
    for start, end in found:
        assert not hit[start:end].any()
    if least == 1:
        damaged = np.zeros(1000, bool)
        for start, end in found:
            damaged[start:end] = True
        np.testing.assert_array_equal(hit.astype(bool), ~damaged)


def test_pure_parts_have_voices_or_silence_in_one_stem_and_no_voices_in_the_others() -> None:
    #         said   breath  said  noise  noise  noise silence silence said  rest
    voices = [0.9, 0.2, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9]
    levels = [-20, -20, -20, -20, -20, -20, -80, -70, -20, -20]
    others = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0]
    where = {"step_frames": STEP, "num_frames": 930}
    assert pure_spans(voices, levels, others, **where) == [(0, 300), (600, 700), (800, 930)]
    assert pure_spans(voices, levels, others, pause_steps=0, **where)[:2] == [(0, 100), (200, 300)]
    assert pure_spans(voices, levels, others, min_steps=2, **where) == [(0, 300)]
    assert pure_spans(voices, levels, others, stray=1.0, **where)[1:] == [(600, 930)]
    with pytest.raises(ValueError, match="must be of 10 steps"):
        pure_spans(voices[:-1], levels, others, **where)
