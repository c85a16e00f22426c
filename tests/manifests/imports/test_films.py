"""Films: stems in surround sound at 48 kHz become stereo at 44.1 kHz, against the standards' equations and soxr."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soxr
from pydantic import ValidationError

from manifests.audio import Audio, quantise, write
from manifests.corpus import Corpus
from manifests.errors import AudioError, RecipeError
from manifests.imports import folders
from tests.manifests.imports.importing import import_corpus
from tests.synthesis import pink_noise

FRAMES, RATE = 48_000, 48_000
WAV, FILM = ("L", "R", "C", "LFE", "Ls", "Rs"), ("L", "C", "R", "Ls", "Rs", "LFE")
STEMS = {"dx": "dialogue", "mx": "music", "fx": "effects"}
HALF = np.sqrt(0.5)


def surround(seed: int, level: float = 0.02) -> dict[str, Audio]:
    rng = np.random.default_rng(seed)
    return {speaker: quantise(pink_noise(rng, 1, FRAMES, rms=level)) for speaker in WAV}


def by_hand(channels: dict[str, Audio]) -> Audio:
    """ITU-R BS.775: the centre and the surrounds 3 dB down, no bass channel."""
    sides = [
        channels[side] + HALF * channels["C"] + HALF * channels[back] for side, back in (("L", "Ls"), ("R", "Rs"))
    ]
    return np.concatenate(sides)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for number, name in enumerate(("Heist - reel 1", "Heist - reel 2")):
        for seed, stem in enumerate(STEMS):
            channels = surround(10 * number + seed)
            audio = np.concatenate([channels[speaker] for speaker in WAV])
            write(tmp_path / "films" / name / f"{stem.upper()}.wav", audio, RATE, 24)
    return tmp_path / "films"


def load(corpus: Corpus, song_id: str) -> dict[str, Audio]:
    return {stem: corpus.load(row) for stem, row in corpus.song(song_id).items()}


def test_films_become_stereo_at_the_rate_asked_for(films: Path, tmp_path: Path) -> None:
    corpus = import_corpus(
        "folders", films, tmp_path / "out", downmix="itu", sample_rate=44_100, rename=STEMS, license="mine"
    )
    titles = corpus.tracks.set_index("track_id")["title"]
    assert sorted(titles) == ["reel 1", "reel 2"]
    for song_id in corpus.songs():
        number = int(titles[song_id][-1]) - 1
        parts = load(corpus, song_id)
        assert list(parts) == ["mixture", "dialogue", "effects", "music"]
        for seed, stem in enumerate(STEMS.values()):
            wanted = soxr.resample(by_hand(surround(10 * number + seed)).T, RATE, 44_100, "VHQ").T
            np.testing.assert_allclose(parts[stem], wanted, atol=2e-6)
        np.testing.assert_allclose(parts["mixture"], sum(parts[stem] for stem in STEMS.values()), atol=3e-7)
        row = corpus.song(song_id)["music"]
        assert (row["sample_rate"], row["channels"], row["num_frames"]) == (44_100, 2, 44_100)
        assert (row["method"], row["artist"], row["license"]) == ("downmix itu", "Heist", "mine")


def test_a_file_for_each_loudspeaker_is_the_same(films: Path, tmp_path: Path) -> None:
    whole = import_corpus("folders", films, tmp_path / "whole", downmix="itu", rename=STEMS)
    for number, name in enumerate(("Heist - reel 1", "Heist - reel 2")):
        for seed, stem in enumerate(STEMS):
            for speaker, audio in surround(10 * number + seed).items():
                write(tmp_path / "apart" / name / f"{stem}.{speaker}.wav", audio, RATE, 24)
    apart = import_corpus("folders", tmp_path / "apart", tmp_path / "out", downmix="itu", rename=STEMS)
    sounds = [
        {corpus.tracks.set_index("track_id")["title"][song_id]: load(corpus, song_id) for song_id in corpus.songs()}
        for corpus in (whole, apart)
    ]
    for title, parts in sounds[0].items():
        assert list(parts) == list(sounds[1][title])
        for stem, audio in parts.items():
            np.testing.assert_allclose(sounds[1][title][stem], audio, atol=3e-7)


def test_the_order_of_film_stems(tmp_path: Path) -> None:
    for seed, stem in enumerate(STEMS):
        channels = surround(seed)
        write(tmp_path / "f" / "x" / f"{stem}.wav", np.concatenate([channels[name] for name in FILM]), RATE, 24)
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", downmix="itu", order="film")
    np.testing.assert_allclose(load(corpus, corpus.songs()[0])["dx"], by_hand(surround(0)), atol=3e-7)


def test_scaling_keeps_the_levels_of_stems_to_each_other(tmp_path: Path) -> None:
    """Mono dialogue is the centre; Lo/Ro scales it as much as the music in 5.1."""
    channels, mono = surround(0), surround(1)["C"]
    stereo = np.concatenate([surround(2)["L"], surround(2)["R"]])
    write(tmp_path / "f" / "x" / "mx.wav", np.concatenate([channels[name] for name in WAV]), RATE, 24)
    write(tmp_path / "f" / "x" / "dx.wav", mono, RATE, 24)
    write(tmp_path / "f" / "x" / "fx.wav", stereo, RATE, 24)
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", downmix="loro")
    parts, scale = load(corpus, corpus.songs()[0]), 1 / (1 + 2 * HALF)
    np.testing.assert_allclose(parts["mx"], scale * by_hand(channels), atol=3e-7)
    np.testing.assert_allclose(parts["dx"], scale * HALF * np.repeat(mono, 2, axis=0), atol=3e-7)
    np.testing.assert_allclose(parts["fx"], scale * stereo, atol=3e-7)


def test_stereo_songs_stay_as_they_are(tmp_path: Path) -> None:
    stereo = {stem: pink_noise(np.random.default_rng(seed), 2, 1000) for seed, stem in enumerate(("a", "b"))}
    for stem, audio in stereo.items():
        write(tmp_path / "f" / "x" / f"{stem}.wav", quantise(audio), RATE, 24)
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", downmix="loro")
    assert {row["method"] for row in corpus.song(corpus.songs()[0]).values()} == {None, "sum"}


def test_a_downmix_beyond_full_scale_lowers_the_film(tmp_path: Path) -> None:
    loud = np.full((6, 500), 0.6, np.float32)
    for stem in ("dx", "mx"):
        write(tmp_path / "f" / "x" / f"{stem}.wav", quantise(loud), RATE, 24)
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", downmix="itu")
    rows = corpus.song(corpus.songs()[0])
    gain = 0.999 / (2 * 0.6 * (1 + 2 * HALF))
    assert rows["dx"]["gain_db"] == pytest.approx(20 * np.log10(gain), abs=1e-4)
    np.testing.assert_allclose(corpus.load(rows["mixture"]), 0.999, atol=1e-6)


def test_single_sounds_are_mixed_down_too(tmp_path: Path) -> None:
    loud = quantise(np.full((6, 500), 0.6, np.float32))
    write(tmp_path / "f" / "effects" / "boom.wav", loud, RATE, 24)
    corpus = import_corpus("loose", tmp_path / "f", tmp_path / "out", downmix="itu", sample_rate=44_100)
    (row,) = corpus.song(corpus.songs()[0]).values()
    assert (row["channels"], row["sample_rate"]) == (2, 44_100)
    assert row["gain_db"] < -3
    assert np.abs(corpus.load(row)).max() <= 1


def test_what_no_layout_has_is_rejected(tmp_path: Path) -> None:
    for stem in ("dx", "mx"):
        write(tmp_path / "f" / "x" / f"{stem}.wav", np.zeros((7, 100), np.float32), RATE, 24)
    with pytest.raises(AudioError, match=r"dx\.wav has 7, which no layout of loudspeakers has"):
        import_corpus("folders", tmp_path / "f", tmp_path / "out", downmix="itu")


def test_a_stem_twice_is_rejected(tmp_path: Path) -> None:
    for name in ("dx.L", "dx.R", "dx"):
        write(tmp_path / "f" / "x" / f"{name}.wav", np.zeros((1, 100), np.float32), RATE, 24)
    with pytest.raises(AudioError, match="several files of a stem"):
        import_corpus("folders", tmp_path / "f", tmp_path / "out", downmix="itu")


def test_rates_differ_unless_one_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "f" / "x" / "a.wav", quantise(pink_noise(np.random.default_rng(0), 2, 4800)), 48_000, 24)
    write(tmp_path / "f" / "x" / "b.wav", quantise(pink_noise(np.random.default_rng(1), 2, 4410)), 44_100, 24)
    with pytest.raises(AudioError, match=r"sample rates differ.*ask for one sample_rate"):
        import_corpus("folders", tmp_path / "f", tmp_path / "no")
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", sample_rate=44_100)
    assert set(corpus.stems["num_frames"]) == {4410}
    with pytest.raises(ValidationError, match="layout 'musdb18' has no use for it"):
        import_corpus("musdb18", tmp_path / "f", tmp_path / "x", sample_rate=44_100)


def test_parts_of_a_track_become_stems(tmp_path: Path) -> None:
    """One track of music, then effects: what comes out sums to what went in, and silence is where nobody spoke."""
    folder, rng = tmp_path / "f" / "Heist", np.random.default_rng(0)
    both, speech = (quantise(pink_noise(rng, 2, FRAMES, rms=0.05)) for _ in range(2))
    write(folder / "MFX.wav", both, RATE, 24)
    write(folder / "DX.wav", speech, RATE, 24)
    rows = "file,start_s,end_s,label\nMFX,0,0.25,MX\nMFX,0.25,0.5,effects\nMFX,0.5,,music\nmfx,0.9,0.95,MX\n"
    (folder / "segments.csv").write_text(rows)
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", segments="segments.csv", rename=STEMS)
    parts = load(corpus, corpus.songs()[0])
    assert list(parts) == ["mixture", "dialogue", "effects", "music"]
    np.testing.assert_array_equal(parts["dialogue"], speech)
    np.testing.assert_allclose(parts["effects"] + parts["music"], both, atol=3e-7)
    np.testing.assert_allclose(parts["mixture"], both + speech, atol=4e-7)
    edge = round(0.01 * RATE)
    inside = slice(RATE // 4 + edge, RATE // 2 - edge)
    np.testing.assert_array_equal(parts["effects"][:, inside], both[:, inside])
    assert not parts["music"][:, inside].any()
    assert not parts["effects"][:, RATE // 2 + edge :].any()
    middle = parts["effects"][:, RATE // 4] / both[:, RATE // 4]
    np.testing.assert_allclose(middle, 0.5, atol=1e-3)
    assert corpus.song(corpus.songs()[0])["music"]["method"] == "segments"


def test_other_segments_are_taken_anew(tmp_path: Path) -> None:
    folder = tmp_path / "f" / "Heist"
    for seed, name in enumerate(("MFX", "DX")):
        write(folder / f"{name}.wav", pink_noise(np.random.default_rng(seed), 2, RATE), RATE, 24)
    seconds = []
    for end in ("0.25", "0.5"):
        (folder / "segments.csv").write_text(f"file,start_s,end_s,label\nMFX,0,{end},music\n")
        corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", segments="segments.csv")
        seconds.append(np.flatnonzero(load(corpus, corpus.songs()[0])["music"][0])[-1] / RATE)
    assert seconds == pytest.approx([0.26, 0.51], abs=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,start_s,end_s\nMFX,0,1\n", "has no column 'label'"),
        ("file,start_s,end_s,label\nMFX,0,1,\n", "line 2: has no label"),
        ("file,start_s,end_s,label\nMFX,1,0.5,music\n", "line 2: ends at 0.5 s and starts at 1 s"),
        ("file,start_s,end_s,label\nMFX,nan,1,music\n", "start_s is 'nan'"),
        ("file,start_s,end_s,label\nMFX,a,1,music\n", "start_s is 'a'"),
        ("file,start_s,end_s,label\nMFX,0,1,mixture\n", "labelled 'mixture'"),
        (
            "file,start_s,end_s,label\nMFY,0,1,music\n",
            r"segments\.csv: line 2: there is no file 'MFY' \(did you mean 'mfx'\?\): there are dx, mfx",
        ),
        ("file;start_s;end_s;label\nMFX;0;1;music\n", r"columns are set apart by ';' .*; use commas"),
        (
            "file,start_s,end_s,label\nMFX,1,,music\n",
            r"MFX\.wav: music is from 1 s to its end, and the file is 0\.021",
        ),
        (
            "file,start_s,end_s,label\nMFX,0,,music\nMFX,0,0.13,music\n",
            r"music is from 0 s to 0\.13 s, .* 0\.021 s long",
        ),
        ("", "its columns are none"),
    ],
)
def test_wrong_segments_cost_their_song(tmp_path: Path, text: str, message: str) -> None:
    for name in ("good", "bad"):
        for seed, stem in enumerate(("MFX", "DX")):
            audio = pink_noise(np.random.default_rng(seed + (name == "bad")), 2, 1000)
            write(tmp_path / "f" / name / f"{stem}.wav", audio, RATE, 24)
    (tmp_path / "f" / "bad" / "segments.csv").write_text(text)
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", segments="segments.csv")
    assert len(corpus.songs()) == 1
    (row,) = corpus.rejected.to_dict("records")
    assert (row["path"], row["reason"]) == ("bad", "segments")
    assert re.search(message, row["detail"])


def test_people_round_the_end_of_a_file(tmp_path: Path) -> None:
    for seed, stem in enumerate(("MFX", "DX")):
        write(tmp_path / "f" / "x" / f"{stem}.wav", pink_noise(np.random.default_rng(seed), 2, 1000), RATE, 24)
    (tmp_path / "f" / "x" / "segments.csv").write_text("file,start_s,end_s,label\nMFX.WAV,0,0.12,music\n")
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", segments="segments.csv")
    assert list(corpus.song(corpus.songs()[0])) == ["mixture", "dx", "music"]


def write_files(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write(folder / f"{name}.wav", quantise(pink_noise(np.random.default_rng(seed), 1, 1000)), RATE, 24)
    return folder


def test_a_table_names_loudspeakers_files_together_only_for_a_downmix(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "f" / "x", "MFX.L", "MFX.R", "DX.C")
    (folder / "segments.csv").write_text("file,start_s,end_s,label\nMFX,0,0.01,music\nDX,0.01,,speech\n")
    with pytest.raises(
        AudioError, match=r"line 2: MFX has a file for each loudspeaker \(MFX\.L\.wav, .*; ask for a d"
    ):
        import_corpus("folders", tmp_path / "f", tmp_path / "no", segments="segments.csv")
    ((song,), _) = folders.find_songs(tmp_path / "f", speakers=True, segments="segments.csv")
    assert {stem: [path.stem for path in paths] for stem, paths in song.stems.items()} == {
        "speech": ["DX.C"],
        "music": ["MFX.L", "MFX.R"],
    }
    assert {(stem, path.stem): spans for (stem, path), spans in song.spans.items()} == {
        ("speech", "DX.C"): ((0.01, np.inf),),
        ("music", "MFX.L"): ((0, 0.01),),
        ("music", "MFX.R"): ((0, 0.01),),
    }
    (folder / "segments.csv").write_text("file,start_s,end_s,label\nMFX.L,0,0.01,music\n")
    ((song,), _) = folders.find_songs(tmp_path / "f", segments="segments.csv")
    assert sorted(song.stems) == ["dx_c", "mfx_r", "music"]
    (_, (rejected,)) = folders.find_songs(tmp_path / "f", speakers=True, segments="segments.csv")
    assert "no file 'MFX.L' (did you mean 'mfx'?): there are dx, mfx" in rejected.detail


@pytest.mark.parametrize(
    ("names", "detail"),
    [
        (("MFX.L", "MFX.C", "DX.L", "DX.R"), "MFX has L, C and no R"),
        (("MFX.L", "MFX.C", "DX"), "MFX has L, C and no R"),
        (("MFX.L", "DX.L", "DX.R"), "MFX has L and no R"),
        (("M.L", "M.R", "M.Rs", "M.Lsr", "DX"), "M has L, R, Lb, Rs and no Rb, Ls"),
        (("FX.LFE", "DX.L", "DX.R"), "FX has LFE and no L, R"),
    ],
)
def test_a_missing_loudspeaker_costs_the_song(tmp_path: Path, names: tuple[str, ...], detail: str) -> None:
    write_files(tmp_path / "f" / "bad", *names)
    write_files(tmp_path / "f" / "good", "MFX.L", "MFX.R", "DX.C")
    ((song,), (rejected,)) = folders.find_songs(tmp_path / "f", speakers=True)
    assert (song.path, sorted(song.stems)) == ("good", ["dx", "mfx"])
    assert (rejected.path, rejected.reason) == ("bad", "loudspeaker missing")
    assert rejected.detail == f"{detail}; put it back"


def test_a_name_may_end_like_a_loudspeaker_by_chance(tmp_path: Path) -> None:
    write_files(tmp_path / "f" / "x", "Take.C", "Song L", "DX")
    ((song,), _) = folders.find_songs(tmp_path / "f", speakers=True)
    assert sorted(song.stems) == ["dx", "song_l", "take_c"]


def test_such_a_name_is_no_side_of_a_sum(tmp_path: Path) -> None:
    """Mono files that a table puts into one stem are each the centre, whatever their names end with."""
    folder = write_files(tmp_path / "f" / "x", "Song L", "Keys")
    write(folder / "DX.wav", np.zeros((6, 1000), np.float32), RATE, 24)
    (folder / "segments.csv").write_text("file,start_s,end_s,label\nSong L,0,,music\nKeys,0,,music\n")
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", segments="segments.csv", downmix="itu")
    music = load(corpus, corpus.songs()[0])["music"]
    assert music.any()
    np.testing.assert_array_equal(music[0], music[1])


def test_stems_of_two_names_are_not_one_of_loudspeakers(tmp_path: Path) -> None:
    write_files(tmp_path / "f" / "x", "dx.L", "dx.R", "dia.C", "mx")
    _, (rejected,) = folders.find_songs(tmp_path / "f", speakers=True, rename={"dx": "speech", "dia": "speech"})
    assert rejected.reason == "several files of a stem"


def test_no_wanted_stem_is_an_error_that_says_what_there_is(tmp_path: Path) -> None:
    write_files(tmp_path / "f" / "x", "DX", "FX")
    with pytest.raises(RecipeError, match=r"wanted stem: there are dialogue, fx, and asked for are dx, music;"):
        import_corpus("folders", tmp_path / "f", tmp_path / "out", stems=["dx", "music"], rename={"dx": "dialogue"})


def test_stems_that_are_wanted_may_be_in_files_that_are_none(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "f" / "x", "MFX", "DX", "FX")
    (folder / "segments.csv").write_text("file,start_s,end_s,label\nMFX,0,0.01,music\nMFX,0.01,,effects\n")
    ((song,), _) = folders.find_songs(tmp_path / "f", stems=["music", "dx"], segments="segments.csv")
    assert sorted(song.stems) == ["dx", "music"]
    assert {stem for stem, _ in song.spans} == {"music"}


def test_other_segments_of_the_same_files_are_another_song(tmp_path: Path) -> None:
    rows = {"a": "MFX,0,0.01,music", "b": "MFX,0,0.015,music", "c": "MFX,0,0.005,music\nMFX,0.005,0.01,music"}
    for name, row in rows.items():
        folder = write_files(tmp_path / "f" / name, "MFX", "DX")
        (folder / "segments.csv").write_text(f"file,start_s,end_s,label\n{row}\n")
    corpus = import_corpus("folders", tmp_path / "f", tmp_path / "out", segments="segments.csv")
    assert sorted(corpus.tracks["title"]) == ["a", "b"]
    (row,) = corpus.rejected.to_dict("records")
    assert (row["path"], row["reason"]) == ("c", "duplicate")
