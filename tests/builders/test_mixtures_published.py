"""Sets of mixtures go out as other corpora do: with a card, with Croissant metadata, in other projects' layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from builders.card import write_card
from builders.exports import export_corpus
from builders.recipe import ExportRecipe
from manifests.audio import read
from manifests.corpus import Corpus
from tests.builders.small_mixtures import RATE, build_mixtures, mix_recipe, sound_corpus
from tests.manifests.exports.small_corpus import files_of

SOURCES = {"vocals": {"stems": "speech"}, "drums": {"stems": "music"}, "other": {"stems": "effects"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three mixtures for training; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    sounds = sound_corpus(folder / "sounds", split="train").folder
    return build_mixtures(folder / "set", sounds, mix_recipe(sources=SOURCES), splits={"train": 3}).folder


@pytest.fixture
def build(whole: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


def test_the_card_says_what_was_mixed(build: Path) -> None:
    card = write_card(build)
    assert (card.songs, card.unlicensed) == (3, 0)
    assert [(row.license and row.license.name, row.songs) for row in card.licenses] == [
        ("CC-BY-4.0", 3),
        ("CC0-1.0", 3),
    ]
    text = card.readme.read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == ["cc-by-4.0", "cc0-1.0"]
    assert [found["config_name"] for found in head["configs"]] == ["stems", "mixtures"]
    assert "[CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/) | mixed | 3 |" in text.replace("\\-", "-")
    assert "| stems | mixture, drums, other, vocals |" in text
    assert "which drew sounds from corpora of them, and mixed them." in text
    assert "`mixtures.parquet`" in text
    assert "`annotations/*`" in text
    assert "no licence" not in text
    record_sets = json.loads(card.croissant.read_text())["recordSet"]
    assert {found["name"] for found in record_sets} >= {"stems", "mixtures"}


def test_a_source_without_a_licence_is_said_first(tmp_path: Path) -> None:
    sounds = sound_corpus(tmp_path / "sounds", license=None).folder
    card = write_card(build_mixtures(tmp_path / "set", sounds, mix_recipe(sources=SOURCES), num=2).folder)
    assert (card.songs, card.unlicensed) == (2, 2)
    assert "**2 of 2 songs have no licence" in card.readme.read_text(encoding="utf-8")


def test_msst_reads_the_mixtures_as_songs(whole: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(whole)
    exported = export_corpus(corpus, tmp_path / "out", ExportRecipe(layout="msst", audio="link"))
    assert exported.songs == {"train": 3}
    for song in corpus.songs():
        (folder,) = (path for path in (tmp_path / "out").rglob(f"*{song}*") if path.is_dir())
        for stem in SOURCES:
            (path,) = folder.glob(f"{stem}.*")
            assert np.array_equal(read(path)[0], read(corpus.path_of(corpus.song(song)[stem]))[0])


def test_musdb18_reads_mixtures_whose_targets_are_its_own(whole: Path, tmp_path: Path) -> None:
    recipe = ExportRecipe(layout="musdb18")
    export_corpus(Corpus.open(whole), tmp_path / "out", recipe)
    names = {Path(path).name for path in files_of(tmp_path / "out")}
    assert names == {"setup.yaml", "mixture.wav", "vocals.wav", "drums.wav", "other.wav"}
    (first, *_) = sorted((tmp_path / "out" / "train").iterdir())
    parts = {path.stem: read(path) for path in first.iterdir()}
    assert {rate for _, rate in parts.values()} == {RATE}
    mixture = parts.pop("mixture")[0]
    assert np.abs(mixture - sum(audio for audio, _ in parts.values())).max() < 1e-4


@pytest.mark.parametrize("layout", ["lhotse", "csv", "huggingface"])
def test_other_layouts_take_them_too(whole: Path, tmp_path: Path, layout: str) -> None:
    exported = export_corpus(Corpus.open(whole), tmp_path / "out", ExportRecipe(layout=layout))
    assert exported.songs == {"train": 3}
    assert files_of(tmp_path / "out")
