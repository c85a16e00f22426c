"""The choice of pairs, whatever their order; songs of a table of stems against one song after the other."""

import random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.songs import Compared, choose_pairs, songs_of
from manifests.errors import TableError
from manifests.tables import empty_table


def _pair(
    mixture: str,
    instrumental: str,
    *,
    confidence: float = 1.0,
    residual_db: float = -30.0,
    version: str = "instrumental",
) -> Compared:
    return Compared(
        f"{mixture}-{instrumental}",
        mixture,
        instrumental,
        is_pair=True,
        is_same=False,
        confidence=confidence,
        residual_db=residual_db,
        mixture_version="original",
        instrumental_version=version,
    )


def _same(a: str, b: str) -> Compared:
    return Compared(f"{a}={b}", a, b, False, True, 0.0, -30.0, "original", "original")


def test_the_pair_with_the_smaller_residual_is_chosen_and_the_other_listed() -> None:
    verdicts = choose_pairs([_pair("m", "lossy", residual_db=-18), _pair("m", "lossless", residual_db=-45)])
    assert verdicts["m-lossless"].status == "chosen"
    assert verdicts["m-lossy"].status == "alternative"
    assert verdicts["m-lossy"].song_id == verdicts["m-lossless"].song_id == "m"


def test_an_instrumental_with_backing_vocals_is_no_mixture() -> None:
    verdicts = choose_pairs([_pair("mix", "tv", version="tv_track"), _pair("mix", "inst"), _pair("tv", "inst")])
    assert verdicts["mix-inst"].status == "chosen"
    assert verdicts["mix-tv"].status == "alternative"
    assert verdicts["tv-inst"].status == "refused"
    assert "both are instrumentals" in str(verdicts["tv-inst"].reason)


def test_two_masters_of_one_mixture_make_one_song() -> None:
    verdicts = choose_pairs([_pair("m1", "i1"), _pair("m2", "i2"), _same("m1", "m2")])
    assert sorted(v.status for k, v in verdicts.items() if "-" in k) == ["alternative", "chosen"]
    assert verdicts["m1=m2"].status == "refused"


@st.composite
def _compared(draw: st.DrawFn) -> list[Compared]:
    tracks = [f"t{i}" for i in range(draw(st.integers(2, 7)))]
    found: dict[str, Compared] = {}
    for _ in range(draw(st.integers(0, 12))):
        a, b = draw(st.permutations(tracks))[:2]
        if f"{b}-{a}" in found:
            continue
        pair = _pair(a, b, confidence=draw(st.floats(0, 1)), residual_db=draw(st.floats(-60, 0)))
        found[pair.pair_id] = pair
    return list(found.values())


@given(_compared(), st.randoms())
def test_the_choice_does_not_depend_on_the_order(compared: list[Compared], chance: random.Random) -> None:
    shuffled = list(compared)
    chance.shuffle(shuffled)
    assert choose_pairs(shuffled) == choose_pairs(compared)


@given(_compared())
def test_every_song_has_one_chosen_pair_and_no_track_is_both(compared: list[Compared]) -> None:
    verdicts = choose_pairs(compared)
    assert set(verdicts) == {pair.pair_id for pair in compared}
    chosen = [pair for pair in compared if verdicts[pair.pair_id].status == "chosen"]
    songs = [verdicts[pair.pair_id].song_id for pair in chosen]
    assert len(songs) == len(set(songs))
    assert {verdicts[p.pair_id].song_id for p in compared if verdicts[p.pair_id].status == "alternative"} <= set(
        songs
    )
    assert not {pair.mixture_id for pair in chosen} & {pair.instrumental_id for pair in chosen}


def _stems(*rows: dict[str, Any]) -> pd.DataFrame:
    """Stems of song 'a', a second at 8 kHz, with what differs."""
    plain = {
        "song_id": "a",
        "stem": "mixture",
        "num_frames": 8000,
        "sample_rate": 8000,
        "artist": "Ann",
        "genre": "rock",
        "split": None,
        "license": "CC0-1.0",
        "grade": None,
    }
    return pd.DataFrame([plain | row for row in rows])


def test_a_song_has_what_its_stems_say_and_the_length_of_its_mixture() -> None:
    songs = songs_of(
        _stems(
            {"song_id": "b", "stem": "vocals", "num_frames": 80_000, "grade": "B", "artist": None},
            {"song_id": "b", "num_frames": 96_000, "sample_rate": 48_000, "artist": None},
            {"stem": "vocals", "split": "test"},
            {"num_frames": 12_000, "artist": None},
        )
    )
    assert list(songs.index) == [0, 1]
    assert songs.astype(object).where(songs.notna(), None).to_dict("records") == [
        {
            "song_id": "a",
            "artist": "Ann",
            "album_artist": None,
            "genre": "rock",
            "split": "test",
            "license": "CC0-1.0",
            "grade": None,
            "num_frames": 12_000,
            "sample_rate": 8000,
            "seconds": 1.5,
        },
        {
            "song_id": "b",
            "artist": None,
            "album_artist": None,
            "genre": "rock",
            "split": None,
            "license": "CC0-1.0",
            "grade": "B",
            "num_frames": 96_000,
            "sample_rate": 48_000,
            "seconds": 2.0,
        },
    ]


