"""What a recipe's sources can be drawn from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from augment.draw import draw
from augment.pool import Pool, make_pool
from augment.recipe import MixRecipe
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.tables import frame_of, write_table
from tests.augment.small_pool import RATE, loose_corpus, one_source, recipe, song_corpus, with_clips
from tests.manifests.exports.small_corpus import write_tables


def table(folder: Path, rows: list[dict[str, Any]]) -> Corpus:
    """A corpus of rows without files: enough to draw from."""
    every = [
        {
            "stem": "effects",
            "root": ".",
            "path": f"{row['song_id']}.flac",
            "num_frames": 4000,
            "sample_rate": RATE,
            "channels": 1,
            "provenance": "recorded",
            "audit": "unheard",
            **row,
        }
        for row in rows
    ]
    return write_tables(folder, every)


def shares(mix: MixRecipe, pool: Pool, column: str = "song_id", draws: int = 2000) -> dict[str, float]:
    found = [getattr(draw(mix, pool, 0, 0, index).events[0], column) for index in range(draws)]
    return {value: found.count(value) / draws for value in sorted(set(found))}


def close_to(expected: dict[str, float]) -> Any:
    total = sum(expected.values())
    return pytest.approx({key: value / total for key, value in expected.items()}, abs=0.04)


def test_songs_are_as_likely_as_each_other_or_by_clip_or_by_second(tmp_path: Path) -> None:
    corpus = table(tmp_path, [{"song_id": "a", "num_frames": 8000}, {"song_id": "b", "num_frames": 24_000}])
    corpus = with_clips(corpus, [("a", 0, 8000), *(("b", start, 4000) for start in range(0, 20_000, 4000))])
    for per, expected in (("song", {"a": 1, "b": 1}), ("clip", {"a": 1, "b": 5}), ("second", {"a": 8, "b": 20})):
        mix = one_source(per=per)
        assert shares(mix, make_pool(mix, corpus)) == close_to(expected)


def test_weights_by_grade_genre_and_the_corpus_itself_multiply(tmp_path: Path) -> None:
    songs = [
        {"song_id": "a", "grade": "A", "genre": "rock", "weight": 2.0},
        {"song_id": "b", "grade": "B", "genre": "rock"},
        {"song_id": "c", "grade": "A", "genre": "folk", "language": "de"},
        {"song_id": "d"},
    ]
    mix = one_source(weights={"grade": {"A": 1, "B": 0.5}, "genre": {"folk": 3}, "language": {"de": 0.5}})
    assert shares(mix, make_pool(mix, table(tmp_path, songs))) == close_to({"a": 2, "b": 0.5, "c": 1.5, "d": 1})


@pytest.mark.parametrize(
    ("settings", "songs"),
    [
        ({"splits": "train"}, {"a", "b"}),
        ({"genres": ["folk", "jazz"]}, {"b", "c"}),
        ({"grades": "A"}, {"a", "c"}),
        ({"languages": "de"}, {"c"}),
        ({"min_length_s": 1.0}, {"d"}),
    ],
)
def test_filters_leave_songs_out_and_count_them(tmp_path: Path, settings: dict[str, Any], songs: set[str]) -> None:
    corpus = table(
        tmp_path,
        [
            {"song_id": "a", "split": "train", "genre": "rock", "grade": "A"},
            {"song_id": "b", "split": "train", "genre": "folk", "grade": "B"},
            {"song_id": "c", "split": "test", "genre": "jazz", "grade": "A", "language": "de"},
            {"song_id": "d", "split": "test", "genre": None, "grade": None, "num_frames": 9000},
        ],
    )
    mix = one_source(**settings)
    pool = make_pool(mix, corpus)
    assert set(shares(mix, pool, draws=200)) == songs
    assert sum(pool.left_out["effects"].values()) == 4 - len(songs)


def test_crops_lie_within_clips_where_there_are_some(tmp_path: Path) -> None:
    corpus = with_clips(song_corpus(tmp_path), [("song0", 500, 2400), ("song2", 1000, 2200)])
    mix = recipe(sources={"drums": {"stems": "drums"}})
    pool = make_pool(mix, corpus)
    assert pool.left_out["drums"] == {"song without clips": 1}
    events = [draw(mix, pool, 0, 0, index).events[0] for index in range(300)]
    starts = {song: [e.source_start_frame for e in events if e.song_id == song] for song in ("song0", "song2")}
    assert scipy.stats.kstest(starts["song0"], scipy.stats.randint(500, 901).cdf).pvalue > 1e-4
    assert (min(starts["song2"]) >= 1000, max(starts["song2"]) <= 1200) == (True, True)
    mix = recipe(sources={"drums": {"stems": "drums", "within": "stems"}})
    assert len(make_pool(mix, corpus).choices["drums"].table) == 3


def test_several_corpora_are_named_in_the_events(tmp_path: Path) -> None:
    corpora = {
        "voices": loose_corpus(tmp_path / "v", {"speech": 2}),
        "sounds": loose_corpus(tmp_path / "s", {"effects": 2, "music": 2}, channels=1),
    }
    mix = recipe(min_sources=4)
    pool = make_pool(mix, corpora)
    assert pool.roots == {"voices": tmp_path / "v", "sounds": tmp_path / "s"}
    plan = draw(mix, pool, 0, 0, 0)
    assert {event.root for event in plan.events if event.target != "dialogue"} == {"sounds"}
    for event in plan.events:
        assert (pool.roots[event.root] / event.path).is_file()


def test_a_pool_pickles_and_draws_the_same(tmp_path: Path) -> None:
    mix = recipe()
    pool = make_pool(mix, loose_corpus(tmp_path, {"speech": 2, "music": 2, "effects": 2}))
    again = pickle.loads(pickle.dumps(pool))
    assert [draw(mix, again, 0, 0, i) for i in range(5)] == [draw(mix, pool, 0, 0, i) for i in range(5)]


def test_many_clips_are_drawn_by_their_weights(tmp_path: Path) -> None:
    corpus = table(
        tmp_path, [{"song_id": f"s{n}", "num_frames": 4_000_000, "grade": "AB"[n % 2]} for n in range(1000)]
    )
    rows = [
        {"clip_id": f"{song}-{start}", "song_id": f"s{song}", "start_frame": start, "num_frames": 4000}
        for song in range(1000)
        for start in range(0, 100_000, 4000)
    ]
    write_table(tmp_path, "clips", frame_of("clips", rows))
    corpus = Corpus.open(tmp_path)
    mix = one_source(weights={"grade": {"A": 3}})
    pool = make_pool(mix, corpus)
    assert len(pool.choices["effects"].table) == 25_000
    events = [draw(mix, pool, 0, 0, index).events[0] for index in range(3000)]
    assert np.mean([int(event.song_id[1:]) % 2 == 0 for event in events]) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stems": "efects"}, r"have none of its stems efects \(did you mean 'effects'\?\); they have effects"),
        ({"splits": "validation"}, r"passes its filters \(splits validation, and there are train\); change them"),
        ({"min_length_s": 60}, "shorter than min_length_s 60 s"),
        ({"within": "clips"}, "'within' is 'clips', and no corpus has a clips table"),
    ],
)
def test_an_empty_class_is_told_with_what_there_is(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    corpus = loose_corpus(tmp_path, {"effects": 2}, split="train")
    with pytest.raises(RecipeError, match=message):
        make_pool(one_source(**settings), corpus)


def test_splits_and_weights_that_leave_nothing_are_told(tmp_path: Path) -> None:
    corpus = loose_corpus(tmp_path, {"effects": 2}, grade="B")
    with pytest.raises(RecipeError, match=r"splits train, and the corpora say none"):
        make_pool(one_source(splits="train"), corpus)
    with pytest.raises(RecipeError, match=r"source 'effects': field 'weights' makes all of its 2 places weigh 0"):
        make_pool(one_source(weights={"grade": {"B": 0}}), corpus)


def test_a_split_whose_songs_have_no_clips_is_told(tmp_path: Path) -> None:
    corpus = with_clips(loose_corpus(tmp_path, {"effects": 2}, split="test"), [("other", 0, 10)])
    with pytest.raises(RecipeError, match=r"none of its 2 stems of split test has a clip.*within: stems"):
        make_pool(one_source(splits="test"), corpus)


def test_more_songs_than_there_are_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_pool(one_source(count=[1, 3]), loose_corpus(tmp_path, {"effects": 2}))
    assert "up to 3 in a mixture, and 2 songs" in caplog.text


def test_more_channels_than_stereo_are_left_out_and_counted(tmp_path: Path) -> None:
    wide = loose_corpus(tmp_path, {"effects": 1}, channels=6)
    with pytest.raises(RecipeError, match="all of its stems have more than 2 channels; downmix them first"):
        make_pool(one_source(), wide)
    assert len(make_pool(one_source(channels=1), wide).choices["effects"].table) == 1
    both = {"wide": wide, "narrow": loose_corpus(tmp_path / "n", {"effects": 1})}
    assert make_pool(one_source(), both).left_out == {"effects": {"more than 2 channels": 1}}


def test_sources_that_no_song_has_together_are_refused(tmp_path: Path) -> None:
    corpus = loose_corpus(tmp_path, {"speech": 1, "music": 1})
    mix = recipe(sources={"a": {"stems": "speech"}, "b": {"stems": "music"}}, together=True)
    with pytest.raises(RecipeError, match="no song has all of a, b"):
        make_pool(mix, corpus)


def test_a_root_without_a_folder_is_refused(tmp_path: Path) -> None:
    corpus = table(tmp_path, [{"song_id": "a", "root": "elsewhere"}])
    with pytest.raises(RecipeError, match=r"root 'elsewhere' of path 'a\.flac' has no folder"):
        make_pool(one_source(), corpus)
    with_root = Corpus.open(tmp_path, {"elsewhere": tmp_path / "x"})
    assert draw(one_source(), make_pool(one_source(), with_root), 0, 0, 0).events[0].root == "elsewhere"


def labelled(folder: Path, labels: dict[str, list[str | None]]) -> Corpus:
    """A corpus of songs with a clip of 500 frames for each of these labels."""
    corpus = table(folder, [{"song_id": song, "num_frames": 4000} for song in labels])
    rows = [
        {"clip_id": f"{song}-{n}", "song_id": song, "start_frame": 500 * n, "num_frames": 500, "label": label}
        for song, found in labels.items()
        for n, label in enumerate(found)
    ]
    write_table(folder, "clips", frame_of("clips", rows))
    return Corpus.open(corpus.folder)


def test_only_clips_of_a_label_are_used_and_the_others_counted(tmp_path: Path) -> None:
    corpus = labelled(tmp_path, {"a": ["Dog", "Car"], "b": ["Car", None], "c": ["Rain"]})
    mix = one_source(labels=["Dog", "Rain"], length_s=0.01)
    pool = make_pool(mix, corpus)
    assert pool.left_out["effects"] == {"label is none of Dog, Rain": 3}
    plans = [draw(mix, pool, 0, 0, index).events[0] for index in range(100)]
    assert {(event.song_id, event.source_start_frame // 500) for event in plans} == {("a", 0), ("c", 0)}


def test_labels_are_as_likely_as_each_other_or_by_weight(tmp_path: Path) -> None:
    corpus = labelled(tmp_path, {"a": ["Dog"], "b": ["Car"], "c": ["Car"], "d": [None]})
    mix = one_source(per="label")
    assert shares(mix, make_pool(mix, corpus)) == close_to({"a": 2, "b": 1, "c": 1, "d": 2})
    mix = one_source(weights={"label": {"Dog": 3, "Car": 0.5}})
    assert shares(mix, make_pool(mix, corpus)) == close_to({"a": 3, "b": 0.5, "c": 0.5, "d": 1})


def test_a_label_that_no_clip_has_is_told_with_the_nearest(tmp_path: Path) -> None:
    corpus = labelled(tmp_path, {"a": ["Dog"], "b": ["Car"]})
    with pytest.raises(RecipeError, match=r"a label of Dgo \(did you mean 'Dog'\?\); there are Car, Dog"):
        make_pool(one_source(labels="Dgo"), corpus)
    plain = loose_corpus(tmp_path / "plain", {"effects": 2})
    with pytest.raises(RecipeError, match="no clip has a label of Dog; there are none"):
        make_pool(one_source(labels="Dog"), plain)


def test_more_sources_than_labels_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = labelled(tmp_path, {song: ["Dog"] for song in "abc"})
    make_pool(one_source(count=2, distinct_labels=True), corpus)
    assert "up to 2 sources in a mixture, and 1 labels" in caplog.text
    with pytest.raises(RecipeError, match="'distinct_labels' is true, and no clip has a label"):
        make_pool(one_source(distinct_labels=True), loose_corpus(tmp_path / "plain", {"effects": 2}))
