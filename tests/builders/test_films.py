"""From films' stems in surround sound to a balanced test set, by the ready recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builders.check import check_build
from builders.curate import CurateBuilder
from builders.imports import ImportBuilder
from builders.recipe import CurateRecipe, ImportRecipe
from curation.gates import GATES
from manifests.audio import quantise, write
from manifests.corpus import Corpus
from manifests.recipes import load_recipe
from tests.synthesis import pink_noise

RECIPES = Path(__file__).parents[2] / "recipes"
RATE = 48_000
REELS = ("Heist - reel 1", "Heist - reel 2", "Western - reel 1", "Comedy - reel 1")


def films(folder: Path) -> Path:
    """Dialogue in the centre only; music and effects in one track, in turns; effects that become too quiet."""
    for seed, name in enumerate(REELS):
        rng = np.random.default_rng(seed)
        dialogue, mixed = np.zeros((6, 12 * RATE)), pink_noise(rng, 6, 12 * RATE, rms=0.03)
        dialogue[2] = pink_noise(rng, 1, 12 * RATE, rms=0.06)[0]
        effects = pink_noise(rng, 6, 12 * RATE, rms=0.02)
        effects[:, 8 * RATE :] *= 1e-3
        for stem, audio in {"DX": dialogue, "FX": effects, "MFX": mixed}.items():
            write(folder / name / f"{stem}.wav", quantise(audio.astype(np.float32)), RATE, 24)
        (folder / name / "segments.csv").write_text(
            "file,start_s,end_s,label\nMFX,0,6,music\nMFX,6,7,effects\nMFX,7,,mx\n"
        )
    return folder


def test_films_become_a_balanced_test_set(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "import" / "films.yaml", ImportRecipe)
    source = ImportBuilder(tmp_path / "films", recipe, jobs=0).build(films(tmp_path / "in"))
    assert set(source.stems["stem"]) == {"mixture", "dialogue", "effects", "music"}
    assert set(source.stems["sample_rate"]) == {44_100}
    assert set(source.stems["channels"]) == {2}
    settings = load_recipe(RECIPES / "curate" / "cdxdb23-test.yaml", CurateRecipe)
    settings = settings.model_copy(update={"clip_s": 2.0, "test_clips": 6, "min_grade": "D"})
    CurateBuilder(tmp_path / "test", settings, jobs=0).build(source.folder)
    corpus = Corpus.open(tmp_path / "test")
    assert check_build(tmp_path / "test") == []
    clips = corpus.clips
    assert clips["artist"].value_counts().to_dict() == {"Heist": 2, "Western": 2, "Comedy": 2}
    assert clips["split"].unique().tolist() == ["test"]
    heist = clips[clips["artist"] == "Heist"]
    assert heist["song_id"].nunique() == 2
    for gate in GATES["cdxdb23"]:
        assert (clips[f"rms_{gate.stem}"] >= gate.minimum).all()
    # effects are too quiet from second 8 on, and music from 6 to 7 is none
    starts = clips["start_frame"] / 44_100
    assert starts.max() + 2 <= 8.1
