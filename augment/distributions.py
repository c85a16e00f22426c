"""Numbers and counts that a recipe leaves to chance, as a person writes them.

    3.5                                    always 3.5
    [-10, 10]                              uniform; for counts each whole number from the first to the last
    {uniform: [-10, 10]}                   the same
    {log_uniform: [0.25, 4]}               uniform in the logarithm
    {normal: [-27, 4]}                     mean, standard deviation
    {skew_normal: [0, 2, 5]}               location, scale, shape (Azzalini 1985)
    {choice: [8, 12, 16], weights: [1, 2, 1]}
    {poisson: 7}, {zero_truncated_poisson: 7}    counts; the latter is a Poisson variable given that it is not 0

`clip: [low, high]` moves what falls outside to the nearest end.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, SerializationInfo, SerializerFunctionWrapHandler, model_serializer, model_validator

from manifests.recipes import Settings

KINDS = (
    "fixed",
    "uniform",
    "log_uniform",
    "normal",
    "skew_normal",
    "choice",
    "poisson",
    "zero_truncated_poisson",
)
"""What a distribution can be, of which a recipe names one."""


def draw_uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """Draw from a range, every number as likely as any other.

    Parameters
    ----------
    rng : numpy.random.Generator
    span : tuple of float
        ``(low, high)``.

    Returns
    -------
    float
    """
    low, high = span
    return low + (high - low) * rng.random()  # numpy refuses a range from 0.0 to -0.0


def draw_log_uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """Draw from a range of positive numbers, every ratio as likely as any other.

    Parameters
    ----------
    rng : numpy.random.Generator
    span : tuple of float
        ``(low, high)``, both above 0.

    Returns
    -------
    float
    """
    low, high = span
    drawn = math.exp(draw_uniform(rng, (math.log(low), math.log(high))))
    return min(max(drawn, low), high)


class Distribution(Settings):
    """Where a real number comes from. Exactly one kind is set; see the module for how it is written."""

    fixed: float | None = None
    """Always this number; a number alone says the same."""

    uniform: tuple[float, float] | None = None
    """Lowest and highest, every number between them as likely; two numbers alone say the same."""

    log_uniform: tuple[float, float] | None = None
    """Lowest and highest, every ratio as likely; both above 0."""

    normal: tuple[float, Annotated[float, Field(ge=0)]] | None = None
    """Mean and standard deviation."""

    skew_normal: tuple[float, Annotated[float, Field(gt=0)], float] | None = None
    """Location, scale and shape (Azzalini 1985)."""

    choice: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """One of these numbers."""

    poisson: Annotated[float, Field(ge=0)] | None = None
    """A count with this mean."""

    zero_truncated_poisson: Annotated[float, Field(gt=0)] | None = None
    """A Poisson variable with this mean, given that it is not 0."""

    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Of the numbers of `choice`; by default all are as likely."""

    clip: tuple[float, float] | None = None
    """What falls outside is moved to the nearest end."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {"fixed": value}
        if isinstance(value, (list, tuple)):
            return {"uniform": value}
        return value

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"a distribution is one of {', '.join(KINDS)}, and this one is {found}")
        for name in ("uniform", "log_uniform", "clip"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name} {list(pair)} ends before it starts; write [{pair[1]:g}, {pair[0]:g}]")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform {list(self.log_uniform)} must start above 0")
        if self.weights is not None:
            if self.choice is None or len(self.weights) != len(self.choice):
                raise ValueError(f"weights {list(self.weights)} need a choice with as many values")
            if sum(self.weights) <= 0:
                raise ValueError("weights must not all be 0")
        return self

    @model_serializer(mode="wrap")
    def _to_short_form(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        values = {key: value for key, value in dump(self).items() if value is not None}
        return values["fixed"] if list(values) == ["fixed"] else values

    def draw(self, rng: np.random.Generator) -> float:
        """A number.

        Parameters
        ----------
        rng : np.random.Generator

        Returns
        -------
        float
        """
        value = self._drawn(rng)
        return value if self.clip is None else min(max(value, self.clip[0]), self.clip[1])

    def _drawn(self, rng: np.random.Generator) -> float:
        if self.fixed is not None:
            return self.fixed
        if self.uniform is not None:
            return self._uniform(rng, *self.uniform)
        if self.log_uniform is not None:
            return draw_log_uniform(rng, self.log_uniform)
        if self.normal is not None:
            return float(rng.normal(*self.normal))
        if self.skew_normal is not None:
            location, scale, shape = self.skew_normal
            delta = shape / math.sqrt(1 + shape * shape)
            first, second = rng.standard_normal(2)
            return float(location + scale * (delta * abs(first) + math.sqrt(1 - delta * delta) * second))
        if self.choice is not None:
            if self.weights is None:
                return self.choice[int(rng.integers(len(self.choice)))]
            bounds = np.cumsum(self.weights)
            return self.choice[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]
        if self.poisson is not None:
            return float(rng.poisson(self.poisson))
        assert self.zero_truncated_poisson is not None
        # by its inverse: redrawing until it is not 0 never ends where the mean is small
        mean = self.zero_truncated_poisson
        return _poisson_quantile(mean, 1 - (1 - rng.random()) * -math.expm1(-mean))

    def _uniform(self, rng: np.random.Generator, low: float, high: float) -> float:
        return draw_uniform(rng, (low, high))

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest number that can be drawn, infinite where there is none."""
        low, high = self._unclipped_support()
        if self.clip is not None:
            low, high = (min(max(value, self.clip[0]), self.clip[1]) for value in (low, high))
        return low, high

    def _unclipped_support(self) -> tuple[float, float]:
        if self.fixed is not None:
            return self.fixed, self.fixed
        pair = self.uniform or self.log_uniform
        if pair is not None:
            return pair
        if self.choice is not None:
            possible = [
                value for value, weight in zip(self.choice, self.weights or self.choice, strict=True)
                if self.weights is None or weight > 0
            ]  # fmt: skip
            return min(possible), max(possible)
        if self.poisson is not None:
            return 0.0, math.inf
        if self.zero_truncated_poisson is not None:
            return 1.0, math.inf
        return -math.inf, math.inf


class Count(Distribution):
    """Where a whole number of at least 0 comes from. `[0, 3]` is 0, 1, 2 or 3, each as likely."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if any(pair is not None for pair in (self.log_uniform, self.normal, self.skew_normal)):
            raise ValueError("a count is a number, a range, a choice, poisson or zero_truncated_poisson")
        values = [*((self.fixed,) if self.fixed is not None else ()), *(self.uniform or ()), *(self.choice or ())]
        for value in (*values, *(self.clip or ())):
            if value < 0 or value != int(value):
                raise ValueError(f"a count is a whole number of at least 0, not {value:g}")
        return self

    def _uniform(self, rng: np.random.Generator, low: float, high: float) -> float:
        return float(rng.integers(int(low), int(high) + 1))

    def draw_count(self, rng: np.random.Generator) -> int:
        """A whole number.

        Parameters
        ----------
        rng : np.random.Generator

        Returns
        -------
        int
        """
        return int(self.draw(rng))


def _poisson_quantile(mean: float, level: float) -> float:
    """The smallest count of at least 1 at which a Poisson variable's distribution function reaches `level`.

    `level` is above P(0), and a step is at most a few dozen additions for the counts of a mixture.
    """
    count, term = 0, math.exp(-mean)
    total = term
    while total < level and count < mean + 40 * math.sqrt(mean) + 40:
        count += 1
        term *= mean / count
        total += term
    return float(max(count, 1))
