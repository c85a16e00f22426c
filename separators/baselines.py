"""Separators without weights: what any trained one must beat, and what needs no download.

identity   every source is the mixture over the number of sources: SDR's reference point of the demixing challenges
centre     voices are what is the same in both channels; the rest is what is not
hpss       voices are too unsteady for a long window's harmonics and too steady for a short window's percussion

The last two work on spectra of segments, joined by overlap-add, so that memory does not grow with the audio. Their
sources sum to the mixture.

References
----------
C. Avendano, "Frequency-Domain Source Identification and Manipulation in Stereo Mixes for Enhancement, Suppression
and Re-Panning Applications", WASPAA 2003: the similarity of channels.

D. FitzGerald, M. Gainza, "Single Channel Vocal Separation using Median Filtering and Factorisation Techniques",
ISAST Transactions on Electronic and Signal Processing 4(1), 2010: two windows, medians of 17; D. FitzGerald,
"Harmonic/Percussive Separation using Median Filtering", DAFx 2010: the masks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import librosa
import numpy as np

from manifests.audio import Audio
from manifests.errors import RecipeError
from separators.overlap_add import overlap_add
from separators.streams import checked

__all__ = ["CentreExtraction", "HarmonicPercussive", "Identity"]

_VERSION = 1
_EPSILON = 1e-12
_SEGMENT_SECONDS = 10
_MEDIAN = 17


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Every source is the mixture over the number of sources.

    Parameters
    ----------
    sources : tuple of str
    sample_rate : int
        In Hz; nothing depends on it.
    channels : int

    Raises
    ------
    RecipeError
        There are no sources, or one stands twice.
    """

    sources: tuple[str, ...] = ("vocals", "accompaniment")
    sample_rate: int = 44100
    channels: int = 2
    name: str = "baseline:identity"

    def __post_init__(self) -> None:
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise RecipeError(f"sources is {list(self.sources)}: name at least one source, and each once")

    @property
    def identity(self) -> str:
        """A hash of the settings."""
        return _hash("identity", self.sources, self.sample_rate, self.channels)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        for block in checked(blocks, self.channels, self.name):
            yield np.repeat((block / np.float32(len(self.sources)))[None], len(self.sources), axis=0)


@dataclass(frozen=True, kw_only=True)
class CentreExtraction:
    """The centre of a stereo mixture is what its two channels have alike, bin by bin.

    With M the mean of the channels' spectra and S half of their difference, the centre is ``M * max(0, (|M|^2 -
    |S|^2) / (|M|^2 + |S|^2))`` in both channels: all of what is equal in both, nothing of what is in one alone or
    in opposite phase. Basses and kick drums stand in the centre too: below `lowest_hz` nothing is taken.

    Parameters
    ----------
    sources : tuple of str
        Names of the centre and of the rest.
    lowest_hz : float
        At least 0.
    sample_rate : int
        In Hz.

    Raises
    ------
    RecipeError
        There are not two sources, or `lowest_hz` is negative.
    """

    sources: tuple[str, str] = ("vocals", "accompaniment")
    lowest_hz: float = 100.0
    sample_rate: int = 44100
    name: str = "baseline:centre"

    def __post_init__(self) -> None:
        _require_two(self.sources)
        if not self.lowest_hz >= 0:
            raise RecipeError(f"lowest_hz is {self.lowest_hz}: it must be at least 0")

    @property
    def channels(self) -> int:
        """Two, of the mixture and of each source."""
        return 2

    @property
    def identity(self) -> str:
        """A hash of the settings."""
        return _hash("centre", self.sources, self.lowest_hz, self.sample_rate)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        return _by_segments(checked(blocks, 2, self.name), self._centre, self.sample_rate)

    def _centre(self, mixture: Audio) -> Audio:
        window = _window_frames(self.sample_rate, 0.093)
        left, right = librosa.stft(mixture, n_fft=window, hop_length=window // 4, pad_mode="constant")
        middle, side = (left + right) / 2, (left - right) / 2
        powers = np.square(np.abs(middle)), np.square(np.abs(side))
        mask = np.maximum(0, powers[0] - powers[1]) / (powers[0] + powers[1] + _EPSILON)
        mask[: round(self.lowest_hz * window / self.sample_rate)] = 0
        centre = librosa.istft(mask * middle, n_fft=window, hop_length=window // 4, length=mixture.shape[1])
        return np.stack([centre, centre])


@dataclass(frozen=True, kw_only=True)
class HarmonicPercussive:
    """Voices by harmonic-percussive separation with two windows.

    Vibrato and glides are too unsteady for the harmonic part of a long window (372 ms), so that voices are in its
    percussive part; of this, a short window's (23 ms) harmonic part is the voice, and what is left is drums.

    Parameters
    ----------
    sources : tuple of str
        Names of the voice and of the rest.
    sample_rate : int
        In Hz.
    channels : int

    Raises
    ------
    RecipeError
        There are not two sources.
    """

    sources: tuple[str, str] = ("vocals", "accompaniment")
    sample_rate: int = 44100
    channels: int = 2
    name: str = "baseline:hpss"

    def __post_init__(self) -> None:
        _require_two(self.sources)

    @property
    def identity(self) -> str:
        """A hash of the settings."""
        return _hash("hpss", self.sources, self.sample_rate, self.channels)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        return _by_segments(checked(blocks, self.channels, self.name), self._voice, self.sample_rate)

    def _voice(self, mixture: Audio) -> Audio:
        _, unsteady = _harmonic_percussive(mixture, _window_frames(self.sample_rate, 0.372))
        voice, _ = _harmonic_percussive(unsteady, _window_frames(self.sample_rate, 0.023))
        return voice


def _by_segments(mixture: Iterable[Audio], function: Callable[[Audio], Audio], sample_rate: int) -> Iterator[Audio]:
    """Two sources: what a function takes out of segments of the mixture, and the rest."""

    def separated(segments: Audio, start: int) -> Audio:
        taken = np.stack([function(segment) for segment in segments])
        return np.stack([taken, segments - taken], axis=1)

    segment = _SEGMENT_SECONDS * sample_rate
    yield from overlap_add(mixture, separated, segment_frames=segment, hop_frames=segment * 3 // 4)


def _harmonic_percussive(audio: Audio, window_frames: int) -> tuple[Audio, Audio]:
    spectrum = librosa.stft(audio, n_fft=window_frames, hop_length=window_frames // 4, pad_mode="constant")
    harmonic, _ = librosa.decompose.hpss(spectrum, kernel_size=_MEDIAN, mask=True)
    taken = librosa.istft(
        spectrum * harmonic, n_fft=window_frames, hop_length=window_frames // 4, length=audio.shape[1]
    )
    return taken, audio - taken


def _window_frames(sample_rate: int, seconds: float) -> int:
    """The power of two that is nearest to so many seconds."""
    return int(2 ** round(np.log2(max(16.0, seconds * sample_rate))))


def _require_two(sources: tuple[str, ...]) -> None:
    if len(sources) != 2 or sources[0] == sources[1]:
        raise RecipeError(f"sources is {list(sources)}: name two, what is taken and the rest")


def _hash(*facts: object) -> str:
    return hashlib.blake2b(json.dumps([_VERSION, *facts]).encode(), digest_size=16).hexdigest()
