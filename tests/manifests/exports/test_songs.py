"""Songs are checked against their files before anything is written, and grouped into what a layout wants."""

import dataclasses
import shutil

import numpy as np
import pytest

from manifests.audio import write
from manifests.corpus import Corpus
from manifests.errors import AudioError, RecipeError, TableError
from manifests.exports import csv, huggingface, lhotse, msst, musdb18
from manifests.exports.groups import grouped, mixture_of, require_one_format, require_stems
from manifests.exports.songs import checked_songs
from manifests.tables import frame_of, write_table
from tests.manifests.exports.small_corpus import FOUR, FRAMES, RATE, small_corpus, sounds, write_song, write_tables

EXPORTS = {
    "musdb18": musdb18.export,
    "msst": lambda corpus, out, **options: msst.export(corpus, out, 4, **options),
    "msst 2": lambda corpus, out, **options: msst.export(corpus, out, 2, **options),
    "msst 3": lambda corpus, out, **options: msst.export(corpus, out, 3, **options),
    "lhotse": lhotse.export,
    "huggingface": huggingface.export,
    "csv": csv.export,
}
every_export = pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("template")).folder


@pytest.fixture
def corpus(template, tmp_path):
    shutil.copytree(template, tmp_path / "corpus")
    return Corpus.open(tmp_path / "corpus")


def test_songs_come_in_the_tables_order_with_what_is_known(corpus):
    songs = checked_songs(corpus, None)
    assert [song.song_id for song in songs] == corpus.songs()
    song = songs[1]
    assert song.name == "Band 1 - Song 1"
    assert list(song.sounds) == ["mixture", *FOUR]
    assert (song.num_frames, song.sample_rate, song.channels, song.split) == (FRAMES, RATE, 2, "train")
    assert song.facts == {
        "title": "Song 1", "artist": "Band 1", "genre": "rock", "split": "train", "license": "CC0",
        "grade": None, "weight": None,
    }  # fmt: skip


def test_songs_without_a_title_or_an_artist_are_named_by_what_there_is(tmp_path):
    rows = [
        *write_song(tmp_path, "s0", sounds(0), artist="Band"),
        *write_song(tmp_path, "s1", sounds(1)),
        *write_song(tmp_path, "s2", sounds(2)),
    ]
    names = [song.name for song in checked_songs(write_tables(tmp_path, rows), None)]
    assert names == ["Band - s0", "s1", "s2"]
    songs = checked_songs(write_tables(tmp_path, rows, {"s1": "x/y", "s2": "X_Y"}), None)
    assert [song.name for song in songs] == ["Band - s0", "x_y (s1)", "X_Y (s2)"]


def test_chosen_songs_keep_the_tables_order(corpus):
    assert [song.song_id for song in checked_songs(corpus, {"s3", "s1"})] == ["s1", "s3"]
    with pytest.raises(TableError, match="has no song 'song 1'; choose of those it has"):
        checked_songs(corpus, ["s1", "song 1"])
    with pytest.raises(TableError, match="has no songs to export"):
        checked_songs(corpus, [])


def test_progress_is_told(corpus):
    told = []
    checked_songs(corpus, None, lambda *what: told.append(what))
    assert told[0] == ("check", 0, 4, 0)
    assert told[-1] == ("check", 4, 4, 0)


def swap(corpus, song_id, stem, audio, rate=RATE):
    write(corpus.path_of(corpus.song(song_id)[stem]), audio, rate)


def remove(corpus):
    corpus.path_of(corpus.song("s1")["drums"]).unlink()
    return r"stems\.parquet: row 7 \(song 's1', stem 'drums'\): file .*drums\.flac is missing", TableError


def resample(corpus):
    swap(corpus, "s1", "drums", sounds(1)["drums"], 44100)
    return r"row 7 \(song 's1', stem 'drums'\): sample_rate is 8000, and file .*drums\.flac has 44100", TableError


