"""The small network for dialogue."""

from __future__ import annotations

import pytest
import scipy.signal
import torch

from manifests.errors import RecipeError
from separators.dnn_ds import DNNDS, DNNDSConfig
from separators.stft import istft, stft
from tests.separators.small_networks import dnn_ds, fall_of_loss, half_precision_error, noise, seeded, size


def test_it_has_the_published_size() -> None:
    with torch.device("meta"):
        network = DNNDS()
    assert size(network) == pytest.approx(370_000, rel=0.015)


def test_it_hears_about_a_second() -> None:
    network = seeded(lambda: DNNDS(DNNDSConfig(sample_rate=8000, window_frames=320, hop_frames=160))).eval()
    magnitude = noise(1, 161 * 101).reshape(1, 2, 161, 101).abs()
    changed = magnitude.clone()
    # The level stays the same: two bins of a column change places.
    changed[..., [80, 81], 50] = magnitude[..., [81, 80], 50]
    logits: list[torch.Tensor] = []
    network.double().masks.register_forward_hook(lambda _, __, output: logits.append(output))
    with torch.no_grad():
        network._masks(magnitude.double())
        network._masks(changed.double())
    heard = (logits[1] - logits[0]).abs().amax(dim=(0, 1, 2)).nonzero()[:, 0].tolist()
    # 48 hops and a window: one second.
    assert heard == list(range(50 - 24, 50 + 25))


def test_masks_are_those_of_the_mixture_and_the_residual_is_the_rest() -> None:
    network = seeded(dnn_ds).eval()
    mixture = noise(2, 2000)
    masks: list[torch.Tensor] = []
    network.masks.register_forward_hook(lambda _, __, output: masks.append(output.sigmoid()))
    with torch.no_grad():
        sources = network(mixture)
    assert masks[0].shape == (2, 2, 161, 14)
    torch.testing.assert_close(sources[:, 0], istft(masks[0] * stft(mixture, 320, 160), 320, 160, 2000))
    torch.testing.assert_close(sources.sum(dim=1), mixture)
    with torch.no_grad():
        assert seeded(lambda: dnn_ds(residual=None))(mixture).shape == (2, 2, 2, 2000)


@pytest.mark.parametrize("gain", [0.01, 30.0])
def test_a_louder_mixture_gives_louder_sources(gain: float) -> None:
    network = seeded(dnn_ds).eval()
    mixture = noise(2, 2000)
    with torch.no_grad():
        torch.testing.assert_close(network(gain * mixture) / gain, network(mixture), rtol=1e-3, atol=1e-4)


def test_the_same_weights_serve_another_rate() -> None:
    low = seeded(dnn_ds).eval()
    high = DNNDS(low.config.at_rate(16000)).eval()
    high.load_state_dict(low.state_dict())
    assert (high.config.window_frames, high.config.hop_frames) == (640, 320)
    numerator, denominator = scipy.signal.butter(8, 1000, fs=8000)
    mixture = scipy.signal.lfilter(numerator, denominator, noise(1, 4000).numpy())
    finer = scipy.signal.resample_poly(mixture, 2, 1, axis=-1)
    heard: list[torch.Tensor] = []
    for network in (low, high):
        network.first.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0][..., :40, 2:-2]))
    with torch.no_grad():
        coarse = low(torch.from_numpy(mixture).float())[0, 0, 0]
        fine = high(torch.from_numpy(finer).float())[0, 0, 0]
    # But for the edges, where the resampler rings.
    difference = (fine[::2] - coarse)[500:-500].square().mean() / coarse[500:-500].square().mean()
    assert difference < 1e-3
    torch.testing.assert_close(heard[1], heard[0], rtol=0, atol=0.03)


@pytest.mark.parametrize(("rate", "window", "hop"), [(8000, 320, 160), (44100, 1764, 882), (22050, 882, 441)])
def test_windows_are_as_long_at_every_rate(rate: int, window: int, hop: int) -> None:
    config = DNNDSConfig().at_rate(rate)
    assert (config.window_frames, config.hop_frames, config.segment_frames) == (window, hop, 4 * rate)


def test_it_learns_a_batch_by_heart() -> None:
    assert fall_of_loss(dnn_ds) < 0.3


def test_half_precision_does_for_the_layers() -> None:
    assert 0 < half_precision_error(dnn_ds) < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": []}, "filters is"),
        ({"dilations": [1, 0]}, "each 1 or more"),
        ({"residual": "dialogue"}, "must be the last of"),
        ({"window_frames": 1921}, "window_frames is 1921"),
    ],
)
def test_an_impossible_config_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DNNDSConfig.from_json(changes)
