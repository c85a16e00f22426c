"""Recipes: what a person writes in YAML or on the command line, and what it is taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from builders.recipe import CatalogRecipe, MixtureRecipe
from manifests.errors import RecipeError
from manifests.recipes import load_recipe, make_recipe, read_mapping


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_the_papers_filters() -> None:
    recipe = CatalogRecipe()
    assert (recipe.max_duration_difference_s, recipe.max_song_s) == (2.0, 300.0)
    assert recipe.loudness_lufs is None


def test_fields_that_a_file_leaves_out_keep_their_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "min_song_s: 20\nmethod: half-wave  # as in the paper\n"), CatalogRecipe)
    assert recipe == CatalogRecipe(min_song_s=20.0, method="half-wave")
    assert load_recipe(written(tmp_path, "# nothing yet\n"), CatalogRecipe) == CatalogRecipe()


@pytest.mark.parametrize("nothing", ["null", "~", "", "none", "None", "NULL"])
@pytest.mark.parametrize("field", ["max_duration_difference_s", "max_song_s", "loudness_lufs"])
def test_none_is_understood_where_a_limit_can_be_absent(tmp_path: Path, field: str, nothing: str) -> None:
    recipe = load_recipe(written(tmp_path, f"{field}: {nothing}\n"), CatalogRecipe)
    assert getattr(recipe, field) is None


def test_a_recipe_survives_its_own_json() -> None:
    recipe = CatalogRecipe(max_song_s=None, loudness_lufs=-23.0, bit_depth=16)
    assert make_recipe(recipe.model_dump(mode="json"), "recipe.json", CatalogRecipe) == recipe


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        CatalogRecipe().method = "half-wave"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("max_sng_s", "max_song_s"), ("min-votes", "min_votes"), ("loudness", "loudness_lufs")],
)
def test_an_unknown_field_is_answered_with_the_nearest_one(tmp_path: Path, name: str, nearest: str) -> None:
    with pytest.raises(RecipeError, match=rf"recipe\.yaml: unknown field '{name}'; did you mean '{nearest}'\?"):
        load_recipe(written(tmp_path, f"{name}: 3\n"), CatalogRecipe)


def test_an_unknown_field_that_is_near_to_none_is_answered_with_all() -> None:
    with pytest.raises(
        RecipeError, match=r"unknown field 'qqq'; known fields: max_duration_difference_s, .*max_item_s"
    ):
        make_recipe({"qqq": 1}, "flags", CatalogRecipe)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_duration_difference_s", -0.1),
        ("max_song_s", 0),
        ("min_song_s", "long"),
        ("min_song_s", None),
        ("max_bit_error_rate", 0.51),
        ("min_votes", 1),
        ("min_votes", 2.5),
        ("min_segment_s", 0),
        ("method", "magic"),
        ("loudness_lufs", 1),
        ("loudness_lufs", float("nan")),
        ("audio_format", "mp3"),
        ("bit_depth", 32),
        ("max_item_s", float("inf")),
        ("max_song_s", [300]),
    ],
)
def test_a_value_out_of_range_is_named_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({field: value}, "recipe.yaml", CatalogRecipe)
    message = str(caught.value)
    assert message.startswith(f"recipe.yaml: field '{field}' is {value!r}: ")
    assert message.endswith("; correct the value")


def test_every_wrong_field_has_a_line_of_its_own() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"min_votes": 1, "max_sng_s": 3, "method": "magic", "min_song_s": 2}, "a.yaml", CatalogRecipe)
    assert str(caught.value).splitlines() == [
        "a.yaml: unknown field 'max_sng_s'; did you mean 'max_song_s'?",
        "a.yaml: field 'min_votes' is 1: Input should be greater than or equal to 2; correct the value",
        "a.yaml: field 'method' is 'magic': Input should be 'transfer' or 'half-wave'; correct the value",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- min_song_s\n", "holds a list, expected 'field: value' lines"),
        (b"min_song_s\n", "holds a str, expected 'field: value' lines"),
        (b"min_song_s: [1\n", "cannot be read as YAML"),
        (b"a: 1\n\tb: 2\n", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"min_song_s: !!python/object/apply:os.getpid []\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"{path}: {message}"):
        load_recipe(path, CatalogRecipe)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "min_votes: 3\nmin_song_s: 20\nmin_votes: 4\nmin_votes: 5\n",
            [
                "line 3: key 'min_votes' stands in line 1 already",
                "line 4: key 'min_votes' stands in line 1 already",
            ],
        ),
        ("min_votes: 3\n'min_votes': 3\n", ["line 2: key 'min_votes' stands in line 1 already"]),
        ("{method: transfer, method: transfer}", ["line 1: key 'method' stands in line 1 already"]),
        ("method:\n  - {a: 1}\n  - {a: 1, b: {c: 1,\n     c: 2}}", ["line 4: key 'c' stands in line 3 already"]),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path, text: str, problems: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, CatalogRecipe)
    assert str(caught.value).splitlines() == [f"{path}: {problem}; leave one of them out" for problem in problems]


def test_what_a_merge_brings_may_be_said_again(tmp_path: Path) -> None:
    text = """
        a: {b: &first {x: 1, y: 2}, c: &second {<<: *first, x: 3}}
        d: {<<: *second, y: 4}
        e: {<<: [*first, *second], x: 5}
        f: *second
        1: one
        '1': another
    """
    second = {"x": 3, "y": 2}
    assert read_mapping(written(tmp_path, text)) == {
        "a": {"b": {"x": 1, "y": 2}, "c": second},
        "d": {"x": 3, "y": 4},
        "e": {"x": 5, "y": 2},
        "f": second,
        1: "one",
        "1": "another",
    }


def test_a_mapping_that_holds_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="line 1 holds itself"):
        read_mapping(written(tmp_path, "a: &all {b: *all}"))


def test_mixtures_have_one_number_or_one_for_each_split() -> None:
    assert MixtureRecipe(splits={"train": 3}).splits == {"train": 3}
    assert make_recipe({"num": 1000, "splits": {"train": 3}}, "recipe.json", MixtureRecipe).num == 1000
    with pytest.raises(RecipeError, match=r"field 'num' is 7, and 'splits' says .*; leave one of them out"):
        make_recipe({"num": 7, "splits": {"train": 3}}, "set.yaml", MixtureRecipe)


def test_a_seed_of_mixtures_fits_into_64_bits() -> None:
    assert MixtureRecipe(seed=2**63 - 1).seed == 2**63 - 1
    with pytest.raises(RecipeError, match=f"field 'seed' is {2**63}: "):
        make_recipe({"seed": 2**63}, "set.yaml", MixtureRecipe)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / name, CatalogRecipe)
