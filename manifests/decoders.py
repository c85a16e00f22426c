"""The two decoders behind `manifests.audio`: libsndfile, and FFmpeg (through PyAV) for m4a, mp4 and aac.

A decoder gives a `Source`: what the file is, and a function that streams it from any frame on. Nothing here
trusts a header for an allocation: chunks hold what was delivered, never what was announced. One file is
always decoded by the same decoder, since two decoders disagree on an encoder's delay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from manifests.containers import mpeg_length, ogg_last_page_start, refuse_cut_short, refuse_protected
from manifests.errors import AudioError

if TYPE_CHECKING:
    import av

Audio: TypeAlias = npt.NDArray[np.float32]
"""Samples [shape=(channels, frames)], full scale +-1."""


# Seventh-order Ambisonics has 64. A header that claims more is broken, and each block would be huge.
MAX_CHANNELS = 64
_LIBSNDFILE_SUFFIXES = frozenset({".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"})
_FFMPEG_SUFFIXES = frozenset({".m4a", ".mp4", ".aac"})
AUDIO_SUFFIXES: frozenset[str] = _LIBSNDFILE_SUFFIXES | _FFMPEG_SUFFIXES
"""Of files that are looked at, in lower case, with the dot."""


_CODECS = {"WAV": "wav", "WAVEX": "wav", "RF64": "wav", "MPEG_LAYER_III": "mp3", "MPEG_LAYER_II": "mp2"}
_CODECS |= {"MPEG_LAYER_I": "mp1"}
_NO_LENGTH = np.iinfo(np.int64).max
# Decoders swallow up to this much of an MPEG stream (encoder delay, a first frame without its bit reservoir).
_MPEG_SLACK_FRAMES = 4 * 1152
# Decode this much before a crop, and drop it. An MP3 frame borrows bytes from as many as ten small ones
# before it (mpg123 by itself goes back four); an AAC frame overlaps its neighbour, and spectral band
# replication looks further.
_PREROLL_FRAMES = 16 * 1152
_VORBIS_MAX_BLOCK = 8192


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A sound file that seeks only when told to.

    `soundfile` seeks after every read of a seekable file, to where the read ended. In MP3 that is not free,
    and wrong where a frame needs more of those before it than libmpg123 goes back; in FLAC without a length
    it fails.
    """

    def seekable(self) -> bool:
        return False


@dataclasses.dataclass(frozen=True)
class Source:
    """An open audio file.

    Attributes
    ----------
    sample_rate : int
        In Hz.
    channels : int
        At most `MAX_CHANNELS`.
    codec : str
        `wav`, `aiff`, `flac`, `mp3`, `vorbis`, `opus`, `aac`, `alac` ...
    claimed_frames : int or None
        The length that the decoder promises to deliver; None when only decoding tells.
    least_frames : int
        A whole decode that delivers fewer frames than this has lost some.
    chunks : callable
        `chunks(start_frame, num_frames, chunk_frames)` streams arrays [shape=(channels, <= chunk_frames)] of
        float32 from `start_frame` on, `num_frames` in all or to the end (None), fewer when the file ends
        earlier.
    """

    sample_rate: int
    channels: int
    codec: str
    claimed_frames: int | None
    least_frames: int
    chunks: Callable[[int, int | None, int], Iterator[Audio]]


@contextlib.contextmanager
def opened(path: Path, whole: bool) -> Iterator[Source]:
    """Open a file with the decoder that its suffix asks for.

    Parameters
    ----------
    path : Path
        An audio file.
    whole : bool
        True when the length matters, so that the container is checked for missing bytes.

    Yields
    ------
    Source
        Valid inside the `with` block.

    Raises
    ------
    AudioError
        When the file is missing, empty, protected, not audio that the decoder knows, cut short, or has an
        absurd number of channels.
    """
    _require_file(path)
    suffix = path.suffix.lower()
    if suffix in _FFMPEG_SUFFIXES:
        with _opened_by_ffmpeg(path) as source:
            yield source
    elif suffix in _LIBSNDFILE_SUFFIXES:
        with _opened_by_libsndfile(path, whole) as source:
            yield source
    else:
        raise AudioError(f"{path}: suffix '{path.suffix}' is none of {', '.join(sorted(AUDIO_SUFFIXES))}")


