"""What a transform is: settings that are drawn from, parameters that are stored, audio that follows from them.

A rule holds the settings a person wrote (ranges, probabilities). `Rule.draw` makes of them the parameters of one
application, JSON values that a plan stores. `Rule.apply` renders: it takes the parameters and decides nothing, so
that the same parameters give the same audio, bit for bit. Where a transform needs noise, its parameters hold a
seed.

A stack is float32, shape ``(targets, channels, frames)``: one source event (one target), or all targets of a
mixture, which are transformed with the same draw. The mixture is the sum of the stack afterwards, so that a
transform need not be linear; one that looks at the level looks at the sum's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field

from manifests.recipes import Settings

__all__ = [
    "Range",
    "Rule",
    "Scene",
    "Stack",
    "draw_seed",
    "within",
]

Stack = npt.NDArray[np.float32]


def _pair_if_number(value: object) -> object:
    """One number stands for a range without width."""
    return (value, value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    if low > high:
        raise ValueError(f"the range starts at {low:g} and ends at {high:g}; write the smaller number first")
    return span


Range = Annotated[tuple[float, float], BeforeValidator(_pair_if_number), AfterValidator(_ordered)]
"""Two numbers, ``(low, high)`` with low <= high; a single number is both."""


def within(low: float, high: float = math.inf) -> AfterValidator:
    """Check that a range lies inside `low` to `high`, to be used as ``Annotated[Range, within(0, 1)]``.

    Parameters
    ----------
    low, high : float
        Both included.

    Returns
    -------
    pydantic.AfterValidator
    """

    def check(span: tuple[float, float]) -> tuple[float, float]:
        if not low <= span[0] <= span[1] <= high:
            upper = f"to {high:g}" if high < math.inf else "and more"
            raise ValueError(f"the range is {span[0]:g} to {span[1]:g}; allowed are numbers from {low:g} {upper}")
        return span

    return AfterValidator(check)


@dataclass(frozen=True)
class Scene:
    """What a rule may look at when it draws.

    Attributes
    ----------
    num_frames : int
        Length that `Rule.apply` must return.
    sample_rate : int
        In Hz.
    channels : int
        Of the audio that comes in.
    targets : tuple of str
        Names of the stack's first axis; none for a single source event.
    """

    num_frames: int
    sample_rate: int
    channels: int
    targets: tuple[str, ...] = ()

    @property
    def num_targets(self) -> int:
        """Length of the stack's first axis."""
        return max(1, len(self.targets))


class Rule(Settings):
    """Settings of a transform. A subclass adds its own, and says how to draw from them and how to apply a draw."""

    p: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Probability that it is applied. Whoever draws tosses the coin: `draw` assumes that it is applied."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw the parameters of one application.

        Parameters
        ----------
        rng : numpy.random.Generator
            The only source of chance.
        scene : Scene

        Returns
        -------
        dict
            JSON values, to be handed to `apply` by name.
        """
        raise NotImplementedError

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *args: Any, **parameters: Any) -> Stack:
        """Transform audio.

        Parameters
        ----------
        stack : np.ndarray of float32 [shape=(targets, channels, frames)]
            May be overwritten.
        sample_rate : int
            In Hz.
        *args, **parameters
            What `draw` returned, by name; there are no positional ones.

        Returns
        -------
        np.ndarray of float32 [shape=(targets, channels, frames)]
            It may be `stack`. As many frames as came in, unless `input_frames` says otherwise; then at least those
            that it was asked for, and hardly more.
        """
        raise NotImplementedError

    @staticmethod
    def input_frames(num_frames: int, *args: Any, **parameters: Any) -> int:
        """Frames that `apply` needs in order to return `num_frames` that are full of sound.

        Parameters
        ----------
        num_frames : int
            At least 1.
        *args, **parameters
            As for `apply`.

        Returns
        -------
        int
        """
        return num_frames

    @staticmethod
    def output_channels(channels: int, *args: Any, **parameters: Any) -> int:
        """Channels that `apply` makes of `channels`.

        Parameters
        ----------
        channels : int
            At least 1.
        *args, **parameters
            As for `apply`.

        Returns
        -------
        int
        """
        return channels


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a seed from which `Rule.apply` can make its noise.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    int
        0 to 2**32 - 1, which every generator takes, `random` and old numpy too.
    """
    return int(rng.integers(1 << 32))
