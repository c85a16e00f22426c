"""A separator, and what it leaves of the mixture as one more source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from manifests.audio import Audio
from manifests.errors import RecipeError
from separators.separator import Around
from separators.streams import checked, forked, in_step

__all__ = ["WithRemainder"]


@dataclass(frozen=True)
class WithRemainder(Around):
    """A separator whose last source is the mixture less all others: itself a `separators.separator.Separator`.

    Parameters
    ----------
    separator : Separator
    remainder : str
        What that source is called.

    Raises
    ------
    RecipeError
        The separator has a source of that name.
    """

    remainder: str

    def __post_init__(self) -> None:
        if self.remainder in self.separator.sources:
            raise RecipeError(
                f"{self.name} gives '{self.remainder}' itself: call what is left of the mixture otherwise"
            )

    @property
    def identity(self) -> str:
        """A hash of the separator's and of the name."""
        facts = f"remainder {self.separator.identity} {self.remainder}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out: the remainder last."""
        return (*self.separator.sources, self.remainder)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        heard, mixture = forked(checked(blocks, self.channels, self.name), 2)
        for whole, taken in in_step([mixture, self.separator.stream(heard)]):
            yield np.concatenate([taken, (whole - taken.sum(axis=0))[None]])
