"""What is done around a separator: the input's level, a Wiener filter, the outputs' scale, what is left over.

In this order, each only where asked for:

1. normalise: the mixture is brought to a peak or a loudness before it is separated, and the sources back. A
   network hears the level that it was trained on.
2. wiener: sources are replaced by what the multichannel Wiener filter makes of all sources and the mixture.
3. rescale: a source is multiplied by ``sum(x . s) / (1e-7 + sum(s . s))``, the least squares fit to the mixture x
   over the whole file: for networks whose training did not care for the scale.
4. consistency: what the sources lack to sum to the mixture is added to them in given shares.

Levels and scales are of whole files: a mixture that is normalised, and sources that are rescaled, wait in a
temporary file (1.3 GB per hour of stereo at 44.1 kHz; rescaling takes as much for the mixture and for each source).
The others stream.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: equations 3 to
5 are peak, rescaling and shares of a half for effects and music; section 4.3.2 the loudness and the Wiener filter.

S. Wisdom et al., "Differentiable Consistency Constraints for Improved Deep Speech Enhancement", ICASSP 2019.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from manifests.audio import Audio
from manifests.errors import RecipeError, did_you_mean
from manifests.loudness import LoudnessMeter
from manifests.recipes import Settings
from separators.overlap_add import overlap_add
from separators.separator import Around
from separators.streams import Spool, checked, forked, in_step

__all__ = [
    "Postprocessed",
    "Postprocessing",
    "least_squares_scales",
    "loudness_gain",
    "mixture_consistent",
    "peak_gain",
    "wiener_filtered",
]

_VERSION = 1
_EPSILON = 1e-7
_WINDOW_FRAMES, _HOP_FRAMES = 4096, 1024
# As many columns as share their covariances in norbert and Open-Unmix, 7 s at 44.1 kHz.
_WIENER_FRAMES = 300 * _HOP_FRAMES


class Postprocessing(Settings):
    """What is done around a separator; nothing by default."""

    normalise: Literal["none", "peak", "loudness"] = "none"
    """What of the mixture is brought to a level."""

    normalise_to: float | None = Field(None, ge=-60, le=0)
    """That level: in dB of full scale for the peak (0 by default), in LUFS for the loudness (-27 by default)."""

    wiener: tuple[str, ...] = ()
    """Sources that are taken from the Wiener filter."""

    wiener_iterations: int = Field(1, ge=1, le=10)
    """Of the filter's expectation-maximisation."""

    rescale: tuple[str, ...] = ()
    """Sources that are rescaled by least squares."""

    consistency: dict[str, float] = Field(default_factory=dict)
    """Shares, one in all, in which sources get what is left over, such as ``{effects: 0.5, music: 0.5}``."""

    @model_validator(mode="after")
    def _refuse_shares(self) -> Postprocessing:
        shares = self.consistency.values()
        if shares and (min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6)):
            raise ValueError(f"consistency is {self.consistency}: shares must be at least 0 and sum to 1")
        return self

    @property
    def level(self) -> float:
        """What `normalise_to` is, or stands for."""
        return self.normalise_to if self.normalise_to is not None else -27.0 * (self.normalise == "loudness")


def peak_gain(mixture: Iterable[Audio], peak_db: float) -> float:
    """The gain that brings a mixture to a peak.

    Parameters
    ----------
    mixture : iterable of np.ndarray [shape=(channels, frames)]
        In blocks.
    peak_db : float
        Of full scale.

    Returns
    -------
    float
        A factor; 1 for silence.
    """
    peak = max((float(np.abs(block).max(initial=0.0)) for block in mixture), default=0.0)
    return 10 ** (peak_db / 20) / peak if peak > 0 else 1.0


def loudness_gain(mixture: Iterable[Audio], sample_rate: int, channels: int, lufs: float) -> float:
    """The gain that brings a mixture to a loudness (BS.1770-4).

    Parameters
    ----------
    mixture : iterable of np.ndarray [shape=(channels, frames)]
        In blocks.
    sample_rate : int
    channels : int
    lufs : float

    Returns
    -------
    float
        A factor; 1 for silence.
    """
    meter = LoudnessMeter(sample_rate, channels)
    for block in mixture:
        meter.add(block)
    return float(10 ** ((meter.gain_db_to(lufs) or 0.0) / 20))


def wiener_filtered(mixture: Audio, sources: Audio, iterations: int = 1) -> Audio:
    """Sources of the multichannel Wiener filter, out of the magnitudes of estimates.

    Parameters
    ----------
    mixture : np.ndarray of float32 [shape=(channels, frames)]
    sources : np.ndarray of float32 [shape=(sources, channels, frames)]
        At least two, or there is nothing to tell apart.
    iterations : int

    Returns
    -------
    np.ndarray of float32 [shape=(sources, channels, frames)]
        They sum to the mixture where the estimates have something; 7 s (at 44.1 kHz) share spatial covariances.
    """
    import torch

    from separators.stft import istft, stft
    from separators.wiener import wiener_filter

    with torch.inference_mode():
        spectra = (stft(torch.from_numpy(audio), _WINDOW_FRAMES, _HOP_FRAMES) for audio in (mixture, sources))
        observed, estimates = spectra
        filtered = wiener_filter(estimates.abs()[None], observed[None], iterations)[0]
        return np.asarray(istft(filtered, _WINDOW_FRAMES, _HOP_FRAMES, mixture.shape[-1]).numpy())


