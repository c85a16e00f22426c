"""Many short crops out of many files: what a training loop reads.

`manifests.audio.read` opens a file for every crop. `CropReader` keeps files open, as many as it is told, and
decodes FLAC with dr_flac (in the package `miniaudio`), which is faster than libsndfile. It gives the same
samples, bit for bit, and fails in the same way: whatever the short cut cannot do is done by
`manifests.audio.read`, with its errors.

dr_flac has a trap: a FLAC frame with a wrong checksum is left out without a word, and what follows comes too early.
Where the decoder stands after a crop tells, since each FLAC frame holds its number. That is not in dr_flac's
interface, so it is read from the decoder's memory; a few crops of a known stream prove, once in a process, that it
lies where it is thought to. If it does not, or `miniaudio` is missing, libsndfile decodes.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from manifests.audio import Audio, read
from manifests.containers import wav_data_start
from manifests.errors import TableError
from manifests.paths import resolve

log = logging.getLogger(__name__)

Interleaved: TypeAlias = npt.NDArray[np.float32]

Room: TypeAlias = Callable[[int, int], Interleaved]
"""Memory for so many frames of so many channels."""

_PCM_SUFFIXES = {".wav", ".wave", ".aif", ".aiff"}
_PCM_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}
# beyond 24 bits dr_flac rounds, and libsndfile may round otherwise
_FLAC_MAX_BITS = 24


class CropReader:
    """Reads crops out of many files, and keeps the files open that it read last.

    Not to be shared between threads: each needs its own. Processes may share it: what is pickled are the roots,
    and a fork starts with no open files.

    Parameters
    ----------
    roots : mapping of str to Path
        Folders, by the names that tables use in `root`. Nothing is opened yet.
    max_open_files : int >= 1
        How many files are kept open. FLAC, WAV and AIFF are; other formats are opened for every crop.

    Raises
    ------
    ValueError
        When `max_open_files` is less than 1.

    Examples
    --------
    >>> with CropReader({".": Path("corpus")}) as crops:  # doctest: +SKIP
    ...     audio = crops.read(".", "audio/song/vocals.flac", 44100, 132300)
    """

    def __init__(self, roots: Mapping[str, Path], max_open_files: int = 64) -> None:
        if max_open_files < 1:
            raise ValueError(f"max_open_files is {max_open_files}; at least one file is open to be read")
        self.roots = dict(roots)
        self.max_open_files = max_open_files
        self._start()

    def _start(self) -> None:
        self._handles: OrderedDict[tuple[str, str], _Handle] = OrderedDict()
        self._process = os.getpid()
        self._scratch = np.empty(0, np.float32)

    def read(
        self,
        root: str,
        path: str,
        start_frame: int,
        num_frames: int,
        gain: float = 1.0,
        out: Audio | None = None,
    ) -> Audio:
        """Read a crop.

        Parameters
        ----------
        root : str
            A name of `roots`.
        path : str
            POSIX, relative to the root's folder.
        start_frame : int
            First frame, at least 0, at the file's own rate.
        num_frames : int
            How many frames, at least 1.
        gain : float
            Factor, finite.
        out : np.ndarray [shape=(channels, num_frames)], optional
            float32; written and returned where it has the file's shape. After an error it may hold anything.

        Returns
        -------
        np.ndarray [shape=(channels, num_frames)]
            float32, the caller's own. Full scale is +-1 before the gain. C-contiguous, but for `out`.

        Raises
        ------
        AudioError
            When the file is missing, cannot be decoded, ends before the last frame asked for, or holds NaN or
            infinity in the crop.
        TableError
            When there is no such root, or the path leaves it.
        ValueError
            When `start_frame` is negative or `num_frames` is less than 1.
        """
        if start_frame < 0 or num_frames < 1:
            raise ValueError(f"{path}: cannot read {num_frames} frames from frame {start_frame} on")
        handle = self._handle(root, path)
        if handle is not None:
            frames = handle.frames(start_frame, num_frames, self._room)
            if frames is not None:
                return _planar(frames, gain * handle.scale, out)
            self._handles.pop((root, path)).close()
        audio, _ = read(self._location(root, path), start_frame, num_frames)
        target = audio if out is None or out.shape != audio.shape else out
        return audio if gain == 1 and target is audio else np.multiply(audio, np.float32(gain), out=target)

    def _room(self, num_frames: int, channels: int) -> Interleaved:
        """Memory for interleaved samples, used again and again: fresh memory costs more than copying."""
        size = num_frames * channels
        if len(self._scratch) < size:
            self._scratch = np.empty(size, np.float32)
        return self._scratch[:size].reshape(num_frames, channels)

    def close(self) -> None:
        """Close all files. A later read opens them again."""
        if self._process == os.getpid():
            for handle in self._handles.values():
                handle.close()
        # A fork shares positions with the process that opened the files, and even closing would move them: it
        # lets go of them.
        self._start()

    def __enter__(self) -> CropReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"roots": self.roots, "max_open_files": self.max_open_files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _location(self, root: str, path: str) -> Path:
        if root not in self.roots:
            known = ", ".join(map(repr, self.roots))
            raise TableError(f"root '{root}' of path '{path}' is none of {known}; give its folder in roots")
        return resolve(self.roots[root], path)

    def _handle(self, root: str, path: str) -> _Handle | None:
        """The open file, opened if need be; None where there is no short cut."""
        if self._process != os.getpid():
            self.close()
        key = (root, path)
        handle = self._handles.get(key)
        if handle is not None:
            self._handles.move_to_end(key)
            return handle
        location = self._location(root, path)
        suffix = location.suffix.lower()
        if suffix not in _PCM_SUFFIXES and suffix != ".flac":
            return None
        while len(self._handles) >= self.max_open_files:
            self._handles.popitem(last=False)[1].close()
        kinds = (_FlacFile,) if suffix == ".flac" else (_Wav16File, _PcmFile)
        for kind in kinds:
            handle = kind.open(location)
            if handle is not None:
                self._handles[key] = handle
                return handle
        return None


def _planar(frames: Interleaved | npt.NDArray[np.int16], gain: float, out: Audio | None) -> Audio:
    shape = frames.shape[::-1]
    audio = np.empty(shape, np.float32) if out is None or out.shape != shape else out
    factor = np.float32(gain)
    # channel by channel: over both axes at once numpy's inner loop would be as short as the channels are few
    for channel, samples in zip(audio, frames.T, strict=True):
        np.multiply(samples, factor, out=channel)
    return audio


def is_finite(samples: npt.NDArray[np.float32]) -> bool:
    """Whether no sample is NaN or infinite.

    Parameters
    ----------
    samples : np.ndarray [shape=any]

    Returns
    -------
    bool
    """
    # A sum is NaN or infinite if a sample is; of huge samples it may be without, and a slower look tells.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(samples.sum()) or np.isfinite(samples).all())


class _Wav16File:
    """An open WAV file of 16 bit, read without libsndfile, which converts sample by sample."""

    scale = 1.0 / 32768

    def __init__(self, descriptor: int, data_start: int, num_frames: int, channels: int) -> None:
        self._descriptor = descriptor
        self._data_start = data_start
        self._num_frames = num_frames
        self._channels = channels

    @classmethod
    def open(cls, path: Path) -> _Wav16File | None:
        if not hasattr(os, "preadv") or sys.byteorder != "little":
            return None
        try:
            info = soundfile.info(os.fsencode(path) if os.name == "posix" else os.fspath(path))
            start = wav_data_start(path)
            if (info.format, info.subtype) not in (("WAV", "PCM_16"), ("WAVEX", "PCM_16")) or start is None:
                return None
            return cls(os.open(path, os.O_RDONLY), start, info.frames, info.channels)
        except (soundfile.LibsndfileError, OSError):
            return None

    def frames(self, start_frame: int, num_frames: int, room: Room) -> npt.NDArray[np.int16] | None:
        """Samples [shape=(num_frames, channels)]. None where they cannot be had."""
        if start_frame + num_frames > self._num_frames:
            return None
        count = num_frames * self._channels
        samples = room(num_frames, self._channels).reshape(-1).view(np.int16)[:count]
        delivered = os.preadv(self._descriptor, [samples.data], self._data_start + 2 * start_frame * self._channels)
        return samples.reshape(num_frames, self._channels) if delivered == 2 * count else None

    def close(self) -> None:
        os.close(self._descriptor)


class _PcmFile:
    """An open WAV or AIFF file."""

    scale = 1.0

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.channels: int = file.channels

    @classmethod
    def open(cls, path: Path) -> _PcmFile | None:
        try:
            file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else os.fspath(path))
        except (soundfile.LibsndfileError, OSError):
            return None
        if file.format not in ("WAV", "WAVEX", "RF64", "AIFF") or file.subtype not in _PCM_SUBTYPES:
            file.close()
            return None
        return cls(file)

    def frames(self, start_frame: int, num_frames: int, room: Room) -> Interleaved | None:
        """Samples [shape=(num_frames, channels)]. None where they cannot be had."""
        if start_frame + num_frames > self._file.frames:
            return None
        frames = room(num_frames, self.channels)
        try:
            self._file.seek(start_frame)
            delivered = len(self._file.read(out=frames))
        except soundfile.LibsndfileError:
            return None
        is_whole = delivered == num_frames and (self._file.subtype.startswith("PCM") or is_finite(frames))
        return frames if is_whole else None

    def close(self) -> None:
        self._file.close()


class _FlacFile:
    """A FLAC file, open in dr_flac."""

    scale = 1.0

    def __init__(self, decoder: _DrFlac, stream: Any) -> None:
        self._decoder = decoder
        self._stream = stream
        self.channels: int = stream.channels

    @classmethod
    def open(cls, path: Path) -> _FlacFile | None:
        decoder = _dr_flac()
        if decoder is None or not path.is_file():  # a pipe would block for ever
            return None
        stream = decoder.lib.ma_dr_flac_open_file(os.fsencode(path), decoder.ffi.NULL)
        if stream == decoder.ffi.NULL:
            return None
        if stream.channels < 1 or stream.bitsPerSample > _FLAC_MAX_BITS:
            decoder.lib.ma_dr_flac_close(stream)
            return None
        return cls(decoder, stream)

    def frames(self, start_frame: int, num_frames: int, room: Room) -> Interleaved | None:
        """Samples [shape=(num_frames, channels)]. None where they cannot be had."""
        frames = room(num_frames, self.channels)
        return frames if self._decoder.fill(self._stream, start_frame, frames) else None

    def close(self) -> None:
        self._decoder.lib.ma_dr_flac_close(self._stream)


_Handle: TypeAlias = _Wav16File | _PcmFile | _FlacFile


class _DrFlac:
    """dr_flac's functions, and where its decoder stands.

    From `totalPCMFrameCount` on, `ma_dr_flac` (version 0.12 and 0.13) holds: container (uint32), number of seek
    points (uint32), then the current frame's header: first sample if block sizes vary (uint64), number of the frame
    (uint32), rate (uint32), block size (uint16), 6 bytes; then the samples that are left of the frame (uint32).
    """

    def __init__(self) -> None:
        from miniaudio import ffi, lib

        self.ffi, self.lib = ffi, lib
        self._header_offset = ffi.offsetof("ma_dr_flac", "totalPCMFrameCount") + 16

    def fill(self, stream: Any, start_frame: int, frames: Interleaved) -> bool:
        end = start_frame + len(frames)
        if end > stream.totalPCMFrameCount or not self.lib.ma_dr_flac_seek_to_pcm_frame(stream, start_frame):
            return False
        samples = self.ffi.cast("float *", frames.ctypes.data)
        delivered = self.lib.ma_dr_flac_read_pcm_frames_f32(stream, len(frames), samples)
        return bool(delivered == len(frames) and self._position(stream) == end)

    def _position(self, stream: Any) -> int:
        header = self.ffi.cast("char *", stream) + self._header_offset
        first = self.ffi.cast("uint64_t *", header)[0]
        number = self.ffi.cast("uint32_t *", header + 8)[0]
        size = self.ffi.cast("uint16_t *", header + 16)[0]
        left = self.ffi.cast("uint32_t *", header + 24)[0]
        return int((first or number * stream.maxBlockSizeInPCMFrames) + size - left)

    def knows_its_position(self) -> bool:
        """Read crops of a stream of three FLAC frames, and see whether the position follows."""
        file = io.BytesIO()
        known = np.arange(10_000, dtype=np.int16)
        soundfile.write(file, known, 8000, format="FLAC", subtype="PCM_16")
        data = file.getvalue()
        stream = self.lib.ma_dr_flac_open_memory(data, len(data), self.ffi.NULL)
        if stream == self.ffi.NULL:
            return False
        try:
            for start, count in ((4095, 1), (0, 1), (5000, 100), (9000, 1000), (4000, 5000), (0, 10_000)):
                frames = np.empty((count, 1), np.float32)
                expected = known[start : start + count] / np.float32(32768)
                if not self.fill(stream, start, frames) or not np.array_equal(frames[:, 0], expected):
                    return False
        finally:
            self.lib.ma_dr_flac_close(stream)
        return True


@functools.cache
def _dr_flac() -> _DrFlac | None:
    """The decoder, if it is there and can be relied on."""
    try:
        decoder = _DrFlac()
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        log.warning("FLAC is read by libsndfile, which takes longer: miniaudio cannot be used (%s)", error)
        return None
    if not decoder.knows_its_position():
        log.warning(
            "FLAC is read by libsndfile, which takes longer: this version of miniaudio keeps its position elsewhere"
        )
        return None
    return decoder
