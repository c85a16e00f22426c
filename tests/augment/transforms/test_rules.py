from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.transforms.rule import Rule, Scene
from augment.transforms.rules import (
    COMBINED,
    RULES,
    apply_step,
    apply_steps,
    name_of,
    rule_of,
    step_input_frames,
)
from manifests.errors import RecipeError
from tests.synthesis import tone

ROOT = Path(__file__).parents[3]
RATE = 16000


def made(name: str) -> Rule:
    needed: dict[str, dict[str, Any]] = {
        "audiomentations": {"transform": "TanhDistortion", "min_distortion": 0.1},
        "codec": {"codecs": {"mp3": 1, "vorbis": 1, "opus": 1}},
        "fade": {"in_s": (0.0, 0.1), "out_s": (0.0, 0.1)},
        "mono_to_stereo": {"methods": {"plain": 1, "pan": 1, "decorrelate": 1, "room": 1, "width": 1}},
    }
    return rule_of(name, needed.get(name, {}))


def step_of(rule: Rule, seed: int, scene: Scene) -> dict[str, Any]:
    return {"name": name_of(rule), **rule.draw(np.random.default_rng(seed), scene)}


@pytest.mark.parametrize("name", sorted(RULES))
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_every_transform_keeps_length_and_type_and_silence(name: str, data: st.DataObject) -> None:
    num_frames = data.draw(st.sampled_from([1, 2, 3, 255, 1000, 2049, 5001]), "frames")
    channels = data.draw(st.sampled_from([1, 2]), "channels")
    targets = data.draw(st.sampled_from([(), ("a",), ("a", "b", "c")]), "targets")
    seed = data.draw(st.integers(0, 1000), "seed")
    scene = Scene(num_frames, RATE, channels, targets)
    step = json.loads(json.dumps(step_of(made(name), seed, scene), allow_nan=False))
    shape = (scene.num_targets, channels, step_input_frames(step, num_frames))
    audio = np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)

    out = apply_step(step, audio.copy(), RATE)
    assert out.dtype == np.float32
    assert out.shape[0] == scene.num_targets
    assert out.shape[1] == RULES[name].output_channels(channels, **step)
    assert num_frames <= out.shape[2] <= num_frames + 2
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(apply_step(step, audio.copy(), RATE), out, "the same step, the same audio")
    assert apply_step(step, audio.copy(), RATE, num_frames).shape[2] == num_frames
    assert not apply_step(step, np.zeros(shape, np.float32), RATE).any()


@pytest.mark.parametrize("name", sorted(RULES))
def test_drawing_depends_on_the_generator_alone(name: str) -> None:
    scene = Scene(4000, RATE, 2, ("a", "b"))
    rule = made(name)
    assert step_of(rule, 5, scene) == step_of(rule, 5, scene)
    if name not in {"swap", "sign", "fade", "peak"}:
        assert any(step_of(rule, 5, scene) != step_of(rule, other, scene) for other in range(6, 20))


@pytest.mark.parametrize(
    "name", ["swap", "sign", "gain", "scale", "filter", "reverb", "equalizer", "bandwidth", "fade"]
)
def test_linear_transforms_treat_the_mixture_as_the_sum_of_its_targets(name: str) -> None:
    scene = Scene(4000, RATE, 2, ("a", "b"))
    step = step_of(made(name), 3, scene)
    stack = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2, 4000)).astype(np.float32)
    mixture = apply_step(step, stack.sum(axis=0, keepdims=True), RATE)
    np.testing.assert_allclose(apply_step(step, stack, RATE).sum(axis=0), mixture[0], atol=1e-5)


def test_an_unknown_transform_is_told_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"'limitr' is unknown.*did you mean 'limiter'"):
        rule_of("limitr", {})
    with pytest.raises(RecipeError, match="did you mean 'swap'"):
        apply_step({"name": "swop"}, np.zeros((1, 2, 8), np.float32), RATE)


def test_names_and_rules_belong_together() -> None:
    assert {name_of(made(name)) for name in RULES} == set(RULES)


def test_the_combination_of_the_study_is_swap_shift_stretch_and_remix() -> None:
    rules = [rule_of(name, given) for name, given in COMBINED]
    assert [name_of(rule) for rule in rules] == ["swap", "shift", "stretch", "remix"]
    assert [rule.p for rule in rules] == [0.5, 1.0, 1.0, 1.0]


def test_a_chain_gets_the_frames_that_it_needs_and_returns_those_asked_for() -> None:
    steps = [
        {"name": "stretch", "factor": 0.8},
        {"name": "gain", "gain": 0.5},
        {"name": "tempo", "rate": 1.25},
    ]
    needed = 8000
    for step in reversed(steps):
        needed = step_input_frames(step, needed)
    assert 8000 * 1.25 / 0.8 <= needed <= 8000 * 1.25 / 0.8 + 4
    audio = tone(440.0, needed, RATE)[None]
    out = apply_steps(steps, audio, RATE, 8000)
    assert out.shape == (1, 2, 8000)
    assert np.abs(out[..., -1000:]).max() > 0.2, "full up to its end"


def test_what_is_missing_is_silence_and_what_is_more_is_cut() -> None:
    stack = np.ones((1, 1, 5), np.float32)
    step = {"name": "gain", "gain": 1.0}
    assert apply_step(step, stack.copy(), RATE, 7)[0, 0].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert apply_step(step, stack.copy(), RATE, 3)[0, 0].tolist() == [1, 1, 1]
    assert apply_steps([], stack, RATE) is stack


def test_loading_the_transforms_loads_no_torch_and_no_librosa() -> None:
    loaded = "bool({'torch', 'librosa', 'python_stretch'} & set(sys.modules))"
    script = f"import sys, augment.transforms.rules\nsys.exit({loaded})"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
