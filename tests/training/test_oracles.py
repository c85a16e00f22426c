"""Oracles against closed forms: disjoint spectra, sums, and what each mask is at a single place."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import training.oracles
from manifests.audio import Audio
from tests.synthesis import pink_noise, tone
from training.metrics import snr
from training.oracles import (
    ORACLES,
    Oracle,
    ideal_binary_mask,
    ideal_ratio_mask,
    scaled_identity,
    window_frames,
    with_residual,
)

RATE = 8000
MASKS = (ideal_ratio_mask, ideal_binary_mask)


def sources(seed: int = 0, frames: int = 3000, count: int = 3, channels: int = 2) -> Audio:
    rng = np.random.default_rng(seed)
    return np.stack([pink_noise(rng, channels, frames, rms=0.1 * (n + 1)) for n in range(count)])


def test_the_window_is_that_of_the_dialogue_study() -> None:
    assert [window_frames(rate) for rate in (48000, 44100, 8000, 10)] == [2064, 1896, 344, 2]


@pytest.mark.parametrize("oracle", MASKS)
def test_disjoint_spectra_are_separated(oracle: Oracle) -> None:
    references = np.stack([tone(500, 8000, RATE), tone(2500, 8000, RATE, amplitude=0.05)])
    found = oracle(references, references.sum(axis=0), RATE)
    # a sine's window has side lobes, and the second tone is 20 dB below the first
    assert (snr(references[..., 400:-400], found[..., 400:-400]) > [55, 30]).all()


def test_sources_that_take_turns_are_separated_perfectly() -> None:
    references = np.zeros((2, 1, 8000), np.float32)
    references[0, :, :3000] = pink_noise(np.random.default_rng(0), 1, 3000)
    references[1, :, 5000:] = pink_noise(np.random.default_rng(1), 1, 3000)
    for oracle in MASKS:
        np.testing.assert_allclose(oracle(references, references.sum(axis=0), RATE), references, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 1500),
    count=st.integers(1, 4),
    name=st.sampled_from(sorted(ORACLES)),
)
def test_estimates_sum_to_the_mixture(seed: int, frames: int, count: int, name: str) -> None:
    references = np.random.default_rng(seed).standard_normal((count, 2, frames)).astype(np.float32)
    mixture = references.sum(axis=0) * np.float32(0.7)
    found = ORACLES[name](references, mixture, RATE)
    assert found.dtype == np.float32
    assert found.shape == references.shape
    np.testing.assert_allclose(found.sum(axis=0), mixture, atol=1e-5)


def test_masks_are_the_ratios_of_powers() -> None:
    """References that are multiples of one sound have one mask everywhere."""
    sound = pink_noise(np.random.default_rng(0), 2, 4000)
    references = np.stack([3 * sound, sound])
    mixture = references.sum(axis=0)
    for power in (1.0, 2.0, 3.5):
        share = 3**power / (3**power + 1)
        found = ideal_ratio_mask(references, mixture, RATE, power=power)
        np.testing.assert_allclose(found, np.stack([share * mixture, (1 - share) * mixture]), atol=1e-5)
    np.testing.assert_allclose(ideal_binary_mask(references, mixture, RATE)[1], 0.0, atol=1e-6)
    np.testing.assert_allclose(scaled_identity(references, mixture, RATE), np.stack([mixture / 2] * 2))


def test_the_ratio_mask_is_that_of_scipys_spectra() -> None:
    references = sources()
    mixture = references.sum(axis=0)
    size = window_frames(RATE)
    how = {"fs": RATE, "window": np.sin(np.pi * (np.arange(size) + 0.5) / size), "nperseg": size}
    powers = np.abs(scipy.signal.stft(references, **how)[2]) ** 2
    masked = powers / powers.sum(axis=0) * scipy.signal.stft(mixture, **how)[2]
    wanted = scipy.signal.istft(masked, **how)[1][..., : mixture.shape[1]]
    np.testing.assert_allclose(ideal_ratio_mask(references, mixture, RATE), wanted, atol=1e-5)


def test_an_oracle_is_better_than_the_mixture_and_the_finer_mask_better_than_the_coarse() -> None:
    references = sources(frames=16000)
    mixture = references.sum(axis=0)
    ratio, binary = (snr(references, oracle(references, mixture, RATE)) for oracle in MASKS)
    assert (ratio > snr(references, np.repeat(mixture[None], 3, axis=0)) + 3).all()
    assert (ratio > binary).all()


@pytest.mark.parametrize("oracle", MASKS)
def test_blocks_of_columns_do_not_show(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    references = sources()
    whole = oracle(references, references.sum(axis=0), RATE)
    monkeypatch.setattr(training.oracles, "_BLOCK_COLUMNS", 3)
    np.testing.assert_allclose(oracle(references, references.sum(axis=0), RATE), whole, atol=1e-6)


def test_places_without_references_are_shared() -> None:
    mixture = pink_noise(np.random.default_rng(0), 1, 1000)
    found = ideal_ratio_mask(np.zeros((4, 1, 1000), np.float32), mixture, RATE)
    np.testing.assert_allclose(found, np.stack([mixture / 4] * 4), atol=1e-6)


def test_quiet_sources_do_not_vanish_in_high_powers() -> None:
    sound = pink_noise(np.random.default_rng(0), 1, 1000) * np.float32(1e-20)
    found = ideal_ratio_mask(np.stack([sound, sound]), 2 * sound, RATE, power=16.0)
    np.testing.assert_allclose(found[0], sound, rtol=1e-3, atol=1e-24)


def test_what_references_lack_is_a_source_of_its_own() -> None:
    references = sources()
    mixture = references.sum(axis=0)
    assert with_residual(references, mixture + np.float32(5e-5)) is references
    np.testing.assert_allclose(with_residual(references[:2], mixture), references, atol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    references = sources()
    for oracle in ORACLES.values():
        with pytest.raises(ValueError, match=r"mixture \(2, 2999\)"):
            oracle(references, references[0, :, 1:], RATE)
    with pytest.raises(ValueError, match="power is 0"):
        ideal_ratio_mask(references, references[0], RATE, power=0.0)
