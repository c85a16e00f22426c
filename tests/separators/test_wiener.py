"""The multichannel Wiener filter, against the equations written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manifests.errors import RecipeError
from separators.wiener import wiener_filter


def spectra(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def reference(magnitudes: np.ndarray, mixture: np.ndarray, iterations: int) -> np.ndarray:
    """One item, bin by bin and column by column."""
    scale = max(1.0, np.abs(mixture).max() / 10)
    estimates = magnitudes * np.exp(1j * np.angle(mixture)) / scale
    mixture = mixture / scale
    sources, channels, bins, columns = magnitudes.shape
    for _ in range(iterations):
        before = estimates.copy()
        for f in range(bins):
            powers = (np.abs(before[:, :, f]) ** 2).mean(axis=1)
            spatial = [
                sum(np.outer(before[s, :, f, t], before[s, :, f, t].conj()) for t in range(columns))
                / (1e-10 + powers[s].sum())
                for s in range(sources)
            ]
            for t in range(columns):
                total = sum(powers[s, t] * spatial[s] for s in range(sources)) + 1e-5 * np.eye(channels)
                for s in range(sources):
                    gain = powers[s, t] * spatial[s] @ np.linalg.inv(total)
                    estimates[s, :, f, t] = gain @ mixture[:, f, t]
    return estimates * scale


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("iterations", [0, 1, 2])
@pytest.mark.parametrize("level", [0.1, 40.0])
def test_the_filter_is_what_the_equations_say(channels: int, iterations: int, level: float) -> None:
    mixture = level * spectra(2, channels, 4, 6)
    magnitudes = level * np.abs(spectra(2, 3, channels, 4, 6, seed=1))
    found = wiener_filter(torch.from_numpy(magnitudes), torch.from_numpy(mixture), iterations).numpy()
    wanted = np.stack([reference(m, x, iterations) for m, x in zip(magnitudes, mixture, strict=True)])
    np.testing.assert_allclose(found, wanted, atol=1e-8 * level)


def test_covariances_are_those_of_each_block() -> None:
    mixture, magnitudes = spectra(1, 2, 3, 11), np.abs(spectra(1, 2, 2, 3, 11, seed=1))
    found = wiener_filter(torch.from_numpy(magnitudes), torch.from_numpy(mixture), 1, block_columns=4).numpy()
    blocks = [slice(0, 4), slice(4, 8), slice(8, 11)]
    wanted = np.concatenate([reference(magnitudes[0][..., at], mixture[0][..., at], 1) for at in blocks], axis=-1)
    np.testing.assert_allclose(found[0], wanted, atol=1e-8)


def test_sources_sum_to_the_mixture_even_when_it_is_mono() -> None:
    mono = spectra(1, 1, 5, 8)
    mixture = torch.from_numpy(np.concatenate([mono, mono], axis=1)).to(torch.complex64)
    magnitudes = torch.from_numpy(np.abs(spectra(1, 3, 1, 5, 8, seed=1))).float().expand(-1, -1, 2, -1, -1)
    found = wiener_filter(magnitudes, mixture)
    assert found.dtype == torch.complex64
    assert (found.sum(dim=1) - mixture).abs().max() < 1e-3
    torch.testing.assert_close(found[:, :, 0], found[:, :, 1], rtol=0, atol=1e-4)


def test_sources_from_two_directions_come_apart() -> None:
    left, right = spectra(1, 1, 6, 40, seed=2), spectra(1, 1, 6, 40, seed=3)
    sources = np.stack([np.concatenate([left, 0.2 * left], 1), np.concatenate([0.1 * right, right], 1)], axis=1)
    mixture = sources.sum(axis=1)
    magnitudes = torch.from_numpy(np.abs(sources))
    errors = [
        np.linalg.norm(wiener_filter(magnitudes, torch.from_numpy(mixture), n).numpy() - sources) for n in (0, 1)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match="the same without sources"):
        wiener_filter(torch.ones(1, 2, 2, 3, 4), torch.ones(1, 2, 3, 5, dtype=torch.complex64))
    with pytest.raises(RecipeError, match="iterations is -1"):
        wiener_filter(torch.ones(1, 2, 2, 3, 4), torch.ones(1, 2, 3, 4, dtype=torch.complex64), -1)
