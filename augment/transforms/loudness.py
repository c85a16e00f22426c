"""Levels of a mixture: its loudness, or its sample peak, brought to a drawn value.

The sum of the targets is measured, and all targets get the same gain, so that they still sum to it. Silence stays
silence. Loudness is that of ITU-R BS.1770-4 (`manifests.loudness`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from augment.distributions import Distribution, draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack
from manifests.loudness import LoudnessMeter

__all__ = ["Loudness", "Peak"]


class Loudness(Rule):
    """Bring the sum to a loudness."""

    loudness_lufs: Distribution = Distribution(uniform=(-24.0, -14.0))
    """Such as ``[-24, -14]`` (uniform) or ``{normal: [-20, 3]}``."""

    max_gain_db: Annotated[float, Field(ge=0)] | None = None
    """Sums that would need more than this stay quieter; none: any gain."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `lufs`."""
        drawn: dict[str, Any] = {"lufs": self.loudness_lufs.draw(rng)}
        return drawn if self.max_gain_db is None else {**drawn, "max_gain_db": self.max_gain_db}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, lufs: float, max_gain_db: float = math.inf) -> Stack:
        """Multiply, in place, by what brings the sum to `lufs`.

        Raises
        ------
        AudioError
            If the sum cannot be measured: sample rate, channels, NaN.
        """
        meter = LoudnessMeter(sample_rate, stack.shape[1])
        meter.add(stack.sum(axis=0))
        gain_db = meter.gain_db_to(lufs)
        if gain_db is None:
            return stack
        gain_db = min(gain_db, max_gain_db)
        return np.multiply(stack, np.float32(10.0 ** (gain_db / 20.0)), out=stack)


class Peak(Rule):
    """Bring the sum's sample peak to a level."""

    peak_db: Range = (-1.0, -1.0)
    """In dB of full scale, drawn uniformly."""

    only_down: bool = False
    """Leave sums alone whose peak is lower."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `peak_db`."""
        return {"peak_db": draw_uniform(rng, self.peak_db), "only_down": self.only_down}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, peak_db: float, only_down: bool = False) -> Stack:
        """Multiply, in place, by what brings the sum's peak to `peak_db`."""
        peak = float(np.abs(stack.sum(axis=0)).max(initial=0.0))
        ceiling = 10.0 ** (peak_db / 20.0)
        # Below the smallest normal number there is nothing to hear, and the gain would overflow.
        if peak < np.finfo(np.float32).tiny or (only_down and peak <= ceiling):
            return stack
        return np.multiply(stack, np.float32(min(ceiling / peak, np.finfo(np.float32).max)), out=stack)
