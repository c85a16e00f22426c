"""Recordings and cuts, read back with lhotse."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import RecipeError, TableError
from manifests.exports.lhotse import export
from manifests.tables import frame_of, write_table
from tests.manifests.exports.small_corpus import FOUR, FRAMES, RATE, small_corpus, sounds, write_song, write_tables

lhotse = pytest.importorskip("lhotse")


@pytest.fixture
def corpus(tmp_path):
    return small_corpus(tmp_path / "corpus")


def cuts_of(out, split="train"):
    return list(lhotse.CutSet.from_file(out / f"stemloom_cuts_{split}.jsonl.gz"))


def test_cuts_hold_the_mixture_its_stems_and_what_is_known(corpus, tmp_path):
    exported = export(corpus, tmp_path / "out")
    cuts = cuts_of(tmp_path / "out")
    assert [cut.id for cut in cuts] == ["s0", "s1"]
    for number, cut in enumerate(cuts):
        expected = sounds(number)
        assert np.array_equal(cut.load_audio(), expected["mixture"])
        for stem in FOUR:
            assert np.array_equal(cut.load_custom(stem), expected[stem])
        assert np.array_equal(cut.load_vocals(), expected["vocals"])
        assert (cut.title, cut.artist, cut.genre) == (f"Song {number}", f"Band {number}", "rock")
        assert (cut.num_samples, cut.sampling_rate, cut.num_channels) == (FRAMES, RATE, 2)
    assert cuts[1].custom["split"] == "train"
    assert not cuts[0].has_custom("split")
    assert exported.songs == {"train": 2, "validation": 1, "test": 1}
    assert exported.files == {"copied": 20}


def test_stems_are_sliced_with_their_cut(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    cut = cuts_of(tmp_path / "out", "test")[0].truncate(offset=0.05, duration=0.1)
    part = slice(400, 1200)
    assert np.array_equal(cut.load_audio(), sounds(3)["mixture"][:, part])
    assert np.array_equal(cut.load_drums(), sounds(3)["drums"][:, part])


def test_manifests_are_valid_and_found_by_their_names(corpus, tmp_path):
    from lhotse.recipes.utils import read_manifests_if_cached

    export(corpus, tmp_path / "out")
    parts = ["train", "validation", "test"]
    types = ["recordings", "cuts"]
    manifests = read_manifests_if_cached(parts, tmp_path / "out", prefix="stemloom", types=types)
    assert {part: len(found["recordings"]) for part, found in manifests.items()} == {
        "train": 10, "validation": 5, "test": 5,
    }  # fmt: skip
    for part in parts:
        for manifest in manifests[part].values():
            lhotse.validate(manifest, read_data=True)
    recording = manifests["test"]["recordings"]["s3_bass"]
    assert np.array_equal(recording.load_audio(), sounds(3)["bass"])


def test_what_lhotse_writes_is_what_it_read(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    path = tmp_path / "out" / "stemloom_cuts_train.jsonl.gz"
    lhotse.CutSet.from_file(path).to_file(tmp_path / "again.jsonl.gz")

    def lines(file):
        with gzip.open(file, "rt", encoding="utf-8") as text:
            return [json.loads(line) for line in text]

    assert lines(tmp_path / "again.jsonl.gz") == lines(path)


def test_mono_songs_are_mono_cuts(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", {stem: audio[:1] for stem, audio in sounds(0).items()})
    export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")
    cut = cuts_of(tmp_path / "out")[0]
    lhotse.validate(cut, read_data=True)
    assert type(cut) is lhotse.MonoCut
    assert np.array_equal(cut.load_vocals(), sounds(0)["vocals"][:1])


def test_a_song_without_a_mixture_has_a_cut_for_each_stem(tmp_path):
    audio = sounds(0, ("speech", "music"))
    rows = write_song(tmp_path / "corpus", "s0", {stem: audio[stem] for stem in ("speech", "music")}, artist="A")
    export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")
    cuts = cuts_of(tmp_path / "out")
    assert [cut.id for cut in cuts] == ["s0_speech", "s0_music"]
    assert np.array_equal(cuts[1].load_audio(), audio["music"])
    assert cuts[1].custom == {"song_id": "s0", "artist": "A"}


def write_clips(corpus, rows):
    write_table(corpus.folder, "clips", frame_of("clips", rows))


def test_clips_are_cuts(corpus, tmp_path):
    write_clips(
        corpus,
        [
            {"clip_id": "c0", "song_id": "s1", "start_frame": 3, "num_frames": 777},
            {
                "clip_id": "c1",
                "song_id": "s1",
                "start_frame": 1000,
                "num_frames": 1000,
                "rms_vocals": 0.25,
                "voiced_fraction": 0.5,
            },
            {"clip_id": "c2", "song_id": "s2", "start_frame": 0, "num_frames": 1},
        ],
    )
    export(corpus, tmp_path / "out", cuts="clips")
    cuts = cuts_of(tmp_path / "out")
    assert [cut.id for cut in cuts] == ["c0", "c1"]
    assert np.array_equal(cuts[0].load_vocals(), sounds(1)["vocals"][:, 3:780])
    assert np.array_equal(cuts[0].load_audio(), sounds(1)["mixture"][:, 3:780])
    assert (cuts[1].rms_vocals, cuts[1].voiced_fraction) == (0.25, 0.5)
    assert not cuts[0].has_custom("rms_vocals")
    assert cuts_of(tmp_path / "out", "validation")[0].num_samples == 1
    assert not (tmp_path / "out" / "stemloom_cuts_test.jsonl.gz").exists()


def test_a_clip_that_leaves_its_song_is_named(corpus, tmp_path):
    write_clips(corpus, [{"clip_id": "c0", "song_id": "s1", "start_frame": 1500, "num_frames": 501}])
    with pytest.raises(TableError, match="clip 'c0' ends at frame 2001, and song 's1' at 2000"):
        export(corpus, tmp_path / "out", cuts="clips")
    assert not (tmp_path / "out").exists()
    (corpus.folder / "clips.parquet").unlink()
    with pytest.raises(TableError, match=r"clips\.parquet: no such table"):
        export(corpus, tmp_path / "out", cuts="clips")


@pytest.mark.parametrize(("audio", "how"), [("copy", "copied"), ("link", "linked"), ("refer", "referred")])
def test_audio_is_copied_linked_or_referred_to(corpus, tmp_path, audio, how, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export(corpus, Path("out"), audio=audio).files == {how: 20}
    monkeypatch.chdir("/")
    cut = cuts_of(tmp_path / "out")[0]
    source = corpus.path_of(corpus.song("s0")["bass"])
    found = cut.bass.sources[0].source
    assert np.array_equal(cut.load_bass(), sounds(0)["bass"])
    assert os.path.isabs(found)
    assert (found == str(source), os.path.samefile(found, source)) == (audio == "refer", audio != "copy")
    assert (tmp_path / "out" / "audio").exists() is (audio != "refer")


def test_settings_that_are_not_known_are_refused(corpus, tmp_path):
    with pytest.raises(RecipeError, match="cuts 'windows' are not known; use 'songs' or 'clips'"):
        export(corpus, tmp_path / "out", cuts="windows")
    with pytest.raises(RecipeError, match="audio 'move' is not possible here; use 'copy' or 'link' or 'refer'"):
        export(corpus, tmp_path / "out", audio="move")
    assert not (tmp_path / "out").exists()
