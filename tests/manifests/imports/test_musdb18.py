"""MUSDB18-HQ becomes a corpus, and a corpus becomes MUSDB18-HQ and the same corpus again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from manifests.audio import write
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.exports import musdb18 as layout
from manifests.imports.musdb18 import VALIDATION_TRACKS
from tests.manifests.exports.small_corpus import FOUR, RATE, files_of, small_corpus, sounds
from tests.manifests.imports.importing import import_corpus


def write_song(folder, seed, bit_depth=16):
    for stem, audio in sounds(seed).items():
        write(folder / f"{stem}.wav", audio, RATE, bit_depth)


@pytest.fixture
def folder(tmp_path):
    write_song(tmp_path / "musdb18hq" / "train" / "Actions - One Minute Smile", 0)
    write_song(tmp_path / "musdb18hq" / "test" / "Al James - Schoolboy Facination", 1)
    return tmp_path / "musdb18hq"


def test_songs_have_their_artist_title_and_split(folder, tmp_path):
    corpus = import_corpus("musdb18", folder, tmp_path / "out", license="educational", audio="link")
    tracks = corpus.tracks.set_index("track_id")
    found = {
        tracks["title"][song]: (corpus.song(song)["mixture"]["artist"], corpus.song(song)["mixture"]["split"])
        for song in corpus.songs()
    }
    assert found == {"One Minute Smile": ("Actions", "validation"), "Schoolboy Facination": ("Al James", "test")}
    assert set(corpus.stems["stem"]) == {"mixture", *FOUR}
    assert set(corpus.stems["license"]) == {"educational"}
    assert set(corpus.stems["provenance"]) == {"recorded"}
    assert corpus.rejected.empty


def test_a_corpus_survives_the_way_there_and_back(tmp_path):
    corpus = small_corpus(tmp_path / "corpus")
    layout.export(corpus, tmp_path / "there")
    back = import_corpus("musdb18", tmp_path / "there", tmp_path / "back")
    titles = corpus.tracks.set_index("track_id")["song_title"]
    by_title = back.tracks.set_index("title")["track_id"]
    for song in corpus.songs():
        rows, again = corpus.song(song), back.song(by_title[titles[song]])
        assert rows.keys() == again.keys()
        for stem, row in rows.items():
            assert np.array_equal(back.load(again[stem]), corpus.load(row))
            assert again[stem]["artist"] == row["artist"]
            assert again[stem]["split"] == (row["split"] or "train")
    layout.export(Corpus.open(tmp_path / "back"), tmp_path / "again", audio="link")
    assert files_of(tmp_path / "again") == files_of(tmp_path / "there")
    for name in files_of(tmp_path / "there"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_the_14_validation_songs_are_those_that_musdb_knows(tmp_path):
    musdb = pytest.importorskip("musdb")
    own = yaml.safe_load((Path(musdb.__file__).parent / "configs" / "mus.yaml").read_text())
    assert list(VALIDATION_TRACKS) == own["validation_tracks"]


def test_a_setup_file_decides_about_validation(folder, tmp_path):
    write_song(folder / "train" / "Bjo\u0308rk - J\u00f3ga", 5)
    (folder / "setup.yaml").write_text("validation_tracks: ['Bj\u00f6rk - Jo\u0301ga']", encoding="utf-8")
    corpus = import_corpus("musdb18", folder, tmp_path / "out")
    splits = corpus.stems.drop_duplicates("song_id").set_index("artist")["split"].to_dict()
    assert splits == {"Actions": "train", "Bj\u00f6rk": "validation", "Al James": "test"}


def test_a_song_that_lacks_a_stem_is_rejected_by_its_name(folder, tmp_path):
    (folder / "test" / "Al James - Schoolboy Facination" / "drums.wav").unlink()
    corpus = import_corpus("musdb18", folder, tmp_path / "out")
    assert corpus.rejected[["path", "reason", "detail"]].values.tolist() == [
        ["test/Al James - Schoolboy Facination", "stem missing", "it has no drums.wav, as others have; put it back"]
    ]
    assert len(corpus.songs()) == 1


def test_other_files_are_left_alone(folder, tmp_path):
    song = folder / "train" / "Actions - One Minute Smile"
    write(song / "linear_mixture.wav", sounds(5)["mixture"], RATE)
    write_song(folder / "extras" / "x", 2)
    (folder / "README.md").write_text("x")
    corpus = import_corpus("musdb18", folder, tmp_path / "out")
    assert len(corpus.songs()) == 2
    assert set(corpus.stems["stem"]) == {"mixture", *FOUR}


def test_a_song_whose_mixture_is_not_its_sum_is_rejected_or_made_anew(folder, tmp_path):
    write(folder / "train" / "Actions - One Minute Smile" / "bass.wav", sounds(7)["bass"], RATE)
    corpus = import_corpus("musdb18", folder, tmp_path / "out")
    assert corpus.rejected["path"].tolist() == ["train/Actions - One Minute Smile"]
    assert corpus.rejected["reason"].tolist() == ["mixture is not the sum"]
    anew = import_corpus("musdb18", folder, tmp_path / "anew", make_mixture=True)
    assert (len(anew.songs()), len(anew.rejected)) == (2, 0)


def test_what_is_not_musdb18_hq_is_refused_with_the_reason(folder, tmp_path):
    shutil.rmtree(folder / "test")
    assert len(import_corpus("musdb18", folder, tmp_path / "train only").songs()) == 1
    with pytest.raises(RecipeError, match="has no songs in 'train' or 'test'; give the folder of MUSDB18-HQ"):
        import_corpus("musdb18", folder / "train", tmp_path / "out")
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    (folder / "train" / "A - B.stem.mp4").write_bytes(b"x")
    with pytest.raises(RecipeError, match=r"holds MUSDB18's compressed stems \(\.stem\.mp4\)"):
        import_corpus("musdb18", folder, tmp_path / "out")


@pytest.mark.parametrize("text", ["[", "- a list", "validation_tracks: 5"])
def test_a_setup_file_that_is_none_is_an_error(folder, tmp_path, text):
    (folder / "setup.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"setup\.yaml: is no setup file of musdb"):
        import_corpus("musdb18", folder, tmp_path / "out")


def test_a_setup_file_without_validation_songs_is_fine(folder, tmp_path):
    (folder / "setup.yaml").write_text("sample_rate: 44100.0")
    assert set(import_corpus("musdb18", folder, tmp_path / "out").stems["split"]) == {"train", "test"}
