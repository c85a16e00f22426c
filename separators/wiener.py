"""The multichannel Wiener filter: what magnitudes say of the sources, made consistent with the mixture's channels.

Each source is taken as Gaussian with a power for each bin and column and one spatial covariance for each bin.
Expectation-maximisation starts from the given magnitudes with the mixture's phase; an iteration estimates powers
and covariances from the current sources, and then the sources from these and the mixture. What comes out sums to
the mixture where that is well above the regularisation, a power of 1e-5 in a bin.

References
----------
N. Q. K. Duong, E. Vincent, R. Gribonval, "Under-determined reverberant audio source separation using a full-rank
spatial covariance model", IEEE TASLP 18(7), 2010.

A. Liutkus, F.-R. Stoter, "norbert: Multichannel Wiener filtering", 2019: the scaling and the regularisation.
"""

from __future__ import annotations

import math

import torch

from manifests.errors import RecipeError

__all__ = ["wiener_filter"]

_EPSILON = 1e-10
_LOUDEST = 10.0


def wiener_filter(
    magnitudes: torch.Tensor, mixture: torch.Tensor, iterations: int = 1, block_columns: int = 300
) -> torch.Tensor:
    """Spectra of sources, out of their magnitudes and the mixture's spectrum.

    Parameters
    ----------
    magnitudes : torch.Tensor of float [shape=(batch, sources, channels, bins, columns)]
        Below zero they turn the phase around, as a residual may.
    mixture : torch.Tensor of complex64 [shape=(batch, channels, bins, columns)]
    iterations : int
        0 gives the magnitudes with the mixture's phase.
    block_columns : int
        Covariances are estimated anew for so many columns, which bounds the memory and lets sources move.

    Returns
    -------
    torch.Tensor of complex64 [shape=(batch, sources, channels, bins, columns)]

    Raises
    ------
    RecipeError
        The shapes do not fit together, or a number is too small.
    """
    if magnitudes.ndim != 5 or mixture.shape != (magnitudes.shape[0], *magnitudes.shape[2:]):
        raise RecipeError(
            f"magnitudes are {tuple(magnitudes.shape)} and the mixture {tuple(mixture.shape)}: they must be "
            "(batch, sources, channels, bins, columns) and the same without sources"
        )
    if iterations < 0 or block_columns < 1:
        raise RecipeError(
            f"iterations is {iterations} and block_columns {block_columns}: they must be at least 0 and 1"
        )
    phase = torch.where(mixture == 0, torch.ones_like(mixture), torch.sgn(mixture))
    sources = magnitudes.to(mixture.real.dtype) * phase[:, None]
    if iterations == 0:
        return sources
    blocks = (slice(start, start + block_columns) for start in range(0, mixture.shape[-1], block_columns))
    return torch.cat([_maximised(sources[..., at], mixture[..., at], iterations) for at in blocks], dim=-1)


def _maximised(sources: torch.Tensor, mixture: torch.Tensor, iterations: int) -> torch.Tensor:
    # Covariances of nearly mono audio are nearly singular, and their inverse has no digits left in float32.
    estimates = sources.to(torch.complex128)
    observed = mixture.to(torch.complex128)
    # Item by item, so that what a batch holds besides does not change an item.
    scale = (observed.abs().amax(dim=(1, 2, 3), keepdim=True) / _LOUDEST).clamp_min(1.0)
    estimates, observed = estimates / scale[:, None], observed / scale
    noise = math.sqrt(_EPSILON) * torch.eye(mixture.shape[1], dtype=observed.dtype, device=observed.device)
    for _ in range(iterations):
        # b item, s source, c d channels, f bin, t column
        power = estimates.abs().square().mean(dim=2)
        spatial = torch.einsum("bscft,bsdft->bsfcd", estimates, estimates.conj())
        spatial = spatial / (_EPSILON + power.sum(dim=-1))[..., None, None]
        covariance = torch.einsum("bsft,bsfcd->bftcd", power.to(spatial.dtype), spatial) + noise
        whitened = torch.linalg.solve(covariance, observed.permute(0, 2, 3, 1)[..., None])[..., 0]
        estimates = torch.einsum("bsft,bsfcd,bftd->bscft", power.to(spatial.dtype), spatial, whitened)
    return (estimates * scale[:, None]).to(sources.dtype)
