"""Encoding WAV and FLAC, whole or block by block, so that memory need not grow with the file.

Samples are rounded to the nearest step without dither, so that a mixture still equals the sum of its stems, and
the library's version aside the same audio gives the same bytes. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import numpy as np
import soundfile

from manifests.decoders import Audio
from manifests.errors import AudioError, RecipeError
from manifests.files import replacing

_WRITE_FRAMES = 1 << 16
_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
_FLAC_MAX_CHANNELS = 8
_WAV_MAX_BYTES = (1 << 32) - (1 << 16)


def quantise(audio: Audio, bit_depth: int = 24) -> Audio:
    """Round to the grid of an integer file, to the nearest step and without dither.

    `write` does the same, so that a file reads back as exactly `quantise(audio, bit_depth)`, and sums of
    quantised stems that stay within full scale are on the grid too.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        Within +-1.
    bit_depth : int
        16 or 24.

    Returns
    -------
    np.ndarray [shape=(channels, frames)]
        float32 multiples of 2**(1 - bit_depth) within [-1, 1 - 2**(1 - bit_depth)].
    """
    return _steps(audio, bit_depth) * np.float32(2.0 ** (1 - bit_depth))


def _steps(audio: Audio, bit_depth: int) -> Audio:
    """Audio in steps of the file's grid: whole numbers."""
    full_scale = 2.0 ** (bit_depth - 1)
    # Exact in float32: scaling by a power of two, and at most 24 significant bits.
    steps: Audio = np.rint(audio * np.float32(full_scale)).astype(np.float32, copy=False)
    return np.clip(steps, -full_scale, full_scale - 1)


def write(path: Path, audio: Audio, sample_rate: int, bit_depth: int = 24) -> None:
    """Write FLAC or WAV, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in `.flac` or `.wav`. Parent folders are created, an existing file is replaced.
    audio : np.ndarray [shape=(channels, frames)]
        Finite, within +-1, at least one frame. (+1 itself is stored as one step less.)
    sample_rate : int
        In Hz.
    bit_depth : int
        16 or 24.

    Raises
    ------
    AudioError
        When a sample is not finite or beyond full scale, or there is none.
    RecipeError
        When the format cannot hold the audio.
    BuildError
        When the disk is full or refuses; no partial file is left.
    ValueError
        When `audio` is not two-dimensional.
    """
    if audio.ndim != 2:
        raise ValueError(f"{path}: audio must have shape (channels, frames), not {audio.shape}")
    channels, num_frames = audio.shape
    _refuse_format(path, channels, num_frames, bit_depth)
    if audio.size == 0:
        raise AudioError(f"{path}: nothing to write: {channels} channels of {num_frames} frames")
    peak = max(float(audio.max()), -float(audio.min()))
    if not peak <= 1.0:
        found = f"peak {peak:.6g} is beyond full scale" if np.isfinite(peak) else "holds NaN or infinity"
        raise AudioError(f"{path}: audio to be written {found}; lower its gain before writing")
    with encoding(path, num_frames, sample_rate, channels, bit_depth) as put:
        for start in range(0, num_frames, _WRITE_FRAMES):
            put(audio[:, start : start + _WRITE_FRAMES])


