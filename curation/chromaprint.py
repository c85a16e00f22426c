"""Chromaprint: what a recording sounds like, as one 32-bit sub-fingerprint per 0.124 s.

Conventions
-----------
PCM is mono int16 at 11,025 Hz, shape ``(frames,)``; `to_pcm` and `PcmStream` make it from audio of any
rate. A fingerprint is uint32, shape ``(items,)``. Item ``i`` describes the frames from ``i * HOP_FRAMES``
to ``i * HOP_FRAMES + SPAN_FRAMES`` of the PCM, so less than SPAN_FRAMES (2.72 s) gives an empty
fingerprint. The algorithm is Chromaprint's default ("test2", number 2 on fpcalc's command line), over the
whole signal: there is no limit of 120 s as in AcoustID's tools.

Method
------
Frames of 4096 (Hamming window) every 1365 give power spectra; the bins from 28 to 3520 Hz are summed into
12 pitch classes; each class is smoothed over 5 frames and each frame scaled to unit length, or to zero when
it is all but silent. Over every 16 such frames, 16 classifiers each compare two areas of the (time x pitch
class) image and quantise the log ratio to one of four levels: two bits each, in Gray code.

Backends
--------
``'numpy'`` is this module and always there. ``'library'`` is libchromaprint through pyacoustid,
``'fpcalc'`` is Chromaprint's program; both want an installation (Debian: ``libchromaprint1``,
``libchromaprint-tools``). All give the same items. The one caveat is that the library's FFT is in single
precision and depends on how it was built, so that about one item in a million has a bit on the other side
of a threshold. ``'auto'`` is ``'numpy'``: it takes as long as the library (15 ms for three minutes), loads
no foreign code into the process, and makes a build independent of what is installed.

References
----------
Lukáš Lalinský, "How does Chromaprint work?", 2011, https://oxygene.sk/2011/01/how-does-chromaprint-work/
Chromaprint 1.5.1 (MIT licence), https://acoustid.org/chromaprint: the classifiers' areas and thresholds.
Ke, Hoiem, Sukthankar, "Computer vision for music identification", CVPR 2005.
"""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import scipy.fft
import soxr

from manifests.errors import RecipeError, StemloomError

Audio = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]
Fingerprint = npt.NDArray[np.uint32]
"""Sub-fingerprints, in order: 32 bits every 0.124 s."""

Floats = npt.NDArray[np.float64]
Backend = Literal["auto", "numpy", "library", "fpcalc"]

SAMPLE_RATE = 11_025
HOP_FRAMES = 1365
SILENCE = 627_964_279
"""The sub-fingerprint of 2.72 s below about -80 dBFS: it says nothing about the recording."""

_FFT_FRAMES = 4096
_FIRST_BIN, _END_BIN = 10, 1308
_NUM_CLASSES = 12
_SMOOTHING = (0.25, 0.75, 1.0, 0.75, 0.25)
_SILENT_NORM = 0.01
_IMAGE_ROWS = 16

SPAN_FRAMES = _FFT_FRAMES + HOP_FRAMES * (_IMAGE_ROWS + len(_SMOOTHING) - 2)

# Spectra are computed a few at a time, so that they stay in the cache; classifiers run over many at once.
_SPECTRA_PER_FFT = 64
_SPECTRA_PER_BLOCK = 1024
_RESAMPLER_FRAMES = 1 << 16

_INSTALL = {
    "library": "install libchromaprint (Debian: libchromaprint1) and pyacoustid",
    "fpcalc": "install fpcalc (Debian: libchromaprint-tools) on the PATH",
}


@dataclass(frozen=True)
class _Area:
    """A rectangle of the chroma image: rows are frames, columns are pitch classes; the ends are exclusive."""

    row: int
    end_row: int
    column: int
    end_column: int


