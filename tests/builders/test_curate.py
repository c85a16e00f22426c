"""The curation: what is left out and why, splits, weights, clips, resuming, bad settings."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.check import check_build
from builders.curate import CurateBuilder
from builders.recipe import CurateRecipe
from manifests.corpus import Corpus
from manifests.errors import BuildError, RecipeError, TableError
from manifests.files import TEMPORARY_PREFIX
from manifests.loudness import loudness_lufs
from manifests.tables import read_table, write_table
from tests.builders.small_catalog import contents
from tests.builders.small_corpora import (
    RATE,
    curate,
    misaligned,
    other_choir,
    reasons,
    stems,
    unsung,
    whole,
    write_corpus,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six clean songs and one with each defect."""
    songs = [(f"s{number}", stems(number)) for number in range(6)]
    songs += [("shifted", misaligned(6)), ("unsung", unsung(7)), ("choir", other_choir(8))]
    return write_corpus(tmp_path_factory.mktemp("source"), songs)


@pytest.fixture(scope="module")
def curated(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return curate(corpus, tmp_path_factory.mktemp("curated"), shares={"train": 0.5, "test": 0.5})


def test_songs_with_defects_are_left_out_and_say_why(curated: Corpus) -> None:
    assert curated.songs() == [f"s{number}" for number in range(6)]
    assert reasons(curated) == dict.fromkeys(("choir", "shifted", "unsung"), "grade: grade D")
    assert curated.rejected is not None
    details = dict(zip(curated.rejected["id"], curated.rejected["detail"], strict=True))
    assert "accompaniment in the vocals" in details["shifted"]
    assert "no singing" in details["unsung"]
    assert "not in the mixture" in details["choir"]


def test_grades_and_reasons_are_in_the_stems_table(corpus: Corpus, tmp_path: Path) -> None:
    found = curate(corpus, tmp_path / "all", min_grade="D").stems.drop_duplicates("song_id").set_index("song_id")
    assert set(found.loc[["choir", "shifted", "unsung"], "grade"]) == {"D"}
    assert set(found.loc[["s0", "s1", "s2", "s3", "s4", "s5"], "grade"]) <= {"A", "B"}
    assert all(isinstance(json.loads(text), list) for text in found["reasons"])
    assert json.loads(found.loc["unsung", "reasons"])[0].startswith("D: no singing")


def test_a_curated_corpus_passes_the_check_and_shares_its_files(corpus: Corpus, curated: Corpus) -> None:
    assert check_build(curated.folder) == []
    for song_id in curated.songs():
        for stem, row in curated.song(song_id).items():
            source = corpus.path_of(corpus.song(song_id)[stem])
            assert curated.path_of(row).samefile(source)


def test_copies_share_nothing(corpus: Corpus, tmp_path: Path) -> None:
    copied = curate(corpus, tmp_path / "copied", audio="copy")
    path = copied.path_of(copied.song("s0")["vocals"])
    assert not path.samefile(corpus.path_of(corpus.song("s0")["vocals"]))
    assert check_build(copied.folder) == []


def test_genres_are_normalised_and_told_before_and_after(corpus: Corpus, curated: Corpus) -> None:
    run = json.loads((curated.folder / "run.json").read_text())
    assert set(curated.stems["genre"]) == {"rock", "pop", "hip-hop"}
    assert set(run["genres"]["before"]) == {"rock", "pop", "hip-hop"}
    hours = sum(run["genres"]["after"].values())
    assert hours == pytest.approx(run["hours"]["kept"])
    assert run["grades"]["D"] == 3


def test_every_second_has_curves(curated: Corpus) -> None:
    with np.load(curated.folder / "curves/s0.npz") as curves:
        assert {"rms_mixture", "rms_vocals", "voice_vocals", "voice_instrumental", "residue_db", "grade"} <= set(
            curves
        )
        lengths = {len(curves[name]) for name in curves}
    assert lengths == {12}


def test_the_level_curve_is_the_stems(curated: Corpus) -> None:
    audio = curated.load(("s0", "vocals"))
    second = audio[:, 3 * RATE : 4 * RATE]
    with np.load(curated.folder / "curves/s0.npz") as curves:
        assert curves["rms_vocals"][3] == pytest.approx(np.sqrt(np.square(second).sum(axis=0).mean()), rel=1e-4)


def test_clips_are_measured(curated: Corpus) -> None:
    clips = curated.clips
    assert clips is not None
    assert len(clips) == 6 * 4
    clip = clips[clips["song_id"] == "s1"].iloc[2]
    audio = curated.load(("s1", "instrumental"), int(clip["start_frame"]), int(clip["num_frames"]))
    assert clip["rms_instrumental"] == pytest.approx(np.sqrt(np.square(audio).sum(axis=0).mean()), rel=1e-3)
    assert clips["voiced_fraction"].between(0, 1).all()
    assert set(clips["split"]) == {"train", "test"}


def test_levels_that_the_source_has_not_are_filled_in(corpus: Corpus, curated: Corpus) -> None:
    assert corpus.stems["rms"].isna().all()
    row = curated.song("s0")["vocals"]
    audio = curated.load(row)
    assert row["rms"] == pytest.approx(np.sqrt(np.square(audio).mean()), rel=1e-4)
    assert row["loudness_lufs"] == pytest.approx(loudness_lufs(audio, RATE), abs=0.01)
    assert 0 < row["active_fraction"] <= 1


def test_the_same_audio_twice_stays_once(tmp_path: Path) -> None:
    songs = [("b", stems(1)), ("a", stems(1)), ("c", stems(2))]
    source = write_corpus(tmp_path / "source", songs)
    once = curate(source, tmp_path / "once")
    assert once.songs() == ["a", "c"]
    assert reasons(once) == {"b": "duplicates: same audio"}
    assert curate(source, tmp_path / "twice", duplicates="keep").songs() == ["b", "a", "c"]


def test_the_same_audio_by_two_artists_is_never_in_two_splits(tmp_path: Path) -> None:
    songs = [(f"{number}{copy}", stems(number)) for number in range(4) for copy in "ab"]
    source = write_corpus(tmp_path / "source", songs)
    kept = curate(source, tmp_path / "kept", duplicates="keep", shares={"train": 0.5, "test": 0.5})
    splits = kept.stems.drop_duplicates("song_id").set_index("song_id")["split"]
    assert all(splits[f"{number}a"] == splits[f"{number}b"] for number in range(4))
    assert set(splits) == {"train", "test"}
    assert check_build(kept.folder) == []


def test_the_check_finds_a_leak_between_splits(tmp_path: Path) -> None:
    rows = [("a", stems(1)), ("b", stems(1))]
    source = write_corpus(tmp_path / "source", rows)
    kept = curate(source, tmp_path / "kept", duplicates="keep")
    table = read_table(kept.folder, "stems")
    table.loc[table["song_id"] == "b", "split"] = "test"
    table.to_parquet(kept.folder / "stems.parquet")
    assert [problem for problem in check_build(kept.folder) if "nearly the same" in problem]


def test_what_must_stay_unseen_is_left_out_and_found_by_the_check(corpus: Corpus, tmp_path: Path) -> None:
    hidden = tmp_path / "test set"
    hidden.mkdir()
    source = corpus.path_of(corpus.song("s2")["mixture"])
    os.link(source, hidden / "other name.flac")
    seen = curate(corpus, tmp_path / "seen", unseen=(str(hidden),))
    assert "s2" not in seen.songs()
    assert reasons(seen)["s2"] == "unseen: must stay unseen"
    counts = json.loads((seen.folder / "run.json").read_text())["counts"]
    assert counts["hash"] == counts["inspect"] == {"in": 9, "kept": 9, "rejected": 0}
    assert counts["unseen"] == {"in": 6, "kept": 5, "rejected": 1}
    assert check_build(seen.folder, unseen=[hidden]) == []
    careless = curate(corpus, tmp_path / "careless")
    (problem,) = check_build(careless.folder, unseen=[hidden])
    assert "song 's2'" in problem
    assert "other name.flac" in problem


def test_gates_leave_out_songs_and_keep_their_distribution(corpus: Corpus, tmp_path: Path) -> None:
    levels = {
        f"s{n}": float(np.sqrt(np.square(corpus.load((f"s{n}", "vocals"))).sum(axis=0).mean())) for n in range(6)
    }
    limit = sorted(levels.values())[2] + 1e-9
    gated = curate(corpus, tmp_path / "gated", gates=(f"vocals.rms >= {limit:.12f}",))
    assert gated.songs() == sorted(name for name, level in levels.items() if level >= limit)
    assert gated.rejected is not None
    (quiet,) = gated.rejected.loc[gated.rejected["id"] == min(levels, key=levels.__getitem__), "detail"]
    assert quiet.endswith(f": vocals {min(levels.values()):.4g}")
    run = json.loads((gated.folder / "run.json").read_text())
    (gate,) = run["gates"]
    assert (gate["kept"], gate["dropped"], sum(gate["counts"])) == (3, 3, 6)
    assert len(gate["edges"]) == len(gate["counts"]) + 1


def test_clip_gates_leave_out_clips(corpus: Corpus, tmp_path: Path) -> None:
    every = curate(corpus, tmp_path / "every").clips
    assert every is not None
    limit = float(every["rms_vocals"].median())
    some = curate(corpus, tmp_path / "some", clip_gates=(f"vocals.rms >= {limit}",)).clips
    assert some is not None
    assert set(some["clip_id"]) == set(every.loc[every["rms_vocals"] >= limit, "clip_id"])


def test_the_detector_of_bsrnn_is_a_clip_gate(tmp_path: Path) -> None:
    parts = {stem: np.array(audio) for stem, audio in stems(1).items() if stem != "mixture"}
    parts["vocals"][:, 3 * RATE : 6 * RATE] = 0
    source = write_corpus(tmp_path / "source", [("a", whole(parts))])
    clips = curate(source, tmp_path / "salient", clip_gates=("bsrnn",)).clips
    assert clips is not None
    assert 3 * RATE not in set(clips["start_frame"])
    assert 9 * RATE in set(clips["start_frame"])


def test_weights_balance_without_leaving_out(corpus: Corpus, tmp_path: Path) -> None:
    weighted = curate(corpus, tmp_path / "weighted", reference="uniform", balance="weights", gates=())
    songs = weighted.stems.drop_duplicates("song_id")
    assert len(songs) == 6
    shares = songs.groupby("genre")["weight"].sum()
    np.testing.assert_allclose(shares, shares.iloc[0])


def test_a_reference_chooses_songs(corpus: Corpus, tmp_path: Path) -> None:
    table = tmp_path / "reference.csv"
    table.write_text("genre,share\nHip Hop,0.5\nrock,0.5\n")
    chosen = curate(corpus, tmp_path / "chosen", reference=str(table))
    assert set(chosen.stems["genre"]) == {"hip-hop", "rock"}
    assert {reason for reason in reasons(chosen).values() if "balance" in reason} == {"balance: genre"}
    as_before = curate(corpus, tmp_path / "as before", reference=str(chosen.folder))
    assert as_before.songs() == chosen.songs()


def test_fixed_songs_and_earlier_splits_are_honoured(corpus: Corpus, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text("s4: validation\n")
    shares = {"train": 0.8, "validation": 0.2}
    first = curate(corpus, tmp_path / "first", fixed=str(fixed), shares=shares)
    splits = first.stems.drop_duplicates("song_id").set_index("song_id")["split"]
    assert splits["s4"] == "validation"
    again = curate(corpus, tmp_path / "again", previous=str(first.folder), shares=shares, seed=9)
    assert again.stems.drop_duplicates("song_id").set_index("song_id")["split"].to_dict() == splits.to_dict()


def test_the_same_command_changes_nothing(corpus: Corpus, tmp_path: Path) -> None:
    curate(corpus, tmp_path / "out")
    before = {path: data for path, data in contents(tmp_path / "out").items() if "run.json" not in str(path)}
    for folder in ("audio", "curves"):  # what a run leaves that is killed while it writes
        (tmp_path / "out" / folder / f"{TEMPORARY_PREFIX}0123456789abcdef.tmp").write_bytes(b"half")
    curate(corpus, tmp_path / "out")
    after = {path: data for path, data in contents(tmp_path / "out").items() if "run.json" not in str(path)}
    assert before == after


def test_a_song_that_has_left_the_source_leaves_its_files(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1)), ("b", stems(2))])
    curate(source, tmp_path / "out")
    table = read_table(source.folder, "stems")
    table[table["song_id"] == "a"].to_parquet(source.folder / "stems.parquet")
    again = curate(Corpus.open(source.folder), tmp_path / "out")
    assert again.songs() == ["a"]
    assert check_build(again.folder) == []
    assert not (tmp_path / "out/audio/b").exists()
    assert not (tmp_path / "out/curves/b.npz").exists()


