"""MoisesDB becomes a corpus whose stems are what the dataset's own package (track.py) makes of the same files."""

import json
import os

import numpy as np
import pytest
import soundfile

from manifests.audio import quantise, write
from manifests.errors import AudioError, RecipeError
from manifests.imports.moisesdb import find_songs
from tests.manifests.imports.importing import import_corpus
from tests.synthesis import pink_noise

RATE, FRAMES = 8000, 2000


def noise(seed, channels=2, frames=FRAMES, rms=0.05):
    return quantise(pink_noise(np.random.default_rng(seed), channels, frames, rms=rms))


def write_song(folder, stems, **data):
    """Write tracks by stem and kind, as (audio, has_bleed), and the song's data.json."""
    listed = []
    for stem, tracks in stems.items():
        entries = []
        for number, (kind, audio, has_bleed) in enumerate(tracks):
            name = f"{stem}-{number}".replace(" ", "-")
            write(folder / stem / f"{name}.wav", audio, RATE)
            entries.append({"id": name, "trackType": kind, "extension": "wav", "has_bleed": has_bleed})
        listed.append({"id": f"id of {stem}", "stemName": stem, "tracks": entries})
    known = {"song": "High Horse", "artist": "Angela Thomas Wade", "genre": "country", "stems": listed}
    (folder / "data.json").write_text(json.dumps({**known, **data}))


def own_stems(folder):
    """The stems as moisesdb's `MoisesDBTrack.stems` makes them (without its resampling)."""
    stems = {}
    for stem in json.loads((folder / "data.json").read_text())["stems"]:
        tracks = []
        for track in stem["tracks"]:
            audio, _ = soundfile.read(folder / stem["stemName"] / f"{track['id']}.{track['extension']}")
            tracks.append(np.stack([audio, audio]) if audio.ndim == 1 else audio.T)
        shortest = min(track.shape[1] for track in tracks)
        stems[stem["stemName"]] = sum(track[:, :shortest] for track in tracks)
    return stems


SONG = {
    "vocals": [("lead female singer", noise(0), False), ("background vocals", noise(1), False)],
    "drums": [("kick drum", noise(2), False), ("snare drum", noise(3, channels=1), False)],
    "other_keys": [("synth pad", noise(4), False)],
}


@pytest.fixture
def folder(tmp_path):
    write_song(tmp_path / "moisesdb" / "moisesdb_v0.1" / "0a1b", SONG)
    return tmp_path / "moisesdb"


def test_stems_are_the_sums_of_their_tracks_and_the_mixture_of_all(folder, tmp_path):
    corpus = import_corpus("moisesdb", folder, tmp_path / "out", license="CC BY-NC-SA 4.0", audio="link")
    (song_id,) = corpus.songs()
    rows = corpus.song(song_id)
    expected = own_stems(folder / "moisesdb_v0.1" / "0a1b")
    assert list(rows) == ["mixture", *sorted(expected)]
    for stem, audio in expected.items():
        assert np.array_equal(corpus.load(rows[stem]), audio)
    assert np.array_equal(corpus.load(rows["mixture"]), sum(expected.values()))
    assert rows["mixture"]["genre"] == "country"
    assert rows["mixture"]["artist"] == "Angela Thomas Wade"
    assert corpus.tracks[["title", "path"]].values.tolist() == [["High Horse", rows["mixture"]["path"]]]
    assert {stem: row["method"] for stem, row in rows.items()} == {
        "mixture": "sum", "vocals": "sum", "drums": "sum", "other_keys": None,
    }  # fmt: skip
    source = folder / "moisesdb_v0.1" / "0a1b" / "other_keys" / "other_keys-0.wav"
    assert os.path.samefile(corpus.path_of(rows["other_keys"]), source)


def test_a_loud_song_is_lowered_as_a_whole(folder, tmp_path):
    loud = {stem: [("x", noise(seed, rms=0.3), False)] * 2 for seed, stem in enumerate(("vocals", "bass"))}
    loud = {
        stem: [(kind, audio / np.abs(audio).max(), bleed) for kind, audio, bleed in t] for stem, t in loud.items()
    }
    write_song(folder / "loud", loud, song="Loud")
    corpus = import_corpus("moisesdb", folder, tmp_path / "out")
    song_id = corpus.tracks.set_index("title")["track_id"]["Loud"]
    rows = corpus.song(song_id)
    heard = {stem: corpus.load(row) for stem, row in rows.items()}
    assert max(np.abs(audio).max() for audio in heard.values()) == pytest.approx(0.999, abs=1e-5)
    gain = 10 ** (rows["bass"]["gain_db"] / 20)
    assert np.allclose(heard["bass"], own_stems(folder / "loud")["bass"] * gain, atol=2.0**-22)
    assert np.abs(heard["mixture"] - heard["bass"] - heard["vocals"]).max() <= 2 * 2.0**-23


