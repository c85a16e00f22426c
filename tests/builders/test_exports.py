"""A person's recipe becomes a call of the layout it names, and says what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from builders.exports import chosen_songs, export_corpus
from builders.recipe import ExportRecipe, ImportRecipe
from manifests.corpus import Corpus
from manifests.errors import RecipeError, TableError
from manifests.exports import csv, huggingface, lhotse, msst, musdb18
from manifests.recipes import load_recipe, make_recipe
from tests.manifests.exports.small_corpus import files_of, small_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("layout", ["musdb18", "msst", "lhotse", "huggingface", "csv"])
def test_every_layout_is_what_its_module_writes_by_default(corpus: Corpus, tmp_path: Path, layout: Any) -> None:
    exported = export_corpus(corpus, tmp_path / "out", ExportRecipe(layout=layout))
    modules: dict[str, Any] = {
        "musdb18": musdb18, "lhotse": lhotse, "huggingface": huggingface, "csv": csv, "msst": msst,
    }  # fmt: skip
    options = {"dataset_type": 1} if layout == "msst" else {}
    expected = modules[layout].export(corpus, tmp_path / "expected", **options)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "expected")
    assert (exported.songs, exported.files) == (expected.songs, expected.files)


@pytest.mark.parametrize(
    ("fields", "module", "options"),
    [
        ({"layout": "musdb18", "stems": {"vocals": "vocals", "other": "bass, drums,other"}, "audio": "link"},
         musdb18, {"stems": {"vocals": ("vocals",), "other": ("bass", "drums", "other")}, "audio": "link"}),
        ({"layout": "msst", "dataset_type": "3", "audio": "refer", "silence": True},
         msst, {"dataset_type": 3, "audio": "refer", "silence": True, "stems": None}),
        ({"layout": "lhotse", "cuts": "clips", "audio": "refer"}, lhotse, {"cuts": "clips", "audio": "refer"}),
        ({"layout": "huggingface", "shard_mb": 1.5}, huggingface, {"shard_bytes": 1_500_000}),
        ({"layout": "csv", "audio": "refer", "splits": "train"}, csv, {"audio": "refer"}),
    ],
)  # fmt: skip
def test_what_the_recipe_says_reaches_the_layout(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    module: Any,
    options: dict[str, Any],
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "export", lambda corpus, out, **options: calls.append(options))
    export_corpus(corpus, tmp_path / "out", ExportRecipe(**fields))
    (call,) = calls
    assert options.items() <= call.items()
    assert call["songs"] == (["s0", "s1"] if "splits" in fields else ["s0", "s1", "s2", "s3"])


@pytest.mark.parametrize(
    ("fields", "songs"),
    [
        ({}, ["s0", "s1", "s2", "s3"]),
        ({"splits": ("train",)}, ["s0", "s1"]),
        ({"splits": "test,validation"}, ["s2", "s3"]),
        ({"leave_out": ("s1", "s3")}, ["s0", "s2"]),
        ({"splits": "train", "leave_out": "s0"}, ["s1"]),
    ],
)
def test_songs_are_chosen_by_split_and_left_out_by_id(corpus: Corpus, fields: Any, songs: list[str]) -> None:
    assert chosen_songs(corpus, ExportRecipe(layout="csv", **fields)) == songs


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"splits": "tain"}, RecipeError, r"'splits': the corpus has no split 'tain' \(did you mean 'train'\?\)"),
        ({"splits": "xyz"}, RecipeError, "no split 'xyz'; it has test, train, validation"),
        ({"leave_out": "s9"}, RecipeError, "field 'leave_out': the corpus has no song 's9'"),
        ({"splits": "test", "leave_out": "s3"}, TableError, "no songs are left to export"),
        ({"layout": "musdb18", "audio": "refer"}, RecipeError, "'audio' is 'refer', and MUSDB18 needs the files"),
    ],
)
def test_what_does_not_fit_the_corpus_is_refused(
    corpus: Corpus, tmp_path: Path, fields: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export_corpus(corpus, tmp_path / "out", ExportRecipe(**{"layout": "csv", **fields}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (ExportRecipe, {}, "field 'layout' is missing; add it"),
        (ExportRecipe, {"layout": "zip"}, "field 'layout' is 'zip': Input should be 'musdb18', 'msst'"),
        (ExportRecipe, {"layout": "csv", "split": "x"}, r"unknown field 'split'; did you mean 'splits'\?"),
        (ExportRecipe, {"layout": "csv", "cuts": "clips"}, "'cuts' is 'clips', and layout 'csv' has no use for it"),
        (ExportRecipe, {"layout": "huggingface", "audio": "link"}, "leave it out, or use musdb18 or msst or"),
        (ExportRecipe, {"layout": "lhotse", "stems": {"a": ["b"]}}, "field 'stems' is .*or use musdb18 or msst"),
        (ExportRecipe, {"layout": "msst", "dataset_type": 5}, "field 'dataset_type' is 5"),
        (ExportRecipe, {"layout": "huggingface", "shard_mb": 0}, "field 'shard_mb' is 0"),
        (ExportRecipe, {"layout": "musdb18", "stems": ["vocals"]}, "field 'stems' is"),
        (ImportRecipe, {"layout": "musdb18", "pad": True}, "field 'pad' is True, and layout 'musdb18' has no use"),
        (ImportRecipe, {"layout": "moisesdb", "stems": "bass"}, "'stems' is .*, and layout 'moisesdb' has no use"),
        (ImportRecipe, {"layout": "moisesdb", "bleed": "drop"}, "field 'bleed' is 'drop': Input should be 'keep'"),
        (ImportRecipe, {"layout": "folders", "max_item_s": 0}, "field 'max_item_s' is 0"),
    ],
)
def test_a_recipe_that_cannot_be_is_told_by_field(tmp_path: Path, kind: Any, fields: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=f"^recipe: .*{message}"):
        make_recipe(fields, "recipe", kind)


def test_recipes_survive_their_own_json_and_cannot_be_changed() -> None:
    recipes = [
        ExportRecipe(layout="musdb18", stems={"other": ("a", "b")}, splits=("train",), leave_out=("x",)),
        ImportRecipe(layout="folders", stems=("a", "b"), pad=True, license="none of your business"),
        ImportRecipe(layout="moisesdb"),
    ]
    for recipe in recipes:
        assert make_recipe(recipe.model_dump(mode="json"), "x", type(recipe)) == recipe
        with pytest.raises(ValidationError):
            recipe.layout = "csv"


def test_a_file_says_the_same_as_python(tmp_path: Path) -> None:
    path = tmp_path / "export.yaml"
    path.write_text("layout: musdb18\nsplits: [train, test]\nstems:\n  vocals: vocals\n  other: [bass, drums]\n")
    assert load_recipe(path, ExportRecipe) == ExportRecipe(
        layout="musdb18", splits=("train", "test"), stems={"vocals": ("vocals",), "other": ("bass", "drums")}
    )


def test_progress_is_told(corpus: Corpus, tmp_path: Path) -> None:
    told: list[tuple[str, int, int, int]] = []
    export_corpus(corpus, tmp_path / "out", ExportRecipe(layout="csv"), lambda *what: told.append(what))
    assert [stage for stage, *_ in told] == ["check"] * 5 + ["export"] * 5
    assert pd.read_csv(tmp_path / "out" / "songs.csv")["song_id"].tolist() == corpus.songs()
