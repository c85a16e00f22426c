"""Folders of stems become a corpus: taken as they are where they sum, encoded where they must be, rejected else."""

import os
import re

import numpy as np
import pandas as pd
import pytest
import soundfile

from manifests.audio import content_id, quantise, read, write
from manifests.corpus import Corpus
from manifests.errors import AudioError, BuildError, RecipeError
from manifests.exports import mixing, msst
from manifests.imports.songs import artist_and_title, plain_text, stem_name
from tests.manifests.exports.small_corpus import FOUR, FRAMES, RATE, files_of, small_corpus, sounds
from tests.manifests.imports.importing import import_corpus


def write_stems(folder, stems, suffix=".wav", rate=RATE, bit_depth=24):
    for stem, audio in stems.items():
        write(folder / f"{stem}{suffix}", audio, rate, bit_depth)


def rejects(corpus):
    return dict(zip(corpus.rejected["path"], corpus.rejected["reason"], strict=True))


def detail(corpus, path):
    (found,) = corpus.rejected.loc[corpus.rejected["path"] == path, "detail"]
    return found


@pytest.fixture
def songs(tmp_path):
    """A folder with one good song in it, for tests that add a bad one."""
    write_stems(tmp_path / "songs" / "Band - Good", sounds(0))
    return tmp_path / "songs"


@pytest.mark.parametrize(("audio", "is_same"), [("copy", False), ("link", True)])
def test_songs_are_copied_or_linked_byte_for_byte(tmp_path, songs, audio, is_same):
    corpus = import_corpus("folders", songs, tmp_path / "out", license="CC0", audio=audio)
    (song_id,) = corpus.songs()
    assert song_id == content_id(songs / "Band - Good" / "mixture.wav")
    assert list(corpus.song(song_id)) == ["mixture", *FOUR]
    for stem, row in corpus.song(song_id).items():
        source, path = songs / "Band - Good" / f"{stem}.wav", corpus.path_of(row)
        assert path.read_bytes() == source.read_bytes()
        assert os.path.samefile(path, source) is is_same
        assert row["path"] == f"audio/{song_id}/{stem}.wav"
        assert row["content_id"] == content_id(path)
        assert (row["num_frames"], row["sample_rate"], row["channels"]) == (FRAMES, RATE, 2)
        assert (row["artist"], row["license"], row["gain_db"]) == ("Band", "CC0", 0.0)
        assert (row["provenance"], row["audit"], row["method"]) == ("recorded", "unheard", None)
        assert row["parents"] is row["split"] is row["rms"] is None
    (track,) = corpus.tracks.to_dict("records")
    assert (track["track_id"], track["title"], track["song_title"]) == (song_id, "Good", "Good")
    assert (track["artist"], track["codec"], track["version"]) == ("Band", "wav", "original")
    assert corpus.rejected.empty


def test_splits_are_named_by_the_top_folder(tmp_path):
    folder = tmp_path / "songs"
    paths = {
        "train/A - 1": "train",
        "Valid/A - 2": "validation",
        "test/disc 1/B - 3": "test",
        "other/C": None,
        "D": None,
    }
    for seed, path in enumerate(paths):
        write_stems(folder / path, sounds(seed))
    corpus = import_corpus("folders", folder, tmp_path / "out")
    tracks = corpus.tracks.set_index("track_id")["title"]
    splits = {tracks[song]: corpus.song(song)["mixture"]["split"] for song in corpus.songs()}
    assert splits == {"1": "train", "2": "validation", "3": "test", "C": None, "D": None}


def test_it_reads_what_the_export_for_training_writes(tmp_path):
    exported = small_corpus(tmp_path / "corpus")
    msst.export(exported, tmp_path / "layout", 4)
    corpus = import_corpus("folders", tmp_path / "layout", tmp_path / "out")
    splits = corpus.stems.drop_duplicates("song_id").set_index("artist")["split"].to_dict()
    assert splits == {"Band 0": "train", "Band 1": "train", "Band 2": "validation", "Band 3": "test"}
    mixtures = {row["artist"]: corpus.load(row) for _, row in corpus.stems.iterrows() if row["stem"] == "mixture"}
    for number in range(4):
        assert np.array_equal(mixtures[f"Band {number}"], sounds(number)["mixture"])


