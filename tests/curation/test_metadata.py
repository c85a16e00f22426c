"""Candidates against rules that can be checked pair by pair, and their cost on a larger catalogue."""

import itertools
import logging
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.metadata import MAX_BLOCK, metadata_candidates
from curation.versions import label
from manifests.errors import TableError

RATE = 44_100


def track(track_id: str, title: str | None = None, artist: str | None = None, **more: Any) -> dict[str, Any]:
    """A row of the tracks table; `seconds` is its duration, 200 unless told."""
    row = {
        "track_id": track_id,
        "path": f"{track_id}.flac",
        "num_frames": round(more.pop("seconds", 200.0) * RATE),
        "sample_rate": RATE,
        "title": title,
        "song_title": label(title).song_title if title else None,
        "artist": artist,
        "album_artist": None,
        "isrc": None,
        "recording_mbid": None,
        "work_mbid": None,
    }
    return row | more


def candidates(*rows: dict[str, Any]) -> dict[tuple[str, str], tuple[float, str]]:
    found = metadata_candidates(pd.DataFrame(rows))
    return {(a, b): (score, evidence) for a, b, score, evidence in found.itertuples(index=False)}


def evidence(one: dict[str, Any], other: dict[str, Any]) -> str:
    return next(iter(candidates(one, other).values()), (0.0, ""))[1]


def test_a_song_meets_its_instrumental() -> None:
    mixture = track("b", "Silver Fire", "The Roads")
    instrumental = track("a", "SILVER FIRE (Instrumental)", "Roads, The", seconds=190)
    ((pair, (score, why)),) = candidates(mixture, instrumental).items()
    assert (pair, why) == (("a", "b"), "title+artist")
    assert score == pytest.approx(0.8)


@pytest.mark.parametrize("column", ["isrc", "recording_mbid", "work_mbid"])
def test_a_shared_id_is_enough(column: str) -> None:
    one = track("a", "Song", "Ruby", seconds=100, **{column: "X1"})
    other = track("b", "Lied", "Leo", seconds=200, **{column: "X1"})
    assert evidence(one, other) == column
    assert evidence(one, other | {column: "X2"}) == ""


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("Silver Fire", "Ruby", 100), ("Silver Fire", "Ruby", 200), "title+artist"),
        (("Silver Fire", "Ruby", 100), ("Silver Fire", "Ruby", 101.9), "title+artist;title+duration"),
        (("Silver Fire", "Ruby", 100), ("Silver Fire", "Leo", 101.9), "title+duration"),
        (("Silver Fire", "Ruby", 100), ("Silver Fire", "Leo", 102.1), ""),
        (("Silver Fire", "Ruby", 100), ("Silver Fier", "Ruby", 200), "title+artist"),
        (("Silver Fire", "Ruby", 100), ("Fire Silver", "Ruby", 200), "title+artist"),
        (("Silver Fire", "Ruby", 100), ("Golden Fire", "Ruby", 200), ""),
        (("Silver Fire", "Ruby feat. Leo", 100), ("Silver Fire", "Leo", 200), "title+artist"),
        (("Silver Fire", "Ruby Hale", 100), ("Silver Fire", "Rubi Hale", 200), "title+artist"),
        (("Silver Fire", "Ruby & Leo", 100), ("Silver Fire", "Ruby", 200), "title+artist"),
        (("Volare", "Ruby", 100), ("Volare (Nel blu dipinto)", "Ruby", 101), "title+artist"),
        (("Volare", "Ruby", 100), ("Volare (Nel blu dipinto)", "Ruby", 110), ""),
        (("Volare", "Ruby", 100), ("Volare (Nel blu dipinto)", "Leo", 100), ""),
        (("Song, Pt. 1", "Ruby", 100), ("Song, Pt. 2", "Ruby", 100), ""),
        (("Symphony II", "Ruby", 100), ("Symphony III", "Ruby", 100), ""),
        (("Song", "Various Artists", 100), ("Song", "Various Artists", 200), ""),
        (("Song", None, 100), ("Song", None, 200), ""),
        (("Песня", "Артист", 100), ("ПЕСНЯ (Минус)", "Артист", 100), "title+artist;title+duration"),
    ],
)
def test_titles_count_with_an_artist_or_a_duration(
    one: tuple[str, str | None, float], other: tuple[str, str | None, float], expected: str
) -> None:
    first, second = (
        track(i, title, artist, seconds=s) for i, (title, artist, s) in zip("ab", (one, other), strict=True)
    )
    assert evidence(first, second) == expected


def test_the_closer_two_tracks_the_higher_their_score() -> None:
    song = track("a", "Silver Fire", "Ruby")
    scores = [
        candidates(song, other)["a", "b"][0]
        for other in (
            track("b", "Silver Fire", "Leo", seconds=202),
            track("b", "Silver Fire", "Leo", seconds=201),
            track("b", "Silver Fier", "Ruby", seconds=230),
            track("b", "Silver Fire", "Ruby", seconds=230),
            track("b", "Silver Fire", "Ruby", seconds=200),
        )
    ]
    assert all(lower < higher for lower, higher in itertools.pairwise([0.0, *scores, 1.0]))


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        ("The Roads/City/01 - Train.wav", "The Roads/City/07 - Train (Instrumental).wav", True),
        ("The Roads/City/Train [r9017454].wav", "The Roads/Single/Train (Off Vocal) [rb4ac1f6].wav", True),
        ("Ruby - Train.wav", "karaoke/Ruby - Train.wav", True),
        ("song01_mix.wav", "song01_inst.wav", True),
        ("song01_mix.wav", "song02_inst.wav", False),
        ("mixes/song.wav", "instrumentals/song.wav", True),
        ("Ruby - Train/mixture.wav", "Ruby - Train/instrumental.wav", True),
        ("Ruby - Train/mixture.wav", "Leo - Garden/instrumental.wav", False),
        ("x/9017454a.wav", "x/9017454b.wav", False),
    ],
)
def test_file_names_stand_in_for_missing_tags(one: str, other: str, met: bool) -> None:
    rows = (track("a", path=one, seconds=100), track("b", path=other, seconds=150))
    assert evidence(*rows) == ("filename" if met else "")


