"""What is done around separators."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from pydantic import ValidationError

from manifests.errors import RecipeError
from manifests.loudness import loudness_lufs
from separators.postprocessing import (
    Postprocessed,
    Postprocessing,
    least_squares_scales,
    loudness_gain,
    mixture_consistent,
    peak_gain,
    wiener_filtered,
)
from separators.separator import Separator, separate
from tests.separators.small_separators import Scaled, blocks_of, noise
from tests.synthesis import tone

THREE = ("speech", "effects", "music")


@dataclass(frozen=True)
class Listening(Scaled):
    """Notes what it is given, and adds a little of its own that does not grow with the level."""

    heard: list[np.ndarray] = field(default_factory=list, compare=False)

    def stream(self, blocks):
        noted = (self.heard.append(block) or block for block in blocks)
        for block in super().stream(noted):
            yield block + np.float32(0.01)


def test_gains_reach_the_level() -> None:
    mixture = noise(8000)
    assert peak_gain(blocks_of(mixture), -6.0) * np.abs(mixture).max() == pytest.approx(10 ** (-6 / 20))
    gain = loudness_gain(blocks_of(mixture), 8000, 2, -27.0)
    assert loudness_lufs(gain * mixture, 8000) == pytest.approx(-27.0, abs=0.01)
    silence = np.zeros((2, 8000), np.float32)
    assert peak_gain([silence], 0.0) == 1.0
    assert loudness_gain([silence], 8000, 2, -27.0) == 1.0


@pytest.mark.parametrize(
    ("options", "level_of", "wanted"),
    [
        (Postprocessing(normalise="peak"), lambda heard: np.abs(heard).max(), 1.0),
        (Postprocessing(normalise="peak", normalise_to=-20), lambda heard: np.abs(heard).max(), 0.1),
        (Postprocessing(normalise="loudness"), lambda heard: loudness_lufs(heard, 8000), -27.0),
        (Postprocessing(normalise="loudness", normalise_to=-35), lambda heard: loudness_lufs(heard, 8000), -35.0),
    ],
)
def test_the_separator_hears_the_level_and_the_listener_the_old_one(options, level_of, wanted) -> None:
    inner = Listening(factors=(0.25,))
    mixture = noise(9001)
    (source,) = np.concatenate(list(Postprocessed(inner, options).stream(blocks_of(mixture))), axis=2)
    heard = np.concatenate(inner.heard, axis=1)
    assert level_of(heard) == pytest.approx(wanted, abs=0.01)
    gain = (heard / mixture).mean()
    np.testing.assert_allclose(source, 0.25 * mixture + 0.01 / gain, atol=1e-6)


def test_rescaling_is_the_projection_on_the_mixture() -> None:
    speech, music = noise(5000, seed=1), noise(5000, seed=2)
    mixture = speech + music
    scales = least_squares_scales(zip(blocks_of(mixture), blocks_of(np.stack([3 * speech, -music])), strict=True))
    for scale, source in zip(scales, (3 * speech, -music), strict=True):
        # What is left of the mixture is at right angles to the source.
        assert abs(np.vdot(mixture - scale * source, source)) < 1e-3 * np.vdot(source, source)
    assert scales[0] == pytest.approx(1 / 3, rel=0.05)
    assert scales[1] == pytest.approx(-1, rel=0.05)
    assert least_squares_scales([(mixture, np.zeros((1, 2, 5000), np.float32))]) == [0.0]


def test_only_the_named_sources_are_rescaled() -> None:
    inner = Scaled((0.1, 0.2, 5.0), THREE, late=3000)
    mixture = noise(4000)
    got = Postprocessed(inner, Postprocessing(rescale=("effects", "music")))
    sources = np.concatenate(list(got.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_allclose(sources, mixture * np.array([0.1, 1, 1])[:, None, None], atol=1e-5)


def test_consistent_sources_sum_to_the_mixture_in_their_shares() -> None:
    mixture, sources = noise(300), np.stack([noise(300, seed=seed) for seed in (1, 2, 3)])
    got = mixture_consistent(mixture, sources, (0, 0.5, 0.5))
    np.testing.assert_allclose(got.sum(axis=0), mixture, atol=1e-6)
    np.testing.assert_array_equal(got[0], sources[0])
    np.testing.assert_allclose(got[1] - sources[1], got[2] - sources[2], atol=1e-6)
    wrapped = Postprocessed(
        Scaled((0.1, 0.2, 0.3), THREE), Postprocessing(consistency={"music": 0.75, "effects": 0.25})
    )
    factors = np.array([0.1, 0.2 + 0.1, 0.3 + 0.3])[:, None, None]
    np.testing.assert_allclose(separate(wrapped, mixture), factors * mixture, atol=1e-6)


def test_the_filter_undoes_what_magnitudes_tell_apart() -> None:
    frames = 30000
    low, high = tone(500, frames, 8000), tone(2500, frames, 8000) * np.array([[1.0], [0.5]], np.float32)
    mixture = low + high
    # Estimates with the wrong phase: magnitudes are right, and all that the filter looks at.
    estimates = np.stack([np.roll(low, 5, axis=1), np.roll(high, 5, axis=1)])
    inside = slice(4096, -4096)
    filtered = wiener_filtered(mixture, estimates)
    np.testing.assert_allclose(filtered.sum(axis=0)[:, inside], mixture[:, inside], atol=1e-4)
    np.testing.assert_allclose(filtered[0][:, inside], low[:, inside], atol=2e-3)
    assert np.abs(estimates[0] - low)[:, inside].max() > 0.1


def test_the_filter_streams_and_replaces_only_what_is_named() -> None:
    rate, frames = 44100, 44100 * 11
    mixture = tone(500, frames, rate, amplitude=0.3) + tone(6000, frames, rate, amplitude=0.3)

    class Wrong:
        name, identity, sample_rate, channels, sources = "wrong", "w", rate, 2, ("low", "high")

        def stream(self, blocks):
            position = 0
            for block in blocks:
                count = block.shape[1]
                low, high = (
                    tone(hz, count, rate, amplitude=0.3, phase=1 + 2 * np.pi * hz / rate * position)
                    for hz in (500, 6000)
                )
                position += count
                yield np.stack([low, high])

    assert isinstance(Wrong(), Separator)
    wrapped = Postprocessed(Wrong(), Postprocessing(wiener=("low",)))
    got = np.concatenate(list(wrapped.stream(blocks_of(mixture, 50000))), axis=2)
    inside = slice(5000, -5000)
    np.testing.assert_allclose(got[0][:, inside], tone(500, frames, rate, amplitude=0.3)[:, inside], atol=5e-3)
    np.testing.assert_allclose(got[1], separate(Wrong(), mixture)[1], atol=1e-3)


def test_all_at_once_streams_in_any_blocks() -> None:
    options = Postprocessing(
        normalise="loudness",
        wiener=("speech",),
        rescale=("effects",),
        consistency={"effects": 0.5, "music": 0.5},
    )
    wrapped = Postprocessed(Scaled((0.5, 0.1, 0.2), THREE, late=500), options)
    mixture = noise(5003)
    whole = separate(wrapped, mixture)
    assert whole.shape == (3, 2, 5003)
    np.testing.assert_allclose(whole.sum(axis=0), mixture, atol=1e-5)
    parts = np.concatenate(list(wrapped.stream(blocks_of(mixture, 333))), axis=2)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_nothing_by_default() -> None:
    inner, mixture = Scaled((0.5,)), noise(1000)
    np.testing.assert_array_equal(
        separate(Postprocessed(inner, Postprocessing()), mixture), separate(inner, mixture)
    )


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"rescale names 'efects' \(did you mean 'effects'\?\)"):
        Postprocessed(Scaled((1, 1, 1), THREE), Postprocessing(rescale=("efects",)))
    with pytest.raises(RecipeError, match="two sources"):
        Postprocessed(Scaled(), Postprocessing(wiener=("vocals",)))
    with pytest.raises(ValidationError, match="sum to 1"):
        Postprocessing(consistency={"music": 0.5})
    with pytest.raises(ValidationError, match="did you mean 'normalise'"):
        Postprocessing(normalize="peak")


def test_identity_is_of_separator_and_options() -> None:
    identities = {
        Postprocessed(inner, options).identity
        for inner in (Scaled((1, 1), ("a", "b")), Scaled((1, 2), ("a", "b")))
        for options in (Postprocessing(), Postprocessing(normalise="peak"), Postprocessing(rescale=("a",)))
    }
    assert len(identities) == 6