def test_a_song_that_cannot_be_read_is_a_row_of_the_rejected_table(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1)), ("b", stems(2))])
    source.path_of(source.song("b")["vocals"]).write_bytes(b"fLaC")
    out = CurateBuilder(tmp_path / "out", CurateRecipe(shares={"train": 1.0}), jobs=0).build(source.folder)
    assert out.songs() == ["a"]
    assert reasons(out) == {"b": "inspect: changed"}
    assert out.rejected is not None
    assert "content_id" in out.rejected["detail"][0]


def test_a_file_that_was_damaged_after_an_inspection_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1)), ("b", stems(2)), ("c", stems(3))])
    assert curate(source, tmp_path / "out").songs() == ["a", "b", "c"]
    path = source.path_of(source.song("b")["vocals"])
    path.unlink()
    path.write_bytes(b"fLaC")
    source.path_of(source.song("c")["vocals"]).unlink()
    again = curate(source, tmp_path / "out")
    assert again.songs() == ["a"]
    assert reasons(again) == {"b": "inspect: changed", "c": "inspect: unreadable"}
    assert check_build(again.folder) == []


def test_files_of_a_persons_own_are_never_touched(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1))])
    for name in ("audio/take1.flac", "notes.txt"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(BuildError, match="already holds"):
            curate(source, folder)
        assert (folder / name).read_text() == "mine"
    out = curate(source, tmp_path / "out").folder
    (out / "curves/notes.txt").write_text("mine")
    curate(source, out)
    assert (out / "curves/notes.txt").read_text() == "mine"


def test_the_folder_of_another_corpus_is_refused(tmp_path: Path) -> None:
    first, second = (write_corpus(tmp_path / name, [(name, stems(1))]) for name in ("first", "second"))
    curate(first, tmp_path / "out")
    with pytest.raises(BuildError, match=r"was made of .*first"):
        curate(second, tmp_path / "out")
    assert Corpus.open(tmp_path / "out").songs() == ["first"]


def test_other_settings_in_the_same_folder_make_it_anew(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        curate(corpus, tmp_path / "out", shares={"train": 0.5, "test": 0.4})
    assert len(curate(corpus, tmp_path / "out", min_grade="D").songs()) == 9
    again = curate(corpus, tmp_path / "out", clip_s=4.0)
    assert again.songs() == [f"s{number}" for number in range(6)]
    assert again.clips is not None
    assert set(again.clips["num_frames"]) == {4 * RATE}
    assert check_build(again.folder) == []


def test_the_check_looks_into_the_curves(corpus: Corpus, tmp_path: Path) -> None:
    folder = curate(corpus, tmp_path / "curated").folder
    curves = [folder / f"curves/s{number}.npz" for number in range(4)]
    curves[0].write_bytes(pickle.dumps([1.0]))
    curves[1].write_bytes(curves[1].read_bytes()[:-50])
    with np.load(curves[2]) as arrays:
        np.savez(curves[2], **{name: array for name, array in arrays.items() if name != "rms_vocals"})
    curves[3].unlink()
    problems = check_build(folder)
    said = ("cannot be read", "cannot be read", "of other stems than mixture, instrumental, vocals", "is missing")
    assert len(problems) == 4
    for path, wanted in zip(curves, said, strict=True):
        (problem,) = [problem for problem in problems if problem.startswith(f"{path}: ")]
        assert wanted in problem
        assert problem.endswith("; run the same build command again")
    shutil.rmtree(folder / "curves")
    assert check_build(folder) == []


@pytest.mark.parametrize("text", ["[]", "null", '{"max_song_s": 3}'])
def test_a_recipe_that_is_none_is_refused_and_the_run_goes_on_without(
    corpus: Corpus, tmp_path: Path, text: str
) -> None:
    folder = curate(corpus, tmp_path / "curated").folder
    (folder / "recipe.json").write_text(text)
    with pytest.raises(BuildError, match=r"recipe\.json: is no recipe, .* delete the file and run the same"):
        curate(corpus, folder)
    (folder / "recipe.json").unlink()
    curate(corpus, folder)
    assert check_build(folder) == []


def test_the_check_looks_into_the_clips(corpus: Corpus, tmp_path: Path) -> None:
    out = curate(corpus, tmp_path / "out").folder
    clips = read_table(out, "clips")
    clips.loc[0, "split"] = "test"
    clips.loc[1, "start_frame"] = 10**9
    clips.loc[2, "song_id"] = "nope"
    clips.to_parquet(out / "clips.parquet")
    split, late, unknown = check_build(out)
    assert "'test'" in split
    assert "ends after" in late
    assert "'nope'" in unknown


def test_one_artist_is_all_training_unless_asked_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1)), ("b", stems(2))], artist="Ann")
    assert set(curate(source, tmp_path / "out", shares=None).stems["split"]) == {"train"}
    assert "one artist" in caplog.text


