"""Separators that need no training: each target is a gain on the mixture, or a band of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from manifests.audio import Audio


class Gains:
    """Gives the mixture times a gain for each source, and counts the frames that it took."""

    __hash__ = None  # type: ignore[assignment]  # as separators that hold arrays

    def __init__(
        self, name: str, gains: dict[str, float], *, sample_rate: int = 8000, channels: int = 2, identity: str = ""
    ) -> None:
        self.name = name
        self.identity = identity or f"gains {sorted(gains.items())}"
        self.sample_rate = sample_rate
        self.channels = channels
        self.gains = gains
        self.frames = 0

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self.gains)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        gains = np.array([*self.gains.values()], np.float32)[:, None, None]
        for block in blocks:
            assert block.dtype == np.float32
            assert block.shape[0] == self.channels
            self.frames += block.shape[1]
            yield self.given(gains * block)

    def given(self, audio: Audio) -> Audio:
        return audio


class Clipping(Gains):
    """Gains that clip, so that what comes out depends on the loudness of what went in."""

    def given(self, audio: Audio) -> Audio:
        return np.clip(audio, -0.1, 0.1)


class Shortening(Gains):
    """Loses the last frame of a block."""

    def given(self, audio: Audio) -> Audio:
        return audio[..., :-1]


class Breaking(Gains):
    """Gives what is not a number."""

    def given(self, audio: Audio) -> Audio:
        return audio * np.float32(np.nan)
