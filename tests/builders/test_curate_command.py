"""`stemloom curate` and `stemloom check --unseen`, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stemloom
from builders.recipe import CurateRecipe
from manifests.corpus import Corpus
from manifests.recipes import load_recipe
from tests.builders.small_corpora import stems, write_corpus

RECIPES = sorted((Path(__file__).parents[2] / "recipes/curate").glob("*.yaml"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [("a", stems(1)), ("b", stems(2))]).folder


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """Exit code, output, messages."""
    with pytest.raises(SystemExit) as end:
        stemloom.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_flags_and_a_config_set_the_recipe(
    capsys: pytest.CaptureFixture[str], corpus: Path, tmp_path: Path
) -> None:
    config = tmp_path / "curate.yaml"
    config.write_text("clip_s: 4\nshares: {train: 0.5, test: 0.5}\ngates: ['vocals.rms >= 0.0001']\n")
    out = tmp_path / "out"
    words = ("curate", corpus, "--out", out, "--config", config, "--clip-s", "3", "--jobs", "0")
    code, said, err = run(capsys, *words, "--clip-gates", "*.rms >= 0.0001", "voiced_fraction >= 0")
    assert (code, err) == (0, "")
    assert "2 (0.01 h; grades" in said
    assert "gate vocals.rms >= 0.0001" in said
    assert "2 pass, 0 do not" in said
    assert "│█" in said.replace(" ", "")
    recipe = json.loads((out / "recipe.json").read_text())["recipe"]
    assert (recipe["clip_s"], recipe["shares"]) == (3, {"train": 0.5, "test": 0.5})
    assert recipe["gates"] == ["vocals.rms >= 0.0001"]
    assert recipe["clip_gates"] == ["*.rms >= 0.0001", "voiced_fraction >= 0"]
    assert len(Corpus.open(out).stems["split"].unique()) == 2
    assert run(capsys, "check", out)[0] == 0
    code, _, err = run(capsys, "check", out, "--unseen", corpus / "audio/a")
    assert code == 1
    assert "song 'a'" in err
    assert run(capsys, "check", out, "--unseen", tmp_path / "nowhere")[0] == 1


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], corpus: Path, tmp_path: Path) -> None:
    code, said, _ = run(capsys, "curate", corpus, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "2 songs" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--min-grade", "E"), 2, "min_grade"),
        (("--gates", "vocals.rmz >= 1"), 2, "rmz"),
        (("--clip-gates", "cdxdb24"), 2, "cdxdb23"),
        (("--shares.train", "0.7"), 2, "0.7"),
        (("--reference", "nowhere.csv"), 2, "nowhere.csv"),
        (("--unseen", "nowhere"), 2, "nowhere"),
        (("--witness", "hear"), 2, "python:MODULE:FUNCTION"),
        (("--clip-s", "-1"), 2, "clip_s"),
    ],
)
def test_bad_settings_are_told(
    capsys: pytest.CaptureFixture[str],
    corpus: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    found, _, err = run(capsys, "curate", corpus, "--out", tmp_path / "out", "--jobs", "0", *words)
    assert found == code
    assert message in err
    assert not (tmp_path / "out/stems.parquet").exists()


def test_what_is_no_corpus_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "curate", tmp_path, "--out", tmp_path.parent / "out")
    assert code == 1
    assert "stems.parquet" in err


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_ready_recipes_are_recipes(path: Path) -> None:
    assert load_recipe(path, CurateRecipe) != CurateRecipe()


def test_there_are_ready_recipes() -> None:
    assert {path.stem for path in RECIPES} == {"catalog-a", "catalog-b", "cdxdb23", "cdxdb23-test", "test-set"}
