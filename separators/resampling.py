"""Separators for audio of another rate or number of channels.

The mixture is resampled on its way in and the sources on their way out, as a stream, by soxr's linear-phase filters
at very high quality: nothing is shifted in time, and the sources are as long as the mixture. What lies above half
of the lower rate is lost on the way.

Mono becomes as many equal channels as the separator takes, and the mean of its channels is what comes back. A
separator of one channel hears every channel by itself. Anything else would need somebody to say which channel is
which, and is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from manifests.audio import Audio
from manifests.errors import AudioError, RecipeError
from separators.separator import Separator
from separators.streams import checked, forked, in_step

__all__ = ["Resampled"]

_VERSION = 1


@dataclass(frozen=True)
class Resampled:
    """A separator for another rate and channels: itself a `separators.separator.Separator`.

    Parameters
    ----------
    separator : Separator
    sample_rate : int
        In Hz, of the mixture and of what comes back.
    channels : int
        Of the mixture and of each source that comes back.

    Raises
    ------
    RecipeError
        The rate is not positive.
    AudioError
        The separator cannot take so many channels.
    """

    separator: Separator
    sample_rate: int
    channels: int

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise RecipeError(f"sample_rate is {self.sample_rate}: it must be at least 1 Hz")
        inner = self.separator.channels
        if self.channels < 1 or (self.channels not in (1, inner) and inner != 1):
            raise AudioError(
                f"the audio has {self.channels} channels, and {self.separator.name} takes {inner}: mix it down to "
                f"{inner} channels first"
            )

    @property
    def name(self) -> str:
        """The separator's name."""
        return self.separator.name

    @property
    def identity(self) -> str:
        """A hash of the separator's, the rate and the channels; the separator's own where nothing changes."""
        if self._is_plain:
            return self.separator.identity
        facts = [_VERSION, self.separator.identity, self.sample_rate, self.channels]
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out."""
        return self.separator.sources

    @property
    def _is_plain(self) -> bool:
        return (self.sample_rate, self.channels) == (self.separator.sample_rate, self.separator.channels)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        if self._is_plain:
            yield from self.separator.stream(blocks)
            return
        taken = 0

        def counted() -> Iterator[Audio]:
            nonlocal taken
            for block in checked(blocks, self.channels, self.name):
                taken += block.shape[1]
                yield block

        outer, inner = self.sample_rate, self.separator.sample_rate
        mixture = _resampled(counted(), outer, inner, lambda: max(1, round(taken * inner / outer)))
        yield from _resampled(self._separated(mixture), inner, outer, lambda: taken)

    def _separated(self, mixture: Iterator[Audio]) -> Iterator[Audio]:
        """Sources in the mixture's channels, at the separator's rate."""
        if self.channels == self.separator.channels:
            yield from self.separator.stream(mixture)
        elif self.channels == 1:
            wide = (np.repeat(block, self.separator.channels, axis=0) for block in mixture)
            for block in self.separator.stream(wide):
                yield block.mean(axis=1, keepdims=True)
        else:
            copies = enumerate(forked(mixture, self.channels))
            streams = [self.separator.stream(_channel(copy, number)) for number, copy in copies]
            for parts in in_step(streams):
                yield np.concatenate(parts, axis=1)


def _channel(blocks: Iterator[Audio], number: int) -> Iterator[Audio]:
    for block in blocks:
        yield block[number : number + 1]


def _resampled(
    blocks: Iterable[Audio], sample_rate: int, new_rate: int, num_frames: Callable[[], int]
) -> Iterator[Audio]:
    """Blocks [shape=(..., frames)] at another rate; `num_frames`, asked at the end, is how many there must be."""
    if sample_rate == new_rate:
        yield from blocks
        return
    resampler: soxr.ResampleStream | None = None
    rows: tuple[int, ...] = ()
    given = 0
    for block in blocks:
        rows = block.shape[:-1]
        if resampler is None:
            resampler = soxr.ResampleStream(sample_rate, new_rate, int(np.prod(rows)), "float32", "VHQ")
        out = resampler.resample_chunk(np.ascontiguousarray(block.reshape(-1, block.shape[-1]).T, np.float32))
        if len(out):
            given += len(out)
            yield np.ascontiguousarray(out.T).reshape(*rows, -1)
    if resampler is None:
        return
    end = resampler.resample_chunk(np.zeros((0, int(np.prod(rows))), np.float32), last=True)
    # The library rounds the length; a frame too few is one that nothing is known of.
    missing = num_frames() - given
    end = np.pad(end[:missing], ((0, max(0, missing - len(end))), (0, 0)))
    if missing > 0:
        yield np.ascontiguousarray(end.T).reshape(*rows, -1)