def test_names_of_files_are_names_of_stems(tmp_path):
    audio = sounds(0, ("a", "b"))
    stems = {"Master": audio["mixture"], "Lead Vocals (dry)": audio["a"], "BASS": audio["b"]}
    write_stems(tmp_path / "songs" / "x", stems)
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out", mixture="master")
    assert list(corpus.song(corpus.songs()[0])) == ["mixture", "bass", "lead_vocals_dry"]


def test_only_the_stems_asked_for_are_taken(tmp_path):
    write_stems(tmp_path / "songs" / "x", {**sounds(0), "linear_mixture": sounds(0)["mixture"]})
    with pytest.raises(AudioError, match=r"none of 1 songs can be taken .*mixture is not the sum"):
        import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "four", stems=FOUR)
    assert list(corpus.song(corpus.songs()[0])) == ["mixture", *FOUR]


def test_hidden_and_other_files_are_left_alone(tmp_path, songs):
    (songs / "Band - Good" / "._vocals.wav").write_bytes(b"AppleDouble")
    (songs / "Band - Good" / "notes.txt").write_text("x")
    write_stems(songs / ".trash" / "x", sounds(1))
    corpus = import_corpus("folders", songs, tmp_path / "out")
    assert len(corpus.songs()) == 1
    assert corpus.rejected.empty


def test_a_missing_mixture_is_made_of_files_that_stay_as_they_are(tmp_path):
    audio = sounds(0)
    write_stems(tmp_path / "songs" / "x", {stem: audio[stem] for stem in FOUR})
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out", audio="link")
    (song_id,) = corpus.songs()
    rows = corpus.song(song_id)
    assert np.array_equal(corpus.load(rows["mixture"]), audio["mixture"])
    assert rows["mixture"]["path"].endswith(".flac")
    assert rows["mixture"]["method"] == "sum"
    ids = {content_id(tmp_path / "songs" / "x" / f"{stem}.wav") for stem in FOUR}
    assert set(rows["mixture"]["parents"].split(";")) == ids
    assert os.path.samefile(corpus.path_of(rows["bass"]), tmp_path / "songs" / "x" / "bass.wav")
    assert rows["bass"]["method"] is None
    (tmp_path / "songs" / "x").rename(tmp_path / "songs" / "y")
    again = import_corpus("folders", tmp_path / "songs", tmp_path / "again")
    assert again.songs() == [song_id]


def test_a_mixture_made_beyond_full_scale_lowers_the_song(tmp_path):
    tone = np.full((2, FRAMES), 0.75, np.float32)
    stems = {"a": tone, "b": tone, "c": quantise(-0.5 * tone)}
    write_stems(tmp_path / "songs" / "x", stems)
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    rows = corpus.song(corpus.songs()[0])
    gain = 0.999 / 1.125
    assert [row["gain_db"] for row in rows.values()] == pytest.approx([20 * np.log10(gain)] * 4)
    assert {row["method"] for row in rows.values()} == {"sum", "re-encoded"}
    heard = {stem: corpus.load(row) for stem, row in rows.items()}
    assert np.abs(heard["mixture"]).max() == pytest.approx(0.999, abs=1e-6)
    assert np.abs(heard["mixture"] - heard["a"] - heard["b"] - heard["c"]).max() <= 2 * 2.0**-23
    assert np.allclose(heard["a"], tone * gain, atol=2.0**-23)
    assert rows["a"]["parents"] == content_id(tmp_path / "songs" / "x" / "a.wav")


def test_a_file_beyond_full_scale_lowers_its_song(tmp_path):
    audio = {"mixture": np.zeros((2, FRAMES), np.float32), "a": np.full((2, FRAMES), 1.5, np.float32)}
    audio["b"] = -audio["a"]
    for stem, samples in audio.items():
        (tmp_path / "songs" / "x").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "songs" / "x" / f"{stem}.wav", samples.T, RATE, subtype="FLOAT")
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    rows = corpus.song(corpus.songs()[0])
    assert np.abs(corpus.load(rows["a"])).max() == pytest.approx(0.999, abs=1e-6)
    assert {row["path"][-5:] for row in rows.values()} == {".flac"}


