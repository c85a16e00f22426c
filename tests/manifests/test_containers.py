"""What headers claim, against files whose truth is known."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from manifests.audio import probe
from manifests.containers import (
    MpegLength,
    mpeg_length,
    ogg_last_page_start,
    refuse_cut_short,
    refuse_protected,
    wav_data_start,
)
from manifests.errors import AudioError
from tests.manifests.damage import without_length_header
from tests.synthesis import tone

RATE = 44100


def mp3(path, mode):
    soundfile.write(path, tone(440, 2 * RATE).T, RATE, bitrate_mode=mode, compression_level=0.5)
    return path


def test_an_mpeg_length_header_is_believed(tmp_path):
    length = mpeg_length(mp3(tmp_path / "a.mp3", "VARIABLE"))
    assert length is not None
    assert length.declared
    # Encoder delay and padding fill whole MPEG frames.
    assert length.num_frames % 1152 == 0
    assert 2 * RATE <= length.num_frames < 2 * RATE + 4 * 1152


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_without_a_length_header_the_frames_are_counted(tmp_path, mode):
    path = mp3(tmp_path / "a.mp3", mode)
    declared = mpeg_length(path)
    counted = mpeg_length(without_length_header(path))
    assert counted == MpegLength(declared.num_frames, declared=False)


def test_tags_and_garbage_between_frames_do_not_change_the_count(tmp_path):
    path = without_length_header(mp3(tmp_path / "a.mp3", "CONSTANT"))
    plain = mpeg_length(path)
    data = path.read_bytes()
    third = data.index(data[:2], data.index(data[:2], 4) + 4)
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 4, 0]) + b"\xff" * 512
    path.write_bytes(tag + data[:third] + b"\xff\x00garbage" + data[third:] + b"TAG" + bytes(125))
    assert mpeg_length(path) == plain


def test_low_sample_rates_have_half_as_long_mpeg_frames(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, tone(440, 22050, 22050).T, 22050, bitrate_mode="CONSTANT", compression_level=0.5)
    declared = mpeg_length(path)
    assert 22050 <= declared.num_frames < 22050 + 5 * 576
    assert mpeg_length(without_length_header(path)).num_frames == declared.num_frames


def test_a_vbri_header_is_believed(tmp_path):
    path = without_length_header(mp3(tmp_path / "a.mp3", "CONSTANT"))
    data = bytearray(path.read_bytes())
    data[36:54] = struct.pack(">4sHHHII", b"VBRI", 1, 0, 75, len(data), 1234)
    path.write_bytes(data)
    assert mpeg_length(path) == MpegLength(1234 * 1152, declared=True)


def test_what_is_not_mpeg_has_no_mpeg_length(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(bytes(range(256)) * 100)
    assert mpeg_length(path) is None


def test_the_last_ogg_page_starts_where_the_page_before_it_ends(tmp_path):
    path = tmp_path / "a.ogg"
    with soundfile.SoundFile(path, "w", RATE, 2, format="OGG", subtype="VORBIS") as file:
        for _ in range(6):
            file.write(np.random.default_rng(3).uniform(-0.5, 0.5, (RATE, 2)))
    data = path.read_bytes()
    pages = [at for at in range(len(data)) if data[at : at + 5] == b"OggS\0"]
    granules = [struct.unpack_from("<q", data, at + 6)[0] for at in pages]
    assert granules[-1] == 6 * RATE
    assert ogg_last_page_start(path) == granules[-2] < 6 * RATE


def test_one_ogg_page_starts_at_zero(tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(b"OggS\0\4" + struct.pack("<qIII", 100, 1, 0, 0) + b"\0")
    assert ogg_last_page_start(path) == 0


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".ogg", ".mp3"])
def test_whole_files_pass_and_files_without_their_last_tenth_do_not(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    # Noise, so that the last Ogg page is a long one.
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (2 * RATE, 2)), RATE)
    refuse_cut_short(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(AudioError, match=rf"a{suffix}: cut short: .* claims \d+ bytes and the file has \d+; copy"):
        refuse_cut_short(path)


def test_a_file_of_another_kind_passes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    refuse_cut_short(path)


def test_endless_empty_chunks_do_not_keep_us_busy(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 200_000 + b"data\xf0\xff\xff\x0f")
    refuse_cut_short(path)


def box(name, body=b""):
    return struct.pack(">I4s", 8 + len(body), name) + body


def mp4(entry, *, before=b""):
    """The headers of an MP4 file with one track."""
    body = box(b"stsd", struct.pack(">II", 0, 1) + box(entry, bytes(28)))
    for name in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        body = box(name, box(b"free", b"xyz") + body)
    return box(b"ftyp", b"M4A \0\0\2\0") + before + body


LONG_MUSIC = struct.pack(">I4sQ", 1, b"mdat", 1016) + bytes(1000)


@pytest.mark.parametrize("before", [b"", box(b"mdat", bytes(999)), LONG_MUSIC], ids=["first", "last", "long"])
@pytest.mark.parametrize("name", ["drms", "enca"])
def test_encrypted_audio_is_refused_wherever_the_headers_are(tmp_path, name, before):
    path = tmp_path / "a.m4a"
    path.write_bytes(mp4(name.encode(), before=before))
    with pytest.raises(
        AudioError, match=rf"a\.m4a: protected: its audio is encrypted \(DRM, '{name}'\); remove it"
    ):
        refuse_protected(path)
    with pytest.raises(AudioError, match="protected"):
        probe(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(range(256)),
        mp4(b"mp4a"),
        mp4(b"mp4a") + box(b"mdat", b"drms enca"),
        mp4(b"drms")[:-40],
        mp4(b"drms", before=box(b"free")[:3] + b"\0free"),
        mp4(b"drms", before=struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1)),
        mp4(b"drms", before=struct.pack(">I4s", 0, b"mdat")),
        mp4(b"drms", before=box(b"free") * 200_000),
        box(b"moov") * 200_000,
    ],
    ids=["nothing", "noise", "plain", "in the music", "cut", "bad size", "huge", "to the end", "many", "wide"],
)
def test_what_does_not_say_that_it_is_encrypted_passes(tmp_path, data):
    path = tmp_path / "a.m4a"
    path.write_bytes(data)
    refuse_protected(path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
@pytest.mark.parametrize("look", [refuse_cut_short, wav_data_start])
def test_a_bad_block_costs_the_file_and_not_the_build(look: Callable[[Path], object]) -> None:
    with pytest.raises(AudioError, match=r"/proc/self/mem: cannot be read \(Input/output error\); check the disk"):
        look(Path("/proc/self/mem"))
