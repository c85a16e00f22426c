"""Band-split RNN."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from manifests.errors import RecipeError
from separators.bsrnn import BSRNN, BSRNNConfig, band_edges
from separators.stft import istft, stft
from tests.separators.small_networks import (
    bsrnn,
    fall_of_loss,
    half_precision_error,
    noise,
    residual_bsrnn,
    seeded,
    size,
)


@pytest.mark.parametrize(("cell", "gates", "modules"), [("gru", 3, 8), ("lstm", 4, 12)])
def test_a_target_has_the_published_layers(cell: str, gates: int, modules: int) -> None:
    config = BSRNNConfig(cell=cell, modules=modules)
    with torch.device("meta"):
        one = size(BSRNN(config))
        two = size(BSRNN(dataclasses.replace(config, sources=("a", "b", "c"), residual="c")))
    split = 2 * 2050 + 2050 * 128 + 41 * 128
    recurrent = 2 * 128 + 2 * gates * 256 * (128 + 256 + 2) + 512 * 128 + 128
    masks = 41 * (2 * 128 + 128 * 512 + 512) + 4 * 1025 * (512 + 1)
    assert one == split + 2 * modules * recurrent + masks
    assert two == 2 * one


def test_the_default_has_the_published_size() -> None:
    with torch.device("meta"):
        assert size(BSRNN()) == pytest.approx(15.8e6, rel=0.015)


@pytest.mark.parametrize(("split", "bands"), [("vocals", 41), ("bass", 30), ("drums", 55)])
def test_bands_are_those_of_the_paper(split: str, bands: int) -> None:
    edges = band_edges(split, 44100, 2048)
    assert edges[0] == 0
    assert edges[-1] == 1025
    assert len(edges) == bands + 1


def test_bands_of_vocals_get_wider_upwards() -> None:
    edges = [bin * 44100 / 2048 for bin in band_edges("vocals", 44100, 2048)]
    wanted = [*range(0, 1000, 100), *range(1000, 4000, 250), *range(4000, 8000, 500), *range(8000, 16000, 1000)]
    assert edges[:-1] == pytest.approx([*wanted, 16000, 18000, 20000], abs=44100 / 2048 / 2)


@pytest.mark.parametrize(("rate", "window"), [(8000, 64), (16000, 512), (48000, 2048), (44100, 16)])
@pytest.mark.parametrize("split", ["vocals", "bass", "drums"])
def test_every_rate_and_window_has_bands(split: str, rate: int, window: int) -> None:
    edges = band_edges(split, rate, window)
    assert edges[0] == 0
    assert edges[-1] == window // 2 + 1
    assert all(before < after for before, after in itertools.pairwise(edges))


def test_bands_find_their_bins_back() -> None:
    """Bands are worked on by width: what they hear, in which order they meet, and where their masks go."""
    (net, *_) = seeded(bsrnn).eval().nets
    edges = torch.tensor(band_edges("vocals", 44100, 256))
    starts, widths = edges[:-1], edges.diff()
    assert len(net.groups) > 3
    assert widths.diff().min() < 0
    heard: dict[int, torch.Tensor] = {}
    met: list[torch.Tensor] = []
    for encoder in net.encoders:
        encoder.register_forward_pre_hook(
            lambda _, inputs: heard.update({int(band[0, 0]): band[..., 0] for band in inputs[0][0]})
        )
    net.along[0].register_forward_pre_hook(lambda _, inputs: met.append(inputs[0][:, 0, 0]))
    net.hidden.register_forward_hook(lambda _, __, output: starts[None, :, None, None].expand(output.shape).float())
    bins = torch.arange(129.0)
    with torch.no_grad():
        for coder, (number, width) in zip([*net.encoders, *net.decoders], 2 * net.groups, strict=True):
            layer = coder[-1] if isinstance(coder, torch.nn.Sequential) else coder
            layer.bias.zero_()
            layer.weight.zero_()
            if layer is coder:
                # The band's start, as it comes down from above, and an open gate.
                layer.weight.view(number, 2, 2, width, -1)[:, 0, 0, :, 0] = 1
                layer.bias.view(number, 2, 2, width)[:, 1] = 100
            else:
                layer.bias += starts[widths == width][:, None, None]
        mask = net(torch.complex(bins, -bins)[None, :, None].expand(-1, -1, 3))[0]
    for start, width in zip(starts.tolist(), widths.tolist(), strict=True):
        own = bins[start : start + width]
        assert torch.equal(heard[start].reshape(width, 2), torch.stack([own, -own], dim=1))
    assert torch.equal(met[0], starts.float())
    wanted = starts.repeat_interleave(widths).float()
    assert torch.equal(mask, torch.complex(wanted, 0 * wanted)[:, None].expand(-1, 3))


def test_masks_are_complex() -> None:
    network = seeded(lambda: bsrnn(sources=("vocals",))).eval()
    mixture = noise(1, 600)
    spectrum = stft(mixture, 256, 64)
    with torch.no_grad():
        mask = network.nets[0](spectrum[0])
        assert mask.imag.abs().max() > 1e-3
        torch.testing.assert_close(network(mixture)[:, 0], istft(mask * spectrum, 256, 64, 600))


@pytest.mark.parametrize("gain", [1e-2, 100.0])
def test_a_louder_mixture_gives_louder_sources(gain: float) -> None:
    network = seeded(bsrnn).eval()
    mixture = noise(2, 600)
    with torch.no_grad():
        torch.testing.assert_close(network(gain * mixture) / gain, network(mixture), rtol=1e-3, atol=1e-4)


def test_the_residual_is_what_is_left_over() -> None:
    network = seeded(residual_bsrnn).eval()
    mixture = noise(2, 500)
    with torch.no_grad():
        torch.testing.assert_close(network(mixture).sum(dim=1), mixture)
    assert len(network.nets) == 1


def test_it_learns_a_batch_by_heart() -> None:
    assert fall_of_loss(lambda: bsrnn(modules=1)) < 0.3


@pytest.mark.parametrize("make", [bsrnn, residual_bsrnn])
def test_half_precision_does_for_the_layers(make) -> None:
    assert 0 < half_precision_error(make) < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ["voice"]}, r"BSRNNConfig\.bands is 'voice'"),
        ({"bands": ["bass", "drums"]}, "or one for each of vocals"),
        ({"residual": "other"}, "must be the last of"),
        ({"residual": "vocals"}, "beside another source"),
        ({"modules": 0}, "modules is 0"),
        ({"cell": "rnn"}, r"BSRNNConfig\.cell is 'rnn'"),
    ],
)
def test_an_impossible_config_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        BSRNNConfig.from_json(changes)
