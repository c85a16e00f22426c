"""Tags for the demo's files: ID3v2.4 (mp3), Vorbis comments (flac, ogg, opus) and RIFF INFO (wav).

libsndfile writes tags too, but no ISRC, and on mp3 it stores UTF-8 as if it were Latin-1. An Ogg stream also
gets a fixed serial number here (libsndfile draws a random one), so that the same seed yields the same bytes.

Sources: ID3v2.4.0 main structure (id3.org); RFC 9639 section 8 (FLAC metadata blocks); RFC 3533 (Ogg pages);
Xiph, "Ogg Vorbis I format specification: comment field and header specification"; RFC 7845 section 5.2
(OpusTags).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from manifests.errors import AudioError

_ID3_FRAMES = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "albumartist": b"TPE2",
    "genre": b"TCON",
    "date": b"TDRC",
    "isrc": b"TSRC",
    "tracknumber": b"TRCK",
}
_INFO_CHUNKS = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "genre": b"IGNR",
    "date": b"ICRD",
    "isrc": b"ISRC",
    "tracknumber": b"ITRK",
}
_VENDOR = b"stemloom demo"
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def write_tags(path: Path, tags: Mapping[str, str]) -> None:
    """Write tags into an audio file that has none yet.

    Parameters
    ----------
    path : Path
        An .mp3, .flac, .ogg, .opus or .wav file, rewritten in place.
    tags : mapping of str to str
        Values by Vorbis comment names in lower case: 'title', 'artist', 'album', 'albumartist', 'genre',
        'date', 'isrc', 'tracknumber'. With none, only an Ogg stream's serial number is changed.

    Raises
    ------
    AudioError
        If the file is not what its suffix says.
    """
    data = path.read_bytes()
    suffix = path.suffix.lower()
    if suffix == ".mp3":
        data = (_id3(tags) if tags else b"") + data
    elif suffix == ".wav" and data[:4] == b"RIFF":
        data = _riff(data, tags)
    elif suffix == ".flac" and data[:4] == b"fLaC":
        data = _flac(data, tags)
    elif suffix in (".ogg", ".opus") and data[:4] == b"OggS":
        data = _ogg(data, tags)
    else:
        raise AudioError(
            f"{path}: not a {suffix} file that tags can be written to; use mp3, flac, ogg, opus or wav"
        )
    path.write_bytes(data)


def _id3(tags: Mapping[str, str]) -> bytes:
    """ID3v2.4 tag with UTF-8 text frames."""

    def size(count: int) -> bytes:
        # Seven bits a byte, so that no byte of a size looks like the start of an MPEG frame.
        return bytes((count >> shift) & 0x7F for shift in (21, 14, 7, 0))

    frames = b""
    for name, value in tags.items():
        text = b"\x03" + value.encode()
        frames += _ID3_FRAMES[name] + size(len(text)) + b"\x00\x00" + text
    return b"ID3\x04\x00\x00" + size(len(frames)) + frames


def _riff(data: bytes, tags: Mapping[str, str]) -> bytes:
    """RIFF file with a LIST INFO chunk after its other chunks."""
    body = b"INFO"
    for name, value in tags.items():
        if name in _INFO_CHUNKS:
            text = value.encode() + b"\x00"
            body += _INFO_CHUNKS[name] + struct.pack("<I", len(text)) + text + b"\x00" * (len(text) % 2)
    if tags:
        data += b"\x00" * (len(data) % 2) + b"LIST" + struct.pack("<I", len(body)) + body
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def _comments(tags: Mapping[str, str]) -> bytes:
    """Vorbis comment header without framing."""
    entries = [f"{name.upper()}={value}".encode() for name, value in tags.items()]
    packed = struct.pack("<I", len(_VENDOR)) + _VENDOR + struct.pack("<I", len(entries))
    return packed + b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)


def _flac(data: bytes, tags: Mapping[str, str]) -> bytes:
    """FLAC file whose comment block, right after STREAMINFO, is replaced or added."""
    blocks: list[tuple[int, bytes]] = []
    at, last = 4, False
    while not last:
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        last = bool(kind & 0x80)
        if kind & 0x7F != 4:
            blocks.append((kind & 0x7F, data[at + 4 : at + 4 + size]))
        at += 4 + size
    blocks.insert(1, (4, _comments(tags)))
    head = b"fLaC"
    for index, (kind, block) in enumerate(blocks):
        head += bytes([kind | (0x80 if index == len(blocks) - 1 else 0)]) + len(block).to_bytes(3, "big") + block
    return head + data[at:]


def _ogg(data: bytes, tags: Mapping[str, str]) -> bytes:
    """Ogg stream with new comments, new page numbers and a fixed serial number."""
    pages: list[tuple[int, bytes, bytes, bytes]] = []
    at = 0
    while at < len(data):
        count = data[at + 26]
        laces = data[at + 27 : at + 27 + count]
        start = at + 27 + count
        pages.append((data[at + 5], data[at + 6 : at + 14], laces, data[start : start + sum(laces)]))
        at = start + sum(laces)
    opus = pages[0][3].startswith(b"OpusHead")
    headers = 1 if opus else 2
    packets: list[bytes] = [b""]
    used = 1
    while len(packets) <= headers:
        _, _, laces, body = pages[used]
        place = 0
        for lace in laces:
            packets[-1] += body[place : place + lace]
            place += lace
            if lace < 255:
                packets.append(b"")
        used += 1
    # The first packet after the identification is the comments; a Vorbis setup header follows.
    packets[0] = b"OpusTags" + _comments(tags) if opus else b"\x03vorbis" + _comments(tags) + b"\x01"
    laces = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets[:headers])
    body = b"".join(packets[:headers])
    rewritten = [pages[0]]
    for first in range(0, len(laces), 255):
        segment = laces[first : first + 255]
        size = sum(segment)
        continued = 1 if first and laces[first - 1] == 255 else 0
        finished = any(lace < 255 for lace in segment)
        rewritten.append((continued, b"\x00" * 8 if finished else b"\xff" * 8, segment, body[:size]))
        body = body[size:]
    out = []
    for number, (flags, granule, segment, content) in enumerate([*rewritten, *pages[used:]]):
        head = b"OggS\x00" + bytes([flags]) + granule + struct.pack("<III", 1, number, 0) + bytes([len(segment)])
        page = head + segment + content
        out.append(page[:22] + struct.pack("<I", _ogg_checksum(page)) + page[26:])
    return b"".join(out)


def _ogg_checksum(page: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial, but with the bits in the other order and nothing inverted."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