@dataclass(frozen=True)
class _Classifier:
    """Two bits of a sub-fingerprint: the log ratio of two areas against three thresholds."""

    pattern: int
    column: int
    columns: int
    rows: int
    thresholds: tuple[float, float, float]

    def areas(self) -> tuple[tuple[_Area, ...], tuple[_Area, ...]]:
        """The areas above and below the fraction bar."""
        low, high = self.column, self.column + self.columns
        if self.pattern == 0:  # everything against nothing
            return (_Area(0, self.rows, low, high),), ()
        if self.pattern == 1:  # the higher pitch classes against the lower ones
            middle = low + self.columns // 2
            return (_Area(0, self.rows, middle, high),), (_Area(0, self.rows, low, middle),)
        if self.pattern == 2:  # later against earlier
            half = self.rows // 2
            return (_Area(half, self.rows, low, high),), (_Area(0, half, low, high),)
        if self.pattern == 3:  # one diagonal of a checkerboard against the other
            middle, half = low + self.columns // 2, self.rows // 2
            return (
                (_Area(0, half, middle, high), _Area(half, self.rows, low, middle)),
                (_Area(0, half, low, middle), _Area(half, self.rows, middle, high)),
            )
        if self.pattern == 4:  # the middle third of the pitch classes against the outer ones
            third = self.columns // 3
            return (_Area(0, self.rows, low + third, low + 2 * third),), (
                _Area(0, self.rows, low, low + third),
                _Area(0, self.rows, low + 2 * third, high),
            )
        third = self.rows // 3  # the middle third of the time against the outer ones
        return (_Area(third, 2 * third, low, high),), (
            _Area(0, third, low, high),
            _Area(2 * third, self.rows, low, high),
        )


# From the most significant two bits down.
_CLASSIFIERS = (
    _Classifier(0, 4, 3, 15, (1.98215, 2.35817, 2.63523)),
    _Classifier(4, 4, 6, 15, (-1.03809, -0.651211, -0.282167)),
    _Classifier(1, 0, 4, 16, (-0.298702, 0.119262, 0.558497)),
    _Classifier(3, 8, 2, 12, (-0.105439, 0.0153946, 0.135898)),
    _Classifier(3, 4, 4, 8, (-0.142891, 0.0258736, 0.200632)),
    _Classifier(4, 0, 3, 5, (-0.826319, -0.590612, -0.368214)),
    _Classifier(1, 2, 2, 9, (-0.557409, -0.233035, 0.0534525)),
    _Classifier(2, 7, 3, 4, (-0.0646826, 0.00620476, 0.0784847)),
    _Classifier(2, 6, 2, 16, (-0.192387, -0.029699, 0.215855)),
    _Classifier(2, 1, 3, 2, (-0.0397818, -0.00568076, 0.0292026)),
    _Classifier(5, 10, 1, 15, (-0.53823, -0.369934, -0.190235)),
    _Classifier(3, 6, 2, 10, (-0.124877, 0.0296483, 0.139239)),
    _Classifier(2, 1, 1, 14, (-0.101475, 0.0225617, 0.231971)),
    _Classifier(3, 5, 6, 4, (-0.0799915, -0.00729616, 0.063262)),
    _Classifier(1, 9, 2, 12, (-0.272556, 0.019424, 0.302559)),
    _Classifier(3, 4, 2, 14, (-0.164292, -0.0321188, 0.0846339)),
)
_AREAS = tuple(classifier.areas() for classifier in _CLASSIFIERS)
_THRESHOLDS = np.array([classifier.thresholds for classifier in _CLASSIFIERS]).T[:, :, None]


def _window() -> npt.NDArray[np.float32]:
    phase = 2 * np.pi / (_FFT_FRAMES - 1) * np.arange(_FFT_FRAMES)
    return np.asarray((0.54 - 0.46 * np.cos(phase)) / 32767, dtype=np.float32)


def _class_of_bin() -> Floats:
    """One-hot matrix from spectral bins to pitch classes, which count from A; shape ``(bins, 12)``."""
    frequency = np.arange(_FIRST_BIN, _END_BIN) * SAMPLE_RATE / _FFT_FRAMES
    octave = np.log2(frequency / 27.5)
    pitch_class = (_NUM_CLASSES * (octave - np.floor(octave))).astype(np.intp)
    return np.eye(_NUM_CLASSES)[pitch_class]


_WINDOW = _window()
_CLASS_OF_BIN = _class_of_bin()