def test_the_rounding_of_16_bit_files_is_no_difference(tmp_path):
    rng = np.random.default_rng(0)
    parts = rng.uniform(-0.2, 0.2, (4, 2, FRAMES)).astype(np.float32)
    stems = {"mixture": parts.sum(axis=0), **dict(zip(FOUR, parts, strict=True))}
    write_stems(tmp_path / "songs" / "x", stems, bit_depth=16)
    heard = {stem: read(tmp_path / "songs" / "x" / f"{stem}.wav")[0] for stem in stems}
    assert np.abs(heard["mixture"] - sum(heard[stem] for stem in FOUR)).max() > 2.0**-15
    assert len(import_corpus("folders", tmp_path / "songs", tmp_path / "out").songs()) == 1


@pytest.mark.parametrize("block_frames", [100, 1 << 17])
def test_a_mixture_that_is_not_the_sum_is_rejected_or_made_anew(tmp_path, songs, monkeypatch, block_frames):
    monkeypatch.setattr(mixing, "_BLOCK_FRAMES", block_frames)
    audio = sounds(1)
    wrong = audio["mixture"].copy()
    wrong[1, 777] += np.float32(0.01)
    write_stems(songs / "Bad", {**audio, "mixture": wrong})
    corpus = import_corpus("folders", songs, tmp_path / "out")
    assert len(corpus.songs()) == 1
    assert rejects(corpus) == {"Bad": "mixture is not the sum"}
    assert "differs from the sum of bass, drums, other, vocals by 0.01 of full scale at frame 777" in detail(
        corpus, "Bad"
    )
    assert corpus.rejected["id"][0] == content_id(songs / "Bad" / "mixture.wav")
    assert len(os.listdir(tmp_path / "out" / "audio")) == 1
    anew = import_corpus("folders", songs, tmp_path / "anew", make_mixture=True)
    assert anew.rejected.empty
    bad = next(song for song in anew.songs() if anew.song(song)["mixture"]["artist"] is None)
    assert np.array_equal(anew.load((bad, "mixture")), audio["mixture"])


def differing_rates(folder):
    write_stems(folder, {stem: sounds(1)[stem] for stem in FOUR[1:]})
    write_stems(folder, {"bass": sounds(1)["bass"]}, rate=16000)
    return "sample rates differ", "bass 16000, drums 8000"


def differing_lengths(folder):
    write_stems(folder, {**sounds(1), "bass": sounds(1)["bass"][:, :-9]})
    return "lengths differ", "bass 1991, .*ask for pad"


def differing_channels(folder):
    write_stems(folder, {**sounds(1), "bass": np.repeat(sounds(1)["bass"], 2, axis=0)})
    return "channels differ", "bass 4, drums 2"


def a_mixture_alone(folder):
    write_stems(folder, {"mixture": sounds(1)["mixture"]})
    return "no stems", "only mixture: a song is a mixture and its stems, or two stems and more"


def one_stem_alone(folder):
    write_stems(folder, {"vocals": sounds(1)["vocals"]})
    return "no stems", "only vocals"


def two_files_of_a_stem(folder):
    write_stems(folder, sounds(1))
    write_stems(folder, {"vocals": sounds(1)["vocals"]}, suffix=".flac")
    return "several files of a stem", r"vocals\.flac, vocals\.wav; keep one of them"


