"""BS-RoFormer and Mel-Band RoFormer."""

from __future__ import annotations

import functools
import sys

import pytest
import torch

from manifests.errors import RecipeError
from separators.bs_roformer import BSRoformer, BSRoformerConfig
from separators.stft import istft, stft
from tests.separators import test_network
from tests.separators.small_networks import fall_of_loss, half_precision_error, noise, roformer, seeded, size

bs_roformer = pytest.importorskip("bs_roformer")
mel_roformer = functools.partial(roformer, bands="mel")
both = pytest.mark.parametrize("make", [roformer, mel_roformer])


@pytest.mark.parametrize(
    ("changes", "wanted"), [({}, 98_194_828), ({"bands": "mel", "mask_depth": 1}, 110_219_716)]
)
def test_it_has_the_size_of_the_published_model_in_the_package(changes: dict[str, object], wanted: int) -> None:
    with torch.device("meta"):
        assert size(BSRoformer(BSRoformerConfig(**changes))) == wanted


@both
@pytest.mark.parametrize("frames", [1, 15, 33, 480, 1001])
def test_any_length_comes_back_as_it_was(make, frames: int) -> None:
    test_network.test_any_length_comes_back_as_it_was(make, frames)


@both
def test_it_is_a_network_as_all_others(make) -> None:
    test_network.test_what_else_is_in_a_batch_does_not_change_an_item(make)
    test_network.test_silence_stays_silence(make)
    test_network.test_weights_and_config_make_the_same_network_again(make)
    test_network.test_a_mixture_of_another_shape_is_refused(make, (1, 3, 100))


@both
def test_gradients_reach_all_that_is_trained(make) -> None:
    network = seeded(make).train()
    network(noise(2, 600)).square().sum().backward()
    # The package keeps the rotation's frequencies as a parameter that is not trained.
    fixed = {name for name, weight in network.named_parameters() if not weight.requires_grad}
    assert {name.rpartition(".")[2] for name in fixed} == {"freqs"}
    for name, weight in network.named_parameters():
        assert name in fixed or weight.grad.any()


@both
def test_it_is_the_model_of_the_package(make) -> None:
    network = seeded(make).eval()
    mixture = noise(2, 640)
    with torch.no_grad():
        sources = network(mixture)
        torch.testing.assert_close(sources, network.model(mixture))
    assert network.model.__class__.__name__ == ("BSRoformer" if make is roformer else "MelBandRoformer")


def test_a_single_source_and_a_single_channel_do() -> None:
    network = seeded(functools.partial(roformer, sources=("vocals",), channels=1)).eval()
    with torch.no_grad():
        assert network(noise(2, 500)[:, :1]).shape == (2, 1, 1, 500)


def test_the_lowest_bin_is_left_as_it_is() -> None:
    network = seeded(functools.partial(roformer, sources=("vocals",), channels=1)).eval()
    for estimator in network.model.mask_estimators:
        estimator.register_forward_hook(
            lambda _, __, masks: torch.tensor([1.0, 0.0]).repeat(*masks.shape[:-1], masks.shape[-1] // 2)
        )
    mixture = noise(1, 640)[:, :1] + 0.5
    with torch.no_grad():
        torch.testing.assert_close(network(mixture)[:, 0], mixture, rtol=0, atol=1e-4)
        torch.testing.assert_close(istft(stft(mixture, 64, 16), 64, 16, 640), mixture, rtol=0, atol=1e-4)


@both
def test_it_learns_a_batch_by_heart(make) -> None:
    assert fall_of_loss(make) < 0.3


@both
def test_half_precision_does_for_the_layers(make) -> None:
    assert 0 < half_precision_error(make) < 0.05
    (estimator, _) = seeded(make).model.mask_estimators
    with torch.autocast("cpu", torch.bfloat16):
        masks = estimator(torch.zeros(1, 2, 4 if make is roformer else 6, 8))
    assert masks.dtype == torch.float32


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bs_roformer", None)
    with pytest.raises(RecipeError, match=r"pip install 'stemloom\[roformer\]'"):
        roformer()


def test_every_mel_band_must_hold_a_bin() -> None:
    with pytest.raises(RecipeError, match="mel_bands is 200: some would hold no bin"):
        roformer(bands="mel", mel_bands=200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"band_bins": [1000, 24]}, "band_bins sums to 1024: it must hold two or more bands, of 1025 bins in all"),
        ({"band_bins": [1025]}, "two or more bands"),
        ({"channels": 3}, "channels is 3"),
        ({"head_features": 7}, "must be even"),
        ({"bands": "bark"}, r"BSRoformerConfig\.bands is 'bark'"),
    ],
)
def test_an_impossible_config_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        BSRoformerConfig.from_json(changes)
