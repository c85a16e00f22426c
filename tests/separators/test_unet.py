"""U-Nets and their ratio mask."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manifests.errors import RecipeError
from separators import UNet, singing_voice_config, spleeter_config, stft
from tests.separators.small_networks import (
    banded_unet,
    mid_side_unet,
    noise,
    residual_unet,
    seeded,
    spleeter,
    study,
)

FILTERS = [16, 32, 64, 128, 256, 512]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_spleeter_has_the_published_size_for_each_stem() -> None:
    network = UNet(spleeter_config())
    assert round(parameters(network.nets[0]) / 1e6, 2) == 9.82
    assert parameters(network) == 2 * parameters(network.nets[0])
    kernels = [tuple(layer.weight.shape) for layer in network.nets[0].down]
    assert kernels == [(after, before, 5, 5) for before, after in zip([2, *FILTERS[:-1]], FILTERS, strict=True)]


def test_the_study_has_five_layers_down_and_five_up() -> None:
    config = singing_voice_config()
    (net, _) = UNet(config).nets
    down = 25 * (2 * 16 + 16 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 16 + 32 + 64 + 128 + 256
    up = 25 * (256 * 128 + 256 * 64 + 128 * 32 + 64 * 16 + 32 * 2) + 128 + 64 + 32 + 16 + 2
    norms = 2 * (16 + 32 + 64 + 128) * 2
    assert parameters(net) == down + up + norms
    assert stft(torch.zeros(2, config.segment_frames), 2048, 512).shape == (2, 1025, 512)


def test_a_full_patch_of_the_study_goes_through() -> None:
    config = dataclasses.replace(singing_voice_config(("vocals",)), columns=32, filters=(2, 2, 2, 2, 2))
    mixture = noise(1, 31 * 512)
    network = UNet(config).eval()
    with torch.no_grad():
        assert network.magnitudes(mixture).shape == (1, 1, 2, 1024, 32)
        torch.testing.assert_close(network(mixture)[:, 0], mixture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [5, 480, 1234])
def test_sources_sum_to_the_mixture_where_the_masks_reach(frames: int) -> None:
    mixture = noise(2, frames)
    network = seeded(study).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(mixture).sum(dim=1), mixture, rtol=0, atol=1e-5)
        # Spleeter is deaf above its bins: the sum is the mixture without them.
        other = seeded(spleeter).eval()
        low = stft(mixture, 128, 32)
        low[..., 32:, :] = 0
        padded = torch.istft(low.flatten(0, 1), 128, 32, window=torch.hann_window(128), length=frames)
        torch.testing.assert_close(other(mixture).sum(dim=1), padded.reshape(2, 2, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("make", "power"), [(study, 1), (spleeter, 2)])
def test_the_ratio_mask_is_made_of_the_magnitudes(make, power: int) -> None:
    network = seeded(make).eval()
    mixture = noise(1, 480)
    with torch.no_grad():
        magnitudes = network.magnitudes(mixture)
        bins = magnitudes.shape[-2]
        spectrum = stft(mixture, 128, 32)
        ratio = magnitudes**power / (magnitudes**power).sum(dim=1, keepdim=True)
        rest = ratio.mean(dim=-2, keepdim=True) * (power == 1)
        full = torch.cat([ratio, rest.expand(-1, -1, -1, 65 - bins, -1)], dim=-2) * spectrum[:, None]
        wanted = torch.istft(full.flatten(0, 2), 128, 32, window=torch.hann_window(128), length=480)
        torch.testing.assert_close(network(mixture).flatten(0, 2), wanted, rtol=0, atol=1e-5)
    assert (magnitudes <= network.reference_magnitudes(mixture[:, None])).all()
    assert ratio.std() > 1e-3


def test_magnitudes_of_references_have_the_shape_of_the_estimates() -> None:
    network = seeded(spleeter).eval()
    mixture = noise(2, 700)
    references = network.reference_magnitudes(torch.stack([mixture, mixture / 2], dim=1))
    assert references.shape == network.magnitudes(mixture).shape == (2, 2, 2, 32, 23)
    torch.testing.assert_close(references[:, 1] * 2, references[:, 0])


def test_patches_do_not_see_each_other() -> None:
    network = seeded(study).eval()
    mixture = noise(1, 40 * 32)
    changed = mixture.clone()
    changed[..., 36 * 32 :] = 0
    with torch.no_grad():
        before, after = network.magnitudes(mixture), network.magnitudes(changed)
    assert torch.equal(before[..., :32], after[..., :32])
    assert not torch.equal(before[..., 32:], after[..., 32:])


def test_dropout_is_on_the_first_three_layers_up() -> None:
    seen = []
    network = UNet(
        dataclasses.replace(spleeter_config(("vocals",)), columns=64, bins=64, filters=(2, 2, 2, 2, 2, 2))
    )
    network.nets[0].dropout.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-1]))
    with torch.no_grad():
        network.train().magnitudes(noise(1, 5000))
    assert network.nets[0].dropout.p == 0.5
    assert seen == [2, 4, 8]


def test_bands_are_bins_below_and_wide_above_and_keep_a_constant_mask() -> None:
    spread = UNet(dataclasses.replace(residual_unet().config, bands=32)).spread
    assert spread.shape == (64, 32)
    torch.testing.assert_close(spread.sum(dim=1), torch.ones(64))
    assert (spread > 0).sum(dim=1).max() == 2
    widths = spread.sum(dim=0)
    assert widths[:5].tolist() == pytest.approx([1.0] * 5, abs=0.05)
    smooth = widths[:-1].unfold(0, 5, 1).mean(dim=1)
    assert (smooth.diff() > 0).all()
    assert smooth[-1] > 3.5
    network = banded_unet().eval()
    with torch.no_grad():
        for parameter in network.nets[0].up[-1].parameters():
            parameter.zero_()  # masks of one half everywhere
        mixture = noise(1, 1000)
        torch.testing.assert_close(network(mixture)[:, 0], mixture / 2, rtol=0, atol=1e-5)


def test_what_is_left_over_is_the_mixture_without_the_targets() -> None:
    network = residual_unet().eval()
    mixture = noise(1, 1000)
    with torch.no_grad():
        magnitudes, sources = network.magnitudes(mixture), network(mixture)
        spectrum = stft(mixture, 128, 32)[..., :64, :]
        found = stft(sources, 128, 32)[..., :64, :].abs()
    assert magnitudes.shape[1] == 1
    assert len(network.nets) == 1
    assert (magnitudes[:, 0] <= spectrum.abs() + 1e-6).all()
    torch.testing.assert_close(sources.sum(dim=1), mixture, rtol=0, atol=1e-5)
    assert found.shape[1] == 2


def test_mid_and_side_are_seen_after_the_channels() -> None:
    seen = []
    network = mid_side_unet().eval()
    network.nets[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    left, right = noise(1, 480).unbind(dim=1)
    with torch.no_grad():
        masked = network.magnitudes(torch.stack([left, right], dim=1))
        network.magnitudes(torch.stack([(left + right) / 2, (left - right) / 2], dim=1))
    torch.testing.assert_close(seen[0][:, 2:], seen[1][:, :2])
    assert masked.shape[2] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 1, "mid_side": True}, "mid_side is of stereo, and channels is 1"),
        ({"residual": "vocals"}, "residual is 'vocals'"),
        ({"sources": ("rest",)}, "it must be the last of"),
        ({"bands": 30}, "bands is 30: it must be a multiple of 8"),
        ({"bands": 64}, "bands is 64: it must be below bins"),
    ],
)
def test_impossible_bands_and_residuals_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        dataclasses.replace(residual_unet().config, **changes)