def shorten(corpus):
    swap(corpus, "s1", "drums", sounds(1)["drums"][:, 1:])
    return r"row 7 .*: num_frames is 2000, and file .*drums\.flac has 1999", TableError


def make_mono(corpus):
    swap(corpus, "s1", "drums", sounds(1)["drums"][:1])
    return r"row 7 .*: channels is 2, and file .*drums\.flac has 1", TableError


def damage(corpus):
    path = corpus.path_of(corpus.song("s1")["drums"])
    path.write_bytes(b"no audio at all")
    return r"row 7 \(song 's1', stem 'drums'\): .*drums\.flac: not audio", AudioError


@every_export
@pytest.mark.parametrize("spoil", [remove, resample, shorten, make_mono, damage])
def test_a_file_that_is_not_what_its_row_says_is_named_and_nothing_is_written(corpus, tmp_path, export, spoil):
    message, error = spoil(corpus)
    with pytest.raises(error, match=message):
        export(Corpus.open(corpus.folder), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_unknown_root_is_named_with_its_row(tmp_path):
    rows = [{**row, "root": "films"} for row in write_song(tmp_path, "s0", sounds(0))]
    with pytest.raises(TableError, match=r"row 0 \(song 's0', stem 'mixture'\): .*root 'films' of path"):
        checked_songs(write_tables(tmp_path, rows), None)


def test_stems_that_differ_in_length_are_no_song(tmp_path):
    rows = write_song(tmp_path, "s0", {**sounds(0), "extra": sounds(0)["bass"][:, :-1]})
    with pytest.raises(TableError, match=r"song 's0' differ in num_frames \(mixture 2000, .*extra 1999\)"):
        checked_songs(write_tables(tmp_path, rows), None)


def test_stems_that_differ_in_their_split_are_no_song(tmp_path):
    rows = write_song(tmp_path, "s0", sounds(0))
    rows[2]["split"] = "test"
    with pytest.raises(TableError, match=r"song 's0' differ in split \(mixture None, bass None, drums test"):
        checked_songs(write_tables(tmp_path, rows), None)


@every_export
def test_a_folder_with_something_in_it_is_refused_before_any_work(corpus, tmp_path, export):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    told = []
    with pytest.raises(Exception, match=r"out: already holds 'mine\.txt', and nothing is overwritten"):
        export(corpus, tmp_path / "out", progress=lambda *what: told.append(what))
    assert told == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@every_export
def test_an_export_that_is_stopped_leaves_nothing(corpus, tmp_path, export):
    def stop(stage, done, total, failed):
        if (stage, done) == ("export", 2):
            assert not (tmp_path / "out").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(corpus, tmp_path / "out", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@every_export
def test_the_same_corpus_gives_the_same_files(corpus, tmp_path, export):
    contents = []
    for _ in range(2):
        export(corpus, tmp_path / "out")
        files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
        contents.append({path: path.read_bytes() for path in files})
        (tmp_path / "out").rename(tmp_path / "earlier") if len(contents) == 1 else None
    assert contents[0] == contents[1]


@every_export
def test_the_corpus_is_left_alone(corpus, tmp_path, export):
    before = {path: path.read_bytes() for path in corpus.folder.rglob("*") if path.is_file()}
    export(corpus, tmp_path / "out")
    assert {path: path.read_bytes() for path in corpus.folder.rglob("*") if path.is_file()} == before


@every_export
def test_only_the_chosen_songs_are_exported(corpus, tmp_path, export):
    assert sum(export(corpus, tmp_path / "out", songs=["s1", "s3"]).songs.values()) == 2


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "rate",
            "has 16000 Hz, and most songs have 8000: .*; leave out s1,s3, or ask for sample_rate 8000",
        ),
        ("mono", "has 1 channels, and most songs have 2: .* leave out s1,s3, or bring them to one layout"),
    ],
)
@pytest.mark.parametrize("name", ["musdb18", "msst", "msst 3"])
def test_songs_of_two_formats_are_refused_where_readers_take_them_for_one(tmp_path, name, field, message):
    rows = []
    for number in range(5):
        stems, is_other = sounds(number), number in (1, 3)
        if is_other and field == "mono":
            stems = {stem: audio[:1] for stem, audio in stems.items()}
        rate = 16000 if is_other and field == "rate" else RATE
        rows += write_song(tmp_path / "corpus", f"s{number}", stems, rate=rate)
    corpus = write_tables(tmp_path / "corpus", rows)
    with pytest.raises(TableError, match=f"song 's1' {message}"):
        EXPORTS[name](corpus, tmp_path / "out")
    EXPORTS[name](corpus, tmp_path / "rest", songs=["s0", "s2", "s4"])
    EXPORTS["lhotse"](corpus, tmp_path / "all")


