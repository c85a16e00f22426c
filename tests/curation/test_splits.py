"""Splits: groups whole, shares met, pins honoured, nobody moved, and every bad request refused."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curation.artists import artist_groups
from curation.balance import unit_hash
from curation.splits import MUSDB18_VALIDATION, assign_splits
from manifests.errors import RecipeError, TableError

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def songs_of(count: int, *, seconds: float = 240.0, **columns: Any) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """Songs 's0', 's1', ... of artists 'g0', 'g1', ..., one song each."""
    ids = [f"s{i}" for i in range(count)]
    frame = pd.DataFrame({"song_id": ids, "seconds": seconds, "genre": "rock", "split": None} | columns)
    return frame, pd.Series([f"g{i}" for i in range(count)], index=ids, dtype="str")


def hours_of(songs: pd.DataFrame, splits: "pd.Series[str]", **only: str) -> dict[str, float]:
    for column, value in only.items():
        songs = songs[songs[column] == value]
    return dict(songs.set_index("song_id")["seconds"].groupby(splits).sum() / 3600)


@st.composite
def corpora(draw: st.DrawFn, prefix: str = "s") -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """Songs of any length and genre, of few artists, so that groups are of every size."""
    genres = st.sampled_from(["rock", "jazz", None])
    rows = draw(st.lists(st.tuples(st.integers(0, 14), genres, st.integers(1, 600_000)), min_size=5, max_size=30))
    ids = [f"{prefix}{i}" for i in range(len(rows))]
    songs = pd.DataFrame(
        {
            "song_id": pd.Series(ids, dtype="str"),
            "genre": pd.Series([genre for _, genre, _ in rows], dtype="str"),
            "seconds": [length / 1000 for _, _, length in rows],
        }
    )
    return songs, pd.Series([f"g{group}" for group, _, _ in rows], index=ids, dtype="str")


PLANS = st.sampled_from(
    [
        {"shares": {"train": 0.8, "validation": 0.1, "test": 0.1}},
        {"shares": {"train": 0.97, "validation": 0.03}},
        {"shares": {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}},
        {"shares": {"train": 1.0, "test": 0.0}},
        {"hours": {"validation": 0.0005, "test": 0.0001}},
    ]
)


def assigned(
    corpus: tuple[pd.DataFrame, "pd.Series[str]"], plan: dict[str, Any], **options: Any
) -> "pd.Series[str]":
    """A split, of corpora that can be split."""
    try:
        return assign_splits(*corpus, **{"seed": 0} | plan | options)
    except RecipeError as error:
        assume("would get none" not in str(error) and "leave nothing" not in str(error))
        raise


@given(corpora(), PLANS, st.booleans(), st.integers(0, 3))
def test_every_song_is_placed_and_no_group_is_in_two_splits(
    corpus: tuple[pd.DataFrame, "pd.Series[str]"], plan: dict[str, Any], stratify: bool, seed: int
) -> None:
    splits = assigned(corpus, plan, stratify=stratify, seed=seed)
    assert list(splits.index) == sorted(corpus[0]["song_id"])
    assert splits.groupby(corpus[1]).nunique().le(1).all()
    wanted = [split for split, share in plan.get("shares", {**plan.get("hours", {}), "train": 1}).items() if share]
    assert set(splits) == set(wanted)


@given(corpora(), PLANS, st.booleans(), st.randoms())
def test_the_split_does_not_depend_on_the_order(
    corpus: tuple[pd.DataFrame, "pd.Series[str]"], plan: dict[str, Any], stratify: bool, chance: Any
) -> None:
    splits = assigned(corpus, plan, stratify=stratify)
    songs, groups = (part.sample(frac=1, random_state=chance.randrange(2**32)) for part in corpus)
    turned = {key: dict(reversed(value.items())) for key, value in plan.items()}
    pd.testing.assert_series_equal(assign_splits(songs, groups, **turned, seed=0, stratify=stratify), splits)


@given(corpora(), corpora("new"), PLANS.filter(lambda plan: "shares" in plan))
def test_by_hash_alone_new_songs_move_nobody(
    corpus: tuple[pd.DataFrame, "pd.Series[str]"], more: tuple[pd.DataFrame, "pd.Series[str]"], plan: dict[str, Any]
) -> None:
    before = assigned(corpus, plan, stratify=False)
    after = assigned(tuple(map(pd.concat, zip(corpus, more, strict=True))), plan, stratify=False)
    assert after[before.index].equals(before)


@given(corpora(), corpora("new"), PLANS, PLANS, st.booleans())
def test_with_the_previous_splits_nobody_moves_whatever_is_asked_for(
    corpus: tuple[pd.DataFrame, "pd.Series[str]"],
    more: tuple[pd.DataFrame, "pd.Series[str]"],
    plan: dict[str, Any],
    later: dict[str, Any],
    stratify: bool,
) -> None:
    # A split is known by being asked for, and a test set by being kept.
    asked = set(later.get("shares", ["train", "validation"])) | {"test"}
    assume({*plan.get("shares", ["train"]), *plan.get("hours", {})} <= asked)
    before = assigned(corpus, plan)
    grown = tuple(map(pd.concat, zip(corpus, more, strict=True)))
    after = assigned(grown, later, stratify=stratify, previous=before)
    assert after[before.index].equals(before)
    assert after.groupby(grown[1]).nunique().le(1).all()
    assert assigned(grown, later, stratify=stratify, previous=before.to_dict()).equals(after)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stratify", [True, False])
def test_shares_are_met_with_many_groups(seed: int, stratify: bool) -> None:
    draw = np.random.default_rng(seed)
    count = 4000
    songs, groups = songs_of(
        count,
        seconds=draw.uniform(60, 400, count),
        genre=draw.choice(["rock", "jazz", "pop"], count, p=[0.7, 0.2, 0.1]),
    )
    groups[:] = draw.choice([f"g{i}" for i in range(1500)], count)
    splits = assign_splits(songs, groups, SHARES, seed=seed, stratify=stratify)
    for genre in ("rock", "jazz", "pop"):
        hours = hours_of(songs, splits, genre=genre)
        for split, share in SHARES.items():
            deviation = math.sqrt(share * (1 - share) / (songs["genre"] == genre).sum() * 3)
            tolerance = 0.005 if stratify else 4 * deviation
            assert hours[split] / sum(hours.values()) == pytest.approx(share, abs=tolerance)
    hours = hours_of(songs, splits)
    # Stratified: within half of the largest group; groups are below an hour.
    for split, share in SHARES.items():
        tolerance = 1.0 if stratify else 0.05 * sum(hours.values())
        assert hours[split] == pytest.approx(share * sum(hours.values()), abs=tolerance)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 600)), min_size=60, max_size=60), st.integers(0, 3))
def test_shares_hold_in_every_genre_to_a_song_when_artists_keep_to_one(
    rows: list[tuple[int, int]], seed: int
) -> None:
    songs, groups = songs_of(60, genre=[f"genre {genre}" for genre, _ in rows], seconds=[float(s) for _, s in rows])
    splits = assign_splits(songs, groups, SHARES, seed=seed)
    # The total comes first: what a genre has no short enough song for, another one gives.
    longest = songs["seconds"].max()
    for genre, there in songs.groupby("genre"):
        hours = {"validation": 0.0, "test": 0.0} | hours_of(songs, splits, genre=str(genre))
        for split in ("validation", "test"):
            assert abs(hours[split] * 3600 - 0.1 * there["seconds"].sum()) <= longest


@given(corpora(), st.sampled_from([{"train": 0.8, "test": 0.2}, {"train": 0.5, "validation": 0.2, "test": 0.3}]))
def test_a_split_misses_its_share_by_half_of_the_largest_group_at_most(
    corpus: tuple[pd.DataFrame, "pd.Series[str]"], shares: dict[str, float]
) -> None:
    songs, groups = corpus
    splits = assigned(corpus, {"shares": shares})
    sizes = songs.set_index("song_id")["seconds"].groupby(groups).sum()
    hours = {"train": 0.0, "validation": 0.0, "test": 0.0} | hours_of(songs, splits)
    # A split that could not have been filled any better took the smallest group.
    for split in set(shares) - {"train"}:
        error = abs(hours[split] * 3600 - shares[split] * sizes.sum())
        assert error <= max(sizes.max() / 2, sizes.min()) + 0.01


def test_hours_are_met_and_the_rest_is_for_training() -> None:
    songs, groups = songs_of(3000, genre=["rock", "jazz", "pop"] * 1000)
    splits = assign_splits(songs, groups, hours={"validation": 2.0, "test": 1.0}, seed=0)
    assert hours_of(songs, splits) == pytest.approx({"validation": 2.0, "test": 1.0, "train": 197.0}, abs=0.04)
    assert hours_of(songs, splits, genre="jazz")["validation"] == pytest.approx(2 / 3, abs=0.07)
    splits = assign_splits(songs, groups, hours={"validation": 2.0, "test": 1.0}, seed=0, stratify=False)
    assert hours_of(songs, splits) == pytest.approx({"validation": 2.0, "test": 1.0, "train": 197.0}, abs=0.04)


def test_a_group_too_large_for_a_split_is_left_to_a_larger_one() -> None:
    songs, groups = songs_of(200)
    groups[:120] = "everybody"
    for seed in range(10):
        splits = assign_splits(songs, groups, SHARES, seed=seed)
        assert set(splits[groups.index[groups == "everybody"]]) == {"train"}
        assert splits.value_counts().to_dict() == {"train": 160, "validation": 20, "test": 20}


def test_genres_too_small_for_a_share_lend_to_each_other() -> None:
    songs, groups = songs_of(40, genre=[f"genre {i}" for i in range(40)])
    assert assign_splits(songs, groups, SHARES, seed=0).value_counts().to_dict() == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }


def test_every_split_gets_a_group_when_there_are_as_many_groups_as_splits() -> None:
    songs, groups = songs_of(3, seconds=[100.0, 5000.0, 200.0])
    splits = assign_splits(songs, groups, {"train": 0.98, "validation": 0.01, "test": 0.01}, seed=0)
    assert splits["s1"] == "train"
    assert set(splits) == {"train", "validation", "test"}


def test_the_seed_decides_who_goes_where() -> None:
    songs, groups = songs_of(200)
    one, other = (assign_splits(songs, groups, SHARES, seed=seed) for seed in (0, 1))
    assert not one.equals(other)
    assert one.value_counts().to_dict() == other.value_counts().to_dict()


def test_by_hash_alone_the_place_of_a_group_can_be_computed_by_hand() -> None:
    songs, groups = songs_of(500)
    splits = assign_splits(songs, groups, SHARES, seed=4, stratify=False)
    draws = unit_hash(groups[splits.index], 4)
    # In the order of their names: test to 0.1, train to 0.9, validation.
    expected = np.select([draws < 0.1, draws < 0.9], ["test", "train"], "validation")
    assert splits.tolist() == expected.tolist()


def test_songs_of_an_imported_test_set_stay_there_and_count() -> None:
    songs, groups = songs_of(100)
    songs.loc[:29, "split"] = ["test"] * 5 + ["train"] * 25
    groups["s6"] = groups["s0"]
    splits = assign_splits(songs, groups, SHARES, seed=0)
    assert (splits[[f"s{i}" for i in (0, 1, 2, 3, 4, 6)]] == "test").all()
    assert splits.value_counts().to_dict() == {"train": 80, "validation": 10, "test": 10}
    released = assign_splits(songs, groups, SHARES, seed=0, keep=())
    assert released.equals(assign_splits(songs.drop(columns="split"), groups, SHARES, seed=0))
    both = assign_splits(songs.drop(index=6), groups, SHARES, seed=0, keep=("test", "train"))
    assert (both[[f"s{i}" for i in range(7, 30)]] == "train").all()


def test_a_kept_split_that_was_not_asked_for_takes_nothing_from_the_others() -> None:
    songs, groups = songs_of(110)
    songs.loc[:9, "split"] = "test"
    splits = assign_splits(songs, groups, {"train": 0.9, "validation": 0.1}, seed=0)
    assert splits.value_counts().to_dict() == {"train": 90, "validation": 10, "test": 10}


def test_a_test_song_whose_artist_is_everywhere_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    songs, groups = songs_of(100)
    groups[:60] = "everybody"
    songs.loc[0, "split"] = "test"
    splits = assign_splits(songs, groups, SHARES, seed=0)
    assert (splits[groups.index[:60].tolist()] == "test").all()
    assert "split 'test' has 4 h of songs placed beforehand" in caplog.text
    assert "0.667 h were asked for" in caplog.text
    caplog.clear()
    assign_splits(songs, groups, SHARES, seed=0, keep=())
    assert caplog.text == ""


def test_a_test_set_larger_than_its_share_gets_no_more() -> None:
    songs, groups = songs_of(100, genre=["rock"] * 50 + ["jazz"] * 50)
    songs.loc[:29, "split"] = "test"
    splits = assign_splits(songs, groups, SHARES, seed=0)
    assert splits.value_counts()["test"] == 30
    assert splits.value_counts()["validation"] == pytest.approx(70 / 9, abs=1)


@pytest.mark.parametrize(
    "name", ["s3", "Song Three", "SONG THREE!", "Ann - Song Three", "ann — song three", "Änn Song Three"]
)
def test_a_fixed_song_is_found_by_id_title_or_artist_and_title(name: str) -> None:
    songs, groups = songs_of(50, artist="Bob", title=[f"Title {i}" for i in range(50)])
    songs.loc[3, ["artist", "title"]] = ["Ann", "Song Three"]
    songs.loc[4, ["artist", "title"]] = [None, None]
    for stratify in (True, False):
        splits = assign_splits(songs, groups, SHARES, seed=0, fixed={name: "validation"}, stratify=stratify)
        assert splits["s3"] == "validation"


def test_the_validation_songs_of_musdb18_take_their_artists_along() -> None:
    assert len(set(MUSDB18_VALIDATION)) == 14
    names = [*MUSDB18_VALIDATION, *(f"Artist {i} - Song" for i in range(84))]
    names += ["Actions - Devil's Words", "Triviul feat. The Fiend - Widow"]
    songs, _ = songs_of(100, artist=[name.split(" - ")[0] for name in names])
    fixed = dict.fromkeys(MUSDB18_VALIDATION, "validation")
    for ids in (names, [name.replace(" ", "_").lower() for name in names]):
        named = songs.assign(song_id=ids)
        splits = assign_splits(
            named, artist_groups(named), {"train": 0.86, "validation": 0.14}, seed=0, fixed=fixed
        )
        assert set(splits.index[splits == "validation"]) == {*ids[:14], *ids[-2:]}
    titled = songs.assign(title=[name.split(" - ")[1] for name in names])
    splits = assign_splits(titled, artist_groups(titled), {"train": 0.86, "validation": 0.14}, seed=0, fixed=fixed)
    assert sorted(splits.index[splits == "validation"]) == sorted([*(f"s{i}" for i in range(14)), "s98", "s99"])


def test_a_new_song_that_joins_two_groups_of_one_split_moves_nobody() -> None:
    songs, groups = songs_of(60)
    before = assign_splits(songs, groups, SHARES, seed=0)
    one, other = before.index[before == "train"][:2]
    grown = pd.concat([songs, songs.head(1).assign(song_id="duet")])
    joined = pd.concat([groups, pd.Series({"duet": "both"})]).replace({groups[one]: "both", groups[other]: "both"})
    after = assign_splits(grown, joined, SHARES, seed=0, previous=before)
    assert after[before.index].equals(before)
    assert after["duet"] == "train"


def test_a_new_song_that_joins_two_splits_is_an_error_that_names_songs_of_both() -> None:
    songs, groups = songs_of(60)
    before = assign_splits(songs, groups, SHARES, seed=0)
    one, other = before.index[before == "train"][0], before.index[before == "test"][0]
    grown = pd.concat([songs, songs.head(1).assign(song_id="duet")])
    joined = pd.concat([groups, pd.Series({"duet": "both"})]).replace({groups[one]: "both", groups[other]: "both"})
    first, second = sorted([one, other])
    with pytest.raises(RecipeError) as error:
        assign_splits(grown, joined, SHARES, seed=0, previous=before)
    assert f"song '{first}' is to be in '{before[first]}' (previous) and song '{second}' in" in str(error.value)
    assert "share an artist (group both)" in str(error.value)
    # Without one side's earlier place, the group is where the other was.
    after = assign_splits(grown, joined, SHARES, seed=0, previous=before.drop(one))
    assert after[[one, other, "duet"]].tolist() == ["test"] * 3


def test_pins_that_contradict_each_other_are_named_with_their_sources() -> None:
    songs, groups = songs_of(20)
    groups["s1"] = groups["s0"]
    songs.loc[0, "split"] = "test"
    with pytest.raises(
        RecipeError, match=r"'s0' is to be in 'test' \(column 'split'\) and song 's1' in 'train' \(fixed\)"
    ):
        assign_splits(songs, groups, SHARES, seed=0, fixed={"s1": "train"})
    with pytest.raises(
        RecipeError, match=r"'s1' is to be in 'train' \(previous\) and song 's1' in 'validation' \(fixed\)"
    ):
        assign_splits(songs, groups, SHARES, seed=0, keep=(), previous={"s1": "train"}, fixed={"s1": "validation"})
    with pytest.raises(RecipeError, match=r"and song 's3' in 'train' \(fixed\)"):
        assign_splits(songs, groups, SHARES, seed=0, fixed={"s3": "test", "S3": "train"})


def test_earlier_places_of_songs_that_are_gone_or_unplaced_do_not_matter() -> None:
    songs, groups = songs_of(40)
    previous = pd.Series({"gone": "train", "s1": None, "s2": float("nan"), "s3": "test"})
    splits = assign_splits(songs, groups, SHARES, seed=0, previous=previous)
    assert splits.equals(assign_splits(songs, groups, SHARES, seed=0, previous={"s3": "test"}))


def test_names_of_no_song_can_be_dropped(caplog: pytest.LogCaptureFixture) -> None:
    songs, groups = songs_of(40)
    fixed = {"s1": "test"} | dict.fromkeys(MUSDB18_VALIDATION, "validation")
    splits = assign_splits(songs, groups, SHARES, seed=0, fixed=fixed, missing="drop")
    assert splits["s1"] == "test"
    assert "14 of 15 fixed names are those of no song" in caplog.text


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "give either shares or hours, and not both"),
        ({"shares": SHARES, "hours": {"test": 1.0}}, "give either shares or hours, and not both"),
        ({"shares": {}}, "splits: is empty"),
        ({"shares": {"train": 0.9, "test": 0.2}}, r"\(train 0.9, test 0.2\) sum to 1.1; make them sum to 1"),
        ({"shares": {"train": 97, "test": 3}}, "share of 'train' is 97; expected a number from 0 to 1"),
        ({"shares": {"train": 1.2, "test": -0.2}}, "share of 'train' is 1.2"),
        ({"shares": {"train": math.nan, "test": 1.0}}, "share of 'train' is nan"),
        ({"hours": {}}, "'train' gets what remains"),
        ({"hours": {"train": 1.0}}, "'train' gets what remains"),
        ({"hours": {"test": 0.0}}, "hours of 'test' are 0.0; expected a number above 0"),
        ({"hours": {"test": math.inf}}, "hours of 'test' are inf"),
        ({"hours": {"test": "1"}}, "hours of 'test' are '1'"),
        ({"hours": {"test": 1.0, "validation": 9.0}}, r"\(test 1, validation 9\) leave nothing of 2 to 'train'"),
        (
            {"shares": SHARES, "fixed": {"s1": "valid"}},
            r"fixed: 's1' is in split 'valid', .*did you mean 'validation'",
        ),
        (
            {"shares": SHARES, "previous": {"s1": "dev"}},
            "previous: song 's1' is in split 'dev', which nobody asked for",
        ),
        ({"shares": SHARES, "fixed": {"s99": "test"}}, r"1 of 1 names are those of no song: 's99'.*missing='drop'"),
        ({"shares": SHARES, "fixed": {"song seven": "test"}}, "names 2 songs of several artists"),
    ],
)
def test_a_bad_request_is_refused(plan: dict[str, Any], message: str) -> None:
    songs, groups = songs_of(30, title=["Song Seven", "song seven", *map(str, range(28))])
    with pytest.raises(RecipeError, match=message):
        assign_splits(songs, groups, **{"seed": 0} | plan)


def test_a_fixed_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    songs, groups = songs_of(30, title=[f"Evening number {i}" for i in range(30)], artist="Ann")
    with pytest.raises(RecipeError, match=r"did you mean 'Evening number 17'\?"):
        assign_splits(songs, groups, SHARES, seed=0, fixed={"Evenning number 17": "test"})


@pytest.mark.parametrize(
    "plan", [{"shares": SHARES}, {"hours": {"test": 0.5}}, {"shares": SHARES, "stratify": False}]
)
def test_one_artist_cannot_be_split(plan: dict[str, Any]) -> None:
    songs, groups = songs_of(30)
    groups[:] = "the only one"
    with pytest.raises(RecipeError, match=r"would get none of the 1 artist groups.*add songs of other artists"):
        assign_splits(songs, groups, seed=0, **plan)
    assert set(assign_splits(songs, groups, {"train": 1.0, "test": 0.0}, seed=0)) == {"train"}


def test_a_split_without_a_free_group_is_an_error() -> None:
    songs, groups = songs_of(5)
    with pytest.raises(RecipeError, match="validation would get none of the 5 artist groups, of which 0 are free"):
        assign_splits(songs, groups, SHARES, seed=0, previous=dict.fromkeys(groups.index, "train") | {"s0": "test"})
    with pytest.raises(RecipeError, match="or stratify"):
        assign_splits(songs, groups, {"train": 0.999, "test": 0.001}, seed=0, stratify=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda songs, groups: (songs.drop(columns="seconds"), groups), "column 'seconds' is missing"),
        (lambda songs, groups: (songs.drop(columns="genre"), groups), "column 'genre' is missing"),
        (lambda songs, groups: (songs.assign(song_id="a"), groups), "song_id 'a' is there twice"),
        (lambda songs, groups: (songs.assign(seconds=-1.0), groups), "song 's0' has seconds -1.0"),
        (lambda songs, groups: (songs, groups.drop("s1")), r"groups: 1 songs have none \(first: 's1'\)"),
        (lambda songs, groups: (songs, pd.concat([groups, groups])), "groups: a song is there twice"),
    ],
)
def test_bad_tables_are_refused(change: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        assign_splits(*change(*songs_of(5)), SHARES, seed=0)


def test_a_song_placed_twice_before_is_refused() -> None:
    songs, groups = songs_of(5)
    with pytest.raises(TableError, match="previous: a song is there twice"):
        assign_splits(songs, groups, SHARES, seed=0, previous=pd.Series(["train", "test"], index=["s0", "s0"]))


@pytest.mark.parametrize("options", [{"keep": "test"}, {"missing": "ignore"}])
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected several splits, and 'error' or 'drop'"):
        assign_splits(*songs_of(5), SHARES, seed=0, **options)


def test_genres_and_split_are_not_needed_when_they_do_not_matter() -> None:
    songs, groups = songs_of(100)
    bare = songs[["song_id", "seconds"]]
    assert set(assign_splits(bare, groups, SHARES, seed=0, stratify=False)) == set(SHARES)
