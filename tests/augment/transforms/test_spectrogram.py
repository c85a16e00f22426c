from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from augment.transforms.spectrogram import (
    filter_spectrogram,
    scale_spectrogram,
    shift_spectrogram,
    stretch_input_columns,
    stretch_spectrogram,
    swap_spectrogram,
)

FACTORS = torch.tensor([0.7, 1.0, 1.3])


def magnitudes(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32))


def test_stretching_is_linear_interpolation_around_the_middle() -> None:
    spectra = magnitudes(3, 2, 5, 41)
    out = stretch_spectrogram(spectra, FACTORS, 21)
    for item, factor in enumerate(FACTORS.double().tolist()):
        places = 20 + (np.arange(21) - 10) / factor
        grid = np.meshgrid(np.arange(2), np.arange(5), places, indexing="ij")
        expected = scipy.ndimage.map_coordinates(spectra[item].numpy(), grid, order=1)
        np.testing.assert_allclose(out[item].numpy(), expected, atol=1e-5)


def test_shifting_is_linear_interpolation_from_bin_zero_and_silence_beyond_the_last_bin() -> None:
    spectra = magnitudes(3, 2, 33, 4)
    out = shift_spectrogram(spectra, FACTORS)
    for item, factor in enumerate(FACTORS.double().tolist()):
        places = np.arange(33) / factor
        grid = np.meshgrid(np.arange(2), np.minimum(places, 32), np.arange(4), indexing="ij")
        expected = scipy.ndimage.map_coordinates(spectra[item].numpy(), grid, order=1)
        expected[:, places > 32] = 0
        np.testing.assert_allclose(out[item].numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(out[:, :, 0].numpy(), spectra[:, :, 0].numpy())


def test_a_ridge_moves_to_the_factor_times_its_bin() -> None:
    spectra = torch.zeros(2, 1, 1025, 3)
    spectra[:, :, 200] = 1.0
    out = shift_spectrogram(spectra, torch.tensor([0.75, 1.25]))
    assert out.argmax(dim=-2)[:, 0, 0].tolist() == [150, 250]


def test_as_many_columns_as_said_fill_the_output_and_one_less_does_not() -> None:
    for factor in (0.7, 0.85, 1.0, 1.3):
        needed = stretch_input_columns(100, factor)
        full = stretch_spectrogram(torch.ones(1, 1, 1, needed), torch.tensor([factor], dtype=torch.float64), 100)
        np.testing.assert_allclose(full.numpy(), 1.0, atol=1e-6)
        short = stretch_spectrogram(
            torch.ones(1, 1, 1, needed - 2), torch.tensor([factor], dtype=torch.float64), 100
        )
        assert short.min() == 0.0


def test_filtering_multiplies_by_the_response_of_the_study() -> None:
    out = filter_spectrogram(
        torch.ones(2, 1, 1025, 3), torch.tensor([0.0, 3000.0]), torch.tensor([500.0, 900.0]), 44100
    )
    frequencies_hz = np.fft.rfftfreq(2048, 1 / 44100)
    for item, (center_hz, width_hz) in enumerate([(0.0, 500.0), (3000.0, 900.0)]):
        expected = 1 - np.exp(-((frequencies_hz - center_hz) ** 2) / (2 * width_hz**2))
        np.testing.assert_allclose(out[item, 0, :, 1].numpy(), expected, atol=1e-5)


def test_gains_and_swaps_are_of_each_item() -> None:
    spectra = magnitudes(2, 2, 3, 4)
    scaled = scale_spectrogram(spectra, torch.tensor([0.5, 2.0]))
    np.testing.assert_allclose(
        scaled.numpy(), spectra.numpy() * np.array([0.5, 2.0]).reshape(2, 1, 1, 1), rtol=1e-6
    )
    swapped = swap_spectrogram(spectra, torch.tensor([True, False]))
    np.testing.assert_array_equal(swapped[0].numpy(), spectra[0].flip(0).numpy())
    np.testing.assert_array_equal(swapped[1].numpy(), spectra[1].numpy())
    mono = magnitudes(2, 1, 3, 4)
    np.testing.assert_array_equal(swap_spectrogram(mono, torch.tensor([True, True])).numpy(), mono.numpy())


@pytest.mark.parametrize("transform", [stretch_spectrogram, shift_spectrogram, scale_spectrogram])
def test_targets_in_front_take_the_factors_of_their_item(transform: object) -> None:
    assert callable(transform)
    both = magnitudes(4, 3, 2, 17, 9)
    together = transform(both, FACTORS)
    for target in range(4):
        np.testing.assert_allclose(together[target].numpy(), transform(both[target], FACTORS).numpy())
