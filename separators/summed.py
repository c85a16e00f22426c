"""A separator some of whose sources are summed: drums, bass and other as one accompaniment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manifests.audio import Audio
from manifests.errors import RecipeError, did_you_mean
from separators.separator import Around

__all__ = ["Summed"]


@dataclass(frozen=True)
class Summed(Around):
    """A separator whose sources are sums of another's: itself a `separators.separator.Separator`.

    Parameters
    ----------
    separator : Separator
    sums : mapping of str to sequence of str
        What comes out beside the sources that are in no sum, and the sources that it is the sum of.

    Raises
    ------
    RecipeError
        The separator lacks a source, has one that is called like a sum and not in it, or a source is in two sums.
    """

    sums: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        sources = self.separator.sources
        parts = [part for listed in self.sums.values() for part in listed]
        for part in parts:
            if part not in sources:
                raise RecipeError(
                    f"{self.name} has no source '{part}' to be summed{did_you_mean(part, sources)}: "
                    f"{', '.join(sources)}"
                )
            if parts.count(part) > 1:
                raise RecipeError(f"{self.name}: source '{part}' is summed twice: leave it out of one of the sums")
        for name in self.sums:
            if name in sources and name not in parts:
                raise RecipeError(f"{self.name} gives '{name}' itself: call the sum otherwise")

    @property
    def identity(self) -> str:
        """A hash of the separator's and of the sums."""
        facts = (
            f"summed {self.separator.identity} {json.dumps({name: [*sums] for name, sums in self.sums.items()})}"
        )
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out: the sums last."""
        return (*self._alone, *self.sums)

    @property
    def _alone(self) -> tuple[str, ...]:
        parts = {part for listed in self.sums.values() for part in listed}
        return tuple(source for source in self.separator.sources if source not in parts)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        places = {name: number for number, name in enumerate(self.separator.sources)}
        groups = [*((name,) for name in self._alone), *self.sums.values()]
        for found in self.separator.stream(blocks):
            yield np.stack([found[[places[name] for name in group]].sum(axis=0) for group in groups])
