"""Libraries as their publishers lay them out become sets of mixtures, by way of cleaned corpora."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from builders import imports, mixtures, stem_cleaning
from builders.check import check_build
from builders.imports import first_songs
from builders.libraries import LibrariesBuilder, libraries_names, load_libraries
from builders.recipe import LibrariesRecipe
from manifests.audio import read
from manifests.errors import AudioError, BuildError, RecipeError, StemloomError
from manifests.imports.songs import FoundSong
from manifests.recipes import make_recipe
from manifests.tables import read_table
from separators.baselines import CentreExtraction
from tests.builders.small_catalog import contents
from tests.manifests.imports.small_libraries import write_fma, write_fsd50k, write_librispeech, write_sound
from tests.synthesis import song

RATE = 44100
SUNG = "fma_medium/000/000002.mp3"
MIX = {
    "sample_rate": 16000,
    "channels": 1,
    "length_s": 1.0,
    "sources": {
        "speech": {"stems": "speech"},
        "music": {"stems": "music"},
        "foreground": {"target": "effects", "stems": ["foreground", "effects"]},
        "background": {"target": "effects", "stems": ["background", "effects"]},
    },
}


def centre(what: str) -> CentreExtraction:
    """Any separator with voices: none is asked for anything."""
    return CentreExtraction()


RECIPE: dict[str, Any] = {
    "libraries": {
        "speech": {"layout": "librispeech", "folder": "LibriSpeech"},
        "music": {"layout": "fma", "folder": "fma_medium"},
        "effects": {"layout": "fsd50k", "folder": "FSD50K"},
    },
    # whatever the separator finds is a voice: there is little that a small network could recognise in a second
    "clean": {"separator": "bundled:vocals", "stems": ["music"], "witness": "none", "voiced": 0, "faint_db": -80},
    "mixtures": {
        "dnr": {"mix": "mix.yaml", "splits": {"train": 2, "validation": 1, "test": 1}},
        "pseudo": {"mix": "cascade", "num": 1},
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries beside each other, and a recipe; not to be changed."""
    root = tmp_path_factory.mktemp("libraries")
    write_librispeech(root / "LibriSpeech", frames=16000)
    write_fma(root, frames=RATE)
    write_fsd50k(root / "FSD50K", frames=RATE // 2)
    instrumental, vocals = song(np.random.default_rng(4), 1.0, RATE)
    write_sound(root / SUNG, 0.5 * (instrumental + vocals), RATE)
    (root / "mix.yaml").write_text(yaml.safe_dump(MIX, sort_keys=False))
    (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    return root


def recipe(**changes: Any) -> LibrariesRecipe:
    return make_recipe({**RECIPE, **changes}, "recipe", LibrariesRecipe)


def builder(root: Path, out: Path, **fields: Any) -> LibrariesBuilder:
    settings = {"recipe": recipe(), "jobs": 0, **fields}
    return LibrariesBuilder(out, root=root, **settings)


def test_libraries_become_mixtures_of_cleaned_sounds(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    loaded, folder = load_libraries(root / "recipe.yaml")
    assert folder == root
    built = builder(folder, tmp_path, recipe=loaded).build()
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")} == {
        "libraries/speech", "libraries/music", "libraries/effects", "cleaned/music", "mixtures/dnr",
        "mixtures/pseudo",
    }  # fmt: skip
    for corpus in (*built.cleaned.values(), *built.mixtures.values()):
        assert check_build(corpus.folder) == []

    music, cleaned = built.imported["music"], built.cleaned["music"]
    (sung,) = (row["song_id"] for row in music.stems.to_dict("records") if row["artist"] == "AWOL")
    row = cleaned.song(sung)["music"]
    assert row["provenance"] == "cleaned"
    removed, _ = read(cleaned.folder / "removed" / sung / "music.flac")
    before, after = (read(each.path_of(each.song(sung)["music"]))[0] for each in (music, cleaned))
    np.testing.assert_allclose(after + removed, before, atol=2**-23)
    assert np.abs(removed).max() > 0.001

    events = read_table(built.mixtures["dnr"].folder, "mixtures")
    assert set(events.groupby("mixture_id")["source"].agg(frozenset)) == {frozenset(MIX["sources"])}
    of_music = events[events["root"] == "music"]
    assert len(of_music) == 4
    assert {(cleaned.folder / path).is_file() for path in of_music["path"]} == {True}
    assert set(of_music.loc[of_music["split"] == "train", "path"]) == {row["path"]}
    for name, corpus in {**built.imported, **built.cleaned}.items():
        splits = dict(zip(corpus.stems["path"], corpus.stems["split"], strict=True))
        drawn = events[events["root"] == name]
        assert [splits[path] for path in drawn["path"]] == list(drawn["split"])

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("does its work again")

    first = contents(tmp_path)
    monkeypatch.setattr(imports, "take_song", fail)
    monkeypatch.setattr(stem_cleaning, "hear_stem", fail)
    monkeypatch.setattr(mixtures, "_written", fail)
    again = builder(folder, tmp_path, recipe=loaded).build()
    assert contents(tmp_path) == first
    assert [name for name, _ in again.lines()] == [
        "library speech", "library music", "library effects", "cleaned music", "mixtures dnr", "mixtures pseudo"
    ]  # fmt: skip
    assert again.lines()[2][1] == "6 songs (0.00 h), 2 rejected"
    assert again.lines()[4][1].startswith("4 mixtures")


def test_without_cleaning_mixtures_are_of_what_was_imported(root: Path, tmp_path: Path) -> None:
    built = builder(root, tmp_path, recipe=recipe(clean=None), limit=1).build()
    assert not built.cleaned
    assert not (tmp_path / "cleaned").exists()
    music = built.imported["music"]
    events = read_table(built.mixtures["dnr"].folder, "mixtures")
    assert set(events.loc[events["root"] == "music", "path"]) <= set(music.stems["path"])


def test_a_few_songs_are_of_every_split_and_kind() -> None:
    found = [
        FoundSong(f"{split}/{number}", {stem: ()}, split=split)
        for split in ("dev", "test", "train")
        for number, stem in enumerate("aaab")
    ]
    assert [song.path for song in first_songs(found, 2)] == [
        f"{split}/{number}" for split in ("dev", "test", "train") for number in (0, 1, 3)
    ]
    assert first_songs(found, None) == first_songs(found, 3) == found
    with pytest.raises(RecipeError, match="limit is 0"):
        first_songs(found, 0)


def test_a_trial_has_a_folder_of_its_own(root: Path, tmp_path: Path) -> None:
    settings = recipe(clean=None, mixtures={"dnr": {"mix": "mix.yaml", "splits": {"train": 5, "test": 5}}})
    built = builder(root, tmp_path, recipe=settings, limit=1).build()
    songs = {name: len(corpus.songs()) for name, corpus in built.imported.items()}
    assert songs == {"speech": 3, "music": 3, "effects": 6}
    assert built.mixtures["dnr"].stems.groupby("split")["song_id"].nunique().to_dict() == {"train": 1, "test": 1}
    with pytest.raises(
        BuildError, match=r"library 'speech': .*was built with limit '1', and this is None; use the"
    ):
        builder(root, tmp_path, recipe=settings).build()


def changed(part: str, name: str, **fields: Any) -> dict[str, Any]:
    return {part: {**RECIPE[part], name: {**RECIPE[part][name], **fields}}}


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        (
            changed("libraries", "music", folder="fma_large"),
            AudioError,
            "library 'music': .*fma_large: is no folder",
        ),
        (
            changed("libraries", "music", folder="FSD50K"),
            RecipeError,
            "library 'music': .*FSD50K: holds no track such as",
        ),
        (
            changed("libraries", "music", metadata="lost.csv"),
            RecipeError,
            "library 'music': .*lost.csv: there is no",
        ),
        (
            {"clean": {"separator": "bundled:vocals", "stems": ["musik"]}},
            RecipeError,
            r"field 'clean.stems' names 'musik' \(did you mean 'music'\?\): the libraries have background, foreg",
        ),
        (
            {"clean": {"separator": "bundled:voices", "stems": ["music"]}},
            RecipeError,
            "no network 'voices' comes with",
        ),
        (
            {"clean": {"separator": "baseline:identity=a,b", "stems": ["music"]}},
            RecipeError,
            "gives a, b, no voice by its name",
        ),
        (changed("mixtures", "dnr", mix="umx"), RecipeError, "mixtures 'dnr': recipe: its targets are"),
        (changed("mixtures", "dnr", mix="lost.yaml"), RecipeError, "mixtures 'dnr': .*lost.yaml: cannot be read"),
        (
            changed("mixtures", "dnr", mix="dnr-v4"),
            RecipeError,
            "mixtures 'dnr': there is no ready recipe 'dnr-v4'",
        ),
        (
            changed("mixtures", "dnr", splits={"train": 1, "dev": 1}),
            RecipeError,
            "mixtures 'dnr': source 'speech' is taken from speech of split dev, and the libraries have nothing",
        ),
        (
            {"libraries": {"speech": RECIPE["libraries"]["speech"]}, "clean": None},
            RecipeError,
            "mixtures 'dnr': source 'music' is taken from music of split train, and the libraries have speech",
        ),
    ],
)
def test_nothing_is_written_before_all_was_looked_at(
    root: Path, tmp_path: Path, changes: dict[str, Any], kind: type[StemloomError], said: str
) -> None:
    for run in (LibrariesBuilder.plan, LibrariesBuilder.build):
        with pytest.raises(kind, match=said):
            run(builder(root, tmp_path / "out", recipe=recipe(**changes)))
    assert not (tmp_path / "out").exists()


