from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.rule import Scene
from augment.transforms.rules import rule_of
from augment.transforms.stereo import MonoToStereo, decorrelating_pair, pan_gains, room_pair
from manifests.errors import RecipeError

RATE = 44100


def noise(channels: int, num_frames: int = 40000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (2, channels, num_frames)).astype(np.float32)


@given(st.floats(-1, 1))
def test_panning_keeps_the_power(position: float) -> None:
    left, right = pan_gains(position)
    assert left**2 + right**2 == pytest.approx(2.0)
    assert left >= 0
    assert right >= 0
    assert (
        right / max(left, 1e-300) == pytest.approx(math.tan((position + 1) * math.pi / 4), rel=1e-6) or left < 1e-9
    )
    np.testing.assert_allclose(pan_gains(-position), [right, left], atol=1e-12)


def test_a_panned_source_is_the_mono_one_with_two_gains() -> None:
    mono = noise(1)
    out = MonoToStereo.apply(mono.copy(), RATE, method="pan", position=0.5)
    for side, gain in enumerate(pan_gains(0.5)):
        np.testing.assert_allclose(out[:, side], gain * mono[:, 0], rtol=1e-6)


@pytest.mark.parametrize("method", ["plain", "pan", "decorrelate", "room"])
def test_every_method_makes_stereo_of_the_same_mean_power(method: str) -> None:
    mono = noise(1)
    drawn = MonoToStereo(methods={method: 1}).draw(np.random.default_rng(3), Scene(40000, RATE, 1))
    assert drawn["method"] == method
    out = MonoToStereo.apply(mono.copy(), RATE, **drawn)
    assert out.shape == (2, 2, 40000)
    assert np.mean(out**2) == pytest.approx(np.mean(mono**2), rel=0.03)


@given(st.integers(0, 10**6), st.floats(0, 150))
@settings(max_examples=25, deadline=None)
def test_decorrelating_filters_pass_all_and_their_sum_dips_no_deeper_than_said(seed: int, spread: float) -> None:
    pair = decorrelating_pair(RATE, spread, seed)
    spectra = np.fft.rfft(pair, 1 << 14)
    np.testing.assert_allclose(np.abs(spectra), 1.0, atol=0.02)
    downmix = np.abs(spectra.mean(axis=0))
    assert downmix.min() >= math.cos(math.radians(spread) / 2) - 0.02
    bass = np.fft.rfftfreq(1 << 14, 1 / RATE) < 40
    assert downmix[bass].min() > 0.98, "the bass stays in the middle"


def test_decorrelated_sides_differ_and_ring_for_milliseconds_only() -> None:
    pair = decorrelating_pair(RATE, 120.0, 1)
    assert abs(np.sum(pair[0] * pair[1])) < 0.6
    middle = pair.shape[1] // 2
    reach = round(0.02 * RATE)
    near = pair[:, middle - reach : middle + reach]
    assert np.sum(near**2) / np.sum(pair**2) > 0.999


def test_a_room_has_unit_energy_and_another_pattern_on_each_side() -> None:
    pair = room_pair(RATE, 4.0, -5.0, 7)
    np.testing.assert_allclose(np.sum(pair**2, axis=1), 1.0)
    direct, reflected = pair[:, 0] ** 2, np.sum(pair[:, 1:] ** 2, axis=1)
    np.testing.assert_allclose(10 * np.log10(reflected / direct), -5.0)
    shared = abs(np.sum(pair[0, 1:] * pair[1, 1:])) / math.sqrt(np.prod(reflected))
    assert shared < 0.3


@given(st.floats(0, 4))
@settings(max_examples=20, deadline=None)
def test_width_scales_the_side_against_the_middle(width: float) -> None:
    stereo = noise(2, 500)
    out = MonoToStereo.apply(stereo.copy(), RATE, method="width", width=width)
    middle_gain = math.sqrt(2 / (1 + width**2))
    np.testing.assert_allclose(out.sum(axis=1), middle_gain * stereo.sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(
        out[:, 0] - out[:, 1], middle_gain * width * (stereo[:, 0] - stereo[:, 1]), atol=1e-5
    )


def test_a_width_of_one_changes_nothing_and_zero_is_mono() -> None:
    stereo = noise(2)
    np.testing.assert_allclose(
        MonoToStereo.apply(stereo.copy(), RATE, method="width", width=1.0), stereo, atol=1e-7
    )
    mono = MonoToStereo.apply(stereo.copy(), RATE, method="width", width=0.0)
    np.testing.assert_array_equal(mono[:, 0], mono[:, 1])


def test_real_stereo_is_left_alone_and_dual_mono_is_not() -> None:
    stereo = noise(2)
    settings_of = {"method": "pan", "position": 0.5}
    np.testing.assert_array_equal(MonoToStereo.apply(stereo.copy(), RATE, **settings_of), stereo)
    dual = np.repeat(stereo[:, :1], 2, axis=1)
    expected = MonoToStereo.apply(stereo[:, :1].copy(), RATE, **settings_of)
    np.testing.assert_array_equal(MonoToStereo.apply(dual, RATE, **settings_of), expected)


def test_surround_is_left_alone() -> None:
    surround = noise(6, 100)
    np.testing.assert_array_equal(MonoToStereo.apply(surround.copy(), RATE, method="plain"), surround)
    assert [MonoToStereo.output_channels(channels) for channels in (1, 2, 6)] == [2, 2, 6]


def test_methods_are_drawn_by_their_weights_and_width_for_stereo_only() -> None:
    rule = MonoToStereo(methods={"plain": 3, "pan": 1, "width": 4})
    rng = np.random.default_rng(0)
    mono = [rule.draw(rng, Scene(10, RATE, 1))["method"] for _ in range(1000)]
    stereo = [rule.draw(rng, Scene(10, RATE, 2))["method"] for _ in range(1000)]
    assert mono.count("width") == 0
    assert mono.count("plain") == pytest.approx(750, abs=50)
    assert stereo.count("width") == pytest.approx(500, abs=60)


def test_a_rule_without_any_method_is_refused() -> None:
    with pytest.raises(RecipeError, match="all weigh 0"):
        rule_of("mono_to_stereo", {"methods": {"pan": 0}})
