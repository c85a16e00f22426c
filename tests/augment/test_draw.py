"""Drawing plans: what they depend on, and that they follow the recipe."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from augment.draw import draw
from augment.plan import MixturePlan, plans_of, plans_table
from augment.pool import Pool, make_pool
from augment.recipe import MixRecipe
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.tables import frame_of, write_table
from tests.augment.small_pool import RATE, loose_corpus, one_source, pool_of, recipe, song_corpus, spans

KINDS = {"speech": 4, "music": 5, "effects": 8}
FRAMES = 4000
LENGTH = 2000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return loose_corpus(tmp_path_factory.mktemp("loose"), KINDS, FRAMES)


def plans(mix: MixRecipe, pool: Pool, number: int = 1000, seed: int = 0) -> list[MixturePlan]:
    return [draw(mix, pool, seed, 0, index) for index in range(number)]


def test_a_plan_depends_on_seed_epoch_and_index_only(corpus: Corpus) -> None:
    mix = recipe()
    pool = pool_of(mix, corpus)
    forwards = [draw(mix, pool, 1, 2, index) for index in range(20)]
    backwards = [draw(mix, pool_of(mix, corpus), 1, 2, index) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    others = [draw(mix, pool, *key) for key in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 2, 3, 1))]
    assert len({repr(plan.events) for plan in others}) == 5


def test_plans_survive_their_table(corpus: Corpus) -> None:
    mix = recipe(transforms=["swap", {"scale": {}}], min_sources=0)
    drawn = plans(mix, pool_of(mix, corpus), 60)
    assert any(not plan.events for plan in drawn)
    assert plans_of(plans_table(drawn)) == drawn


def test_plans_survive_a_table_that_pandas_reads(corpus: Corpus, tmp_path: Path) -> None:
    drawn = plans(recipe(), pool_of(recipe(), corpus), 20)
    write_table(tmp_path, "mixtures", plans_table(drawn))
    frame = pd.read_parquet(tmp_path / "mixtures.parquet")
    assert frame["num_frames"].dtype == float  # some targets are silent
    assert repr(plans_of(frame)) == repr(drawn)


def test_the_last_songs_are_found_too(corpus: Corpus) -> None:
    mix = one_source(count=8)
    pool = pool_of(mix, corpus)
    for index in range(30):
        assert len({event.song_id for event in draw(mix, pool, 0, 0, index).events}) == 8


def test_counts_follow_the_recipe(corpus: Corpus) -> None:
    mix = recipe(min_sources=0)
    drawn = plans(mix, pool_of(mix, corpus))
    for source, most in (("dialogue", 1), ("music", 2), ("effects", 3)):
        counts = [sum(event.source == source for event in plan.events) for plan in drawn]
        assert scipy.stats.chisquare(np.bincount(counts, minlength=most + 1)).pvalue > 1e-3


def test_with_a_least_number_of_sources_counts_are_those_of_the_other_mixtures(corpus: Corpus) -> None:
    """The conditional distribution: no mixture is empty, and 1 of 23 has one of dialogue alone, and so on."""
    mix = recipe()
    drawn = plans(mix, pool_of(mix, corpus), 2300)
    counts = collections.Counter(
        tuple(sum(event.source == source for event in plan.events) for source in mix.sources) for plan in drawn
    )
    assert (0, 0, 0) not in counts
    assert len(counts) == 23
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_gains_follow_the_recipe(corpus: Corpus) -> None:
    mix = one_source(gain_db=[-10, 10])
    gains = [plan.events[0].gain_db for plan in plans(mix, pool_of(mix, corpus))]
    assert scipy.stats.kstest(gains, scipy.stats.uniform(-10, 20).cdf).pvalue > 1e-3
    mix = one_source(gain=[0.25, 1.25])
    factors = [10 ** (plan.events[0].gain_db / 20) for plan in plans(mix, pool_of(mix, corpus))]
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0.25, 1).cdf).pvalue > 1e-3


def test_crops_are_anywhere_in_a_long_source_and_short_sources_anywhere_in_the_mixture(corpus: Corpus) -> None:
    mix = one_source()
    events = [plan.events[0] for plan in plans(mix, pool_of(mix, corpus))]
    assert {(event.offset_frame, event.length_frames, event.num_frames) for event in events} == {
        (0, LENGTH, LENGTH)
    }
    starts = [event.source_start_frame / (FRAMES - LENGTH) for event in events]
    assert scipy.stats.kstest(starts, "uniform").pvalue > 1e-3
    mix = one_source(length_s=2.0)
    events = [plan.events[0] for plan in plans(mix, pool_of(mix, corpus))]
    assert {(event.source_start_frame, event.length_frames) for event in events} == {(0, FRAMES)}
    offsets = [event.offset_frame / (16_000 - FRAMES) for event in events]
    assert scipy.stats.kstest(offsets, "uniform").pvalue > 1e-3


def test_silence_has_its_probability(corpus: Corpus) -> None:
    mix = one_source(silence=0.3, min_sources=0)
    silent = sum(not plan.events for plan in plans(mix, pool_of(mix, corpus)))
    assert scipy.stats.binomtest(silent, 1000, 0.3).pvalue > 1e-3


def test_sources_of_a_mixture_are_different_songs_as_far_as_there_are_so_many(corpus: Corpus) -> None:
    mix = one_source(count=3)
    for plan in plans(mix, pool_of(mix, corpus), 200):
        assert len({event.song_id for event in plan.events}) == 3
    mix = one_source(count=3, distinct=False)
    repeats = [len({event.song_id for event in plan.events}) < 3 for plan in plans(mix, pool_of(mix, corpus))]
    assert scipy.stats.binomtest(sum(repeats), 1000, 1 - (7 / 8) * (6 / 8)).pvalue > 1e-3
    mix = one_source(count=20)
    assert len(draw(mix, pool_of(mix, corpus), 0, 0, 0).events) == 20


def test_a_sequence_does_not_overlap_and_its_gaps_follow_the_recipe(corpus: Corpus) -> None:
    mix = one_source(length_s=60.0, count=5, place="sequence", gap_s={"skew_normal": [0, 2, 5]}, distinct=False)
    gaps = []
    for plan in plans(mix, pool_of(mix, corpus), 300):
        ends = [0, *(stop for _, stop in spans(plan))]
        found = [start - end for (start, _), end in zip(spans(plan), ends, strict=False)]
        assert min(found) >= 0
        gaps += found
    seconds = np.array(gaps) / RATE
    expected = scipy.stats.skewnorm(5, 0, 2)
    positive = seconds[seconds > 0.01]
    assert (
        scipy.stats.kstest(positive, lambda x: (expected.cdf(x) - expected.cdf(0)) / expected.sf(0)).pvalue > 1e-3
    )


def test_what_a_sequence_has_no_room_for_is_left_out_and_what_passes_the_end_is_cut(corpus: Corpus) -> None:
    mix = one_source(length_s=1.0, count=5, place="sequence", gap_s=0.1)
    plan = draw(mix, pool_of(mix, corpus), 0, 0, 0)
    assert spans(plan) == [(800, 4800), (5600, 8000)]


def test_scattered_sources_overlap_no_more_than_allowed(corpus: Corpus) -> None:
    mix = one_source(length_s=2.0, count=6, place="scatter", max_overlap=2)
    left_out = 0
    for plan in plans(mix, pool_of(mix, corpus), 200):
        sounding = np.zeros(16_000, int)
        for start, stop in spans(plan):
            sounding[start:stop] += 1
        assert sounding.max() <= 2
        left_out += 6 - len(plan.events)
    assert left_out > 0


def test_a_source_is_repeated_where_it_loops(corpus: Corpus) -> None:
    mix = one_source(length_s=1.2, loop=True)
    plan = draw(mix, pool_of(mix, corpus), 0, 0, 0)
    assert spans(plan) == [(0, 4000), (4000, 8000), (8000, 9600)]
    assert len({(event.song_id, event.source_start_frame) for event in plan.events}) == 1


def test_sources_come_from_one_moment_of_a_song_together(tmp_path: Path) -> None:
    corpus = song_corpus(tmp_path)
    sources = {"vocals": {"stems": "vocals"}, "accompaniment": {"stems": ["instrumental", "bass+drums+other"]}}
    mix = recipe(sources=sources, together=True)
    drawn = plans(mix, pool_of(mix, corpus), 50)
    for plan in drawn:
        assert len({(event.song_id, event.source_start_frame) for event in plan.events}) == 1
        assert sorted(event.stem for event in plan.events) == ["bass", "drums", "other", "vocals"]
    assert {plan.events[0].song_id for plan in drawn} == {"song0", "song1", "song2"}


def test_sources_that_come_together_stay_together_where_they_are_shorter_than_the_mixture(tmp_path: Path) -> None:
    corpus = song_corpus(tmp_path)
    sources = {"vocals": {"stems": "vocals"}, "accompaniment": {"stems": "bass+drums+other"}}
    mix = recipe(sources=sources, together=True, length_s=2.0)
    drawn = plans(mix, pool_of(mix, corpus), 300)
    assert all(len(set(spans(plan))) == 1 for plan in drawn)
    offsets = [plan.events[0].offset_frame / (16_000 - FRAMES) for plan in drawn]
    assert scipy.stats.kstest(offsets, "uniform").pvalue > 1e-3


def test_shuffled_groups_exchange_the_sources_of_consecutive_mixtures(tmp_path: Path) -> None:
    """Demucs' remix: a group of four holds each source of four moments once, in the mixtures of the group."""
    corpus = song_corpus(tmp_path, songs=12)
    stems = ("bass", "drums", "other", "vocals")
    mix = recipe(sources={stem: {"stems": stem} for stem in stems}, together=True, shuffle_groups=4)
    pool = pool_of(mix, corpus)
    mixed = 0
    for group in range(10):
        drawn = [draw(mix, pool, 0, 0, 4 * group + member) for member in range(4)]
        moments = {
            stem: sorted((e.song_id, e.source_start_frame) for plan in drawn for e in plan.events if e.stem == stem)
            for stem in stems
        }
        assert all(found == moments["bass"] for found in moments.values())
        mixed += sum(len({event.song_id for event in plan.events}) > 1 for plan in drawn)
    assert mixed > 20


