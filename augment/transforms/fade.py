"""Fades at the start and at the end: raised cosines, or quarters of a sine.

The sine goes from 0 to 1, both included, as in scaper: power is constant where one sound fades into another.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from augment.distributions import draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Fade"]

Shape: TypeAlias = Literal["cosine", "sine"]


class Fade(Rule):
    """Fade in and out; a fade that is longer than the audio is shortened to it."""

    in_s: Annotated[Range, within(0)] = (0.0, 0.0)
    """Length of the fade in, drawn uniformly; 0: none."""

    out_s: Annotated[Range, within(0)] = (0.0, 0.0)
    """Length of the fade out, drawn uniformly; 0: none."""

    shape: Shape = "cosine"
    """`cosine`: half a period, which sums to 1 with its reverse; `sine`: a quarter of one, as scaper fades."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `in_frames` and `out_frames`."""
        drawn = {
            "in_frames": round(draw_uniform(rng, self.in_s) * scene.sample_rate),
            "out_frames": round(draw_uniform(rng, self.out_s) * scene.sample_rate),
        }
        return drawn if self.shape == "cosine" else {**drawn, "shape": self.shape}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, in_frames: int, out_frames: int, shape: Shape = "cosine") -> Stack:
        """Multiply the ends, in place."""
        num_frames = stack.shape[-1]
        if rise := min(in_frames, num_frames):
            stack[..., :rise] *= _rise(rise, shape)
        if fall := min(out_frames, num_frames):
            stack[..., num_frames - fall :] *= _rise(fall, shape)[::-1]
        return stack


def _rise(num_frames: int, shape: Shape) -> npt.NDArray[np.float32]:
    """The cosine goes from nearly 0 to nearly 1, symmetric: with its reverse it sums to 1."""
    if shape == "sine":
        return np.sin(np.linspace(0.0, np.pi / 2, num_frames)).astype(np.float32)
    phases = (np.arange(num_frames) + 0.5) / num_frames
    return (0.5 - 0.5 * np.cos(np.pi * phases)).astype(np.float32)
