"""Gains: one for all targets, or one for each.

Parameters hold factors, not dB, so that a linear draw and one in dB are applied alike.

References
----------
Linear gain from 0.25 to 1.25 for each source: F.-R. Stoeter et al., "Open-Unmix", JOSS 4(41), 2019; also in A.
Defossez et al., arXiv 1911.13254. Remixing within +-9 dB and scaling within +-10 dB: L. Pretet, R. Hennequin, J.
Royo-Letelier, A. Vaglio, "Singing voice separation: a study on training data", ICASSP 2019, section 4.1.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from pydantic import model_validator

from augment.distributions import draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Gain", "Remix", "Scale"]


class Gain(Rule):
    """One gain for all that comes in, drawn uniformly as a factor or in dB."""

    gain: Annotated[Range, within(0)] | None = None
    """Factors; with `gain_db` left out as well: 0.25 to 1.25."""

    gain_db: Range | None = None
    """The same in dB, instead of `gain`."""

    @model_validator(mode="after")
    def _refuse_both(self) -> Self:
        if self.gain is not None and self.gain_db is not None:
            raise ValueError("gain and gain_db are both given; keep one of them")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `gain`, a factor."""
        if self.gain_db is not None:
            return {"gain": _factor(draw_uniform(rng, self.gain_db))}
        return {"gain": draw_uniform(rng, self.gain or (0.25, 1.25))}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, gain: float) -> Stack:
        """Multiply, in place."""
        return np.multiply(stack, np.float32(gain), out=stack)


class Scale(Rule):
    """One gain for all targets, log-uniform within +-10 dB."""

    gain_db: Range = (-10.0, 10.0)
    """Drawn uniformly in dB."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `gain`, a factor."""
        return {"gain": _factor(draw_uniform(rng, self.gain_db))}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, gain: float) -> Stack:
        """Multiply, in place."""
        return np.multiply(stack, np.float32(gain), out=stack)


class Remix(Rule):
    """A gain of its own for each target, log-uniform within +-9 dB."""

    gain_db: Range = (-9.0, 9.0)
    """Drawn uniformly in dB, for each target."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `gains`, a factor for each target."""
        return {"gains": [_factor(draw_uniform(rng, self.gain_db)) for _ in range(scene.num_targets)]}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, gains: list[float]) -> Stack:
        """Multiply each target, in place.

        Raises
        ------
        ValueError
            If there are not as many gains as targets.
        """
        if len(gains) != len(stack):
            raise ValueError(f"{len(gains)} gains for {len(stack)} targets; expected one for each")
        return np.multiply(stack, np.array(gains, np.float32)[:, None, None], out=stack)


def _factor(gain_db: float) -> float:
    return float(10.0 ** (gain_db / 20.0))
