"""Pitch and tempo, by the Signalsmith stretch library (MIT; the package python-stretch).

`repitch` changes both at once, as the remixing of Demucs does: a pitch within +-2 semitones and a tempo from a
normal distribution of 5 %, held within 12 % (its recipe draws whole semitones: `whole_semitones`). `tempo`
changes the speed alone. Faster material needs more frames than it returns: ``ceil(num_frames * rate) + 1``.

References
----------
A. Defossez, N. Usunier, L. Bottou, F. Bach, "Music source separation in the waveform domain", arXiv 1911.13254
(after A. Cohen-Hadria, A. Roebel, G. Peeters, EUSIPCO 2019). G. Luff, "The design of Signalsmith
Stretch", 2023.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np

from augment.distributions import Distribution, draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Repitch", "Tempo"]

_SLOWEST, _FASTEST = 0.25, 4.0


class Repitch(Rule):
    """Change the pitch, and the tempo a little."""

    semitones: Annotated[Range, within(-24, 24)] = (-2.0, 2.0)
    """How much higher, drawn uniformly."""

    whole_semitones: bool = False
    """Draw whole numbers only, each from the first to the last as likely."""

    tempo_percent: Distribution = Distribution(normal=(0.0, 5.0), clip=(-12.0, 12.0))
    """How much faster."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `semitones` and `rate` (1 is the same tempo, 2 twice as fast)."""
        low, high = self.semitones
        if self.whole_semitones and math.ceil(low) <= math.floor(high):
            semitones = float(rng.integers(math.ceil(low), math.floor(high) + 1))
        else:
            semitones = draw_uniform(rng, self.semitones)
        return {"semitones": semitones, "rate": _rate(self.tempo_percent.draw(rng))}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, semitones: float, rate: float) -> Stack:
        """Shift and stretch all that comes in."""
        return _processed(stack, sample_rate, semitones, rate)

    @staticmethod
    def input_frames(num_frames: int, *, semitones: float, rate: float) -> int:
        """Frames that become `num_frames`, or hardly more."""
        return _needed(num_frames, rate)


class Tempo(Rule):
    """Change the tempo, not the pitch."""

    tempo_percent: Distribution = Distribution(uniform=(-10.0, 10.0))
    """How much faster."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `rate` (1 is the same tempo, 2 twice as fast)."""
        return {"rate": _rate(self.tempo_percent.draw(rng))}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, rate: float) -> Stack:
        """Stretch all that comes in."""
        return _processed(stack, sample_rate, 0.0, rate)

    @staticmethod
    def input_frames(num_frames: int, *, rate: float) -> int:
        """Frames that become `num_frames`, or hardly more."""
        return _needed(num_frames, rate)


def _rate(percent: float) -> float:
    return min(max(1.0 + percent / 100.0, _SLOWEST), _FASTEST)


def _needed(num_frames: int, rate: float) -> int:
    return num_frames if rate == 1.0 else math.ceil(num_frames * rate) + 1


def _processed(stack: Stack, sample_rate: int, semitones: float, rate: float) -> Stack:
    if semitones == 0.0 and rate == 1.0:
        return stack
    # The library is needed by few recipes, and loading it costs every worker.
    from python_stretch.Signalsmith import Stretch

    outs = []
    for audio in stack:
        stretch = Stretch(0)
        stretch.preset(audio.shape[0], sample_rate)
        stretch.setTransposeSemitones(semitones)
        stretch.setTimeFactor(rate)
        outs.append(np.array(stretch.process(np.ascontiguousarray(audio)), np.float32, ndmin=2))
    return np.stack(outs)
