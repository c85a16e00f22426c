"""Streams of blocks of audio: cut alike, read by several, kept on disk while nobody can take them yet.

A block is an array whose last axis is time; what comes before it (channels, sources) is the same in all blocks of a
stream. Nothing here holds more than a few blocks in memory.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from manifests.audio import Audio
from manifests.errors import AudioError, BuildError

__all__ = ["Spool", "checked", "cut", "forked", "in_step"]

_HELD_FRAMES = 1 << 21


def cut(blocks: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """Cut a stream anew.

    Parameters
    ----------
    blocks : iterable of np.ndarray of float32 [shape=(..., frames)]
        Of any lengths.
    frames : int
        At least 1.

    Yields
    ------
    np.ndarray of float32 [shape=(..., frames)]
        All of this length but the last, which may be shorter.
    """
    held: list[Audio] = []
    missing = frames
    for block in blocks:
        start = 0
        while block.shape[-1] - start >= missing:
            held.append(block[..., start : start + missing])
            yield held[0] if len(held) == 1 else np.concatenate(held, axis=-1)
            start, held, missing = start + missing, [], frames
        if start < block.shape[-1]:
            held.append(block[..., start:])
            missing -= block.shape[-1] - start
    if held:
        yield np.concatenate(held, axis=-1)


def in_step(streams: Sequence[Iterable[Audio]]) -> Iterator[tuple[Audio, ...]]:
    """Go through streams of the same length together, however each is cut.

    Parameters
    ----------
    streams : sequence of iterables of np.ndarray [shape=(..., frames)]
        At least one.

    Yields
    ------
    tuple of np.ndarray [shape=(..., frames)]
        The same frames of each stream.

    Raises
    ------
    AudioError
        One ends before another.
    """
    iterators = [iter(stream) for stream in streams]
    held: list[Audio | None] = [None] * len(iterators)
    position = 0
    while True:
        for number, iterator in enumerate(iterators):
            while (block := held[number]) is None or not block.shape[-1]:
                held[number] = next(iterator, None)
                if held[number] is None:
                    break
        parts = [block for block in held if block is not None]
        if not parts:
            return
        if len(parts) < len(held):
            ended = [number for number, block in enumerate(held) if block is None]
            raise AudioError(
                f"of {len(held)} streams, number {ended[0]} ends at frame {position} before the others"
            )
        frames = min(part.shape[-1] for part in parts)
        yield tuple(part[..., :frames] for part in parts)
        held = [part[..., frames:] for part in parts]
        position += frames


def checked(blocks: Iterable[Audio], channels: int, name: str) -> Iterator[Audio]:
    """Pass a mixture on, refusing one of other channels or without frames.

    Parameters
    ----------
    blocks : iterable of np.ndarray [shape=(channels, frames)]
    channels : int
        That there must be.
    name : str
        Of the separator that takes it, for the message.

    Yields
    ------
    np.ndarray [shape=(channels, frames)]
        Those that have frames.

    Raises
    ------
    AudioError
        A block has another shape, or there were no frames in all.
    """
    is_empty = True
    for block in blocks:
        if block.ndim != 2 or block.shape[0] != channels:
            raise AudioError(
                f"{name}: takes blocks of the shape ({channels}, frames), not {block.shape}; wrap it in Resampled "
                "for audio of another rate or number of channels"
            )
        if block.shape[1]:
            is_empty = False
            yield block
    if is_empty:
        raise AudioError(f"{name}: the mixture has 0 frames; give it at least one")


Place: TypeAlias = tuple[int, tuple[int, ...]]


class Spool:
    """Blocks on disk, in a temporary file without a name: it is gone when it is closed, or the process is.

    Float32 as it is: an hour of stereo at 44.1 kHz is 1.3 GB.

    Parameters
    ----------
    folder : Path, optional
        On the disk to use; the system's folder for temporary files by default (``TMPDIR`` changes it).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in __exit__
        self._end = 0
        self._places: list[Place] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, block: Audio) -> Place:
        """Keep a block.

        Parameters
        ----------
        block : np.ndarray of float32 [shape=(..., frames)]

        Returns
        -------
        place
            For `get`.

        Raises
        ------
        BuildError
            The disk refuses.
        """
        place = (self._end, block.shape)
        try:
            self._file.seek(self._end)
            self._end += self._file.write(np.ascontiguousarray(block, dtype=np.float32).data)
            self._file.flush()
        except OSError as error:
            fix = "choose" if self._folder else "let TMPDIR name"
            raise BuildError(
                f"{self._folder or tempfile.gettempdir()}: a temporary file cannot be written ({error.strerror}); "
                f"free some space, or {fix} a folder on another disk"
            ) from error
        self._places.append(place)
        return place

    def get(self, place: Place) -> Audio:
        """A block that was put.

        Parameters
        ----------
        place
            From `put`.

        Returns
        -------
        np.ndarray of float32 [shape=(..., frames)]
        """
        start, shape = place
        self._file.seek(start)
        block = np.empty(shape, np.float32)
        self._file.readinto(block.data)
        return block

    def blocks(self) -> Iterator[Audio]:
        """All blocks, in the order that they were put."""
        for place in self._places:
            yield self.get(place)


def forked(blocks: Iterable[Audio], count: int, held_frames: int = _HELD_FRAMES) -> list[Iterator[Audio]]:
    """Let several read one stream, as `itertools.tee` does, with what lags far behind on disk.

    Parameters
    ----------
    blocks : iterable of np.ndarray of float32 [shape=(..., frames)]
    count : int
        Readers.
    held_frames : int
        A reader that is further behind than this finds the rest in a temporary file.

    Returns
    -------
    list of iterators
    """
    fork = _Fork(iter(blocks), count, held_frames)
    return [fork.reader(number) for number in range(count)]


class _Fork:
    def __init__(self, blocks: Iterator[Audio], count: int, held_frames: int) -> None:
        self._blocks = blocks
        self._queues: list[deque[Audio | Place]] = [deque() for _ in range(count)]
        self._held = [0] * count
        self._most = held_frames
        self._spool: Spool | None = None

    def reader(self, number: int) -> Iterator[Audio]:
        queue = self._queues[number]
        while True:
            if not queue and not self._pull():
                return
            found = queue.popleft()
            if isinstance(found, tuple):
                assert self._spool is not None
                yield self._spool.get(found)
            else:
                self._held[number] -= found.shape[-1]
                yield found

    def _pull(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        place: Place | None = None
        for number, queue in enumerate(self._queues):
            # One block is in memory anyway: a whole file given as a single block is not copied to the disk.
            if self._held[number] + block.shape[-1] <= self._most or not queue:
                queue.append(block)
                self._held[number] += block.shape[-1]
            else:
                self._spool = self._spool or Spool()
                place = place or self._spool.put(block)
                queue.append(place)
        return True