def _require_file(path: Path) -> None:
    """Raise unless `path` is a regular file (a pipe would block for ever) with something in it."""
    try:
        if not path.exists():
            raise AudioError(
                f"{path}: no such file; look whether it was moved or its drive is not mounted; a catalogue is "
                "scanned again by the same build command"
            )
        if not path.is_file():
            raise AudioError(f"{path}: not a regular file; give the path of an audio file")
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: zero bytes; copy or download the file again")
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: permission denied; make the file readable (chmod a+r)")


def _refuse_absurd(path: Path, channels: int, sample_rate: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"{path}: its header claims {channels} channels (1 to {MAX_CHANNELS} are read); re-encode it"
        )
    if sample_rate < 1:
        raise AudioError(f"{path}: its header claims a sample rate of {sample_rate} Hz; re-encode it")


@contextlib.contextmanager
def _opened_by_libsndfile(path: Path, whole: bool) -> Iterator[Source]:
    if whole:
        refuse_cut_short(path)
    try:
        # Bytes on POSIX, since a file name there need not be valid UTF-8.
        file = _ForwardFile(os.fsencode(path) if os.name == "posix" else os.fspath(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not audio that libsndfile can read ({error.error_string or error})") from error
    with file:
        _refuse_absurd(path, file.channels, file.samplerate)
        codec = _CODECS.get(file.subtype) or _CODECS.get(file.format)
        codec = codec or (file.subtype if file.format == "OGG" else file.format).lower()
        # FLAC from a pipe does not know its length.
        claimed = None if file.frames >= _NO_LENGTH else file.frames
        least = 0
        if file.format in ("MP3", "MPEG") and whole:
            length = mpeg_length(path)
            if length is not None and not length.declared:
                claimed, least = None, max(0, length.num_frames - _MPEG_SLACK_FRAMES)
        yield Source(file.samplerate, file.channels, codec, claimed, least, _libsndfile_chunks(path, file, codec))


def _libsndfile_chunks(
    path: Path, file: soundfile.SoundFile, codec: str
) -> Callable[[int, int | None, int], Iterator[Audio]]:
    def chunks(start_frame: int, num_frames: int | None, chunk_frames: int) -> Iterator[Audio]:
        end = file.frames if num_frames is None else start_frame + num_frames
        position = _seek_target(path, codec, start_frame)
        try:
            if position:
                file.seek(position)
            while position < end:
                # Up to the crop first, then the crop.
                wanted = (start_frame if position < start_frame else end) - position
                chunk = file.read(min(wanted, chunk_frames), dtype="float32", always_2d=True)
                if not len(chunk):
                    return
                if position >= start_frame:
                    yield np.ascontiguousarray(chunk.T)
                position += len(chunk)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{path}: decoding failed after frame {position} ({error.error_string or error}); "
                "the file is cut short or damaged: copy or download it again, or, if it plays to its end "
                "elsewhere, rewrite it with 'ffmpeg -i IN OUT.flac'"
            ) from error

    return chunks


def _seek_target(path: Path, codec: str, start_frame: int) -> int:
    """The frame to seek to, from which decoding forward reaches `start_frame` exactly."""
    if codec.startswith("mp"):
        return max(0, start_frame - _PREROLL_FRAMES)
    if codec == "vorbis" and start_frame:
        # libvorbis counts back from the end of the page it lands on, and the end of the last page is trimmed.
        return max(0, min(start_frame, ogg_last_page_start(path) - _VORBIS_MAX_BLOCK))
    return start_frame


@contextlib.contextmanager
def _opened_by_ffmpeg(path: Path) -> Iterator[Source]:
    refuse_protected(path)
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"{path}: {path.suffix} needs PyAV, which is missing; pip install 'stemloom[av]'"
        ) from error
    try:
        container = av.open(os.fspath(path))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{path}: not audio that FFmpeg can read ({error}); copy or download it again") from error
    with container:
        if not container.streams.audio:
            raise AudioError(f"{path}: holds no audio stream; remove it from the folder")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(f"{path}: its codec is none that FFmpeg knows; copy or download it again")
        _refuse_absurd(path, stream.codec_context.channels, stream.codec_context.sample_rate)
        # The header may give half of the rate (spectral band replication): the first decoded frame knows.
        try:
            first = next(container.decode(stream), None)
        except av.FFmpegError as error:
            raise AudioError(f"{path}: its first frame cannot be decoded ({error}); copy it again") from error
        if first is None:
            raise AudioError(f"{path}: delivers no audio at all; copy or download it again")
        channels, rate = len(first.layout.channels), first.sample_rate
        _refuse_absurd(path, channels, rate)
        codec = stream.codec_context.name
        least = 0
        if stream.duration and stream.time_base and container.format.name != "aac":
            least = max(0, int(stream.duration * stream.time_base * rate) - _MPEG_SLACK_FRAMES)
        yield Source(rate, channels, codec, None, least, _ffmpeg_chunks(path, container, rate, channels))


