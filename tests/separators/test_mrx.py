"""MRX and MRX-C."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from manifests.errors import RecipeError
from separators.mrx import MRX, MRXC, MRXCConfig, MRXConfig
from separators.stft import istft, stft
from tests.separators.small_networks import fall_of_loss, half_precision_error, mrx, mrxc, noise, seeded, size


def test_it_has_the_published_size() -> None:
    with torch.device("meta"):
        network = MRX()
        conditioned = MRXC()
    assert round(size(network) / 1e6, 1) == 30.5
    # The published weights have these names, with an underscore before the first part.
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["encoders.2.layer.1.weight"] == (512, 4097)
    assert shapes["cross_net.lstm.2.weight_ih_l2_reverse"] == (1024, 512)
    assert shapes["decoders.0.1.block.3.weight"] == (1025, 512)
    assert size(conditioned) == 2 * size(network) + size(conditioned.activity) + 512 * 4


def test_what_a_source_has_in_the_resolutions_is_summed_with_the_phase_of_the_mixture() -> None:
    network = seeded(mrx).eval()
    mixture = noise(1, 700)
    masks: list[torch.Tensor] = []
    for decoders in network.decoders:
        for decoder in decoders:
            decoder.register_forward_hook(lambda _, __, output: masks.append(output))
    with torch.no_grad():
        sources = network(mixture)
        assert min(mask.min() for mask in masks) == 0
        wanted = [
            sum(istft(masks.pop(0) * stft(mixture[0], window, 32), window, 32, 700) for window in (128, 256))
            for _ in network.sources
        ]
    torch.testing.assert_close(sources[0], torch.stack(wanted))


def test_channels_go_through_alone() -> None:
    network = seeded(mrx).eval()
    mixture = noise(1, 400)
    changed = torch.cat([mixture[:, :1], mixture[:, :1]], dim=1)
    with torch.no_grad():
        before, after = network(mixture), network(changed)
    torch.testing.assert_close(before[:, :, 0], after[:, :, 0])
    torch.testing.assert_close(after[:, :, 1], after[:, :, 0])


def test_spectra_are_scaled_as_in_the_published_implementation() -> None:
    network = seeded(mrx).eval()
    seen: list[torch.Tensor] = []
    network.encoders[1].layer[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mixture = noise(1, 640)
    with torch.no_grad():
        network(mixture)
    wanted = torch.stft(
        mixture[0],
        256,
        32,
        window=torch.hann_window(256),
        normalized=True,
        pad_mode="constant",
        return_complex=True,
    )
    torch.testing.assert_close(seen[0], wanted.abs().transpose(1, 2).flatten(0, 1))


def test_the_second_separation_hears_the_activities() -> None:
    network = seeded(mrxc).eval()
    mixture = noise(2, 900)
    with torch.no_grad():
        outputs = network.outputs(mixture)
        assert outputs.activities is not None
        assert outputs.activities.shape == (2, 3, 1 + -(-900 // 32))
        (first,) = outputs.earlier
        torch.testing.assert_close(first, network.first(mixture))
        torch.testing.assert_close(outputs.sources, network(mixture))
        network.activity.logits.bias += 3
        assert not torch.allclose(network(mixture), outputs.sources)
        network.condition.weight.zero_()
        network.condition.bias.zero_()
        torch.testing.assert_close(network(mixture), network.second(mixture))


def test_each_item_hears_its_own_activities() -> None:
    network = seeded(mrxc).eval()
    batch = noise(2, 600) * torch.tensor([0.001, 1.0])[:, None, None]
    with torch.no_grad():
        network.activity.logits.weight *= 100
        network.condition.weight *= 10
        together, alone = network(batch), torch.cat([network(item[None]) for item in batch])
        assert not torch.allclose(alone[:1], network.second(batch[:1]), rtol=0, atol=1e-5)
    for found, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_the_sources_listen_to_each_other() -> None:
    cross_net = seeded(mrx).eval().cross_net
    encoded = noise(1, 160).reshape(2, 10, 16)
    with torch.no_grad():
        heard = sum(lstm(encoded)[0] for lstm in cross_net.lstm) / 3
        torch.testing.assert_close(cross_net(encoded), torch.cat([encoded, heard], dim=-1))


def test_the_activity_network_hears_mel_spectrograms_of_mixture_and_sources() -> None:
    network = seeded(mrxc).eval()
    seen: list[torch.Tensor] = []
    network.activity.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mixture = noise(1, 640)
    with torch.no_grad():
        first = network.outputs(mixture).earlier[0]
    signals = [mixture[0].mean(dim=0), *first[0].mean(dim=1)]
    for heard, signal in zip(seen[0][0], signals, strict=True):
        mel = librosa.feature.melspectrogram(
            y=signal.numpy(), sr=44100, n_fft=256, hop_length=32, n_mels=8, pad_mode="constant"
        )
        np.testing.assert_allclose(heard.numpy(), np.log(mel + 1e-5), rtol=1e-3, atol=1e-3)


def test_activities_teach_the_activity_network() -> None:
    network = seeded(mrxc).train()
    activities = network.outputs(noise(2, 600)).activities
    assert activities is not None
    activities.sum().backward()
    assert all(parameter.grad is not None for parameter in network.activity.parameters())
    assert all(parameter.grad is None for parameter in network.second.parameters())


@pytest.mark.parametrize("make", [mrx, mrxc])
def test_it_learns_a_batch_by_heart(make) -> None:
    assert fall_of_loss(make) < 0.3


@pytest.mark.parametrize("make", [mrx, mrxc])
def test_half_precision_does_for_the_layers(make) -> None:
    assert 0 < half_precision_error(make) < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 7}, "it must be even"),
        ({"windows_frames": []}, "at least one window"),
        ({"windows_frames": [1024, 500]}, "window_frames is 500 and hop_frames 256"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"layers": 0}, "layers is 0"),
    ],
)
def test_an_impossible_config_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        MRXConfig.from_json(changes)


@pytest.mark.parametrize(("name", "value"), [("mel_bands", 3), ("mel_window_frames", 256)])
def test_an_impossible_activity_network_says_what_and_why(name: str, value: int) -> None:
    with pytest.raises(RecipeError, match=f"{'mel_bands' if name == 'mel_bands' else 'window_frames'} is {value}"):
        MRXCConfig.from_json({name: value})
