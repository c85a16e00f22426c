"""How good a separation is.

Conventions
-----------
References and estimates have shape ``(sources, channels, frames)`` and the same order; a metric gives one value in
dB per source, shape ``(sources,)``. Energies and inner products run over channels and frames together, in float64,
block by block, so that whole songs need no second copy. Means are not removed.

A source whose reference is silent (all zeros) has no value: it is NaN, and `summarise` counts it. A perfect
estimate has infinite SNR (but a finite SDR, which has an epsilon); a silent one has an SI-SDR of minus infinity.

References
----------
- S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: `sdr`.
- J. Le Roux et al., "SDR - Half-Baked or Well Done?", ICASSP 2019: SI-SDR, SI-SIR, SI-SAR.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.errors import AudioError

__all__ = ["SDR_EPSILON", "Summary", "improvements", "measure", "sdr", "si_metrics", "si_sdr", "snr", "summarise"]

SDR_EPSILON = 1e-7
"""What the challenge's SDR adds to both energies."""

_BLOCK_FRAMES = 1 << 16
_IMPROVED = ("sdr_db", "snr_db", "si_sdr_db", "si_sir_db")

Audio = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """What a metric is over many sources.

    Attributes
    ----------
    count : int
        Values that are numbers, infinite ones included.
    silent : int
        NaN: without a value, as of silent references.
    infinite : int
        Those among `count` that are left out of mean and standard deviation.
    median : float
        Of all `count` values; NaN without any.
    mean : float
        Of the finite values; NaN without any.
    std : float
        Of the finite values, of the sample (divided by one less than their number); NaN for fewer than two.
    """

    count: int
    silent: int
    infinite: int
    median: float
    mean: float
    std: float


def sdr(references: Audio, estimates: Audio, *, epsilon: float = SDR_EPSILON) -> Floats:
    """Global SDR of the challenges: ``10 log10((sum s^2 + eps) / (sum (s - e)^2 + eps))``.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]
    epsilon : float
        At least 0; an absolute energy.

    Returns
    -------
    np.ndarray of float64 [shape=(sources,)]
        NaN where the reference is silent; the challenge's formula would give a number that depends on `epsilon`.

    Raises
    ------
    ValueError
        If the shapes are not of three equal axes.
    AudioError
        If there is a NaN or an infinity.

    Examples
    --------
    >>> reference = np.ones((1, 2, 1000))
    >>> sdr(reference, 0.9 * reference).round(3)
    array([20.])
    """
    energies, errors = _energies_and_errors(references, estimates)
    return np.where(energies > 0.0, _ratio_db(energies + epsilon, errors + epsilon), np.nan)


def snr(references: Audio, estimates: Audio) -> Floats:
    """Signal-to-noise ratio ``10 log10(||s||^2 / ||s - e||^2)``.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]

    Returns
    -------
    np.ndarray of float64 [shape=(sources,)]

    Raises
    ------
    ValueError, AudioError
        As `sdr`.
    """
    return sdr(references, estimates, epsilon=0.0)


def si_metrics(references: Audio, estimates: Audio) -> dict[str, Floats]:
    """SI-SDR, SI-SIR and SI-SAR of each source.

    An estimate is the sum of three orthogonal parts: its projection on its reference, what else of it lies in the
    span of all references (interference), and what is outside of it (artefacts). The three metrics compare the
    first with the sum of the others, with the second, and with the third; hence
    ``10^(-SDR/10) = 10^(-SIR/10) + 10^(-SAR/10)``. A part that is rounding only, 140 dB below the estimate, is
    none.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]

    Returns
    -------
    dict of str to np.ndarray of float64 [shape=(sources,)]
        ``si_sdr_db``, ``si_sir_db``, ``si_sar_db``; NaN where the reference is silent. The references of other
        sources may be silent, or the same.

    Raises
    ------
    ValueError, AudioError
        As `sdr`.
    """
    _check(references, estimates)
    sources = len(references)
    inner, crossed = np.zeros((sources, sources)), np.zeros((sources, sources))
    energies = np.zeros(sources)
    for wanted, found in _blocks(references, estimates):
        inner += np.einsum("icf,jcf->ij", wanted, wanted, optimize=True)
        crossed += np.einsum("icf,jcf->ij", found, wanted, optimize=True)
        energies += np.einsum("icf,icf->i", found, found)
    _check_finite(inner, crossed, energies)
    norms = np.sqrt(np.diag(inner))
    active = norms > 0.0
    scales = np.where(active, 1.0 / np.where(active, norms, 1.0), 0.0)
    # Of unit norm, a quiet reference counts as much as a loud one where the span's rank is decided.
    cosines = scales[:, None] * inner * scales
    in_span = (crossed * scales) @ np.linalg.pinv(cosines, rcond=1e-10, hermitian=True) * scales
    on_target = np.diag(np.diag(crossed) * scales**2)
    parts = np.zeros((4, sources))
    for wanted, found in _blocks(references, estimates):
        target = np.einsum("ij,jcf->icf", on_target, wanted, optimize=True)
        span = np.einsum("ij,jcf->icf", in_span, wanted, optimize=True)
        for part, audio in enumerate((target, found - target, span - target, found - span)):
            parts[part] += np.einsum("icf,icf->i", audio, audio)
    parts[parts <= 1e-14 * energies] = 0.0
    names = ("si_sdr_db", "si_sir_db", "si_sar_db")
    ratios = (_ratio_db(parts[0], part) for part in parts[1:])
    return {name: np.where(active, ratio, np.nan) for name, ratio in zip(names, ratios, strict=True)}


