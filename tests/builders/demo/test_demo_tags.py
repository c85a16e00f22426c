"""Tags written to every container are read by another program, and the audio stays what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tinytag import TinyTag

from builders.demo.releases import CODECS, encode
from builders.demo.tags import write_tags
from manifests.errors import AudioError
from tests.synthesis import pink_noise

TAGS = {
    "title": "星の手紙 – Größe",
    "artist": "Lúcia & 森ハナ",
    "album": "Maré " + "x" * 300,
    "genre": "R&B",
    "date": "2007",
    "isrc": "QZDM0700081",
    "tracknumber": "9",
}


@pytest.mark.parametrize("codec", ["flac", "wav", "wav24", "mp3-192", "vorbis", "opus"])
def test_tags_survive_and_audio_does_not_change(tmp_path: Path, codec: str) -> None:
    rate = 48000
    path = tmp_path / f"a{CODECS[codec][0]}"
    encode(path, pink_noise(np.random.default_rng(0), 2, 2 * rate), rate, codec)
    before, _ = soundfile.read(path, dtype="float32")
    write_tags(path, TAGS)
    after, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(before, after)
    found = TinyTag.get(path)
    assert (found.title, found.artist, found.album) == (TAGS["title"], TAGS["artist"], TAGS["album"])
    assert (found.genre, found.year, found.track) == ("R&B", "2007", 9)
    assert found.other["isrc"] == ["QZDM0700081"]


@pytest.mark.parametrize("codec", ["vorbis", "opus"])
def test_ogg_pages_have_one_serial_number_and_right_checksums(tmp_path: Path, codec: str) -> None:
    files = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}{CODECS[codec][0]}"
        encode(path, pink_noise(np.random.default_rng(1), 2, 48000), 48000, codec)
        # More comments than fit on one page of 255 segments.
        write_tags(path, {"title": "t" * 100_000})
        files.append(path.read_bytes())
        assert TinyTag.get(path).title == "t" * 100_000
        assert len(soundfile.read(path)[0]) == 48000
    assert files[0] == files[1]
    at = number = 0
    while at < len(files[0]):
        laces = files[0][at + 27 : at + 27 + files[0][at + 26]]
        page = bytearray(files[0][at : at + 27 + len(laces) + sum(laces)])
        assert page[14:22] == (1).to_bytes(4, "little") + number.to_bytes(4, "little")
        checksum = int.from_bytes(page[22:26], "little")
        page[22:26] = bytes(4)
        assert checksum == ogg_checksum(bytes(page))
        at, number = at + len(page), number + 1
    assert number > 3


def ogg_checksum(page: bytes) -> int:
    """RFC 3533's CRC, bit by bit: polynomial 0x04c11db7, no reflection, no inversion."""
    table = []
    for byte in range(256):
        register = byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
        table.append(register & 0xFFFFFFFF)
    register = 0
    for byte in page:
        register = ((register << 8) & 0xFFFFFFFF) ^ table[(register >> 24) ^ byte]
    return register


def test_file_of_another_kind_is_an_audio_error(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"RIFF not flac")
    with pytest.raises(AudioError, match=r"a\.flac"):
        write_tags(path, TAGS)
