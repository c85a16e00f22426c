"""Mixing recipes: the ready ones, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from augment.recipe import MixRecipe, load_mix, mix_names
from manifests.errors import RecipeError
from manifests.recipes import make_recipe

READY = (
    "anchors",
    "bsrnn",
    "cascade",
    "deezer2019",
    "demucs",
    "dnr-v2",
    "dnr-v3",
    "fuss",
    "jusperlee2023",
    "librimix",
    "mixit",
    "umx",
    "universal2",
)


def fields(**changes: Any) -> dict[str, Any]:
    return {"sample_rate": 8000, "length_s": 1.0, "sources": {"a": {"stems": "x"}}, **changes}


def source(**settings: Any) -> dict[str, Any]:
    return fields(sources={"a": {"stems": "x", **settings}})


def test_the_ready_recipes_are_those_of_the_literature() -> None:
    assert set(READY) <= set(mix_names())


@pytest.mark.parametrize("name", mix_names())
def test_a_ready_recipe_reads_back_from_what_it_is_resolved_to(name: str) -> None:
    mix = load_mix(name)
    assert mix.about
    assert make_recipe(mix.model_dump(mode="json"), "recipe.json", MixRecipe) == mix


def test_jusperlee2023_is_what_the_paper_says() -> None:
    mix = load_mix("jusperlee2023")
    assert (mix.sample_rate, mix.channels, mix.length_s) == (44100, 2, 3.0)
    assert mix.targets == ("dialogue", "music", "effects")
    assert [source.count.uniform for source in mix.sources.values()] == [(0, 1), (0, 2), (0, 3)]
    assert all(source.gain_db.uniform == (-10, 10) for source in mix.sources.values())
    assert {"speech", "vocals"} <= set(mix.sources["dialogue"].stems)


def test_anchors_are_pairs_of_two_seconds_and_different_classes() -> None:
    mix = load_mix("anchors")
    assert (mix.sample_rate, mix.channels, mix.length_s, mix.distinct_labels) == (32000, 1, 2.0, True)
    assert mix.targets == ("source_1", "source_2")
    assert (mix.sources["source"].within, mix.sources["source"].per) == ("clips", "label")


def test_combined_stands_for_the_four_transforms_of_the_study() -> None:
    mix = make_recipe(fields(transforms=["combined"]), "r.yaml", MixRecipe)
    assert [next(iter(rule)) for rule in mix.model_dump(mode="json")["transforms"]] == [
        "swap",
        "shift",
        "stretch",
        "remix",
    ]


def test_separate_sources_are_targets_of_their_own() -> None:
    sources = {"bed": {"stems": "x"}, "event": {"stems": "y", "count": [0, 3], "separate": True}}
    mix = make_recipe(fields(sources=sources), "r.yaml", MixRecipe)
    assert mix.targets == ("bed", "event_1", "event_2", "event_3")


def test_sources_may_share_a_target() -> None:
    sources = {"near": {"stems": "x", "target": "effects"}, "far": {"stems": "y", "target": "effects"}}
    assert make_recipe(fields(sources=sources), "r.yaml", MixRecipe).targets == ("effects",)


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("sample_rate: 8000\nlength_s: 2\nsources:\n  a: {stems: [x, y], gain_db: {normal: [0, 3]}}\n")
    assert load_mix(path) == load_mix(str(path))
    assert load_mix(path).sources["a"].gain_db.normal == (0, 3)


def test_the_manuals_recipe_is_one(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "mixing.md").read_text(encoding="utf-8")
    path = tmp_path / "manual.yaml"
    path.write_text(manual.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    mix = load_mix(path)
    assert mix.targets == ("dialogue", "music", "effects")
    assert [rule.p for rule in mix.transforms] == [0.5, 0.3]


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'jusperlee2023'"):
        load_mix("jusperlee2032")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (source(stms="x"), "'sources.a': unknown field 'stms'; did you mean 'stems'"),
        (source(count=[3, 1]), r"'sources.a.count'.*ends before it starts; write \[1, 3\]"),
        (source(count=-1), "'sources.a.count' is -1"),
        (source(gain_db={"nrmal": [0, 1]}), "'sources.a.gain_db': unknown field 'nrmal'; did you mean 'normal'"),
        (source(target="../evil"), "'sources.a.target' is '../evil'"),
        (source(target="mixture"), "a target cannot be called 'mixture'"),
        (fields(sources={"mixture": {"stems": "x"}}), "a target cannot be called 'mixture'"),
        (fields(sources={"": {"stems": "x"}}), "sources"),
        (fields(sources={"a b": {"stems": "x"}}), "a b"),
        (source(gain_db=2000), "'gain_db' goes from -150 to 60, not to 2000"),
        (source(lufs=[-80, -20]), "'lufs' goes from -70 to 0, not to -80"),
        (fields(length_s="shortes"), "'length_s' is 'shortes': a length is a number of seconds above 0, or"),
        (source(gain=0), "'gain' never is above 0"),
        (source(transforms=["swp"]), "transforms.0' is 'swp': transform 'swp' is unknown.*did you mean 'swap'"),
        (source(transforms=[{"swap": {"q": 1}}]), "transform 'swap': unknown field 'q'"),
        (source(transforms=[{"swap": {}, "sign": {}}]), "a transform is its name"),
        (source(offset_s=[0, 1]), "'offset_s' is for place 'scatter', and place is 'fill'"),
        (source(length_s=1), "'length_s' is for place"),
        (source(place="sequence", loop=True), "'loop' is for place 'fill'"),
        (source(stems=[]), "at least 1"),
        (source(labels="Dog", within="stems"), "labels are of clips, and within is 'stems'; write 'within: clips'"),
        (source(per="label", within="stems"), "labels are of clips"),
        (fields(together=True, distinct_labels=True), "distinct_labels is for sources from songs of their own"),
        (source(stems="drums+"), "empty name"),
        (source(stems="drums+bass", lufs=-20), "'lufs' measures one stem"),
        (source(count={"poisson": 3}, separate=True), "largest value"),
        (source(silence=1.5), "less than or equal to 1"),
        (fields(sample_rte=1), "unknown field 'sample_rte'; did you mean 'sample_rate'"),
        ({"length_s": 1, "sources": {"a": {"stems": "x"}}}, "'sample_rate' is missing; add it"),
        (fields(length_s=0), "'length_s' is 0"),
        (fields(sources={}), "'sources'"),
        (fields(channels=3), "'channels' is 3"),
        (fields(min_sources=2), "min_sources 2 can never be reached.*1 at most"),
        (fields(channels=1, transforms=["mono_to_stereo"]), "'mono_to_stereo' needs 'channels: 2'"),
        (fields(shuffle_groups=4), "add 'together: true'"),
        (fields(together=True, sources={"a": {"stems": "x", "count": 2}}), "leave out count"),
        (fields(remove={"target": "b"}), "remove.target 'b' is no target"),
        (
            fields(length_s="shortest", sources={"a": {"stems": "x", "sets_length": False}}),
            "no source sets the length",
        ),
        (
            fields(
                sources={"a": {"stems": "x", "count": 2, "separate": True}, "b": {"stems": "x", "target": "a_1"}}
            ),
            "separate target 'a_1' has the name of another",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(values, "mine.yaml", MixRecipe)
