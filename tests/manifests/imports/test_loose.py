"""Libraries of single sounds: every file a song of one stem, as its folders, its name and a table say."""

import os
import unicodedata

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from manifests.audio import content_id, probe, write
from manifests.errors import AudioError, RecipeError
from manifests.imports import loose
from tests.manifests.imports.importing import import_corpus
from tests.synthesis import pink_noise

RATE = 8000


def sound(seed, frames=800, channels=1):
    return pink_noise(np.random.default_rng(seed), channels, frames)


def write_library(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write(folder / path, sound(sum(path.encode())), RATE)
    return folder


def write_metadata(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("audio", "is_same"), [("copy", False), ("link", True)])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_sounds_are_taken_as_they_are(tmp_path, audio, is_same, suffix):
    source = tmp_path / "in" / "Sound Effects" / "doors" / f"Ann - Slam{suffix.upper()}"
    source.parent.mkdir(parents=True)
    subtype = {".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}.get(suffix, "PCM_16")
    format = {".ogg": "OGG", ".mp3": "MP3", ".flac": "FLAC"}.get(suffix, "WAV")
    soundfile.write(source, sound(1, 9000, 2).T, RATE, subtype, format=format)
    corpus = import_corpus("loose", tmp_path / "in", tmp_path / "out", audio=audio, license="CC0")
    (song_id,) = corpus.songs()
    assert song_id == content_id(source)
    ((stem, row),) = corpus.song(song_id).items()
    path = corpus.path_of(row)
    assert (stem, row["path"]) == ("sound_effects", f"audio/{song_id}/sound_effects{suffix}")
    assert path.read_bytes() == source.read_bytes()
    assert os.path.samefile(path, source) is is_same
    info = probe(source)
    assert (row["num_frames"], row["sample_rate"], row["channels"]) == (info.num_frames, RATE, 2)
    assert (row["artist"], row["license"], row["gain_db"], row["content_id"]) == ("Ann", "CC0", 0.0, song_id)
    assert (row["provenance"], row["audit"], row["method"]) == ("recorded", "unheard", None)
    unknown = ("parents", "genre", "split", "rms", "language", "tags", "transcript")
    assert [row[key] for key in unknown] == [None] * 7
    (track,) = corpus.tracks.to_dict("records")
    assert (track["track_id"], track["title"], track["artist"]) == (song_id, "Slam", "Ann")
    assert corpus.rejected.empty


def test_the_top_folders_name_stem_and_split(tmp_path):
    expected = {
        "speech/a.wav": ("speech", None),
        "speech/train/b.wav": ("speech", "train"),
        "speech/reader 1/train/c.wav": ("speech", None),
        "Valid/Sound Effects/d.wav": ("sound_effects", "validation"),
        "dev/music/deep/down/e.wav": ("music", "validation"),
        "music/TEST/f.wav": ("music", "test"),
        "test/train/g.wav": ("train", "test"),
    }
    found, rejected = loose.find_songs(write_library(tmp_path, *expected))
    assert {song.path: (*song.stems, song.split) for song in found} == expected
    assert rejected == []
    assert [song.path for song in found] == sorted(expected)


NAMES = st.sampled_from(["train", "Valid", "test", "speech", "Music", "a b"])


@given(st.lists(NAMES, max_size=4))
def test_every_file_has_a_stem_unless_only_a_split_is_above_it(tmp_path_factory, folders):
    folder = tmp_path_factory.mktemp("library")
    path = folder.joinpath(*folders, "x.wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    found, rejected = loose.find_songs(folder)
    top = [name.lower() for name in folders[:2]]
    is_split = [name in loose.SPLITS for name in top]
    assert len(found) + len(rejected) == 1
    assert bool(found) == (top not in ([], ["train"], ["valid"], ["test"]))
    for song in found:
        assert (song.split is not None) == any(is_split)
        (stem,) = song.stems
        assert stem in [name.replace(" ", "_") for name in top]


def test_one_name_may_be_given_to_all(tmp_path):
    library = write_library(tmp_path, "a.wav", "train/b.wav", "84/121123/c.flac")
    found, rejected = loose.find_songs(library, "Read Speech")
    assert {song.path: (*song.stems, song.split) for song in found} == {
        "a.wav": ("read_speech", None),
        "train/b.wav": ("read_speech", "train"),
        "84/121123/c.flac": ("read_speech", None),
    }
    assert rejected == []


def test_what_nobody_names_is_rejected(tmp_path):
    library = write_library(tmp_path, "a.wav", "train/b.wav", "Mixture/c.wav", "music/d.wav", "music/.e.wav")
    (library / "music" / "notes.txt").write_text("x")
    found, rejected = loose.find_songs(library)
    assert [song.path for song in found] == ["music/d.wav"]
    assert {song.path: song.reason for song in rejected} == {
        "Mixture/c.wav": "no stem", "a.wav": "no stem", "train/b.wav": "no stem"
    }  # fmt: skip


def test_the_table_wins_over_folders_and_names(tmp_path, caplog):
    library = write_library(tmp_path / "in", "x/Ann - One.wav", "x/Ann - Two.wav", "train/x/Three.wav", "four.wav")
    table = write_metadata(
        tmp_path / "table.csv",
        "path, split,stem,artist,title,genre,license,language,tags,transcript",
        'x/Ann - One.wav,Valid,Lead Voice,Bea,Uno,Jazz,CC BY 4.0,de,"dog;bark","Guten Tag,\nWelt"',
        "./train/x/Three.wav,,,,,,,,,",
        "four.wav,extra,music",
        "",
    )
    found, rejected = loose.find_songs(library, metadata=table)
    assert [song.path for song in found] == ["four.wav", "train/x/Three.wav", "x/Ann - One.wav", "x/Ann - Two.wav"]
    four, three, one, two = found
    assert [*one.stems] == ["lead_voice"]
    assert (one.split, one.artist, one.title, one.genre) == ("validation", "Bea", "Uno", "Jazz")
    assert (one.license, one.language, one.tags) == ("CC BY 4.0", "de", "dog;bark")
    assert one.transcript == "Guten Tag,\nWelt"
    assert ([*two.stems], two.split, two.artist, two.title, two.language) == (["x"], None, "Ann", "Two", None)
    assert ([*three.stems], three.split, three.artist, three.title) == (["x"], "train", None, "Three")
    assert ([*four.stems], four.split, four.title) == (["music"], "extra", "four")
    assert rejected == []
    assert "has no row of 1 of 4 files" in caplog.text
    same, _ = loose.find_songs(library, "speech", table)
    assert {song.path: [*song.stems] for song in same} == {
        "x/Ann - One.wav": ["lead_voice"], "x/Ann - Two.wav": ["speech"], "train/x/Three.wav": ["speech"],
        "four.wav": ["music"],
    }  # fmt: skip


def test_what_the_table_says_is_in_the_corpus_and_its_licence_wins(tmp_path):
    library = write_library(tmp_path / "in", "speech/a.wav", "speech/b.wav")
    table = write_metadata(
        tmp_path / "table.csv",
        "path,license,language,tags,transcript,genre",
        "speech/a.wav,CC0,en,calm,hello,drama",
    )
    options = {"metadata": str(table), "license": "CC BY 4.0"}
    corpus = import_corpus("loose", library, tmp_path / "out", **options)
    rows = {row["license"]: row for row in corpus.stems.to_dict("records")}
    assert set(rows) == {"CC0", "CC BY 4.0"}
    assert [rows["CC0"][key] for key in ("language", "tags", "transcript", "genre")] == [
        "en", "calm", "hello", "drama"
    ]  # fmt: skip
    assert corpus.tracks.set_index("title").loc["a", "license"] == "CC0"
    write_metadata(table, "path,license,language,tags,transcript,genre", "speech/a.wav,CC0,fr,calm,hello,drama")
    again = import_corpus("loose", library, tmp_path / "out", **options)
    assert set(again.stems["language"].dropna()) == {"fr"}
    write_metadata(table, "path,stem", "speech/a.wav,talk")
    again = import_corpus("loose", library, tmp_path / "out", **options)
    assert set(again.stems["stem"]) == {"speech", "talk"}
    assert len(list((tmp_path / "out" / "audio").glob("*/*"))) == 2


def test_a_row_without_a_file_is_rejected(tmp_path):
    library = write_library(tmp_path / "in", "music/a.wav")
    (library / "music" / "cover.jpg").touch()
    rows = ("path,artist", "music/a.wav,A", "music/b.wav,B", "music/cover.jpg,C", "/music/a.wav,D")
    table = write_metadata(tmp_path / "table.csv", *rows)
    found, rejected = loose.find_songs(library, metadata=table)
    assert [song.artist for song in found] == ["A"]
    assert [(song.path, song.reason) for song in rejected] == [
        ("/music/a.wav", "no file"), ("music/b.wav", "no file"), ("music/cover.jpg", "no file")
    ]  # fmt: skip
    assert "table.csv has a row of it" in rejected[0].detail


def test_names_are_matched_however_their_letters_are_composed(tmp_path):
    name = "music/Café.wav"
    library = write_library(tmp_path / "in", unicodedata.normalize("NFD", name))
    table = write_metadata(tmp_path / "table.csv", "path,artist", f"{unicodedata.normalize('NFC', name)},Zoë")
    found, rejected = loose.find_songs(library, metadata=table)
    assert [song.artist for song in found] == ["Zoë"]
    assert rejected == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,artsit"], r"column 'artsit' is not known \(did you mean 'artist'\?\); columns are path, stem,"),
        (["stem,artist"], "has no column 'path'; its columns are stem, artist"),
        ([], "has no column 'path'; its columns are none"),
        (["path,stem,stem"], "column 'stem' is there 2 times"),
        (["path,stem", "a.wav,x", "", "./a.wav,y"], "line 4: path 'a.wav' stands in an earlier row too"),
        (["path,stem", ",x"], "line 2: has no path"),
        (["path,stem", "a, b.wav,x"], "line 2: has 3 cells, and the header 2; quote commas"),
    ],
)
def test_a_table_that_is_not_right_is_told_with_its_fault(tmp_path, lines, said):
    library = write_library(tmp_path / "in", "music/a.wav")
    table = write_metadata(tmp_path / "table.csv", *lines)
    if not lines:
        table.write_bytes(b"")
    with pytest.raises(RecipeError, match=f"table.csv: {said}"):
        loose.find_songs(library, metadata=table)


@pytest.mark.parametrize(
    ("split", "meant"), [("trainn", "train"), ("Trian", "train"), ("validaton", "validation"), ("tset", "test")]
)
def test_a_misspelt_split_is_told(tmp_path, split, meant):
    table = write_metadata(tmp_path / "table.csv", "path,split", "a.wav,train", f"b.wav,{split}")
    said = rf"table\.csv: line 3: split '{split}' is not known \(did you mean '{meant}'\?\)"
    with pytest.raises(RecipeError, match=said):
        loose.read_metadata(table)


@pytest.mark.parametrize(
    "split", ["extra", "eval", "evaluation", "pretrain", "test2", "test-clean", "held out", "x"]
)
def test_splits_of_ones_own_are_taken(tmp_path, split):
    table = write_metadata(tmp_path / "table.csv", "path,split", f"a.wav,{split}")
    assert loose.read_metadata(table) == {"a.wav": {"split": split}}


def test_a_table_that_cannot_be_read_is_told(tmp_path):
    library = write_library(tmp_path / "in", "music/a.wav")
    with pytest.raises(RecipeError, match=r"field 'metadata' is '.*absent\.csv': there is no such file"):
        loose.find_songs(library, metadata=tmp_path / "absent.csv")
    (tmp_path / "table.csv").write_bytes("path,artist\nmusic/a.wav,Zoë\n".encode("latin-1"))
    with pytest.raises(RecipeError, match="cannot be read as CSV in UTF-8"):
        loose.find_songs(library, metadata=tmp_path / "table.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_does_not_matter(tmp_path, encoding):
    table = tmp_path / "table.csv"
    table.write_text("path,artist\r\nä.wav,Zoë\r\n", encoding=encoding, newline="")
    assert loose.read_metadata(table) == {"ä.wav": {"artist": "Zoë"}}


def test_folders_that_are_no_library_are_refused(tmp_path):
    with pytest.raises(AudioError, match="is no folder"):
        loose.find_songs(tmp_path / "absent")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RecipeError, match="holds no audio file"):
        loose.find_songs(tmp_path)
    with pytest.raises(RecipeError, match="field 'stem' is 'Mixture'"):
        loose.find_songs(tmp_path, "Mixture")


def test_damaged_and_repeated_files_are_rejected(tmp_path):
    library = write_library(tmp_path / "in", "music/a.wav", "music/b.wav")
    (library / "effects").mkdir()
    (library / "effects" / "again.wav").write_bytes((library / "music" / "a.wav").read_bytes())
    (library / "music" / "b.wav").write_bytes((library / "music" / "b.wav").read_bytes()[:-100])
    corpus = import_corpus("loose", library, tmp_path / "out")
    assert [row["stem"] for row in corpus.stems.to_dict("records")] == ["effects"]
    reasons = dict(zip(corpus.rejected["path"], corpus.rejected["reason"], strict=True))
    assert reasons == {"music/a.wav": "duplicate", "music/b.wav": "unreadable"}


def test_nothing_that_can_be_taken_is_an_error_that_says_what_to_do(tmp_path):
    write_library(tmp_path / "in", "a.wav")
    with pytest.raises(AudioError, match=r"none of 1 songs can be taken \(first: a.wav: no stem: .* give 'stem'\)"):
        import_corpus("loose", tmp_path / "in", tmp_path / "out")


def test_a_peak_beyond_full_scale_stays_as_it_is(tmp_path):
    (tmp_path / "in" / "music").mkdir(parents=True)
    loud = np.float32(1.5) * sound(3) / np.abs(sound(3)).max()
    soundfile.write(tmp_path / "in" / "music" / "loud.wav", loud.T, RATE, "FLOAT")
    corpus = import_corpus("loose", tmp_path / "in", tmp_path / "out")
    (row,) = corpus.stems.to_dict("records")
    assert row["gain_db"] == 0
    assert np.abs(corpus.load(row)).max() == pytest.approx(1.5)
