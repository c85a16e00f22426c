"""Shares of genres against closed forms, a linear programme, and what must hold for every corpus."""

import hashlib
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from curation.balance import choose_songs, distribution, song_weights, unit_hash
from manifests.errors import RecipeError, TableError


def songs_of(**seconds: list[float]) -> pd.DataFrame:
    """Songs by genre, as long as told; the genre `null` is no genre."""
    rows = [
        (f"{genre}-{number}", None if genre == "null" else genre, length)
        for genre, lengths in seconds.items()
        for number, length in enumerate(lengths)
    ]
    return pd.DataFrame(rows, columns=["song_id", "genre", "seconds"])


def shares_of(songs: pd.DataFrame, kept: tuple[str, ...]) -> dict[str, float]:
    hours = songs[songs["song_id"].isin(kept)].groupby("genre")["seconds"].sum()
    return dict(hours / hours.sum())


@st.composite
def corpora(draw: st.DrawFn) -> pd.DataFrame:
    lengths = st.lists(st.integers(1, 600_000).map(lambda ms: ms / 1000), min_size=1, max_size=12)
    return songs_of(**draw(st.dictionaries(st.sampled_from(["folk", "jazz", "pop", "rock"]), lengths, min_size=1)))


@st.composite
def corpora_and_references(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, float]]:
    songs = draw(corpora())
    genres = sorted(set(songs["genre"]))
    parts = draw(st.lists(st.integers(0, 20), min_size=len(genres), max_size=len(genres)).filter(any))
    return songs, {genre: part / sum(parts) for genre, part in zip(genres, parts, strict=True)}


def test_a_distribution_is_the_share_of_the_hours_or_of_the_songs() -> None:
    songs = songs_of(rock=[300, 300], jazz=[150], null=[50])
    hours = distribution(songs)
    assert hours.to_dict() == pytest.approx({"jazz": 150 / 800, "rock": 600 / 800, "unknown": 50 / 800})
    assert list(hours.index) == ["jazz", "rock", "unknown"]
    assert distribution(songs, by="songs").to_dict() == {"jazz": 0.25, "rock": 0.5, "unknown": 0.25}


@given(corpora(), st.randoms())
def test_a_distribution_sums_to_one_and_does_not_depend_on_the_order(songs: pd.DataFrame, chance: Any) -> None:
    shares = distribution(songs)
    assert math.fsum(shares) == pytest.approx(1, abs=1e-12)
    shuffled = songs.sample(frac=1, random_state=chance.randrange(2**32))
    pd.testing.assert_series_equal(distribution(shuffled), shares, check_exact=True)


def test_the_genre_with_least_for_its_share_is_kept_whole_and_limits_the_others() -> None:
    songs = songs_of(rock=[60.0] * 90, jazz=[60.0] * 10, pop=[60.0] * 50)
    balance = choose_songs(songs, {"rock": 0.5, "jazz": 0.25, "pop": 0.25}, seed=1)
    assert balance.limiting == "jazz"
    assert {g.genre: g.songs_after for g in balance.genres} == {"jazz": 10, "pop": 10, "rock": 20}
    assert {g.genre: g.songs_before for g in balance.genres} == {"jazz": 10, "pop": 50, "rock": 90}
    assert {g.genre: g.reference for g in balance.genres} == {"jazz": 0.25, "pop": 0.25, "rock": 0.5}
    assert (balance.hours_before, balance.hours_after) == pytest.approx((150 / 60, 40 / 60))
    assert len(balance.kept) == 40
    assert list(balance.kept) == sorted(balance.kept)
    assert balance.dropped == ()


@given(corpora_and_references(), st.integers(0, 5))
def test_shares_are_those_of_the_reference_within_half_a_song_and_hours_are_maximal(
    case: tuple[pd.DataFrame, dict[str, float]], seed: int
) -> None:
    songs, reference = case
    balance = choose_songs(songs, reference, seed=seed)
    genres = sorted(reference)
    before = np.array([songs.loc[songs["genre"] == genre, "seconds"].sum() for genre in genres])
    # The most hours x_g <= H_g with x_g = r_g T, by a linear programme in T.
    ratios = np.array([[reference[genre]] for genre in genres])
    best = -scipy.optimize.linprog([-1], A_ub=ratios, b_ub=before).fun
    kept = songs[songs["song_id"].isin(balance.kept)]
    for genre in genres:
        longest = songs.loc[songs["genre"] == genre, "seconds"].max()
        after = kept.loc[kept["genre"] == genre, "seconds"].sum()
        assert abs(after - reference[genre] * best) <= longest / 2 + 1e-6 * best
        assert after == pytest.approx(next(g.hours_after for g in balance.genres if g.genre == genre) * 3600)
    limit = songs.loc[songs["genre"] == balance.limiting, "song_id"]
    assert set(limit) <= set(balance.kept)


