"""Clips against cutting by hand, measures of clips against the audio itself, test sets against counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.activity import LevelCurve, level_curve
from curation.clips import balanced_test_set, clip_rms, cut_clips, voiced_fraction
from manifests.errors import RecipeError, TableError
from manifests.tables import frame_of
from tests.synthesis import Audio, pink_noise

RATE = 8000


def songs_of(*num_frames: int, rate: int = RATE, **columns: Any) -> pd.DataFrame:
    """Songs 's0', 's1', ... of these lengths."""
    ids = [f"s{i}" for i in range(len(num_frames))]
    frame = {"song_id": ids, "num_frames": num_frames, "sample_rate": rate, "split": "train", "genre": "rock"}
    return pd.DataFrame(frame | {"artist": "Ann"} | columns)


def clips_of(*clips: tuple[str, int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(clips, columns=["song_id", "start_frame", "num_frames"])
    return frame.assign(clip_id=[f"c{i}" for i in range(len(clips))])


def in_genres(**songs_by_genre: list[int]) -> pd.DataFrame:
    """Clips: for each genre, how many each of its songs has; the genre `null` is none."""
    rows = [
        (f"{genre}-{song}-{clip}", f"{genre}-{song}", None if genre == "null" else genre)
        for genre, counts in songs_by_genre.items()
        for song, count in enumerate(counts)
        for clip in range(count)
    ]
    return pd.DataFrame(rows, columns=["clip_id", "song_id", "genre"])


songs = st.lists(st.tuples(st.integers(1, 500), st.sampled_from([10, 44, 100])), min_size=0, max_size=6).map(
    lambda rows: songs_of(*(frames for frames, _ in rows)).assign(sample_rate=[rate for _, rate in rows])
)


class TestCutting:
    def test_follows_from_margin_to_margin(self) -> None:
        clips = cut_clips(songs_of(10 * RATE, 4 * RATE, 5 * RATE - 1, 5 * RATE), length_s=3, margin_s=1)
        assert clips[["song_id", "start_frame"]].values.tolist() == [["s0", RATE], ["s0", 4 * RATE], ["s3", RATE]]
        assert (clips["num_frames"] == 3 * RATE).all()
        assert clips["clip_id"].tolist() == ["s0-8000-24000", "s0-32000-24000", "s3-8000-24000"]

    def test_stays_within_parts(self) -> None:
        songs = songs_of(10 * RATE, 10 * RATE, 10 * RATE)
        parts = {"s0": [(0, 3 * RATE), (5 * RATE, 9 * RATE + 5)], "s2": [(100, 100 + 2 * RATE - 1)]}
        clips = cut_clips(songs, length_s=2, spans=parts)
        assert clips[["song_id", "start_frame"]].values.tolist() == [["s0", 0], ["s0", 5 * RATE], ["s0", 7 * RATE]]
        clips = cut_clips(songs, length_s=2, hop_s=1, margin_s=1, spans=parts)
        assert clips[["song_id", "start_frame"]].values.tolist() == [
            *(["s0", second * RATE] for second in (1, 5, 6, 7)),
        ]
        assert cut_clips(songs, length_s=2, spans={}).empty
        with pytest.raises(RecipeError, match="one clip per song is cut from whole songs"):
            cut_clips(songs, length_s=2, per_song="one", spans=parts)

    @given(songs, st.integers(1, 60), st.integers(1, 60))
    def test_a_part_that_is_the_whole_song_changes_nothing(
        self, songs: pd.DataFrame, length: int, hop: int
    ) -> None:
        whole = {name: [(0, frames)] for name, frames in zip(songs["song_id"], songs["num_frames"], strict=True)}
        lengths = {"length_s": length / 10, "hop_s": hop / 10, "margin_s": 0.3}
        pd.testing.assert_frame_equal(cut_clips(songs, **lengths, spans=whole), cut_clips(songs, **lengths))

    def test_of_the_papers_clips_is_whole_frames(self) -> None:
        clips = cut_clips(songs_of(240 * 44_100, rate=44_100), length_s=11.88, margin_s=20.0)
        assert (clips["num_frames"] == 523_908).all()
        assert len(clips) == 200 // 11.88
        assert clips["start_frame"].min() == 20 * 44_100

    @given(songs, st.integers(5, 300), st.none() | st.integers(5, 200), st.integers(0, 100))
    def test_is_that_by_hand(self, songs: pd.DataFrame, length: int, hop: int | None, margin: int) -> None:
        # In units of 0.02 s: some settings are no whole frames.
        settings_s = {"length_s": length * 0.02, "margin_s": margin * 0.02}
        if hop is not None:
            settings_s["hop_s"] = hop * 0.02
        expected = []
        for song in songs.itertuples():
            frames = {key: round(value * song.sample_rate) for key, value in settings_s.items()}
            start = frames["margin_s"]
            while start + frames["length_s"] <= song.num_frames - frames["margin_s"]:
                expected.append((song.song_id, start, frames["length_s"]))
                start += frames.get("hop_s", frames["length_s"])
        clips = cut_clips(songs, **settings_s)
        assert clips[["song_id", "start_frame", "num_frames"]].values.tolist() == [list(row) for row in expected]
        assert clips["clip_id"].is_unique

    @given(songs, st.integers(1, 200), st.integers(0, 100), st.integers(0, 3))
    def test_of_one_per_song_stays_between_the_margins(
        self, songs: pd.DataFrame, length: int, margin: int, seed: int
    ) -> None:
        options = {"length_s": length / 10, "margin_s": margin / 10}
        clips = cut_clips(songs, **options, per_song="one", seed=seed)
        assert set(clips["song_id"]) == set(cut_clips(songs, **options)["song_id"])
        assert clips["song_id"].is_unique
        lengths = dict(
            zip(songs["song_id"], zip(songs["num_frames"], songs["sample_rate"], strict=True), strict=True)
        )
        for clip in clips.itertuples():
            frames, rate = lengths[clip.song_id]
            edge = round(options["margin_s"] * rate)
            assert edge <= clip.start_frame <= frames - edge - clip.num_frames

    def test_of_one_per_song_is_anywhere_with_equal_probability(self) -> None:
        many = songs_of(*[14] * 20_000, rate=1)
        clips = cut_clips(many, length_s=5, margin_s=2, per_song="one", seed=1)
        counts = Counter(clips["start_frame"])
        assert set(counts) == set(range(2, 8))
        assert list(counts.values()) == pytest.approx([20_000 / 6] * 6, rel=0.06)
        assert not clips["start_frame"].equals(
            cut_clips(many, length_s=5, margin_s=2, per_song="one", seed=2)["start_frame"]
        )

    @given(songs, st.sampled_from(["all", "one"]), st.integers(0, 99))
    def test_depends_on_no_other_song_and_no_order(self, songs: pd.DataFrame, per_song: Any, chance: int) -> None:
        options = {"length_s": 1.0, "margin_s": 0.5, "per_song": per_song, "seed": 4}
        clips = cut_clips(songs, **options)
        some = songs.sample(frac=0.7, random_state=chance)
        found = cut_clips(some, **options).sort_values(["song_id", "start_frame"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(clips[clips["song_id"].isin(some["song_id"])].reset_index(drop=True), found)

    def test_makes_rows_of_the_clips_table(self) -> None:
        clips = cut_clips(songs_of(RATE, 2 * RATE, genre=["rock", None], artist=[None, "Ann"]), length_s=1)
        table = frame_of("clips", clips.to_dict("records"))
        assert table["genre"].isna().tolist() == [False, True, True]
        assert table[list(clips)].equals(clips)
        assert len(cut_clips(songs_of(), length_s=1)) == 0
        assert list(cut_clips(songs_of(), length_s=1)) == list(clips)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"length_s": 0}, "length_s is 0, less than one frame at 8000 Hz"),
            ({"length_s": -1}, "length_s is -1, expected a number of seconds"),
            ({"length_s": float("nan")}, "length_s is nan"),
            ({"length_s": float("inf")}, "length_s is inf"),
            ({"hop_s": 0.0}, "hop_s is 0.0, less than one frame"),
            ({"margin_s": -0.1}, "margin_s is -0.1"),
            ({"per_song": "some"}, "per_song is 'some'; choose one of all, one"),
            ({"per_song": "one", "hop_s": 1.0}, "hop_s is 1.0, but one clip per song has no hop"),
            ({"seed": -1}, "seed is -1"),
        ],
    )
    def test_refuses_settings_out_of_range(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            cut_clips(songs_of(RATE), **{"length_s": 1.0} | options)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda songs: songs.drop(columns="split"), "no column 'split'"),
            (lambda songs: songs.assign(song_id="a"), "song_id 'a' is there twice"),
            (lambda songs: songs.assign(song_id=["a", None]), "column 'song_id' has nulls"),
            (lambda songs: songs.assign(num_frames=[5, 0]), "column 'num_frames' is 0 for song_id 's1'"),
            (lambda songs: songs.assign(num_frames=[5, 1.5]), r"column 'num_frames' is 1\.5 for song_id 's1'"),
            (lambda songs: songs.assign(sample_rate=None), "column 'sample_rate' is None for song_id 's0'"),
        ],
    )
    def test_refuses_bad_songs(self, change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
        with pytest.raises(TableError, match=message):
            cut_clips(change(songs_of(RATE, RATE)), length_s=1)


def parts(audio: Audio, clips: pd.DataFrame) -> list[Audio]:
    return [audio[:, clip.start_frame : clip.start_frame + clip.num_frames] for clip in clips.itertuples()]


class TestMeasuresOfClips:
    def test_rms_is_exact_on_the_steps_of_the_curve(self) -> None:
        audio = pink_noise(np.random.default_rng(0), 2, 4000)
        clips = clips_of(("a", 0, 1000), ("a", 500, 1500), ("a", 3500, 500), ("a", 0, 4000), ("b", 0, 100))
        clips.index = pd.Index([5, 6, 7, 8, 9])
        found = clip_rms(clips, {"a": level_curve([audio], RATE, step_s=500 / RATE)})
        expected = [
            np.sqrt(np.square(part, dtype=np.float64).sum() / part.shape[1]) for part in parts(audio, clips)
        ]
        assert found[:9].tolist()[:4] == pytest.approx(expected[:4], rel=1e-6)
        assert found.isna().tolist() == [False] * 4 + [True]
        assert list(found.index) == [5, 6, 7, 8, 9]

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 999), st.integers(1, 999)), min_size=1, max_size=5), st.integers(1, 400)
    )
    def test_rms_of_a_constant_is_its_value_everywhere(self, cuts: list[tuple[int, int]], step: int) -> None:
        clips = clips_of(*(("a", start, min(length, 1000 - start)) for start, length in cuts))
        curve = level_curve([np.full((2, 1000), 0.5)], 1000, step_s=step / 1000)
        assert clip_rms(clips, {"a": curve}).tolist() == pytest.approx([np.sqrt(0.5)] * len(cuts))

    def test_rms_between_steps_is_near(self) -> None:
        audio = pink_noise(np.random.default_rng(1), 2, 30 * RATE)
        clips = clips_of(("a", 12_345, 12 * RATE), ("a", 999, 12 * RATE))
        found = clip_rms(clips, {"a": level_curve([audio], RATE, step_s=0.05)})
        expected = [np.sqrt(np.square(part).sum() / part.shape[1]) for part in parts(audio, clips)]
        assert found.tolist() == pytest.approx(expected, rel=0.005)

    def test_silence_is_nothing_even_after_loud_music(self) -> None:
        curve = LevelCurve(np.array([1e6, 1e-3, 0.0, 0.0]), 10, 40, RATE, 2)
        assert clip_rms(clips_of(("a", 20, 20)), {"a": curve}).tolist() == [0.0]

    def test_voiced_is_the_share_of_active_frames(self) -> None:
        audio = np.repeat([0.1, 0.0, 0.1, 0.1, 1e-4], 100)[None]
        curves = {"a": level_curve([audio], 100), "b": level_curve([audio[:, :100]], 100)}
        clips = clips_of(
            ("a", 0, 200), ("a", 100, 100), ("a", 150, 200), ("b", 0, 50), ("c", 0, 50), ("a", 300, 200)
        )
        assert voiced_fraction(clips, curves).tolist()[:4] == pytest.approx([0.5, 0.0, 0.75, 1.0])
        assert np.isnan(voiced_fraction(clips, curves)[4])
        assert voiced_fraction(clips, curves)[5] == pytest.approx(0.5)
        assert voiced_fraction(clips, curves, threshold_db=-90)[5] == pytest.approx(1.0)
        assert voiced_fraction(clips, curves, threshold_db=-90, range_db=30)[5] == pytest.approx(0.5)

    def test_of_no_clips_and_no_curves_are_none(self) -> None:
        assert len(clip_rms(clips_of(), {})) == 0
        assert clip_rms(clips_of(("a", 0, 5)), {}).isna().all()

    @pytest.mark.parametrize("function", [clip_rms, voiced_fraction])
    def test_refuse_clips_beyond_the_curve_and_bad_tables(self, function: Any) -> None:
        curves = {"a": level_curve([np.ones((1, 100))], RATE, step_s=10 / RATE)}
        with pytest.raises(TableError, match="'c0' ends at frame 101, and the level curve of 'a' at 100"):
            function(clips_of(("a", 1, 100)), curves)
        with pytest.raises(TableError, match="column 'num_frames' is 0 for clip_id 'c0'"):
            function(clips_of(("a", 1, 0)), curves)
        with pytest.raises(TableError, match="column 'start_frame' is -1 for clip_id 'c0'"):
            function(clips_of(("a", -1, 5)), curves)
        with pytest.raises(TableError, match="no column 'song_id'"):
            function(clips_of(("a", 1, 5)).drop(columns="song_id"), curves)


class TestBalancedTestSet:
    def test_has_the_papers_numbers(self) -> None:
        genres = {f"genre {i}": [6] * (50 + i) for i in range(12)}
        chosen = balanced_test_set(in_genres(**genres, other=[9] * 400, null=[9] * 400))
        assert len(chosen) == 1900
        assert chosen["genre"].value_counts().to_dict() == {f"genre {i}": 190 for i in range(2, 12)}
        per_song = chosen["song_id"].value_counts()
        assert set(per_song) == {3, 4}
        assert len(per_song) == sum(50 + i for i in range(2, 12))

    @given(
        st.dictionaries(
            st.sampled_from(["folk", "jazz", "pop", "rock", "other"]),
            st.lists(st.integers(1, 8), min_size=1, max_size=5),
            min_size=2,
        ),
        st.integers(1, 4),
        st.integers(1, 20),
        st.integers(0, 3),
        st.integers(0, 99),
    )
    def test_is_even_over_genres_and_songs_in_any_order(
        self, counts: dict[str, list[int]], genres: int, count: int, seed: int, chance: int
    ) -> None:
        clips = in_genres(**counts)
        ranked = sorted((genre for genre in counts if genre != "other"), key=lambda g: (-len(counts[g]), g))[
            :genres
        ]
        wanted = {g: count // genres + (rank < count % genres) for rank, g in enumerate(ranked)}
        if count < genres or len(ranked) < genres or any(sum(counts[g]) < n for g, n in wanted.items()):
            with pytest.raises(RecipeError, match="test set"):
                balanced_test_set(clips, count=count, groups=genres, seed=seed)
            return
        chosen = balanced_test_set(clips, count=count, groups=genres, seed=seed)
        assert chosen["genre"].value_counts().to_dict() == wanted
        assert chosen["clip_id"].is_unique
        taken = chosen["song_id"].value_counts()
        for genre in ranked:
            songs = {f"{genre}-{i}": number for i, number in enumerate(counts[genre])}
            most = max(taken.get(song, 0) for song in songs)
            assert all(taken.get(song, 0) >= min(most - 1, number) for song, number in songs.items())
        shuffled = clips.sample(frac=1, random_state=chance)
        again = balanced_test_set(shuffled, count=count, groups=genres, seed=seed)
        assert set(again["clip_id"]) == set(chosen["clip_id"])
        assert chosen.equals(clips.loc[chosen.index])

    def test_depends_on_the_seed(self) -> None:
        clips = in_genres(rock=[10] * 10, jazz=[10] * 10)
        one, other = (set(balanced_test_set(clips, count=20, groups=2, seed=s)["clip_id"]) for s in (0, 1))
        assert one != other

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"groups": 0}, "count is 4, of 0 genres; expected at least one of each"),
            ({"count": 1}, "count is 1, of 2 genres"),
            ({"seed": -1}, "seed is -1"),
            ({"groups": 3, "count": 9}, r"genres are 3, but the clips have 2 \(rock, jazz\); take fewer"),
            ({"count": 10}, "genre 'jazz' has 3 clips, 5 are wanted; lower count to 6"),
        ],
    )
    def test_refuses_what_the_clips_cannot_give(self, options: dict[str, int], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            balanced_test_set(in_genres(rock=[5, 5], jazz=[3], other=[9]), **{"count": 4, "groups": 2} | options)

    def test_of_other_columns_all_groups_are_taken(self) -> None:
        films = in_genres(heist=[3, 5], western=[6], comedy=[2, 2]).rename(columns={"genre": "film"})
        chosen = balanced_test_set(films, count=10, by="film", groups=None)
        assert chosen["film"].value_counts().to_dict() == {"comedy": 4, "heist": 3, "western": 3}
        assert chosen["song_id"].value_counts().loc[["comedy-0", "comedy-1"]].tolist() == [2, 2]

    def test_refuses_clips_that_are_there_twice(self) -> None:
        clips = in_genres(rock=[2])
        with pytest.raises(TableError, match="clip_id 'rock-0-0' is there twice"):
            balanced_test_set(pd.concat([clips, clips]), count=1, groups=1)