def test_a_file_name_meets_a_tag_by_artist_or_duration() -> None:
    tagged = track("a", "Train", "The Roads", seconds=100)
    assert evidence(tagged, track("b", path="The Roads/City/01 Train.wav", seconds=150)) == "filename"
    assert evidence(tagged, track("b", path="x/Train.wav", seconds=101)) == "filename"
    assert evidence(tagged, track("b", path="x/Train.wav", seconds=150)) == ""


def test_tracks_at_several_paths_and_empty_tables_are_fine() -> None:
    rows = [
        track("a", "Song", "Ruby"),
        track("a", "Song", "Ruby", path="copy.flac"),
        track("b", "Song", "Ruby"),
    ]
    assert list(candidates(*rows)) == [("a", "b")]
    empty = metadata_candidates(pd.DataFrame(rows).iloc[:0])
    assert empty.columns.tolist() == ["a", "b", "score", "evidence"]
    assert empty.dtypes.astype(str).tolist() == ["str", "str", "float64", "str"]


def test_missing_columns_are_named() -> None:
    with pytest.raises(TableError, match="num_frames"):
        metadata_candidates(pd.DataFrame({"track_id": ["a"], "path": ["a"], "sample_rate": [RATE]}))


ROWS = st.builds(
    lambda title, artist, seconds, isrc, folder: {
        "title": title, "artist": artist, "seconds": seconds, "isrc": isrc, "folder": folder,
    },
    title=st.sampled_from([None, "Fire", "Fires", "Silver Fire", "Fire Silver", "Silver Fir", "P 1", "P 2"]),
    artist=st.sampled_from([None, "Ruby", "Rubi", "Ruby & Leo", "Leo feat. Iris", "The Ruby"]),
    seconds=st.sampled_from([100.0, 101.5, 103.0, 160.0]),
    isrc=st.sampled_from([None, None, "I1"]),
    folder=st.sampled_from(["x/Fire", "y/Fire", "Ruby/z/Silver Fire"]),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_blocks_find_what_looking_at_every_pair_finds(drawn: list[dict[str, Any]], random: Any) -> None:
    rows = [
        track(
            f"t{n}",
            row["title"],
            row["artist"],
            seconds=row["seconds"],
            isrc=row["isrc"],
            path=f"{row['folder']}{n % 2}.wav",
        )
        for n, row in enumerate(map(dict, drawn))
    ]
    one_by_one: dict[tuple[str, str], tuple[float, str]] = {}
    for pair in itertools.combinations(rows, 2):
        one_by_one |= candidates(*pair)
    random.shuffle(rows)
    together = candidates(*rows)
    assert together == one_by_one
    assert all(a < b and 0.0 < score <= 1.0 for (a, b), (score, _) in together.items())


def catalogue(num_songs: int, seed: int = 0) -> pd.DataFrame:
    """Songs of few words by few artists, each with an instrumental, a remaster and a misspelt cover."""
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnoprstuvwy")
    words = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(max(60, num_songs // 5))]
    artists = [" ".join(rng.choice(words, 2)).title() for _ in range(max(8, num_songs // 10))]
    rows = []
    for n in range(num_songs):
        title = " ".join(words[int(i)] for i in len(words) * rng.random(rng.integers(2, 5)) ** 2).title()
        artist = artists[int(len(artists) * rng.random() ** 2)]
        seconds = float(rng.normal(220.0, 40.0))
        rows += [
            track(f"{n:06d}a", title, artist, seconds=seconds),
            track(f"{n:06d}b", f"{title} (Instrumental)", artist, seconds=seconds + 4.0),
            track(f"{n:06d}c", f"{title} - 2011 Remaster", f"{artist} feat. Leo", seconds=seconds + 30.0),
            track(f"{n:06d}d", f"{title[:-1]} (Karaoke)", "Sing Along Studio", seconds=seconds + 1.0),
        ]
    return pd.DataFrame(rows)


def test_two_thousand_tracks_take_seconds_and_every_song_is_found(caplog: pytest.LogCaptureFixture) -> None:
    frame = catalogue(500)
    start = time.process_time()
    with caplog.at_level(logging.WARNING):
        found = metadata_candidates(frame)
    assert time.process_time() - start < 5.0
    assert "artist" in caplog.text
    assert "large" in caplog.text
    pairs = set(zip(found["a"], found["b"], strict=True))
    songs = sorted({track_id[:-1] for track_id in frame["track_id"]})
    for one, other in ("ab", "ac", "bc"):
        assert all((song + one, song + other) in pairs for song in songs)
    assert np.mean([(song + "a", song + "d") in pairs for song in songs]) > 0.97
    assert len(found) < 10 * len(frame)
    assert found.equals(metadata_candidates(frame.sample(frac=1.0, random_state=1)))


def test_a_huge_block_costs_no_more_than_its_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    rows = [track(f"{n:05d}", "Intro", "Ruby", seconds=30.0 + n) for n in range(4 * MAX_BLOCK)]
    with caplog.at_level(logging.WARNING):
        found = metadata_candidates(pd.DataFrame(rows))
    assert "largest 800" in caplog.text
    assert 32 * len(rows) * 0.9 < len(found) <= 32 * len(rows)
    gaps = found["b"].astype(int) - found["a"].astype(int)
    assert gaps.max() == 32
