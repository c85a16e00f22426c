"""FSD50K becomes a corpus of effects, sorted by their labels as for Divide and Remaster."""

import json
import shutil

import pytest

from manifests.errors import AudioError, RecipeError
from manifests.imports.fsd50k import AMBIENT, NO_EFFECT, find_songs, stem_of
from tests.manifests.imports.importing import import_corpus
from tests.manifests.imports.small_libraries import CC0, CLIPS, write_fsd50k


@pytest.fixture
def library(tmp_path):
    return write_fsd50k(tmp_path / "in" / "FSD50K")


def test_clips_are_sorted_by_their_labels(library, tmp_path):
    corpus = import_corpus("fsd50k", library, tmp_path / "out")
    titles = dict(zip(corpus.tracks["track_id"], corpus.tracks["title"], strict=True))
    rows = {titles[row["song_id"]]: row for row in corpus.stems.to_dict("records")}
    assert {title: (row["stem"], row["split"]) for title, row in rows.items()} == {
        "21914.wav": ("foreground", "train"),
        "180913.wav": ("background", "train"),
        "363.wav": ("background", "validation"),
        "374.wav": ("foreground", "validation"),
        "37199.wav": ("foreground", "test"),
        "100.wav": ("background", "test"),
    }
    row = rows["21914.wav"]
    assert (row["artist"], row["license"]) == ("user of 21914", CC0)
    assert row["tags"] == "Bark;Dog;Domestic_animals_and_pets;Animal"
    rejected = corpus.rejected.set_index("path")
    assert rejected["reason"].to_dict() == {
        "FSD50K.dev_audio/64760.wav": "voice or music", "FSD50K.dev_audio/209.wav": "voice or music"
    }  # fmt: skip
    assert rejected.loc["FSD50K.dev_audio/209.wav", "detail"].startswith("labelled Shout, Human_voice; ")


def test_all_clips_are_effects_if_asked_for(library, tmp_path):
    corpus = import_corpus("fsd50k", library, tmp_path / "out", labels="ignore")
    assert set(corpus.stems["stem"]) == {"effects"}
    assert len(corpus.songs()) == sum(map(len, CLIPS.values()))


@pytest.mark.parametrize(
    ("labels", "stem"),
    [
        ("Rain", "background"),
        ("Rain,Water", "foreground"),
        ("Raindrop,Rain,Water", "background"),
        ("Bark", "foreground"),
        ("Owl", "foreground"),
        ("Rain,Rain,Water,Drip", "foreground"),
        ("Wind,Wind_chime", None),
        ("Rain,Thunder,Thunderstorm,Wind,Speech", None),
    ],
)
def test_more_than_half_of_the_labels_decide_and_one_of_a_voice_is_enough(labels, stem):
    assert stem_of(labels.split(",")) == stem


def test_no_label_speaks_for_both():
    assert not AMBIENT & NO_EFFECT
    assert (len(AMBIENT), len(NO_EFFECT)) == (48, 64)


def test_the_folder_may_be_that_above(library):
    found, rejected = find_songs(library.parent)
    assert {song.path for song in found} == {f"FSD50K/{song.path}" for song in find_songs(library)[0]}
    assert {song.path.split("/")[0] for song in rejected} == {"FSD50K"}


def test_one_of_the_two_sets_is_enough(library):
    shutil.rmtree(library / "FSD50K.dev_audio")
    (library / "FSD50K.ground_truth" / "dev.csv").unlink()
    found, rejected = find_songs(library)
    assert {song.split for song in found} == {"test"}
    assert rejected == []


def test_nothing_is_left_out_silently(library, caplog):
    place = library / "FSD50K.eval_audio"
    (place / "37199.wav").rename(place / "7.wav")
    path = library / "FSD50K.metadata" / "eval_clips_info_FSD50K.json"
    path.write_text(json.dumps({"37199": json.loads(path.read_text())["37199"]}))
    found, rejected = find_songs(library)
    assert [(song.path, song.reason) for song in rejected if song.reason != "voice or music"] == [
        ("FSD50K.eval_audio/37199.wav", "no file"), ("FSD50K.eval_audio/7.wav", "no row")
    ]  # fmt: skip
    (car,) = (song for song in found if song.split == "test")
    assert (car.artist, car.license) == (None, None)
    assert "the metadata has no licence of 1 of 5 clips" in caplog.text


def test_what_is_missing_is_said(library, tmp_path):
    with pytest.raises(AudioError, match="is no folder"):
        find_songs(tmp_path / "absent")
    with pytest.raises(RecipeError, match="labels 'sorted' is not known; use 'sort' or 'ignore'"):
        find_songs(library, "sorted")
    (library / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").unlink()
    with pytest.raises(
        RecipeError, match=r"dev_clips_info_FSD50K.json: there is no such file; unpack FSD50K.metadat"
    ):
        find_songs(library)
    for part in ("dev", "eval"):
        shutil.rmtree(library / f"FSD50K.{part}_audio")
    with pytest.raises(RecipeError, match=r"FSD50K: holds no clips in FSD50K.dev_audio or FSD50K.eval_audio"):
        find_songs(library)
    shutil.rmtree(library / "FSD50K.ground_truth")
    with pytest.raises(RecipeError, match=r"in: holds no FSD50K.ground_truth, nor does a folder in it; unpack"):
        find_songs(library.parent)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "dev.csv",
            "fname,labels,mids,split",
            "fname,labels",
            r"dev.csv: line 1: is 'fname,labels', expected 'fname,",
        ),
        ("eval.csv", "mids", "mids,split", "eval.csv: line 1: is 'fname,labels,mids,split', expected"),
        ("dev.csv", "21914,", "21914x,", "line 3: column 'fname' is '21914x', expected a number that no other row"),
        ("dev.csv", "21914,", "64760,", "line 3: column 'fname' is '64760', expected a number that no other row"),
        (
            "dev.csv",
            ",val",
            ",valid",
            "line 5: column 'split' is 'valid', expected train, val; unpack FSD50K.ground_",
        ),
        ("dev.csv", "363,Wind", "363,", "line 6: column 'labels' is empty"),
        ("dev.csv", "363,Wind", "363,Wind,Rain", "line 6: has 5 columns, expected 4"),
    ],
)
def test_a_table_of_another_shape_is_told_with_its_place(library, name, old, new, said):
    path = library / "FSD50K.ground_truth" / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecipeError, match=said):
        find_songs(library)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"1": {}', "line 1: column 9: Expecting"),
        ("[]", "line 1: holds a list, expected an object of clips"),
        ('{"1": 2}', "clip '1': field 'uploader' is None, expected text; unpack the archive again"),
        ('{"1": {"uploader": "a", "title": 7, "license": "b"}}', "clip '1': field 'title' is 7, expected text"),
    ],
)
def test_metadata_of_another_shape_is_told_with_its_place(library, text, said):
    (library / "FSD50K.metadata" / "eval_clips_info_FSD50K.json").write_text(text)
    with pytest.raises(RecipeError, match=f"eval_clips_info_FSD50K.json: {said}"):
        find_songs(library)
