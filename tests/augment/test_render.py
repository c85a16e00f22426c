"""Rendering plans: audio that follows from them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augment.draw import draw
from augment.plan import Event, MixturePlan, plans_of, plans_table
from augment.recipe import MixRecipe
from augment.render import render
from manifests.audio import Audio, read
from manifests.corpus import Corpus
from manifests.crops import CropReader
from manifests.errors import AudioError, RecipeError
from manifests.loudness import loudness_lufs
from manifests.recipes import make_recipe
from tests.augment.small_pool import RATE, loose_corpus, one_source, pool_of, recipe

KINDS = {"speech": 3, "music": 3, "effects": 3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return loose_corpus(tmp_path_factory.mktemp("loose"), KINDS)


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return loose_corpus(tmp_path_factory.mktemp("mono"), KINDS, 2000, 16_000, 1)


def crop(corpus: Corpus, event: Event) -> Audio:
    path = corpus.folder / event.path
    return read(path, event.source_start_frame, event.num_frames)[0]


def rendered(mix: MixRecipe, corpus: Corpus, index: int = 0, **options: Any) -> Any:
    pool = pool_of(mix, corpus)
    return render(draw(mix, pool, 0, 0, index), CropReader(pool.roots), **options)


def test_targets_are_the_sums_of_their_sources_at_their_gains_and_places(corpus: Corpus) -> None:
    mix = recipe(length_s=1.0)
    for index in range(10):
        mixture = rendered(mix, corpus, index)
        expected = np.zeros((3, 2, 8000))
        for event in mixture.plan.events:
            place = slice(event.offset_frame, event.offset_frame + event.length_frames)
            target = mixture.names.index(event.target)
            expected[target, :, place] += 10 ** (event.gain_db / 20) * crop(corpus, event)
        assert mixture.targets == pytest.approx(expected, abs=1e-6)
        assert mixture.mixture == pytest.approx(expected.sum(axis=0), abs=1e-6)
        assert mixture.mixture.dtype == mixture.targets.dtype == np.float32


def test_a_mixture_without_sources_is_silent(corpus: Corpus) -> None:
    mixture = rendered(one_source(silence=1, min_sources=0), corpus)
    assert mixture.targets.shape == (1, 2, 2000)
    assert not mixture.targets.any()


def test_rates_are_converted(mono: Corpus) -> None:
    mixture = rendered(one_source(length_s=0.1, channels=1), mono)
    (event,) = mixture.plan.events
    assert (event.num_frames, event.length_frames, event.source_rate) == (1600, 800, 16_000)
    expected = soxr.resample(crop(mono, event)[0], 16_000, RATE, "HQ")
    assert mixture.mixture[0] == pytest.approx(expected, abs=1e-6)


def test_mono_is_doubled_and_stereo_is_averaged(corpus: Corpus, mono: Corpus) -> None:
    left, right = rendered(one_source(sample_rate=16_000, length_s=0.1), mono).mixture
    assert left.any()
    assert (left == right).all()
    mixture = rendered(one_source(channels=1), corpus)
    assert mixture.mixture[0] == pytest.approx(crop(corpus, mixture.plan.events[0]).mean(axis=0), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_sources_are_brought_to_their_loudness_as_they_are_heard(
    corpus: Corpus, tmp_path: Path, channels: int
) -> None:
    long = loose_corpus(tmp_path, {"effects": 2}, 8000, channels=1)
    mix = one_source(length_s=1.0, channels=channels, lufs=-30, gain_db=[-4, 4])
    for source in (corpus, long):
        heard: list[Audio] = []
        mixture = rendered(mix, source, heard=lambda event, audio, heard=heard: heard.append(audio.copy()))
        assert [loudness_lufs(audio, RATE) for audio in heard] == [
            pytest.approx(-30 + mixture.plan.events[0].gain_db, abs=0.05)
        ]


def test_a_file_that_has_more_channels_than_its_row_says_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    pool = pool_of(one_source(), corpus)
    (event,) = draw(one_source(), pool, 0, 0, 0).events
    surround = loose_corpus(tmp_path, {event.song_id[:-1]: 3}, channels=6)
    with pytest.raises(AudioError, match=r"effects\.flac: has 6 channels, and the mixture has 2; downmix it first"):
        render(draw(one_source(), pool, 0, 0, 0), CropReader({".": surround.folder}))


def test_a_source_that_is_cut_at_the_end_is_as_loud_as_the_recipe_says(tmp_path: Path) -> None:
    corpus = loose_corpus(tmp_path, {"effects": 3}, 12_000)
    sequence = {
        "stems": "effects",
        "count": 3,
        "place": "sequence",
        "gap_s": 0.2,
        "lufs": -25,
        "transforms": ["sign"],
    }
    mix = recipe(length_s=2.3, sources={"effects": sequence})
    heard: list[Audio] = []
    mixture = rendered(mix, corpus, heard=lambda event, audio: heard.append(audio.copy()))
    assert [event.length_frames for event in mixture.plan.events] == [12_000, 3200]
    assert mixture.plan.events[1].num_frames == 3200
    assert [loudness_lufs(audio, RATE) for audio in heard] == [pytest.approx(-25, abs=0.05)] * 2


def test_a_plan_is_replayed_from_its_rows(corpus: Corpus) -> None:
    mix = recipe(transforms=["swap", {"scale": {}}, {"limiter": {"threshold_db": -20}}])
    pool = pool_of(mix, corpus)
    for index in range(5):
        plan = draw(mix, pool, 0, 0, index)
        (again,) = plans_of(plans_table([plan]))
        assert (render(again, CropReader(pool.roots)).targets == render(plan, CropReader(pool.roots)).targets).all()


def test_a_cascade_by_an_oracle_is_a_mixture_of_the_rest(corpus: Corpus) -> None:
    mix = recipe(remove={"target": "dialogue"}, min_sources=4)
    mixture = rendered(mix, corpus, 3)
    whole = rendered(mix.model_copy(update={"remove": None}), corpus, 3)
    assert mixture.names == ("music", "effects")
    assert (mixture.targets == whole.targets[1:]).all()
    assert mixture.mixture == pytest.approx(whole.targets[1:].sum(axis=0), abs=1e-6)


def test_a_cascade_by_a_separator_leaves_what_it_misses_in_the_mixture(corpus: Corpus) -> None:
    mix = recipe(remove={"target": "dialogue", "by": "separator"}, min_sources=4)
    whole = rendered(mix.model_copy(update={"remove": None}), corpus, 3)
    mixture = rendered(mix, corpus, 3, separate=lambda audio, rate: 0.3 * audio)
    assert mixture.names == ("music", "effects", "residual")
    assert mixture.mixture == pytest.approx(0.7 * whole.mixture, abs=1e-6)
    assert mixture.mixture == pytest.approx(mixture.targets.sum(axis=0), abs=1e-6)
    with pytest.raises(RecipeError, match=r"'remove.by' is 'separator'.*none"):
        rendered(mix, corpus, 3)
    with pytest.raises(RecipeError, match=r"separator: gave shape \(2,\)"):
        rendered(mix, corpus, 3, separate=lambda audio, rate: np.zeros(2))


numbers = st.floats(-12, 12).map(lambda value: round(value, 2))
ranges = st.tuples(numbers, numbers).map(sorted)
transforms = st.lists(
    st.sampled_from(
        [
            "swap",
            "sign",
            "shuffle_channels",
            {"scale": {}},
            {"remix": {}},
            {"filter": {}},
            {"limiter": {}},
            {"peak": {}},
            {"loudness": {}},
            {"gain": {}},
            {"stretch": {}},
            {"shift": {}},
            {"fade": {"in_s": 0.01, "out_s": 0.02}},
            {"mono_to_stereo": {}},
            {"equalizer": {}},
            {"reverb": {}},
            {"bandwidth": {}},
        ]
    ),
    max_size=3,
)
placings = st.sampled_from(
    [
        {},
        {"loop": True},
        {"place": "scatter", "length_s": [0.01, 0.2]},
        {"place": "scatter", "max_overlap": 1},
        {"place": "sequence", "gap_s": {"skew_normal": [0, 0.1, 5]}},
    ]
)


@st.composite
def recipes(choose: st.DrawFn) -> MixRecipe:
    sources = {}
    for name in choose(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True)):
        low = choose(st.integers(0, 3))
        sources[name] = {
            "stems": name,
            "count": [low, low + choose(st.integers(0, 2))],
            "gain_db": list(choose(ranges)),
            "silence": choose(st.sampled_from([0.0, 0.3])),
            "transforms": choose(transforms),
            "separate": low > 0 and choose(st.booleans()),
            "lufs": choose(st.sampled_from([None, -20])),
            **choose(placings),
        }
    channels = choose(st.integers(1, 2))
    if channels == 1:
        for source in sources.values():
            source["transforms"] = [rule for rule in source["transforms"] if rule != {"mono_to_stereo": {}}]
    return make_recipe(
        {
            "sample_rate": choose(st.sampled_from([RATE, 16_000])),
            "channels": channels,
            "length_s": choose(st.sampled_from([0.1, 0.2, 0.33])),
            "sources": sources,
            "min_sources": 0,
            "transforms": [rule for rule in choose(transforms) if channels == 2 or rule != {"mono_to_stereo": {}}],
        },
        "drawn",
        MixRecipe,
    )


@given(recipes(), st.integers(0, 2**32), st.sampled_from([0, 1]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_mixture_is_the_sum_of_its_targets_whatever_the_recipe(
    corpus: Corpus, mono: Corpus, mix: MixRecipe, seed: int, which: int
) -> None:
    pool = pool_of(mix, (corpus, mono)[which])
    plan: MixturePlan = draw(mix, pool, seed, 0, 0)
    mixture = render(plan, CropReader(pool.roots))
    assert mixture.targets.shape == (len(mix.targets), mix.channels, plan.num_frames)
    assert mixture.mixture.shape == (mix.channels, plan.num_frames)
    assert np.isfinite(mixture.targets).all()
    scale = max(1.0, float(np.abs(mixture.targets).max()))
    assert np.abs(mixture.mixture - mixture.targets.sum(axis=0, dtype=np.float64)).max() <= 1e-5 * scale
    for event, other in itertools.pairwise(plan.events):
        assert mix.targets.index(event.target) <= mix.targets.index(other.target)