@given(corpora_and_references(), st.integers(0, 5), st.randoms())
def test_the_choice_does_not_depend_on_the_order(
    case: tuple[pd.DataFrame, dict[str, float]], seed: int, chance: Any
) -> None:
    songs, reference = case
    shuffled = songs.sample(frac=1, random_state=chance.randrange(2**32))
    turned = dict(reversed(reference.items()))
    assert choose_songs(shuffled, turned, seed=seed) == choose_songs(songs, reference, seed=seed)


@given(corpora_and_references(), st.lists(st.integers(1, 600), min_size=1, max_size=5))
def test_more_songs_of_the_limiting_genre_drop_none_of_the_others(
    case: tuple[pd.DataFrame, dict[str, float]], lengths: list[int]
) -> None:
    songs, reference = case
    balance = choose_songs(songs, reference, seed=3)
    more = pd.DataFrame(
        {"song_id": [f"new-{i}" for i in range(len(lengths))], "genre": balance.limiting, "seconds": lengths}
    )
    grown = choose_songs(pd.concat([songs, more]), reference, seed=3)
    others = set(songs.loc[songs["genre"] != balance.limiting, "song_id"])
    assert set(balance.kept) & others <= set(grown.kept)


def test_the_seed_decides_which_songs_are_kept_not_how_many() -> None:
    songs = songs_of(rock=[200.0] * 200, jazz=[200.0] * 50)
    one, other = (choose_songs(songs, "uniform", seed=seed) for seed in (0, 1))
    assert len(one.kept) == len(other.kept) == 100
    assert one.kept != other.kept
    # 50 of 200 songs drawn twice have 12.5 in common, give or take 2.7.
    assert 2 < len({*one.kept} & {*other.kept}) - 50 < 25


def test_uniform_means_every_genre_that_is_one() -> None:
    songs = songs_of(rock=[60.0] * 30, jazz=[60.0] * 10, other=[60.0] * 5, null=[60.0] * 5)
    balance = choose_songs(songs, "uniform", seed=0)
    assert {g.genre: g.songs_after for g in balance.genres} == {"jazz": 10, "other": 0, "rock": 10, "unknown": 0}


def test_a_corpus_is_brought_to_the_distribution_of_another() -> None:
    catalog = songs_of(children=[100.0] * 400, rock=[200.0] * 300, pop=[150.0] * 400)
    bean = songs_of(rock=[180.0] * 60, pop=[240.0] * 30, children=[120.0] * 5)
    balance = choose_songs(catalog, distribution(bean), seed=0)
    assert shares_of(catalog, balance.kept) == pytest.approx(dict(distribution(bean)), abs=0.002)
    assert balance.limiting == "rock"


def test_a_corpus_that_is_its_own_reference_is_kept_whole() -> None:
    songs = songs_of(rock=[181.5, 200.25], jazz=[300.125], null=[61.0])
    assert len(choose_songs(songs, distribution(songs), seed=0).kept) == len(songs)


@given(corpora_and_references(), st.sampled_from(["songs", "hours"]))
def test_weights_reproduce_the_reference(case: tuple[pd.DataFrame, dict[str, float]], by: Any) -> None:
    songs, reference = case
    weights = song_weights(songs, reference, by=by)
    frame = songs.set_index("song_id").join(weights)
    amount = frame["weight"] * (frame["seconds"] if by == "hours" else 1)
    shares = amount.groupby(frame["genre"]).sum() / amount.sum()
    assert dict(shares) == pytest.approx(reference, abs=1e-12)
    assert amount.sum() == pytest.approx(frame["seconds"].sum() if by == "hours" else len(frame))
    assert (weights >= 0).all()
    assert list(weights.index) == sorted(songs["song_id"])


def test_weights_of_a_genre_that_the_reference_has_not_are_zero() -> None:
    weights = song_weights(songs_of(rock=[60, 60], jazz=[60]), {"rock": 1.0})
    assert weights.to_dict() == {"jazz-0": 0.0, "rock-0": 1.5, "rock-1": 1.5}


