"""Reading, writing and refusing audio files. Every file here is made on the spot."""

import hashlib
import os
import resource
import shutil
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.audio import AUDIO_SUFFIXES, blocks, content_id, probe, quantise, read, write
from manifests.errors import AudioError, BuildError, RecipeError
from tests.manifests.damage import without_length_header
from tests.synthesis import pink_noise

RATE = 44100
FRAMES = 3 * RATE + 137


@pytest.fixture(scope="module")
def noise():
    # Noise has no two equal places, so that a crop from the wrong place cannot look right.
    return np.clip(pink_noise(np.random.default_rng(7), 2, FRAMES, rms=0.15), -1, 1)


@pytest.fixture(scope="module")
def library(tmp_path_factory, noise):
    """One file of each kind, by name."""
    folder = tmp_path_factory.mktemp("library")
    kinds = {
        "pcm24.wav": {"subtype": "PCM_24"},
        "pcm16.wav": {"subtype": "PCM_16"},
        "pcm24.aiff": {"subtype": "PCM_24"},
        "pcm24.flac": {"subtype": "PCM_24"},
        "constant.mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.5},
        "variable.mp3": {"bitrate_mode": "VARIABLE", "compression_level": 0.3},
        "vorbis.ogg": {"format": "OGG", "subtype": "VORBIS"},
        "opus.opus": {"format": "OGG", "subtype": "OPUS"},
    }
    for name, options in kinds.items():
        rate = 48000 if name == "opus.opus" else RATE
        with soundfile.SoundFile(folder / name, "w", rate, 2, **options) as file:
            for start in range(0, FRAMES, RATE):
                file.write(noise[:, start : start + RATE].T)
    for name in ("constant.mp3", "variable.mp3"):
        shutil.copy(folder / name, folder / f"headerless-{name}")
        without_length_header(folder / f"headerless-{name}")
    return folder


def encode(path: Path, audio: np.ndarray, codec: str, container: str, **options: str) -> None:
    """Encode with FFmpeg, as files of the outside world are."""
    av = pytest.importorskip("av")
    muxing = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", format=container, options=muxing) as output:
        stream = output.add_stream(codec, rate=RATE, layout="stereo", options=options)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=RATE)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0
        for part in (*resampler.resample(frame), None):
            output.mux(stream.encode(part))


def remux(source: Path, target: Path, container: str, skip_packets: int = 0, **muxing: str) -> None:
    """Put the same packets into another file, without the first ones."""
    av = pytest.importorskip("av")
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", format=container, options=muxing) as writer,
    ):
        stream = writer.add_stream_from_template(reader.streams.audio[0])
        packets = [packet for packet in reader.demux(reader.streams.audio[0]) if packet.dts is not None]
        for packet in packets[skip_packets:]:
            packet.stream = stream
            writer.mux(packet)


def best_lag(a: np.ndarray, b: np.ndarray) -> int:
    """The lag, in frames, at which `a` is most like `b`."""
    correlation = np.fft.irfft(np.fft.rfft(a) * np.fft.rfft(b).conj())
    lag = int(np.argmax(correlation))
    return lag if lag < len(correlation) // 2 else lag - len(correlation)


LENGTHS = {"pcm24.wav": FRAMES, "pcm16.wav": FRAMES, "pcm24.aiff": FRAMES, "pcm24.flac": FRAMES}
LENGTHS |= {"constant.mp3": FRAMES, "variable.mp3": FRAMES, "vorbis.ogg": FRAMES, "opus.opus": FRAMES}
CODECS = {".wav": "wav", ".aiff": "aiff", ".flac": "flac", ".mp3": "mp3", ".ogg": "vorbis", ".opus": "opus"}


