"""What a training step minimises.

Conventions
-----------
Estimates and targets are tensors of shape ``(batch, sources, channels, frames)``. A loss gives one value per batch
item, shape ``(batch,)``, the mean over its sources, to be minimised; take ``.mean()`` of it for a step. Energies
and inner products run over channels and frames together: a source has one gain, not one per channel. Half precision
is computed in float32.

A target is **silent** when its mean power is below `SILENT_POWER`. Every loss is finite there, and so is its
gradient; what each does is in its docstring. Plain differences need no special case.

References
----------
- S. Wisdom et al., "What's All the FUSS About Free Universal Sound Separation Data?", ICASSP 2021: the thresholded
  SNR, and what takes its place for silent targets.
- J. Le Roux et al., "SDR - Half-Baked or Well Done?", ICASSP 2019: SI-SDR.
- R. Yamamoto et al., "Parallel WaveGAN", ICASSP 2020: the multi-resolution STFT loss.
- S. Wisdom et al., "Differentiable Consistency Constraints for Improved Deep Speech Enhancement", ICASSP 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from manifests.errors import RecipeError

__all__ = [
    "SILENT_POWER",
    "Loss",
    "activity_cross_entropy",
    "checked",
    "guided_cross_entropy",
    "l1_loss",
    "magnitude_l1",
    "magnitude_mse",
    "magnitudes",
    "mixture_consistency",
    "mse_loss",
    "multi_resolution_stft",
    "negative_si_sdr",
    "negative_snr",
    "precise",
]

Tensor = torch.Tensor
Loss = Callable[[Tensor, Tensor], Tensor]
"""From estimates and targets ``(batch, sources, channels, frames)`` to losses ``(batch,)``."""

SILENT_POWER = 1e-8
"""Mean square per sample, -80 dBFS, below which a target is silent."""

_SI_FLOOR = 1e-8
_MAGNITUDE_FLOOR = 1e-4


def l1_loss(estimates: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of the waveforms.

    Parameters
    ----------
    estimates, targets : torch.Tensor [shape=(batch, sources, channels, frames)]

    Returns
    -------
    torch.Tensor [shape=(batch,)]

    Raises
    ------
    ValueError
        If the shapes are not of four equal axes.
    """
    estimates, targets = checked(estimates, targets)
    return (estimates - targets).abs().mean(dim=(1, 2, 3))


def mse_loss(estimates: Tensor, targets: Tensor) -> Tensor:
    """Mean square difference of the waveforms.

    Parameters
    ----------
    estimates, targets : torch.Tensor [shape=(batch, sources, channels, frames)]

    Returns
    -------
    torch.Tensor [shape=(batch,)]

    Raises
    ------
    ValueError
        If the shapes are not of four equal axes.
    """
    estimates, targets = checked(estimates, targets)
    return (estimates - targets).square().mean(dim=(1, 2, 3))


