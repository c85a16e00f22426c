"""The files of a song, decoded side by side and added up, in blocks, so that memory does not grow with the song.

Parts of a file, `Sound.spans`, set in and fade out by raised cosines of `FADE_S` that are centred on their ends:
the shares of neighbouring parts sum to one, so that what is taken apart sums to the file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from manifests.audio import Audio, AudioInfo, blocks
from manifests.errors import AudioError

CEILING = 0.999
"""The peak that a song is brought to when a file of it would pass full scale."""

FADE_S = 0.02
"""From nothing to all of a sound, at the ends of its parts."""

_BLOCK_FRAMES = 1 << 17
_INTEGER_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
_SHALLOW_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "ALAC_16"}

Key = TypeVar("Key")


@dataclass(frozen=True)
class Sound:
    """An audio file, what it holds, and what of it is taken.

    Attributes
    ----------
    path : Path
    info : AudioInfo
    matrix : tuple of tuple of float, optional
        For each channel that comes out, what of each channel of the file it has; as they are by default.
    spans : tuple of (float, float), optional
        In seconds, in order and apart: the rest is silence; all of it by default.
    """

    path: Path
    info: AudioInfo
    matrix: tuple[tuple[float, ...], ...] | None = None
    spans: tuple[tuple[float, float], ...] | None = None

    @property
    def channels(self) -> int:
        """That come out."""
        return self.info.channels if self.matrix is None else len(self.matrix)

    @property
    def is_whole(self) -> bool:
        """Whether it comes out as it is."""
        return self.matrix is None and self.spans is None

    @property
    def is_integer(self) -> bool:
        """Whether its samples are whole steps, which full scale bounds."""
        return self._subtype in _INTEGER_SUBTYPES

    @property
    def is_shallow(self) -> bool:
        """Whether 16 bit hold its samples."""
        return self._subtype in _SHALLOW_SUBTYPES

    @property
    def _subtype(self) -> str:
        """How the samples are stored, in libsndfile's words; empty for what it cannot read, which is lossy."""
        try:
            return str(soundfile.info(os.fsencode(self.path)).subtype)
        except soundfile.LibsndfileError:
            return ""

    def is_target(self, shape: Shape, suffixes: Collection[str]) -> bool:
        """Whether it has the shape of a target, in a format that the target takes."""
        found = Shape(self.info.num_frames, self.info.channels, self.info.sample_rate)
        return self.is_whole and found == shape and self.path.suffix.lower() in suffixes


@dataclass(frozen=True)
class Shape:
    """Length in frames, channels, and rate in Hz of all files of a song, as they are written."""

    num_frames: int
    channels: int
    sample_rate: int


