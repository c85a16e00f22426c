"""What an audio file's own header claims, read from its bytes without decoding.

Decoders are lenient: libsndfile clamps a cut WAV to what is left of it, stops quietly where an Ogg file was
cut, and estimates the length of an MPEG stream that carries no length header (it then stops at the estimate,
which for a variable bit rate can be half of the music). FFmpeg takes encrypted music for damaged music. The
checks here catch those cases, in well under a millisecond for all but the walk through an MPEG stream.

Sources: Microsoft RIFF and EBU Tech 3306 (RF64), AIFF-C draft 1991, RFC 3533 (Ogg pages), ISO/IEC 11172-3
section 2.4.2 (MPEG audio header), the Xing/Info and VBRI headers as LAME and Fraunhofer write them, ISO/IEC
14496-12 sections 4.2 (MP4 boxes), 8.5.2 (sample descriptions) and 8.12 (protection).
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from manifests.errors import AudioError

# Hostile or broken files must not keep us busy: no real file comes near these.
_MAX_CHUNKS = 10_000
_MAX_LOST_SYNCS = 100_000
_OGG_MAX_PAGE = 27 + 255 + 255 * 255
# Writers that stream do not know the size in advance and put one of these: 0, all ones, or (SoX, arecord)
# just under 2**31. Such a header claims nothing.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_NEAR_2_31 = range(0x7FFFF000, 0x80000001)

_BITRATES_KBPS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_1_RATES = (44100, 48000, 32000)

_MP4_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
# The names of encrypted audio in the standard, and in files of the iTunes store.
_PROTECTED_ENTRIES = frozenset({b"enca", b"drms"})


@dataclasses.dataclass(frozen=True)
class MpegLength:
    """How long an MPEG stream is.

    Attributes
    ----------
    num_frames : int
        Audio frames in the stream, before a decoder trims encoder delay and padding.
    declared : bool
        True when a Xing, Info or VBRI header says so, False when the stream's headers had to be walked.
    """

    num_frames: int
    declared: bool


def refuse_cut_short(path: Path) -> None:
    """Raise when a file's bytes end before its container says that they do.

    Knows RIFF, RF64, AIFF, Ogg, and MPEG streams with a Xing header; passes everything else.

    Parameters
    ----------
    path : Path
        A readable file.

    Raises
    ------
    AudioError
        Naming the path, the size that was claimed and the size that is there.
    """
    size = path.stat().st_size
    with _reading(path) as file:
        magic = file.read(12)
        if magic[:4] in (b"RIFF", b"RF64") and magic[8:] == b"WAVE":
            claimed = _chunked_size(file, size, b"data", "<")
        elif magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
            claimed = _chunked_size(file, size, b"SSND", ">")
        elif magic[:4] == b"OggS":
            claimed = _ogg_size(file, size)
        else:
            claimed = _xing_size(file, size)
    if claimed > size:
        raise AudioError(
            f"{path}: cut short: its header claims {claimed} bytes and the file has {size}; "
            "copy or download the file again"
        )


def wav_data_start(path: Path) -> int | None:
    """Where the samples of a WAV file start.

    Parameters
    ----------
    path : Path
        A readable file.

    Returns
    -------
    int or None
        In bytes; None when it is no RIFF or RF64 file with a data chunk.
    """
    size = path.stat().st_size
    with _reading(path) as file:
        magic = file.read(12)
        if magic[:4] not in (b"RIFF", b"RF64") or magic[8:] != b"WAVE":
            return None
        return _audio_chunk(file, size, b"data", "<")[0]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror or error}); check the disk, or copy the file again"
        ) from error


def _chunked_size(file: BinaryIO, size: int, wanted: bytes, order: str) -> int:
    """Where the audio chunk of a RIFF, RF64 or AIFF file claims to end, in bytes; 0 for no claim."""
    return _audio_chunk(file, size, wanted, order)[1]


def _audio_chunk(file: BinaryIO, size: int, wanted: bytes, order: str) -> tuple[int | None, int]:
    """Where the audio chunk starts, and where it claims to end; None where there is none, 0 for no claim."""
    position, long_size = 12, None
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            break
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"ds64" and length >= 16:
            long_size = struct.unpack("<8xQ", file.read(16))[0]
        if name == wanted:
            if length == 0xFFFFFFFF and long_size is not None:
                return position + 8, position + 8 + int(long_size)
            unknown = length in _UNKNOWN_SIZES or length in _NEAR_2_31
            return position + 8, 0 if unknown else position + 8 + int(length)
        position += 8 + length + (length & 1)
    return None, 0


def _ogg_size(file: BinaryIO, size: int) -> int:
    """Where the last Ogg page that starts in the file claims to end, in bytes."""
    start = max(0, size - _OGG_MAX_PAGE)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return 0
    header = tail[at : at + 27]
    if len(header) < 27:
        return size + 1
    num_segments = header[26]
    return start + at + 27 + num_segments + sum(tail[at + 27 : at + 27 + num_segments])


def _xing_size(file: BinaryIO, size: int) -> int:
    """Where the MPEG stream ends by its Xing header, in bytes, if more than 1 % is missing; 0 otherwise.

    Taggers rewrite files without touching that header, so that only a gross loss is evidence. A smaller one
    shows when the decoder delivers fewer frames than it promised.
    """
    first = _first_mpeg_frame(file)
    if first is None:
        return 0
    position, header, body = first
    num_bytes = _xing(header, body)[1]
    missing = position + num_bytes - size
    return position + num_bytes if missing > num_bytes // 100 else 0


def refuse_protected(path: Path) -> None:
    """Raise when an MP4 file says that its audio is encrypted; pass everything else.

    Parameters
    ----------
    path : Path
        A readable file.

    Raises
    ------
    AudioError
        Naming the path and the kind of protection.
    """
    with _reading(path) as file:
        places = [(0, path.stat().st_size)]
        for wanted in _MP4_PATH:
            places = [(start, end) for name, start, end in _mp4_boxes(file, places) if name == wanted]
        # The version, the flags and the number of entries come first.
        entries = {name for name, _, _ in _mp4_boxes(file, [(start + 8, end) for start, end in places])}
    for name in entries & _PROTECTED_ENTRIES:
        raise AudioError(
            f"{path}: protected: its audio is encrypted (DRM, '{name.decode()}'); remove it from the folder, or "
            "get the music without protection"
        )


def _mp4_boxes(file: BinaryIO, places: list[tuple[int, int]]) -> Iterator[tuple[bytes, int, int]]:
    """The first boxes in some places: their names, and where their bodies start and end."""
    left = _MAX_CHUNKS
    for position, end in places:
        while position + 8 <= end and left:
            file.seek(position)
            size, name, long_size = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
            header, size = (16, long_size) if size == 1 else (8, size or end - position)
            if size < header:
                break
            yield name, position + header, min(position + size, end)
            position, left = position + size, left - 1


def ogg_last_page_start(path: Path) -> int:
    """Find where the last page of an Ogg stream begins, in frames (in Vorbis, granule positions).

    Parameters
    ----------
    path : Path
        An Ogg file.

    Returns
    -------
    int
        The granule position at the end of the page before the last that completes a packet; 0 when there is
        none.
    """
    size = path.stat().st_size
    with _reading(path) as file:
        file.seek(max(0, size - 4 * _OGG_MAX_PAGE))
        tail = file.read()
    ends: list[int] = []
    at, serial = len(tail), None
    while len(ends) < 2 and (at := tail.rfind(b"OggS\0", 0, at)) >= 0:
        if at + 27 > len(tail):
            continue
        granule, page_serial = struct.unpack_from("<6xqI", tail, at)
        serial = page_serial if serial is None else serial
        if page_serial == serial and granule >= 0:
            ends.append(granule)
    return ends[1] if len(ends) == 2 else 0


def mpeg_length(path: Path) -> MpegLength | None:
    """Find the length of an MPEG audio stream from its headers.

    Parameters
    ----------
    path : Path
        An mp3 (or mp1, mp2) file.

    Returns
    -------
    MpegLength or None
        None when the file holds no MPEG audio frame. Without a length header every frame header is visited
        (about 2,300 per minute of music).
    """
    with _reading(path) as file:
        first = _first_mpeg_frame(file)
        if first is None:
            return None
        position, header, body = first
        count = _xing(header, body)[0]
        if count:
            return MpegLength(count * header.num_frames, declared=True)
        return MpegLength(_walk(file, position) * header.num_frames, declared=False)


@dataclasses.dataclass(frozen=True)
class _MpegHeader:
    version: int
    layer: int
    num_bytes: int
    num_frames: int
    mono: bool


def _mpeg_header(word: bytes) -> _MpegHeader | None:
    """Parse the four bytes of an MPEG audio frame header; None when they are not one."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = word[1] >> 3 & 3, word[1] >> 1 & 3
    bitrate_index, rate_index = word[2] >> 4, word[2] >> 2 & 3
    if version_bits == 1 or layer_bits == 0 or bitrate_index in (0, 15) or rate_index == 3:
        return None
    version, layer = (1 if version_bits == 3 else 2), 4 - layer_bits
    rate = _MPEG_1_RATES[rate_index] // {3: 1, 2: 2, 0: 4}[version_bits]
    bitrate = _BITRATES_KBPS[version, layer][bitrate_index] * 1000
    padding = word[2] >> 1 & 1
    if layer == 1:
        return _MpegHeader(version, layer, (12 * bitrate // rate + padding) * 4, 384, word[3] >> 6 == 3)
    num_frames = 576 if layer == 3 and version == 2 else 1152
    num_bytes = num_frames // 8 * bitrate // rate + padding
    return _MpegHeader(version, layer, num_bytes, num_frames, word[3] >> 6 == 3)


def _first_mpeg_frame(file: BinaryIO) -> tuple[int, _MpegHeader, bytes] | None:
    """Find the first MPEG frame that another one follows: its position, its header and its bytes."""
    file.seek(0)
    tag = file.read(10)
    start = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        # A "syncsafe" size: seven bits a byte.
        start = 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9])
        start += 10 if tag[5] & 0x10 else 0
    file.seek(start)
    window = file.read(1 << 16)
    at = window.find(b"\xff")
    while at >= 0:
        header = _mpeg_header(window[at : at + 4])
        if header is not None:
            following = window[at + header.num_bytes : at + header.num_bytes + 4]
            if not following or _mpeg_header(following) is not None:
                return start + at, header, window[at : at + header.num_bytes]
        at = window.find(b"\xff", at + 1)
    return None


def _xing(header: _MpegHeader, body: bytes) -> tuple[int, int]:
    """MPEG frames and bytes in the stream by its Xing, Info or VBRI header; 0 for what it does not say."""
    if header.layer != 3:
        return 0, 0
    side_info = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}[header.version, header.mono]
    xing = body[4 + side_info : 4 + side_info + 16]
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16:
        flags, first, second = struct.unpack(">4xIII", xing)
        count = first if flags & 1 else 0
        return count, (second if flags & 1 else first) if flags & 2 else 0
    vbri = body[36:54]
    if vbri[:4] == b"VBRI" and len(vbri) == 18:
        num_bytes, count = struct.unpack(">4x6xII", vbri)
        return count, num_bytes
    return 0, 0


def _walk(file: BinaryIO, position: int) -> int:
    """Count whole MPEG frames from `position` on, finding the next one again after bytes that are none."""
    count = lost = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        while 0 <= position <= len(view) - 4 and lost < _MAX_LOST_SYNCS:
            header = _mpeg_header(view[position : position + 4])
            if header is None:
                position = view.find(b"\xff", position + 1)
                lost += 1
                continue
            position += header.num_bytes
            count += position <= len(view)
    return count
