"""LibriSpeech becomes a corpus of utterances with who reads them, what, and in which split."""

import shutil

import pytest

from manifests.audio import content_id
from manifests.errors import AudioError, RecipeError
from manifests.imports.librispeech import find_songs
from tests.manifests.imports.importing import import_corpus
from tests.manifests.imports.small_libraries import UTTERANCES, write_librispeech


@pytest.fixture
def library(tmp_path):
    return write_librispeech(tmp_path / "in" / "LibriSpeech")


def test_every_utterance_is_a_song_of_its_reader(library, tmp_path):
    corpus = import_corpus("librispeech", library, tmp_path / "out")
    rows = {row["transcript"]: row for row in corpus.stems.to_dict("records")}
    assert sorted(rows) == sorted(f"SAID {name}" for names in UTTERANCES.values() for name in names)
    row = rows["SAID 19-198-0001"]
    assert row["content_id"] == content_id(library / "train-clean-100" / "19" / "198" / "19-198-0001.flac")
    assert (row["stem"], row["sample_rate"], row["channels"], row["num_frames"]) == ("speech", 16000, 1, 1600)
    assert (row["artist"], row["license"], row["language"]) == ("Kara Shallenberg (19)", "CC BY 4.0", "en")
    assert {row["artist"]: row["split"] for row in rows.values()} == {
        "Kara Shallenberg (19)": "train",
        "CBW|Simon (60)": "train",
        "Christie Nowak (84)": "validation",
        "Paul-Gabriel Wiener (61)": "test",
    }
    titles = dict(zip(corpus.tracks["artist"], corpus.tracks["title"], strict=True))
    assert titles["Kara Shallenberg (19)"] == "Northanger Abbey (version 2): 01"
    assert titles["Christie Nowak (84)"] == "Count of Monte Cristo | Volume 3: Chapter 063: Number One"
    assert corpus.rejected.empty


def test_the_folder_may_be_that_above_or_that_of_a_subset(library):
    every = {song.transcript for song in find_songs(library)[0]}
    assert {song.transcript for song in find_songs(library.parent)[0]} == every
    found, rejected = find_songs(library / "dev-clean")
    assert [(song.path, song.split) for song in found] == [("84/121123/84-121123-0000.flac", "validation")]
    assert rejected == []


def test_subsets_may_be_called_anything(library):
    (library / "train-clean-100").rename(library / "hq")
    splits = {song.path.split("/")[0]: song.split for song in find_songs(library)[0]}
    assert splits == {"hq": "train", "dev-clean": "validation", "test-clean": "test"}


def test_nothing_is_left_out_silently(library, caplog):
    place = library / "train-clean-100" / "19" / "198"
    (place / "19-198-0000.flac").rename(place / "19-198-0009.flac")
    shutil.copy(place / "19-198-0001.flac", place / "intro.flac")
    shutil.copy(place / "19-198-0001.flac", place / "7-198-0001.flac")
    found, rejected = find_songs(library)
    assert [song.transcript for song in found if song.path.endswith("0009.flac")] == [None]
    assert "1 of 5 utterances have no line in a *.trans.txt" in caplog.text
    assert {song.path.split("/")[-1]: song.reason for song in rejected} == {
        "intro.flac": "no utterance", "7-198-0001.flac": "no speaker", "19-198-0000": "no file"
    }  # fmt: skip


def test_titles_need_the_table_of_chapters(library, caplog):
    (library / "CHAPTERS.TXT").unlink()
    assert {song.title for song in find_songs(library)[0]} == {None}
    assert "there is no CHAPTERS.TXT in it or beside it" in caplog.text


def test_what_is_missing_is_said(library, tmp_path):
    with pytest.raises(AudioError, match="is no folder"):
        find_songs(tmp_path / "absent")
    (tmp_path / "SPEAKERS.TXT").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"empty: holds no utterance such as 19-198-0000.flac"):
        find_songs(tmp_path / "empty")
    (library / "SPEAKERS.TXT").unlink()
    with pytest.raises(RecipeError, match=r"LibriSpeech: there is no SPEAKERS.TXT in it or beside it; put that of"):
        find_songs(library)


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        (
            "SPEAKERS.TXT",
            "62 | M | test-clean | 8",
            r"SPEAKERS.TXT: line 8: has 4 columns, expected ID \| SEX \| SUB",
        ),
        ("SPEAKERS.TXT", "x | M | test-clean | 8 | A", "line 8: column 'ID' is 'x', expected a number; take the"),
        ("SPEAKERS.TXT", "62 | M | clean | 8 | A", "line 8: column 'SUBSET' is 'clean', expected train-..., dev-"),
        ("CHAPTERS.TXT", "1 | 62", "CHAPTERS.TXT: line 5: has 2 columns, expected ID"),
        (
            "dev-clean/84/121123/84-121123.trans.txt",
            "HELLO",
            "trans.txt: line 2: column 1 is 'HELLO', expected SPEA",
        ),
    ],
)
def test_a_table_of_another_shape_is_told_with_its_place(library, name, line, said):
    with (library / name).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(RecipeError, match=said):
        find_songs(library)


def test_a_name_that_is_not_utf_8_costs_nothing(library):
    path = library / "SPEAKERS.TXT"
    path.write_bytes(path.read_bytes().replace(b"Christie", "Zoë".encode("latin-1")))
    assert "Zo\\xeb Nowak (84)" in {song.artist for song in find_songs(library)[0]}
