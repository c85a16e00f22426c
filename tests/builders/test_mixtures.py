"""Static sets of mixtures: they are what the plans say, and sum to the last bit."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from augment.dataset import MixtureDataset
from augment.pool import make_pool
from augment.recipe import MixRecipe
from augment.render import render
from builders.check import check_build
from builders.mixtures import MixtureBuilder
from builders.recipe import MixtureRecipe
from manifests.audio import Audio, read
from manifests.corpus import Corpus
from manifests.crops import CropReader
from manifests.errors import RecipeError
from manifests.loudness import loudness_lufs
from manifests.tables import read_table, write_table
from tests.builders.small_mixtures import (
    FRAMES,
    RATE,
    build_mixtures,
    bytes_of,
    mix_recipe,
    noise,
    plans_in,
    run_of,
    sound_corpus,
    sound_rows,
    split_corpus,
)
from tests.manifests.exports.small_corpus import files_of, write_song, write_tables

GRID = 2.0**-23


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sounds of each kind; not to be changed."""
    return sound_corpus(tmp_path_factory.mktemp("corpora") / "sounds").folder


@pytest.fixture(scope="module")
def built(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 6 mixtures of them; not to be changed."""
    return build_mixtures(tmp_path_factory.mktemp("built") / "set", sounds).folder


def audio_of(corpus: Corpus, mixture_id: str) -> dict[str, Audio]:
    return {stem: read(corpus.path_of(row))[0] for stem, row in corpus.song(mixture_id).items()}


# what is written


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_set_is_what_the_dataset_streams(sounds: Path, tmp_path: Path, epoch: int) -> None:
    mix = mix_recipe()
    splits = {"a": 3, "b": 4}
    if epoch:  # splits are epochs, in the order of their names
        rows = [row for n, split in enumerate(splits) for row in three(tmp_path / "sounds", 3 * n, split)]
        sounds = write_tables(tmp_path / "sounds", rows).folder
        mix_b = mix_recipe(sources=limited(mix, "b"))
        corpus = build_mixtures(tmp_path / "set", sounds, splits=splits, seed=5)
    else:
        mix_b = mix
        corpus = build_mixtures(tmp_path / "set", sounds, num=4, seed=5)
    data = MixtureDataset(
        mix_b, make_pool(mix_b, {"sounds": Corpus.open(sounds)}), seed=5, length=4, with_plan=True
    )
    data.set_epoch(epoch)
    written = {plan.mixture_id: plan for plan in plans_in(corpus.folder)}
    for mixture, targets, plan in data:
        assert written[plan.mixture_id] == plan
        audio = audio_of(corpus, plan.mixture_id)
        gain = 10 ** (corpus.song(plan.mixture_id)["mixture"]["gain_db"] / 20)
        for name, target in zip(plan.targets, targets.numpy(), strict=True):
            assert np.abs(audio[name] - gain * target).max() <= 0.51 * GRID
        assert np.abs(audio["mixture"] - gain * mixture.numpy()).max() <= 3 * 0.51 * GRID


def three(folder: Path, first: int, split: str) -> list[dict[str, Any]]:
    return [
        row
        for kind in ("speech", "music", "effects")
        for row in sound_rows(folder, kind, 3, first=first, split=split)
    ]


def limited(mix: MixRecipe, split: str) -> dict[str, Any]:
    """The recipe's sources, of one split."""
    return {
        name: source.model_dump(exclude_unset=True) | {"splits": [split]} for name, source in mix.sources.items()
    }


@pytest.mark.parametrize("bit_depth", [16, 24])
@pytest.mark.parametrize("loud_db", [-10.0, 30.0])
def test_each_mixture_is_the_sum_of_its_stems_to_the_last_bit(
    sounds: Path, tmp_path: Path, bit_depth: int, loud_db: float
) -> None:
    sources = {
        f"part{n}": {"stems": kind, "gain_db": loud_db} for n, kind in enumerate(("speech", "music", "effects"))
    }
    corpus = build_mixtures(tmp_path, sounds, mix_recipe(sources=sources), num=3, bit_depth=bit_depth)
    grid = 2.0 ** (bit_depth - 1)
    for song in corpus.songs():
        whole = {stem: np.round(audio.astype(np.float64) * grid) for stem, audio in audio_of(corpus, song).items()}
        mixture = whole.pop("mixture")
        assert np.array_equal(mixture, sum(whole.values()))
        assert max(np.abs(audio).max() for audio in (mixture, *whole.values())) <= 0.9995 * grid
        gain_db = {row["gain_db"] for row in corpus.song(song).values()}
        assert len(gain_db) == 1
        assert (gain_db.pop() < -1) == (loud_db > 0)


def test_parts_that_cancel_beyond_full_scale_still_sum_to_the_last_bit(tmp_path: Path) -> None:
    # two and two parts that undo each other: on the way to their sum, the sum is beyond 2
    loud = noise(1, rms=0.25)
    loud *= np.float32(0.98) / np.abs(loud).max()
    parts = {"a": loud, "b": loud, "c": loud, "d": -loud, "e": -loud}
    rows = [
        row
        for name, audio in parts.items()
        for row in write_song(tmp_path / "in", name, {name: audio}, rate=RATE, provenance="recorded")
    ]
    write_tables(tmp_path / "in", rows)
    mix = mix_recipe(sources={name: {"stems": name} for name in parts}, length_s=FRAMES / RATE)
    corpus = build_mixtures(tmp_path / "set", tmp_path / "in", mix, num=1)
    (song,) = corpus.songs()
    whole = {stem: np.round(audio.astype(np.float64) / GRID) for stem, audio in audio_of(corpus, song).items()}
    assert np.array_equal(whole.pop("mixture"), sum(whole.values()))
    assert np.abs(whole["a"] + whole["b"] + whole["c"]).max() > 2 / GRID


def test_check_finds_all_well(built: Path) -> None:
    assert check_build(built) == []


def test_check_misses_the_table_of_mixtures(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "set")
    (tmp_path / "set" / "mixtures.parquet").unlink()
    assert any("mixtures" in problem for problem in check_build(tmp_path / "set"))


def test_check_compares_the_table_of_mixtures_with_the_stems(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "set")
    table = read_table(built, "mixtures")
    table = table[table["mixture_id"] != "0-0000-00000002"].replace("0-0000-00000003", "0-0000-00000009")
    write_table(tmp_path / "set", "mixtures", table)
    problems = check_build(tmp_path / "set")
    assert [re.findall(r"'(\S+)'", problem)[0] for problem in problems] == [
        "0-0000-00000002",
        "0-0000-00000003",
        "0-0000-00000009",
    ]


def test_the_mixtures_table_replays_to_the_written_audio(built: Path, sounds: Path) -> None:
    corpus = Corpus.open(built)
    plans = plans_in(built)
    assert len(plans) == 6
    with CropReader({"sounds": sounds}) as reader:
        for plan in plans:
            again = render(plan, reader)
            gain = 10 ** (corpus.song(plan.mixture_id)["mixture"]["gain_db"] / 20)
            audio = audio_of(corpus, plan.mixture_id)
            for name, target in zip(again.names, again.targets, strict=True):
                assert np.abs(audio[name] - gain * target).max() <= 0.51 * GRID


def test_rows_of_the_stems_say_what_the_files_are(built: Path) -> None:
    corpus = Corpus.open(built)
    assert corpus.songs() == [f"0-0000-{index:08d}" for index in range(6)]
    for song in corpus.songs():
        rows = corpus.song(song)
        assert list(rows) == ["mixture", "effects", "music", "speech"]
        for stem, row in rows.items():
            audio = read(corpus.path_of(row))[0]
            assert (row["channels"], row["num_frames"], row["sample_rate"]) == (*audio.shape, RATE)
            assert (row["provenance"], row["audit"], row["split"]) == ("mixed", "unheard", None)
            assert row["path"] == f"audio/{song}/{stem}.flac"
            if audio.any():
                assert row["loudness_lufs"] == pytest.approx(loudness_lufs(audio, RATE))
            else:
                assert row["loudness_lufs"] is None


def test_parents_are_the_songs_that_each_target_is_made_of(built: Path) -> None:
    corpus = Corpus.open(built)
    for plan in plans_in(built):
        rows = corpus.song(plan.mixture_id)
        for target in plan.targets:
            made_of = {event.song_id for event in plan.events if event.target == target}
            assert set((rows[target]["parents"] or "").split(";")) - {""} == made_of
        assert set(rows["mixture"]["parents"].split(";")) == {event.song_id for event in plan.events}


def test_loudness_of_events_is_as_they_were_added(built: Path, sounds: Path) -> None:
    table = read_table(built, "mixtures")
    told = table[table["path"].notna()]["loudness_lufs"].tolist()
    heard: list[float] = []
    with CropReader({"sounds": sounds}) as reader:
        for plan in plans_in(built):
            render(plan, reader, heard=lambda event, audio: heard.append(loudness_lufs(audio, RATE)))
    assert len(told) == len(heard) > 6
    for said, true in zip(told, heard, strict=True):
        assert said == pytest.approx(true) if true > -70 else pd.isna(said)


def test_facts_of_the_sources_are_in_the_table(built: Path) -> None:
    table = read_table(built, "mixtures")
    events = table[table["path"].notna()]
    assert set(events["target"]) == {"speech", "music", "effects"}
    known = {
        "speech": ("en", "hello there", "", ""),
        "music": ("", "", "rock", ""),
        "effects": ("", "", "", "dog; bark"),
    }
    for target, rows in events.groupby("target"):
        found = rows[["language", "transcript", "genre", "tags"]].fillna("").drop_duplicates().to_numpy().tolist()
        assert found == [list(known[str(target)])]
    assert table[table["path"].isna()]["tags"].isna().all()


def test_facts_are_those_of_the_corpus_that_a_source_is_from(tmp_path: Path) -> None:
    for number, language in enumerate(("en", "fr")):
        rows = sound_rows(tmp_path / language, "speech", 1, language=language, license=f"CC-BY-{number + 3}.0")
        write_tables(tmp_path / language, rows)  # both have a song speech0
    mix = mix_recipe(sources={"speech": {"stems": "speech"}})
    corpus = build_mixtures(tmp_path / "set", [tmp_path / "en", tmp_path / "fr"], mix, num=12)
    table = read_table(tmp_path / "set", "mixtures")
    assert set(table["root"]) == {"en", "fr"}
    assert (table["language"] == table["root"]).all()
    licenses = {corpus.song(row.mixture_id)["speech"]["license"]: row.root for row in table.itertuples()}
    assert licenses == {"CC-BY-3.0": "en", "CC-BY-4.0": "fr"}


# splits, length, channels, silence, cascades


def test_splits_take_songs_of_their_own_and_draw_different_mixtures(tmp_path: Path) -> None:
    corpora = split_corpus(tmp_path / "sounds").folder
    corpus = build_mixtures(tmp_path / "set", corpora, splits={"train": 5, "test": 3})
    table = read_table(tmp_path / "set", "mixtures")
    songs = {split: set(rows["song_id"].dropna()) for split, rows in table.groupby("split")}
    assert {name[-1] for name in songs["train"]} <= set("012")
    assert {name[-1] for name in songs["test"]} <= set("34")
    counted = corpus.stems[corpus.stems["stem"] == "mixture"]["split"].value_counts()
    assert counted.to_dict() == {"train": 5, "test": 3}
    assert set(table["epoch"].groupby(table["split"]).first()) == {0, 1}
    gains = {split: set(rows["gain_db"].dropna()) - {0.0} for split, rows in table.groupby("split")}
    assert not gains["train"] & gains["test"]
    assert check_build(tmp_path / "set") == []


def test_the_order_of_splits_and_of_corpora_does_not_matter(tmp_path: Path) -> None:
    one = split_corpus(tmp_path / "one").folder
    two = split_corpus(tmp_path / "two").folder
    build_mixtures(tmp_path / "set", [one, two], splits={"train": 2, "test": 3})
    build_mixtures(tmp_path / "other", [two, one], splits={"test": 3, "train": 2})
    assert bytes_of(tmp_path / "set") == bytes_of(tmp_path / "other")


def test_a_split_without_songs_is_refused(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="split"):
        build_mixtures(tmp_path / "set", sounds, splits={"validation": 2})
    assert not (tmp_path / "set").exists()


def test_a_source_that_names_its_splits_keeps_them(tmp_path: Path) -> None:
    corpora = split_corpus(tmp_path / "sounds").folder
    sources = {"speech": {"stems": "speech"}, "effects": {"stems": "effects", "splits": "train"}}
    build_mixtures(tmp_path / "set", corpora, mix_recipe(sources=sources), splits={"test": 6})
    table = read_table(tmp_path / "set", "mixtures")
    assert {name[-1] for name in table[table["target"] == "speech"]["song_id"]} <= set("34")
    assert {name[-1] for name in table[table["target"] == "effects"]["song_id"]} <= set("012")


def test_mixtures_of_one_channel(sounds: Path, tmp_path: Path) -> None:
    corpus = build_mixtures(tmp_path, sounds, mix_recipe(channels=1), num=2)
    assert set(corpus.stems["channels"]) == {1}
    assert check_build(tmp_path) == []


def test_mixtures_as_long_as_their_shortest_source(tmp_path: Path) -> None:
    rows = sound_rows(tmp_path / "in", "speech", 1, frames=5000) + sound_rows(
        tmp_path / "in", "music", 1, frames=4100
    )
    write_tables(tmp_path / "in", rows)
    mix = mix_recipe(sources={"speech": {"stems": "speech"}, "music": {"stems": "music"}}, length_s="shortest")
    corpus = build_mixtures(tmp_path / "set", tmp_path / "in", mix, num=2)
    assert set(corpus.stems["num_frames"]) == {4100}


def test_a_target_without_sources_is_silent(sounds: Path, tmp_path: Path) -> None:
    sources = {"speech": {"stems": "speech"}, "music": {"stems": "music", "silence": 1.0}}
    corpus = build_mixtures(tmp_path, sounds, mix_recipe(sources=sources), num=2)
    for song in corpus.songs():
        audio = audio_of(corpus, song)
        assert not audio["music"].any()
        assert np.array_equal(audio["mixture"], audio["speech"])
        row = corpus.song(song)["music"]
        assert (row["rms"], row["loudness_lufs"], row["active_fraction"]) == (0.0, None, 0.0)
        assert row["license"] == "CC-BY-4.0"  # it is of no recording, and no reason to hold the mixture back
    assert check_build(tmp_path) == []


def test_mixtures_of_nothing_are_written_too(sounds: Path, tmp_path: Path) -> None:
    mix = mix_recipe(sources={"speech": {"stems": "speech", "silence": 1.0}}, min_sources=0)
    corpus = build_mixtures(tmp_path, sounds, mix, num=2)
    assert corpus.stems["rms"].eq(0).all()
    assert corpus.stems["license"].isna().all()
    assert run_of(tmp_path)["realised"]["sources"]["speech"] == {
        "count": {"nominal_mean": 0.0, "mean": 0.0},
        "histogram": {"0": 2},
        "loudness_lufs": {"mean": None, "std": None},
        "median_length_s": None,
    }


def test_a_cascade_by_oracle_leaves_the_target_out_of_everything(sounds: Path, tmp_path: Path) -> None:
    sources = {"speech": {"stems": "speech"}, "music": {"stems": "music"}}
    mix = mix_recipe(sources=sources, remove={"target": "speech"})
    corpus = build_mixtures(tmp_path, sounds, mix, num=2)
    assert set(corpus.stems["stem"]) == {"mixture", "music"}
    for song in corpus.songs():
        audio = audio_of(corpus, song)
        assert np.array_equal(audio["mixture"], audio["music"])
        assert corpus.song(song)["mixture"]["parents"] == corpus.song(song)["music"]["parents"]
    assert {"speech", "music"} == set(read_table(tmp_path, "mixtures")["target"])
    assert check_build(tmp_path) == []


def test_a_cascade_by_a_separator_is_refused(sounds: Path, tmp_path: Path) -> None:
    mix = mix_recipe(remove={"target": "speech", "by": "separator"})
    with pytest.raises(RecipeError, match=r"'remove\.by' is 'separator'.*rendered without one"):
        build_mixtures(tmp_path / "set", sounds, mix)
    assert not (tmp_path / "set").exists()


def test_a_cinematic_set_has_cinematic_targets(sounds: Path, tmp_path: Path) -> None:
    mix = mix_recipe(sources={"speech": {"stems": "speech"}, "vocals": {"stems": "music"}})
    with pytest.raises(RecipeError, match=r"targets are speech, vocals, .*'stemloom build universal'"):
        build_mixtures(tmp_path / "set", sounds, mix, kind="cinematic")
    assert not (tmp_path / "set").exists()
    corpus = build_mixtures(tmp_path / "set", sounds, kind="cinematic", num=1)
    assert run_of(corpus.folder)["builder"] == "cinematic"


# annotations, formats, licences


def test_annotations_are_jams_with_what_is_known_of_the_events(built: Path) -> None:
    table = read_table(built, "mixtures")
    assert files_of(built / "annotations") == sorted(f"{name}.jams" for name in set(table["mixture_id"]))
    for path in (built / "annotations").iterdir():
        jam = json.loads(path.read_text())
        (annotation,) = jam["annotations"]
        events = table[(table["mixture_id"] == path.stem) & table["path"].notna()]
        labels = [row["value"]["label"] for row in annotation["data"]]
        assert Counter(labels) == Counter(events["tags"].fillna(events["stem"]))
        known = jam["sandbox"]["stemloom"]["events"]
        assert {fact.get("transcript") for fact in known if fact["target"] == "speech"} == {"hello there"}
        assert {fact["license"] for fact in known if fact["target"] == "speech"} == {"CC-BY-4.0"}


@pytest.mark.skipif(importlib.util.find_spec("jams") is None, reason="jams is not installed")
def test_annotations_are_read_by_the_package_jams(built: Path) -> None:
    import jams

    for path in (built / "annotations").iterdir():
        jam = jams.load(str(path), validate=True)
        assert jam.file_metadata.duration == 0.5
        assert jam.annotations[0].namespace == "scaper"


def test_annotations_are_left_out_on_request(sounds: Path, tmp_path: Path) -> None:
    build_mixtures(tmp_path, sounds, jams=False, num=2)
    assert not (tmp_path / "annotations").exists()
    assert check_build(tmp_path) == []


def test_tables_as_lines_of_json(built: Path, sounds: Path, tmp_path: Path) -> None:
    build_mixtures(tmp_path, sounds, table_format="jsonl")
    assert {name for name in files_of(tmp_path) if name.endswith(("parquet", "jsonl"))} == {
        "mixtures.jsonl",
        "rejected.jsonl",
        "stems.jsonl",
    }
    for name in ("stems", "mixtures"):
        pd.testing.assert_frame_equal(read_table(tmp_path, name), read_table(built, name))
    assert plans_in(tmp_path) == plans_in(built)
    assert check_build(tmp_path) == []


def test_a_mixture_has_the_licences_of_its_sources(built: Path) -> None:
    corpus = Corpus.open(built)
    names = {"speech": "CC-BY-4.0", "music": "CC-BY-4.0", "effects": "CC0-1.0"}
    found = set()
    for plan in plans_in(built):
        rows = corpus.song(plan.mixture_id)
        sounding = {event.target for event in plan.events}
        whole = "; ".join(sorted({names[target] for target in sounding}))
        assert rows["mixture"]["license"] == whole
        for target in plan.targets:
            assert rows[target]["license"] == (names[target] if target in sounding else whole)
        found.add(whole)
    assert "CC-BY-4.0; CC0-1.0" in found


def test_one_source_without_a_licence_leaves_the_mixture_without_one(tmp_path: Path) -> None:
    rows = sound_rows(tmp_path / "in", "speech", 1) + sound_rows(tmp_path / "in", "music", 1, license=None)
    write_tables(tmp_path / "in", rows)
    mix = mix_recipe(sources={"speech": {"stems": "speech"}, "music": {"stems": "music"}})
    rows_of = build_mixtures(tmp_path / "set", tmp_path / "in", mix, num=1).song("0-0000-00000000")
    assert {stem: row["license"] for stem, row in rows_of.items()} == {
        "mixture": None,
        "music": None,
        "speech": "CC-BY-4.0",
    }


def test_a_dry_run_tells_what_could_be_drawn(sounds: Path, tmp_path: Path) -> None:
    builder = MixtureBuilder(tmp_path / "set", "universal", mix_recipe(), MixtureRecipe())
    pools = builder.plan([sounds])
    assert {name: len(choice.table) for name, choice in pools[""].choices.items()} == {
        "speech": 3,
        "music": 3,
        "effects": 3,
    }
    assert not (tmp_path / "set").exists()