def test_a_library_that_has_nothing_to_give_fails_with_its_name(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "FSD50K", tmp_path / "in" / "FSD50K")
    for path in (tmp_path / "in" / "FSD50K").rglob("*.wav"):
        if path.stem not in ("64760", "209"):
            path.unlink()
    libraries = {"effects": {"layout": "fsd50k", "folder": str(tmp_path / "in")}}
    settings = recipe(libraries=libraries, clean=None, mixtures={})
    with pytest.raises(
        AudioError, match=r"library 'effects': .*in: there is nothing to be taken, and 8 left out \(fi"
    ):
        builder(root, tmp_path / "out", recipe=settings).build()
    assert not (tmp_path / "out").exists()


def test_a_build_does_not_lie_in_a_library(root: Path) -> None:
    with pytest.raises(BuildError, match=r"library 'effects': .*lies in .*FSD50K, which is imported"):
        builder(root, root / "FSD50K" / "out").plan()


def test_libraries_may_lie_in_one_folder(root: Path, tmp_path: Path) -> None:
    together = {name: {**each, "folder": "."} for name, each in RECIPE["libraries"].items()}
    apart, found = (
        builder(root, tmp_path / "out", recipe=recipe(**changes), load=centre).plan()
        for changes in ({}, {"libraries": together})
    )
    assert {name: (library.songs, library.left_out) for name, library in found.items()} == {
        name: (library.songs, library.left_out) for name, library in apart.items()
    }