def mixed_corpus(folder: Path, parents: dict[str, str], **facts: Any) -> Corpus:
    """Mixtures, each with the ids of the songs that it was made of."""
    made = [(name, stems(number)) for number, name in enumerate(parents)]
    corpus = write_corpus(folder, made, provenance="mixed", artist=None, **facts)
    table = read_table(folder, "stems")
    table["parents"] = table["song_id"].map(parents)
    write_table(folder, "stems", table)
    return Corpus.open(corpus.folder)


@pytest.mark.parametrize("seed", range(3))
def test_mixtures_of_one_source_are_never_in_two_splits(tmp_path: Path, seed: int) -> None:
    parents = {"m0": "a;b", "m1": "c", "m2": "b;d", "m3": "e;f", "m4": "d", "m5": "f"}
    source = mixed_corpus(tmp_path / "source", parents)
    settings: dict[str, Any] = {"shares": {"train": 0.5, "test": 0.5}, "seed": seed, "clip_s": None}
    kept = curate(source, tmp_path / "kept", **settings)
    found = kept.stems.drop_duplicates("song_id").set_index("song_id")["split"]
    assert set(found) == {"train", "test"}
    assert found["m0"] == found["m2"] == found["m4"]
    assert found["m3"] == found["m5"]
    assert check_build(kept.folder) == []


