"""MUSDB18-HQ's layout, read back with `musdb` (where ffmpeg is there) and by its folders."""

import logging
import os
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from manifests.audio import read
from manifests.errors import RecipeError, TableError
from manifests.exports.musdb18 import export
from tests.manifests.exports.small_corpus import (
    FOUR,
    RATE,
    files_of,
    small_corpus,
    sounds,
    write_song,
    write_tables,
)

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="musdb needs ffmpeg and ffprobe"
)


def song_folder(number):
    return f"{'test' if number == 3 else 'train'}/Band {number} - Song {number}"


def read_stems(folder):
    return {path.stem: read(path)[0] for path in sorted(folder.glob("*.wav"))}


def test_the_layout_is_that_of_musdb18_hq(tmp_path):
    exported = export(small_corpus(tmp_path / "corpus"), tmp_path / "out")
    stems = ("mixture", *FOUR)
    expected = [f"{song_folder(number)}/{stem}.wav" for number in range(4) for stem in stems]
    assert files_of(tmp_path / "out") == sorted(["setup.yaml", *expected])
    for number in range(4):
        found = read_stems(tmp_path / "out" / song_folder(number))
        for stem, audio in sounds(number).items():
            assert np.array_equal(found[stem], audio)
    assert exported.folder == tmp_path / "out"
    assert exported.songs == {"train": 3, "test": 1}
    assert exported.files == {"encoded": 20}


@needs_ffmpeg
def test_musdb_reads_it(tmp_path):
    import musdb

    export(small_corpus(tmp_path / "corpus"), tmp_path / "out")
    tracks = musdb.DB(str(tmp_path / "out"), is_wav=True).tracks
    assert [(track.name, track.subset) for track in tracks] == [
        ("Band 0 - Song 0", "train"),
        ("Band 1 - Song 1", "train"),
        ("Band 2 - Song 2", "train"),
        ("Band 3 - Song 3", "test"),
    ]
    step = 2.0**-15  # musdb decodes to 16 bit
    for number, track in enumerate(tracks):
        assert (track.artist, track.title, track.rate) == (f"Band {number}", f"Song {number}", RATE)
    expected = sounds(3)
    for stem, audio in zip(("mixture", "drums", "bass", "other", "vocals"), tracks[3].stems, strict=True):
        assert np.abs(audio.T - expected[stem]).max() <= step


@needs_ffmpeg
def test_musdb_reads_the_validation_songs_by_the_setup_file(tmp_path):
    import musdb

    export(small_corpus(tmp_path / "corpus"), tmp_path / "out")
    options = {"setup_file": "setup.yaml", "is_wav": True, "subsets": "train"}
    names = {
        split: [track.name for track in musdb.DB(str(tmp_path / "out"), split=split, **options)]
        for split in ("train", "valid")
    }
    assert names == {"train": ["Band 0 - Song 0", "Band 1 - Song 1"], "valid": ["Band 2 - Song 2"]}


@needs_ffmpeg
def test_musdb_reads_a_catalogue_of_vocals_and_instrumentals(tmp_path, caplog):
    import musdb

    caplog.set_level(logging.WARNING)
    export(small_corpus(tmp_path / "corpus", ("instrumental", "vocals")), tmp_path / "out")
    assert "no song has bass or drums: the layout goes without" in caplog.text
    assert {path.name for path in (tmp_path / "out" / song_folder(1)).iterdir()} == {
        "mixture.wav", "other.wav", "vocals.wav",
    }  # fmt: skip
    for setup in ({}, {"setup_file": "setup.yaml"}):
        track = musdb.DB(str(tmp_path / "out"), is_wav=True, **setup)[1]
        expected = sounds(1, ("instrumental", "vocals"))
        assert np.abs(track.targets["accompaniment"].audio.T - expected["instrumental"]).max() <= 2.0**-15


def test_wav_files_are_taken_as_they_are(tmp_path):
    corpus = small_corpus(tmp_path / "corpus", suffix=".wav")
    assert export(corpus, tmp_path / "copies").files == {"copied": 20}
    assert export(corpus, tmp_path / "links", audio="link").files == {"linked": 20}
    source = corpus.path_of(corpus.song("s1")["bass"])
    for name, is_same in (("copies", False), ("links", True)):
        path = tmp_path / name / song_folder(1) / "bass.wav"
        assert path.read_bytes() == source.read_bytes()
        assert os.path.samefile(path, source) is is_same


def test_what_is_neither_bass_drums_nor_vocals_is_other(tmp_path):
    stems = ("vocals", "guitar", "bass", "piano", "drums", "other")
    corpus = small_corpus(tmp_path / "corpus", stems)
    export(corpus, tmp_path / "out")
    found, expected = read_stems(tmp_path / "out" / song_folder(0)), sounds(0, stems)
    assert np.array_equal(found["other"], expected["guitar"] + expected["piano"] + expected["other"])
    assert np.array_equal(sum(found[stem] for stem in FOUR), found["mixture"])


