"""Crops out of many files: the same samples and the same errors as `manifests.audio.read`, with few files open."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import crops as crops_module
from manifests.audio import read
from manifests.crops import CropReader
from manifests.errors import AudioError, TableError
from tests.synthesis import pink_noise

RATE = 44100
FRAMES = 60_137
BLOCK = 4096
"""Frames of a FLAC frame, as libsndfile makes them."""

KINDS = {
    "pcm24.wav": {"subtype": "PCM_24"},
    "pcm16.wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "pcm24.aiff": {"subtype": "PCM_24"},
    "pcm16.flac": {"subtype": "PCM_16"},
    "pcm24.flac": {"subtype": "PCM_24"},
    "constant.mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.5},
    "vorbis.ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus.opus": {"format": "OGG", "subtype": "OPUS"},
}
PLACES = ((0, 1), (0, FRAMES), (BLOCK - 1, 2), (BLOCK, BLOCK), (BLOCK - 1, 1), (12345, 5000), (FRAMES - 1, 1))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    noise = np.clip(pink_noise(np.random.default_rng(7), 6, FRAMES, rms=0.15), -1, 1)
    for name, options in KINDS.items():
        soundfile.write(folder / name, noise[:2].T, 48000 if name == "opus.opus" else RATE, **options)
    for channels in (1, 6):
        for bits in (16, 24):
            path = folder / f"channels{channels}-{bits}.flac"
            soundfile.write(path, noise[:channels].T, RATE, subtype=f"PCM_{bits}")
    return folder


@pytest.fixture
def crops(library: Path) -> CropReader:
    return CropReader({".": library})


FLACS = [f"channels{channels}-{bits}.flac" for channels in (1, 6) for bits in (16, 24)]


class TestExactness:
    @pytest.mark.parametrize("name", [*KINDS, *FLACS])
    def test_a_crop_is_what_reading_the_file_gives(self, library: Path, crops: CropReader, name: str) -> None:
        for start, count in PLACES:
            audio = crops.read(".", name, start, count)
            expected, _ = read(library / name, start, count)
            assert np.array_equal(audio, expected), (start, count)
            assert (audio.dtype, audio.flags.c_contiguous, audio.flags.writeable) == (np.float32, True, True)

    @pytest.mark.parametrize("name", ["pcm16.flac", "pcm24.flac", "pcm16.wav"])
    def test_the_short_cut_is_taken_and_keeps_its_file(self, crops: CropReader, name: str, monkeypatch) -> None:
        monkeypatch.setattr(crops_module, "read", lambda *arguments: pytest.fail("decoded by manifests.audio"))
        for start, count in PLACES:
            crops.read(".", name, start, count)
        assert list(crops._handles) == [(".", name)]

    @settings(max_examples=60, deadline=None)
    @given(start=st.integers(0, FRAMES - 1), count=st.integers(1, FRAMES), data=st.data())
    def test_crops_in_any_order_are_slices_of_the_whole(self, library, start, count, data) -> None:
        name = data.draw(st.sampled_from(["pcm24.flac", "pcm16.wav"]))
        reader, whole = self.shared(library, name)
        count = min(count, FRAMES - start)
        assert np.array_equal(reader.read(".", name, start, count), whole[:, start : start + count])

    _shared: dict[str, tuple[CropReader, np.ndarray]] = {}  # noqa: RUF012

    def shared(self, library: Path, name: str) -> tuple[CropReader, np.ndarray]:
        if name not in self._shared:
            self._shared[name] = CropReader({".": library}), read(library / name)[0]
        return self._shared[name]

    @pytest.mark.parametrize("name", ["pcm24.flac", "pcm24.wav", "constant.mp3"])
    def test_the_gain_is_a_factor(self, library: Path, crops: CropReader, name: str) -> None:
        expected = read(library / name, 100, 500)[0] * np.float32(-0.3)
        assert np.array_equal(crops.read(".", name, 100, 500, gain=-0.3), expected)

    def test_a_crop_may_be_written_into(self, crops: CropReader) -> None:
        for name in ("pcm16.flac", "pcm16.wav", "vorbis.ogg"):
            first = crops.read(".", name, 0, 100)
            kept = first.copy()
            crops.read(".", name, 500, 100)
            assert np.array_equal(first, kept), "a later read must not change it"
            first[:] = 7
            assert np.array_equal(crops.read(".", name, 0, 100), kept)

    def test_a_tag_before_the_stream_is_skipped(self, library: Path, tmp_path: Path) -> None:
        tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
        (tmp_path / "a.flac").write_bytes(tag + (library / "pcm16.flac").read_bytes())
        audio = CropReader({".": tmp_path}).read(".", "a.flac", 5000, 1000)
        assert np.array_equal(audio, read(library / "pcm16.flac", 5000, 1000)[0])

    def test_a_file_that_is_another_format_than_its_name_says_is_read_all_the_same(
        self, library: Path, tmp_path: Path
    ) -> None:
        for source, name in (("pcm16.wav", "a.flac"), ("pcm16.flac", "b.wav"), ("constant.mp3", "c.wav")):
            shutil.copy(library / source, tmp_path / name)
            audio = CropReader({".": tmp_path}).read(".", name, 5000, 1000)
            assert np.array_equal(audio, read(tmp_path / name, 5000, 1000)[0])

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
    def test_a_name_that_is_not_utf8_is_read(self, library: Path, tmp_path: Path) -> None:
        for suffix in (".wav", ".flac"):
            name = os.fsdecode(b"caf\xe9" + suffix.encode())
            shutil.copy(library / f"pcm16{suffix}", tmp_path / name)
            assert CropReader({".": tmp_path}).read(".", name, 0, 10).shape == (2, 10)


class TestWithoutMiniaudio:
    @pytest.fixture(autouse=True)
    def fresh(self):
        crops_module._dr_flac.cache_clear()
        yield
        crops_module._dr_flac.cache_clear()

    def test_libsndfile_decodes_flac_where_miniaudio_is_missing(self, library, crops, monkeypatch, caplog) -> None:
        monkeypatch.setitem(sys.modules, "miniaudio", None)
        for _ in range(2):
            audio = crops.read(".", "pcm24.flac", 5000, 100)
        assert np.array_equal(audio, read(library / "pcm24.flac", 5000, 100)[0])
        assert [record.message.partition(":")[0] for record in caplog.records] == [
            "FLAC is read by libsndfile, which takes longer"
        ]

    def test_libsndfile_decodes_flac_where_the_decoders_memory_is_laid_out_otherwise(
        self, library, crops, monkeypatch, caplog
    ) -> None:
        made = crops_module._DrFlac.__init__

        def moved(self) -> None:
            made(self)
            self._header_offset += 8

        monkeypatch.setattr(crops_module._DrFlac, "__init__", moved)
        assert np.array_equal(crops.read(".", "pcm24.flac", 5000, 100), read(library / "pcm24.flac", 5000, 100)[0])
        assert "keeps its position elsewhere" in caplog.text
        assert not crops._handles


class TestRefusing:
    @pytest.mark.parametrize("name", list(KINDS))
    def test_a_crop_past_the_end_is_refused(self, crops: CropReader, name: str) -> None:
        for start in (FRAMES - 10, FRAMES * 3):
            with pytest.raises(AudioError, match=rf"{name}: .*(were asked for|failed)"):
                crops.read(".", name, start, 20_000)
        assert crops.read(".", name, 0, 10).shape == (2, 10), "and the reader goes on"

    @pytest.mark.parametrize("name", list(KINDS))
    def test_a_missing_file_is_refused(self, library: Path, crops: CropReader, tmp_path: Path, name: str) -> None:
        for _ in range(2):
            with pytest.raises(AudioError, match="no such file"):
                crops.read(".", f"missing/{name}", 0, 10)

    @pytest.mark.parametrize("name", list(KINDS))
    def test_a_file_that_vanishes_between_reads_does_no_harm(self, library, tmp_path, name: str) -> None:
        shutil.copy(library / name, tmp_path / name)
        reader = CropReader({".": tmp_path})
        expected = reader.read(".", name, 0, 10)
        (tmp_path / name).unlink()
        if name.endswith((".mp3", ".ogg", ".opus")):
            with pytest.raises(AudioError, match="no such file"):
                reader.read(".", name, 0, 10)
        else:
            assert np.array_equal(reader.read(".", name, 0, 10), expected), "the open file is still there"
        reader.close()
        with pytest.raises(AudioError, match="no such file"):
            reader.read(".", name, 0, 10)

    @pytest.mark.parametrize("name", ["pcm16.wav", "pcm16.flac", "pcm24.flac"])
    def test_a_file_that_is_cut_while_it_is_open_is_refused(self, library, tmp_path, name: str) -> None:
        shutil.copy(library / name, tmp_path / name)
        reader = CropReader({".": tmp_path})
        reader.read(".", name, 0, 10)
        os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
        with pytest.raises(AudioError, match=rf"{name}: .*(again|cut short)"):
            reader.read(".", name, FRAMES - 20_000, 20_000)

    @pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>" * 100])
    @pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.mp3"])
    def test_other_bytes_are_refused(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match=r"a\.\w+: (zero bytes|not audio)"):
            CropReader({".": tmp_path}).read(".", name, 0, 10)

    def test_a_folder_and_a_pipe_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "folder.flac").mkdir()
        os.mkfifo(tmp_path / "pipe.flac")
        reader = CropReader({".": tmp_path})
        for name in ("folder.flac", "pipe.flac"):
            with pytest.raises(AudioError, match="not a regular file"):
                reader.read(".", name, 0, 10)

    @pytest.mark.parametrize("name", ["pcm16.flac", "pcm24.flac"])
    def test_a_damaged_frame_is_refused_and_moves_nothing(self, library, tmp_path, name: str) -> None:
        # dr_flac leaves it out and goes on with the next, a tenth of a second early
        whole, _ = read(library / name)
        data = (library / name).read_bytes()
        rng = np.random.default_rng(1)
        refused = 0
        for trial in range(40):
            place = int(rng.integers(len(data) // 10, len(data) - 4))
            damaged = bytearray(data)
            damaged[place] ^= 1 << int(rng.integers(8))
            path = tmp_path / f"{trial}.flac"
            path.write_bytes(damaged)
            reader = CropReader({".": tmp_path})
            for start in range(0, FRAMES - 15_000, 15_000):
                try:
                    audio = reader.read(".", path.name, start, 15_000)
                except AudioError:
                    refused += 1
                else:
                    assert np.array_equal(audio, whole[:, start : start + 15_000])
        assert refused >= 30, "most trials hit a crop"

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("place", [0, 777, 999])
    def test_no_bad_sample_is_missed(self, tmp_path: Path, value: float, place: int) -> None:
        audio = np.full((1000, 2), 0.25, np.float32)
        audio[place, 1] = value
        soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
        with pytest.raises(AudioError, match=rf"sample -?(nan|inf) at frame {place}, channel 1"):
            CropReader({".": tmp_path}).read(".", "a.wav", 0, 1000, gain=0.0)

    def test_both_infinities_are_not_missed(self, tmp_path: Path) -> None:
        audio = np.array([[np.inf], [-np.inf], [0.0]], np.float32)
        soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
        with pytest.raises(AudioError, match="at frame 0"):
            CropReader({".": tmp_path}).read(".", "a.wav", 0, 3)

    def test_huge_but_finite_samples_pass(self, tmp_path: Path) -> None:
        audio = np.full((100, 1), 3e38, np.float32)
        soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
        assert np.array_equal(CropReader({".": tmp_path}).read(".", "a.wav", 0, 100), audio.T)

    def test_unknown_roots_and_paths_out_of_them_are_refused(self, crops: CropReader) -> None:
        with pytest.raises(TableError, match=r"root 'music' of path 'a\.wav' is none of '\.'"):
            crops.read("music", "a.wav", 0, 1)
        with pytest.raises(TableError, match="stays under"):
            crops.read(".", "../a.wav", 0, 1)

    @pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, 0), (0, -3)])
    def test_impossible_crops_are_the_callers_mistake(self, crops: CropReader, start: int, count: int) -> None:
        with pytest.raises(ValueError, match=str(count)):
            crops.read(".", "pcm16.wav", start, count)

    def test_no_open_file_at_all_is_the_callers_mistake(self) -> None:
        with pytest.raises(ValueError, match="max_open_files is 0"):
            CropReader({}, max_open_files=0)


def open_files(folder: Path) -> list[str]:
    """Names of the files in a folder that this process has open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = Path(os.readlink(entry))
        except OSError:
            continue
        if target.parent == folder:
            names.append(target.name)
    return sorted(names)


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
class TestOpenFiles:
    @pytest.fixture
    def many(self, library: Path, tmp_path: Path) -> Path:
        for number in range(8):
            shutil.copy(library / "pcm16.flac", tmp_path / f"{number}.flac")
            shutil.copy(library / "pcm16.wav", tmp_path / f"{number}.wav")
        return tmp_path

    def test_nothing_is_opened_before_it_is_read(self, many: Path) -> None:
        reader = CropReader({".": many})
        assert open_files(many) == []
        reader.read(".", "0.flac", 0, 10)
        assert open_files(many) == ["0.flac"]

    def test_a_bounded_number_is_open(self, many: Path) -> None:
        reader = CropReader({".": many}, max_open_files=3)
        for number in range(8):
            for suffix in ("flac", "wav"):
                reader.read(".", f"{number}.{suffix}", 0, 10)
                assert len(open_files(many)) <= 3
        assert open_files(many) == ["6.wav", "7.flac", "7.wav"]

    def test_the_longest_unused_goes_first(self, many: Path) -> None:
        reader = CropReader({".": many}, max_open_files=3)
        for name in ("0.flac", "1.wav", "2.flac", "0.flac", "3.wav"):
            reader.read(".", name, 0, 10)
        assert open_files(many) == ["0.flac", "2.flac", "3.wav"]

    @pytest.mark.parametrize("name", ["0.flac", "0.wav"])
    def test_files_are_closed_with_the_reader(self, many: Path, name: str) -> None:
        reader = CropReader({".": many})
        reader.read(".", name, 0, 10)
        assert open_files(many) == [name]
        reader.close()
        assert open_files(many) == []
        with reader:
            reader.read(".", name, 0, 10)
        assert open_files(many) == []
        reader.read(".", name, 0, 10)
        del reader
        assert open_files(many) == []

    def test_a_file_that_failed_is_not_kept_open(self, many: Path) -> None:
        reader = CropReader({".": many})
        for name in ("0.flac", "0.wav"):
            with pytest.raises(AudioError):
                reader.read(".", name, FRAMES, 10)
        assert open_files(many) == []

    def test_a_pickled_reader_starts_with_no_open_files(self, many: Path) -> None:
        reader = CropReader({".": many}, max_open_files=3)
        expected = reader.read(".", "0.flac", 5, 10)
        other = pickle.loads(pickle.dumps(reader))
        assert open_files(many) == ["0.flac"]
        assert np.array_equal(other.read(".", "0.flac", 5, 10), expected)
        assert (other.roots, other.max_open_files) == (reader.roots, 3)
        assert open_files(many) == ["0.flac", "0.flac"]

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_fork_reads_beside_its_parent(self, many: Path) -> None:
        reader = CropReader({".": many})
        places = range(0, 50_000, 997)
        names = ("0.flac", "0.wav")
        wholes = {name: read(many / name)[0] for name in names}
        for name in names:
            reader.read(".", name, 0, 10)

        def wrong() -> int:
            return sum(
                not np.array_equal(reader.read(".", name, place, 3000), wholes[name][:, place : place + 3000])
                for place in places
                for name in names
            )

        child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(min(255, wrong())))
        child.start()
        assert wrong() == 0
        child.join()
        assert child.exitcode == 0