def test_mixtures_that_all_share_a_source_cannot_fill_two_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = mixed_corpus(tmp_path / "source", {"m0": "a;b", "m1": "a"})
    with pytest.raises(RecipeError, match=r"artist groups(.|\n)*sources in common.*--splits.*stemloom build"):
        curate(source, tmp_path / "out", shares={"train": 0.5, "test": 0.5})
    assert set(curate(source, tmp_path / "out", shares=None).stems["split"]) == {"train"}
    assert "sources in common" in caplog.text


def test_the_splits_of_a_set_of_mixtures_are_kept(tmp_path: Path) -> None:
    source = mixed_corpus(tmp_path / "source", {"m0": "a;b", "m1": "a", "m2": "c"})
    table = read_table(source.folder, "stems")
    table["split"] = table["song_id"].map({"m0": "train", "m1": "train", "m2": "validation"})
    write_table(source.folder, "stems", table)
    settings: dict[str, Any] = {"shares": {"train": 0.5, "validation": 0.5}, "previous": str(source.folder)}
    kept = curate(Corpus.open(source.folder), tmp_path / "kept", **settings)
    found = kept.stems.drop_duplicates("song_id").set_index("song_id")["split"]
    assert found.to_dict() == {"m0": "train", "m1": "train", "m2": "validation"}