def num_items(num_frames: int) -> int:
    """Length of the fingerprint of `num_frames` frames of PCM."""
    return max(0, (num_frames - SPAN_FRAMES) // HOP_FRAMES + 1)


class PcmStream:
    """Audio in blocks to the PCM that a fingerprint is made from: mono, 11,025 Hz, int16.

    The stream holds less than a megabyte, whatever the length of the file, and the result does not depend
    on the size of the blocks. The channels are averaged; the resampler is soxr's HQ, whose delay is taken
    out.

    Parameters
    ----------
    sample_rate : int
        Of the blocks, in Hz.

    Examples
    --------
    >>> stream = PcmStream(44100)
    >>> pcm = np.concatenate([stream.add(np.zeros((2, 44100), np.float32)), stream.finish()])
    >>> pcm.shape
    (11025,)
    """

    def __init__(self, sample_rate: int) -> None:
        if sample_rate <= 0:
            raise ValueError(f"sample_rate is {sample_rate}, expected a positive number of Hz")
        self.sample_rate = sample_rate
        self._resampler = (
            None
            if sample_rate == SAMPLE_RATE
            else soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        )

    def add(self, block: Audio) -> Pcm:
        """Take the next frames, give the PCM that they complete.

        Parameters
        ----------
        block : np.ndarray [shape=(channels, frames)]
            Full scale +-1; what lies beyond is clipped.

        Returns
        -------
        np.ndarray of int16 [shape=(pcm_frames,)]

        Raises
        ------
        ValueError
            If the block is not two-dimensional or has no channel.
        """
        if block.ndim != 2 or block.shape[0] == 0:
            raise ValueError(f"a block has shape {block.shape}, expected (channels, frames)")
        # A long block is resampled piece by piece: its mono version would be one more copy of the file.
        pieces = [
            self._resampled(block[:, start : start + _RESAMPLER_FRAMES].mean(axis=0, dtype=np.float32), False)
            for start in range(0, block.shape[1], _RESAMPLER_FRAMES)
        ]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)

    def finish(self) -> Pcm:
        """Give the PCM that the resampler still held. The stream takes nothing after this."""
        return self._resampled(np.zeros(0, np.float32), True)

    def _resampled(self, mono: npt.NDArray[np.float32], last: bool) -> Pcm:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)


def to_pcm(audio: Audio, sample_rate: int) -> Pcm:
    """Convert whole audio to the PCM that a fingerprint is made from. `PcmStream` does it in blocks.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        Full scale +-1.
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray of int16 [shape=(pcm_frames,)]
        Mono, at SAMPLE_RATE.
    """
    stream = PcmStream(sample_rate)
    return np.concatenate([stream.add(audio), stream.finish()])


class FingerprintStream(Protocol):
    """PCM in blocks of any size to a fingerprint, which does not depend on that size."""

    def add(self, pcm: Pcm) -> None:
        """Take the next frames."""

    def finish(self) -> Fingerprint:
        """Give the whole fingerprint. The stream takes nothing after this."""


def available_backends() -> tuple[str, ...]:
    """Names of the backends that work here, ``'numpy'`` first."""
    present = {"numpy": True, "library": _library() is not None, "fpcalc": shutil.which("fpcalc") is not None}
    return tuple(name for name, works in present.items() if works)


def open_stream(backend: Backend = "auto") -> FingerprintStream:
    """Start a fingerprint whose PCM arrives in blocks.

    ``'numpy'`` and ``'library'`` need a few megabytes, whatever the length; ``'fpcalc'`` keeps the PCM, 80 MB
    an hour.

    Parameters
    ----------
    backend : {'auto', 'numpy', 'library', 'fpcalc'}
        See the module's text.

    Raises
    ------
    RecipeError
        If there is no such backend, or it is not installed.
    """
    if backend in ("auto", "numpy"):
        return _NumpyStream()
    if backend not in _INSTALL:
        known = ", ".join(map(repr, get_args(Backend)))
        raise RecipeError(f"fingerprint backend {backend!r} does not exist; choose one of {known}")
    if backend == "library" and (binding := _library()) is not None:
        return _LibraryStream(binding)
    if backend == "fpcalc" and shutil.which("fpcalc") is not None:
        return _FpcalcStream()
    raise RecipeError(f"fingerprint backend {backend!r} is not installed; use 'numpy', or {_INSTALL[backend]}")


