"""Surround to stereo against the standards' equations."""

from __future__ import annotations

import numpy as np
import pytest

from manifests.downmix import LAYOUTS, downmixed, stereo_matrix
from manifests.errors import RecipeError

CHANNELS = LAYOUTS["5.1"]


def test_itu_takes_centre_and_surrounds_three_decibels_down_and_no_bass_channel() -> None:
    rng = np.random.default_rng(0)
    left, right, centre, _, left_back, right_back = audio = rng.standard_normal((6, 50)).astype(np.float32)
    found = downmixed(audio, stereo_matrix(CHANNELS, "itu"))
    half = np.sqrt(np.float32(0.5))
    np.testing.assert_allclose(found[0], left + half * centre + half * left_back, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], right + half * centre + half * right_back, rtol=1e-5, atol=1e-6)


def test_loro_never_passes_full_scale() -> None:
    matrix = stereo_matrix(CHANNELS, "loro")
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        matrix / stereo_matrix(CHANNELS, "itu").clip(1e-9), 1 / (1 + np.sqrt(2)) * (matrix > 0)
    )
    quieter = stereo_matrix(CHANNELS, "loro", centre_db=-6, surround_db=-6)
    assert quieter[0, 2] / quieter[0, 0] == pytest.approx(10 ** (-6 / 20), rel=1e-6)


def test_the_order_of_channels_changes_nothing() -> None:
    audio = np.random.default_rng(1).standard_normal((6, 20)).astype(np.float32)
    film = LAYOUTS["5.1 film"]
    ordered = audio[[CHANNELS.index(name) for name in film]]
    wanted = downmixed(audio, stereo_matrix(CHANNELS))
    np.testing.assert_allclose(downmixed(ordered, stereo_matrix(film)), wanted, rtol=1e-5, atol=1e-6)


def test_stereo_stays_and_mono_is_the_centre() -> None:
    np.testing.assert_array_equal(stereo_matrix(LAYOUTS["stereo"], "loro"), np.eye(2))
    np.testing.assert_allclose(stereo_matrix(LAYOUTS["mono"]), np.sqrt([[0.5], [0.5]]), rtol=1e-6)


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(RecipeError, match="choose itu or loro"):
        stereo_matrix(CHANNELS, "lt/rt")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"no channel 'Lx' \(did you mean 'L'"):
        stereo_matrix(("L", "R", "Lx"))
    with pytest.raises(RecipeError, match="'L' is there twice"):
        stereo_matrix(("L", "L"))
    with pytest.raises(ValueError, match="3 channels, and the matrix is for 6"):
        downmixed(np.zeros((3, 4), np.float32), stereo_matrix(CHANNELS))
