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

import numpy as np

from manifests.decoders import AUDIO_SUFFIXES, Audio, Source, opened
from manifests.encoding import quantise, write
from manifests.errors import AudioError

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
        elif claimed == 0:
            raise AudioError(f"{path}: has no audio: its header says 0 frames; export it again, or remove it")
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
        # an Ogg file's length is what its last page says, and a copy says the same
        is_ogg = source.codec in ("vorbis", "opus")
        raise AudioError(
            f"{path}: the decoder delivered {end} frames, and the file's headers promise {max(promised, 1)}; "
            "the file is cut short, damaged, or without a length header: copy it again, or rewrite it with "
            f"'ffmpeg -i IN {'OUT.flac' if is_ogg else '-c copy OUT'}'"
        )


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
