from __future__ import annotations

import numpy as np
import pytest

from augment.transforms.convolution import convolve, convolve_centered, zero_phase_filter


@pytest.mark.parametrize("first", [0, 3, 10])
@pytest.mark.parametrize("num_frames", [1, 5, 300])
def test_convolution_keeps_the_length_and_counts_from_the_first_tap(first: int, num_frames: int) -> None:
    rng = np.random.default_rng(0)
    stack = rng.uniform(-1, 1, (2, 3, num_frames)).astype(np.float32)
    taps = rng.uniform(-1, 1, (3, 11))
    out = convolve(stack, taps, first)
    assert out.dtype == np.float32
    for target in range(2):
        for channel in range(3):
            full = np.convolve(stack[target, channel], taps[channel])
            np.testing.assert_allclose(out[target, channel], full[first : first + num_frames], atol=1e-5)
    shared = convolve_centered(stack, taps[0])
    np.testing.assert_allclose(shared[0, 1], np.convolve(stack[0, 1], taps[0])[5 : 5 + num_frames], atol=1e-5)


@pytest.mark.parametrize("is_real", [True, False])
def test_a_filter_has_its_response_at_the_bins(is_real: bool) -> None:
    rng = np.random.default_rng(0)
    response = rng.uniform(0, 1, 17) + (0 if is_real else 1j * rng.uniform(-1, 1, 17))
    response[[0, -1]] = response[[0, -1]].real
    taps = zero_phase_filter(response)
    assert taps.shape == (33,)
    times, bins = np.arange(-16, 17), np.arange(17)
    found = np.exp(-2j * np.pi * bins[:, None] * times / 32) @ taps
    np.testing.assert_allclose(found, response, atol=1e-12)
    if is_real:
        np.testing.assert_allclose(taps, taps[::-1], atol=1e-15)
