"""What separates: a network with its overlap-add, a baseline, an ensemble, a cascade, somebody else's model.

A separator takes a mixture in blocks and gives its sources in blocks, so that the length of a file does not matter;
a separator made of separators passes the blocks on. Audio is float32 [shape=(channels, frames)] at the separator's
own rate, full scale +-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from manifests.audio import Audio

__all__ = ["Around", "Separator", "separate"]


@runtime_checkable
class Separator(Protocol):
    """Anything that takes mixtures apart."""

    @property
    def name(self) -> str:
        """What a person calls it, such as ``checkpoint:vocals.safetensors``."""
        ...

    @property
    def identity(self) -> str:
        """What it computes: a hash of weights, code version and settings.

        Work of the same identity need not be done twice.
        """
        ...

    @property
    def sample_rate(self) -> int:
        """In Hz, of what it takes and gives."""
        ...

    @property
    def channels(self) -> int:
        """Of what it takes, and of each source."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out."""
        ...

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """Separate a mixture that comes in blocks.

        Parameters
        ----------
        blocks : iterable of np.ndarray of float32 [shape=(channels, frames)]
            The mixture in order; blocks of any lengths, at least one frame in all.

        Yields
        ------
        np.ndarray of float32 [shape=(sources, channels, frames)]
            The sources in order, from the mixture's first frame on, and in all as many frames as the mixture has.
            Blocks may be of other lengths than those that came in, and come later.
        """
        ...


@dataclass(frozen=True)
class Around:
    """What is around a separator, and says of itself what that one does: the base of separators made of one.

    Parameters
    ----------
    separator : Separator
    """

    separator: Separator

    @property
    def name(self) -> str:
        """What a person calls it: the separator's."""
        return self.separator.name

    @property
    def identity(self) -> str:
        """What it computes: the separator's, as long as nothing is changed."""
        return self.separator.identity

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.separator.sample_rate

    @property
    def channels(self) -> int:
        """Of the mixture and of each source."""
        return self.separator.channels

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out."""
        return self.separator.sources


def separate(separator: Separator, mixture: Audio) -> Audio:
    """Separate a mixture that is in memory.

    Parameters
    ----------
    separator : Separator
    mixture : np.ndarray of float32 [shape=(channels, frames)]
        At the separator's rate, at least one frame.

    Returns
    -------
    np.ndarray of float32 [shape=(sources, channels, frames)]
    """
    return np.concatenate(list(separator.stream([mixture])), axis=2)
