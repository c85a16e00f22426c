"""Losses against closed forms, scipy and brute force, their invariances, and their gradients."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import RecipeError
from training.assignments import mixit, one_and_rest, permutation_invariant
from training.losses import (
    Loss,
    activity_cross_entropy,
    guided_cross_entropy,
    l1_loss,
    magnitude_l1,
    magnitude_mse,
    magnitudes,
    mixture_consistency,
    mse_loss,
    multi_resolution_stft,
    negative_si_sdr,
    negative_snr,
)

short_stft = functools.partial(multi_resolution_stft, n_ffts=(16, 32))
LOSSES = pytest.mark.parametrize("loss", [l1_loss, mse_loss, negative_snr, negative_si_sdr, short_stft])
SEEDS = st.integers(0, 2**32 - 1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_l1_and_mse_are_means_of_each_item() -> None:
    targets = torch.zeros(2, 2, 1, 4)
    estimates = torch.tensor([1.0, 3.0, -2.0, 0.0]).reshape(2, 2, 1, 1).expand(2, 2, 1, 4)
    assert l1_loss(estimates, targets).tolist() == [2.0, 1.0]
    assert mse_loss(estimates, targets).tolist() == [5.0, 2.0]


@pytest.mark.parametrize("error_db", [-10.0, -20.0, -60.0])
def test_negative_snr_has_the_error_and_the_ceiling_in_it(error_db: float) -> None:
    target = noise(3, 2, 2, 50)
    estimate = target * (1 + 10 ** (error_db / 20))
    expected = 10 * np.log10(10 ** (error_db / 10) + 10**-3)
    np.testing.assert_allclose(negative_snr(estimate, target), expected, rtol=1e-9)


def test_a_silent_target_is_measured_by_the_mixture() -> None:
    targets = torch.stack([noise(1, 50), torch.zeros(1, 50, dtype=torch.float64)]).unsqueeze(0)
    estimates = torch.stack([targets[0, 0], 0.1 * targets[0, 0]]).unsqueeze(0)
    residual = 10 * np.log10(10**-2 + 10**-3)
    assert negative_snr(estimates, targets).item() == pytest.approx((-30.0 + residual) / 2)
    louder = 10 * np.log10(10**-4 + 10**-3)
    found = negative_snr(estimates, targets, mixtures=10 * targets.sum(dim=1))
    assert found.item() == pytest.approx((-30.0 + louder) / 2)


def test_a_trace_of_a_target_is_silence_too() -> None:
    targets = torch.cat([noise(1, 1, 1, 50), 1e-5 * noise(1, 1, 1, 50, seed=1)], dim=1)
    estimates = targets.clone()
    estimates[:, 1] = 0.0
    assert negative_snr(estimates, targets).item() == pytest.approx(-30.0, abs=1e-12)
    ceiling = 10 * np.log10(1e-6 + 1e-8)
    assert negative_si_sdr(estimates, targets).item() == pytest.approx(ceiling / 2, abs=1e-4)


def test_si_sdr_is_that_of_an_orthogonal_error() -> None:
    target = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    error = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    assert negative_si_sdr(3 * (target + 0.1 * error), target).item() == pytest.approx(-20.0, abs=1e-3)
    assert negative_si_sdr(error, target).item() == pytest.approx(80.0, abs=1e-3)
    assert negative_si_sdr(target, target, max_si_sdr_db=30.0).item() == pytest.approx(-30.0, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, gain_db=st.floats(-30, 30))
def test_the_losses_in_db_do_not_depend_on_loudness(seed: int, gain_db: float) -> None:
    targets, error, gain = noise(2, 2, 2, 40, seed=seed), noise(2, 2, 2, 40, seed=seed + 1), 10 ** (gain_db / 20)
    estimates = targets + 0.3 * error
    both = negative_snr(gain * estimates, gain * targets)
    np.testing.assert_allclose(both, negative_snr(estimates, targets), rtol=1e-9)
    one = negative_si_sdr(gain * estimates, targets)
    np.testing.assert_allclose(one, negative_si_sdr(estimates, targets), atol=1e-3)


def test_magnitudes_are_those_of_scipy() -> None:
    audio = noise(2, 2000)
    transform = scipy.signal.ShortTimeFFT(scipy.signal.windows.hann(256, sym=False), hop=64, fs=1)
    expected = np.abs(transform.stft(audio.numpy(), p0=0, p1=32))
    np.testing.assert_allclose(magnitudes(audio, n_fft=256, hop=64), expected, atol=1e-9)


def test_magnitudes_of_silence_have_a_gradient_of_zero() -> None:
    audio = torch.zeros(1, 100, requires_grad=True)
    magnitudes(audio, n_fft=16, hop=4).sum().backward()
    assert audio.grad is not None
    assert audio.grad.tolist() == torch.zeros(1, 100).tolist()


def test_magnitudes_are_compared_with_those_of_the_targets() -> None:
    found = torch.full((2, 2, 2, 3, 4), 0.5)
    wanted = torch.stack([torch.full((2, 3, 4), 0.5), torch.full((2, 3, 4), 2.5)]).expand(2, -1, -1, -1, -1)
    assert magnitude_l1(found, wanted).tolist() == [1.0, 1.0]
    assert magnitude_mse(found, wanted).tolist() == [2.0, 2.0]


def test_activity_is_heard_above_the_threshold_column_by_column() -> None:
    targets = torch.zeros(1, 2, 2, 100)
    targets[0, 0, :, :50] = 0.1
    targets[0, 1, 0, 50:] = 1e-4
    logits = torch.tensor([[[1.0, -2.0], [3.0, 0.0]]])
    expected = -np.log([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(3)), 0.5]).mean()
    assert activity_cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-6)
    logits[0, 1, 1] = 4.0
    heard = -np.log([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(3)), 1 / (1 + np.exp(-4))]).mean()
    assert activity_cross_entropy(logits, targets, threshold_db=-90.0).item() == pytest.approx(heard, rel=1e-6)


def test_the_guide_is_the_best_that_a_classifier_can_say() -> None:
    guides = noise(2, 3, 4, 5)
    share = guides.sigmoid()
    entropy = -(share * share.log() + (1 - share) * (1 - share).log()).mean(dim=(1, 2, 3))
    torch.testing.assert_close(guided_cross_entropy(guides, guides), entropy)
    assert (guided_cross_entropy(guides + 0.5, guides) > entropy).all()
    logits = (guides + 0.5).requires_grad_()
    guided_cross_entropy(logits, guides).sum().backward()
    assert (logits.grad > 0).all()


def test_multi_resolution_stft_of_a_gain_is_known() -> None:
    targets = noise(2, 2, 1, 4000)
    expected = 1.0 + np.log(2.0)
    np.testing.assert_allclose(multi_resolution_stft(2 * targets, targets), expected, rtol=1e-3)
    np.testing.assert_allclose(multi_resolution_stft(targets, targets), 0.0)


def test_multi_resolution_stft_of_a_silent_target_has_the_log_distance_only() -> None:
    estimates, silence = noise(1, 1, 1, 400), torch.zeros(1, 1, 1, 400, dtype=torch.float64)
    levels = [magnitudes(estimates, n_fft=n, hop=n // 4).clamp(min=1e-4).log().mean() for n in (16, 32)]
    expected = float(sum(levels)) / 2 - np.log(1e-4)
    assert short_stft(estimates, silence).item() == pytest.approx(expected)


@LOSSES
@pytest.mark.parametrize("silent", ["targets", "estimates", "both"])
def test_silence_gives_finite_losses_and_gradients(loss: Loss, silent: str) -> None:
    targets, estimates = noise(2, 2, 2, 64).float(), noise(2, 2, 2, 64, seed=1).float()
    targets[:, 0] *= silent == "estimates"
    estimates[:, 0] *= silent == "targets"
    estimates.requires_grad_()
    values = loss(estimates, targets)
    values.sum().backward()
    assert estimates.grad is not None
    assert values.isfinite().all()
    assert estimates.grad.isfinite().all()


def test_a_perfect_estimate_has_a_finite_gradient() -> None:
    for loss in (negative_snr, negative_si_sdr, short_stft):
        estimates = noise(1, 2, 1, 64).requires_grad_()
        loss(estimates, estimates.detach()).sum().backward()
        assert estimates.grad is not None
        assert estimates.grad.isfinite().all()


@LOSSES
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    targets = noise(2, 2, 1, 24)
    targets[1, 1] = 0.0
    estimates = noise(2, 2, 1, 24, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda found: loss(found, targets), estimates)


@pytest.mark.parametrize(
    "search",
    [
        lambda found: permutation_invariant(negative_snr, found, noise(2, 2, 1, 12))[0],
        lambda found: one_and_rest(negative_snr, found, noise(2, 3, 1, 12))[0],
        lambda found: mixit(negative_snr, found, noise(2, 2, 1, 12))[0],
        lambda found: mixture_consistency(found, noise(2, 1, 12), weights="energy"),
    ],
)
def test_gradients_of_assignments_are_those_of_finite_differences(
    search: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    assert torch.autograd.gradcheck(search, noise(2, 2, 1, 12, seed=1).requires_grad_())


@LOSSES
def test_a_batch_is_its_items_and_half_precision_is_near(loss: Loss) -> None:
    targets, estimates = noise(3, 2, 2, 64).float(), noise(3, 2, 2, 64, seed=1).float()
    whole = loss(estimates, targets)
    assert whole.shape == (3,)
    items = [loss(estimates[i : i + 1], targets[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(items))
    half = loss(estimates.bfloat16(), targets.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.05)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, order=st.integers(2, 6).flatmap(lambda n: st.permutations(range(n))))
def test_shuffled_sources_are_found_again(seed: int, order: list[int]) -> None:
    targets = noise(2, len(order), 1, 30, seed=seed)
    near = targets + 0.01 * noise(2, len(order), 1, 30, seed=seed + 1)
    losses, found = permutation_invariant(negative_snr, near[:, order], targets)
    torch.testing.assert_close(losses, negative_snr(near, targets))
    assert found.tolist() == [np.argsort(order).tolist()] * 2


@pytest.mark.parametrize("sources", [1, 3, 4, 5])
def test_the_best_permutation_is_that_of_brute_force(sources: int) -> None:
    estimates, targets = noise(3, sources, 2, 10), noise(3, sources, 2, 10, seed=1)
    losses, order = permutation_invariant(l1_loss, estimates, targets)
    orders = list(itertools.permutations(range(sources)))
    each = torch.stack([l1_loss(estimates[:, list(one)], targets) for one in orders])
    torch.testing.assert_close(losses, each.min(dim=0).values)
    assert [tuple(row) for row in order.tolist()] == [orders[i] for i in each.argmin(dim=0)]


def test_a_nan_shows_in_the_loss_whatever_the_number_of_sources() -> None:
    for sources in (2, 5):
        targets = noise(2, sources, 1, 10)
        estimates = targets.clone()
        estimates[1, 0, 0, 0] = torch.nan
        losses, _ = permutation_invariant(mse_loss, estimates, targets)
        assert losses.isnan().tolist() == [False, True]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_one_and_rest_takes_the_target_that_fits(taken: int) -> None:
    targets = noise(2, 3, 1, 20)
    rest = targets.sum(dim=1) - targets[:, taken]
    estimates = torch.stack([targets[:, taken] + 0.1, rest - 0.2], dim=1)
    losses, chosen = one_and_rest(mse_loss, estimates, targets)
    assert chosen.tolist() == [taken, taken]
    np.testing.assert_allclose(losses, 0.1**2 + 0.2**2 / 2)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, sources=st.integers(1, 5))
def test_mixit_is_brute_force_over_all_assignments(seed: int, sources: int) -> None:
    estimates, mixtures = noise(2, sources, 1, 8, seed=seed), noise(2, 2, 1, 8, seed=seed + 1)
    losses, assignment = mixit(negative_snr, estimates, mixtures)
    for item in range(2):
        best = np.inf
        for sides in itertools.product([0, 1], repeat=sources):
            sums = torch.zeros(1, 2, 1, 8, dtype=torch.float64)
            for source, side in enumerate(sides):
                sums[0, side] += estimates[item, source]
            value = negative_snr(sums, mixtures[item : item + 1]).item()
            if value < best:
                best, found = value, sides
        assert losses[item].item() == pytest.approx(best)
        assert tuple(assignment[item].tolist()) == found


def test_mixit_finds_the_sources_of_each_mixture() -> None:
    sources = noise(1, 4, 2, 50)
    mixtures = torch.stack([sources[:, [0, 3]].sum(dim=1), sources[:, [1, 2]].sum(dim=1)], dim=1)
    losses, assignment = mixit(negative_snr, sources, mixtures)
    assert assignment.tolist() == [[0, 1, 1, 0]]
    np.testing.assert_allclose(losses, -30.0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, weights=st.sampled_from(["uniform", "energy", (0.0, 0.5, 0.5)]))
def test_consistent_estimates_sum_to_the_mixture_and_stay(seed: int, weights: str | tuple[float, ...]) -> None:
    estimates, mixtures = noise(2, 3, 2, 20, seed=seed), noise(2, 2, 20, seed=seed + 1)
    consistent = mixture_consistency(estimates, mixtures, weights=weights)
    torch.testing.assert_close(consistent.sum(dim=1), mixtures)
    torch.testing.assert_close(mixture_consistency(consistent, mixtures, weights=weights), consistent)


def test_the_missing_part_is_shared_by_weight() -> None:
    estimates = torch.tensor([1.0, 3.0, 0.0]).reshape(1, 3, 1, 1)
    mixtures = torch.full((1, 1, 1), 10.0)
    shared = {
        name: mixture_consistency(estimates, mixtures, weights=name).flatten().tolist()
        for name in ("uniform", "energy", (0.0, 0.5, 0.5))
    }
    assert shared["uniform"] == pytest.approx([3.0, 5.0, 2.0])
    assert shared["energy"] == pytest.approx([1.6, 8.4, 0.0])
    assert shared[0.0, 0.5, 0.5] == pytest.approx([1.0, 6.0, 3.0])
    silent = mixture_consistency(torch.zeros(1, 2, 1, 1), mixtures, weights="energy")
    assert silent.flatten().tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: l1_loss(torch.zeros(1, 2, 1, 8), torch.zeros(1, 1, 1, 8)),
        lambda: mse_loss(torch.zeros(2, 1, 8), torch.zeros(2, 1, 8)),
        lambda: negative_snr(torch.zeros(1, 0, 1, 8), torch.zeros(1, 0, 1, 8)),
        lambda: negative_snr(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8), mixtures=torch.zeros(1, 8)),
        lambda: magnitude_l1(torch.zeros(1, 2, 1, 3, 4), torch.zeros(1, 1, 1, 3, 4)),
        lambda: magnitude_mse(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4)),
        lambda: activity_cross_entropy(torch.zeros(1, 2, 4), torch.zeros(1, 3, 1, 8)),
        lambda: guided_cross_entropy(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)),
        lambda: one_and_rest(l1_loss, torch.zeros(1, 3, 1, 8), torch.zeros(1, 3, 1, 8)),
        lambda: one_and_rest(l1_loss, torch.zeros(1, 2, 1, 8), torch.zeros(1, 1, 1, 8)),
        lambda: mixit(l1_loss, torch.zeros(1, 13, 1, 8), torch.zeros(1, 2, 1, 8)),
        lambda: mixit(l1_loss, torch.zeros(1, 4, 1, 8), torch.zeros(1, 1, 1, 8)),
        lambda: mixture_consistency(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"shape|empty|expected"):
        call()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda audio: negative_snr(audio, audio, max_snr_db=np.inf), "max_snr_db is inf"),
        (lambda audio: negative_si_sdr(audio, audio, max_si_sdr_db=np.nan), "max_si_sdr_db is nan"),
        (lambda audio: multi_resolution_stft(audio, audio, n_ffts=()), "n_ffts"),
        (lambda audio: magnitudes(audio, n_fft=8, hop=9), "hop 9"),
        (lambda audio: mixture_consistency(audio, audio[:, 0], weights="loud"), "'loud'"),
        (lambda audio: mixture_consistency(audio, audio[:, 0], weights=(1.0, 1.0)), "sum 1"),
    ],
)
def test_impossible_settings_are_refused(call: Callable[[torch.Tensor], object], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        call(torch.ones(1, 2, 1, 8))