def test_a_shift_moves_each_source_by_itself(tmp_path: Path) -> None:
    corpus = song_corpus(tmp_path, frames=8000)
    stem = {"shift_s": 0.1}
    mix = recipe(sources={"bass": {"stems": "bass", **stem}, "drums": {"stems": "drums", **stem}}, together=True)
    pool = pool_of(mix, corpus)
    apart = []
    for index in range(200):
        bass, drums = draw(mix, pool, 0, 0, index).events
        apart.append(abs(bass.source_start_frame - drums.source_start_frame))
        assert max(bass.source_start_frame, drums.source_start_frame) + LENGTH <= 8000
    assert 0 < max(apart) <= 800


def test_a_mixture_is_as_long_as_its_shortest_or_longest_source(tmp_path: Path) -> None:
    rows = loose_corpus(tmp_path / "a", {"speech": 3}, 3000)
    mix = recipe(
        length_s="shortest",
        sources={
            "speaker": {"stems": "speech", "count": 2, "separate": True},
            "noise": {"stems": "speech", "loop": True, "sets_length": False},
        },
    )
    plan = draw(mix, pool_of(mix, rows), 0, 0, 0)
    assert plan.num_frames == 3000
    assert plan.targets == ("speaker_1", "speaker_2", "noise")


def test_a_source_that_is_too_short_for_a_transform_is_shorter_in_the_mixture(corpus: Corpus) -> None:
    stretched = {"stems": "effects", "transforms": [{"stretch": {"factor": 0.7}}]}
    mix = recipe(length_s=0.5, sources={"effects": stretched})
    event = draw(mix, pool_of(mix, corpus), 0, 0, 0).events[0]
    assert event.transforms[0]["name"] == "stretch"
    assert event.num_frames <= FRAMES
    assert event.length_frames == pytest.approx(0.7 * FRAMES, abs=30)