def least_squares_scales(blocks: Iterable[tuple[Audio, Audio]]) -> npt.NDArray[np.float64]:
    """The factor of each source that brings it nearest to the mixture.

    Parameters
    ----------
    blocks : iterable of (mixture, sources)
        np.ndarray [shape=(channels, frames)] and [shape=(sources, channels, frames)].

    Returns
    -------
    np.ndarray of float64 [shape=(sources,)]
        ``sum(x . s) / (1e-7 + sum(s . s))``, 0 for a silent source.
    """
    products: npt.NDArray[np.float64] | float = 0.0
    energies: npt.NDArray[np.float64] | float = 0.0
    for mixture, sources in blocks:
        products = products + np.einsum("cn,scn->s", mixture, sources, dtype=np.float64)
        energies = energies + np.einsum("scn,scn->s", sources, sources, dtype=np.float64)
    return np.asarray(products / (_EPSILON + energies))


def mixture_consistent(mixture: Audio, sources: Audio, shares: npt.ArrayLike) -> Audio:
    """Give what is left over to the sources.

    Parameters
    ----------
    mixture : np.ndarray of float32 [shape=(channels, frames)]
    sources : np.ndarray of float32 [shape=(sources, channels, frames)]
    shares : array_like [shape=(sources,)]
        Summing to 1.

    Returns
    -------
    np.ndarray of float32 [shape=(sources, channels, frames)]
        They sum to the mixture.
    """
    residual = mixture - sources.sum(axis=0)
    added: Audio = np.asarray(shares, np.float32)[:, None, None] * residual
    return sources + added


@dataclass(frozen=True)
class Postprocessed(Around):
    """A separator with what is done around it: itself a `separators.separator.Separator`.

    Parameters
    ----------
    separator : Separator
    options : Postprocessing

    Raises
    ------
    RecipeError
        The options name a source that the separator has not.
    """

    options: Postprocessing

    def __post_init__(self) -> None:
        for field in ("wiener", "rescale", "consistency"):
            for name in getattr(self.options, field):
                if name not in self.sources:
                    raise RecipeError(
                        f"{field} names '{name}'{did_you_mean(name, self.sources)}: {self.separator.name} gives "
                        f"{', '.join(self.sources)}"
                    )
        if self.options.wiener and len(self.sources) < 2:
            raise RecipeError(f"wiener needs two sources to tell apart: {self.separator.name} gives one")

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.separator.name}, postprocessed"

    @property
    def identity(self) -> str:
        """A hash of the separator's and the options."""
        facts = [_VERSION, self.separator.identity, self.options.model_dump(mode="json")]
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        with contextlib.ExitStack() as stack:
            mixture, gain = checked(blocks, self.channels, self.name), 1.0
            if self.options.normalise != "none":
                spool = stack.enter_context(Spool())
                gain = self._gain(_passed_through(spool, mixture))
                mixture = spool.blocks()
            heard, kept = forked(mixture, 2)
            sources = self.separator.stream(block * np.float32(gain) for block in heard)
            # From here on the mixture goes along, as the first of the sources.
            together: Iterator[Audio] = (
                np.concatenate([mix[None], parts / np.float32(gain)]) for mix, parts in in_step([kept, sources])
            )
            if self.options.wiener:
                together = self._wiener(together)
            if self.options.rescale:
                together = self._rescaled(together, stack.enter_context(Spool()))
            for block in together:
                if self.options.consistency:
                    shares = [self.options.consistency.get(name, 0.0) for name in self.sources]
                    yield mixture_consistent(block[0], block[1:], shares)
                else:
                    yield block[1:]

    def _gain(self, mixture: Iterable[Audio]) -> float:
        if self.options.normalise == "peak":
            return peak_gain(mixture, self.options.level)
        return loudness_gain(mixture, self.sample_rate, self.channels, self.options.level)

    def _chosen(self, names: Iterable[str]) -> list[int]:
        return [1 + self.sources.index(name) for name in names]

    def _wiener(self, together: Iterator[Audio]) -> Iterator[Audio]:
        rows = (1 + len(self.sources)) * self.channels

        def filtered(segments: Audio, start: int) -> Audio:
            unfolded = segments.reshape(len(segments), 1 + len(self.sources), self.channels, -1)
            for item in unfolded:
                better = wiener_filtered(item[0], item[1:], self.options.wiener_iterations)
                for row in self._chosen(self.options.wiener):
                    item[row] = better[row - 1]
            return unfolded

        return overlap_add(
            (block.reshape(rows, -1) for block in together),
            filtered,
            segment_frames=_WIENER_FRAMES,
            hop_frames=_WIENER_FRAMES // 2,
            window="hann",
        )

    def _rescaled(self, together: Iterator[Audio], spool: Spool) -> Iterator[Audio]:
        scales = np.ones(1 + len(self.sources), np.float32)
        found = least_squares_scales((block[0], block[1:]) for block in _passed_through(spool, together))
        for row in self._chosen(self.options.rescale):
            scales[row] = found[row - 1]
        for block in spool.blocks():
            yield block * scales[:, None, None]


def _passed_through(spool: Spool, blocks: Iterable[Audio]) -> Iterator[Audio]:
    for block in blocks:
        spool.put(block)
        yield block