class TestReading:
    @pytest.mark.parametrize("name", LENGTHS)
    def test_probe_tells_length_rate_channels_and_codec(self, library, name):
        info = probe(library / name)
        rate = 48000 if name.endswith(".opus") else RATE
        assert (info.num_frames, info.sample_rate, info.channels) == (LENGTHS[name], rate, 2)
        assert info.codec == CODECS[Path(name).suffix]

    def test_lossless_files_read_back_what_was_written(self, library, noise):
        audio, rate = read(library / "pcm24.flac")
        assert rate == RATE
        assert audio.dtype == np.float32
        assert audio.flags.c_contiguous
        assert np.abs(audio - noise).max() <= 2**-23

    def test_lossy_files_stay_in_place(self, library, noise):
        audio, _ = read(library / "constant.mp3")
        assert best_lag(audio[0], noise[0]) == 0

    @pytest.mark.parametrize("name", [*LENGTHS, "headerless-constant.mp3"])
    def test_a_crop_equals_the_slice_of_the_whole(self, library, name):
        whole, _ = read(library / name)
        length = whole.shape[1]
        # Opus restarts its decoder before a crop, and it converges; MP3 without its header sums in another
        # order.
        tolerance = 1e-6 if name in ("opus.opus", "headerless-constant.mp3") else 0.0
        for start, count in ((0, 1), (1, 100), (12345, 5000), (length // 2 + 1, 30000), (length - 501, 501)):
            crop, _ = read(library / name, start, count)
            assert crop.shape == (2, count)
            assert np.abs(crop - whole[:, start : start + count]).max() <= tolerance

    @pytest.mark.parametrize("name", [*LENGTHS, "headerless-constant.mp3"])
    @pytest.mark.parametrize("block_frames", [5000, 1 << 18])
    def test_blocks_join_to_the_whole(self, library, name, block_frames):
        parts = list(blocks(library / name, block_frames))
        assert all(part.shape[1] == block_frames for part in parts[:-1])
        assert np.array_equal(np.concatenate(parts, axis=1), read(library / name)[0])

    def test_an_mp3_that_becomes_loud_at_once_has_no_bad_place(self, tmp_path):
        # The first loud frames borrow bytes from many small silent ones, more than libmpg123 goes back for a
        # seek: plain seeking, or reading by blocks through soundfile (which seeks after each), is 0.1 of full
        # scale off.
        audio = np.zeros((2, 3 * RATE), np.float32)
        audio[:, 2 * RATE :] = np.random.default_rng(1).uniform(-0.5, 0.5, (2, RATE))
        path = tmp_path / "onset.mp3"
        soundfile.write(path, audio.T, RATE, bitrate_mode="VARIABLE", compression_level=0.0)
        whole, _ = read(path)
        for start in range(2 * RATE - 3000, 2 * RATE + 3000, 97):
            assert np.array_equal(read(path, start, 600)[0], whole[:, start : start + 600])
        assert np.array_equal(np.concatenate(list(blocks(path, 997)), axis=1), whole)

    def test_reading_from_a_frame_to_the_end(self, library, noise):
        audio, _ = read(library / "pcm24.wav", FRAMES - 10)
        assert np.abs(audio - noise[:, -10:]).max() <= 2**-23

    def test_mp3_without_a_length_header_is_counted_by_decoding(self, library):
        path = library / "headerless-constant.mp3"
        info = probe(path)
        assert info.num_frames == read(path)[0].shape[1]
        # No header, no trimming: the encoder's delay and padding stay, and an estimate from the bit rate is
        # not used.
        assert info.num_frames % 1152 == 0
        assert 0 < info.num_frames - FRAMES < 4 * 1152

    def test_variable_mp3_without_a_length_header_is_not_silently_halved(self, tmp_path):
        # Silence, then noise: libmpg123 takes the first frame's bit rate for all, or stops at a wrong
        # estimate.
        loud_first = np.zeros((2, 6 * RATE), np.float32)
        loud_first[:, :RATE] = pink_noise(np.random.default_rng(1), 2, RATE, rms=0.2)
        path = tmp_path / "a.mp3"
        soundfile.write(path, loud_first.T, RATE, bitrate_mode="VARIABLE", compression_level=0.0)
        without_length_header(path)
        with soundfile.SoundFile(path) as file:
            assert file.frames < 5 * RATE, "this file must be one that libsndfile cuts short"
        with pytest.raises(AudioError, match=r"a\.mp3: the decoder delivered \d+ frames.*-c copy"):
            probe(path)
        with pytest.raises(AudioError, match="headers promise"):
            list(blocks(path))

    def test_suffixes_are_lower_case_and_dotted(self):
        assert {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"} <= AUDIO_SUFFIXES
        assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in AUDIO_SUFFIXES)

    def test_an_upper_case_suffix_is_read(self, tmp_path, library):
        path = tmp_path / "A.FLAC"
        path.write_bytes((library / "pcm24.flac").read_bytes())
        assert probe(path).codec == "flac"

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
    def test_a_name_that_is_not_utf8_is_read(self, tmp_path, library):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
        path.write_bytes((library / "pcm16.wav").read_bytes())
        assert probe(path).num_frames == FRAMES

    @pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, 0), (0, -3)])
    def test_impossible_crops_are_the_callers_mistake(self, library, start, count):
        with pytest.raises(ValueError, match=str(count)):
            read(library / "pcm16.wav", start, count)

    def test_a_block_of_nothing_is_the_callers_mistake(self, library):
        with pytest.raises(ValueError, match="block_frames"):
            next(blocks(library / "pcm16.wav", 0))


