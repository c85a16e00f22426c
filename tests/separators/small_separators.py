"""Separators without networks, for tests of what is made of separators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scaled:
    """Each source is the mixture times a factor, given in blocks of 100 frames, `late` frames late."""

    factors: tuple[float, ...] = (1.0,)
    sources: tuple[str, ...] = ("vocals",)
    name: str = "scaled"
    sample_rate: int = 8000
    channels: int = 2
    late: int = 0

    @property
    def identity(self) -> str:
        return f"{self.name} {self.factors} {self.sources}"

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        held = np.zeros((self.channels, 0), np.float32)
        for block in blocks:
            assert block.shape[0] == self.channels
            held = np.concatenate([held, block], axis=1)
            while held.shape[1] > self.late + 100:
                yield self._given(held[:, :100])
                held = held[:, 100:]
        yield self._given(held)

    def _given(self, block: np.ndarray) -> np.ndarray:
        return np.array(self.factors, np.float32)[:, None, None] * block


def blocks_of(audio: np.ndarray, frames: int = 77) -> Iterator[np.ndarray]:
    for start in range(0, audio.shape[-1], frames):
        yield audio[..., start : start + frames]


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return (0.2 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)
