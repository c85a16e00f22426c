"""Studies as people write them: what is merged, what is refused and how it is told, the ready ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.errors import RecipeError
from tests.training.small_training import fields
from training.study import load_study, study_names, training_of


def written(folder: Path, **changes: Any) -> dict[str, Any]:
    """A study of two variants on a corpus whose folder is there."""
    (folder / "songs").mkdir(exist_ok=True)
    return {
        "base": fields(),
        "corpora": {"songs": str(folder / "songs")},
        "train_on": ["songs"],
        "variants": [{"name": "baseline"}, {"name": "swap", "set": {"mix": {"transforms": ["swap"]}}}],
        "tests": [{"name": "songs", "corpus": "songs"}],
        **changes,
    }


def refused(folder: Path, *, given: dict[str, Path] | None = None, size: str | None = None, **changes: Any) -> str:
    with pytest.raises(RecipeError) as error:
        load_study(written(folder, **changes), corpora=given, size=size)
    return str(error.value)


def test_a_variant_says_only_what_it_changes(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, set={"batch_size": 3}))
    baseline, swap = study.variants
    one, other = training_of(study, baseline, 1), training_of(study, swap, 1)
    assert (one.seed, one.batch_size, one.mix.transforms) == (1, 3, ())
    assert other.model_copy(update={"mix": one.mix}) == one
    assert [type(rule).__name__ for rule in other.mix.transforms] == ["Swap"]


def test_a_size_goes_between_the_study_and_its_variants(tmp_path: Path) -> None:
    variants = [{"name": "a"}, {"name": "b", "set": {"batch_size": 7}}]
    sizes = {
        "small": {"about": "a minute", "set": {"batch_size": 5, "epochs": 1}, "seeds": 1, "limit": 2},
        "other": {"base": fields(epochs=4)},
    }
    changes = {"variants": variants, "sizes": sizes, "set": {"batch_size": 4}, "seeds": [3, 4]}
    small = load_study(written(tmp_path, **changes))
    assert [training_of(small, variant, 0).batch_size for variant in small.variants] == [5, 7]
    assert (training_of(small, small.variants[0], 0).epochs, small.seeds, small.tests[0].limit) == (1, (0,), 2)
    assert "a minute" in small.about
    other = load_study(written(tmp_path, **changes), size="other")
    assert [training_of(other, variant, 0).batch_size for variant in other.variants] == [4, 7]
    assert (training_of(other, other.variants[0], 0).epochs, other.seeds) == (4, (3, 4))


def test_a_base_may_take_out_a_source_that_it_has(tmp_path: Path) -> None:
    more = {"sources": {"music": None, "noise": {"stems": "noise"}}}
    study = load_study(written(tmp_path, variants=[{"name": "a"}, {"name": "b", "set": {"mix": more}}]))
    assert list(training_of(study, study.variants[1], 0).mix.sources) == ["speech", "noise"]


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    values = written(tmp_path, base="base.yaml", corpora={"songs": "../songs"})
    (folder / "base.yaml").write_text(yaml.safe_dump(fields()))
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    study = load_study(Path("studies/study.yaml"))
    assert study.folder_of("songs").samefile(tmp_path / "songs")
    assert training_of(study, study.variants[0], 0).batch_size == 2


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    assert "'songs' has no folder: add '--corpus songs=FOLDER'" in refused(tmp_path, corpora={"songs": None})
    text = refused(tmp_path, given={"songs": tmp_path / "gone"})
    assert f"corpus 'songs': there is no folder {tmp_path / 'gone'}" in text
    assert "there is no corpus 'song' (did you mean 'songs'?)" in refused(tmp_path, given={"song": tmp_path})
    text = refused(tmp_path, tests=[{"name": "songs", "corpus": "sogns"}])
    assert "test 'songs': there is no corpus 'sogns' (did you mean 'songs'?)" in text
    assert "trains on nothing" in refused(tmp_path, train_on=[])
    assert "there is no size 'huge'" in refused(tmp_path, size="huge")


def test_a_corpus_that_nobody_uses_may_be_missing(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, corpora={"songs": str(tmp_path / "songs"), "later": None}))
    assert list(study.corpora) == ["songs"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "two variants are called 'a'"),
        ({"variants": [{"name": "Swap"}, {"name": "swap"}]}, "variants Swap and swap differ in capitals only"),
        ({"variants": [{"name": "a"}]}, "variants"),
        ({"variants": [{"name": "../a"}, {"name": "b"}]}, "name"),
        ({"baseline": "swop"}, "there is no variant 'swop' (did you mean 'swap'?)"),
        ({"seeds": [1, 1]}, "a seed stands there twice"),
        ({"seeds": 0}, "seeds"),
        ({"scores": ["sdr"]}, "there is no score 'sdr' (did you mean 'sdr_db'?)"),
        ({"alpha": 1.5}, "alpha"),
        ({"varaints": []}, "unknown field 'varaints'; did you mean 'variants'?"),
        ({"variants": [{"name": "a"}, {"name": "b", "set": {"epochs": 0, "bach_size": 1}}]}, "variant 'b'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refused(tmp_path, **changes)


@pytest.mark.parametrize("name", study_names())
def test_ready_studies_read(tmp_path: Path, name: str) -> None:
    path = Path(__file__).parents[2] / "recipes" / "studies" / f"{name}.yaml"
    sizes = yaml.safe_load(path.read_text())["sizes"]
    corpora = dict.fromkeys(yaml.safe_load(path.read_text())["corpora"], tmp_path)
    assert list(sizes) == ["cpu", "gpu"]
    for size in sizes:
        study = load_study(name, size=size, corpora=corpora)
        recipes = [training_of(study, variant, 0) for variant in study.variants]
        # no two variants are the same, and all are trained for as long
        corpora_of = [variant.train_on for variant in study.variants]
        trained = {(recipe.model_dump_json(), on) for recipe, on in zip(recipes, corpora_of, strict=True)}
        assert len(trained) == len(recipes)
        assert len({recipe.epochs * recipe.epoch_steps() for recipe in recipes}) == 1
        assert sum(not variant.about for variant in study.variants) == 0


def test_the_augmentation_study_has_the_papers_variants(tmp_path: Path) -> None:
    study = load_study("augmentation", corpora={"songs": tmp_path, "recorded": tmp_path})
    chains = {
        variant.name: [type(rule).__name__.lower() for rule in training_of(study, variant, 0).mix.transforms]
        for variant in study.variants
    }
    single = ("filter", "remix", "swap", "shift", "scale", "stretch")
    assert chains == {
        "baseline": [],
        **{name: [name] for name in single},
        "combined": ["swap", "shift", "stretch", "remix"],
    }
