"""The packing: a store that reads as the files do, whatever happened on the way to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from builders import pack as pack_module
from builders.check import check_build
from builders.pack import PackBuilder, Packed
from builders.recipe import PackRecipe
from manifests.audio import content_id, quantise, read, write
from manifests.corpus import Corpus
from manifests.crops import CropReader
from manifests.errors import BuildError, RecipeError, TableError
from manifests.packed import PackedReader, read_index, shard_path
from manifests.tables import frame_of, read_table, write_table
from tests.builders.small_catalog import contents
from tests.manifests.exports.small_corpus import RATE, sounds, write_song, write_tables

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test pulls the plug, and most of the time would go into waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Three songs of three stems, on the grid of 24 bits."""
    rows = []
    for seed, split in enumerate(("train", "validation", None)):
        rows += write_song(tmp_path / "corpus", f"s{seed}", sounds(seed, ("bass", "vocals")), split=split)
    return write_tables(tmp_path / "corpus", rows)


def pack(
    corpus: Corpus, *, jobs: int = 0, limit: int | None = None, progress: Any = None, **settings: Any
) -> Packed:
    options = {} if progress is None else {"progress": progress}
    return PackBuilder(PackRecipe(**settings), jobs=jobs, limit=limit, **options).build(corpus.folder)