def test_songs_without_an_artist_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1)), ("b", stems(2))], artist=None)
    out = curate(source, tmp_path / "out")
    assert "2 of 2 songs name no artist" in caplog.text
    assert json.loads((out.folder / "run.json").read_text())["songs_without_artist"] == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"gates": ("vocal.rms >= 1",)},
        {"gates": ("bsrnn",)},
        {"gates": ("vocals.voiced_fraction >= 0",)},
        {"clip_gates": ("lossless",)},
        {"clip_gates": ("cdxdb23",)},
        {"shares": {"train": 0.5, "test": 0.4}},
        {"reference": "nowhere"},
        {"unseen": ("nowhere",)},
        {"per_song": "one", "hop_s": 2.0},
        {"test_clips": 5},
    ],
)
def test_what_can_be_known_beforehand_is_told_by_a_plan(
    corpus: Corpus, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError):
        CurateBuilder(tmp_path / "out", CurateRecipe(**settings)).plan(corpus.folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gates": ("vocals.rmz >= 1",)}, "rmz"),
        ({"gates": ("cdxdb32",)}, "cdxdb23"),
        ({"shares": {"train": 0.5, "test": 0.4}}, "0.9"),
        ({"shares": {"train": 1.0}, "hours": {"test": 1.0}}, "leave one of them out"),
        ({"hours": {"test": 100.0}, "shares": None}, "100"),
        ({"reference": "nowhere.csv"}, "nowhere.csv"),
        ({"fixed": "nowhere.csv"}, "nowhere.csv"),
        ({"witness": "python:nothing:here"}, "nothing"),
        ({"unseen": ("nowhere",)}, "nowhere"),
        ({"test_clips": 10}, "'test'"),
    ],
)
def test_settings_that_cannot_be_met_are_told(
    corpus: Corpus, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises((RecipeError, TableError, BuildError), match=message):
        curate(corpus, tmp_path / "out", **settings)
    assert not (tmp_path / "out/stems.parquet").exists()


def test_one_artist_cannot_fill_two_splits(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1)), ("b", stems(2))], artist="Ann")
    with pytest.raises(RecipeError, match="artist groups"):
        curate(source, tmp_path / "out", shares={"train": 0.5, "test": 0.5})


