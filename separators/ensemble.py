"""Separators made of separators: the weighted mean of several, and one behind the other.

All parts hear the same stream in step, whatever lags behind waiting in memory and beyond 2 million frames on disk.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: the winners'
cascade (dialogue first, by a vocals model, then music and effects from what is left) and weights (10, 4, 2).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manifests.audio import Audio
from manifests.errors import RecipeError, did_you_mean
from separators.separator import Separator
from separators.streams import checked, forked, in_step

__all__ = ["Cascade", "Ensemble"]

_VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """The weighted mean of what several separators say: itself a `separators.separator.Separator`.

    Parameters
    ----------
    separators : sequence of Separator
        Of one rate and the same channels. Sources are those that all of them give, in the first one's order;
        what only some give is left out, with a warning.
    weights : sequence of float or mapping of str to float, optional
        One for each separator: for all of its sources, or by source. Only proportions count; equal by default.
    label : str, optional
        A name of its own, where it is known by one.

    Raises
    ------
    RecipeError
        The separators do not fit together or have no source in common, a weight is negative or missing, or those
        of a source are all zero.
    """

    separators: Sequence[Separator]
    weights: Sequence[float | Mapping[str, float]] | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.separators:
            raise RecipeError("an ensemble needs at least one separator")
        first = self.separators[0]
        for other in self.separators[1:]:
            _refuse_misfit(first, other)
        given = list(dict.fromkeys(name for separator in self.separators for name in separator.sources))
        if not self.sources:
            each = "; ".join(f"{part.name} gives {', '.join(part.sources)}" for part in self.separators)
            raise RecipeError(f"an ensemble is of what all of its parts give, and these share nothing: {each}")
        if left_out := [name for name in given if name not in self.sources]:
            log.warning("%s: only some of the parts give %s, which is left out", self.name, ", ".join(left_out))
        self._weights()

    @property
    def name(self) -> str:
        """Its own, or the separators' names."""
        return self.label or " + ".join(separator.name for separator in self.separators)

    @property
    def identity(self) -> str:
        """A hash of the separators' and the weights."""
        return _hash("ensemble", [part.identity for part in self.separators], self._weights().tolist())

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.separators[0].sample_rate

    @property
    def channels(self) -> int:
        """Of the mixture and of each source."""
        return self.separators[0].channels

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out."""
        first, *others = (separator.sources for separator in self.separators)
        return tuple(name for name in first if all(name in sources for sources in others))

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        weights = self._weights()[:, :, None, None]
        copies = forked(checked(blocks, self.channels, self.name), len(self.separators))
        streams = [separator.stream(copy) for separator, copy in zip(self.separators, copies, strict=True)]
        orders = [[part.sources.index(name) for name in self.sources] for part in self.separators]
        for parts in in_step(streams):
            weighted = zip(weights, parts, orders, strict=True)
            yield np.sum([weight * part[order] for weight, part, order in weighted], axis=0, dtype=np.float32)

    def _weights(self) -> Audio:
        """Weights [shape=(separators, sources)] that sum to one over the separators."""
        given = [1.0] * len(self.separators) if self.weights is None else self.weights
        if len(given) != len(self.separators):
            raise RecipeError(
                f"there are {len(self.separators)} separators and {len(given)} weights: give one to each"
            )
        rows = [self._row(weight) for weight in given]
        weights = np.array(rows, np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise RecipeError(f"weights are {list(given)}: they must be finite and at least 0")
        sums = weights.sum(axis=0)
        if not sums.all():
            name = self.sources[int(np.argmin(sums))]
            raise RecipeError(f"weights are {list(given)}: '{name}' has none above 0")
        normalised: Audio = (weights / sums).astype(np.float32)
        return normalised

    def _row(self, weight: float | Mapping[str, float]) -> list[float]:
        if not isinstance(weight, Mapping):
            return [weight] * len(self.sources)
        for name in weight:
            if name not in self.sources:
                raise RecipeError(f"a weight is for '{name}'{did_you_mean(name, self.sources)}, which is no source")
        if missing := [name for name in self.sources if name not in weight]:
            raise RecipeError(f"weights by source lack {', '.join(missing)}: name every source, with 0 for none")
        return [weight[name] for name in self.sources]


@dataclass(frozen=True)
class Cascade:
    """One separator behind another: what the first takes is gone from what the second hears.

    Itself a `separators.separator.Separator`, of the taken source and those of the second.

    Parameters
    ----------
    first, second : Separator
        Of one rate and the same channels.
    take : str
        The source of the first that is kept and subtracted from the mixture.
    name_taken : str, optional
        What it is called in the cascade: `take` by default. A vocals model's vocals may be a film's dialogue.

    Raises
    ------
    RecipeError
        The separators do not fit together, or there is no such source, or the second has one of that name too.
    """

    first: Separator
    second: Separator
    take: str
    name_taken: str | None = None

    def __post_init__(self) -> None:
        _refuse_misfit(self.first, self.second)
        if self.take not in self.first.sources:
            raise RecipeError(
                f"take is '{self.take}'{did_you_mean(self.take, self.first.sources)}: {self.first.name} gives "
                f"{', '.join(self.first.sources)}"
            )
        if self.sources[0] in self.second.sources:
            raise RecipeError(
                f"both separators of a cascade would give '{self.sources[0]}': name the taken one otherwise "
                "(name_taken), or choose a second separator of other sources"
            )

    @property
    def name(self) -> str:
        """The separators' names."""
        return f"{self.first.name}, then {self.second.name}"

    @property
    def identity(self) -> str:
        """A hash of the separators' and of what is taken."""
        return _hash("cascade", self.first.identity, self.take, self.sources, self.second.identity)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.first.sample_rate

    @property
    def channels(self) -> int:
        """Of the mixture and of each source."""
        return self.first.channels

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out: the taken one first."""
        return (self.name_taken or self.take, *self.second.sources)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`."""
        row = self.first.sources.index(self.take)
        heard, mixture = forked(checked(blocks, self.channels, self.name), 2)
        given, subtracted = forked((sources[row] for sources in self.first.stream(heard)), 2)
        rest = (whole - taken for whole, taken in in_step([mixture, subtracted]))
        for taken, others in in_step([given, self.second.stream(rest)]):
            yield np.concatenate([taken[None], others])


def _refuse_misfit(first: Separator, other: Separator) -> None:
    for field in ("sample_rate", "channels"):
        ours, theirs = getattr(first, field), getattr(other, field)
        if ours != theirs:
            raise RecipeError(
                f"{first.name} has {field} {ours}, and {other.name} {theirs}: bring one to the other's: in a YAML "
                f"file {{separator: '{other.name}', sample_rate: {first.sample_rate}, channels: {first.channels}}} "
                f"in place of '{other.name}', in Python Resampled(separator, {first.sample_rate}, {first.channels})"
            )


def _hash(*facts: object) -> str:
    return hashlib.blake2b(json.dumps([_VERSION, *facts]).encode(), digest_size=16).hexdigest()
