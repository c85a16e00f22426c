"""Overlap-add: what takes segments apart, made to take audio of any length apart in bounded memory.

Segments of a fixed length start every hop. Their results are weighted by a window that is highest in the middle,
where a network has the most context, summed, and divided by the sum of the weights of the segments that cover a
frame: what does not depend on the place within a segment comes out exactly, at the edges too. The first segment
starts with the audio and the last one ends with it, so that every segment is full of audio; only audio that is
shorter than a segment is lengthened, by zeros at its end. What is held is a segment and a batch's hops.

Shifts average the results of several grids of segments, each shifted by a fraction of a hop against the last, the
audio beginning after as many zeros: the shift trick of Demucs, with fixed offsets in place of random ones.

References
----------
A. Defossez, N. Usunier, L. Bottou, F. Bach, "Music Source Separation in the Waveform Domain", arXiv 1911.13254,
2019: overlap of a quarter, the triangular weights, shifts.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from manifests.audio import Audio
from manifests.errors import AudioError, RecipeError, did_you_mean
from separators.streams import checked, cut, forked, in_step

if TYPE_CHECKING:
    from separators.network import Network

__all__ = ["NetworkSeparator", "Window", "overlap_add", "refuse_impossible", "segment_weights"]

Window: TypeAlias = Literal["triangle", "hann", "flat"]

# torch has an error of its own for CUDA alone; these are what CUDA, MPS and the CPU's allocator say
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")

log = logging.getLogger(__name__)

# Raised whenever the same weights and settings come to give other audio.
_VERSION = 2


def segment_weights(window: Window, segment_frames: int) -> Audio:
    """The weights of a segment's frames, each above zero.

    Parameters
    ----------
    window : {'triangle', 'hann', 'flat'}
        ``triangle`` grows evenly to the middle, ``hann`` is the square of a sine, ``flat`` is one everywhere.
    segment_frames : int

    Returns
    -------
    np.ndarray of float32 [shape=(segment_frames,)]
        Symmetric, at most 1.

    Raises
    ------
    RecipeError
        There is no such window.
    """
    names = get_args(Window)
    if window not in names:
        raise RecipeError(f"window is '{window}'{did_you_mean(window, names)}: choose from {', '.join(names)}")
    place = (np.arange(segment_frames) + 0.5) / segment_frames
    shapes = {"triangle": 1 - np.abs(2 * place - 1), "hann": np.sin(np.pi * place) ** 2, "flat": place**0}
    return shapes[window].astype(np.float32)


def refuse_impossible(overlap: float, window: Window, counts: Mapping[str, int]) -> None:
    """Refuse settings that no overlap-add can have.

    Parameters
    ----------
    overlap : float
    window : str
    counts : mapping of str to int
        By the names of the settings.

    Raises
    ------
    RecipeError
        The overlap is not from 0 to below 1, there is no such window, or a count is below 1.
    """
    if not 0 <= overlap < 1:
        raise RecipeError(f"overlap is {overlap}: it must be from 0 to below 1")
    for name, value in counts.items():
        if value < 1:
            raise RecipeError(f"{name} is {value}: it must be at least 1")
    segment_weights(window, 1)


def overlap_add(
    blocks: Iterable[Audio],
    function: Callable[[Audio, int], Audio],
    *,
    segment_frames: int,
    hop_frames: int,
    window: Window = "triangle",
    batch_size: int = 1,
) -> Iterator[Audio]:
    """Apply a function of segments to a stream.

    Parameters
    ----------
    blocks : iterable of np.ndarray of float32 [shape=(channels, frames)]
        Of any lengths, at least one frame in all; how they are cut changes nothing.
    function : callable
        Takes segments [shape=(batch, channels, segment_frames)] and the frame that the first of them starts at, and
        gives arrays [shape=(batch, ..., segment_frames)].
    segment_frames : int
    hop_frames : int
        1 to `segment_frames`.
    window : {'triangle', 'hann', 'flat'}
    batch_size : int
        Segments that `function` gets at once; fewer at the end.

    Yields
    ------
    np.ndarray of float32 [shape=(..., frames)]
        In all as many frames as came in.
    """
    weights = segment_weights(window, segment_frames)
    step = hop_frames * batch_size
    reach = segment_frames + step - hop_frames
    held = np.zeros((0, 0), np.float32)
    # `held` begins `past` frames before the first frame that was not given yet, which is `position`.
    past = position = 0
    sums = np.zeros(reach, np.float32)
    weight_sums = np.zeros(reach, np.float32)

    def add(starts: list[int], counted_from: int = 0) -> None:
        nonlocal sums
        segments = np.stack([held[:, past + start : past + start + segment_frames] for start in starts])
        results = function(segments, position + starts[0])
        if sums.ndim == 1:
            sums = np.zeros((*results.shape[1:-1], reach), np.float32)
        for start, result in zip(starts, results, strict=True):
            skipped = max(0, counted_from - start) if start == starts[-1] else 0
            sums[..., start + skipped : start + segment_frames] += (result * weights)[..., skipped:]
            weight_sums[start + skipped : start + segment_frames] += weights[skipped:]

    for block in cut(blocks, step):
        held = block if not held.size else np.concatenate([held, block], axis=1)
        # The segment that ends the audio is for later, wherever it ends.
        if held.shape[1] - past <= reach:
            continue
        add([number * hop_frames for number in range(batch_size)])
        yield sums[..., :step] / weight_sums[:step]
        for array in (sums, weight_sums):
            array[..., : reach - step] = array[..., step:].copy()
            array[..., max(0, reach - step) :] = 0
        position += step
        kept = min(segment_frames, past + step)
        held, past = held[:, past + step - kept :], kept
    left = held.shape[1] - past
    if not left:
        return
    if held.shape[1] < segment_frames:
        held = np.pad(held, ((0, 0), (0, segment_frames - held.shape[1])))
    last = max(left - segment_frames, -past)
    regular = range(0, last, hop_frames)
    # The last segment may begin in what was given already, and counts for no frame that a batch of one had given.
    add([*regular, last], len(regular) * hop_frames)
    yield sums[..., :left] / weight_sums[:left]


@dataclass(frozen=True, kw_only=True)
class NetworkSeparator:
    """A network as a `separators.separator.Separator`, by overlap-add.

    Separating moves the network to the device and into evaluation mode.

    Parameters
    ----------
    network : Network
    name : str
        What a person calls it.
    overlap : float
        Of neighbouring segments, as a fraction of a segment: from 0 to below 1.
    shifts : int
        How many grids of segments are averaged: so many times the work.
    window : {'triangle', 'hann', 'flat'}
    segment_frames : int, optional
        Of the network by default.
    batch_size : int
        Segments that the network gets at once; fewer where the device's memory does not hold them.
    device : str
        As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    RecipeError
        A number is out of its range, or there is no such window.

    Examples
    --------
    >>> separator = NetworkSeparator(network=load_network(path), name="vocals", overlap=0.5)  # doctest: +SKIP
    >>> sources = separate(separator, mixture)  # doctest: +SKIP
    """

    network: Network
    name: str = "network"
    overlap: float = 0.25
    shifts: int = 1
    window: Window = "triangle"
    segment_frames: int | None = None
    batch_size: int = 1
    device: str = "cpu"
    # the batches that the device's memory holds
    _most: list[int] = field(default_factory=lambda: [sys.maxsize], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = {"shifts": self.shifts, "batch_size": self.batch_size, "segment_frames": self._segment}
        refuse_impossible(self.overlap, self.window, counts)

    @functools.cached_property
    def identity(self) -> str:
        """A hash of the network's weights and config and of the settings that change the result."""
        from separators.weights import network_identity

        settings = [_VERSION, network_identity(self.network), self.overlap, self.shifts, self.window, self._segment]
        return hashlib.blake2b(json.dumps(settings).encode(), digest_size=16).hexdigest()

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.network.sample_rate

    @property
    def channels(self) -> int:
        """Of the mixture and of each source."""
        return self.network.channels

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out."""
        return self.network.sources

    @property
    def _segment(self) -> int:
        return self.network.segment_frames if self.segment_frames is None else self.segment_frames

    @property
    def _hop(self) -> int:
        return max(1, round(self._segment * (1 - self.overlap)))

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`.

        Raises
        ------
        AudioError
            The mixture has other channels or no frames, the network gives NaN or infinity, or the device's memory
            does not hold a single segment.
        """
        self.network.to(self.device).eval()
        mixture = checked(blocks, self.channels, self.name)
        offsets = [number * self._hop // self.shifts for number in range(self.shifts)]
        grids = [
            self._grid(copy, offset) for copy, offset in zip(forked(mixture, self.shifts), offsets, strict=True)
        ]
        for parts in in_step(grids):
            yield parts[0] if len(parts) == 1 else np.mean(parts, axis=0, dtype=np.float32)

    def _grid(self, blocks: Iterator[Audio], offset: int) -> Iterator[Audio]:
        """The sources by segments that begin `offset` frames before the audio."""

        def shifted() -> Iterator[Audio]:
            yield np.zeros((self.channels, offset), np.float32)
            yield from blocks

        skipped = 0
        for block in overlap_add(
            shifted() if offset else blocks,
            lambda segments, start: self._separated(segments, start - offset),
            segment_frames=self._segment,
            hop_frames=self._hop,
            window=self.window,
            batch_size=self.batch_size,
        ):
            surplus = min(offset - skipped, block.shape[-1])
            skipped += surplus
            yield block[..., surplus:]

    def _separated(self, segments: Audio, start: int) -> Audio:
        import torch

        most = self._most[0]
        if len(segments) > most:
            starts = range(0, len(segments), most)
            parts = [self._separated(segments[at : at + most], start + at * self._hop) for at in starts]
            return np.concatenate(parts)
        try:
            with torch.inference_mode():
                sources = self.network(torch.from_numpy(segments).to(self.device)).float().cpu().numpy()
        except RuntimeError as error:
            if not any(words in str(error) for words in _OUT_OF_MEMORY):
                raise
            if len(segments) == 1:
                raise AudioError(
                    f"{self.name}: the memory of {self.device} does not hold a segment of "
                    f"{self._segment / self.sample_rate:.1f} s ({str(error).splitlines()[0]}); take another "
                    "device, or a smaller network"
                ) from error
            self._most[0] = len(segments) // 2
            log.warning("%s: %s holds fewer than %d segments at once", self.name, self.device, len(segments))
        else:
            return self._checked(sources, start)
        # out of the handler, which holds on to the memory
        torch.cuda.empty_cache()
        return self._separated(segments, start)

    def _checked(self, sources: Audio, start: int) -> Audio:
        if not np.isfinite(sources).all():
            raise AudioError(
                f"{self.name}: gives NaN or infinity for the audio from {max(0, start) / self.sample_rate:.2f} s "
                "on; look at the audio there, or at the weights"
            )
        return np.asarray(sources, dtype=np.float32)