@pytest.fixture(scope="module")
def m4a(tmp_path_factory, library, noise):
    """Files that FFmpeg wrote."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("m4a")
    encode(folder / "lossless.m4a", noise, "alac", "mp4")
    # Without "perceptual noise substitution", which a decoder fills with random numbers.
    encode(folder / "lossy.m4a", noise, "aac", "mp4", aac_pns="0")
    encode(folder / "bare.aac", noise, "aac", "adts", aac_pns="0")
    # Pages of a second, as FFmpeg makes them, so that many crops begin in the last one.
    remux(library / "vorbis.ogg", folder / "long-pages.ogg", "ogg", page_duration="1000000")
    return folder


class TestFFmpegFiles:
    def test_lossless_m4a_reads_back_exactly(self, m4a, noise):
        info = probe(m4a / "lossless.m4a")
        assert (info.num_frames, info.sample_rate, info.channels, info.codec) == (FRAMES, RATE, 2, "alac")
        audio, _ = read(m4a / "lossless.m4a")
        assert audio.dtype == np.float32
        # FFmpeg's encoder takes 16 or 24 bits.
        assert np.abs(audio - noise).max() <= 2**-15

    def test_aac_is_counted_by_decoding_and_stays_in_place(self, m4a, noise):
        info = probe(m4a / "lossy.m4a")
        audio, _ = read(m4a / "lossy.m4a")
        assert info.codec == "aac"
        assert info.num_frames == audio.shape[1] >= FRAMES
        assert best_lag(audio[0, :FRAMES], noise[0]) == 0

    @pytest.mark.parametrize("name", ["lossless.m4a", "lossy.m4a", "bare.aac", "long-pages.ogg"])
    def test_a_crop_equals_the_slice_of_the_whole(self, m4a, name):
        whole, _ = read(m4a / name)
        length = whole.shape[1]
        for start in (
            0,
            999,
            20000,
            44100,
            70001,
            length - 40000,
            length - 20000,
            length - 4001,
            length - 400,
        ):
            crop, _ = read(m4a / name, start, 400)
            assert np.array_equal(crop, whole[:, start : start + 400])

    def test_a_late_start_time_is_subtracted(self, m4a, tmp_path):
        av = pytest.importorskip("av")
        late = tmp_path / "late.m4a"
        remux(m4a / "lossy.m4a", late, "mp4", skip_packets=30)
        with av.open(str(late)) as container:
            assert container.streams.audio[0].start_time > 0, "this file must start late"
        whole, _ = read(late)
        for start in (0, 5000, 50001, whole.shape[1] - 300):
            assert np.array_equal(read(late, start, 300)[0], whole[:, start : start + 300])

    @pytest.mark.parametrize("block_frames", [777, 1 << 18])
    def test_blocks_join_to_the_whole(self, m4a, block_frames):
        parts = list(blocks(m4a / "lossy.m4a", block_frames))
        assert all(part.shape[1] == block_frames for part in parts[:-1])
        assert np.array_equal(np.concatenate(parts, axis=1), read(m4a / "lossy.m4a")[0])

    @pytest.mark.parametrize("flags", ["", "faststart", "frag_keyframe+empty_moov"])
    def test_a_cut_file_is_refused(self, tmp_path, noise, flags):
        path = tmp_path / "cut.m4a"
        encode(path, noise, "aac", "mp4", **({"movflags": flags} if flags else {}))
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        with pytest.raises(AudioError, match=r"cut\.m4a: .*again"):
            read(path)

    def test_a_crop_past_the_end_is_refused(self, m4a):
        with pytest.raises(AudioError, match=r"ends at frame \d+, but frames 0 to 9000000 were asked for"):
            read(m4a / "lossless.m4a", 0, 9_000_000)

    def test_without_pyav_the_error_names_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        path = tmp_path / "a.m4a"
        path.write_bytes(b"x" * 100)
        with pytest.raises(AudioError, match=r"a\.m4a: \.m4a needs PyAV.*pip install 'stemloom\[av\]'"):
            probe(path)

    def test_other_bytes_are_refused(self, tmp_path):
        pytest.importorskip("av")
        path = tmp_path / "a.m4a"
        path.write_bytes(b"not audio" * 1000)
        with pytest.raises(AudioError, match=r"a\.m4a: not audio that FFmpeg can read"):
            probe(path)


class TestRefusing:
    CUT = ("pcm24.wav", "pcm24.aiff", "pcm24.flac", "constant.mp3", "variable.mp3", "vorbis.ogg", "opus.opus")

    @pytest.mark.parametrize("name", CUT)
    @pytest.mark.parametrize("keep", [0.3, 0.97])
    def test_a_cut_file_is_refused_by_every_reader(self, library, tmp_path, name, keep):
        path = tmp_path / name
        data = (library / name).read_bytes()
        path.write_bytes(data[: int(keep * len(data))])
        for reader in (probe, read, lambda path: list(blocks(path))):
            with pytest.raises(AudioError, match=rf"{name}: .*(cut short|damaged)"):
                reader(path)

    @pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".m4a"])
    def test_an_empty_file_is_refused(self, tmp_path, suffix):
        path = tmp_path / f"empty{suffix}"
        path.touch()
        with pytest.raises(AudioError, match="zero bytes; copy"):
            probe(path)

    @pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
    def test_other_bytes_are_refused(self, tmp_path, suffix):
        path = tmp_path / f"page{suffix}"
        path.write_bytes(b"<html>404 Not Found</html>" * 100)
        with pytest.raises(AudioError, match=f"page{suffix}: not audio"):
            read(path)

    def test_an_unknown_suffix_is_refused_with_the_known_ones(self, tmp_path):
        path = tmp_path / "a.raw"
        path.write_bytes(bytes(100))
        with pytest.raises(AudioError, match=r"suffix '\.raw' is none of \.aac, .*\.wav"):
            read(path)

    def test_a_missing_file_a_folder_and_a_pipe_are_refused(self, tmp_path):
        with pytest.raises(AudioError, match=r"no such file; look whether it was moved .* same build command"):
            read(tmp_path / "missing.wav")
        (tmp_path / "folder.wav").mkdir()
        with pytest.raises(AudioError, match="not a regular file"):
            read(tmp_path / "folder.wav")
        os.mkfifo(tmp_path / "pipe.wav")
        with pytest.raises(AudioError, match="not a regular file"):
            read(tmp_path / "pipe.wav")

    def test_a_file_without_frames_is_refused(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), RATE)
        with pytest.raises(AudioError, match="has no audio: its header says 0 frames"):
            probe(tmp_path / "a.wav")
        with pytest.raises(AudioError, match="delivered 0 frames"):
            read(tmp_path / "a.wav")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_bad_sample_is_refused_with_its_place(self, tmp_path, value):
        audio = np.zeros((300_000, 2), np.float32)
        audio[270_001, 1] = value
        path = tmp_path / "a.wav"
        soundfile.write(path, audio, RATE, subtype="FLOAT")
        with pytest.raises(AudioError, match=rf"a\.wav: sample {value} at frame 270001, channel 1"):
            read(path)
        with pytest.raises(AudioError, match="frame 270001, channel 1"):
            read(path, 270_000, 100)
        assert not read(path, 0, 270_001)[0].any()

    def test_values_beyond_full_scale_are_passed_on(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.full((10, 1), 1.5, np.float32), RATE, subtype="FLOAT")
        assert (read(tmp_path / "a.wav")[0] == 1.5).all()

    def test_a_crop_past_the_end_is_refused(self, library):
        with pytest.raises(AudioError, match=f"ends at frame {FRAMES}, but"):
            read(library / "pcm24.flac", FRAMES - 10, 11)
        with pytest.raises(AudioError, match=r"pcm24\.wav"):
            read(library / "pcm24.wav", FRAMES + 10, 5)
        with pytest.raises(AudioError, match=r"pcm24\.wav"):
            read(library / "pcm24.wav", FRAMES)

    def test_a_streamed_wav_that_never_knew_its_size_is_read(self, library, tmp_path):
        data = bytearray((library / "pcm16.wav").read_bytes())
        at = data.index(b"data") + 4
        for unknown in (0xFFFFFFFF, 0x7FFFF000):
            data[4:8] = data[at : at + 4] = struct.pack("<I", unknown)
            path = tmp_path / "stream.wav"
            path.write_bytes(data)
            assert probe(path).num_frames == FRAMES

    def test_a_flac_from_a_pipe_is_counted_by_decoding(self, library, tmp_path, noise):
        # STREAMINFO: 36 bits of total samples, from the low half of byte 21 on; 0 is unknown.
        data = bytearray((library / "pcm24.flac").read_bytes())
        data[21] &= 0xF0
        data[22:26] = bytes(4)
        path = tmp_path / "pipe.flac"
        path.write_bytes(data)
        assert probe(path).num_frames == FRAMES
        assert np.abs(read(path)[0] - noise).max() <= 2**-23


def absurd_wav(channels: int, frames: int) -> bytes:
    size = channels * frames * 2
    head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE")
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, size + 72, size, frames, 0)
    block = channels * 2 % 65536
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, 44100, 44100 * channels * 2 % 2**32, block, 16)
    return head + sizes + form + struct.pack("<4sI", b"data", 0xFFFFFFFF) + bytes(4000)


def absurd_flac(library: Path) -> bytes:
    data = bytearray((library / "pcm24.flac").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def absurd_aiff() -> bytes:
    rate = b"\x40\x0e\xac\x44" + bytes(6)
    common = struct.pack(">4sIHIH", b"COMM", 18, 2, 0xFFFFFFFF, 16) + rate
    sound = struct.pack(">4sIII", b"SSND", 0xFFFFFFF0, 0, 0) + bytes(4000)
    return struct.pack(">4sI4s", b"FORM", 0xFFFFFFF0, b"AIFF") + common + sound


class TestAbsurdHeaders:
    @pytest.fixture
    def bounded(self) -> Iterator[None]:
        tracemalloc.start()
        yield
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 << 20, f"{peak} bytes were allocated for a file of a few hundred kB"

    @pytest.mark.usefixtures("bounded")
    @pytest.mark.parametrize(("channels", "frames"), [(10_000, 1000), (2, 1 << 40), (10_000, 1 << 40), (65, 30)])
    def test_a_wav_that_claims_the_moon_is_refused_without_allocating(self, tmp_path, channels, frames):
        path = tmp_path / "a.wav"
        path.write_bytes(absurd_wav(channels, frames))
        for reader in (probe, read, lambda path: list(blocks(path))):
            with pytest.raises(AudioError, match=r"a\.wav: "):
                reader(path)
        with pytest.raises(AudioError, match=r"a\.wav: "):
            read(path, 0, 1 << 40)

    @pytest.mark.usefixtures("bounded")
    def test_a_flac_that_claims_two_to_the_36_frames_is_refused_without_allocating(self, tmp_path, library):
        path = tmp_path / "a.flac"
        path.write_bytes(absurd_flac(library))
        for reader in (probe, read, lambda path: list(blocks(path))):
            with pytest.raises(AudioError, match=r"a\.flac: "):
                reader(path)

    @pytest.mark.usefixtures("bounded")
    def test_an_aiff_that_claims_the_moon_is_refused_without_allocating(self, tmp_path):
        path = tmp_path / "a.aiff"
        path.write_bytes(absurd_aiff())
        with pytest.raises(AudioError, match=r"a\.aiff: cut short: its header claims 42949"):
            read(path)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        data=st.data(),
        name=st.sampled_from(["pcm16.wav", "pcm24.flac", "vorbis.ogg", "opus.opus", "pcm24.aiff"]),
    )
    def test_damaged_bytes_give_audio_or_an_audio_error(self, library, tmp_path, data, name):
        content = bytearray((library / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, 300))] = data.draw(st.integers(0, 255))
        path = tmp_path / name
        path.write_bytes(content)
        try:
            audio, _ = read(path)
        except AudioError:
            return
        assert np.isfinite(audio).all()
        assert audio.size


class TestWriting:
    @pytest.mark.parametrize("suffix", [".wav", ".flac"])
    @pytest.mark.parametrize("bit_depth", [16, 24])
    def test_a_file_reads_back_as_its_quantised_audio(self, tmp_path, noise, suffix, bit_depth):
        path = tmp_path / "new" / f"a{suffix}"
        write(path, noise, RATE, bit_depth)
        audio, rate = read(path)
        assert rate == RATE
        assert np.array_equal(audio, quantise(noise, bit_depth))
        assert soundfile.info(path).subtype == f"PCM_{bit_depth}"

    @settings(max_examples=50, deadline=None)
    @given(
        values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=64),
        bit_depth=st.sampled_from([16, 24]),
    )
    def test_quantising_rounds_to_the_nearest_step(self, values, bit_depth):
        audio = np.array([values], np.float32)
        quantised = quantise(audio, bit_depth)
        scale = 2.0 ** (bit_depth - 1)
        expected = np.minimum(np.rint(audio.astype(np.float64) * scale), scale - 1) / scale
        assert np.array_equal(quantised, expected.astype(np.float32))
        assert np.array_equal(quantise(quantised, bit_depth), quantised)

    def test_a_mixture_is_the_sum_of_its_written_stems_to_the_last_bit(self, tmp_path, noise):
        vocals, instrumental = quantise(0.5 * noise[:, :RATE]), quantise(0.4 * noise[:, RATE : 2 * RATE])
        for name, audio in (("v", vocals), ("i", instrumental), ("m", vocals + instrumental)):
            write(tmp_path / f"{name}.flac", audio, RATE)
        v, i, m = (read(tmp_path / f"{name}.flac")[0] for name in "vim")
        assert np.array_equal(v + i, m)

    def test_full_scale_is_stored_within_one_step(self, tmp_path):
        write(tmp_path / "a.wav", np.array([[1.0, -1.0]], np.float32), RATE)
        assert np.array_equal(read(tmp_path / "a.wav")[0], [[1 - 2**-23, -1.0]])

    def test_the_same_audio_gives_the_same_bytes(self, tmp_path, noise):
        for name in ("a.flac", "b.flac"):
            write(tmp_path / name, noise, RATE)
        assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()

    @pytest.mark.parametrize("value", [1.001, -1.001, np.nan, np.inf])
    def test_audio_beyond_full_scale_or_not_finite_is_refused(self, tmp_path, value):
        audio = np.zeros((2, 100), np.float32)
        audio[1, 7] = value
        with pytest.raises(AudioError, match=r"a\.flac: audio to be written (peak 1\.001 is|holds NaN)"):
            write(tmp_path / "a.flac", audio, RATE)
        assert not list(tmp_path.iterdir())

    def test_nothing_at_all_is_refused(self, tmp_path):
        with pytest.raises(AudioError, match="nothing to write"):
            write(tmp_path / "a.flac", np.zeros((2, 0), np.float32), RATE)
        with pytest.raises(ValueError, match="shape"):
            write(tmp_path / "a.flac", np.zeros(5, np.float32), RATE)

    def test_what_a_format_cannot_hold_is_refused(self, tmp_path):
        two = np.zeros((2, 10), np.float32)
        for name, audio, rate, depth, message in (
            ("a.mp3", two, RATE, 24, r"suffix '\.mp3' cannot be written; use \.flac or \.wav"),
            ("a.wav", two, RATE, 32, "bit_depth 32"),
            ("a.flac", np.zeros((9, 10), np.float32), RATE, 24, "FLAC holds 8 channels, not 9"),
            ("a.wav", np.broadcast_to(np.float32(0), (2, 1 << 30)), RATE, 24, "WAV holds 4 GiB"),
            ("a.flac", two, 700_001, 24, "700001 Hz"),
        ):
            with pytest.raises(RecipeError, match=message):
                write(tmp_path / name, audio, rate, depth)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [".wav", ".flac"])
    def test_a_disk_that_refuses_leaves_the_old_file_and_no_other(self, tmp_path, noise, suffix):
        path = tmp_path / f"a{suffix}"
        write(path, noise[:, :100], RATE)
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(BuildError, match=rf"a{suffix}: cannot be written \(File too large\); raise"):
                write(path, noise, RATE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == before


class TestContentId:
    def test_it_is_blake2b_of_the_bytes(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(b"abc" * 1_000_000)
        assert content_id(path) == hashlib.blake2b(b"abc" * 1_000_000, digest_size=16).hexdigest()
        assert len(content_id(path)) == 32

    def test_a_file_that_cannot_be_read_is_refused(self, tmp_path):
        with pytest.raises(AudioError, match=r"gone\.wav: cannot be read"):
            content_id(tmp_path / "gone.wav")
