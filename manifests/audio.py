"""Audio files: what they hold, reading them whole, by crops or by blocks, and writing them.

Audio in memory is float32 [shape=(channels, frames)], full scale +-1; positions and lengths are integer
frames at the file's own sample rate. Whatever is returned was delivered by the decoder, finite, and as long
as promised: a file that ends early, holds NaN or infinity or is not audio raises `AudioError`, and nothing is
padded. Values beyond full scale are passed on as they are (lossy codecs overshoot; float files may).

WAV, AIFF, FLAC, MP3, Vorbis and Opus are decoded by libsndfile; m4a, mp4 and aac by FFmpeg, which needs the
extra `stemloom[av]`. Crops are sample-exact: a crop equals the same slice of the whole (Opus to 1e-6, since
its decoder converges). FFmpeg's AAC decoder fills "perceptual noise" bands with random numbers; there a crop
is exact in time only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from manifests.decoders import AUDIO_SUFFIXES, Audio, Source, opened
from manifests.errors import AudioError, RecipeError
from manifests.files import replacing

__all__ = [
    "AUDIO_SUFFIXES",
    "Audio",
    "AudioInfo",
    "blocks",
    "content_id",
    "probe",
    "quantise",
    "read",
    "write",
]

_BLOCK_FRAMES = 1 << 18
_WRITE_FRAMES = 1 << 16
_WRITE_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
_FLAC_MAX_CHANNELS = 8
_WAV_MAX_BYTES = (1 << 32) - (1 << 16)


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What an audio file holds.

    Attributes
    ----------
    num_frames : int
        Length in frames, as the decoder delivers it.
    sample_rate : int
        In Hz.
    channels : int
        1 for mono, 2 for stereo ...
    codec : str
        `wav`, `aiff`, `flac`, `mp3`, `vorbis`, `opus`, `aac`, `alac` ...
    """

    num_frames: int
    sample_rate: int
    channels: int
    codec: str


def probe(path: Path) -> AudioInfo:
    """Find out what a file holds.

    Where the header states the length, the container is checked for missing bytes and the last frame is
    decoded; `blocks` or `read` of the whole file proves the rest. Where it does not (m4a, MP3 without a
    length header), the file is decoded once and counted.

    Parameters
    ----------
    path : Path
        An audio file.

    Returns
    -------
    AudioInfo
        Its length, rate, channels and codec.

    Raises
    ------
    AudioError
        When the file is missing, empty, cut short, not audio, or holds no frames.
    """
    with opened(path, whole=True) as source:
        claimed = source.claimed_frames
        if claimed is None:
            claimed = sum(block.shape[1] for block in _checked(path, source, 0, None, _BLOCK_FRAMES))
        else:
            for _ in _checked(path, source, max(0, claimed - 1), None, _BLOCK_FRAMES):
                pass
        return AudioInfo(claimed, source.sample_rate, source.channels, source.codec)


def read(path: Path, start_frame: int = 0, num_frames: int | None = None) -> tuple[Audio, int]:
    """Read a file, or a crop of it without decoding what comes before (but for bare .aac).

    Parameters
    ----------
    path : Path
        An audio file.
    start_frame : int
        First frame to read, at least 0.
    num_frames : int, optional
        How many frames, at least 1; to the end by default.

    Returns
    -------
    audio : np.ndarray [shape=(channels, num_frames)]
        float32, full scale +-1.
    sample_rate : int
        In Hz.

    Raises
    ------
    AudioError
        When the file cannot be decoded, ends before the last frame asked for, or holds NaN or infinity.
    ValueError
        When `start_frame` is negative or `num_frames` is less than 1.
    """
    if start_frame < 0 or (num_frames is not None and num_frames < 1):
        raise ValueError(f"{path}: cannot read {num_frames} frames from frame {start_frame} on")
    block_frames = _BLOCK_FRAMES if num_frames is None else min(num_frames, _BLOCK_FRAMES)
    with opened(path, whole=num_frames is None) as source:
        parts = list(_checked(path, source, start_frame, num_frames, block_frames))
        return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), source.sample_rate


def blocks(path: Path, block_frames: int = _BLOCK_FRAMES) -> Iterator[Audio]:
    """Stream a whole file in bounded memory.

    Parameters
    ----------
    path : Path
        An audio file.
    block_frames : int
        Frames per block, at least 1; the last block may be shorter.

    Yields
    ------
    np.ndarray [shape=(channels, block_frames)]
        float32, full scale +-1.

    Raises
    ------
    AudioError
        As `read`, at the block where the fault shows: only an exhausted iterator proves that a file is whole.
    ValueError
        When `block_frames` is less than 1.
    """
    if block_frames < 1:
        raise ValueError(f"block_frames must be at least 1, not {block_frames}")
    with opened(path, whole=True) as source:
        yield from _checked(path, source, 0, None, block_frames)


