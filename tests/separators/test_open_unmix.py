"""Open-Unmix."""

from __future__ import annotations

import pytest
import torch

from separators import OpenUnmix, OpenUnmixConfig, stft
from tests.separators.small_networks import noise, open_unmix, residual_unmix, seeded


def test_a_target_has_the_published_size() -> None:
    network = OpenUnmix(OpenUnmixConfig(sources=("vocals", "rest"), residual="rest"))
    assert network.config.heard_bins == 1487
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_893_348
    assert len(network.nets) == 1
    # The published weights have these names and shapes, beside the window and the sample rate.
    shapes = {name: tuple(value.shape) for name, value in network.nets[0].state_dict().items()}
    assert shapes["fc1.weight"] == (512, 2974)
    assert shapes["fc3.weight"] == (4098, 512)
    assert shapes["lstm.weight_ih_l2_reverse"] == (1024, 512)
    assert shapes["output_mean"] == (2049,)


@pytest.mark.parametrize("make", [open_unmix, residual_unmix])
def test_sources_sum_to_the_mixture(make) -> None:
    network = seeded(make).eval()
    mixture = noise(2, 1500)
    with torch.no_grad():
        sources = network(mixture)
    assert (sources.sum(dim=1) - mixture).abs().max() < 0.01 * mixture.abs().max()
    assert not torch.allclose(sources[:, 0], sources[:, 1], atol=1e-2)


def test_without_the_filter_a_source_is_its_magnitudes_with_the_phase_of_the_mixture() -> None:
    network = seeded(lambda: open_unmix(sources=("vocals",), wiener_iterations=0)).eval()
    mixture = noise(1, 800)
    with torch.no_grad():
        spectrum = stft(mixture, 128, 32)
        wanted = network.magnitudes(mixture)[:, 0] * spectrum / spectrum.abs()
        audio = torch.istft(wanted[0], 128, 32, window=torch.hann_window(128), length=800)
        torch.testing.assert_close(network(mixture)[0, 0], audio, rtol=0, atol=1e-5)


def test_references_are_those_of_the_targets_alone() -> None:
    network = seeded(residual_unmix)
    sources = torch.stack([noise(2, 500), noise(2, 500, seed=1)], dim=1)
    references = network.reference_magnitudes(sources)
    assert references.shape == network.magnitudes(sources.sum(dim=1)).shape == (2, 1, 2, 65, 17)
    torch.testing.assert_close(references[:, 0], stft(sources[:, 0], 128, 32).abs())


def test_the_statistics_of_a_data_set_whiten_what_the_network_hears() -> None:
    network = seeded(open_unmix).eval()
    heard = network.reference_magnitudes(noise(4, 4000)[:, None])[..., : network.config.heard_bins, :]
    mean, deviation = heard.mean(dim=(0, 1, 2, 4)), heard.std(dim=(0, 1, 2, 4))
    deviation[3] = 0
    network.set_input_statistics(mean, deviation)
    for net in network.nets:
        white = (heard + net.input_mean[:, None]) * net.input_scale[:, None]
        assert white.mean(dim=(0, 1, 2, 4)).abs().max() < 0.5
        torch.testing.assert_close(white.std(dim=(0, 1, 2, 4))[4:], torch.ones(network.config.heard_bins - 4))
        assert net.input_scale[3].item() == pytest.approx(1e4 / float(deviation.max()), rel=1e-5)


def test_the_networks_are_deaf_above_the_bandwidth() -> None:
    network = seeded(open_unmix).eval()
    (net, *_) = network.nets
    magnitude = network.reference_magnitudes(noise(1, 900)[:, None])[:, 0]
    louder = magnitude.clone()
    louder[..., network.config.heard_bins :, :] *= 3
    with torch.no_grad():
        before, after = net(magnitude), net(louder)
    low = network.config.heard_bins
    assert torch.equal(before[..., :low, :], after[..., :low, :])
    torch.testing.assert_close(before[..., low:, :] * 3, after[..., low:, :])