def magnitudes(audio: Tensor, *, n_fft: int = 2048, hop: int = 512) -> Tensor:
    """Magnitudes of the STFT with a periodic Hann window of `n_fft`, centred, zeros beyond the ends.

    Parameters
    ----------
    audio : torch.Tensor [shape=(..., frames)]
    n_fft, hop : int
        In frames.

    Returns
    -------
    torch.Tensor [shape=(..., n_fft // 2 + 1, 1 + frames // hop)]
        Where a bin is exactly zero its gradient is zero, not NaN.

    Raises
    ------
    RecipeError
        If `n_fft` is below 2 or `hop` is not from 1 to `n_fft`.
    """
    if n_fft < 2 or not 1 <= hop <= n_fft:
        raise RecipeError(f"STFT: n_fft is {n_fft} and hop {hop}; expected n_fft of 2 or more, hop 1 to n_fft")
    audio = precise(audio)
    window = torch.hann_window(n_fft, dtype=audio.dtype, device=audio.device)
    flat = audio.reshape(-1, audio.shape[-1])
    spectra = torch.stft(flat, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return spectra.abs().reshape(*audio.shape[:-1], *spectra.shape[1:])


def magnitude_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of magnitudes, as U-Nets are trained: masks times the mixture's, and the targets'.

    Parameters
    ----------
    found, wanted : torch.Tensor [shape=(batch, sources, channels, bins, columns)]
        What a network's `magnitudes` and `reference_magnitudes` give.

    Returns
    -------
    torch.Tensor [shape=(batch,)]

    Raises
    ------
    ValueError
        If the shapes are not of five equal axes.
    """
    return _difference(found, wanted).abs().mean(dim=(1, 2, 3, 4))


def magnitude_mse(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean square difference of magnitudes, as Open-Unmix is trained.

    Parameters
    ----------
    found, wanted : torch.Tensor [shape=(batch, sources, channels, bins, columns)]
        What a network's `magnitudes` and `reference_magnitudes` give.

    Returns
    -------
    torch.Tensor [shape=(batch,)]

    Raises
    ------
    ValueError
        If the shapes are not of five equal axes.
    """
    return _difference(found, wanted).square().mean(dim=(1, 2, 3, 4))


def negative_snr(
    estimates: Tensor, targets: Tensor, *, max_snr_db: float = 30.0, mixtures: Tensor | None = None
) -> Tensor:
    """Negative SNR with a soft ceiling: ``-10 log10(||s||^2 / (||s - e||^2 + tau ||s||^2))``.

    ``tau = 10^(-max_snr_db / 10)``: a source that is better than the ceiling stops drawing the gradient to itself.

    A silent target has no SNR. What is asked of its estimate is to lie far below the mixture:
    ``10 log10(||e||^2 / ||x||^2 + tau)``, at least ``-max_snr_db`` as for the others. (FUSS's
    ``10 log10(||e||^2 + tau ||x||^2)`` and its ``10 log10(||s - e||^2 + tau ||s||^2)`` have the same gradients;
    here both are relative, so that the loss is a level in dB and does not depend on loudness.)

    Parameters
    ----------
    estimates, targets : torch.Tensor [shape=(batch, sources, channels, frames)]
    max_snr_db : float
        The ceiling.
    mixtures : torch.Tensor [shape=(batch, channels, frames)], optional
        What silent targets are measured by; by default the sum of the targets. Give it, with `functools.partial`,
        where the targets are not all of the mixture, also inside `permutation_invariant` and `one_and_rest`, which
        show the loss one target at a time. A silent mixture counts as one of `SILENT_POWER`.

    Returns
    -------
    torch.Tensor [shape=(batch,)]
        In dB; at least ``-max_snr_db``.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    RecipeError
        If `max_snr_db` is not a finite number.

    Examples
    --------
    >>> target = torch.ones(1, 1, 1, 8)
    >>> negative_snr(0.9 * target, target, max_snr_db=60.0).round(decimals=3)
    tensor([-20.])
    """
    tau = _threshold("negative SNR", "max_snr_db", max_snr_db)
    estimates, targets = checked(estimates, targets)
    mixture = targets.sum(dim=1) if mixtures is None else precise(mixtures)
    if mixture.shape != targets[:, 0].shape:
        raise ValueError(f"mixtures have shape {tuple(mixture.shape)}, expected {tuple(targets[:, 0].shape)}")
    energies = _energies(targets)
    floor = SILENT_POWER * targets[0, 0].numel()
    mixture_energies = mixture.square().sum(dim=(1, 2)).clamp(min=floor).unsqueeze(1)
    # A silent target's own trace is left out of the error, so that silence is the best answer.
    silent = energies < floor
    wanted = torch.where(silent[..., None, None], 0.0, targets)
    references = torch.where(silent, mixture_energies, energies)
    return 10.0 * torch.log10(_energies(wanted - estimates) / references + tau).mean(dim=1)


def negative_si_sdr(estimates: Tensor, targets: Tensor, *, max_si_sdr_db: float = 60.0) -> Tensor:
    """Negative scale-invariant SDR with a soft ceiling.

    ``-10 log10(||a s||^2 / (||e - a s||^2 + tau ||a s||^2))`` with ``a = <e, s> / ||s||^2``; means are not removed.
    Terms of 80 dB below the estimate keep it finite for an estimate that has nothing of its target (+80 dB) or is
    silent (0 dB, no gradient).

    Parameters
    ----------
    estimates, targets : torch.Tensor [shape=(batch, sources, channels, frames)]
    max_si_sdr_db : float
        The ceiling.

    Returns
    -------
    torch.Tensor [shape=(batch,)]
        In dB. Nothing can be asked of the scale-free estimate of a silent target: it counts as 0 dB and has no
        gradient. Prefer `negative_snr` where targets are often silent.

    Raises
    ------
    ValueError
        If the shapes are not of four equal axes.
    RecipeError
        If `max_si_sdr_db` is not a finite number.
    """
    tau = _threshold("negative SI-SDR", "max_si_sdr_db", max_si_sdr_db)
    estimates, targets = checked(estimates, targets)
    energies = _energies(targets)
    samples = targets[0, 0].numel()
    silent = energies < SILENT_POWER * samples
    gains = (estimates * targets).sum(dim=(2, 3)) / torch.where(silent, 1.0, energies)
    scaled = gains[..., None, None] * targets
    wanted = _energies(scaled)
    floor = _SI_FLOOR * (_energies(estimates) + SILENT_POWER * samples)
    ratios = (wanted + floor) / (_energies(estimates - scaled) + tau * wanted + floor)
    return torch.where(silent, 0.0, -10.0 * torch.log10(ratios)).mean(dim=1)


def multi_resolution_stft(
    estimates: Tensor, targets: Tensor, *, n_ffts: Sequence[int] = (512, 1024, 2048)
) -> Tensor:
    """Spectral convergence plus log-magnitude distance, the mean over STFTs of several lengths.

    Of each source and resolution: ``||T - E|| / ||T|| + mean |ln T - ln E|`` with magnitudes of at least 1e-4. Hops
    are a quarter of the window, which fills the FFT (the paper's is shorter than its FFT).

    Parameters
    ----------
    estimates, targets : torch.Tensor [shape=(batch, sources, channels, frames)]
    n_ffts : sequence of int
        At least 4 each, in frames.

    Returns
    -------
    torch.Tensor [shape=(batch,)]
        Silent targets have the log-magnitude distance only: the first term would be a division by nothing.

    Raises
    ------
    ValueError
        If the shapes are not of four equal axes.
    RecipeError
        If there is no resolution, or one is too short.
    """
    if not n_ffts or min(n_ffts) < 4:
        raise RecipeError(
            f"multi-resolution STFT: n_ffts is {tuple(n_ffts)}, expected lengths of at least 4 frames"
        )
    estimates, targets = checked(estimates, targets)
    silent = _energies(targets) < SILENT_POWER * targets[0, 0].numel()
    total = torch.zeros_like(silent, dtype=targets.dtype)
    for n_fft in n_ffts:
        found = magnitudes(estimates, n_fft=n_fft, hop=n_fft // 4).clamp(min=_MAGNITUDE_FLOOR)
        wanted = magnitudes(targets, n_fft=n_fft, hop=n_fft // 4).clamp(min=_MAGNITUDE_FLOOR)
        over = (2, 3, 4)
        distance = torch.linalg.vector_norm(wanted - found, dim=over) / torch.linalg.vector_norm(wanted, dim=over)
        total = total + torch.where(silent, 0.0, distance) + (wanted.log() - found.log()).abs().mean(dim=over)
    return total.mean(dim=1) / len(n_ffts)


def activity_cross_entropy(logits: Tensor, targets: Tensor, *, threshold_db: float = -60.0) -> Tensor:
    """Cross-entropy of saying which sources are heard, column by column.

    Parameters
    ----------
    logits : torch.Tensor [shape=(batch, sources, columns)]
        In columns that cover the frames evenly.
    targets : torch.Tensor [shape=(batch, sources, channels, frames)]
        At least as many frames as columns.
    threshold_db : float
        A source is heard in a column when its mean power there is above, in dB relative to full scale.

    Returns
    -------
    torch.Tensor [shape=(batch,)]
        In nats, the mean over sources and columns.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    if logits.ndim != 3 or targets.ndim != 4 or logits.shape[:2] != targets.shape[:2]:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}; expected (batch, sources, "
            "columns) and (batch, sources, channels, frames)"
        )
    power = functional.adaptive_avg_pool1d(precise(targets).square().mean(dim=2), logits.shape[2])
    heard = (power > 10.0 ** (threshold_db / 10.0)).to(power.dtype)
    entropy = functional.binary_cross_entropy_with_logits(precise(logits), heard, reduction="none")
    return entropy.mean(dim=(1, 2))


def guided_cross_entropy(logits: Tensor, guides: Tensor) -> Tensor:
    """Sigmoid cross-entropy of a classifier's logits to those of a guide that hears the clean sources.

    E. Tzinis et al., "Improving Universal Sound Separation Using Sound Classification", ICASSP 2020, equation 3,
    here with the term of the classes that are absent, and in nats.

    Parameters
    ----------
    logits, guides : torch.Tensor [shape=(batch, sounds, classes, columns)]
        `guides` have no gradient.

    Returns
    -------
    torch.Tensor [shape=(batch,)]

    Raises
    ------
    ValueError
        If the shapes are not of four equal axes.
    """
    logits, guides = checked(logits, guides)
    wanted = guides.detach().sigmoid()
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=(1, 2, 3))


def mixture_consistency(
    estimates: Tensor, mixtures: Tensor, *, weights: str | Sequence[float] = "uniform"
) -> Tensor:
    """Estimates that sum to the mixture: each takes its share of what is missing.

    Parameters
    ----------
    estimates : torch.Tensor [shape=(batch, sources, channels, frames)]
    mixtures : torch.Tensor [shape=(batch, channels, frames)]
    weights : {"uniform", "energy"} or sequence of float
        The shares: equal (the orthogonal projection), by the energy of each estimate (silence stays silent; equal
        when all are silent), or given, such as ``(0, 0.5, 0.5)``.

    Returns
    -------
    torch.Tensor [shape=(batch, sources, channels, frames)]
        Applying it again changes nothing but rounding.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    RecipeError
        If `weights` is an unknown name, or not one number per source with sum 1.
    """
    if estimates.ndim != 4 or mixtures.shape != estimates[:, 0].shape:
        raise ValueError(
            f"estimates have shape {tuple(estimates.shape)}, mixtures {tuple(mixtures.shape)}; expected "
            "(batch, sources, channels, frames) and (batch, channels, frames)"
        )
    estimates, mixtures = precise(estimates), precise(mixtures)
    missing = (mixtures - estimates.sum(dim=1)).unsqueeze(1)
    return estimates + _shares(estimates, weights)[..., None, None] * missing


def _shares(estimates: Tensor, weights: str | Sequence[float]) -> Tensor:
    sources = estimates.shape[1]
    uniform = estimates.new_full((1, sources), 1.0 / sources)
    if weights == "uniform":
        return uniform
    if weights == "energy":
        energies = _energies(estimates)
        totals = energies.sum(dim=1, keepdim=True)
        return torch.where(totals > 0.0, energies / torch.where(totals > 0.0, totals, 1.0), uniform)
    if isinstance(weights, str) or len(weights) != sources or not math.isclose(sum(weights), 1.0, rel_tol=1e-6):
        raise RecipeError(
            f"mixture consistency: weights is {weights!r}, expected 'uniform', 'energy' or "
            f"{sources} numbers of sum 1"
        )
    return estimates.new_tensor(list(weights)).unsqueeze(0)


def _energies(audio: Tensor) -> Tensor:
    return audio.square().sum(dim=(2, 3))


def _difference(found: Tensor, wanted: Tensor) -> Tensor:
    if found.ndim != 5 or found.shape != wanted.shape:
        raise ValueError(
            f"magnitudes have shape {tuple(found.shape)}, those of the targets {tuple(wanted.shape)}; expected "
            "both (batch, sources, channels, bins, columns)"
        )
    return precise(found) - precise(wanted)


def _threshold(what: str, name: str, ceiling_db: float) -> float:
    if not math.isfinite(ceiling_db):
        raise RecipeError(f"{what}: {name} is {ceiling_db}, expected a number of dB such as 30")
    return float(10.0 ** (-ceiling_db / 10.0))


def precise(audio: Tensor) -> Tensor:
    """Half precision in float32, and what is more precise as it is."""
    return audio.float() if audio.dtype in (torch.float16, torch.bfloat16) else audio


def checked(estimates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 or better, or a `ValueError` where they are not of four equal axes."""
    # Broadcasting would hide a missing axis.
    if estimates.ndim != 4 or estimates.shape != targets.shape:
        raise ValueError(
            f"estimates have shape {tuple(estimates.shape)}, targets {tuple(targets.shape)}; expected both "
            "(batch, sources, channels, frames)"
        )
    if not estimates.numel():
        raise ValueError(f"estimates and targets are empty: shape {tuple(estimates.shape)}")
    return precise(estimates), precise(targets)