def _checked(
    path: Path, source: Source, start_frame: int, num_frames: int | None, block_frames: int
) -> Iterator[Audio]:
    """Pass a source's chunks on, refusing bad samples and, at the end, a short delivery."""
    delivered = 0
    for chunk in source.chunks(start_frame, num_frames, block_frames):
        if not np.isfinite(chunk).all():
            channel, frame = (int(i) for i in np.argwhere(~np.isfinite(chunk))[0])
            raise AudioError(
                f"{path}: sample {chunk[channel, frame]} at frame {start_frame + delivered + frame}, "
                f"channel {channel}; export the file again"
            )
        delivered += chunk.shape[1]
        yield chunk
    end = start_frame + delivered
    if num_frames is not None and delivered < num_frames:
        raise AudioError(
            f"{path}: ends at frame {end}, but frames {start_frame} to {start_frame + num_frames} were asked "
            "for; scan the file again, or copy it again if it was cut short"
        )
    if num_frames is None and (delivered == 0 or end < (source.claimed_frames or source.least_frames)):
        promised = source.claimed_frames or source.least_frames
        raise AudioError(
            f"{path}: the decoder delivered {end} frames, and the file's headers promise {max(promised, 1)}; "
            "the file is cut short, damaged, or without a length header: copy it again, or rewrite it with "
            "'ffmpeg -i IN -c copy OUT'"
        )


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

    Samples are rounded to the nearest step without dither, so that a mixture still equals the sum of its
    stems, and the library's version aside the same audio gives the same bytes.

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
    suffix = path.suffix.lower()
    _refuse_format(path, suffix, channels, num_frames, bit_depth)
    if audio.size == 0:
        raise AudioError(f"{path}: nothing to write: {channels} channels of {num_frames} frames")
    peak = max(float(audio.max()), -float(audio.min()))
    if not peak <= 1.0:
        found = f"peak {peak:.6g} is beyond full scale" if np.isfinite(peak) else "holds NaN or infinity"
        raise AudioError(f"{path}: audio to be written {found}; lower its gain before writing")

    with replacing(path) as file:
        _encode(path, file, audio, sample_rate, suffix, bit_depth)


def _refuse_format(path: Path, suffix: str, channels: int, num_frames: int, bit_depth: int) -> None:
    if suffix not in _WRITE_FORMATS:
        raise RecipeError(f"{path}: suffix '{path.suffix}' cannot be written; use .flac or .wav")
    if bit_depth not in (16, 24):
        raise RecipeError(f"{path}: bit_depth {bit_depth} cannot be written; use 16 or 24")
    if suffix == ".flac" and channels > _FLAC_MAX_CHANNELS:
        raise RecipeError(f"{path}: FLAC holds {_FLAC_MAX_CHANNELS} channels, not {channels}; use .wav")
    num_bytes = channels * num_frames * bit_depth // 8
    if suffix == ".wav" and num_bytes > _WAV_MAX_BYTES:
        raise RecipeError(f"{path}: WAV holds 4 GiB, not {num_bytes} bytes; use .flac")


def _encode(path: Path, file: BinaryIO, audio: Audio, sample_rate: int, suffix: str, bit_depth: int) -> None:
    sink = _Sink(file)
    # libsndfile takes 24 bits from the top of 32.
    dtype, shift = (np.int16, 0) if bit_depth == 16 else (np.int32, 8)
    try:
        with soundfile.SoundFile(
            sink,
            "w",
            samplerate=sample_rate,
            channels=audio.shape[0],
            subtype=f"PCM_{bit_depth}",
            format=_WRITE_FORMATS[suffix],
        ) as encoder:
            for start in range(0, audio.shape[1], _WRITE_FRAMES):
                steps = _steps(audio[:, start : start + _WRITE_FRAMES], bit_depth)
                encoder.write(np.ascontiguousarray(np.left_shift(steps.T.astype(dtype), shift)))
    except (soundfile.LibsndfileError, AssertionError) as error:
        if sink.error is None:
            raise RecipeError(
                f"{path}: {audio.shape[0]} channels at {sample_rate} Hz, {bit_depth} bit "
                f"cannot be written ({error})"
            ) from error
    if sink.error is not None:
        raise sink.error


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


def content_id(path: Path) -> str:
    """Identify a file by its bytes.

    Parameters
    ----------
    path : Path
        Any file.

    Returns
    -------
    str
        32 hexadecimal digits: BLAKE2b with a digest of 16 bytes (RFC 7693).

    Raises
    ------
    AudioError
        When the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror}); check that it exists and is readable"
        ) from error
