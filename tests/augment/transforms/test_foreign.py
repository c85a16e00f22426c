from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import audiomentations
import numpy as np
import pytest
import soundfile

from augment.transforms.rule import Scene
from augment.transforms.rules import RULES, apply_step, name_of, rule_of
from manifests.errors import RecipeError
from tests.synthesis import pink_noise

RATE = 16000
SCENE = Scene(8000, RATE, 2, ("a", "b"))
DETERMINED = [
    "AddGaussianNoise",
    "Aliasing",
    "BandPassFilter",
    "BitCrush",
    "Gain",
    "GainTransition",
    "HighShelfFilter",
    "LowPassFilter",
    "PeakingFilter",
    "PitchShift",
    "PolarityInversion",
    "Reverse",
    "SevenBandParametricEQ",
    "Shift",
    "TanhDistortion",
    "TimeMask",
]
BY_CONTENT = ["AddGaussianSNR", "Normalize"]


def stack() -> np.ndarray:
    return pink_noise(np.random.default_rng(0), 4, 8000).reshape(2, 2, 8000)


def step_of(transform: str, seed: int = 0, scene: Scene = SCENE, **arguments: Any) -> dict[str, Any]:
    rule = rule_of("audiomentations", {"transform": transform, **arguments})
    step = {"name": name_of(rule), **rule.draw(np.random.default_rng(seed), scene)}
    return json.loads(json.dumps(step, allow_nan=False))


def test_known_results() -> None:
    np.testing.assert_array_equal(apply_step(step_of("PolarityInversion"), stack(), RATE), -stack())
    half = apply_step(step_of("Gain", min_gain_db=-6.0, max_gain_db=-6.0), stack(), RATE)
    np.testing.assert_allclose(half, stack() * 10 ** (-6 / 20), rtol=1e-5)


@pytest.mark.parametrize("transform", DETERMINED)
def test_what_a_transform_draws_is_in_the_plan(transform: str) -> None:
    step = step_of(transform, seed=2)
    assert step["drawn"]["should_apply"] is True
    out = apply_step(step, stack(), RATE)
    assert out.shape == (2, 2, 8000)
    np.testing.assert_array_equal(apply_step(step, stack(), RATE), out)
    if len(step["drawn"]) > 1:
        assert step_of(transform, seed=3)["drawn"] != step["drawn"]


def test_the_stored_parameters_are_those_that_are_applied() -> None:
    step = step_of("Gain", min_gain_db=-12.0, max_gain_db=12.0)
    ratio = apply_step(step, stack(), RATE)[0, 0, 5] / stack()[0, 0, 5]
    assert ratio == pytest.approx(step["drawn"]["amplitude_ratio"], rel=1e-5)


@pytest.mark.parametrize("transform", BY_CONTENT)
def test_what_depends_on_the_content_is_drawn_again_from_the_seed(transform: str) -> None:
    step = step_of(transform)
    assert "drawn" not in step
    out = apply_step(step, stack(), RATE)
    np.testing.assert_array_equal(apply_step(step, stack(), RATE), out)


def test_what_depends_on_the_length_is_drawn_again_for_another_length() -> None:
    step = step_of("TimeMask", min_band_part=0.3, max_band_part=0.5)
    assert step["drawn_for_frames"] == 8000
    short = stack()[..., :3000]
    out = apply_step(step, short.copy(), RATE)
    masked = ~out[0, 0].astype(bool)
    assert 900 <= masked.sum() <= 1600
    assert "drawn_for_frames" not in step_of("Gain")


def test_nothing_but_the_step_decides_and_nothing_else_is_disturbed() -> None:
    step = step_of("AddGaussianNoise")
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = apply_step(step, stack(), RATE)
    step_of("AddGaussianNoise")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(apply_step(step, stack(), RATE), first)


def test_a_transform_of_mono_takes_each_channel_with_the_same_draw(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hum.wav", pink_noise(np.random.default_rng(1), 1, 20000)[0], RATE)
    dual = np.repeat(stack()[:, :1], 2, axis=1)
    step = step_of("AddBackgroundNoise", sounds_path=str(tmp_path), min_snr_db=6.0, max_snr_db=6.0)
    out = apply_step(step, dual.copy(), RATE)
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    added = out[0, 0] - dual[0, 0]
    assert 10 * np.log10(np.mean(dual[0, 0] ** 2) / np.mean(added**2)) == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"transform": "TanhDistorsion"}, "did you mean 'TanhDistortion'"),
        ({"transform": "Lambda"}, "there is no transform 'Lambda'"),
        ({"transform": "Compose"}, "there is no transform 'Compose'"),
        ({"transform": "Trim"}, "changes the length"),
        ({"transform": "TimeStretch", "leave_length_unchanged": False}, "leave_length_unchanged: true"),
        ({"transform": "RepeatPart", "mode": "insert"}, "mode: replace"),
        ({"transform": "TanhDistortion", "distortion": 1}, "its arguments are min_distortion, max_distortion"),
        ({"transform": "TanhDistortion", "min_distortion": 5.0}, "does not take"),
    ],
)
def test_what_cannot_be_is_told_when_the_recipe_is_read(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        rule_of("audiomentations", settings)
    assert words in str(caught.value)


def test_a_failing_transform_is_told_with_what_it_met(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of("Gain")

    def fail(self: object, samples: object, sample_rate: object) -> None:
        raise ValueError("too quiet")

    monkeypatch.setattr(audiomentations.Gain, "apply", fail)
    with pytest.raises(RecipeError, match=r"Gain fails on 8000 frames of 2 channels at 16000 Hz \(.*too quiet"):
        apply_step(step, stack(), RATE)
    monkeypatch.setattr(audiomentations.Gain, "apply", lambda self, samples, sample_rate: samples[:, :-1])
    with pytest.raises(RecipeError, match=r"Gain made shape \(2, 7999\) of \(2, 8000\)"):
        apply_step(step, stack(), RATE)


def test_a_package_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy_audio_limiter", None)
    with pytest.raises(RecipeError, match=r"Limiter needs a package that is not there .*numpy_audio_limiter"):
        apply_step(step_of("Limiter"), stack(), RATE)


def test_settings_survive_being_written_and_read() -> None:
    rule = rule_of("audiomentations", {"transform": "Gain", "min_gain_db": -3.0, "p": 0.5})
    said = rule.model_dump(mode="json", exclude_defaults=True)
    assert said == {"transform": "Gain", "min_gain_db": -3.0, "p": 0.5}
    assert RULES["audiomentations"].model_validate(said) == rule