def test_songs_of_other_rates_are_resampled_and_still_sum(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0))
    rows += write_song(tmp_path / "corpus", "s1", sounds(1), rate=RATE * 3 // 2)
    exported = export(write_tables(tmp_path / "corpus", rows), tmp_path / "out", sample_rate=RATE)
    assert exported.files == {"encoded": 10}
    assert {soundfile.info(path).samplerate for path in tmp_path.glob("out/*/*/*.wav")} == {RATE}
    found = read_stems(tmp_path / "out" / "train" / "s1")
    assert {audio.shape for audio in found.values()} == {(2, 1333)}
    assert np.abs(found["mixture"] - sum(found[stem] for stem in FOUR)).max() < 2e-6
    assert np.array_equal(read_stems(tmp_path / "out" / "train" / "s0")["bass"], sounds(0)["bass"])
    assert yaml.safe_load((tmp_path / "out" / "setup.yaml").read_text())["sample_rate"] == RATE


def test_a_missing_mixture_is_made(tmp_path):
    audio = sounds(0)
    rows = write_song(tmp_path / "corpus", "s0", {stem: audio[stem] for stem in FOUR})
    export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")
    assert np.array_equal(read_stems(tmp_path / "out" / "train" / "s0")["mixture"], audio["mixture"])


def test_a_sum_beyond_full_scale_lowers_all_of_its_song_and_no_other(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    loud = sounds(0, ("vocals", "guitar", "piano"))
    loud["guitar"] /= np.abs(loud["guitar"]).max() / np.float32(0.9)
    loud["piano"] = loud["guitar"]
    loud["vocals"] = -loud["guitar"]
    loud["mixture"] = loud["guitar"]
    rows = write_song(tmp_path / "corpus", "loud", loud)
    rows += write_song(tmp_path / "corpus", "quiet", sounds(1, ("vocals", "guitar", "piano")))
    export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")
    found = read_stems(tmp_path / "out" / "train" / "loud")
    assert np.abs(found["other"]).max() == pytest.approx(0.999, abs=1e-6)
    assert np.abs(found["mixture"] - found["other"] - found["vocals"]).max() <= 2 * 2.0**-23
    assert "song 'loud': its files are multiplied by 0.555" in caplog.text
    quiet = read_stems(tmp_path / "out" / "train" / "quiet")
    assert np.array_equal(quiet["mixture"], sounds(1, ("vocals", "guitar", "piano"))["mixture"])


def test_a_stem_that_only_some_songs_have_is_an_error_or_silence(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0))
    rows += write_song(tmp_path / "corpus", "s1", sounds(1, ("drums", "other", "vocals")))
    corpus = write_tables(tmp_path / "corpus", rows)
    with pytest.raises(TableError, match=r"song 's1' has nothing for stem 'bass' .*ask for silence"):
        export(corpus, tmp_path / "out")
    export(corpus, tmp_path / "out", silence=True)
    assert not read_stems(tmp_path / "out" / "train" / "s1")["bass"].any()
    assert read_stems(tmp_path / "out" / "train" / "s0")["bass"].any()


def test_stems_are_grouped_as_asked(tmp_path):
    corpus = small_corpus(tmp_path / "corpus", ("dialogue", "music", "effects"))
    stems = {"vocals": ["dialogue"], "other": ["music", "effects"]}
    export(corpus, tmp_path / "out", stems=stems)
    found, expected = read_stems(tmp_path / "out" / song_folder(2)), sounds(2, ("dialogue", "music", "effects"))
    assert np.array_equal(found["vocals"], expected["dialogue"])
    assert np.array_equal(found["other"], expected["music"] + expected["effects"])
    setup = yaml.safe_load((tmp_path / "out" / "setup.yaml").read_text())
    assert setup["sources"] == {"vocals": "vocals.wav", "other": "other.wav"}


def test_a_corpus_of_which_all_would_be_other_is_refused(tmp_path):
    corpus = small_corpus(tmp_path / "corpus", ("dialogue", "music"))
    with pytest.raises(RecipeError, match=r"no song has bass, drums or vocals .*dialogue, music.*mixture.*--stems"):
        export(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(corpus, tmp_path / "out", stems={"other": ["dialogue", "music"]})  # who asks for it gets it


@pytest.mark.parametrize(
    ("stems", "message"),
    [
        ({"vocal": ["vocals"]}, r"MUSDB18 has bass, drums, other, vocals, not 'vocal' \(did you mean 'vocals'"),
        (
            {"vocals": ["vocals"], "other": ["bass", "drums"]},
            "'other' is in no group, and the mixture would not be",
        ),
    ],
)
def test_groups_that_are_not_musdb18_are_refused(tmp_path, stems, message):
    with pytest.raises(RecipeError, match=message):
        export(small_corpus(tmp_path / "corpus"), tmp_path / "out", stems=stems)


def test_a_split_that_musdb18_has_not_is_refused(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0), split="holdout")
    with pytest.raises(
        RecipeError, match="song 's0' is in split 'holdout', and MUSDB18 has train, validation and test"
    ):
        export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")


def test_names_that_are_not_ascii_survive(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0), split="validation", artist="Björk & 坂本")
    export(write_tables(tmp_path / "corpus", rows, {"s0": "Jóga"}), tmp_path / "out")
    assert (tmp_path / "out" / "train" / "Björk & 坂本 - Jóga" / "bass.wav").exists()
    setup = yaml.safe_load((tmp_path / "out" / "setup.yaml").read_text(encoding="utf-8"))
    assert setup["validation_tracks"] == ["Björk & 坂本 - Jóga"]


def test_files_are_24_bit(tmp_path):
    export(small_corpus(tmp_path / "corpus"), tmp_path / "out")
    assert soundfile.info(tmp_path / "out" / song_folder(0) / "bass.wav").subtype == "PCM_24"
