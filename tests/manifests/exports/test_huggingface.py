"""Parquet with audio, read back with `datasets`."""

import io
import re

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import yaml

from manifests.errors import RecipeError
from manifests.exports import huggingface
from manifests.exports.huggingface import export
from tests.manifests.exports.small_corpus import (
    FOUR,
    FRAMES,
    RATE,
    files_of,
    small_corpus,
    sounds,
    write_song,
    write_tables,
)


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    module.disable_progress_bars()
    return module


@pytest.fixture
def corpus(tmp_path):
    return small_corpus(tmp_path / "corpus")


def decoded(cell):
    return soundfile.read(io.BytesIO(cell["bytes"]), dtype="float32")[0].T


def test_datasets_reads_the_splits_the_features_and_the_audio(corpus, tmp_path, datasets):
    exported = export(corpus, tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 2, "validation": 1, "test": 1}
    assert loaded["train"].features["vocals"] == datasets.Audio(decode=False)
    assert loaded["train"].features["weight"] == datasets.Value("float64")
    for row, number in ((loaded["train"][1], 1), (loaded["test"][0], 3)):
        expected = sounds(number)
        for stem in ("mixture", *FOUR):
            assert np.array_equal(decoded(row[stem]), expected[stem])
            assert row[stem]["path"] == f"Band {number} - Song {number}_{stem}.flac"
        assert {key: row[key] for key in row if key not in expected} == {
            "song_id": f"s{number}", "title": f"Song {number}", "artist": f"Band {number}", "genre": "rock",
            "license": "CC0", "grade": None, "weight": None,
            "num_frames": FRAMES, "sample_rate": RATE, "channels": 2,
        }  # fmt: skip
    assert exported.songs == {"train": 2, "validation": 1, "test": 1}
    assert exported.files == {"copied": 20}


def test_datasets_streams_it(corpus, tmp_path, datasets):
    export(corpus, tmp_path / "out")
    rows = list(datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True))
    assert np.array_equal(decoded(rows[0]["drums"]), sounds(0)["drums"])


def test_audio_is_in_the_files_byte_for_byte(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    table = pyarrow.parquet.read_table(tmp_path / "out" / "data" / "test-00000-of-00001.parquet")
    source = corpus.path_of(corpus.song("s3")["bass"])
    assert table["bass"][0].as_py()["bytes"] == source.read_bytes()


def test_shards_hold_as_much_as_asked_and_a_song_at_least(corpus, tmp_path, datasets):
    size = sum(path.stat().st_size for path in (corpus.folder / "audio" / "s0").iterdir())
    export(corpus, tmp_path / "small", shard_bytes=1)
    export(corpus, tmp_path / "large", shard_bytes=size * 3)
    names = [f"data/{name}.parquet" for name in ("train-00000-of-00002", "train-00001-of-00002")]
    assert [name for name in files_of(tmp_path / "small") if "train" in name] == names
    assert len(files_of(tmp_path / "large")) == 4
    loaded = datasets.load_dataset(str(tmp_path / "small"), split="train")
    assert loaded["song_id"][:] == ["s0", "s1"]


def test_a_row_group_is_a_song_and_audio_has_no_statistics(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    meta = pyarrow.parquet.ParquetFile(tmp_path / "out" / "data" / "train-00000-of-00001.parquet").metadata
    assert (meta.num_row_groups, meta.row_group(0).num_rows) == (2, 1)
    columns = [meta.row_group(0).column(n) for n in range(meta.num_columns)]
    audio = [column for column in columns if column.path_in_schema.endswith(".bytes")]
    assert len(audio) == 5
    assert all(column.statistics is None and column.compression == "UNCOMPRESSED" for column in audio)


def test_songs_of_different_stems_have_nulls(tmp_path, datasets):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0, ("vocals", "bass")))
    rows += write_song(tmp_path / "corpus", "s1", sounds(1, ("vocals", "guitar")), split="test", genre="Jazz")
    export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert loaded["train"][0]["guitar"] is None
    assert loaded["train"][0]["genre"] is None
    assert loaded["test"][0]["bass"] is None
    assert np.array_equal(decoded(loaded["test"][0]["guitar"]), sounds(1, ("vocals", "guitar"))["guitar"])


def test_a_split_gets_a_name_that_datasets_takes(tmp_path, datasets):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0, ("vocals", "bass")), split="held out-1")
    assert export(write_tables(tmp_path / "corpus", rows), tmp_path / "out").songs == {"held_out_1": 1}
    assert list(datasets.load_dataset(str(tmp_path / "out"))) == ["held_out_1"]


def test_the_card_names_the_files_of_each_split(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])
    assert head["configs"][0]["data_files"][1] == {"split": "validation", "path": "data/validation-*.parquet"}
    assert "- `train`: 2 songs, 0.00 h" in text


def test_a_file_that_no_cell_can_hold_is_refused(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "_MAX_FILE_BYTES", 10)
    with pytest.raises(RecipeError, match=r"mixture\.flac: has \d+ bytes, and a cell of the dataset holds 10"):
        export(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
