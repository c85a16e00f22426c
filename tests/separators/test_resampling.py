"""Audio of another rate or number of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import AudioError, RecipeError
from separators.resampling import Resampled
from separators.separator import Separator, separate
from tests.separators.small_separators import Scaled, blocks_of, noise
from tests.synthesis import tone


@dataclass(frozen=True)
class Counting(Scaled):
    """Checks that what it hears is a tone of this frequency at its own rate, at its place in time."""

    frequency: float = 440.0

    def stream(self, blocks):
        whole = np.concatenate(list(blocks), axis=1)
        wanted = tone(self.frequency, whole.shape[1], self.sample_rate, channels=self.channels)
        edge = min(2000, whole.shape[1] // 3)
        np.testing.assert_allclose(whole[:, edge:-edge], wanted[:, edge:-edge], atol=2e-4)
        yield from super().stream([whole])


@pytest.mark.parametrize(("rate", "inner"), [(48000, 44100), (22050, 44100), (96000, 16000), (8000, 44100)])
@pytest.mark.parametrize("frames", [30000, 30001, 34567])
def test_a_tone_comes_back_where_it_was(rate, inner, frames) -> None:
    mixture = tone(440.0, frames, rate)
    wrapped = Resampled(Counting((0.5, 1.0), ("a", "b"), sample_rate=inner), rate, 2)
    assert isinstance(wrapped, Separator)
    got = np.concatenate(list(wrapped.stream(blocks_of(mixture, 4321))), axis=2)
    assert got.shape == (2, 2, frames)
    inside = slice(6000, -6000)
    # A shift of a hundredth of a frame would be seen: it is 3e-4 of the amplitude at 8 kHz.
    np.testing.assert_allclose(got[1][:, inside], mixture[:, inside], atol=1e-4)
    np.testing.assert_allclose(got[0], 0.5 * got[1], atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 17, 1000])
@pytest.mark.parametrize(("rate", "inner"), [(48000, 8000), (8000, 48000), (44100, 44100), (11025, 48000)])
def test_the_length_is_exact_however_short(frames, rate, inner) -> None:
    assert separate(Resampled(Scaled(sample_rate=inner), rate, 2), noise(frames)).shape == (1, 2, frames)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 900), min_size=1, max_size=8), rate=st.sampled_from([8000, 11025, 48000]))
def test_how_the_blocks_are_cut_changes_nothing(cuts, rate) -> None:
    mixture = noise(sum(cuts) + 1)
    wrapped = Resampled(Scaled((0.5,), late=333, sample_rate=16000), rate, 2)
    blocks = np.split(mixture, np.cumsum(cuts), axis=1)
    got = np.concatenate(list(wrapped.stream(blocks)), axis=2)
    np.testing.assert_allclose(got, separate(wrapped, mixture), atol=1e-6)


def test_mono_is_heard_in_every_channel_and_comes_back_mono() -> None:
    mixture = noise(500, 1)
    got = separate(Resampled(Scaled((0.5,)), 8000, 1), mixture)
    np.testing.assert_allclose(got, 0.5 * mixture[None], rtol=1e-6)


def test_a_mono_separator_hears_every_channel_by_itself() -> None:
    mixture = noise(500, 6)
    wrapped = Resampled(Scaled((0.5, 2.0), ("a", "b"), channels=1, late=50), 8000, 6)
    got = np.concatenate(list(wrapped.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_allclose(got, np.array([0.5, 2.0])[:, None, None] * mixture, rtol=1e-6)


def test_nothing_is_done_where_nothing_differs() -> None:
    inner, mixture = Scaled((0.5,)), noise(500)
    np.testing.assert_array_equal(separate(Resampled(inner, 8000, 2), mixture), separate(inner, mixture))
    assert Resampled(inner, 8000, 2).identity == inner.identity
    assert len({Resampled(inner, rate, channels).identity for rate in (8000, 9000) for channels in (1, 2)}) == 4


def test_what_nobody_can_map_is_refused() -> None:
    with pytest.raises(AudioError, match="has 6 channels, and scaled takes 2: mix it down"):
        Resampled(Scaled(), 8000, 6)
    with pytest.raises(AudioError, match="0 channels"):
        Resampled(Scaled(), 8000, 0)
    with pytest.raises(RecipeError, match="sample_rate is 0"):
        Resampled(Scaled(), 0, 2)
    with pytest.raises(AudioError, match="0 frames"):
        separate(Resampled(Scaled(), 16000, 2), noise(0))
