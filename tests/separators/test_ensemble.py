"""Separators made of separators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import RecipeError
from separators.ensemble import Cascade, Ensemble
from separators.separator import Separator, separate
from tests.separators.small_separators import Scaled, blocks_of, noise

AB = ("a", "b")


def test_the_mean_is_weighted_by_separator_and_source() -> None:
    mixture = noise(1234)
    parts = [Scaled((1.0, 2.0), AB), Scaled((8.0, 5.0), ("b", "a"), late=300)]
    cases = [
        (None, (3.0, 5.0)),
        ((1, 1), (3.0, 5.0)),
        ((3, 1), (2.0, 3.5)),
        ((0, 2), (5.0, 8.0)),
        (({"a": 1, "b": 0}, {"a": 3, "b": 7}), (4.0, 8.0)),
        ((1, {"a": 0, "b": 1}), (1.0, 5.0)),
    ]
    for weights, factors in cases:
        ensemble = Ensemble(parts, weights)
        assert isinstance(ensemble, Separator)
        assert ensemble.sources == AB
        got = np.concatenate(list(ensemble.stream(blocks_of(mixture))), axis=2)
        np.testing.assert_allclose(got, np.array(factors)[:, None, None] * mixture, rtol=1e-5)


def test_a_cascade_takes_one_source_and_separates_the_rest() -> None:
    mixture = noise(1234)
    first = Scaled((0.1, 0.4), ("drums", "vocals"), late=250)
    second = Scaled((0.5, 0.25), ("effects", "music"), late=50)
    cascade = Cascade(first, second, take="vocals", name_taken="dialogue")
    assert isinstance(cascade, Separator)
    assert cascade.sources == ("dialogue", "effects", "music")
    got = np.concatenate(list(cascade.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_allclose(got, np.array([0.4, 0.3, 0.15])[:, None, None] * mixture, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    lateness=st.lists(st.integers(0, 700), min_size=3, max_size=3),
    frames=st.integers(1, 900),
    cut=st.integers(1, 400),
)
def test_parts_may_lag_as_they_like(lateness, frames, cut) -> None:
    mixture = noise(frames)
    a, b, c = (Scaled((0.5, 0.5), AB, late=late) for late in lateness)
    nested = Ensemble(
        [Cascade(a, Scaled((1.0,), ("rest",), late=lateness[1]), "b"), Cascade(b, Scaled((1.0,), ("rest",)), "b")]
    )
    for separator, factor in ((Ensemble([a, b, c]), 0.5), (nested, 0.5)):
        got = np.concatenate(list(separator.stream(blocks_of(mixture, cut))), axis=2)
        np.testing.assert_allclose(got, np.full((2, 1, 1), factor) * mixture, rtol=1e-5)


def test_what_is_held_does_not_grow_with_the_audio() -> None:
    taken = 0

    def endless():
        nonlocal taken
        for number in range(3000):
            taken += 50
            yield noise(50, seed=number)

    late = Scaled((0.5, 0.5), AB, late=900)
    given_back = 0
    for block in Ensemble([Scaled((1, 1), AB), Cascade(late, Scaled((1.0,), ("a",)), "b")]).stream(endless()):
        given_back += block.shape[2]
        assert taken - given_back <= 1200
    assert given_back == taken == 150_000


def test_what_only_some_parts_give_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    mean = Ensemble([Scaled((1, 2, 3), ("a", "b", "c")), Scaled((6, 4), ("d", "b"))])
    assert mean.sources == ("b",)
    assert "give a, c, d, which is left out" in caplog.text
    mixture = noise(100)
    np.testing.assert_allclose(separate(mean, mixture), [3 * mixture], rtol=1e-6)


def test_parts_that_do_not_fit_are_refused() -> None:
    plain = Scaled((1, 1), AB)
    with pytest.raises(RecipeError, match="share nothing: scaled gives a, b; scaled gives c, d"):
        Ensemble([plain, Scaled((1, 1), ("c", "d"))])
    with pytest.raises(RecipeError, match=r"sample_rate 8000, and scaled 16000.*Resampled\(separator, 8000, 2\)"):
        Ensemble([plain, Scaled((1, 1), AB, sample_rate=16000)])
    with pytest.raises(RecipeError, match="channels 2, and scaled 1"):
        Cascade(plain, Scaled(channels=1), "a")
    with pytest.raises(RecipeError, match="at least one"):
        Ensemble([])
    for weights, message in (
        ((1,), "2 separators and 1 weights"),
        ((1, -1), "at least 0"),
        ((1, float("nan")), "finite"),
        ((0, 0), "'a' has none above 0"),
        (({"a": 1, "b": 0}, {"a": 1, "b": 0}), "'b' has none above 0"),
        (({"a": 1}, 1), "lack b"),
        (({"a": 1, "bb": 1}, 1), r"'bb' \(did you mean 'b'\?\)"),
    ):
        with pytest.raises(RecipeError, match=message):
            Ensemble([plain, plain], weights)
    with pytest.raises(RecipeError, match="take is 'vocal'"):
        Cascade(plain, Scaled(), "vocal")
    with pytest.raises(RecipeError, match="would give 'a'"):
        Cascade(plain, Scaled((1,), ("a",)), "a")


def test_identity_is_of_parts_and_weights() -> None:
    one, two = Scaled((1, 1), AB), Scaled((1, 2), AB)
    made = [Ensemble([one, two]), Ensemble([two, one]), Ensemble([one, two], (1, 2)), Ensemble([one])]
    made += [Cascade(one, Scaled(), "a"), Cascade(one, Scaled(), "b"), Cascade(one, Scaled(), "a", "speech")]
    assert len({part.identity for part in made}) == len(made)
    assert Ensemble([one, two], (2, 2)).identity == made[0].identity


def test_separating_in_memory_is_the_same() -> None:
    mixture = noise(500)
    np.testing.assert_allclose(separate(Ensemble([Scaled((0.5,))]), mixture)[0], 0.5 * mixture)