def test_without_a_mixture_the_shortest_stem_counts() -> None:
    stems = _stems(
        {"stem": "drums", "num_frames": 16_000},
        {"stem": "bass", "num_frames": 44_100, "sample_rate": 44_100},
        {"stem": "vocals", "num_frames": 9000},
    )
    assert songs_of(stems)[["num_frames", "sample_rate", "seconds"]].values.tolist() == [[44_100, 44_100, 1.0]]


def test_licences_of_the_stems_all_hold() -> None:
    stems = _stems(
        {"license": "CC0-1.0"}, {"stem": "vocals", "license": "CC-BY-4.0"}, {"stem": "drums", "license": None}
    )
    assert songs_of(stems)["license"].tolist() == ["CC-BY-4.0; CC0-1.0"]


def test_album_artists_are_taken_along_where_they_are_known() -> None:
    stems = _stems({}, {"song_id": "b"}).assign(album_artist=["Dora", None])
    songs = songs_of(stems)
    assert songs["album_artist"].isna().tolist() == [False, True]
    assert songs["album_artist"][0] == "Dora"


def test_a_corpus_without_songs_has_a_table_without_rows() -> None:
    songs = songs_of(empty_table("stems"))
    assert len(songs) == 0
    assert list(songs) == list(songs_of(_stems({})))
    assert songs.dtypes.equals(songs_of(_stems({})).dtypes)


@given(st.data())
def test_songs_are_those_found_one_by_one_in_any_order(data: st.DataObject) -> None:
    facts = {song: data.draw(st.sampled_from(["train", "test", None])) for song in "abcd"}
    row = st.tuples(
        st.sampled_from("abcd"), st.sampled_from(["mixture", "vocals", "drums"]), st.integers(1, 99), st.booleans()
    )
    rows = data.draw(st.lists(row, max_size=12, unique_by=lambda row: row[:2]))
    stems = _stems(
        *(
            {"song_id": song, "stem": stem, "num_frames": frames, "split": facts[song] if said else None}
            for song, stem, frames, said in rows
        )
    ).reindex(columns=list(_stems({})))
    songs = songs_of(stems)
    assert songs["song_id"].tolist() == sorted({song for song, *_ in rows})
    for song in songs.itertuples():
        lengths = {stem: frames for name, stem, frames, _ in rows if name == song.song_id}
        assert song.num_frames == lengths.get("mixture", min(lengths.values()))
        known = any(said for name, *_, said in rows if name == song.song_id)
        assert song.split == facts[song.song_id] if known and facts[song.song_id] else pd.isna(song.split)
    shuffled = stems.sample(frac=1, random_state=data.draw(st.integers(0, 99)))
    pd.testing.assert_frame_equal(songs_of(shuffled), songs)


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [("split", "train", "test"), ("artist", "Ann", "Bob"), ("genre", "rock", "jazz"), ("grade", "A", "D")],
)
def test_stems_that_disagree_are_named_with_their_values(column: str, one: str, other: str) -> None:
    stems = _stems(
        {"song_id": "c", "stem": "mixture", column: one},
        {"song_id": "c", "stem": "vocals", column: other},
        {"song_id": "b", "stem": "mixture", column: None},
        {"song_id": "b", "stem": "drums", column: one},
        {"song_id": "b", "stem": "vocals", column: other},
    )
    message = rf"song 'b' has {column} '{one}' \(stem 'drums'\) and '{other}' \(stem 'vocals'\).*like this: 2\)"
    with pytest.raises(TableError, match=message):
        songs_of(stems)


@pytest.mark.parametrize(
    ("stems", "message"),
    [
        (_stems({}).drop(columns="license"), "column 'license' is missing"),
        (_stems({}, {"song_id": None}), "column 'song_id' is null in row 1"),
        (_stems({}, {}), "song 'a' has 2 mixtures"),
        (_stems({"num_frames": 0}), "column 'num_frames' is 0 for stem 'mixture' of song 'a'"),
        (_stems({"sample_rate": None}), "column 'sample_rate' is None for stem 'mixture'"),
    ],
)
def test_a_bad_table_of_stems_is_refused(stems: pd.DataFrame, message: str) -> None:
    with pytest.raises(TableError, match=message):
        songs_of(stems)