def test_a_mixture_that_is_stretched_is_drawn_longer(corpus: Corpus) -> None:
    mix = one_source(length_s=0.25, transforms=[{"stretch": {"factor": 0.7}}])
    plan = draw(mix, pool_of(mix, corpus), 0, 0, 0)
    assert plan.num_frames == LENGTH
    assert plan.events[0].length_frames == pytest.approx(LENGTH / 0.7, abs=30)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain": {"normal": [-100, 1]}}, "'effects': field 'gain' was not above 0 in 1,000 draws"),
        ({"place": "scatter", "length_s": {"normal": [-100, 1]}}, "'effects': field 'length_s' was not above 0"),
    ],
)
def test_what_is_never_drawn_is_an_error_and_no_endless_loop(
    corpus: Corpus, settings: dict[str, Any], message: str
) -> None:
    mix = recipe(sources={"effects": {"stems": "effects", **settings}})
    with pytest.raises(RecipeError, match=message):
        draw(mix, pool_of(mix, corpus), 0, 0, 0)


def labelled(folder: Path, labels: dict[str, list[str | None]]) -> Corpus:
    """A corpus of sounds with a clip of 400 frames for each of these labels."""
    corpus = loose_corpus(folder, {"effects": len(labels)})
    rows = [
        {"clip_id": f"{song}-{n}", "song_id": song, "start_frame": 400 * n, "num_frames": 400, "label": label}
        for song, found in zip(corpus.songs(), labels.values(), strict=True)
        for n, label in enumerate(found)
    ]
    write_table(folder, "clips", frame_of("clips", rows))
    return Corpus.open(folder)