def test_silence_follows_a_shorter_track(folder, tmp_path):
    short = noise(6, frames=FRAMES - 300)
    write_song(
        folder / "short", {"vocals": [("a", noise(5), False), ("b", short, False)], "bass": [("c", short, False)]}
    )
    corpus = import_corpus("moisesdb", folder, tmp_path / "out")
    rows = next(corpus.song(song) for song in corpus.songs() if "bass" in corpus.song(song))
    padded = np.pad(short, ((0, 0), (0, 300)))
    assert np.array_equal(corpus.load(rows["bass"]), padded)
    assert np.array_equal(corpus.load(rows["vocals"]), noise(5) + padded)


def test_a_stem_that_is_listed_twice_is_one(folder, tmp_path):
    write_song(folder / "twice", {"vocals": [("a", noise(5), False)], "bass": [("c", noise(6), False)]})
    path = folder / "twice" / "data.json"
    data = json.loads(path.read_text())
    write(folder / "twice" / "vocals" / "second.wav", noise(7), RATE)
    data["stems"].append({"stemName": "vocals", "tracks": [{"id": "second", "trackType": "b", "extension": "wav"}]})
    data["stems"].append({"stemName": "guitar", "tracks": []})
    path.write_text(json.dumps(data))
    corpus = import_corpus("moisesdb", folder, tmp_path / "out")
    rows = next(corpus.song(song) for song in corpus.songs() if "bass" in corpus.song(song))
    assert list(rows) == ["mixture", "bass", "vocals"]
    assert np.array_equal(corpus.load(rows["vocals"]), noise(5) + noise(7))


def test_songs_with_bleed_are_kept_or_rejected(folder, tmp_path):
    write_song(folder / "bleeds", {"vocals": [("a", noise(5), True)], "bass": [("c", noise(6), False)]})
    assert len(import_corpus("moisesdb", folder, tmp_path / "kept").songs()) == 2
    corpus = import_corpus("moisesdb", folder, tmp_path / "out", bleed="reject")
    assert len(corpus.songs()) == 1
    assert corpus.rejected[["path", "reason", "detail"]].values.tolist() == [
        ["bleeds", "bleed", "its data.json says so of vocals/vocals-0"]
    ]
    with pytest.raises(RecipeError, match="bleed 'drop' is not known; use 'keep' or 'reject'"):
        find_songs(folder, "drop")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"song": "x"}', "KeyError: 'stems'"),
        ('{"stems": [{"stemName": "vocals", "tracks": [{"id": "a"}]}]}', "KeyError: 'extension'"),
        ('{"stems": [{"stemName": "mixture", "tracks": []}]}', "a stem is named 'mixture'"),
        ('{"stems": [{"stemName": "..", "tracks": [{"id": "x", "extension": "wav"}]}]}', "TableError: path"),
        ('{"stems": [{"stemName": "/etc", "tracks": [{"id": "x", "extension": "wav"}]}]}', "TableError: path"),
        ('{"stems": ' + "[" * 100_000, "RecursionError"),
    ],
)
def test_a_data_file_that_is_not_right_is_a_rejected_song(folder, tmp_path, text, why):
    (folder / "bad").mkdir()
    (folder / "bad" / "data.json").write_text(text)
    corpus = import_corpus("moisesdb", folder, tmp_path / "out")
    assert len(corpus.songs()) == 1
    assert corpus.rejected["reason"].tolist() == ["data.json is not right"]
    assert why in corpus.rejected["detail"][0]


def test_a_track_that_is_missing_is_a_rejected_song(folder, tmp_path):
    (folder / "moisesdb_v0.1" / "0a1b" / "drums" / "drums-1.wav").unlink()
    with pytest.raises(
        AudioError, match=r"none of 1 songs can be taken .*unreadable: .*drums-1\.wav: cannot be read"
    ):
        import_corpus("moisesdb", folder, tmp_path / "out")
    assert not (tmp_path / "out" / "stems.parquet").exists()


def test_a_folder_without_songs_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"holds no data\.json; give the folder of MoisesDB"):
        import_corpus("moisesdb", tmp_path, tmp_path.parent / "never")


def test_facts_that_are_missing_are_null(folder, tmp_path):
    write_song(folder / "moisesdb_v0.1" / "0a1b", SONG, song="", artist=None, genre=7)
    corpus = import_corpus("moisesdb", folder, tmp_path / "out")
    row = corpus.song(corpus.songs()[0])["mixture"]
    assert row["artist"] is row["genre"] is None
    assert corpus.tracks["title"].isna().all()
