"""BSSEval v4: SDR, ISR, SIR and SAR in frames of a second, as SiSEC 2018 measured.

Each estimate is explained by its reference through filters of 512 taps between all channels, then by all
references; what the first leaves out is spatial error (ISR), what the second adds is interference (SIR), and the
rest is artefacts (SAR). The filters are those of the whole song, energies are compared in each frame, and a song's
value is the median of its frames.

There are two ways to the same numbers. ``museval`` calls the package of that name, whose numbers are the ones in
the literature, and holds several copies of the song's spectrum (gigabytes for a stereo song of four minutes).
``blocks`` sums the correlations block by block: its memory does not grow with the song, and its values differ from
museval's by rounding. Where the filters are not determined (references that are the same, or fewer frames than
``512 * sources * channels``), values are as arbitrary as museval's, and other ones.

Conventions
-----------
Silence has no value. museval refuses a song with a silent reference or estimate; here such a source is left out and
is NaN. The others are measured without it, which moves them a little: in BSSEval a source's values depend on which
other sources are given, so values of different lists of sources do not compare. As in museval, a source is silent
if the sum of its channels is zero throughout, and a frame in which any of the song's sources is silent is NaN for
all of them.

With one source there is no interference: its SIR is infinite.

References
----------
- F.-R. Stöter, A. Liutkus, N. Ito, "The 2018 Signal Separation Evaluation Campaign", LVA/ICA 2018.
- E. Vincent et al., "First Stereo Audio Source Separation Evaluation Campaign", ICA 2007: the four ratios.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.linalg

from manifests.errors import AudioError, RecipeError

__all__ = ["FILTER_FRAMES", "BssEval", "BssEvalMethod", "bss_eval"]

FILTER_FRAMES = 512
"""Taps of the distortion filters, at any sample rate."""

BssEvalMethod: TypeAlias = Literal["museval", "blocks"]

_NAMES = ("bsseval_sdr_db", "bsseval_isr_db", "bsseval_sir_db", "bsseval_sar_db")
_FFT_FRAMES = 1 << 16
_RIDGE = 1e-10

Audio: TypeAlias = npt.NDArray[np.floating]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class BssEval:
    """BSSEval of a song.

    Attributes
    ----------
    frames : dict of str to np.ndarray of float64 [shape=(sources, frames)]
        ``bsseval_sdr_db``, ``bsseval_isr_db``, ``bsseval_sir_db``, ``bsseval_sar_db``; NaN where there is no value.
    left_out : np.ndarray of bool [shape=(sources,)]
        Sources that have none because their reference or their estimate is silent.
    """

    frames: dict[str, Floats]
    left_out: npt.NDArray[np.bool_]

    def medians(self) -> dict[str, Floats]:
        """The song's values: medians over its frames.

        Returns
        -------
        dict of str to np.ndarray of float64 [shape=(sources,)]
            By the names of `frames`; NaN for a source without any value.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
            return {name: np.nanmedian(values, axis=1) for name, values in self.frames.items()}


