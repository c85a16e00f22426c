"""The dataset types of Music-Source-Separation-Training, read back as its `utils/dataset.py` finds files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from manifests.errors import RecipeError, TableError
from manifests.exports.msst import export
from tests.manifests.exports import msst_reader
from tests.manifests.exports.msst_reader import heard, tracks, validation
from tests.manifests.exports.small_corpus import (
    FOUR,
    RATE,
    files_of,
    small_corpus,
    sounds,
    write_song,
    write_tables,
)

STEMS = ("vocals", "instrumental")


def read_folders(data_path, instruments=FOUR):
    """Types 1 and 4: song to instrument to audio."""
    by_stem = heard(tracks(1, data_path, instruments))
    return {name: {stem: by_stem[stem][name] for stem in instruments} for name in by_stem[instruments[0]]}


def read_stems(data_path, instruments=FOUR):
    return heard(tracks(2, data_path, instruments))


def read_index(data_path, instruments=FOUR):
    return {stem: [*files.values()] for stem, files in heard(tracks(3, data_path, instruments)).items()}


def read_validation(valid_path, instruments=FOUR):
    """Song to stem to audio, with the mixture."""
    by_stem = heard(validation(valid_path, instruments))
    return {name: {stem: by_stem[stem][name] for stem in by_stem} for name in by_stem["mixture"]}


def same(found, expected):
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in expected)


@pytest.fixture
def corpus(tmp_path):
    return small_corpus(tmp_path / "corpus")


@pytest.mark.parametrize("dataset_type", [1, 2, 3, 4])
def test_a_trainer_in_a_process_of_its_own_reads_every_type(corpus, tmp_path, dataset_type, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export(corpus, Path("out"), dataset_type)
    out = tmp_path / "out"
    data_path = out / ("train.csv" if dataset_type == 3 else "train")
    command = [sys.executable, msst_reader.__file__, str(dataset_type), data_path, out / "validation"]
    subprocess.run([*command, tmp_path / "read.npz", *FOUR], cwd="/", check=True)
    with np.load(tmp_path / "read.npz") as read:
        found = {tuple(key.split("|")): read[key] for key in read}
    names = ["0", "1"] if dataset_type == 3 else ["Band 0 - Song 0", "Band 1 - Song 1"]
    expected = {("train", stem, name): sounds(n)[stem] for n, name in enumerate(names) for stem in FOUR}
    expected |= {("valid", stem, "Band 2 - Song 2"): audio for stem, audio in sounds(2).items()}
    assert same(found, expected)


@pytest.mark.parametrize("dataset_type", [1, 4])
def test_types_1_and_4_are_a_folder_for_each_song(corpus, tmp_path, dataset_type):
    exported = export(corpus, tmp_path / "out", dataset_type)
    songs = read_folders(tmp_path / "out" / "train", ("mixture", *FOUR))
    assert list(songs) == ["Band 0 - Song 0", "Band 1 - Song 1"]
    for number, stems in enumerate(songs.values()):
        assert same(stems, sounds(number))
    assert exported.songs == {"train": 2, "validation": 1, "test": 1}
    assert exported.files == {"copied": 10, "encoded": 10}


def test_type_2_is_a_folder_for_each_stem(corpus, tmp_path):
    export(corpus, tmp_path / "out", 2)
    found = read_stems(tmp_path / "out" / "train")
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == list(FOUR)
    for stem, files in found.items():
        assert same(files, {f"Band {n} - Song {n}": sounds(n)[stem] for n in range(2)})


@pytest.mark.parametrize("audio", ["copy", "link", "refer"])
def test_type_3_is_a_list_of_files_that_last(corpus, tmp_path, audio, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = export(corpus, Path("out"), 3, audio=audio)
    monkeypatch.chdir("/")
    found = read_index(tmp_path / "out" / "train.csv")
    for stem, files in found.items():
        assert all(np.array_equal(files[n], sounds(n)[stem]) for n in range(2))
    paths = pd.read_csv(tmp_path / "out" / "train.csv")["path"]
    assert all(os.path.isabs(path) for path in paths)
    corpus_files = {str(corpus.path_of(row)) for row in corpus.stems.to_dict("records")}
    assert (set(paths) <= corpus_files) is (audio == "refer")
    how = {"copy": "copied", "link": "linked", "refer": "referred"}[audio]
    assert exported.files == {how: 8, "encoded": 10}
    assert (tmp_path / "out" / "train").exists() is (audio != "refer")


@pytest.mark.parametrize("dataset_type", [1, 2, 3, 4])
def test_the_other_splits_are_folders_of_wav_with_the_mixture(corpus, tmp_path, dataset_type):
    export(corpus, tmp_path / "out", dataset_type)
    for split, number in (("validation", 2), ("test", 3)):
        songs = read_validation(tmp_path / "out" / split)
        assert list(songs) == [f"Band {number} - Song {number}"]
        assert same(songs[f"Band {number} - Song {number}"], sounds(number))


def test_stems_can_be_chosen_summed_and_renamed(corpus, tmp_path):
    stems = {"vocals": ["vocals"], "instrumental": ["bass", "drums", "other"]}
    for dataset_type in (1, 2, 3):
        export(corpus, tmp_path / f"out{dataset_type}", dataset_type, stems=stems, audio="copy")
    rest = [sounds(n)["bass"] + sounds(n)["drums"] + sounds(n)["other"] for n in range(3)]
    folders = read_folders(tmp_path / "out1" / "train", STEMS)
    assert [np.array_equal(song["instrumental"], rest[n]) for n, song in enumerate(folders.values())] == [
        True,
        True,
    ]
    by_stem = read_stems(tmp_path / "out2" / "train", STEMS)
    assert np.array_equal(by_stem["instrumental"]["Band 1 - Song 1"], rest[1])
    assert np.array_equal(read_index(tmp_path / "out3" / "train.csv", STEMS)["instrumental"][0], rest[0])
    valid = read_validation(tmp_path / "out3" / "validation", STEMS)["Band 2 - Song 2"]
    assert np.array_equal(valid["instrumental"], rest[2])


def test_what_cannot_be_referred_to_is_encoded(corpus, tmp_path):
    stems = {"vocals": ["vocals"], "instrumental": ["bass", "drums", "other"]}
    export(corpus, tmp_path / "out", 3, stems=stems, audio="refer", songs=["s0"])
    assert files_of(tmp_path / "out") == ["train.csv", "train/instrumental/Band 0 - Song 0.wav"]
    frame = pd.read_csv(tmp_path / "out" / "train.csv")
    assert dict(zip(frame["instrum"], frame["path"], strict=True)) == {
        "vocals": str(corpus.folder / "audio/s0/vocals.flac"),
        "instrumental": str(tmp_path / "out/train/instrumental/Band 0 - Song 0.wav"),
    }


def test_songs_of_another_rate_are_not_referred_to_but_resampled(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0))
    rows += write_song(tmp_path / "corpus", "s1", sounds(1), rate=2 * RATE)
    corpus = write_tables(tmp_path / "corpus", rows)
    assert export(corpus, tmp_path / "out", 3, audio="refer", sample_rate=RATE).files == {
        "referred": 4,
        "encoded": 4,
    }
    paths = pd.read_csv(tmp_path / "out" / "train.csv")["path"]
    assert {soundfile.info(path).samplerate for path in paths} == {RATE}
    assert read_index(tmp_path / "out" / "train.csv")["bass"][1].shape == (2, 1000)


def test_paths_with_commas_and_quotes_survive(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0), artist='Jokers, Jacks & "Kings"')
    export(write_tables(tmp_path / "corpus", rows, {"s0": "1,2"}), tmp_path / "a, b", 3)
    paths = pd.read_csv(tmp_path / "a, b" / "train.csv")["path"]
    assert paths[0] == str(tmp_path / "a, b" / "train" / "bass" / "Jokers, Jacks & _Kings_ - 1,2.flac")
    assert os.path.isfile(paths[0])


def test_songs_without_a_stem_count_where_stems_are_apart_and_not_where_songs_are_whole(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0))
    rows += write_song(tmp_path / "corpus", "s1", sounds(1, ("other", "vocals")))
    corpus = write_tables(tmp_path / "corpus", rows)
    for dataset_type in (1, 4):
        with pytest.raises(TableError, match="song 's1' has nothing for stem 'bass'"):
            export(corpus, tmp_path / "out", dataset_type)
    export(corpus, tmp_path / "two", 2)
    assert {stem: len(songs) for stem, songs in read_stems(tmp_path / "two" / "train").items()} == {
        "bass": 1, "drums": 1, "other": 2, "vocals": 2,
    }  # fmt: skip
    export(corpus, tmp_path / "three", 3)
    assert len(read_index(tmp_path / "three" / "train.csv")["bass"]) == 1
    export(corpus, tmp_path / "four", 4, silence=True)
    assert not read_folders(tmp_path / "four" / "train")["s1"]["bass"].any()


def test_a_validation_song_without_a_stem_is_an_error_in_every_type(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0))
    rows += write_song(tmp_path / "corpus", "s1", sounds(1, ("other", "vocals")), split="validation")
    with pytest.raises(TableError, match="song 's1' has nothing for stem 'bass'"):
        export(write_tables(tmp_path / "corpus", rows), tmp_path / "out", 2)


def test_other_formats_become_wav(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0))
    for row in rows:
        audio = sounds(0)[row["stem"]]
        row["path"] = f"audio/s0/{row['stem']}.aiff"
        soundfile.write(tmp_path / "corpus" / row["path"], audio.T, RATE, subtype="PCM_24")
    corpus = write_tables(tmp_path / "corpus", rows)
    export(corpus, tmp_path / "out", 1)
    assert {path.suffix for path in (tmp_path / "out" / "train" / "s0").iterdir()} == {".wav"}
    assert same(read_folders(tmp_path / "out" / "train")["s0"], {stem: sounds(0)[stem] for stem in FOUR})


def test_settings_that_cannot_be_are_refused(corpus, tmp_path):
    with pytest.raises(RecipeError, match="dataset_type 5 is not written; use 1, 2, 3 or 4"):
        export(corpus, tmp_path / "out", 5)
    with pytest.raises(RecipeError, match="audio 'refer' needs dataset_type 3, not 1"):
        export(corpus, tmp_path / "out", 1, audio="refer")
    with pytest.raises(RecipeError, match="stems: 'a/b' cannot be a file's name beside"):
        export(corpus, tmp_path / "out", 2, stems={"a/b": ["bass"]})
    with pytest.raises(RecipeError, match="audio 'move' is not possible here"):
        export(corpus, tmp_path / "out", 3, audio="move")


@pytest.mark.parametrize("stems", [("Vocals", "vocals"), ("MIXTURE", "vocals")])
def test_stems_whose_names_differ_in_case_only_are_refused(tmp_path, stems):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0, stems))
    with pytest.raises(TableError, match=r"would both be named .*; rename one of them"):
        export(write_tables(tmp_path / "corpus", rows), tmp_path / "out", 1)
