from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from augment.transforms.batch import BATCHED, apply_batch
from augment.transforms.rule import Scene
from augment.transforms.rules import apply_step, name_of, rule_of
from manifests.errors import RecipeError

RATE = 16000


def drawn(name: str, count: int, scene: Scene, **settings: Any) -> list[dict[str, Any] | None]:
    """Steps, none for every third item."""
    rng = np.random.default_rng(0)
    rule = rule_of(name, settings)
    return [None if item % 3 == 1 else {"name": name_of(rule), **rule.draw(rng, scene)} for item in range(count)]


def compare(name: str, steps: list[dict[str, Any] | None], channels: int, num_frames: int) -> None:
    audio = np.random.default_rng(1).uniform(-0.5, 0.5, (len(steps), 3, channels, num_frames)).astype(np.float32)
    given = torch.from_numpy(audio.copy())
    out = apply_batch(name, steps, given, RATE)
    assert out.shape == audio.shape
    assert out.dtype == torch.float32
    for item, step in enumerate(steps):
        expected = audio[item] if step is None else apply_step(step, audio[item].copy(), RATE)
        np.testing.assert_allclose(out[item].numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(given.numpy(), audio, "what came in is not changed")


@pytest.mark.parametrize("name", sorted(BATCHED))
@pytest.mark.parametrize(("channels", "num_frames"), [(1, 1), (2, 777), (2, 9000), (3, 2500)])
def test_a_batch_is_each_items_step(name: str, channels: int, num_frames: int) -> None:
    steps = drawn(name, 5, Scene(num_frames, RATE, channels, ("a", "b", "c")))
    compare(name, steps, channels, num_frames)


def test_measured_rooms_work_in_a_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, channels in enumerate((1, 2)):
        decay = 10 ** (-3 * np.arange(3000) / 2000)
        response = np.concatenate(
            [np.zeros((50, channels)), rng.standard_normal((3000, channels)) * decay[:, None]]
        )
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * response, RATE, subtype="FLOAT")
    steps = drawn("reverb", 6, Scene(5000, RATE, 2), folder=tmp_path)
    assert len({step["path"] for step in steps if step}) == 2
    compare("reverb", steps, 2, 5000)


def test_without_any_step_nothing_happens() -> None:
    audio = torch.ones(2, 1, 1, 4)
    assert apply_batch("reverb", [None, None], audio, RATE) is audio


def test_wrong_calls_are_told() -> None:
    audio = torch.ones(2, 1, 1, 4)
    with pytest.raises(RecipeError, match="'limiter' has no batch version"):
        apply_batch("limiter", [None, None], audio, RATE)
    with pytest.raises(ValueError, match="1 steps for 2 items"):
        apply_batch("gain", [None], audio, RATE)
    with pytest.raises(ValueError, match="swap"):
        apply_batch("gain", [{"name": "swap"}, None], audio, RATE)