def si_sdr(references: Audio, estimates: Audio) -> Floats:
    """Scale-invariant SDR of each source; that of `si_metrics`.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]

    Returns
    -------
    np.ndarray of float64 [shape=(sources,)]

    Raises
    ------
    ValueError, AudioError
        As `sdr`.
    """
    return si_metrics(references, estimates)["si_sdr_db"]


def measure(references: Audio, estimates: Audio) -> dict[str, Floats]:
    """All metrics of each source.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]

    Returns
    -------
    dict of str to np.ndarray of float64 [shape=(sources,)]
        ``sdr_db``, ``snr_db``, ``si_sdr_db``, ``si_sir_db``, ``si_sar_db``.

    Raises
    ------
    ValueError, AudioError
        As `sdr`.
    """
    energies, errors = _energies_and_errors(references, estimates)
    active = energies > 0.0
    return {
        "sdr_db": np.where(active, _ratio_db(energies + SDR_EPSILON, errors + SDR_EPSILON), np.nan),
        "snr_db": np.where(active, _ratio_db(energies, errors), np.nan),
        **si_metrics(references, estimates),
    }


def improvements(references: Audio, estimates: Audio, mixture: Audio) -> dict[str, Floats]:
    """How much better the estimates are than the mixture in their place.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]
    mixture : np.ndarray [shape=(channels, frames)]

    Returns
    -------
    dict of str to np.ndarray of float64 [shape=(sources,)]
        ``sdr_improvement_db``, ``snr_improvement_db``, ``si_sdr_improvement_db``, ``si_sir_improvement_db``. There
        is none of SI-SAR: a mixture is in the span of its sources and has no artefacts. NaN where the reference is
        silent, and where nothing can be gained or lost: both are infinite and of one sign.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    AudioError
        If there is a NaN or an infinity.
    """
    _check(references, estimates)
    if mixture.shape != references.shape[1:]:
        raise ValueError(f"mixture has shape {mixture.shape}, expected {references.shape[1:]}: (channels, frames)")
    after = measure(references, estimates)
    before = measure(references, np.broadcast_to(mixture, references.shape))
    with np.errstate(invalid="ignore"):
        return {f"{name.removesuffix('_db')}_improvement_db": after[name] - before[name] for name in _IMPROVED}


def summarise(values: npt.ArrayLike) -> Summary:
    """Median, mean and standard deviation of a metric, and how many values they are of.

    Parameters
    ----------
    values : array_like of float
        Any shape, also none.

    Returns
    -------
    Summary

    Examples
    --------
    >>> summarise([1.0, 2.0, 6.0, np.nan])
    Summary(count=3, silent=1, infinite=0, median=2.0, mean=3.0, std=2.6457513110645907)
    """
    flat = np.asarray(values, np.float64).ravel()
    numbers = flat[~np.isnan(flat)]
    finite = numbers[np.isfinite(numbers)]
    with np.errstate(invalid="ignore"):
        median = float(np.median(numbers)) if len(numbers) else float("nan")
    return Summary(
        count=len(numbers),
        silent=len(flat) - len(numbers),
        infinite=len(numbers) - len(finite),
        median=median,
        mean=float(finite.mean()) if len(finite) else float("nan"),
        std=float(finite.std(ddof=1)) if len(finite) > 1 else float("nan"),
    )


def _energies_and_errors(references: Audio, estimates: Audio) -> tuple[Floats, Floats]:
    _check(references, estimates)
    energies, errors = np.zeros(len(references)), np.zeros(len(references))
    for wanted, found in _blocks(references, estimates):
        energies += np.einsum("icf,icf->i", wanted, wanted)
        difference = wanted - found
        errors += np.einsum("icf,icf->i", difference, difference)
    _check_finite(energies, errors)
    return energies, errors


def _blocks(references: Audio, estimates: Audio) -> Iterator[tuple[Floats, Floats]]:
    for start in range(0, references.shape[2], _BLOCK_FRAMES):
        part = slice(start, start + _BLOCK_FRAMES)
        yield references[..., part].astype(np.float64), estimates[..., part].astype(np.float64)


def _ratio_db(wanted: Floats, unwanted: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = 10.0 * (np.log10(wanted) - np.log10(unwanted))
    # Nothing wanted is the worst there is, also where there is nothing unwanted.
    return np.where(wanted > 0.0, ratios, -np.inf)


def _check(references: Audio, estimates: Audio) -> None:
    if references.ndim != 3 or references.shape != estimates.shape:
        raise ValueError(
            f"references have shape {references.shape}, estimates {estimates.shape}; expected both "
            "(sources, channels, frames)"
        )


def _check_finite(*sums: Floats) -> None:
    if not all(np.isfinite(values).all() for values in sums):
        raise AudioError("metrics: a NaN or infinite sample in references or estimates; look at what made them")
