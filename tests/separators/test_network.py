"""What holds for every network, and the settings that go with its weights."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from manifests.errors import AudioError, RecipeError
from separators import ConvTasNetConfig, Network, OpenUnmixConfig, UNetConfig, singing_voice_config, spleeter_config
from tests.separators.small_networks import SMALL, noise, seeded

CONFIGS = [
    singing_voice_config(),
    spleeter_config(("vocals", "drums", "bass", "other")),
    OpenUnmixConfig(sources=("speech", "background"), residual="background"),
    OpenUnmixConfig(bandwidth_hz=12345.5),
    ConvTasNetConfig(),
]
every_network = pytest.mark.parametrize("make", SMALL)


@every_network
@pytest.mark.parametrize("frames", [1, 2, 31, 33, 127, 480, 1001])
def test_any_length_comes_back_as_it_was(make: Callable[[], Network], frames: int) -> None:
    network = seeded(make).eval()
    with torch.no_grad():
        sources = network(noise(2, frames))
    assert sources.shape == (2, len(network.sources), network.channels, frames)
    assert sources.dtype == torch.float32
    assert torch.isfinite(sources).all()


@every_network
def test_what_else_is_in_a_batch_does_not_change_an_item(make: Callable[[], Network]) -> None:
    network = seeded(make).eval()
    batch = noise(3, 700) * torch.tensor([0.01, 1.0, 30.0])[:, None, None]
    with torch.no_grad():
        together = network(batch)
        alone = torch.cat([network(item[None]) for item in batch])
    for found, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert not torch.allclose(together[0], together[1])


@every_network
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_gradients_are_finite_and_reach_every_parameter(make: Callable[[], Network], level: float) -> None:
    network = seeded(make).train()
    mixture = (level * noise(2, 900)).requires_grad_()
    network(mixture).square().sum().backward()
    assert mixture.grad is not None
    assert torch.isfinite(mixture.grad).all()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()] == []
    if level:
        assert [name for name, gradient in gradients.items() if not gradient.any()] == []


@every_network
def test_silence_stays_silence(make: Callable[[], Network]) -> None:
    network = seeded(make).eval()
    with torch.no_grad():
        sources = network(torch.zeros(1, 2, 600))
    assert sources.abs().max() == 0


@every_network
@pytest.mark.parametrize("shape", [(2, 100), (1, 1, 100), (1, 3, 100), (1, 2, 0), (1, 1, 2, 100)])
def test_a_mixture_of_another_shape_is_refused(make: Callable[[], Network], shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"takes \(batch, 2, frames\)"):
        make()(torch.zeros(shape))


@every_network
def test_weights_and_config_make_the_same_network_again(make: Callable[[], Network]) -> None:
    network = seeded(make).eval()
    config = type(network.config).from_json(json.loads(json.dumps(network.config.to_json())))
    again = type(network)(config).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(noise(1, 500)), network(noise(1, 500)))
    assert again.sources == network.sources
    assert again.sample_rate == network.sample_rate
    assert again.segment_frames == network.segment_frames


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_json(config: UNetConfig | OpenUnmixConfig | ConvTasNetConfig) -> None:
    again = type(config).from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert hash(again) == hash(config)


def test_whole_numbers_do_for_floats_in_json_and_defaults_may_be_missing() -> None:
    config = OpenUnmixConfig.from_json({"bandwidth_hz": 16000})
    assert config == OpenUnmixConfig()
    assert type(config.bandwidth_hz) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hiden": 512}, r"no field 'hiden' \(did you mean 'hidden'\?\)"),
        ({"hidden": "512"}, r"OpenUnmixConfig\.hidden is '512': it must be int"),
        ({"hidden": True}, "hidden is True"),
        ({"hidden": 511}, "it must be even"),
        ({"hidden": 0}, "at least 2"),
        ({"hop_frames": 3000}, "window_frames is 4096 and hop_frames 3000"),
        ({"sources": "vocals"}, "sources is 'vocals'"),
        ({"sources": ["a", 1]}, "sources is 1: it must be str"),
        ({"sources": ["a", "a"]}, "each once"),
        ({"sources": []}, "at least one source"),
        ({"sources": ["a"]}, "add a source for what is left over"),
        ({"sources": ["a", "b"], "residual": "a"}, "must be the last of"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"bandwidth_hz": 22051}, "at most 22050"),
    ],
)
def test_an_impossible_config_says_what_and_why(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        OpenUnmixConfig.from_json(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "other"}, r"UNetConfig\.head is 'other'"),
        ({"columns": 500}, "columns is 500: it must be a multiple of 32"),
        ({"bins": 1056}, "a window of 2048 frames has fewer"),
        ({"filters": []}, "at least one number"),
        ({"mask_exponent": 0}, "above 0"),
    ],
)
def test_an_impossible_u_net_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        UNetConfig.from_json(singing_voice_config().to_json() | changes)
    values = singing_voice_config().to_json()
    del values["hop_frames"]
    with pytest.raises(RecipeError, match="UNetConfig lacks hop_frames"):
        UNetConfig.from_json(values)
