"""Channels exchanged and turned over: left/right swap, polarity, any permutation.

Left and right are channels 0 and 1; further ones stay where they are. Source of the swap with probability 1/2 and
of the polarity flip: S. Uhlich et al., "Improving music source separation based on deep neural networks through
data augmentation and network blending", ICASSP 2017 (swap); A. Defossez et al., "Music source separation in the
waveform domain", arXiv 1911.13254 (both).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from augment.transforms.rule import Rule, Scene, Stack

__all__ = ["ShuffleChannels", "Sign", "Swap"]


class Swap(Rule):
    """Exchange left and right. Mono stays as it is."""

    p: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that it is applied."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Nothing is left to chance but whether."""
        return {}

    @staticmethod
    def apply(stack: Stack, sample_rate: int) -> Stack:
        """Exchange channels 0 and 1, in place."""
        if stack.shape[1] >= 2:
            stack[:, [0, 1]] = stack[:, [1, 0]]
        return stack


class Sign(Rule):
    """Turn the polarity over, of all targets at once."""

    p: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that it is applied."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Nothing is left to chance but whether."""
        return {}

    @staticmethod
    def apply(stack: Stack, sample_rate: int) -> Stack:
        """Multiply by -1, in place."""
        return np.negative(stack, out=stack)


class ShuffleChannels(Rule):
    """Put the channels into any order, the same for all targets."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `order`: for each channel that goes out, the one that came in."""
        # Mono may have become stereo before this is applied.
        return {"order": rng.permutation(max(scene.channels, 2)).tolist()}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, order: list[int]) -> Stack:
        """Take the channels in this order; those that the order has and the stack has not are passed over.

        Raises
        ------
        ValueError
            If the stack has more channels than the order.
        """
        channels = stack.shape[1]
        if channels > len(order):
            raise ValueError(f"order is {order}, and the stack has {channels} channels")
        return np.ascontiguousarray(stack[:, [channel for channel in order if channel < channels]])
