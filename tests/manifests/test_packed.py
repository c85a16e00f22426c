"""The packed store: where stems are put, and what is read from there."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from manifests.audio import content_id, quantise, read
from manifests.crops import CropReader
from manifests.errors import AudioError, BuildError, TableError
from manifests.packed import COLUMNS, DTYPES, PACKED, PackedReader, read_index, shard_path
from manifests.packing import (
    ALIGNMENT_BYTES,
    Region,
    forget_index,
    make_shards,
    plan_layout,
    region_written,
    shard_sizes,
    write_index,
)
from tests.synthesis import pink_noise

RATE = 8000
SHAPES = ((1, 1000), (2, 2500), (6, 777), (2, 1))


def frame(shapes: Sequence[tuple[int, int]]) -> pd.DataFrame:
    rows = [
        {"root": ".", "path": f"audio/{n}.wav", "song_id": f"s{n}", "stem": "vocals", "content_id": None}
        | {"channels": channels, "num_frames": frames, "sample_rate": RATE}
        for n, (channels, frames) in enumerate(shapes)
    ]
    return pd.DataFrame(rows)


def regions(index: pd.DataFrame) -> list[Region]:
    names = ("shard", "offset_bytes", "num_frames", "channels", "sample_format")
    return [Region(**{name: getattr(row, name) for name in names}) for row in index.itertuples()]


def pack(
    folder: Path, sounds: Sequence[np.ndarray], sample_format: Any, shard_bytes: int = 1 << 20
) -> PackedReader:
    """A store, written in the opposite of its order and in blocks of several lengths."""
    index = plan_layout(frame([audio.shape for audio in sounds]), sample_format, shard_bytes)
    make_shards(folder / PACKED, shard_sizes(index))
    for number, (audio, region) in reversed(list(enumerate(zip(sounds, regions(index), strict=True)))):
        with region_written(folder / PACKED, region, folder / f"audio/{number}.wav") as put:
            for start in range(0, audio.shape[1], 300 + number):
                put(audio[:, start : start + 300 + number])
    (folder / "stems.parquet").write_bytes(b"stands for the stems table")
    write_index(folder / PACKED, index, content_id(folder / "stems.parquet"))
    return PackedReader(folder)


@pytest.fixture
def sounds() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [np.clip(pink_noise(rng, channels, 2500, rms=0.2)[:, :frames], -1, 1) for channels, frames in SHAPES]


class TestLayout:
    @given(
        shapes=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 3000)), min_size=1, max_size=40),
        sample_format=st.sampled_from(["int16", "float32"]),
        shard_bytes=st.integers(1, 100_000),
    )
    def test_regions_are_aligned_apart_and_in_one_shard(self, shapes, sample_format, shard_bytes) -> None:
        index = plan_layout(frame(shapes), sample_format, shard_bytes)
        assert list(index.columns) == COLUMNS.names
        assert [(row.channels, row.num_frames) for row in index.itertuples()] == shapes
        sizes = shard_sizes(index)
        assert sorted(sizes) == list(range(len(sizes))), "shards are numbered without gaps"
        itemsize = DTYPES[sample_format].itemsize
        before = Region(0, 0, 0, 0, sample_format)
        for region in regions(index):
            end = region.offset_bytes + region.num_frames * region.channels * itemsize
            assert region.offset_bytes % ALIGNMENT_BYTES == 0
            assert end <= max(shard_bytes, end - region.offset_bytes), "only a stem of its own passes the limit"
            assert end <= sizes[region.shard]
            past = before.offset_bytes + before.num_frames * before.channels * itemsize
            if region.shard == before.shard:
                assert past <= region.offset_bytes < past + ALIGNMENT_BYTES
            else:
                assert (region.shard, region.offset_bytes) == (before.shard + 1, 0)
                assert past + (end - region.offset_bytes) > shard_bytes - ALIGNMENT_BYTES, "no shard ends early"
            before = region

    def test_the_numbers_of_a_small_layout(self) -> None:
        index = plan_layout(frame([(2, 100), (1, 33), (1, 10), (1, 300)]), "int16", shard_bytes=600)
        # 400 bytes, then 66 from the next multiple of 64 on, then 20; 600 need a shard of their own
        assert index["offset_bytes"].tolist() == [0, 448, 576, 0]
        assert index["shard"].tolist() == [0, 0, 0, 1]
        assert shard_sizes(index) == {0: 596, 1: 600}

    def test_a_shard_may_be_filled_to_the_last_byte(self) -> None:
        assert plan_layout(frame([(1, 32)] * 3), "int16", shard_bytes=128)["shard"].tolist() == [0, 0, 1]

    def test_a_file_that_two_rows_name_is_packed_once(self) -> None:
        index = plan_layout(pd.concat([frame([(1, 10)]), frame([(1, 10), (1, 20)])]), "int16")
        assert index["path"].tolist() == ["audio/0.wav", "audio/1.wav"]

    def test_nothing_makes_an_empty_index(self) -> None:
        index = plan_layout(frame([(1, 1)]).iloc[:0], "int16")
        assert list(index.columns) == COLUMNS.names
        assert (len(index), shard_sizes(index)) == (0, {})

    def test_a_shard_of_nothing_is_the_callers_mistake(self) -> None:
        with pytest.raises(ValueError, match="shard_bytes is 0"):
            plan_layout(frame([(1, 1)]), "int16", 0)


class TestRoundTrip:
    @pytest.mark.parametrize("shard_bytes", [1, 20_000, 1 << 20])
    def test_float32_is_bit_exact(self, tmp_path: Path, sounds, shard_bytes: int) -> None:
        sounds = [audio * np.float32(3) for audio in sounds]  # beyond full scale, too
        reader = pack(tmp_path, sounds, "float32", shard_bytes)
        for number, audio in enumerate(sounds):
            length = audio.shape[1]
            for start, count in ((0, length), (0, 1), (length - 1, 1), (length // 3, length // 2 + 1)):
                found = reader.read(".", f"audio/{number}.wav", start, count)
                assert np.array_equal(found, audio[:, start : start + count])
                assert (found.dtype, found.flags.c_contiguous, found.flags.writeable) == (np.float32, True, True)

    def test_int16_of_16_bit_files_is_bit_exact(self, tmp_path: Path, sounds) -> None:
        (tmp_path / "audio").mkdir()
        decoded = []
        for number, audio in enumerate(sounds):
            soundfile.write(tmp_path / f"audio/{number}.wav", audio.T, RATE, subtype="PCM_16")
            decoded.append(read(tmp_path / f"audio/{number}.wav")[0])
        decoded[0][0, :2] = (-1.0, 32767 / 32768)
        soundfile.write(tmp_path / "audio/0.wav", decoded[0].T, RATE, subtype="PCM_16")
        packed, files = pack(tmp_path, decoded, "int16"), CropReader({".": tmp_path})
        for number, audio in enumerate(decoded):
            crop = (".", f"audio/{number}.wav", 0, audio.shape[1], -0.7)
            assert np.array_equal(packed.read(*crop), files.read(*crop))

    def test_int16_rounds_to_the_nearest_step(self, tmp_path: Path, sounds) -> None:
        sounds[0][0, 0] = 1.0
        reader = pack(tmp_path, sounds, "int16")
        for number, audio in enumerate(sounds):
            found = reader.read(".", f"audio/{number}.wav", 0, audio.shape[1])
            assert np.array_equal(found, quantise(audio, 16))
            assert np.abs(found - audio).max() <= 1 / 32768

    def test_the_shards_hold_little_endian_planar_samples(self, tmp_path: Path) -> None:
        audio = np.array([[0.5, -1.0, 0.25], [1 / 32768, 0, -1 / 32768]], np.float32)
        pack(tmp_path, [np.zeros((1, 5), np.float32), audio], "int16")
        data = shard_path(tmp_path / PACKED, 0).read_bytes()
        assert data[64:] == np.array([16384, -32768, 8192, 1, 0, -1], "<i2").tobytes()

    def test_a_gain_is_a_factor_and_crops_are_the_callers_own(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "float32")
        first = reader.read(".", "audio/1.wav", 5, 100, gain=-0.3)
        assert np.array_equal(first, sounds[1][:, 5:105] * np.float32(-0.3))
        first[:] = 7
        assert np.array_equal(reader.read(".", "audio/1.wav", 5, 100), sounds[1][:, 5:105])

    def test_the_index_can_be_read(self, tmp_path: Path, sounds) -> None:
        pack(tmp_path, sounds, "int16")
        index = read_index(tmp_path)
        assert list(index.columns) == COLUMNS.names
        assert [(row.channels, row.num_frames) for row in index.itertuples()] == list(SHAPES)
        assert set(index["sample_format"]) == {"int16"}

    def test_membership(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "int16")
        assert (".", "audio/0.wav") in reader
        assert (".", "audio/9.wav") not in reader
        assert ("music", "audio/0.wav") not in reader


class TestWriting:
    REGION = Region(0, 0, 4, 1, "int16")

    def put(self, folder: Path, region: Region, *blocks: list[float]) -> None:
        make_shards(folder, {0: 64})
        with region_written(folder, region, Path("song/a.flac")) as put:
            for block in blocks:
                put(np.array([block], np.float32))

    @pytest.mark.parametrize(
        ("blocks", "said"),
        [
            (([0.0, 0.0], [0.0]), r"song/a\.flac: ends at frame 3, and its row says 4; .*check"),
            (([0.0, 0.0, 0.0], [0.0, 0.0]), r"song/a\.flac: delivers more than the 4 frames"),
            (([0.0, 0.0], [0.0, 1.5]), r"song/a\.flac: peak 1\.5 is beyond full scale, .*float32"),
            (([0.0, 0.0], [0.0, -1.0001]), "beyond full scale"),
            (([0.0, 0.0], [0.0, np.nan]), "beyond full scale"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, blocks: Any, said: str) -> None:
        with pytest.raises(AudioError, match=said):
            self.put(tmp_path, self.REGION, *blocks)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_bad_samples_are_refused_in_float32(self, tmp_path: Path, value: float) -> None:
        with pytest.raises(AudioError, match=r"song/a\.flac: holds NaN or infinite"):
            self.put(tmp_path, Region(0, 0, 2, 1, "float32"), [0.0, value])

    def test_a_region_leaves_its_neighbours_alone(self, tmp_path: Path) -> None:
        shard_path(tmp_path, 0).write_bytes(b"\xff" * 256)
        with region_written(tmp_path, Region(0, 64, 3, 2, "int16"), Path("a.flac")) as put:
            for _ in range(3):
                put(np.zeros((2, 1), np.float32))
        assert shard_path(tmp_path, 0).read_bytes() == b"\xff" * 64 + bytes(12) + b"\xff" * 180

    def test_what_was_written_is_synced_before_it_counts(self, tmp_path: Path, monkeypatch) -> None:
        order = []
        write, sync = os.pwrite, os.fsync
        make_shards(tmp_path, {0: 64})
        monkeypatch.setattr(os, "pwrite", lambda *arguments: order.append("write") or write(*arguments))
        monkeypatch.setattr(os, "fsync", lambda *arguments: order.append("sync") or sync(*arguments))
        with region_written(tmp_path, self.REGION, Path("a.flac")) as put:
            put(np.zeros((1, 4), np.float32))
        assert order == ["write", "sync"]

    def test_short_writes_are_continued(self, tmp_path: Path, monkeypatch) -> None:
        write = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: write(handle, bytes(data)[:3], offset))
        self.put(tmp_path, self.REGION, [0.5, -0.5, 0.25, -0.25])
        values = np.frombuffer(shard_path(tmp_path, 0).read_bytes()[:8], "<i2")
        assert values.tolist() == [16384, -16384, 8192, -8192]

    def test_a_full_disk_is_a_build_error(self, tmp_path: Path, monkeypatch) -> None:
        def refuse(*arguments: Any) -> int:
            raise OSError(28, "No space left on device")

        make_shards(tmp_path, {0: 64})
        monkeypatch.setattr(os, "pwrite", refuse)
        with pytest.raises(BuildError, match=r"00000\.pcm: cannot be written \(No space left on device\); free"):
            self.put(tmp_path, self.REGION, [0.0] * 4)

    def test_a_missing_shard_is_a_build_error(self, tmp_path: Path) -> None:
        with (
            pytest.raises(BuildError, match=r"00007\.pcm: cannot be written"),
            region_written(tmp_path, Region(7, 0, 1, 1, "int16"), Path("a.flac")),
        ):
            pass

    def test_shards_keep_what_they_hold(self, tmp_path: Path) -> None:
        make_shards(tmp_path / "packed", {0: 100})
        shard_path(tmp_path / "packed", 0).write_bytes(b"x" * 100)
        make_shards(tmp_path / "packed", {0: 100, 3: 50})
        assert shard_path(tmp_path / "packed", 0).read_bytes() == b"x" * 100
        assert shard_path(tmp_path / "packed", 3).read_bytes() == bytes(50)

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems may have no sparse files")
    def test_shards_are_sparse(self, tmp_path: Path) -> None:
        make_shards(tmp_path, {0: 1 << 33})
        status = shard_path(tmp_path, 0).stat()
        assert status.st_size == 1 << 33
        assert status.st_blocks * 512 < 1 << 20


class TestRefusing:
    def test_a_changed_corpus_is_refused_until_it_is_as_it_was(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "int16")
        pickled = pickle.dumps(reader)
        before = (tmp_path / "stems.parquet").read_bytes()
        (tmp_path / "stems.parquet").write_bytes(b"another")
        for look in (PackedReader, read_index, lambda folder: pickle.loads(pickled)):
            with pytest.raises(
                BuildError, match=r"stems\.parquet was changed after it was packed; run 'stemloom pack"
            ):
                look(tmp_path)
        (tmp_path / "stems.parquet").write_bytes(before)
        PackedReader(tmp_path)

    def test_a_store_that_is_missing_or_not_complete_is_refused(self, tmp_path: Path, sounds) -> None:
        with pytest.raises(BuildError, match=r"packed: the packed store is not there; run 'stemloom pack"):
            PackedReader(tmp_path)
        pack(tmp_path, sounds, "int16")
        forget_index(tmp_path / PACKED)
        with pytest.raises(BuildError, match="the packed store is not complete"):
            PackedReader(tmp_path)

    @pytest.mark.parametrize("place", [0.2, 0.5, 0.99])
    def test_a_damaged_index_is_refused(self, tmp_path: Path, sounds, place: float) -> None:
        pack(tmp_path, sounds, "int16")
        path = tmp_path / PACKED / "index.parquet"
        path.write_bytes(path.read_bytes()[: int(place * path.stat().st_size)])
        with pytest.raises(TableError, match=r"index\.parquet: cannot be read"):
            PackedReader(tmp_path)

    def test_another_parquet_file_is_refused(self, tmp_path: Path, sounds) -> None:
        pack(tmp_path, sounds, "int16")
        pd.DataFrame({"a": [1]}).to_parquet(tmp_path / PACKED / "index.parquet")
        with pytest.raises(TableError, match="is not the index of a packed store"):
            PackedReader(tmp_path)

    def test_without_a_stems_table_the_store_is_refused(self, tmp_path: Path, sounds) -> None:
        pack(tmp_path, sounds, "int16")
        (tmp_path / "stems.parquet").unlink()
        with pytest.raises(TableError, match=r"holds no stems\.parquet"):
            PackedReader(tmp_path)

    def test_what_is_not_in_the_store_is_refused(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "int16")
        with pytest.raises(TableError, match=r"holds no 'audio/9\.wav' of root '\.'; look into rejected\.parquet"):
            reader.read(".", "audio/9.wav", 0, 1)

    def test_a_crop_past_the_end_is_refused(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "int16")
        with pytest.raises(AudioError, match=r"audio/0\.wav: ends at frame 1000 .* frames 999 to 1001 were asked"):
            reader.read(".", "audio/0.wav", 999, 2)

    @pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, 0), (0, -3)])
    def test_impossible_crops_are_the_callers_mistake(self, tmp_path: Path, sounds, start: int, count: int) -> None:
        reader = pack(tmp_path, sounds, "int16")
        with pytest.raises(ValueError, match=str(count)):
            reader.read(".", "audio/0.wav", start, count)

    @pytest.mark.parametrize("length", [0, 1001, 17_999])
    def test_a_shard_that_was_cut_is_refused(self, tmp_path: Path, sounds, length: int) -> None:
        reader = pack(tmp_path, sounds, "int16")
        os.truncate(shard_path(tmp_path / PACKED, 0), length)
        with pytest.raises(BuildError, match=r"00000\.pcm: holds \d+ samples, and the index says at least \d+"):
            reader.read(".", "audio/2.wav", 776, 1)

    def test_a_missing_shard_is_refused(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "int16")
        shard_path(tmp_path / PACKED, 0).unlink()
        with pytest.raises(BuildError, match=r"00000\.pcm: cannot be opened .* run 'stemloom pack"):
            reader.read(".", "audio/0.wav", 0, 1)

    def test_a_damaged_float_is_refused(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "float32")
        with shard_path(tmp_path / PACKED, 0).open("r+b") as file:
            file.seek(4 * 500)
            file.write(np.float32(np.nan).tobytes())
        assert reader.read(".", "audio/0.wav", 0, 500).shape == (1, 500)
        with pytest.raises(AudioError, match=r"audio/0\.wav: NaN or infinite in the packed store"):
            reader.read(".", "audio/0.wav", 0, 501)

    def test_no_open_shard_at_all_is_the_callers_mistake(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="max_open_shards is 0"):
            PackedReader(tmp_path, max_open_shards=0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
class TestOpenShards:
    def mapped(self, folder: Path) -> list[str]:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return sorted({line.rpartition("/")[2] for line in lines if f"{folder}/" in line})

    def test_shards_are_mapped_when_they_are_read_and_not_pickled(self, tmp_path: Path, sounds) -> None:
        reader = pack(tmp_path, sounds, "float32", shard_bytes=1)
        assert self.mapped(tmp_path) == []
        reader.read(".", "audio/1.wav", 0, 10)
        assert self.mapped(tmp_path) == ["00001.pcm"]
        other = pickle.loads(pickle.dumps(reader))
        assert len(pickle.dumps(reader)) < 1000
        reader.close()
        assert self.mapped(tmp_path) == []
        assert np.array_equal(other.read(".", "audio/1.wav", 0, 10), sounds[1][:, :10])
        with other:
            assert self.mapped(tmp_path) == ["00001.pcm"]
        assert self.mapped(tmp_path) == []

    def test_a_bounded_number_is_mapped_and_the_longest_unused_goes_first(self, tmp_path: Path, sounds) -> None:
        pack(tmp_path, sounds, "float32", shard_bytes=1)
        reader = PackedReader(tmp_path, max_open_shards=2)
        for number in (0, 1, 0, 2):
            reader.read(".", f"audio/{number}.wav", 0, 10)
            assert len(self.mapped(tmp_path)) <= 2
        assert self.mapped(tmp_path) == ["00000.pcm", "00002.pcm"]
