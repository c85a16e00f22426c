"""Plain CSV, read back equal."""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from manifests.audio import read as read_audio
from manifests.errors import TableError
from manifests.exports import csv
from manifests.exports.csv import export, read
from manifests.tables import frame_of, write_table
from tests.manifests.exports.small_corpus import FOUR, small_corpus, sounds, write_song, write_tables

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def corpus(tmp_path):
    return small_corpus(tmp_path / "corpus")


def test_the_stems_table_reads_back_equal(corpus, tmp_path):
    exported = export(corpus, tmp_path / "out")
    back = read(tmp_path / "out")
    pd.testing.assert_frame_equal(back[list(corpus.stems.columns)], corpus.stems, check_exact=True)
    assert back["title"].tolist() == [f"Song {number}" for number in range(4) for _ in range(5)]
    for row in back[back["song_id"] == "s2"].to_dict("records"):
        assert np.array_equal(read_audio(Path(row["file"]))[0], sounds(2)[row["stem"]])
    assert exported.songs == {"train": 2, "validation": 1, "test": 1}
    assert exported.files == {"copied": 20}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    artist=st.none() | texts,
    genre=st.none() | texts,
    rms=numbers.filter(lambda x: x is None or x >= 0),
    lufs=numbers,
)
@example(artist=None, genre="\r", rms=None, lufs=None)
@example(artist="a\r\nb", genre="\n", rms=None, lufs=None)
def test_any_text_and_number_survives(tmp_path, artist, genre, rms, lufs):
    rows = write_song(tmp_path, "s0", {"vocals": sounds(0)["vocals"][:, :10]})
    rows = [{**row, "artist": artist, "genre": genre, "rms": rms, "loudness_lufs": lufs} for row in rows]
    corpus = write_tables(tmp_path, rows)
    lines = tmp_path / csv.STEMS
    lines.unlink(missing_ok=True)
    csv._write(lines, [*corpus.stems.columns, "title", "file"], [{**corpus.song("s0")["vocals"], "file": "x"}])
    back = read(tmp_path)
    pd.testing.assert_frame_equal(back[list(corpus.stems.columns)], corpus.stems, check_exact=True)
    assert pd.isna(back["title"][0])
    assert (math.isnan(back["rms"][0]) and rms is None) or back["rms"][0] == rms


def test_songs_are_a_row_each_with_their_files(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    songs = pd.read_csv(tmp_path / "out" / "songs.csv")
    assert songs["song_id"].tolist() == corpus.songs()
    assert songs.loc[1, ["title", "split", "seconds"]].tolist() == ["Song 1", "train", 0.25]
    assert songs["vocals"][3] == "audio/Band 3 - Song 3/vocals.flac"
    for stem in ("mixture", *FOUR):
        assert np.array_equal(read_audio(tmp_path / "out" / songs[stem][3])[0], sounds(3)[stem])


@pytest.mark.parametrize(("audio", "how"), [("copy", "copied"), ("link", "linked"), ("refer", "referred")])
def test_audio_is_copied_linked_or_referred_to(corpus, tmp_path, audio, how):
    assert export(corpus, tmp_path / "out", audio=audio).files == {how: 20}
    written = pd.read_csv(tmp_path / "out" / "stems.csv")["file"][0]
    source = corpus.path_of(corpus.song("s0")["mixture"])
    found = read(tmp_path / "out")["file"][0]
    assert os.path.isabs(written) is (audio == "refer")
    assert (found == str(source), os.path.samefile(found, source)) == (audio == "refer", audio != "copy")


def test_a_folder_of_copies_can_be_moved(corpus, tmp_path):
    export(corpus, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert all(os.path.isfile(file) for file in read(tmp_path / "moved")["file"])


def test_songs_of_other_stems_have_empty_cells_and_stems_names_that_fit(tmp_path):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0, ("vocals", "bass")))
    for row in rows:
        row["stem"] = {"bass": "a/b"}.get(row["stem"], row["stem"])
    rows += write_song(tmp_path / "corpus", "s1", sounds(1, ("vocals", "bass")), split="test")
    export(write_tables(tmp_path / "corpus", rows), tmp_path / "out")
    songs = pd.read_csv(tmp_path / "out" / "songs.csv")
    assert songs["a/b"].tolist()[0] == "audio/s0/a_b.flac"
    assert songs["bass"].isna().tolist() == [True, False]


def test_clips_of_the_songs_are_listed(corpus, tmp_path):
    rows = [
        {"clip_id": f"c{n}", "song_id": f"s{n}", "start_frame": 5, "num_frames": 7, "rms_bass": (None, 0.5)[n]}
        for n in range(2)
    ]
    write_table(corpus.folder, "clips", frame_of("clips", rows))
    export(corpus, tmp_path / "out", songs=["s1", "s2"])
    clips = pd.read_csv(tmp_path / "out" / "clips.csv")
    assert clips[["clip_id", "song_id", "start_frame", "num_frames", "rms_bass"]].values.tolist() == [
        ["c1", "s1", 5, 7, 0.5]
    ]
    assert clips["genre"].isna().all()
    export(corpus, tmp_path / "all")
    cells = (tmp_path / "all" / "clips.csv").read_text().splitlines()[1].split(",")
    assert cells[:4] == ["c0", "s0", "5", "7"]
    assert set(cells[4:]) == {""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"stems\.csv: cannot be read as CSV .*No such file"),
        ("song_id,stem,file\n", r"column 'title' is missing; export the corpus again"),
        ("title,file\na\n", r"cannot be read as CSV \(zip\(\)"),
        ('title,file\n"a,b\n', r"cannot be read as CSV \(unexpected end"),
        ("title,file,num_frames\na,b,many\n", r"a cell is not of its column's type \(invalid literal"),
        ("title,file,genre\na,b,c\n", r"stems\.csv: table 'stems': column 'song_id' has 1 null"),
    ],
)
def test_a_damaged_file_is_a_table_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "stems.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        read(tmp_path)