def drawn_labels(corpus: Corpus, count: int, draws: int = 300, **fields: Any) -> list[list[tuple[str, str | None]]]:
    """Song and label of every source of mixtures."""
    assert corpus.clips is not None
    of = {(row.song_id, row.start_frame): row.label for row in corpus.clips.itertuples()}
    mix = one_source(count=count, separate=True, length_s=0.05, **fields)
    pool = make_pool(mix, corpus)
    plans = [draw(mix, pool, 0, 0, index) for index in range(draws)]
    return [[(event.song_id, of[event.song_id, event.source_start_frame]) for event in p.events] for p in plans]


def test_the_sources_of_a_mixture_have_different_labels(tmp_path: Path) -> None:
    labels = {**{f"d{n}": ["Dog"] for n in range(18)}, "c": ["Car"], "r": ["Rain"]}
    corpus = labelled(tmp_path, labels)
    for count in (2, 3):
        found = drawn_labels(corpus, count, distinct_labels=True)
        assert all(len({label for _, label in sources}) == count for sources in found)
    plain = drawn_labels(corpus, 2)
    assert any(len({label for _, label in sources}) == 1 for sources in plain)


def test_a_song_comes_twice_rather_than_a_label_and_what_has_none_is_free(tmp_path: Path) -> None:
    both = labelled(tmp_path / "a", {"x": ["Dog", "Car"], "y": ["Dog"]})
    found = drawn_labels(both, 2, distinct_labels=True)
    assert all({label for _, label in sources} == {"Dog", "Car"} for sources in found)
    assert {len({song for song, _ in sources}) for sources in found} == {1, 2}
    none = labelled(tmp_path / "b", {"x": [None], "y": [None], "z": ["Dog"]})
    assert all(len({song for song, _ in sources}) == 3 for sources in drawn_labels(none, 3, distinct_labels=True))
    same = labelled(tmp_path / "c", {"x": ["Dog"], "y": ["Dog"]})
    assert all(len(sources) == 2 for sources in drawn_labels(same, 2, distinct_labels=True))


def test_recipes_that_differ_in_transforms_draw_all_else_alike(corpus: Corpus) -> None:
    swap, remix = {"swap": {"p": 0.5}}, {"remix": {"gain_db": [-9, 9]}}
    sign, equalizer = {"sign": {"p": 0.5}}, {"equalizer": {}}

    def planned(*transforms: Any, of_music: Sequence[Any] = ()) -> list[MixturePlan]:
        sources = {
            "dialogue": {"stems": "speech", "count": [0, 2], "gain_db": [-10, 10], "place": "scatter"},
            "music": {"stems": "music", "count": [1, 2], "lufs": [-30, -20], "transforms": list(of_music)},
        }
        mix = recipe(sources=sources, transforms=list(transforms))
        pool = pool_of(mix, corpus)
        return [draw(mix, pool, 1, 0, index) for index in range(40)]

    def events(plan: MixturePlan) -> list[tuple[object, ...]]:
        """All of the events but their transforms, though the level of loudness that they are brought to."""
        loudness = [step for event in plan.events for step in event.transforms if step["name"] == "loudness"]
        return [dataclasses.astuple(dataclasses.replace(event, transforms=())) for event in plan.events] + [
            tuple(sorted(step.items())) for step in loudness
        ]

    plain = planned()
    for others in (
        planned(swap),
        planned(swap, remix),
        planned(of_music=[sign]),
        planned(remix, of_music=[equalizer]),
    ):
        assert [events(plan) for plan in others] == [events(plan) for plan in plain]
    # and the same transform the same, whatever is before it
    alone, behind = planned(swap), planned(remix, swap)
    swapped = [[step for step in plan.transforms if step["name"] == "swap"] for plan in behind]
    assert swapped == [list(plan.transforms) for plan in alone]
    assert 5 < sum(map(bool, swapped)) < 35
    signs = [
        [[step for step in event.transforms if step["name"] == "sign"] for event in plan.events]
        for plan in planned(of_music=[equalizer, sign])
    ]
    assert signs == [
        [[step for step in event.transforms if step["name"] == "sign"] for event in plan.events]
        for plan in planned(of_music=[sign])
    ]
    # but one that is there twice draws twice
    twice = planned(swap, swap)
    assert any(len(plan.transforms) == 1 for plan in twice)