def store(corpus: Corpus) -> Path:
    return corpus.folder / "packed"


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the stems that are decoded from now on."""
    decoded: list[str] = []
    blocks = pack_module.blocks

    def note(path: Path, *rest: Any) -> Any:
        decoded.append("/".join(path.parts[-2:]))
        return blocks(path, *rest)

    monkeypatch.setattr(pack_module, "blocks", note)
    return decoded


def same_as_files(corpus: Corpus) -> None:
    packed, files = PackedReader(corpus.folder), CropReader({".": corpus.folder})
    for row in corpus.stems.itertuples():
        for start, count in ((0, row.num_frames), (row.num_frames - 1, 1), (100, 700)):
            crop = (row.root, row.path, start, count, 0.7)
            assert np.array_equal(packed.read(*crop), files.read(*crop))


def samples(corpus: Corpus) -> dict[str, bytes]:
    """What of a store training sees."""
    return {path.name: path.read_bytes() for path in store(corpus).glob("*.p*")}


class TestRoundTrip:
    @pytest.mark.parametrize(("jobs", "shard_gib"), [(0, 4.0), (0, 1e-5), (2, 1e-5)])
    def test_a_store_reads_as_the_files_do(self, corpus: Corpus, jobs: int, shard_gib: float) -> None:
        packed = pack(corpus, jobs=jobs, shard_gib=shard_gib)
        same_as_files(corpus)
        assert packed.index.equals(read_index(corpus.folder))
        assert packed.index["path"].tolist() == corpus.stems["path"].tolist()
        assert packed.index["content_id"].tolist() == corpus.stems["content_id"].tolist()
        assert set(packed.index["sample_format"]) == {"float32"}
        sizes = [path.stat().st_size for path in sorted(store(corpus).glob("*.pcm"))]
        assert sum(sizes) == packed.num_bytes == 9 * 2 * 2000 * 4
        assert len(sizes) == (1 if shard_gib > 1 else 9)
        assert packed.rejected.empty

    def test_files_of_16_bits_are_packed_as_they_are(self, tmp_path: Path) -> None:
        rows = []
        for seed, suffix in enumerate((".flac", ".wav")):
            for stem, audio in sounds(seed, ("vocals",)).items():
                path = f"audio/s{seed}/{stem}{suffix}"
                write(tmp_path / path, audio, RATE, 16)
                rows.append(row_of(tmp_path, path, f"s{seed}", stem))
        corpus = write_tables(tmp_path, rows)
        packed = pack(corpus)
        assert set(packed.index["sample_format"]) == {"int16"}
        assert packed.num_bytes == 4 * 2 * 2000 * 2
        same_as_files(corpus)

    def test_a_check_finds_the_corpus_as_well_as_before(self, corpus: Corpus) -> None:
        before = check_build(corpus.folder)
        pack(corpus)
        assert check_build(corpus.folder) == before

    def test_the_record_of_the_run(self, corpus: Corpus) -> None:
        pack(corpus)
        run = json.loads((store(corpus) / "run.json").read_text())
        assert run["builder"] == "pack"
        assert run["counts"] == {"pack": {"in": 9, "kept": 9, "rejected": 0}}
        assert run["hours"] == {"packed": pytest.approx(9 * 2000 / RATE / 3600)}
        assert run["recipe"] == PackRecipe().model_dump(mode="json")

    def test_equal_files_have_regions_of_their_own(self, corpus: Corpus) -> None:
        shutil.copytree(corpus.folder / "audio" / "s0", corpus.folder / "audio" / "s9")
        rows = [
            {**row, "song_id": "s9", "path": row["path"].replace("s0", "s9")} for row in corpus.song("s0").values()
        ]
        kept = [row for song_id in corpus.songs() for row in corpus.song(song_id).values()]
        corpus = write_tables(corpus.folder, [*kept, *rows])
        assert len(pack(corpus).index) == 12
        same_as_files(corpus)

    def test_other_roots_are_packed_too(self, corpus: Corpus, tmp_path: Path) -> None:
        rows = [row for song_id in corpus.songs() for row in corpus.song(song_id).values()]
        write(tmp_path / "music" / "audio" / "s0" / "vocals.flac", sounds(8)["vocals"], RATE)
        path = "audio/s0/vocals.flac"  # as another row's, of another root
        row = {**row_of(tmp_path / "music", path, "s8", "vocals"), "root": "music"}
        write_tables(corpus.folder, [*rows, row])
        PackBuilder(jobs=0, roots={"music": tmp_path / "music"}).build(corpus.folder)
        found = PackedReader(corpus.folder).read("music", path, 0, 2000)
        assert np.array_equal(found, read(tmp_path / "music" / path)[0])
        with pytest.raises(TableError, match="root 'music'"):
            PackBuilder(jobs=0).build(corpus.folder)


def row_of(folder: Path, path: str, song_id: str, stem: str) -> dict[str, Any]:
    info = soundfile.info(str(folder / path))
    return {
        "song_id": song_id,
        "stem": stem,
        "root": ".",
        "path": path,
        "num_frames": info.frames,
        "sample_rate": info.samplerate,
        "channels": info.channels,
        "provenance": "recorded",
        "audit": "unheard",
        "content_id": content_id(folder / path),
    }


def corpus_of(folder: Path, files: dict[str, tuple[np.ndarray, dict[str, Any]]]) -> Corpus:
    """A corpus of single files, by name."""
    rows = []
    (folder / "audio").mkdir(parents=True)
    for number, (name, (audio, options)) in enumerate(files.items()):
        soundfile.write(folder / "audio" / name, audio.T, **{"samplerate": RATE, **options})
        rows.append(row_of(folder, f"audio/{name}", f"s{number}", "vocals"))
    return write_tables(folder, rows)


class TestConversion:
    SOUND = sounds(5)["vocals"]

    def test_another_rate_is_what_resampling_the_whole_gives(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(pack_module, "_BLOCK_FRAMES", 300)
        audio = quantise(self.SOUND, 16)
        corpus = corpus_of(
            tmp_path, {"a.wav": (audio, {"subtype": "PCM_16"}), "b.wav": (audio, {"samplerate": 6000})}
        )
        packed = pack(corpus, sample_rate=6000)
        assert packed.index["sample_rate"].tolist() == [6000, 6000]
        assert packed.index["num_frames"].tolist() == [1500, 2000]
        assert set(packed.index["sample_format"]) == {"float32"}, "resampled is not whole numbers of 16 bits"
        found = PackedReader(tmp_path).read(".", "audio/a.wav", 0, 1500)
        assert np.abs(found - soxr.resample(audio.T, RATE, 6000, "VHQ").T).max() < 1e-6
        assert np.array_equal(PackedReader(tmp_path).read(".", "audio/b.wav", 0, 2000), audio)

    def test_channels_are_averaged_or_repeated(self, tmp_path: Path) -> None:
        audio = quantise(self.SOUND, 16)
        corpus = corpus_of(
            tmp_path,
            {"stereo.wav": (audio, {"subtype": "PCM_16"}), "mono.wav": (audio[:1], {"subtype": "PCM_16"})},
        )
        pack(corpus, channels=1)
        reader = PackedReader(tmp_path)
        assert set(read_index(tmp_path)["sample_format"]) == {"float32"}
        assert np.array_equal(reader.read(".", "audio/stereo.wav", 0, 2000)[0], (audio[0] + audio[1]) / 2)
        assert np.array_equal(reader.read(".", "audio/mono.wav", 0, 2000), audio[:1])
        shutil.rmtree(tmp_path / "packed")
        pack(corpus, channels=2)
        reader = PackedReader(tmp_path)
        assert set(read_index(tmp_path)["sample_format"]) == {"int16"}
        assert np.array_equal(reader.read(".", "audio/stereo.wav", 0, 2000), audio)
        assert np.array_equal(reader.read(".", "audio/mono.wav", 0, 2000), audio[[0, 0]])

    def test_mono_is_resampled_and_then_repeated(self, tmp_path: Path) -> None:
        pack(corpus_of(tmp_path, {"mono.wav": (self.SOUND[:1], {})}), channels=2, sample_rate=16_000)
        found = PackedReader(tmp_path).read(".", "audio/mono.wav", 0, 4000)
        assert np.array_equal(found[0], found[1])

    def test_channels_that_cannot_become_others_are_rejected(self, tmp_path: Path) -> None:
        six = np.concatenate([self.SOUND] * 3)
        corpus = corpus_of(tmp_path, {"six.wav": (six, {}), "stereo.wav": (self.SOUND, {})})
        packed = pack(corpus, channels=2)
        assert packed.index["path"].tolist() == ["audio/stereo.wav"]
        (row,) = packed.rejected.to_dict("records")
        assert (row["path"], row["stage"], row["reason"]) == ("audio/six.wav", "layout", "channels")
        assert row["detail"].startswith("6 channels cannot become 2; ")

    def test_a_corpus_of_none_but_such_files_is_refused(self, tmp_path: Path) -> None:
        corpus = corpus_of(tmp_path, {"six.wav": (np.concatenate([self.SOUND] * 3), {})})
        with pytest.raises(BuildError, match=r"no stem could be packed \(6 channels cannot become 2"):
            pack(corpus, channels=2)

    def test_24_bits_are_rounded_to_int16(self, tmp_path: Path) -> None:
        pack(corpus_of(tmp_path, {"a.wav": (self.SOUND, {"subtype": "PCM_24"})}), sample_format="int16")
        found = PackedReader(tmp_path).read(".", "audio/a.wav", 0, 2000)
        assert np.array_equal(found, quantise(quantise(self.SOUND, 24), 16))

    def test_beyond_full_scale_is_rejected_in_int16_and_kept_in_float32(self, tmp_path: Path) -> None:
        loud = self.SOUND * np.float32(1.25 / np.abs(self.SOUND).max())
        corpus = corpus_of(tmp_path, {"loud.wav": (loud, {"subtype": "FLOAT"}), "soft.wav": (self.SOUND, {})})
        packed = pack(corpus, sample_format="int16")
        assert packed.index["path"].tolist() == ["audio/soft.wav"]
        (row,) = packed.rejected.to_dict("records")
        assert row["path"] == "audio/loud.wav"
        assert "peak 1.25 is beyond full scale" in row["detail"]
        assert "float32" in row["detail"]
        shutil.rmtree(tmp_path / "packed")
        assert len(pack(corpus).index) == 2
        assert np.array_equal(PackedReader(tmp_path).read(".", "audio/loud.wav", 0, 2000), loud)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"subtype": "PCM_16"}, "int16"),
            ({"subtype": "PCM_U8"}, "int16"),
            ({"subtype": "PCM_24"}, "float32"),
            ({"subtype": "FLOAT"}, "float32"),
            ({"format": "MP3"}, "float32"),
        ],
    )
    def test_auto_never_loses_anything(self, tmp_path: Path, options: dict[str, str], expected: str) -> None:
        name = "a.mp3" if "format" in options else "a.wav"
        corpus = corpus_of(
            tmp_path, {"first.wav": (self.SOUND, {"subtype": "PCM_16"}), name: (self.SOUND, options)}
        )
        assert set(pack(corpus).index["sample_format"]) == {expected}


class TestChoice:
    @pytest.mark.parametrize(
        ("settings", "limit", "expected"),
        [
            ({"stems": ("vocals",)}, None, ["s0/vocals", "s1/vocals", "s2/vocals"]),
            ({"splits": ("train",), "stems": ("bass", "vocals")}, None, ["s0/bass", "s0/vocals"]),
            ({"stems": ("bass",)}, 2, ["s0/bass", "s1/bass"]),
        ],
    )
    def test_stems_splits_and_the_first_songs(self, corpus: Corpus, settings, limit, expected) -> None:
        index = pack(corpus, limit=limit, **settings).index
        assert [f"{row.song_id}/{row.stem}" for row in index.itertuples()] == expected
        reader = PackedReader(corpus.folder)
        assert [(row.root, row.path) in reader for row in corpus.stems.itertuples()].count(True) == len(expected)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"stems": ("vocal",)}, r"field 'stems': the corpus has no stem 'vocal' \(did you mean 'vocals'\?\)"),
            ({"splits": ("x",)}, "field 'splits': the corpus has no split 'x'; it has train, validation"),
        ],
    )
    def test_unknown_names_are_refused(self, corpus: Corpus, settings: Any, said: str) -> None:
        with pytest.raises(RecipeError, match=said):
            pack(corpus, **settings)
        assert not store(corpus).exists()

    def test_what_leaves_nothing_is_refused(self, corpus: Corpus) -> None:
        with pytest.raises(TableError, match="no stems are left to pack"):
            pack(corpus, stems=())

    def test_a_plan_says_what_would_be_made_and_writes_nothing(self, corpus: Corpus) -> None:
        before = contents(corpus.folder)
        plan = PackBuilder(jobs=0).plan(corpus.folder)
        assert (plan.num_stems, plan.sample_format, plan.num_bytes) == (9, "float32", 9 * 2 * 2000 * 4)
        assert plan.free_bytes > plan.num_bytes
        assert contents(corpus.folder) == before
        assert pack(corpus).num_bytes == plan.num_bytes


class TestRejects:
    def damage(self, corpus: Corpus) -> None:
        (corpus.folder / "audio/s0/bass.flac").unlink()
        write(corpus.folder / "audio/s0/vocals.flac", sounds(9)["vocals"], RATE)  # of the same length
        (corpus.folder / "audio/s1/bass.flac").write_bytes(b"<html>")
        write(corpus.folder / "audio/s1/vocals.flac", sounds(1)["vocals"], RATE + 1)
        data = (corpus.folder / "audio/s2/bass.flac").read_bytes()
        (corpus.folder / "audio/s2/bass.flac").write_bytes(data[: len(data) // 2])

    def test_what_failed_is_told_and_is_not_in_the_store(self, corpus: Corpus) -> None:
        self.damage(corpus)
        packed = pack(corpus)
        said = {row.path: row.detail for row in packed.rejected.itertuples()}
        for path, detail in {
            "audio/s0/bass.flac": "no such file",
            "audio/s0/vocals.flac": "is not the file that its row names by content_id",
            "audio/s1/bass.flac": "not audio",
            "audio/s1/vocals.flac": "has sample_rate 8001, and its row says 8000",
            "audio/s2/bass.flac": "cut short",
        }.items():
            assert detail in said.pop(path)
        assert said == {}
        assert set(packed.rejected["stage"] + packed.rejected["reason"]) == {"packunreadable"}
        assert read_table(store(corpus), "rejected").equals(packed.rejected)
        assert len(read_index(corpus.folder)) == 4
        reader, good = PackedReader(corpus.folder), "audio/s2/vocals.flac"
        assert np.array_equal(reader.read(".", good, 0, 2000), read(corpus.folder / good)[0])
        with pytest.raises(TableError, match=r"look into rejected\.parquet"):
            reader.read(".", "audio/s0/bass.flac", 0, 1)

    @pytest.mark.parametrize(
        ("frames", "said"),
        [(1999, "ends at frame 1999, and its row says 2000"), (2001, "delivers more than the 2000 frames")],
    )
    def test_another_length_is_told_where_the_row_has_no_content_id(self, corpus, frames: int, said: str) -> None:
        rows = [{**row, "content_id": None} for song_id in corpus.songs() for row in corpus.song(song_id).values()]
        write(corpus.folder / "audio/s1/bass.flac", sounds(1, frames=frames)["bass"], RATE)
        (row,) = pack(write_tables(corpus.folder, rows)).rejected.to_dict("records")
        assert row["path"] == "audio/s1/bass.flac"
        assert said in row["detail"]

    def test_what_was_mended_is_packed_by_the_next_run_and_nothing_else(self, corpus: Corpus, monkeypatch) -> None:
        kept = {path: path.read_bytes() for path in (corpus.folder / "audio").rglob("*.flac")}
        self.damage(corpus)
        pack(corpus)
        for path, data in kept.items():
            path.write_bytes(data)
        decoded = noted(monkeypatch)
        assert pack(corpus).rejected.empty
        assert sorted(decoded) == [
            "s0/bass.flac",
            "s0/vocals.flac",
            "s1/bass.flac",
            "s1/vocals.flac",
            "s2/bass.flac",
        ]
        same_as_files(corpus)

    def test_a_store_of_nothing_is_refused(self, corpus: Corpus) -> None:
        shutil.rmtree(corpus.folder / "audio")
        with pytest.raises(BuildError, match=r"packed: no stem could be packed \(.*no such file"):
            pack(corpus)
        with pytest.raises(BuildError, match="is not complete"):
            PackedReader(corpus.folder)


KILLED = """
import os, signal, sys
from pathlib import Path
from builders import pack