def test_a_plan_counts_what_is_there(root: Path, tmp_path: Path) -> None:
    plan = builder(root, tmp_path / "out", load=centre).plan()
    assert plan["speech"].songs == {("speech", "train"): 3, ("speech", "validation"): 1, ("speech", "test"): 1}
    assert plan["effects"].songs[("background", "test")] == 1
    assert (plan["effects"].left_out, plan["music"].folder) == (2, root / "fma_medium")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"libraries": {}}, "field 'libraries'"),
        ({"libraries": {"a/b": RECIPE["libraries"]["music"]}}, "a/b"),
        (changed("libraries", "music", layuot="fma"), "unknown field 'layuot'; did you mean 'layout'?"),
        (
            changed("libraries", "music", labels="ignore"),
            "'labels' is 'ignore', and layout 'fma' has no use for it",
        ),
        (changed("mixtures", "dnr", num=3), "field 'num' is 3, and 'splits' says how many"),
        ({"cleen": None}, "unknown field 'cleen'; did you mean 'clean'?"),
    ],
)
def test_a_wrong_field_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(**changes)
    assert said in str(error.value)


def test_ready_recipes_have_the_numbers_of_their_papers() -> None:
    assert libraries_names() == ["dnr-v2", "dnr-v3"]
    numbers = {"dnr-v2": (3406, 487, 973), "dnr-v3": (6000, 600, 1200)}
    for name, expected in numbers.items():
        loaded, root = load_libraries(name)
        (mixed,) = loaded.mixtures.values()
        assert mixed.splits is not None
        assert (mixed.mix, tuple(mixed.splits.values()), root) == (name, expected, Path())
    with pytest.raises(RecipeError, match=r"no ready recipe of libraries 'dnr-v22' \(did you mean 'dnr-v2'\?\)"):
        load_libraries("dnr-v22")


@pytest.mark.parametrize("name", ["dnr-v2", "dnr-v3"])
def test_ready_recipes_fit_libraries_as_they_are_unpacked(root: Path, tmp_path: Path, name: str) -> None:
    loaded, _ = load_libraries(name)
    plan = LibrariesBuilder(tmp_path / "out", loaded, root, load=centre).plan()
    stems = pd.Series([stem for library in plan.values() for stem, _ in library.songs])
    assert set(stems) == {"speech", "music", "foreground", "background"}