SONGS = songs_of(rock=[60.0], jazz=[60.0])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({}, "reference: is empty"),
        ({"rock": -0.5, "jazz": 1.5}, "share of 'rock' is -0.5; expected a number from 0 to 1"),
        ({"rock": float("nan"), "jazz": 1.0}, "share of 'rock' is nan"),
        ({"rock": float("inf")}, "share of 'rock' is inf"),
        ({"rock": "half", "jazz": 0.5}, "share of 'rock' is 'half'"),
        ({"rock": True}, "share of 'rock' is True"),
        ({"rock": 0.5, "jazz": 0.4}, r"\(rock 0.5, jazz 0.4\) sum to 0.9; make them sum to 1"),
        ({"rock": 0.0}, "sum to 0"),
        ({"rokc": 0.5, "jazz": 0.5}, r"no song has the genre 'rokc' \(did you mean 'rock'\?\); .*missing='drop'"),
        ({"polka": 0.5, "zouk": 0.5}, r"no song has the genre 'polka', nor zouk; the songs have"),
        ("even", "is 'even'; expected genres and their shares, or 'uniform'"),
    ],
)
@pytest.mark.parametrize("function", [lambda *a: choose_songs(*a, seed=0), song_weights])
def test_a_bad_reference_is_refused(function: Any, reference: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        function(SONGS, reference)


def test_shares_may_miss_one_by_a_millionth() -> None:
    assert len(choose_songs(SONGS, {"rock": 0.5, "jazz": 0.4999995}, seed=0).kept) == 2


def test_missing_genres_are_dropped_when_told_and_named() -> None:
    songs = songs_of(rock=[60.0] * 4, jazz=[60.0] * 4)
    reference = {"rock": 0.4, "jazz": 0.2, "zouk": 0.3, "polka": 0.1, "opera": 0.0}
    balance = choose_songs(songs, reference, seed=0, missing="drop")
    assert balance.dropped == ("polka", "zouk")
    assert {g.genre: g.reference for g in balance.genres} == pytest.approx({"rock": 2 / 3, "jazz": 1 / 3})
    assert {g.genre: g.songs_after for g in balance.genres} == {"jazz": 2, "rock": 4}
    weights = song_weights(songs, reference, missing="drop")
    assert weights[["rock-0", "jazz-0"]].tolist() == pytest.approx([4 / 3, 2 / 3])
    with pytest.raises(RecipeError, match=r"no song has any of its genres \(polka\)"):
        choose_songs(songs, {"polka": 1.0}, seed=0, missing="drop")


def test_uniform_needs_a_genre() -> None:
    with pytest.raises(RecipeError, match="'uniform' needs songs with a genre"):
        choose_songs(songs_of(null=[60.0], other=[60.0]), "uniform", seed=0)


@pytest.mark.parametrize(
    ("songs", "message"),
    [
        (SONGS.iloc[:0], "there are none"),
        (SONGS.drop(columns="genre"), "column 'genre' is missing"),
        (SONGS.assign(seconds=[60.0, 0.0]), "song 'rock-0' has seconds 60.0|song 'jazz-0' has seconds 0.0"),
        (SONGS.assign(seconds=[60.0, math.nan]), "song 'jazz-0' has seconds nan; expected a length above 0"),
        (SONGS.assign(song_id="a"), "song_id 'a' is there twice"),
        (SONGS.assign(song_id=["a", None]), "a song_id is null or no text"),
        (SONGS.assign(song_id=[1, 2]), "a song_id is null or no text"),
    ],
)
def test_a_bad_table_of_songs_is_refused(songs: pd.DataFrame, message: str) -> None:
    for function in (
        distribution,
        lambda s: choose_songs(s, "uniform", seed=0),
        lambda s: song_weights(s, "uniform"),
    ):
        with pytest.raises(TableError, match=message):
            function(songs)


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="by is 'minutes'"):
        distribution(SONGS, by="minutes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing is 'ignore'"):
        choose_songs(SONGS, "uniform", seed=0, missing="ignore")  # type: ignore[arg-type]


def test_the_hash_is_the_documented_one() -> None:
    digest = hashlib.blake2b(b"7/song", digest_size=8).digest()
    assert unit_hash(["song"], 7).tolist() == [(int.from_bytes(digest, "big") >> 11) / 2**53]
    # Corpora were split by these: they must not change.
    golden = [0.35047527770019504, 0.7169675202522006, 0.7045717103921935]
    assert unit_hash(["", "a", "é"], 0).tolist() == golden
    assert unit_hash([], 0).shape == (0,)


def test_the_hash_is_uniform_and_seeds_are_independent() -> None:
    keys = [f"key {i}" for i in range(20_000)]
    one, other = unit_hash(keys, 0), unit_hash(keys, 1)
    assert one.min() >= 0
    assert one.max() < 1
    histogram, _ = np.histogram(one, bins=20, range=(0, 1))
    assert histogram == pytest.approx(1000, abs=150)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