def a_damaged_file(folder):
    write_stems(folder, sounds(1))
    data = (folder / "vocals.wav").read_bytes()
    (folder / "vocals.wav").write_bytes(data[: len(data) // 2])
    return "unreadable", r"vocals\.wav: .*"


def a_file_that_is_not_audio(folder):
    write_stems(folder, sounds(1))
    (folder / "vocals.wav").write_bytes(b"text")
    return "unreadable", r"vocals\.wav: .*"


def samples_that_are_not_numbers(folder):
    write_stems(folder, sounds(1))
    audio = sounds(1)["vocals"].copy()
    audio[0, 5] = np.nan
    soundfile.write(folder / "vocals.wav", audio.T, RATE, subtype="FLOAT")
    return "unreadable", r"sample nan at frame 5, channel 0"


def the_same_song_again(folder):
    write_stems(folder, sounds(0))
    return "duplicate", "the same audio as Band - Good; remove one of them"


BAD = [
    differing_rates, differing_lengths, differing_channels, a_mixture_alone, one_stem_alone, two_files_of_a_stem,
    a_damaged_file, a_file_that_is_not_audio, samples_that_are_not_numbers, the_same_song_again,
]  # fmt: skip


@pytest.mark.parametrize("make_bad", BAD)
def test_a_song_that_cannot_be_taken_is_rejected_and_the_others_are_taken(tmp_path, songs, make_bad):
    reason, why = make_bad(songs / "Worse")
    corpus = import_corpus("folders", songs, tmp_path / "out")
    assert len(corpus.songs()) == 1
    assert rejects(corpus) == {"Worse": reason}
    assert re.search(why, detail(corpus, "Worse"))
    assert files_of(tmp_path / "out" / "audio") == [
        f"{corpus.songs()[0]}/{s}.wav" for s in sorted(["mixture", *FOUR])
    ]


def test_short_files_are_padded_when_asked(tmp_path):
    audio = sounds(0)
    audio["bass"] = audio["bass"][:, :-100]
    audio["mixture"] = audio["mixture"].copy()
    audio["mixture"][:, -100:] -= sounds(0)["bass"][:, -100:]
    write_stems(tmp_path / "songs" / "x", audio)
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out", pad=True)
    rows = corpus.song(corpus.songs()[0])
    assert {row["num_frames"] for row in rows.values()} == {FRAMES}
    heard = corpus.load(rows["bass"])
    assert np.array_equal(heard[:, :-100], audio["bass"])
    assert not heard[:, -100:].any()
    assert (rows["bass"]["method"], rows["drums"]["method"]) == ("re-encoded", None)


def test_mono_stems_of_a_stereo_song_are_on_both_channels(tmp_path):
    audio = sounds(0, ("a", "b"))
    mono = audio["a"][:1]
    mixture = audio["b"] + mono
    write_stems(tmp_path / "songs" / "x", {"mixture": mixture, "a": mono, "b": audio["b"]})
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    rows = corpus.song(corpus.songs()[0])
    assert {row["channels"] for row in rows.values()} == {2}
    assert np.array_equal(corpus.load(rows["a"]), np.repeat(mono, 2, axis=0))


def test_no_song_at_all_is_an_error_and_leaves_no_corpus(tmp_path):
    with pytest.raises(AudioError, match="songs: is no folder"):
        import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    (tmp_path / "songs").mkdir()
    with pytest.raises(RecipeError, match="songs: no folder in it holds audio files"):
        import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    write_stems(tmp_path / "songs" / "x", {"vocals": sounds(1)["vocals"]})
    with pytest.raises(AudioError, match=r"none of 1 songs can be taken \(first: x: no stems: only vocals"):
        import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    assert not (tmp_path / "out" / "stems.parquet").exists()


def test_the_corpus_goes_to_a_new_folder_outside(tmp_path, songs):
    with pytest.raises(BuildError, match=r"out: lies in .*songs, which is imported"):
        import_corpus("folders", songs, songs / "out")
    with pytest.raises(BuildError, match=r"songs: lies in .*, where it is imported to"):
        import_corpus("folders", songs, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(BuildError, match="already holds 'mine', which no import has written, and nothing"):
        import_corpus("folders", songs, tmp_path / "out")
    assert files_of(tmp_path / "out") == ["mine"]


def test_progress_and_format_are_as_asked(tmp_path, songs):
    write_stems(songs / "Alone", {"vocals": sounds(1)["vocals"]})
    told = []
    corpus = import_corpus(
        "folders", songs, tmp_path / "out", table_format="jsonl", progress=lambda *what: told.append(what)
    )
    assert told == [(stage, done, 2, 0) for stage in ("hash", "take") for done in range(3)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jsonl")) == [
        "rejected.jsonl", "stems.jsonl", "tracks.jsonl",
    ]  # fmt: skip
    assert Corpus.open(tmp_path / "out").songs() == corpus.songs()


def test_links_are_followed_and_lead_nowhere_twice(tmp_path, songs):
    write_stems(tmp_path / "elsewhere" / "Other - Song", sounds(1))
    (songs / "test").symlink_to(tmp_path / "elsewhere")
    (songs / "Band - Good" / "loop").symlink_to(songs)
    corpus = import_corpus("folders", songs, tmp_path / "out")
    assert sorted(corpus.tracks["title"]) == ["Good", "Song"]
    assert sorted(corpus.stems["split"].dropna().unique()) == ["test"]
    assert corpus.rejected.empty


def test_names_are_composed_alike_on_every_file_system(tmp_path):
    write_stems(tmp_path / "songs" / "Beyonce\u0301 - Jo\u0301ga", sounds(0))
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    assert corpus.tracks[["artist", "title"]].values.tolist() == [["Beyonc\u00e9", "J\u00f3ga"]]


@pytest.mark.parametrize("name", ["  a [b] {c} 'd' \"e\" %s", "\u202eevil\u202c", "a\nb", "\U0001f3b5 - \u6b4c"])
def test_odd_names_are_names(tmp_path, name):
    write_stems(tmp_path / "songs" / name, sounds(0))
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    artist, title = artist_and_title(name)
    (track,) = corpus.tracks.to_dict("records")
    assert (None if track["artist"] is pd.NA else track["artist"], track["title"]) == (artist, title)


@pytest.mark.parametrize("silent", [("vocals",), FOUR])
def test_silent_stems_are_taken_as_they_are(tmp_path, silent):
    audio = {stem: np.zeros_like(part) if stem in silent else part for stem, part in sounds(0).items()}
    audio["mixture"] = np.sum([audio[stem] for stem in FOUR], axis=0, dtype=np.float32)
    write_stems(tmp_path / "songs" / "x", audio)
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    (song_id,) = corpus.songs()
    assert {stem: corpus.load((song_id, stem)).any() for stem in FOUR} == {s: s not in silent for s in FOUR}


def test_a_song_of_mono_files_is_mono(tmp_path):
    audio = {stem: part[:1] for stem, part in sounds(0).items()}
    write_stems(tmp_path / "songs" / "x", audio)
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    assert set(corpus.stems["channels"]) == {1}
    assert np.array_equal(corpus.load((corpus.songs()[0], "drums")), audio["drums"])


def test_songs_of_other_rates_and_lengths_are_songs_too(tmp_path, songs):
    write_stems(songs / "fast", sounds(1), rate=44100)
    write_stems(songs / "long", sounds(2, frames=FRAMES * 2))
    corpus = import_corpus("folders", songs, tmp_path / "out")
    found = corpus.stems.drop_duplicates("song_id")[["sample_rate", "num_frames"]].values.tolist()
    assert sorted(found) == [[RATE, FRAMES], [RATE, 2 * FRAMES], [44100, FRAMES]]
    assert corpus.rejected.empty


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    folder = os.fsdecode(b"\xffBand - Caf\xe9")
    try:
        (tmp_path / "songs" / folder).mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    write_stems(tmp_path / "songs" / folder, sounds(0))
    corpus = import_corpus("folders", tmp_path / "songs", tmp_path / "out")
    assert corpus.tracks["artist"][0] == "\\xffBand"
    assert corpus.tracks["title"][0] == "Caf\\xe9"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Al James - Schoolboy Facination", ("Al James", "Schoolboy Facination")),
        ("A - B - C", ("A", "B - C")),
        ("Untitled", (None, "Untitled")),
        (" - x", (None, " - x")),
        ("x - ", (None, "x - ")),
    ],
)
def test_a_folders_name_is_artist_and_title(name, parts):
    assert artist_and_title(name) == parts


def test_names_become_words():
    assert [stem_name(text) for text in ("Vocals", "01 Kick-In", "Gitarre (übersteuert)", "!!!")] == [
        "vocals", "01_kick_in", "gitarre_übersteuert", "unnamed",
    ]  # fmt: skip
    assert plain_text("Jóga") == "Jóga"