def bss_eval(
    references: Audio, estimates: Audio, sample_rate: int, *, method: BssEvalMethod = "museval"
) -> BssEval:
    """Measure a song.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(sources, channels, frames)]
        Any number of channels; a song shorter than a second is one frame.
    sample_rate : int
        In Hz; a frame has as many samples, and what is left at the end is in none.
    method : {'museval', 'blocks'}
        `museval` needs the package of that name (``pip install 'stemloom[museval]'``).

    Returns
    -------
    BssEval

    Raises
    ------
    ValueError
        If the shapes are not of three equal axes.
    AudioError
        If there is a NaN or an infinity, or museval cannot solve for the filters.
    RecipeError
        If there is no such method, or museval is not installed.
    """
    if references.ndim != 3 or references.shape != estimates.shape:
        raise ValueError(
            f"references have shape {references.shape}, estimates {estimates.shape}; expected both "
            "(sources, channels, frames)"
        )
    if method not in get_args(BssEvalMethod):
        raise RecipeError(f"BSSEval method is {method!r}: it must be one of {', '.join(get_args(BssEvalMethod))}")
    if not (np.isfinite(references).all() and np.isfinite(estimates).all()):
        raise AudioError("BSSEval: a NaN or infinite sample in references or estimates; look at what made them")
    heard = ~(_silent(references) | _silent(estimates))
    num_windows = max(1, references.shape[2] // sample_rate)
    found = np.full((len(_NAMES), len(references), num_windows), np.nan)
    if heard.any():
        measured = _by_museval if method == "museval" else _by_blocks
        found[:, heard] = measured(references[heard], estimates[heard], sample_rate)
        if heard.sum() == 1:
            found[2] = np.where(np.isnan(found[2]), np.nan, np.inf)
    return BssEval(dict(zip(_NAMES, found, strict=True)), ~heard)


def _silent(audio: Audio) -> npt.NDArray[np.bool_]:
    return np.asarray((audio.sum(axis=1) == 0.0).all(axis=1))


def _by_museval(references: Audio, estimates: Audio, sample_rate: int) -> Floats:
    try:
        import museval
    except ImportError as error:
        raise RecipeError(
            "BSSEval by museval needs the package 'museval', which is not installed: "
            "pip install 'stemloom[museval]', or choose the method 'blocks'"
        ) from error
    by_frames = (np.moveaxis(audio, 1, 2) for audio in (references, estimates))
    try:
        return np.stack(museval.evaluate(*by_frames, win=sample_rate, hop=sample_rate))
    except (AttributeError, np.linalg.LinAlgError) as error:
        # museval catches singular matrices by a name of numpy that numpy 2 no longer has
        if isinstance(error, AttributeError) and "linalg" not in str(error):
            raise
        raise AudioError(
            "BSSEval: museval cannot solve for the filters, since references or their channels are linearly "
            "dependent (the same in both channels?); use the method 'blocks'"
        ) from error


def _by_blocks(references: Audio, estimates: Audio, sample_rate: int) -> Floats:
    sources, _, frames = references.shape
    alone, together = _filters(references, estimates)
    window = min(sample_rate, frames)
    size = scipy.fft.next_fast_len(window + FILTER_FRAMES - 1, real=True)
    alone_spectra, together_spectra = (scipy.fft.rfft(filters, size) for filters in (alone, together))
    found = np.full((len(_NAMES), sources, max(1, frames // sample_rate)), np.nan)
    for number in range(found.shape[2]):
        part = slice(number * window, (number + 1) * window)
        wanted, given = (audio[..., part].astype(np.float64) for audio in (references, estimates))
        if _silent(wanted).any() or _silent(given).any():
            continue
        spectra = scipy.fft.rfft(wanted, size)
        filtered = np.einsum("sckf,scf->skf", alone_spectra, spectra)
        explained = np.einsum("esckf,scf->ekf", together_spectra, spectra, optimize=True)
        tail = ((0, 0), (0, 0), (0, FILTER_FRAMES - 1))
        wanted, given = np.pad(wanted, tail), np.pad(given, tail)
        target, span = (scipy.fft.irfft(audio, size)[..., : wanted.shape[2]] for audio in (filtered, explained))
        pairs = (
            (wanted, given - wanted),
            (wanted, target - wanted),
            (target, span - target),
            (span, given - span),
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, :, number] = [10.0 * np.log10(_energies(signal) / _energies(rest)) for signal, rest in pairs]
    return found


def _energies(audio: Floats) -> Floats:
    return np.asarray(np.einsum("skf,skf->s", audio, audio))


def _filters(references: Audio, estimates: Audio) -> tuple[Floats, Floats]:
    """Least-squares filters from references to estimates.

    Returns
    -------
    alone : np.ndarray of float64 [shape=(sources, channels, channels, taps)]
        From each reference's channels to those of its estimate.
    together : np.ndarray of float64 [shape=(estimates, sources, channels, channels, taps)]
        From all references' channels to those of each estimate.
    """
    sources, channels, _ = references.shape
    rows, size = sources * channels, channels * FILTER_FRAMES
    lags = _correlations(references, estimates)
    zero = FILTER_FRAMES - 1
    among = np.empty((rows, FILTER_FRAMES, rows, FILTER_FRAMES))
    for i, j in np.ndindex(rows, rows):
        among[i, :, j] = scipy.linalg.toeplitz(lags[i, j, zero:], lags[i, j, zero::-1])
    matrix = among.reshape(rows * FILTER_FRAMES, rows * FILTER_FRAMES)
    across = np.moveaxis(lags[:, rows:, zero:], 1, 2).reshape(rows * FILTER_FRAMES, rows)
    shape = (sources, channels, FILTER_FRAMES, sources, channels)
    together = _solved(matrix, across).reshape(shape).transpose(3, 0, 1, 4, 2)
    if sources == 1:
        return together[0], together
    alone = np.empty((sources, channels, channels, FILTER_FRAMES))
    for source in range(sources):
        own = slice(source * size, (source + 1) * size)
        outputs = slice(source * channels, (source + 1) * channels)
        found = _solved(matrix[own, own], across[own, outputs])
        alone[source] = found.reshape(channels, FILTER_FRAMES, channels).transpose(0, 2, 1)
    return alone, together


def _solved(matrix: Floats, right: Floats) -> Floats:
    diagonal = np.eye(len(matrix))
    try:
        # as museval, whose numbers these are to be
        return np.asarray(np.linalg.solve(matrix + np.finfo(np.float64).eps * diagonal, right))
    except np.linalg.LinAlgError:
        # many filters do the same: any of them will do, and least squares by an SVD would take minutes
        return np.asarray(np.linalg.solve(matrix + _RIDGE * np.trace(matrix) / len(matrix) * diagonal, right))


def _correlations(references: Audio, estimates: Audio) -> Floats:
    """Correlations of the references with themselves and with the estimates, channel by channel.

    Returns
    -------
    np.ndarray of float64 [shape=(rows, 2 * rows, 2 * taps - 1)]
        ``sum_t u(t) v(t + lag)``, lag 0 in the middle; a row is a channel of a source.
    """
    sources, channels, frames = references.shape
    rows, reach = sources * channels, FILTER_FRAMES - 1
    step = _FFT_FRAMES - 2 * reach
    total = np.zeros((rows, 2 * rows, _FFT_FRAMES // 2 + 1), np.complex128)
    for start in range(0, frames, step):
        first, last = max(0, start - reach), min(frames, start + step + reach)
        others = np.zeros((2 * rows, _FFT_FRAMES))
        at = first - start + reach
        for half, audio in enumerate((references, estimates)):
            part = audio[..., first:last].reshape(rows, -1)
            others[half * rows : (half + 1) * rows, at : at + part.shape[1]] = part
        own = np.zeros((rows, _FFT_FRAMES))
        part = references[..., start : start + step].reshape(rows, -1)
        own[:, : part.shape[1]] = part
        spectra = scipy.fft.rfft(own).conj()[:, None], scipy.fft.rfft(others)
        total += spectra[0] * spectra[1]
    return np.asarray(scipy.fft.irfft(total, _FFT_FRAMES)[..., : 2 * reach + 1])
