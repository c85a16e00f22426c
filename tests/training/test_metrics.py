"""Metrics against closed forms and mir_eval, their invariances, and what silence does to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import training.metrics
from manifests.errors import AudioError
from training.losses import negative_si_sdr, negative_snr
from training.metrics import improvements, measure, sdr, si_metrics, si_sdr, snr, summarise

Floats = npt.NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
WANTED = np.array([1.0, 1.0, 1.0, 1.0])
OTHER = np.array([1.0, -1.0, 1.0, -1.0])
OUTSIDE = np.array([1.0, 1.0, -1.0, -1.0])
NAMES = {"sdr_db", "snr_db", "si_sdr_db", "si_sir_db", "si_sar_db"}


def noise(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_the_parts_of_an_orthogonal_estimate_are_known() -> None:
    references = np.stack([WANTED, OTHER])[:, None]
    estimates = np.stack([2 * WANTED + 0.2 * OTHER + 0.02 * OUTSIDE, OTHER])[:, None]
    found = si_metrics(references, estimates)
    assert found["si_sir_db"][0] == pytest.approx(20.0)
    assert found["si_sar_db"][0] == pytest.approx(40.0)
    assert found["si_sdr_db"][0] == pytest.approx(-10 * np.log10(1e-2 + 1e-4))
    assert [found[name][1] for name in sorted(found)] == [np.inf] * 3


def test_the_challenges_sdr_has_its_epsilon_and_snr_has_none() -> None:
    references = np.full((2, 2, 1000), [[[0.5]], [[1e-6]]])
    estimates = references * np.array([0.9, 2.0])[:, None, None]
    quiet = 2e-9 + 1e-7
    np.testing.assert_allclose(sdr(references, estimates), [20.0, 10 * np.log10(quiet / quiet)], atol=1e-6)
    np.testing.assert_allclose(snr(references, estimates), [20.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(sdr(references, references)[0], 10 * np.log10((500 + 1e-7) / 1e-7))
    assert snr(references, references).tolist() == [np.inf, np.inf]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, gain=st.floats(1e-3, 1e3))
def test_metrics_that_are_scale_invariant_are(seed: int, gain: float) -> None:
    references = noise(3, 2, 60, seed=seed)
    estimates = references + noise(3, 2, 60, seed=seed + 1)
    found = si_metrics(references, estimates)
    for changed in (si_metrics(gain * references, estimates), si_metrics(references, gain * estimates)):
        for name, values in found.items():
            np.testing.assert_allclose(changed[name], values, rtol=1e-6, atol=1e-6)
    sides = [10 ** (-found[f"si_{name}_db"] / 10) for name in ("sdr", "sir", "sar")]
    np.testing.assert_allclose(sides[0], sides[1] + sides[2], rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, order=st.permutations(range(3)))
def test_the_order_of_the_sources_is_that_of_the_values(seed: int, order: list[int]) -> None:
    references = noise(3, 1, 40, seed=seed)
    estimates = references + noise(3, 1, 40, seed=seed + 1)
    whole, shuffled = measure(references, estimates), measure(references[order], estimates[order])
    assert whole.keys() == NAMES
    for name, values in whole.items():
        np.testing.assert_allclose(shuffled[name], values[order], rtol=1e-9)


def test_bsseval_with_filters_of_one_tap_gives_the_same() -> None:
    separation = pytest.importorskip("mir_eval.separation")
    references = noise(3, 1, 400)
    leakage = np.eye(3) + 0.3 * noise(3, 3, seed=1)
    estimates = np.einsum("ij,jcf->icf", leakage, references) + 0.1 * noise(3, 1, 400, seed=2)
    found = si_metrics(references, estimates)
    for source in range(3):
        true, spatial, interference, artefacts = separation._bss_decomp_mtifilt(
            references[:, 0], estimates[source, 0], source, 1
        )
        target = true + spatial
        expected = separation._bss_source_crit(true, spatial, interference, artefacts)
        assert found["si_sdr_db"][source] == pytest.approx(expected[0], abs=1e-6)
        assert found["si_sir_db"][source] == pytest.approx(expected[1], abs=1e-6)
        sar = 10 * np.log10(np.sum(target**2) / np.sum(artefacts**2))
        assert found["si_sar_db"][source] == pytest.approx(sar, abs=1e-6)


def test_torchmetrics_measures_the_same() -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio")
    references = noise(3, 1, 2000)
    estimates = 0.8 * references + 0.3 * noise(3, 1, 2000, seed=1)
    found = measure(references, estimates)
    pair = torch.from_numpy(estimates[:, 0]), torch.from_numpy(references[:, 0])
    for name, theirs in (
        ("snr_db", audio.signal_noise_ratio),
        ("si_sdr_db", audio.scale_invariant_signal_distortion_ratio),
    ):
        np.testing.assert_allclose(found[name], theirs(*pair).numpy(), atol=1e-4)


def test_fast_bss_eval_measures_the_same() -> None:
    fast_bss_eval = pytest.importorskip("fast_bss_eval")
    references = noise(3, 1, 2000)
    leakage = np.eye(3) + 0.3 * noise(3, 3, seed=1)
    estimates = np.einsum("ij,jcf->icf", leakage, references) + 0.1 * noise(3, 1, 2000, seed=2)
    found = si_metrics(references, estimates)
    pair = torch.from_numpy(references[:, 0]), torch.from_numpy(estimates[:, 0])
    theirs = fast_bss_eval.si_bss_eval_sources(*pair, zero_mean=False, compute_permutation=False)
    # its SAR is BSSEval's: to the artefacts it compares target and interference together
    together = 10 ** (found["si_sar_db"] / 10) * (1 + 10 ** (-found["si_sir_db"] / 10))
    wanted = (found["si_sdr_db"], found["si_sir_db"], 10 * np.log10(together))
    for ours, values in zip(wanted, theirs, strict=True):
        np.testing.assert_allclose(ours, values.numpy(), atol=1e-4)


def test_long_audio_is_measured_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    references, error = noise(2, 2, 1000), noise(2, 2, 1000, seed=1)
    whole = measure(references, references + 0.1 * error)
    monkeypatch.setattr(training.metrics, "_BLOCK_FRAMES", 7)
    for name, values in measure(references, references + 0.1 * error).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-9)


def test_losses_are_the_metrics_negated() -> None:
    references = noise(2, 2, 500)
    estimates = 0.7 * references + 0.2 * noise(2, 2, 500, seed=1)
    pair = torch.from_numpy(estimates)[None], torch.from_numpy(references)[None]
    assert -negative_snr(*pair, max_snr_db=200.0).item() == pytest.approx(snr(references, estimates).mean())
    found = -negative_si_sdr(*pair, max_si_sdr_db=200.0).item()
    assert found == pytest.approx(si_sdr(references, estimates).mean(), abs=1e-4)


def test_improvements_are_over_the_mixture() -> None:
    references = np.stack([WANTED, OTHER])[:, None]
    mixture = references.sum(axis=0)
    estimates = references + 0.1 * references[::-1]
    found = improvements(references, estimates, mixture)
    assert set(found) == {f"{name}_improvement_db" for name in ("sdr", "snr", "si_sdr", "si_sir")}
    for values in found.values():
        np.testing.assert_allclose(values, 20.0, atol=1e-5)
    nothing = improvements(references, np.stack([mixture, mixture]), mixture)
    assert [values.tolist() for values in nothing.values()] == [[0.0, 0.0]] * 4


def test_silent_references_are_nan_and_counted() -> None:
    references = noise(3, 2, 100)
    references[1] = 0.0
    estimates = references + 0.1 * noise(3, 2, 100, seed=1)
    found = {**measure(references, estimates), **improvements(references, estimates, references.sum(axis=0))}
    for values in found.values():
        assert np.isnan(values).tolist() == [False, True, False]
        assert (summarise(values).count, summarise(values).silent) == (2, 1)
    kept = si_metrics(references[[0, 2]], estimates[[0, 2]])
    for name, values in kept.items():
        np.testing.assert_allclose(found[name][[0, 2]], values)
    nothing = np.zeros((2, 1, 10))
    assert all(np.isnan(values).all() for values in measure(nothing, nothing).values())


def test_a_silent_estimate_is_the_worst_there_is() -> None:
    references = noise(1, 2, 100)
    found = measure(references, np.zeros_like(references))
    assert found["snr_db"].tolist() == [0.0]
    assert found["si_sdr_db"].tolist() == [-np.inf]


def test_rounding_is_no_part_of_an_estimate() -> None:
    references = noise(3, 1, 1000)
    found = si_metrics(references, references / 3.0)
    assert [values.tolist() for values in found.values()] == [[np.inf] * 3] * 3
    mixed = si_metrics(references, np.repeat(references.sum(axis=0, keepdims=True), 3, axis=0))
    assert mixed["si_sar_db"].tolist() == [np.inf] * 3


def test_two_references_that_are_the_same_do_no_harm() -> None:
    references = np.repeat(noise(1, 1, 100), 2, axis=0)
    error = noise(1, 1, 100, seed=1)
    estimates = references + 0.1 * error
    found = si_metrics(references, estimates)
    np.testing.assert_allclose(found["si_sdr_db"], si_sdr(references[:1], estimates[:1])[0], rtol=1e-9)
    assert found["si_sir_db"].tolist() == [np.inf, np.inf]


def test_no_frames_are_silence() -> None:
    assert np.isnan(sdr(np.zeros((2, 1, 0)), np.zeros((2, 1, 0)))).all()


def test_a_summary_tells_apart_numbers_infinities_and_silence() -> None:
    found = summarise([[1.0, 3.0, np.inf], [np.nan, 8.0, np.nan]])
    assert (found.count, found.silent, found.infinite) == (4, 2, 1)
    assert (found.median, found.mean) == (5.5, 4.0)
    assert found.std == pytest.approx(np.std([1.0, 3.0, 8.0], ddof=1))
    empty = summarise([])
    assert (empty.count, empty.silent, empty.infinite) == (0, 0, 0)
    assert np.isnan([empty.median, empty.mean, empty.std]).all()
    assert np.isnan(summarise([2.0]).std)


@pytest.mark.parametrize("metric", [sdr, snr, si_metrics, measure])
def test_shapes_and_samples_that_cannot_be_measured_are_refused(metric: object) -> None:
    assert callable(metric)
    audio = np.ones((2, 1, 10))
    with pytest.raises(ValueError, match=r"\(2, 10\)"):
        metric(audio, audio[:, 0])
    with pytest.raises(ValueError, match="mixture has shape"):
        improvements(audio, audio, audio)
    broken = audio.copy()
    broken[0, 0, 3] = np.nan
    with pytest.raises(AudioError, match="NaN"):
        metric(audio, broken)