def fingerprint(pcm: Pcm, backend: Backend = "auto") -> Fingerprint:
    """Chromaprint fingerprint of PCM.

    Parameters
    ----------
    pcm : np.ndarray of int16 [shape=(frames,)]
        Mono, at SAMPLE_RATE; see `to_pcm`.
    backend : {'auto', 'numpy', 'library', 'fpcalc'}
        See the module's text.

    Returns
    -------
    np.ndarray of uint32 [shape=(num_items(frames),)]
        Empty when `pcm` is shorter than SPAN_FRAMES.

    Raises
    ------
    ValueError
        If `pcm` is not one-dimensional int16.
    RecipeError
        If there is no such backend, or it is not installed.
    """
    stream = open_stream(backend)
    stream.add(pcm)
    return stream.finish()


def fingerprint_blocks(blocks: Iterable[Audio], sample_rate: int, backend: Backend = "auto") -> Fingerprint:
    """Chromaprint fingerprint of audio that arrives in blocks, in bounded memory.

    Parameters
    ----------
    blocks : iterable of np.ndarray [shape=(channels, frames)]
        Such as those of `manifests.audio.blocks`.
    sample_rate : int
        In Hz.
    backend : {'auto', 'numpy', 'library', 'fpcalc'}
        See the module's text.

    Returns
    -------
    np.ndarray of uint32 [shape=(items,)]
        ``fingerprint(to_pcm(audio, sample_rate))`` of the blocks' concatenation.
    """
    to_mono = PcmStream(sample_rate)
    stream = open_stream(backend)
    for block in blocks:
        stream.add(to_mono.add(block))
    stream.add(to_mono.finish())
    return stream.finish()


def _validate(pcm: Pcm) -> None:
    if pcm.ndim != 1 or pcm.dtype != np.int16:
        raise ValueError(f"pcm is {pcm.dtype} of shape {pcm.shape}, expected int16 of shape (frames,); see to_pcm")


class _NumpyStream:
    """The port. Its blocks of spectra start at fixed frames, however the PCM arrives, and so round alike."""

    def __init__(self) -> None:
        self._pending: list[Pcm] = []
        self._num_pending = 0
        self._chroma = np.zeros((0, _NUM_CLASSES))  # the last frames, which the smoothing still needs
        self._rows = np.zeros((0, _NUM_CLASSES))  # the last smoothed frames, which the classifiers still need
        self._items: list[Fingerprint] = []

    def add(self, pcm: Pcm) -> None:
        _validate(pcm)
        self._pending.append(pcm.copy())
        self._num_pending += pcm.size
        hops = _SPECTRA_PER_BLOCK * HOP_FRAMES
        needed = hops - HOP_FRAMES + _FFT_FRAMES
        if self._num_pending < needed:
            return
        pending = np.concatenate(self._pending)
        while pending.size >= needed:
            self._consume(pending[:needed])
            pending = pending[hops:]
        self._pending, self._num_pending = [pending.copy()], pending.size

    def finish(self) -> Fingerprint:
        if self._num_pending >= _FFT_FRAMES:
            self._consume(np.concatenate(self._pending))
        return np.concatenate([np.zeros(0, np.uint32), *self._items])

    def _consume(self, pcm: Pcm) -> None:
        chroma = np.concatenate([self._chroma, _chroma(pcm)])
        rows = np.concatenate([self._rows, _normalised(_smoothed(chroma))])
        self._items.append(_classified(rows))
        self._chroma = chroma[-(len(_SMOOTHING) - 1) :]
        self._rows = rows[-(_IMAGE_ROWS - 1) :]


def _chroma(pcm: Pcm) -> Floats:
    """Energy by pitch class of every whole frame of at least one, shape ``(spectra, 12)``."""
    # In single precision, as the library: half the time, and the same items.
    frames = np.lib.stride_tricks.sliding_window_view(pcm.astype(np.float32), _FFT_FRAMES)[::HOP_FRAMES]
    chroma = np.empty((len(frames), _NUM_CLASSES))
    for start in range(0, len(frames), _SPECTRA_PER_FFT):
        spectra = scipy.fft.rfft(frames[start : start + _SPECTRA_PER_FFT] * _WINDOW, axis=1)
        bins = spectra[:, _FIRST_BIN:_END_BIN]
        chroma[start : start + _SPECTRA_PER_FFT] = (bins.real**2 + bins.imag**2) @ _CLASS_OF_BIN
    return chroma


