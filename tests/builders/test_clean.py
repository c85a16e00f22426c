"""Corpora cleaned of voices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from builders.check import check_build
from builders.clean import CleanBuilder
from builders.curate import CurateBuilder
from builders.recipe import CleanRecipe, CurateRecipe
from manifests.audio import quantise, read
from manifests.corpus import Corpus
from manifests.errors import BuildError, RecipeError
from manifests.tables import frame_of, read_table, write_table
from tests.builders.small_corpora import RATE, write_corpus
from tests.separators.small_separators import Scaled
from tests.synthesis import pink_noise

STEP = round(0.32 * RATE)


@dataclass(frozen=True)
class Sides(Scaled):
    """What differs between the channels is the voice; `fault` says what goes wrong, in audio louder than 0.5."""

    sources: tuple[str, ...] = ("vocals", "accompaniment")
    name: str = "sides"
    sample_rate: int = RATE
    fault: str = ""
    asked: tuple[list[int], ...] = ([],)

    def stream(self, blocks):
        self.asked[0].append(1)
        for block in blocks:
            side = (block[0] - block[1]) / 2
            voice = np.stack([side, -side])
            is_loud = np.abs(block).max() > 0.5
            if is_loud and self.fault == "nan":
                voice = voice * np.float32(np.nan)
            if is_loud and self.fault == "interrupt":
                raise KeyboardInterrupt
            if is_loud and self.fault == "short":
                return
            yield np.stack([voice, block - voice])


def sides(**changes) -> Sides:
    return Sides(**{"asked": ([],), **changes})


def clean(separator=None, **recipe) -> tuple[Sides, CleanRecipe]:
    settings = {"stems": ("music",), "witness": "none", "voiced": 0.0, "margin_steps": 0, "pause_steps": 0}
    return separator or sides(), CleanRecipe(**{**settings, **recipe})


def music(seed: int, steps: int = 10, level: float = 0.1) -> np.ndarray:
    mono = pink_noise(np.random.default_rng(seed), 1, steps * STEP)[0]
    return np.stack([mono, mono]).astype(np.float32) * np.float32(level / np.abs(mono).max())


def with_voice(stem: np.ndarray, first: int, last: int, level: float = 0.03) -> np.ndarray:
    """A voice, as `Sides` takes it, from one step to before another."""
    voice = np.random.default_rng(9).standard_normal(stem.shape[1]).astype(np.float32) * np.float32(level)
    voice[: first * STEP] = 0
    voice[last * STEP :] = 0
    return stem + np.stack([voice, -voice])


def song(stem: np.ndarray) -> dict[str, np.ndarray]:
    speech = 0.1 * music(77, stem.shape[1] // STEP)
    parts = {"music": quantise(stem), "speech": quantise(speech)}
    return {**parts, "mixture": parts["music"] + parts["speech"]}


@pytest.fixture
def source(tmp_path: Path) -> Corpus:
    tainted = with_voice(music(1), 3, 6, level=0.005)
    ruined = with_voice(music(2, level=0.001), 1, 10, level=0.1)
    partly = with_voice(with_voice(music(3, level=0.02), 2, 4, level=0.001), 6, 8, level=0.2)
    songs = [("pure", music(0)), ("tainted", tainted), ("ruined", ruined), ("partly", partly)]
    return write_corpus(tmp_path / "corpus", [(name, song(stem)) for name, stem in songs])


def test_a_stem_loses_its_voice_and_nothing_else(tmp_path: Path, source: Corpus) -> None:
    separator, recipe = clean(fade_s=0.01)
    corpus = CleanBuilder(tmp_path / "clean", separator, recipe).build(source.folder)
    before, after = (read(c.path_of(c.song("tainted")["music"]))[0] for c in (source, corpus))
    removed, _ = read(tmp_path / "clean" / "removed" / "tainted" / "music.flac")
    np.testing.assert_array_equal(after + removed, before)
    inside = slice(3 * STEP, 6 * STEP)
    np.testing.assert_allclose(after[0, inside], after[1, inside], atol=2e-7)
    away = np.r_[0 : 3 * STEP - 160, 6 * STEP + 160 : before.shape[1]]
    np.testing.assert_array_equal(after[:, away], before[:, away])
    row = corpus.song("tainted")["music"]
    assert row["provenance"] == "cleaned"
    assert row["method"] == f"sides {separator.identity}"
    assert json.loads(row["parents"]) == ["tainted/music"]
    assert row["rms"] == pytest.approx(np.sqrt(np.mean(after.astype(np.float64) ** 2)), rel=1e-6)
    assert corpus.song("tainted")["speech"]["provenance"] == source.song("tainted")["speech"]["provenance"]


def test_the_mixture_loses_it_too(tmp_path: Path, source: Corpus) -> None:
    corpus = CleanBuilder(tmp_path / "clean", *clean()).build(source.folder)
    for song_id in corpus.songs():
        parts = {stem: read(corpus.path_of(row))[0] for stem, row in corpus.song(song_id).items()}
        np.testing.assert_allclose(parts["mixture"], parts["music"] + parts["speech"], atol=2e-7)
    assert check_build(tmp_path / "clean") == []


def test_stems_without_voices_are_linked(tmp_path: Path, source: Corpus) -> None:
    corpus = CleanBuilder(tmp_path / "clean", *clean()).build(source.folder)
    for stem in ("music", "speech", "mixture"):
        paths = [c.path_of(c.song("pure")[stem]) for c in (source, corpus)]
        assert paths[0].samefile(paths[1])
    assert not (tmp_path / "clean" / "removed" / "pure").exists()


def test_what_is_too_far_gone_leaves_with_its_reason(tmp_path: Path, source: Corpus) -> None:
    corpus = CleanBuilder(tmp_path / "clean", *clean()).build(source.folder)
    assert corpus.songs() == ["pure", "tainted", "partly"]
    (row,) = corpus.rejected.to_dict("records")
    assert (row["path"], row["reason"]) == ("ruined/music", "too much voice")
    assert "what is left would be damaged: 90 % of it" in row["detail"]


def test_damaged_parts_are_in_no_clip(tmp_path: Path, source: Corpus) -> None:
    corpus = CleanBuilder(tmp_path / "clean", *clean(min_clip_s=0.7)).build(source.folder)
    spans = {
        song_id: [
            (int(row.start_frame) // STEP, int(row.start_frame + row.num_frames) // STEP)
            for row in rows.itertuples()
        ]
        for song_id, rows in corpus.clips.groupby("song_id")
    }
    assert spans == {"pure": [(0, 10)], "tainted": [(0, 10)], "partly": [(0, 6)]}


def test_clips_of_the_source_stay_where_nothing_is_damaged(tmp_path: Path, source: Corpus) -> None:
    rows = [
        {"clip_id": f"{name}{start}", "song_id": name, "start_frame": start * STEP, "num_frames": 5 * STEP}
        for name in source.songs()
        for start in (0, 5)
    ]
    write_table(source.folder, "clips", frame_of("clips", rows))
    corpus = CleanBuilder(tmp_path / "clean", *clean()).build(source.folder)
    assert sorted(corpus.clips["clip_id"]) == ["partly0", "pure0", "pure5", "tainted0", "tainted5"]


def test_what_was_found_is_in_a_table(tmp_path: Path, source: Corpus) -> None:
    CleanBuilder(tmp_path / "clean", *clean()).build(source.folder)
    table = read_table(tmp_path / "clean", "cleaned").set_index("song_id")
    assert table["verdict"].to_dict() == {
        "partly": "cleaned",
        "pure": "kept",
        "ruined": "dropped",
        "tainted": "cleaned",
    }
    assert json.loads(table.loc["tainted", "cleaned"]) == [[3 * STEP, 6 * STEP]]
    assert json.loads(table.loc["partly", "damaged"]) == [[6 * STEP, 8 * STEP]]
    assert table["removed_path"].dropna().to_dict() == {
        name: f"removed/{name}/music.flac" for name in ("partly", "tainted")
    }
    assert table.loc["tainted", "cleaned_fraction"] == pytest.approx(0.3)


@pytest.mark.parametrize("fault", ["nan", "short"])
def test_a_separator_that_fails_costs_its_song_only(tmp_path: Path, source: Corpus, fault: str) -> None:
    loud = write_corpus(tmp_path / "loud", [("pure", song(music(0))), ("loud", song(music(1, level=0.9)))])
    corpus = CleanBuilder(tmp_path / "clean", *clean(sides(fault=fault))).build(loud.folder)
    assert corpus.songs() == ["pure"]
    (row,) = corpus.rejected.to_dict("records")
    assert (row["path"], row["reason"]) == ("loud/music", "not cleaned")


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    songs = [("a", song(with_voice(music(0), 2, 4))), ("b", song(music(1, level=0.9)))]
    loud = write_corpus(tmp_path / "loud", songs)
    with pytest.raises(KeyboardInterrupt):
        CleanBuilder(tmp_path / "clean", *clean(sides(fault="interrupt"))).build(loud.folder)
    assert not (tmp_path / "clean" / "stems.parquet").exists()
    again = sides()
    corpus = CleanBuilder(tmp_path / "clean", *clean(again)).build(loud.folder)
    assert len(again.asked[0]) == 1
    assert corpus.songs() == ["a", "b"]
    assert corpus.song("a")["music"]["provenance"] == "cleaned"


def test_the_work_of_another_separator_or_recipe_is_refused(tmp_path: Path, source: Corpus) -> None:
    CleanBuilder(tmp_path / "clean", *clean(), limit=1).build(source.folder)
    with pytest.raises(BuildError, match="the work of sides, and this is other"):
        CleanBuilder(tmp_path / "clean", *clean(sides(name="other", factors=(0.5, 0.5)))).build(source.folder)
    with pytest.raises(BuildError, match="faint_db"):
        CleanBuilder(tmp_path / "clean", *clean(faint_db=-20.0)).build(source.folder)
    with pytest.raises(BuildError, match="choose a folder beside the corpus"):
        CleanBuilder(source.folder / "clean", *clean()).build(source.folder)


def test_what_does_not_fit_is_refused_before_any_work(tmp_path: Path, source: Corpus) -> None:
    with pytest.raises(RecipeError, match=r"names 'musik' .did you mean 'music'"):
        CleanBuilder(tmp_path / "clean", *clean(stems=("musik",))).build(source.folder)
    with pytest.raises(RecipeError, match="no voice by its name; name it in 'voices'"):
        CleanBuilder(tmp_path / "clean", *clean(sides(sources=("a", "b")))).build(source.folder)
    with pytest.raises(RecipeError, match="names 'c'"):
        CleanBuilder(tmp_path / "clean", *clean(voices=("c",))).build(source.folder)
    assert not (tmp_path / "clean").exists()


def test_a_witness_that_hears_nothing_keeps_everything(tmp_path: Path, source: Corpus) -> None:
    corpus = CleanBuilder(tmp_path / "clean", *clean(witness="either", voiced=0.9999, certain=0.9999)).build(
        source.folder
    )
    assert len(corpus.songs()) == 4
    assert "cleaned" not in set(corpus.stems["provenance"])


class Inverse(Sides):
    """Takes what is louder afterwards for the rest."""

    def stream(self, blocks):
        for block in blocks:
            yield np.stack([-block / 2, block * 1.5])


def test_parts_sum_to_the_bit_at_full_scale_too(tmp_path: Path) -> None:
    parts = {"music": quantise(music(0, level=0.9)), "speech": quantise(music(3, level=0.01))}
    source = write_corpus(tmp_path / "loud", [("a", parts)])
    corpus = CleanBuilder(tmp_path / "clean", *clean(Inverse(asked=([],)), damaged_db=1.0)).build(source.folder)
    cleaned = corpus.load(corpus.song("a")["music"])
    removed, _ = read(tmp_path / "clean" / corpus.cleaned["removed_path"].iloc[0])
    assert cleaned.max() == 1 - 2**-15, "nothing is at full scale"
    np.testing.assert_array_equal(cleaned.astype(np.float64) + removed, source.load(source.song("a")["music"]))


def test_what_came_to_nothing_may_be_tried_otherwise(tmp_path: Path) -> None:
    ruined = write_corpus(tmp_path / "r", [("a", song(with_voice(music(0), 0, 9, level=0.2)))])
    with pytest.raises(BuildError, match="loosen the limits"):
        CleanBuilder(tmp_path / "clean", *clean()).build(ruined.folder)
    corpus = CleanBuilder(tmp_path / "clean", *clean(max_dropped=1.0)).build(ruined.folder)
    assert corpus.songs() == ["a"]
    with pytest.raises(BuildError, match="max_dropped"):
        CleanBuilder(tmp_path / "clean", *clean(max_dropped=0.9)).build(ruined.folder)


def test_a_curation_cuts_no_clip_where_a_cleaning_found_damage(tmp_path: Path, source: Corpus) -> None:
    CleanBuilder(tmp_path / "clean", *clean()).build(source.folder)
    recipe = CurateRecipe(min_grade="D", clip_s=0.64, shares={"train": 1.0})
    curated = CurateBuilder(tmp_path / "curated", recipe, jobs=0).build(tmp_path / "clean")
    assert check_build(tmp_path / "clean") == []
    assert check_build(tmp_path / "curated") == []
    spans = curated.clips[curated.clips["song_id"] == "partly"]
    assert len(spans)
    assert not ((spans["start_frame"] < 8 * STEP) & (spans["start_frame"] + spans["num_frames"] > 6 * STEP)).any()
    assert curated.cleaned["removed_path"].isna().all()
    assert set(curated.cleaned["song_id"]) == set(curated.songs())
    dropped = json.loads((tmp_path / "curated" / "run.json").read_text())["clips"]["dropped"]
    assert dropped["damaged, as a cleaning found"] >= 1
