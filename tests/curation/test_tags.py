"""Tags of files built byte by byte, so that every container is read as its specification writes it."""

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.tags import MAX_TEXT, Tags, clean, parse_isrc, parse_mbid, parse_year, read_tags
from manifests.errors import AudioError

RECORDING = "d6b2f8c0-1f3d-4e9a-9b3e-0a1b2c3d4e5f"
WORK = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
FULL = Tags(
    title="Träume (Instrumental)",
    artist="Ruby Hale feat. 初音ミク",
    album_artist="Ruby Hale",
    album="Midnight",
    genre="Synthwave",
    year=1999,
    isrc="USS1Z9900001",
    recording_mbid=RECORDING,
    work_mbid=WORK,
)
FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""One silent MPEG-1 layer III frame."""


def synchsafe(size: int) -> bytes:
    return bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))


def id3(version: int, frames: list[tuple[bytes, bytes]]) -> bytes:
    """ID3v2.3 or 2.4 tag: they differ in how a frame writes its size."""
    size = synchsafe if version == 4 else lambda n: struct.pack(">I", n)
    body = b"".join(name + size(len(data)) + b"\0\0" + data for name, data in frames)
    return b"ID3" + bytes([version, 0, 0]) + synchsafe(len(body)) + body


def utf16(text: str) -> bytes:
    return b"\x01" + text.encode("utf-16")


def utf8(text: str) -> bytes:
    return b"\x03" + text.encode()


def full_id3(version: int) -> bytes:
    text = utf8 if version == 4 else utf16
    end = b"\0" if version == 4 else b"\0\0"
    return id3(
        version,
        [
            (b"TIT2", text("Träume (Instrumental)")),
            (b"TPE1", text("Ruby Hale feat. 初音ミク")),
            (b"TPE2", text("Ruby Hale")),
            (b"TALB", text("Midnight")),
            (b"TCON", text("Synthwave")),
            (b"TDRC" if version == 4 else b"TYER", text("1999-05-01" if version == 4 else "1999")),
            (b"TSRC", text("US-S1Z-99-00001")),
            (b"UFID", b"http://www.cddb.com/id3/taginfo1.html\0" + b"3CD3N27Q"),
            (b"UFID", b"http://musicbrainz.org\0" + RECORDING.encode()),
            (b"TXXX", text("MusicBrainz Work Id") + end + text(WORK)[1:]),
            (b"TXXX", text("MusicBrainz Release Track Id") + end + text(WORK[::-1])[1:]),
        ],
    )


def vorbis_comments(extra: list[str] | None = None) -> bytes:
    comments = [
        "TITLE=Träume (Instrumental)",
        "ARTIST=Ruby Hale feat. 初音ミク",
        "ALBUMARTIST=Ruby Hale",
        "ALBUM=Midnight",
        "GENRE=Synthwave",
        "DATE=1999-05-01",
        "ISRC=USS1Z9900001",
        f"MUSICBRAINZ_TRACKID={RECORDING}",
        f"MUSICBRAINZ_WORKID={WORK}",
        *(extra or []),
    ]
    packed = [struct.pack("<I", len(c.encode())) + c.encode() for c in comments]
    return struct.pack("<I", 4) + b"test" + struct.pack("<I", len(packed)) + b"".join(packed)


def ogg_page(packet: bytes, number: int) -> bytes:
    """One page with one packet; readers of tags do not check its checksum."""
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    header = struct.pack("<4sBBqIIIB", b"OggS", 0, 2 if number == 0 else 0, 0, 7, number, 0, len(lacing))
    return header + lacing + packet


def full_vorbis() -> bytes:
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 2, 44_100, 0, 128_000, 0, 0xB8, 1)
    return ogg_page(head, 0) + ogg_page(b"\x03vorbis" + vorbis_comments() + b"\x01", 1)


def full_opus() -> bytes:
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 312, 48_000, 0, 0)
    return ogg_page(head, 0) + ogg_page(b"OpusTags" + vorbis_comments(), 1)


def full_flac() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.flac"
        sf.write(path, np.zeros((4096, 2)), 44_100)
        audio = path.read_bytes()
    comments = vorbis_comments()
    block = b"\x04" + struct.pack(">I", len(comments))[1:] + comments
    return audio[:42] + block + audio[42:]


def atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def text_atom(name: bytes, text: str) -> bytes:
    return atom(name, atom(b"data", struct.pack(">II", 1, 0) + text.encode()))


def freeform(name: str, text: str) -> bytes:
    mean = atom(b"mean", bytes(4) + b"com.apple.iTunes")
    data = atom(b"data", struct.pack(">II", 1, 0) + text.encode())
    return atom(b"----", mean + atom(b"name", bytes(4) + name.encode()) + data)


def full_mp4() -> bytes:
    items = [
        text_atom(b"\xa9nam", "Träume (Instrumental)"),
        text_atom(b"\xa9ART", "Ruby Hale feat. 初音ミク"),
        text_atom(b"aART", "Ruby Hale"),
        text_atom(b"\xa9alb", "Midnight"),
        text_atom(b"\xa9gen", "Synthwave"),
        text_atom(b"\xa9day", "1999-05-01T07:00:00Z"),
        freeform("ISRC", "USS1Z9900001"),
        freeform("MusicBrainz Track Id", RECORDING),
        freeform("MusicBrainz Work Id", WORK),
    ]
    meta = atom(b"meta", bytes(4) + atom(b"ilst", b"".join(items)))
    return atom(b"ftyp", b"M4A \0\0\0\0") + atom(b"mdat", bytes(64)) + atom(b"moov", atom(b"udta", meta))


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "v23.mp3": lambda: full_id3(3) + FRAME * 4,
    "v24.mp3": lambda: full_id3(4) + FRAME * 4,
    "a.flac": full_flac,
    "a.ogg": full_vorbis,
    "a.opus": full_opus,
    "a.m4a": full_mp4,
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_all_fields(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(CONTAINERS[name]())
    assert read_tags(path) == FULL


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_misleading_suffix_does_not_hide_the_tags(name: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.m4a" if name.endswith("mp3") else "a.mp3")
    path.write_bytes(CONTAINERS[name]())
    assert read_tags(path) == FULL


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.wav", "a.mp3"])
def test_tags_written_by_soundfile_are_read(name: str, tmp_path: Path) -> None:
    with sf.SoundFile(tmp_path / name, "w", 44_100, 1) as file:
        file.title, file.artist, file.album = "Garden (Live)", "Theo Moreau", "Window"
        file.date, file.genre = "2004", "Bossa Nova"
        file.write(np.zeros(8192))
    expected = Tags("Garden (Live)", "Theo Moreau", None, "Window", "Bossa Nova", 2004)
    assert read_tags(tmp_path / name) == expected


def test_an_old_tag_at_the_end_is_read(tmp_path: Path) -> None:
    fields = [
        b"Silver Fire".ljust(30, b"\0"),
        b"The Roads".ljust(30, b"\0"),
        b"City".ljust(30, b" "),
        b"1987",
    ]
    tag = b"TAG" + b"".join(fields) + bytes(30) + bytes([17])
    (tmp_path / "a.mp3").write_bytes(FRAME * 4 + tag)
    assert read_tags(tmp_path / "a.mp3") == Tags("Silver Fire", "The Roads", None, "City", "Rock", 1987)


def test_several_artists_are_joined_and_named_once(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    comments = vorbis_comments(["ARTIST=Iris Duarte", "ARTISTS=Ruby Hale"])
    path.write_bytes(ogg_page(b"OpusHead" + bytes(11), 0) + ogg_page(b"OpusTags" + comments, 1))
    assert read_tags(path).artist == "Ruby Hale feat. 初音ミク; Iris Duarte"


def test_ids_that_are_not_well_formed_are_left_out(tmp_path: Path) -> None:
    tag = id3(
        4,
        [
            (b"TIT2", utf8("Song")),
            (b"TSRC", utf8("12345")),
            (b"UFID", b"http://musicbrainz.org\0none"),
            (b"TDRC", utf8("unknown")),
        ],
    )
    (tmp_path / "a.mp3").write_bytes(tag + FRAME)
    assert read_tags(tmp_path / "a.mp3") == Tags(title="Song")


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".m4a", ".wav", ".xyz"])
def test_files_without_tags_give_no_tags_and_no_warning(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in {".m4a", ".xyz"}:
        path.write_bytes(atom(b"ftyp", b"M4A \0\0\0\0") if suffix == ".m4a" else b"anything")
    else:
        sf.write(path, np.zeros(4096), 44_100)
    assert read_tags(path) == Tags()


@pytest.mark.parametrize("content", [b"OggS", b"fLaC\x04\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_broken_tags_give_a_warning_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.ogg"
    path.write_bytes(content)
    tags = read_tags(path)
    assert tags == Tags(warning=tags.warning)
    assert tags.warning is not None
    assert str(path) in tags.warning


def test_a_file_that_the_disk_does_not_give_is_not_untagged(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.mp3: its tags cannot be read \(No such file"):
        read_tags(tmp_path / "gone.mp3")
    bad_block = Path("/proc/self/mem")
    if bad_block.exists():
        with pytest.raises(AudioError, match=r"mem: its tags cannot be read \(Input/output error\)"):
            read_tags(bad_block)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(CONTAINERS)),
    changes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=12),
    kept=st.integers(0, 1200),
)
def test_no_damage_makes_reading_fail(name: str, changes: list[tuple[int, int]], kept: int) -> None:
    content = bytearray(CONTAINERS[name]())
    for position, value in changes:
        content[position % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content[:kept])
        tags = read_tags(path)
    for text in (tags.title, tags.artist, tags.album_artist, tags.album, tags.genre):
        assert text is None or (text and clean(text) == text)
    assert tags.isrc is None or parse_isrc(tags.isrc) == tags.isrc


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=700))
def test_clean_text_is_clean(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert len(once) <= MAX_TEXT
    assert once == " ".join(once.split())
    assert all(c.isprintable() or c in "\u200c\u200d" or ord(c) >= 0xE000 for c in once)
    once.encode()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a \t b\r\nc  ", "a b c"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("Cafe\u0301", "Café"),
        ("\ufeffa\u202eb\u200bc", "abc"),
        ("a\ud800b", "ab"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("x" * 600, "x" * 500),
        ("\x00", ""),
    ],
)
def test_clean_keeps_what_is_text(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("1999", 1999),
        ("1999-05-01", 1999),
        ("1999-05-01T07:00:00Z", 1999),
        ("19990501", 1999),
        ("01.05.1999", 1999),
        ("℗ 2004 Label", 2004),
        ("1999/2004", 1999),
        ("99", None),
        ("0000", None),
        ("123456", None),
        ("31999", None),
        ("", None),
    ],
)
def test_years_are_read_from_dates(text: str, year: int | None) -> None:
    assert parse_year(text) == year


@pytest.mark.parametrize(
    ("text", "isrc"),
    [
        ("USS1Z9900001", "USS1Z9900001"),
        ("us-s1z-99-00001", "USS1Z9900001"),
        ("ISRC US S1Z 99 00001", "USS1Z9900001"),
        ("ISRC17607839", "ISRC17607839"),
        ("bad; GBAYE0601498", "GBAYE0601498"),
        ("US-S1Z-99-0001", None),
        ("1SS1Z9900001", None),
        ("USS1Z99000012", None),
        ("USS1Z99０0001", None),
        ("", None),
    ],
)
def test_isrcs_are_normalised_or_refused(text: str, isrc: str | None) -> None:
    assert parse_isrc(text) == isrc


def test_mbids_are_normalised_or_refused() -> None:
    assert parse_mbid(RECORDING.upper()) == RECORDING
    assert parse_mbid(f"x\0{RECORDING}; {WORK}") == RECORDING
    assert parse_mbid("00000000-0000-0000-0000-000000000000") is None
    assert parse_mbid("d6b2f8c0") is None