def test_a_genre_that_no_song_has_is_named(corpus: Corpus, tmp_path: Path) -> None:
    table = tmp_path / "reference.yaml"
    table.write_text("opera: 1.0\n")
    with pytest.raises(RecipeError, match="classical"):
        curate(corpus, tmp_path / "out", reference=str(table))


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", unsung(1))])
    with pytest.raises(BuildError, match="1 grade: grade D"):
        curate(source, tmp_path / "out")


@pytest.mark.parametrize("place", [".", "inside"])
def test_a_folder_in_the_source_is_refused(corpus: Corpus, place: str) -> None:
    with pytest.raises(BuildError, match="choose a folder beside the corpus"):
        curate(corpus, corpus.folder / place)


def all_silent(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A witness that never hears a voice."""
    return np.zeros(audio.shape[1] // 5120, np.float32)


def out_of_step(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A witness that gives the wrong number of values."""
    return np.zeros(3, np.float32)


def test_a_witness_of_ones_own_is_heard(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1))])
    plain = curate(source, tmp_path / "plain")
    heard = curate(source, tmp_path / "heard", witness=f"python:{__name__}:all_silent")
    curves = [np.load(out.folder / "curves/a.npz")["voice_vocals"] for out in (plain, heard)]
    np.testing.assert_allclose(curves[1], curves[0] / 2, atol=1e-6)


def stumbling(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A witness that fails."""
    raise ValueError("oops")


def test_a_witness_that_fails_is_named(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1))])
    with pytest.raises(RecipeError, match=r"witness.*oops"):
        curate(source, tmp_path / "out", witness=f"python:{__name__}:stumbling")


def test_a_witness_out_of_step_is_refused(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", [("a", stems(1))])
    with pytest.raises(RecipeError, match="witness"):
        curate(source, tmp_path / "out", witness=f"python:{__name__}:out_of_step")
