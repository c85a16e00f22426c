"""A folder of tables, and crops of the audio that their rows refer to."""

import pickle

import numpy as np
import pytest

from manifests import audio as audio_module
from manifests.audio import quantise, write
from manifests.corpus import Corpus, whole_of
from manifests.errors import AudioError, TableError
from manifests.tables import frame_of, write_table
from tests.synthesis import pink_noise

RATE = 44100
FRAMES = RATE


def stem_row(song_id, stem, path, root="."):
    fixed = {
        "num_frames": FRAMES,
        "sample_rate": RATE,
        "channels": 2,
        "provenance": "derived",
        "audit": "unheard",
    }
    return {"song_id": song_id, "stem": stem, "root": root, "path": path, **fixed}


@pytest.fixture
def sounds(tmp_path):
    rng = np.random.default_rng(5)
    return {(song, stem): quantise(pink_noise(rng, 2, FRAMES)) for song in "ba" for stem in ("vocals", "mixture")}


@pytest.fixture
def folder(tmp_path, sounds):
    rows = []
    for (song, stem), sound in sounds.items():
        rows.append(stem_row(song, stem, f"songs/{song}/{stem}.flac"))
        write(tmp_path / rows[-1]["path"], sound, RATE)
    write_table(tmp_path, "stems", frame_of("stems", rows))
    return tmp_path


def replace_rows(folder, **changes):
    rows = [{**stem_row("b", "vocals", "songs/b/vocals.flac"), **changes}]
    write_table(folder, "stems", frame_of("stems", rows))
    return Corpus.open(folder)


def test_songs_and_their_stems_are_listed_in_the_tables_order(folder):
    corpus = Corpus.open(folder)
    assert corpus.songs() == ["b", "a"]
    assert list(corpus.song("a")) == ["vocals", "mixture"]
    assert corpus.song("a")["vocals"]["num_frames"] == FRAMES
    assert corpus.song("a")["vocals"]["artist"] is None


def test_a_table_that_the_disk_does_not_give_is_told(folder):
    corpus = Corpus.open(folder)
    (folder / "clips.parquet").mkdir()
    with pytest.raises(TableError, match=r"clips\.parquet: cannot be read \(Is a directory\); check the disk"):
        _ = corpus.identity


def test_a_stem_is_loaded_by_name_by_row_and_by_table_row(folder, sounds):
    corpus = Corpus.open(folder)
    expected = sounds["b", "vocals"]
    assert np.array_equal(corpus.load(("b", "vocals")), expected)
    assert np.array_equal(corpus.load(corpus.song("b")["vocals"]), expected)
    assert np.array_equal(corpus.load(corpus.stems.iloc[0]), expected)


def test_a_crop_is_loaded_without_decoding_the_rest(folder, sounds, monkeypatch):
    decoded = []
    real = audio_module._checked

    def counted(*arguments):
        for chunk in real(*arguments):
            decoded.append(chunk.shape[1])
            yield chunk

    monkeypatch.setattr(audio_module, "_checked", counted)
    corpus = Corpus.open(folder)
    crop = corpus.load(("a", "mixture"), start_frame=30_000, num_frames=500)
    assert np.array_equal(crop, sounds["a", "mixture"][:, 30_000:30_500])
    assert decoded == [500]
    assert np.array_equal(corpus.load(("a", "mixture"), 44_000), sounds["a", "mixture"][:, 44_000:])


def test_tables_are_read_when_asked_for_and_once(folder):
    (folder / "pairs.parquet").write_bytes(b"not a table")
    corpus = Corpus.open(folder)
    assert corpus.stems is corpus.stems
    assert corpus.tracks is None
    assert corpus.rejected is None
    with pytest.raises(TableError, match=r"pairs\.parquet"):
        _ = corpus.pairs


def test_a_corpus_can_be_sent_to_a_worker(folder):
    corpus = Corpus.open(folder)
    assert corpus.songs()
    copy = pickle.loads(pickle.dumps(corpus))
    assert copy == corpus
    assert copy.load(("a", "vocals"), 0, 10).shape == (2, 10)


def test_a_corpus_can_be_moved(folder, sounds, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "corpus"
    folder.rename(moved)
    assert np.array_equal(Corpus.open(moved).load(("a", "vocals")), sounds["a", "vocals"])


def test_rows_may_lie_under_another_root(folder, sounds, tmp_path_factory):
    library = tmp_path_factory.mktemp("library")
    write(library / "x.wav", sounds["a", "vocals"], RATE)
    replace_rows(folder, root="library", path="x.wav")
    corpus = Corpus.open(folder, roots={"library": library})
    assert np.array_equal(corpus.load(("b", "vocals")), sounds["a", "vocals"])
    with pytest.raises(
        TableError, match=r"root 'library' of path 'x\.wav' is none of '\.'; put its files into the corpus"
    ):
        Corpus.open(folder).load(("b", "vocals"))


@pytest.mark.parametrize("path", ["../secret.wav", "/etc/passwd", "a/../../secret.wav", "..\\secret.wav"])
def test_a_path_never_leaves_its_root(folder, path):
    corpus = Corpus.open(folder)
    row = {**corpus.song("b")["vocals"], "path": path}
    with pytest.raises(TableError, match="is not a relative POSIX path that stays under"):
        corpus.load(row)


def test_unknown_songs_and_stems_are_refused_with_what_there_is(folder):
    corpus = replace_rows(folder, song_id="song-17")
    with pytest.raises(TableError, match=r"has no song 'song-71' \(did you mean 'song-17'\?\)"):
        corpus.song("song-71")
    with pytest.raises(TableError, match="song 'song-17' has no stem 'drums'; it has vocals"):
        corpus.load(("song-17", "drums"))


@pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, FRAMES + 1), (FRAMES, None), (FRAMES - 5, 6), (3, 0)])
def test_crops_outside_the_stem_are_refused(folder, start, count):
    with pytest.raises(TableError, match=rf"b/vocals\.flac: frames {start} to .* within its {FRAMES} frames"):
        Corpus.open(folder).load(("b", "vocals"), start, count)


@pytest.mark.parametrize(("field", "value"), [("sample_rate", 48000), ("channels", 1)])
def test_a_file_that_is_not_what_its_row_says_is_refused(folder, field, value):
    with pytest.raises(TableError, match=rf"has {field} \d+, and its row in the stems table says {value}; run"):
        replace_rows(folder, **{field: value}).load(("b", "vocals"))


def test_a_file_that_is_shorter_than_its_row_says_is_refused(folder):
    with pytest.raises(AudioError, match=f"ends at frame {FRAMES}, but"):
        replace_rows(folder, num_frames=FRAMES + 1).load(("b", "vocals"))


@pytest.mark.parametrize(
    ("stems", "whole"),
    [
        (["vocals", "mixture", "drums"], "mixture"),
        (["mixture"], "mixture"),
        (["speech"], "speech"),
        (["a", "b"], None),
        ([], None),
    ],
)
def test_the_whole_of_a_song_is_its_mixture_or_its_only_stem(stems, whole):
    assert whole_of(stems) == whole


def test_a_folder_without_stems_is_refused(tmp_path):
    with pytest.raises(TableError, match=r"holds no stems\.parquet or stems\.jsonl"):
        Corpus.open(tmp_path)
