"""The voice network: its arithmetic against torch's, its invariances, and that it hears what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from builders.demo.instruments import SAMPLE_RATE as DEMO_RATE
from builders.demo.performance import perform
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from curation.voice import (
    FRAMES_PER_STEP,
    HOP,
    NUM_BANDS,
    SAMPLE_RATE,
    STEP_S,
    _forward,
    log_mel,
    voice_probability,
)
from tests.synthesis import pink_noise, song


def network(seed: int) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    """A small network of the same layers with random weights, and these as our arrays."""
    torch.manual_seed(seed)
    channels = (1, 3, 4, 5, 6)
    layers: list[torch.nn.Module] = []
    weights = {}
    for number in range(4):
        convolution = torch.nn.Conv2d(channels[number], channels[number + 1], 3, padding=1)
        layers += [convolution, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        weights[f"conv{number}"] = convolution.weight.detach().numpy()
        weights[f"bias{number}"] = convolution.bias.detach().numpy()
    mix, time, out = torch.nn.Conv1d(30, 7, 1), torch.nn.Conv1d(7, 8, 3, padding=1), torch.nn.Conv1d(8, 1, 1)
    for name, layer in (("mix", mix), ("time", time), ("out", out)):
        weights[name], weights[f"{name}_bias"] = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    rest = torch.nn.Sequential(torch.nn.Flatten(1, 2), mix, torch.nn.ReLU(), time, torch.nn.ReLU(), out)
    return torch.nn.Sequential(*layers, rest), weights


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_forward_pass_is_torchs(steps: int) -> None:
    model, weights = network(steps)
    bands = np.random.default_rng(0).standard_normal((NUM_BANDS, steps * FRAMES_PER_STEP)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(bands)[None, None]).numpy().ravel()
    np.testing.assert_allclose(_forward(bands, weights), expected, rtol=1e-4, atol=1e-5)


def test_steps_are_whole_and_probabilities_lie_between_0_and_1() -> None:
    audio = pink_noise(np.random.default_rng(0), 2, 5 * SAMPLE_RATE)
    found = voice_probability(audio, SAMPLE_RATE)
    assert found.shape == (int(5 / STEP_S),)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("frames", [0, 1, FRAMES_PER_STEP * HOP - 1])
def test_less_than_a_step_has_no_probability(frames: int) -> None:
    assert voice_probability(np.zeros((1, frames), np.float32), SAMPLE_RATE).shape == (0,)


def test_silence_has_no_voice() -> None:
    assert voice_probability(np.zeros((2, 4 * SAMPLE_RATE), np.float32), SAMPLE_RATE).max() < 0.5


@pytest.mark.parametrize("gain", [0.01, 3.0])
def test_the_level_does_not_matter(gain: float) -> None:
    instrumental, vocals = song(np.random.default_rng(3), 8.0, SAMPLE_RATE)
    mixture = instrumental + vocals
    expected = voice_probability(mixture, SAMPLE_RATE)
    np.testing.assert_allclose(voice_probability(gain * mixture, SAMPLE_RATE), expected, atol=0.02)


def test_a_long_signal_is_the_same_in_blocks() -> None:
    instrumental, _ = song(np.random.default_rng(3), 40.0, SAMPLE_RATE)
    whole = voice_probability(instrumental, SAMPLE_RATE)
    # a repetition long enough for several blocks: the middle of each copy hears the same context
    again = voice_probability(np.tile(instrumental[:, : 125 * FRAMES_PER_STEP * HOP], 2), SAMPLE_RATE)
    np.testing.assert_allclose(again[20:100], whole[20:100], atol=0.02)


def test_the_rate_does_not_matter() -> None:
    import soxr

    instrumental, vocals = song(np.random.default_rng(5), 8.0, SAMPLE_RATE)
    mixture = instrumental + vocals
    faster = soxr.resample(mixture.T, SAMPLE_RATE, 44_100).T
    expected, found = voice_probability(mixture, SAMPLE_RATE), voice_probability(faster, 44_100)
    assert np.abs(found - expected).mean() < 0.03


def test_log_mel_is_zero_on_average_around_everywhere() -> None:
    levels = log_mel(pink_noise(np.random.default_rng(0), 1, 20 * SAMPLE_RATE)[0])
    assert levels.shape == (NUM_BANDS, 20 * SAMPLE_RATE // HOP)
    assert abs(levels.mean()) < 0.05


def test_a_sung_melody_is_a_voice_and_its_accompaniment_is_not() -> None:
    for number in (1, 4):
        rng = np.random.default_rng(number)
        instrumental, vocals = perform(rng, compose(rng, SHEETS[number], 30.0), SHEETS[number])
        sung, played = (voice_probability(audio, DEMO_RATE) for audio in (vocals, instrumental))
        assert (sung > 0.5).mean() > 0.3
        assert (played > 0.5).mean() < 0.05