def _ffmpeg_chunks(
    path: Path, container: av.container.InputContainer, rate: int, channels: int
) -> Callable[[int, int | None, int], Iterator[Audio]]:
    def chunks(start_frame: int, num_frames: int | None, chunk_frames: int) -> Iterator[Audio]:
        end = None if num_frames is None else start_frame + num_frames
        held: list[Audio] = []
        num_held = 0
        for position, audio in _ffmpeg_frames(path, container, rate, channels, start_frame):
            first = max(0, start_frame - position)
            last = audio.shape[1] if end is None else min(audio.shape[1], end - position)
            if last > first:
                held.append(audio[:, first:last])
                num_held += last - first
            while num_held >= chunk_frames:
                joined = np.concatenate(held, axis=1)
                yield np.ascontiguousarray(joined[:, :chunk_frames])
                held, num_held = [joined[:, chunk_frames:]], num_held - chunk_frames
            if end is not None and position + audio.shape[1] >= end:
                break
        if num_held:
            yield np.concatenate(held, axis=1)

    return chunks


def _ffmpeg_frames(
    path: Path, container: av.container.InputContainer, rate: int, channels: int, start_frame: int
) -> Iterator[tuple[int, Audio]]:
    """Decoded frames with their positions, from some way before `start_frame` on."""
    import av

    stream = container.streams.audio[0]
    # Edit lists make a stream start late, or not at zero: without this every crop is late by as much.
    origin = stream.start_time or 0
    # A bare ADTS stream has no index: FFmpeg would guess from the bit rate, so decode it from the start.
    target = 0 if container.format.name == "aac" else max(0, start_frame - _PREROLL_FRAMES)
    time_base = stream.time_base
    position: int | None = None
    try:
        if target == 0 or time_base is None:
            container.seek(origin, stream=stream)
            position = 0
        else:
            container.seek(origin + int(target / rate / time_base), stream=stream)
        for frame in container.decode(stream):
            if position is None:
                if frame.pts is None or time_base is None:
                    raise AudioError(f"{path}: has no time stamps after a seek; re-encode it")
                position = round((frame.pts - origin) * time_base * rate)
                if position > start_frame:
                    # The seek went too far: this container's index is no help.
                    yield from _ffmpeg_frames(path, container, rate, channels, 0)
                    return
            audio = _as_float32(path, frame)
            if frame.sample_rate != rate or len(audio) != channels:
                raise AudioError(
                    f"{path}: changes at frame {position} from {channels} channels at {rate} Hz to "
                    f"{len(audio)} at {frame.sample_rate} Hz; re-encode it"
                )
            yield position, audio
            position += audio.shape[1]
    except av.FFmpegError as error:
        raise AudioError(
            f"{path}: decoding failed after frame {position or 0} ({error}); "
            "the file is cut short or damaged: copy or download it again"
        ) from error


def _as_float32(path: Path, frame: Any) -> Audio:
    """One frame of PyAV's [shape=(channels, frames)], full scale +-1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind == "f":
        return np.asarray(samples, dtype=np.float32)
    if samples.dtype.kind == "i":
        return np.asarray(samples / -float(np.iinfo(samples.dtype).min), dtype=np.float32)
    raise AudioError(f"{path}: sample format '{frame.format.name}' is not read; re-encode it as 16 or 24 bit")
