"""Excerpts of songs as Ogg Opus in the page: which seconds to hear, and how they become bytes.

Opus is what libsndfile writes and browsers seek in (Safari from 18.4 on); where libsndfile was made without it,
FLAC stands in. The same audio gives the same bytes: libsndfile draws the number of an Ogg stream at random, so the
number is set to zero afterwards (RFC 3533, section 6).
"""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from manifests.audio import Audio

CLIP_S = 12.0
"""Length of an excerpt."""

TOTAL_BYTES = 3_900_000
"""What all excerpts of a page together may be, before base64 makes four bytes of three."""

_MAX_KBPS, _STEREO_KBPS, _MIN_KBPS = 64.0, 40.0, 20.0
_OPUS_RATES = frozenset({8000, 12000, 16000, 24000, 48000})
_OPUS_RATE, _FLAC_RATE = 48000, 22050
# libsndfile's compression level, 0 to 1, is 256 to 6 kbit/s per channel.
_OPUS_MOST, _OPUS_LEAST = 256.0, 6.0
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

Floats = npt.NDArray[np.float64]


def loudest_start(power: Floats, step_s: float, clip_s: float = CLIP_S) -> float:
    """Where the excerpt with the most of something begins.

    Parameters
    ----------
    power : np.ndarray [shape=(steps,)]
        How much there is in each step, at least 0; NaN counts as nothing.
    step_s : float
        Length of a step in seconds.
    clip_s : float
        Length of the excerpt in seconds.

    Returns
    -------
    float
        In seconds, at least 0.
    """
    width = max(1, min(len(power), round(clip_s / step_s)))
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(power))])
    return float(np.argmax(total[width:] - total[:-width])) * step_s


def around_worst(badness: Floats, step_s: float, clip_s: float = CLIP_S) -> float:
    """Where the excerpt around the worst moment begins: as `loudest_start`, with that moment in its middle."""
    middle = (int(np.nanargmax(badness)) + 0.5) * step_s
    return float(min(max(0.0, middle - clip_s / 2), max(0.0, len(badness) * step_s - clip_s)))


def bit_rate(num_clips: int, clip_s: float = CLIP_S) -> float:
    """The kbit/s that keep a page with so many excerpts within `TOTAL_BYTES`: 20 to 64."""
    return float(np.clip(TOTAL_BYTES * 8 / 1000 / (max(1, num_clips) * clip_s), _MIN_KBPS, _MAX_KBPS))


def encoded(audio: Audio, sample_rate: int, kbps: float) -> tuple[str, bytes]:
    """Encode an excerpt for a browser.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        Within +-1. Two channels stay two where there are bits for it (40 kbit/s), all else becomes one.
    sample_rate : int
        In Hz.
    kbps : float
        Bits per second, in thousands, about.

    Returns
    -------
    media_type : str
        ``audio/ogg`` or ``audio/flac``.
    data : bytes
        The file.
    """
    is_opus = "OPUS" in soundfile.available_subtypes("OGG")
    if len(audio) != 2 or kbps < _STEREO_KBPS or not is_opus:
        audio = audio.mean(axis=0, keepdims=True)
    rate = sample_rate if is_opus and sample_rate in _OPUS_RATES else _OPUS_RATE if is_opus else _FLAC_RATE
    sound = np.clip(soxr.resample(audio.T, sample_rate, rate), -1, 1)
    file = io.BytesIO()
    if not is_opus:
        soundfile.write(file, sound, rate, format="FLAC", subtype="PCM_16")
        return "audio/flac", file.getvalue()
    level = (_OPUS_MOST - kbps / len(audio)) / (_OPUS_MOST - _OPUS_LEAST)
    soundfile.write(file, sound, rate, format="OGG", subtype="OPUS", compression_level=float(np.clip(level, 0, 1)))
    return "audio/ogg", _without_serial(file.getvalue())


def data_uri(media_type: str, data: bytes) -> str:
    """A file as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _without_serial(ogg: bytes) -> bytes:
    """An Ogg file of one stream, with the stream's number 0 and the pages' checksums made again."""
    pages = bytearray(ogg)
    start = 0
    while start < len(pages):
        num_segments = pages[start + 26]
        end = start + 27 + num_segments + sum(pages[start + 27 : start + 27 + num_segments])
        pages[start + 14 : start + 18] = bytes(4)
        pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = _checksum(bytes(pages[start:end]))
        start = end
    return bytes(pages)


def _checksum(page: bytes) -> bytes:
    """Ogg's CRC-32, which takes the bits of a byte the other way round than zlib's, starts from 0 and ends so."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2).to_bytes(4, "little")