# forked from a process that has imported everything, since that takes longer than all packings together
for folder, call, times in zip(*[iter(sys.argv[1:])] * 3):
    pid = os.fork()
    if pid == 0:
        real, left = getattr(os, call), [int(times)]
        def die(*arguments, **options):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*arguments, **options)
        setattr(os, call, die)
        pack.PackBuilder(jobs=0).build(Path(folder))
        os._exit(0)
    if os.waitpid(pid, 0)[1] != signal.SIGKILL:
        sys.exit(f"{call} {times}: was not killed")
"""
DEATHS = [("pwrite", 9), ("fsync", 5), ("fsync", 16), ("ftruncate", 0), ("replace", 1), ("replace", 12)]


class TestResuming:
    @pytest.fixture
    def undisturbed(self, corpus: Corpus, tmp_path: Path) -> dict[str, bytes]:
        shutil.copytree(corpus.folder, tmp_path / "undisturbed")
        other = Corpus.open(tmp_path / "undisturbed")
        pack(other)
        return samples(other)

    def test_a_packing_that_was_stopped_is_resumed_by_stem(self, corpus: Corpus, monkeypatch, undisturbed) -> None:
        class StopError(Exception):
            pass

        def stop(stage: str, done: int, total: int, rejected: int) -> None:
            if (stage, done) == ("pack", 4):
                raise StopError

        decoded = noted(monkeypatch)
        with pytest.raises(StopError):
            pack(corpus, progress=stop)
        with pytest.raises(BuildError, match="the packed store is not complete; run 'stemloom pack"):
            PackedReader(corpus.folder)
        first, decoded[:] = list(decoded), []
        pack(corpus)
        assert (len(first), len(decoded)) == (4, 5)
        assert not set(first) & set(decoded)
        assert samples(corpus) == undisturbed
        decoded.clear()
        pack(corpus)
        assert decoded == []

    def test_a_killed_packing_is_resumed(self, corpus: Corpus, tmp_path: Path, undisturbed) -> None:
        orders, copies = [], []
        for number, (call, times) in enumerate(DEATHS):
            copies.append(Corpus(Path(shutil.copytree(corpus.folder, tmp_path / str(number)))))
            orders += [str(copies[-1].folder), call, str(times)]
        done = subprocess.run([sys.executable, "-c", KILLED, *orders], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for copy, death in zip(copies, DEATHS, strict=True):
            with pytest.raises(BuildError, match="is not complete"):
                PackedReader(copy.folder)
            pack(copy)
            assert samples(copy) == undisturbed, death

    @pytest.mark.parametrize(
        "harm",
        [
            lambda shard: shard.unlink(),
            lambda shard: os.truncate(shard, 1000),
            lambda shard: (shard.unlink(), shard.touch()),
        ],
    )
    def test_a_shard_that_is_not_whole_is_packed_anew(
        self, corpus: Corpus, undisturbed, harm: Callable[[Path], object]
    ) -> None:
        pack(corpus)
        harm(shard_path(store(corpus), 0))
        pack(corpus)
        assert samples(corpus) == undisturbed

    def test_a_shard_that_was_made_again_is_not_taken_for_the_old_one(self, corpus, undisturbed) -> None:
        # the second run makes it and is stopped: what the first one noted is not in there
        pack(corpus)
        shard_path(store(corpus), 0).unlink()

        def stop(stage: str, done: int, total: int, rejected: int) -> None:
            if stage == "pack":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(corpus, progress=stop)
        assert shard_path(store(corpus), 0).stat().st_size == len(undisturbed["00000.pcm"])
        pack(corpus)
        assert samples(corpus) == undisturbed

    def test_while_it_is_packed_anew_a_store_does_not_count_as_complete(self, corpus: Corpus) -> None:
        pack(corpus, stems=("vocals",), limit=2)

        def stop(stage: str, done: int, total: int, rejected: int) -> None:
            if stage == "pack":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(corpus, stems=("vocals",), progress=stop)
        with pytest.raises(BuildError, match="is not complete"):
            PackedReader(corpus.folder)

    def test_two_packings_at_once_are_refused(self, corpus: Corpus) -> None:
        def again(stage: str, done: int, total: int, rejected: int) -> None:
            if (stage, done) == ("pack", 1):
                with pytest.raises(BuildError, match="is at work in this folder"):
                    pack(corpus)

        pack(corpus, progress=again)
        same_as_files(corpus)


class TestChangedCorpus:
    def test_a_stale_store_is_refused_until_it_is_packed_again(self, corpus: Corpus) -> None:
        pack(corpus)
        rows = [row for song_id in ("s0", "s2") for row in corpus.song(song_id).values()]
        rows += write_song(corpus.folder, "s7", sounds(7, ("bass", "vocals"), frames=3001))
        changed = write_tables(corpus.folder, rows)
        with pytest.raises(BuildError, match=r"stems\.parquet was changed after it was packed; run 'stemloom pack"):
            PackedReader(corpus.folder)
        pack(changed)
        same_as_files(changed)

    def test_other_audio_of_the_same_shape_is_packed(self, corpus: Corpus) -> None:
        pack(corpus)
        rows = [row for song_id in ("s0", "s2") for row in corpus.song(song_id).values()]
        rows[1:1] = write_song(corpus.folder, "s1", sounds(7, ("bass", "vocals")))
        changed = write_tables(corpus.folder, rows)
        pack(changed)
        same_as_files(changed)
        pack(changed)
        same_as_files(changed)

    def test_going_back_to_an_earlier_corpus_does_not_bring_back_its_cache(self, corpus: Corpus) -> None:
        before = (corpus.folder / "stems.parquet").read_bytes()
        pack(corpus)
        rows = [row for song_id in ("s2", "s1", "s0") for row in corpus.song(song_id).values()]
        changed = write_tables(corpus.folder, rows)
        pack(changed)
        same_as_files(changed)
        (corpus.folder / "stems.parquet").write_bytes(before)
        pack(corpus)
        same_as_files(corpus)

    def test_what_concerns_no_audio_is_packed_again_without_decoding(self, corpus: Corpus, monkeypatch) -> None:
        pack(corpus)
        table = read_table(corpus.folder, "stems")
        write_table(corpus.folder, "stems", frame_of("stems", table.assign(audit="accepted").to_dict("records")))
        with pytest.raises(BuildError, match="was changed"):
            PackedReader(corpus.folder)
        decoded = noted(monkeypatch)
        pack(corpus)
        assert decoded == []
        PackedReader(corpus.folder)

    def test_who_reads_the_old_store_goes_on_reading_it(self, corpus: Corpus) -> None:
        pack(corpus)
        reader, path = PackedReader(corpus.folder), corpus.song("s0")["bass"]["path"]
        before = reader.read(".", path, 0, 2000)
        rows = [row for song_id in ("s2", "s1", "s0") for row in corpus.song(song_id).values()]
        pack(write_tables(corpus.folder, rows))
        assert np.array_equal(reader.read(".", path, 0, 2000), before)


class TestRefusing:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"sample_format": "int16"}, "sample_format 'auto', and this is 'int16'"),
            ({"sample_rate": 4000}, "sample_rate None, and this is 4000"),
            ({"stems": ("vocals",)}, r"stems None, and this is \['vocals'\]"),
        ],
    )
    def test_other_settings_are_refused(self, corpus: Corpus, settings: Any, said: str) -> None:
        pack(corpus)
        before = contents(corpus.folder)
        for call in (
            lambda: pack(corpus, **settings),
            lambda: PackBuilder(PackRecipe(**settings)).plan(corpus.folder),
        ):
            with pytest.raises(BuildError, match=rf"recipe\.json: the store was packed with {said}; .*remove the"):
                call()
        assert contents(corpus.folder) == before
        PackedReader(corpus.folder)

    def test_a_folder_with_other_things_in_it_is_refused(self, corpus: Corpus) -> None:
        store(corpus).mkdir()
        (store(corpus) / "00000.pcm").write_bytes(b"mine")
        with pytest.raises(BuildError, match=r"already holds '00000\.pcm', which no packing has written"):
            pack(corpus)
        assert (store(corpus) / "00000.pcm").read_bytes() == b"mine"

    def test_what_is_no_corpus_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TableError, match=r"holds no stems\.parquet"):
            PackBuilder(jobs=0).build(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_too_little_space_is_told_with_the_numbers_before_anything_is_written(
        self, corpus, monkeypatch
    ) -> None:
        usage = shutil.disk_usage(corpus.folder)._replace(free=200_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        # 9 stems of 2 channels of 2000 frames of 4 bytes: 144 kB
        pack(corpus, stems=("vocals",))
        shutil.rmtree(store(corpus))
        usage = usage._replace(free=100_000)
        said = r"packed: 9 stems as float32 take 0\.00 GB, and 0\.00 GB are free; free some space"
        with pytest.raises(BuildError, match=said):
            pack(corpus)
        assert not store(corpus).exists()

    def test_what_is_packed_already_needs_no_more_space(self, corpus: Corpus, monkeypatch) -> None:
        pack(corpus)
        usage = shutil.disk_usage(corpus.folder)._replace(free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        pack(corpus)

    def test_a_disk_that_fills_meanwhile_is_a_build_error_and_resumed(self, corpus: Corpus, monkeypatch) -> None:
        real, left = os.pwrite, [7]

        def write_some(*arguments: Any) -> int:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        monkeypatch.setattr(os, "pwrite", write_some)
        with pytest.raises(BuildError, match=r"00000\.pcm: cannot be written \(No space left on device\).*resumes"):
            pack(corpus)
        with pytest.raises(BuildError, match="is not complete"):
            PackedReader(corpus.folder)
        left[0] = 1_000_000
        decoded = noted(monkeypatch)
        pack(corpus)
        assert len(decoded) == 6, "three stems of two channels were written"
        same_as_files(corpus)