@contextlib.contextmanager
def encoding(
    path: Path, num_frames: int, sample_rate: int, channels: int, bit_depth: int = 24
) -> Iterator[Callable[[Audio], None]]:
    """Open a file that takes blocks of audio.

    Parameters
    ----------
    path : Path
        Ends in `.flac` or `.wav`. Parent folders are created, an existing file is replaced.
    num_frames : int
        How many frames there will be.
    sample_rate : int
        In Hz.
    channels : int
        1 for mono, 2 for stereo ...
    bit_depth : int
        16, 24, or 32 for floats as they are, beyond full scale too, in WAV only. (libsndfile puts the time of
        writing into such files.)

    Yields
    ------
    callable
        Takes one block [shape=(channels, frames)], float32, after the other.

    Raises
    ------
    AudioError
        When a sample is beyond full scale or not finite.
    RecipeError
        When the format cannot hold the audio.
    BuildError
        When the disk is full or refuses; no partial file is left.
    """
    _refuse_format(path, channels, num_frames, bit_depth, (16, 24, 32))
    # libsndfile takes 24 bits from the top of 32.
    dtype, shift = (np.int16, 0) if bit_depth == 16 else (np.int32, 8)
    is_float = bit_depth == 32
    with replacing(path) as file:
        sink = _Sink(file)
        try:
            start = 0

            def put(block: Audio) -> None:
                nonlocal start
                _refuse_beyond(path, block, start, np.inf if is_float else 1.0)
                if is_float:
                    frames = np.ascontiguousarray(block.T, dtype=np.float32)
                else:
                    steps = _steps(block, bit_depth).T.astype(dtype)
                    frames = np.ascontiguousarray(np.left_shift(steps, shift))
                with _undisturbed():
                    encoder.write(frames)
                start += block.shape[1]

            with contextlib.ExitStack() as stack:
                with _undisturbed():
                    encoder = soundfile.SoundFile(
                        sink,
                        "w",
                        samplerate=sample_rate,
                        channels=channels,
                        subtype="FLOAT" if is_float else f"PCM_{bit_depth}",
                        format=_FORMATS[path.suffix.lower()],
                    )
                    stack.callback(_undisturbed()(encoder.close))
                yield put
        except (soundfile.LibsndfileError, AssertionError) as error:
            # soundfile asserts that all frames were taken: on a full disk they are not
            if sink.error is None and isinstance(error, AssertionError):
                raise
            if sink.error is None:
                raise RecipeError(
                    f"{path}: {channels} channels at {sample_rate} Hz, {bit_depth} bit cannot be written ({error})"
                ) from error
        if sink.error is not None:
            raise sink.error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait: libsndfile calls back from C, where a KeyboardInterrupt would be printed and lost."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if waiting:
        handler(signal.SIGINT, waiting[0])


def _refuse_format(
    path: Path, channels: int, num_frames: int, bit_depth: int, depths: tuple[int, ...] = (16, 24)
) -> None:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise RecipeError(f"{path}: suffix '{path.suffix}' cannot be written; use .flac or .wav")
    if bit_depth not in depths:
        raise RecipeError(f"{path}: bit_depth {bit_depth} cannot be written; use 16 or 24")
    if bit_depth == 32 and suffix != ".wav":
        raise RecipeError(f"{path}: 32 bit are floats, which FLAC does not hold; use .wav, or 16 or 24 bit")
    if suffix == ".flac" and channels > _FLAC_MAX_CHANNELS:
        raise RecipeError(f"{path}: FLAC holds {_FLAC_MAX_CHANNELS} channels, not {channels}; use .wav")
    num_bytes = channels * num_frames * bit_depth // 8
    if suffix == ".wav" and num_bytes > _WAV_MAX_BYTES:
        raise RecipeError(f"{path}: WAV holds 4 GiB, not {num_bytes} bytes; use .flac")


def _refuse_beyond(path: Path, block: Audio, start: int, most: float) -> None:
    levels = np.abs(block).max(axis=0, initial=0.0)
    is_wrong = ~(np.isfinite(levels) & (levels <= most))
    if is_wrong.any():
        frame = int(np.flatnonzero(is_wrong)[0])
        raise AudioError(
            f"{path}: sample {levels[frame]:.6g} at frame {start + frame} is beyond full scale or not finite; "
            "lower the gain of what is written"
        )


class _Sink:
    """A file for libsndfile that remembers why it failed.

    libsndfile calls back from C, where an exception would be printed and lost, and reports a full disk in a
    dozen ways or not at all. This keeps the first error for the caller to raise.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            return 0
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            return 0

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self.error = self.error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Do nothing: `replacing` flushes and syncs."""
