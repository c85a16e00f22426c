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
from manifests.errors import AudioError
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
        ("file,start_s,end_s,label\nMFY,0,1,music\n", "no file 'mfy' .did you mean 'mfx'"),
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