def test_groups_add_up_what_a_song_has(corpus):
    songs = checked_songs(corpus, ["s0"])
    song = songs[0]
    groups = grouped(songs, {"vocals": ["vocals"], "rest": ["drums", "bass", "other"]})
    assert groups["s0"]["rest"] == tuple(song.sounds[stem] for stem in ("drums", "bass", "other"))
    assert mixture_of(song) == (song.sounds["mixture"],)
    fewer = dataclasses.replace(song, sounds={stem: song.sounds[stem] for stem in FOUR})
    assert mixture_of(fewer) == tuple(song.sounds[stem] for stem in FOUR)
    require_one_format([song, fewer], "it")


@pytest.mark.parametrize(
    ("stems", "message"),
    [
        ({"vocals": ["vocal"]}, r"no song has a stem 'vocal' \(did you mean 'vocals'\?\)"),
        ({"x": ["zzz"]}, "no song has a stem 'zzz'; they have bass, drums, other, vocals"),
        ({"a": ["bass"], "b": ["bass", "drums"]}, "'bass' is named 2 times"),
        ({"mixture": ["bass"]}, "'mixture' is the sum of all stems"),
        ({"bass": ["mixture"]}, "'mixture' is the sum of all stems"),
        ({}, "there is none to export; the songs have bass, drums, other, vocals"),
        ({"bass": []}, "there is none to export"),
    ],
)
def test_groups_that_cannot_be_are_refused(corpus, stems, message):
    with pytest.raises(RecipeError, match=message):
        grouped(checked_songs(corpus, None), stems)


def test_a_stem_that_a_song_has_not_is_named(corpus):
    song = checked_songs(corpus, ["s0"])[0]
    require_stems(song, {"bass": (song.sounds["bass"],)})
    with pytest.raises(
        TableError, match=r"song 's0' has nothing for stem 'bass' \(it has mixture, bass, .*leave the"
    ):
        require_stems(song, {"bass": ()})


@pytest.mark.parametrize(("name", "stem"), [("lhotse", "title"), ("huggingface", "num_frames"), ("csv", "seconds")])
def test_a_stem_named_like_another_field_is_refused(tmp_path, name, stem):
    rows = write_song(tmp_path / "corpus", "s0", sounds(0, ("vocals", stem)))
    with pytest.raises(RecipeError, match=f"song 's0' has a stem '{stem}', which is another field"):
        EXPORTS[name](write_tables(tmp_path / "corpus", rows), tmp_path / "out")


def test_a_corpus_of_another_root_is_exported(tmp_path):
    rows = [{**row, "root": "films"} for row in write_song(tmp_path / "films", "s0", sounds(0))]
    (tmp_path / "corpus").mkdir()
    write_table(tmp_path / "corpus", "stems", frame_of("stems", rows))
    corpus = Corpus.open(tmp_path / "corpus", roots={"films": tmp_path / "films"})
    lhotse.export(corpus, tmp_path / "out")
    assert np.array_equal(corpus.load(("s0", "bass")), sounds(0)["bass"])
    assert len(list((tmp_path / "out" / "audio" / "s0").iterdir())) == 5
