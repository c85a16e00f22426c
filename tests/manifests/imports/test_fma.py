"""FMA becomes a corpus of music, as its table of tracks says."""

import shutil

import pytest

from manifests.audio import probe
from manifests.errors import AudioError, RecipeError
from manifests.imports.fma import find_songs, read_tracks
from tests.manifests.imports.importing import import_corpus
from tests.manifests.imports.small_libraries import BY_NC_SA, PAIRS, TRACKS, write_fma, write_tracks


@pytest.fixture
def library(tmp_path):
    return write_fma(tmp_path / "in")


def test_tracks_are_taken_as_they_are_with_what_the_table_says(library, tmp_path):
    corpus = import_corpus("fma", library, tmp_path / "out")
    rows = {row["artist"]: row for row in corpus.stems.to_dict("records")}
    assert {name: (row["stem"], row["split"]) for name, row in rows.items()} == {
        "AWOL": ("music", "train"), "Nicky Cook": ("music", "validation"), "Zoë, Ü": ("music", "test")
    }  # fmt: skip
    row, source = rows["AWOL"], library / "fma_medium" / "000" / "000002.mp3"
    assert corpus.path_of(row).read_bytes() == source.read_bytes()
    assert (row["num_frames"], row["channels"]) == (probe(source).num_frames, 2)
    assert (row["genre"], row["license"], row["language"]) == ("Hip-Hop", BY_NC_SA, "en")
    assert [rows["Nicky Cook"][key] for key in ("genre", "license", "language")] == [None] * 3
    assert corpus.tracks.set_index("artist").loc["AWOL", "title"] == "Food"
    assert corpus.rejected.empty


@pytest.mark.parametrize("size", ["small", "full"])
def test_the_folder_may_be_the_dataset_with_the_table_in_it_or_beside_it(tmp_path, size):
    folder = write_fma(tmp_path / "in", size=size)
    dataset = folder / f"fma_{size}"
    beside, _ = find_songs(dataset)
    assert [song.path for song in beside] == ["000/000002.mp3", "000/000140.mp3", "001/001039.mp3"]
    shutil.move(folder / "fma_metadata", dataset)
    assert find_songs(dataset)[0] == beside
    shutil.move(dataset / "fma_metadata" / "tracks.csv", tmp_path / "elsewhere.csv")
    assert find_songs(dataset, tmp_path / "elsewhere.csv")[0] == beside


def test_nothing_is_left_out_silently(library):
    place = library / "fma_medium" / "000"
    (place / "000002.mp3").rename(place / "000003.mp3")
    shutil.copy(place / "000003.mp3", place / "cover.mp3")
    found, rejected = find_songs(library)
    assert [song.artist for song in found] == ["Nicky Cook", "Zoë, Ü"]
    assert [(song.path, song.reason) for song in rejected] == [
        ("000/000002.mp3", "no file"),
        ("fma_medium/000/000003.mp3", "no row"),
        ("fma_medium/000/cover.mp3", "no row"),
    ]  # fmt: skip


@pytest.mark.parametrize(("gone", "missed"), [((), []), ((140,), []), ((2, 140), [2]), ((2,), [2])])
def test_tracks_of_larger_datasets_are_not_missed(library, gone, missed):
    for number in gone:
        (library / "fma_medium" / "000" / f"{number:06d}.mp3").unlink()
    _, rejected = find_songs(library)
    assert [song.path for song in rejected] == [f"000/{number:06d}.mp3" for number in missed]


def test_what_is_missing_is_said(library, tmp_path):
    with pytest.raises(AudioError, match="is no folder"):
        find_songs(tmp_path / "absent")
    shutil.rmtree(library / "fma_medium")
    with pytest.raises(
        RecipeError, match=r"in: holds no track such as 000/000002.mp3 of .*tracks.csv; give the fold"
    ):
        find_songs(library)
    shutil.rmtree(library / "fma_metadata")
    with pytest.raises(
        RecipeError, match=r"in: there is no fma_metadata/tracks.csv in it or beside it; unpack fma_"
    ):
        find_songs(library)
    with pytest.raises(RecipeError, match=r"lost.csv: there is no such file; take it from"):
        find_songs(library, tmp_path / "lost.csv")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "genre_top",
            "genre",
            "line 2: has no column 'genre_top' of 'track'; take tracks.csv from fma_metadata.zip",
        ),
        (",set,set,", ",sets,sets,", "line 2: has no column 'split' of 'set'"),
        ("track_id", "id", "line 3: column 1 is 'id', expected 'track_id'"),
        # the biography in the row before has three lines
        ("\n140,", "\nx,", "line 7: column 'track_id' is 'x', expected a number"),
        ("\n140,", "\n2,", "line 7: track_id 2 stands in an earlier row too"),
        ("\n140,", "\n140,,", f"line 7: has {len(PAIRS) + 2} columns, and the header {len(PAIRS) + 1}"),
        ("validation", "valid", "line 7: column 'split' is 'valid', expected training, validation, test"),
        ("medium", "middle", "line 7: column 'subset' is 'middle', expected small, medium, large"),
    ],
)
def test_a_table_of_another_shape_is_told_with_its_place(library, old, new, said):
    table = library / "fma_metadata" / "tracks.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError, match=f"tracks.csv: {said}"):
        find_songs(library)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "tracks.csv").write_bytes(b"\xff\xfe,")
    with pytest.raises(RecipeError, match="cannot be read as CSV in UTF-8"):
        read_tracks(tmp_path / "tracks.csv")
    (tmp_path / "tracks.csv").write_text("")
    with pytest.raises(RecipeError, match="line 2: has no column 'name' of 'artist'"):
        read_tracks(tmp_path / "tracks.csv")


def test_lives_may_be_told_at_length(tmp_path):
    told = {2: {**TRACKS[2], ("artist", "bio"): "and then " * 30_000}}
    assert read_tracks(write_tracks(tmp_path / "tracks.csv", told))[2].facts["artist"] == "AWOL"