def _smoothed(chroma: Floats) -> Floats:
    num_rows = max(0, len(chroma) - len(_SMOOTHING) + 1)
    rows = np.zeros((num_rows, _NUM_CLASSES))
    for delay, coefficient in enumerate(_SMOOTHING):
        rows += chroma[delay : delay + num_rows] * coefficient
    return rows


def _normalised(rows: Floats) -> Floats:
    norm = np.sqrt(np.sum(rows**2, axis=1, keepdims=True))
    silent = norm < _SILENT_NORM
    return np.where(silent, 0.0, rows / np.where(silent, 1.0, norm))


def log_ratios(pcm: Pcm) -> Floats:
    """What the classifiers measure, before it is quantised to a fingerprint.

    Parameters
    ----------
    pcm : np.ndarray of int16 [shape=(frames,)]
        Mono, at SAMPLE_RATE.

    Returns
    -------
    np.ndarray of float64 [shape=(16, num_items(frames))]
        The first is that of the two most significant bits.
    """
    _validate(pcm)
    if num_items(pcm.size) == 0:
        return np.zeros((len(_CLASSIFIERS), 0))
    return _ratios(_normalised(_smoothed(_chroma(pcm))))


def _classified(rows: Floats) -> Fingerprint:
    """Sub-fingerprint of every 16 rows of the chroma image."""
    ratio = _ratios(rows)
    level: Fingerprint = np.sum(ratio >= _THRESHOLDS, axis=0, dtype=np.uint32)
    code = level ^ (level >> np.uint32(1))
    items = np.zeros(ratio.shape[1], np.uint32)
    for two_bits in code:
        items = (items << np.uint32(2)) | two_bits
    return items


def _ratios(rows: Floats) -> Floats:
    num_windows = max(0, len(rows) - _IMAGE_ROWS + 1)
    integral = np.zeros((len(rows) + 1, _NUM_CLASSES + 1))
    integral[1:, 1:] = rows.cumsum(axis=0).cumsum(axis=1)

    def total(areas: tuple[_Area, ...]) -> Floats:
        result = np.zeros(num_windows)
        for area in areas:
            last, first = integral[area.end_row :][:num_windows], integral[area.row :][:num_windows]
            result += last[:, area.end_column] - first[:, area.end_column]
            result += first[:, area.column] - last[:, area.column]
        return result

    above = np.array([total(numerator) for numerator, _ in _AREAS])
    below = np.array([total(denominator) for _, denominator in _AREAS])
    return np.asarray(np.log(1.0 + above) - np.log(1.0 + below))


def _library() -> Any | None:
    """The binding of pyacoustid, or None: its import fails where there is no shared library."""
    try:
        return importlib.import_module("chromaprint")
    except ImportError:
        return None


class _LibraryStream:
    def __init__(self, binding: Any) -> None:
        self._binding = binding
        self._context = binding.Fingerprinter(binding.Fingerprinter.ALGORITHM_TEST2)
        self._context.start(SAMPLE_RATE, 1)

    def add(self, pcm: Pcm) -> None:
        _validate(pcm)
        self._context.feed(pcm.tobytes())

    def finish(self) -> Fingerprint:
        items, _ = self._binding.decode_fingerprint(self._context.finish())
        return np.array(items, dtype=np.uint32)


class _FpcalcStream:
    def __init__(self) -> None:
        self._blocks: list[Pcm] = []

    def add(self, pcm: Pcm) -> None:
        _validate(pcm)
        self._blocks.append(pcm.copy())

    def finish(self) -> Fingerprint:
        pcm = np.concatenate([np.zeros(0, np.int16), *self._blocks])
        if num_items(pcm.size) == 0:  # fpcalc calls that an error
            return np.zeros(0, np.uint32)
        command = ["fpcalc", "-raw", "-plain", "-length", "0", "-"]
        run = subprocess.run(command, input=_wav(pcm), capture_output=True, check=False)
        # Some builds take the end of the file for an error and exit with 3, after the right output.
        if run.returncode not in (0, 3):
            message = run.stderr.decode(errors="replace").strip()
            raise StemloomError(f"{' '.join(command)} exited with {run.returncode}: {message}; use backend 'numpy'")
        return np.array(run.stdout.split(b","), dtype=np.uint32)


def _wav(pcm: Pcm) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, pcm.size, "NONE", "not compressed"))
        writer.writeframes(pcm.astype("<i2").tobytes())
    return file.getvalue()
