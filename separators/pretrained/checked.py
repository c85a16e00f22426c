"""A separator of somebody else's, held to what every separator promises.

What it gives is looked at block by block: its shape, that it is finite, and that there is as much of it as of the
mixture. What goes wrong inside it is an `AudioError` of the song at hand, so that a run over many songs goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from manifests.audio import Audio
from manifests.errors import AudioError, RecipeError, StemloomError
from separators.separator import Around, Separator
from separators.streams import checked

__all__ = ["Checked"]

_MEMBERS = ("name", "identity", "sample_rate", "channels", "sources", "stream")


@dataclass(frozen=True)
class Checked(Around):
    """A separator whose every block is checked: itself a `separators.separator.Separator`.

    It hears copies, so that it may write into what it gets.

    Parameters
    ----------
    separator : Separator

    Raises
    ------
    RecipeError
        A name is no text, a number none above zero, or the sources are none, or not distinct.
    """

    def __post_init__(self) -> None:
        given: object = self.separator
        if not isinstance(given, Separator):
            lacks = [name for name in _MEMBERS if not hasattr(given, name)]
            raise RecipeError(
                f"{given!r} is no separator: it lacks {', '.join(lacks)} (separators.Separator says what each is)"
            )
        for field in ("name", "identity"):
            value: object = getattr(self.separator, field)
            if not isinstance(value, str) or not value:
                raise RecipeError(f"{self.separator!r}: its {field} is {value!r}; let it be a text")
        for field in ("sample_rate", "channels"):
            value = getattr(self.separator, field)
            if type(value) is not int or value < 1:
                raise RecipeError(f"{self.name}: its {field} is {value!r}; let it be a whole number above zero")
        sources: object = self.separator.sources
        is_fine = isinstance(sources, tuple) and all(isinstance(source, str) and source for source in sources)
        if not is_fine or not self.sources or len(set(self.sources)) != len(self.sources):
            raise RecipeError(f"{self.name}: its sources are {sources!r}; let them be a tuple of distinct names")

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`.

        Raises
        ------
        AudioError
            The mixture has other channels or no frames; the separator raises something, or gives NaN, another
            shape, or more or fewer frames than the mixture has.
        """
        taken = given = 0

        def heard() -> Iterator[Audio]:
            nonlocal taken
            for block in checked(blocks, self.channels, self.name):
                taken += block.shape[1]
                yield block.copy()

        mixture = heard()
        for block in self._raising(mixture):
            found = np.asarray(block)
            if found.ndim != 3 or found.shape[:2] != (len(self.sources), self.channels):
                raise AudioError(
                    f"{self.name}: gives a block of the shape {found.shape}, not ({len(self.sources)}, "
                    f"{self.channels}, frames)"
                )
            if not np.issubdtype(found.dtype, np.floating) or not np.isfinite(found).all():
                what = "NaN or infinity" if np.issubdtype(found.dtype, np.floating) else f"{found.dtype} values"
                raise AudioError(
                    f"{self.name}: gives {what} for the audio from {given / self.sample_rate:.2f} s on; look at "
                    "the audio there, or at the separator"
                )
            given += found.shape[2]
            if given > taken:
                raise AudioError(
                    f"{self.name}: gives {given} frames and more for the first {taken} of the mixture; it must "
                    "give as many"
                )
            yield found.astype(np.float32, copy=False)
        # Whoever stops early has not taken all of it.
        for _ in mixture:
            pass
        if given != taken:
            raise AudioError(f"{self.name}: gives {given} frames for a mixture of {taken}; it must give as many")

    def _raising(self, blocks: Iterator[Audio]) -> Iterator[Audio]:
        try:
            yield from self.separator.stream(blocks)
        except StemloomError:
            raise
        # a program's main function, called as a separator, may end with sys.exit
        except (Exception, SystemExit) as error:
            raise AudioError(f"{self.name}: raises {type(error).__name__}: {error}") from error
