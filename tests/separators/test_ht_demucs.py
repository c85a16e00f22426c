"""Hybrid Transformer Demucs."""

from __future__ import annotations

import sys

import pytest
import torch

from manifests.errors import RecipeError
from separators.ht_demucs import HTDemucs, HTDemucsConfig
from tests.separators.small_networks import fall_of_loss, half_precision_error, ht_demucs, noise, seeded, size

demucs = pytest.importorskip("demucs.htdemucs")


def test_it_has_the_size_of_the_released_model() -> None:
    with torch.device("meta"):
        assert size(HTDemucs()) == 41_984_456


def test_it_is_the_model_of_the_package() -> None:
    network = seeded(ht_demucs).eval()
    segment, shorter = noise(1, 1000), noise(1, 700)
    with torch.no_grad():
        torch.testing.assert_close(network(segment), network.model(segment))
        # As the package's own inference does with what is shorter than a segment.
        network.model.use_train_segment = True
        wanted = network.model(shorter)
        network.model.use_train_segment = False
        torch.testing.assert_close(network(shorter), wanted)
    assert isinstance(network.model, demucs.HTDemucs)
    assert network.model.sources == list(network.sources)


def test_it_learns_a_batch_by_heart() -> None:
    assert fall_of_loss(ht_demucs) < 0.3


def test_half_precision_does_for_the_layers() -> None:
    assert 0 < half_precision_error(ht_demucs) < 0.05


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "demucs.htdemucs", None)
    with pytest.raises(RecipeError, match=r"pip install 'stemloom\[demucs\]'"):
        ht_demucs()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_frames": 4000}, "must be a power of two"),
        ({"window_frames": 1024}, "at least 2048"),
        ({"features": 4}, "features is 4"),
        ({"transformer_heads": 7}, "must divide the transformer's 512 channels"),
        ({"bottleneck": 0, "transformer_heads": 5}, "must divide the transformer's 384 channels"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_an_impossible_config_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        HTDemucsConfig.from_json(changes)