def resampled_frames(num_frames: int, sample_rate: int, new_rate: int) -> int:
    """Length of audio at another rate, to the nearest frame, and one at least."""
    return max(1, (2 * num_frames * new_rate + sample_rate) // (2 * sample_rate))


def side_by_side(sounds: Mapping[Key, Sequence[Sound]], shape: Shape) -> Iterator[dict[Key, Audio]]:
    """Decode the files of a song together.

    Parameters
    ----------
    sounds : mapping of key to sequence of Sound
        What to add up for each key; nothing gives silence. A file is decoded once, however often it is named.
    shape : Shape
        Of all that comes: zeros follow a file that is shorter, a mono file is put on every channel, a file of
        another rate is resampled (soxr, very high quality, linear phase).

    Yields
    ------
    dict of key to np.ndarray [shape=(channels, frames)]
        float32 blocks, equally long.

    Raises
    ------
    AudioError
        When a file cannot be decoded, or is longer than `shape`.
    """
    num_frames, channels = shape.num_frames, shape.channels
    streams = {sound: _stream(sound, shape.sample_rate) for group in sounds.values() for sound in group}
    for start in range(0, num_frames, _BLOCK_FRAMES):
        length = min(_BLOCK_FRAMES, num_frames - start)
        chunks = {sound: _fitted(sound, next(stream, None), channels, length) for sound, stream in streams.items()}
        yield {key: _total([chunks[sound] for sound in group], channels, length) for key, group in sounds.items()}
    for sound, stream in streams.items():
        if next(stream, None) is not None:  # and only an exhausted stream proves that its file is whole
            raise AudioError(
                f"{sound.path}: delivers more than {num_frames} frames, which its header promised; rewrite it"
            )


def _stream(sound: Sound, sample_rate: int) -> Iterator[Audio]:
    """Blocks of a file at a rate, all of one length but for the last."""
    if sound.info.sample_rate == sample_rate:
        yield from _parts(sound)
        return
    wanted = resampled_frames(sound.info.num_frames, sound.info.sample_rate, sample_rate)
    held = np.zeros((sound.info.channels, 0), np.float32)
    for piece in _resampled(sound, sample_rate):
        held = np.concatenate([held, piece], axis=1)
        while held.shape[1] >= _BLOCK_FRAMES and wanted >= _BLOCK_FRAMES:
            yield held[:, :_BLOCK_FRAMES]
            held, wanted = held[:, _BLOCK_FRAMES:], wanted - _BLOCK_FRAMES
    if wanted:  # the resampler's own rounding may be a frame off
        yield np.pad(held, ((0, 0), (0, max(0, wanted - held.shape[1]))))[:, :wanted]


def _resampled(sound: Sound, sample_rate: int) -> Iterator[Audio]:
    channels = sound.info.channels
    resampler = soxr.ResampleStream(sound.info.sample_rate, sample_rate, channels, dtype="float32", quality="VHQ")
    for block in _parts(sound):
        yield resampler.resample_chunk(np.ascontiguousarray(block.T)).T
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


def _parts(sound: Sound) -> Iterator[Audio]:
    """Blocks of a file, silent outside of its spans."""
    start = 0
    for block in blocks(sound.path, _BLOCK_FRAMES):
        yield block if sound.spans is None else block * _share(sound, sound.spans, start, block.shape[1])
        start += block.shape[1]


def _share(sound: Sound, spans: Sequence[tuple[float, float]], start: int, length: int) -> Audio:
    """How much is taken of each frame, 0 to 1."""
    times = np.arange(start, start + length) / sound.info.sample_rate
    end_s = sound.info.num_frames / sound.info.sample_rate

    def passed(place_s: float) -> npt.NDArray[np.float64]:
        """From 0 to 1 at a place; the file's own ends need no fade."""
        if place_s <= 0 or place_s >= end_s:
            return np.full(length, float(place_s <= 0))
        return 0.5 + 0.5 * np.sin(np.pi * np.clip((times - place_s) / FADE_S, -0.5, 0.5))

    share = np.zeros(length)
    for first_s, last_s in spans:
        if first_s - FADE_S < times[-1] and last_s + FADE_S > times[0]:
            share += passed(first_s) - passed(last_s)
    return share.astype(np.float32)


def _fitted(sound: Sound, chunk: Audio | None, channels: int, length: int) -> Audio:
    if chunk is None:
        return np.zeros((channels, length), np.float32)
    if chunk.shape[1] > length:
        raise AudioError(f"{sound.path}: delivers more frames than its header promised; rewrite it")
    if sound.matrix is not None:
        chunk = np.asarray(sound.matrix, np.float32) @ chunk
    if len(chunk) != channels:
        chunk = np.repeat(chunk, channels, axis=0)
    return chunk if chunk.shape[1] == length else np.pad(chunk, ((0, 0), (0, length - chunk.shape[1])))


def _total(chunks: Sequence[Audio], channels: int, length: int) -> Audio:
    """Their sum, exact for files of up to 24 bit as long as it stays within full scale."""
    if len(chunks) == 1:
        return chunks[0]
    total = np.zeros((channels, length))
    for chunk in chunks:
        total += chunk
    return total.astype(np.float32)


def full_scale_gain(sounds: Mapping[Path, Sequence[Sound]], shape: Shape, *, take: Collection[str]) -> float:
    """The gain that keeps every file of a song within full scale.

    Parameters
    ----------
    sounds : mapping of Path to sequence of Sound
        As for `placing.place`.
    shape : Shape
        Of all targets.
    take : collection of str
        As for `placing.place`.

    Returns
    -------
    float
        1 when nothing that is to be encoded passes full scale, else `CEILING` over the song's highest peak.

    Raises
    ------
    AudioError
        When a file cannot be decoded.
    """
    unbounded = {
        target: group
        for target, group in sounds.items()
        if len(group) > 1
        or (group and not (group[0].is_integer and group[0].info.sample_rate == shape.sample_rate))
    }
    encoded = {
        target for target, group in unbounded.items() if len(group) > 1 or not group[0].is_target(shape, take)
    }
    if not encoded:
        return 1.0
    peaks = dict.fromkeys(unbounded, 0.0)
    for chunks in side_by_side(unbounded, shape):
        for target, chunk in chunks.items():
            peaks[target] = max(peaks[target], float(np.abs(chunk).max()))
    return 1.0 if max(peaks[target] for target in encoded) <= 1 else CEILING / max(peaks.values())
