"""A separator that hears every mixture at one level: zero mean, unit deviation, over the whole song.

Statistics of the whole need a pass before the one that separates, so that the mixture is kept in a temporary file
between the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from manifests.audio import Audio
from separators.separator import Around
from separators.streams import Spool, checked, cut

__all__ = ["Normalised"]

_VERSION = 1
_STATISTICS_FRAMES = 1 << 16


@dataclass(frozen=True)
class Normalised(Around):
    """A separator that hears the mixture at the mean 0 and the deviation 1: itself a `Separator`.

    Mean and deviation are those of the mean of the channels, over the whole mixture; the sources come back at its
    level, the mean in each of them, as in the package.

    Parameters
    ----------
    separator : Separator
    label : str
        What a person calls it.
    """

    label: str

    @property
    def name(self) -> str:
        """The label."""
        return self.label

    @property
    def identity(self) -> str:
        """A hash of the separator's."""
        return hashlib.blake2b(
            f"normalised {_VERSION} {self.separator.identity}".encode(), digest_size=16
        ).hexdigest()

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        with Spool() as spool:
            count, total, squares = 0, 0.0, 0.0
            # However the stream is cut, sums are of the same blocks.
            for block in cut(checked(blocks, self.channels, self.name), _STATISTICS_FRAMES):
                spool.put(block)
                mono = block.mean(axis=0, dtype=np.float64)
                count, total, squares = count + len(mono), total + mono.sum(), squares + np.square(mono).sum()
            variance = max(squares - total**2 / count, 0) / max(count - 1, 1)
            mean, deviation = np.float32(total / count), np.float32(np.sqrt(variance) + 1e-8)
            for sources in self.separator.stream((block - mean) / deviation for block in spool.blocks()):
                yield sources * deviation + mean
