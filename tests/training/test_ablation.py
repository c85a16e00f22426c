"""Studies that are run: what comes out, what is not done again, and what a crash costs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manifests.errors import BuildError, RecipeError
from manifests.tables import read_table, write_table
from tests.training.small_study import BREAKING, LOUD, SWAP, ran, small_study, weights_of
from tests.training.small_training import same_weights
from training.ablation import Ablation, StudyTick
from training.evaluation import evaluate
from training.variants import check_runs, runs_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has been run."""
    folder = tmp_path_factory.mktemp("study")
    ran(small_study(folder), folder / "out")
    return folder


def same(one: Ablation, other: Ablation) -> None:
    for name in ("songs", "summary", "comparisons", "curves"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_every_song_is_scored_by_every_run(folder: Path) -> None:
    found = ran(small_study(folder), folder / "out")
    assert not found.missing
    assert len(found.songs) == 2 * 2 * 5 * 2
    assert {*found.songs["target"]} == {"vocals", "accompaniment"}
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "out" / "songs.parquet"), found.songs)
    best = found.summary.set_index(["target", "score", "variant"])["median"]
    of_songs = found.songs[(found.songs["variant"] == "swap") & (found.songs["target"] == "vocals")]
    assert best["vocals", "sdr_db", "swap"] == pytest.approx(of_songs.groupby("song_id")["sdr_db"].mean().median())
    record = json.loads((folder / "out" / "study.json").read_text())
    assert [(run["variant"], run["seed"], run["missing"]) for run in record["runs"]] == [
        ("baseline", 0, None),
        ("swap", 0, None),
        ("baseline", 1, None),
        ("swap", 1, None),
    ]
    assert {*found.curves["what"]} == {"loss", "sdr_db vocals", "sdr_db accompaniment"}
    assert {*found.curves["step"]} == {3, 6}


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    study, before = small_study(folder), weights_of(folder / "out")
    first = ran(study, folder / "out")
    assert first.done_before == 4
    again = ran(study, folder / "out", jobs=1)
    assert weights_of(folder / "out") == before
    same(first, again)


def test_only_a_variant_that_is_new_is_trained(folder: Path) -> None:
    before = weights_of(folder / "out")
    found = ran(small_study(folder, variants=[{"name": "baseline"}, SWAP, LOUD], seeds=1), folder / "out")
    assert found.done_before == 2
    after = weights_of(folder / "out")
    assert {name: after[name] for name in before} == before
    assert len(after) == 5
    # by another name it is the same run
    renamed = [{"name": "as it is"}, {**SWAP, "name": "left for right"}]
    found = ran(small_study(folder, variants=renamed), folder / "out")
    assert found.done_before == 4
    assert {*found.songs["variant"]} == {"as it is", "left for right"}
    assert weights_of(folder / "out") == after


def test_variants_that_are_the_same_are_one_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    variants = [{"name": "baseline"}, {"name": "the same"}]
    found = ran(small_study(folder, variants=variants), folder / "out")
    assert found.done_before == 2
    assert "variants baseline and the same are the same training" in caplog.text
    one, other = (
        found.songs[found.songs["variant"] == name]["sdr_db"].tolist() for name in ("baseline", "the same")
    )
    assert one == other
    assert (found.comparisons["t_p"] == 1).all()


def test_another_corpus_or_setting_is_trained_anew(folder: Path, tmp_path: Path) -> None:
    study = small_study(tmp_path)
    names = {run.folder.name for run in runs_of(study, tmp_path / "out")}
    assert names == {run.folder.name for run in runs_of(small_study(folder), tmp_path / "out")}
    longer = {run.folder.name for run in runs_of(small_study(tmp_path, set={"epochs": 3}), tmp_path / "out")}
    assert not names & longer
    stems = read_table(tmp_path / "songs", "stems")
    write_table(tmp_path / "songs", "stems", stems[stems["song_id"] != "song0"].reset_index(drop=True))
    assert not names & {run.folder.name for run in runs_of(study, tmp_path / "out")}


def test_another_test_is_measured_without_training(folder: Path) -> None:
    before = weights_of(folder / "out")
    tests = [{"name": "songs", "corpus": "songs"}, {"name": "two", "corpus": "songs", "limit": 2}]
    found = ran(small_study(folder, tests=tests), folder / "out")
    assert weights_of(folder / "out") == before
    assert found.songs.groupby("test")["song_id"].nunique().to_dict() == {"songs": 5, "two": 2}


def test_runs_side_by_side_are_the_runs_one_by_one(folder: Path, tmp_path: Path) -> None:
    ticks: list[StudyTick] = []
    found = ran(small_study(folder, seeds=1), tmp_path / "out", jobs=2, progress=ticks.append)
    one_by_one = ran(small_study(folder, seeds=1), folder / "out")
    same(found, one_by_one)
    assert max(tick.runs_done for tick in ticks) == ticks[0].runs == 2
    assert {tick.doing for tick in ticks} == {"train", "songs", "finished"}


def test_an_interrupted_study_goes_on_without_repeating_a_run(folder: Path, tmp_path: Path) -> None:
    out, study = tmp_path / "out", small_study(folder)

    def interrupt(tick: StudyTick) -> None:
        if tick.run == "swap, seed 0" and tick.doing == "train" and tick.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = ran(study, out, progress=interrupt)
    assert stopped.interrupted
    assert list(stopped.missing) == ["swap, seed 0", "baseline, seed 1", "swap, seed 1"]
    assert {*stopped.songs["variant"]} == {"baseline"}
    before = weights_of(out)
    steps: list[tuple[str, int]] = []
    found = ran(
        study, out, progress=lambda tick: steps.append((tick.run, tick.done)) if tick.doing == "train" else None
    )
    assert ("baseline, seed 0", 1) not in steps
    assert ("swap, seed 0", 2) not in steps  # it goes on behind it
    assert ("swap, seed 0", 6) in steps
    after = weights_of(out)
    done = [name for name in before if name.startswith("baseline")]
    assert [after[name] for name in done] == [before[name] for name in done]
    assert not found.missing
    same(found, ran(study, folder / "out"))
    assert all(same_weights(folder / "out" / "runs" / name, out / "runs" / name) for name in after)


def test_the_time_is_over(folder: Path, tmp_path: Path) -> None:
    found = ran(small_study(folder), tmp_path / "out", max_minutes=1e-9)
    assert len(found.missing) == 4
    assert not found.interrupted
    assert not len(found.songs)
    assert all(why.startswith("stopped") for why in found.missing.values())


@pytest.mark.parametrize("jobs", [0, 2])
def test_the_others_finish_where_a_variant_breaks(folder: Path, tmp_path: Path, jobs: int) -> None:
    study = small_study(folder, variants=[{"name": "baseline"}, BREAKING, SWAP], seeds=1)
    found = ran(study, tmp_path / "out", jobs=jobs)
    assert list(found.missing) == ["breaking, seed 0"]
    assert "the loss is" in found.missing["breaking, seed 0"]
    assert {*found.songs["variant"]} == {"baseline", "swap"}
    record = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [run["missing"] for run in record["runs"]] == [None, found.missing["breaking, seed 0"], None]


def test_the_others_finish_where_a_process_dies(folder: Path, tmp_path: Path) -> None:
    def kill(tick: StudyTick) -> None:
        if tick.run == "swap, seed 0" and tick.doing == "train" and tick.done == 1:
            (process,) = [one for one in multiprocessing.active_children() if one.name == tick.run]
            process.kill()

    found = ran(small_study(folder, seeds=1), tmp_path / "out", jobs=1, progress=kill)
    assert list(found.missing) == ["swap, seed 0"]
    assert "SIGKILL" in found.missing["swap, seed 0"]
    assert {*found.songs["variant"]} == {"baseline"}
    again = ran(small_study(folder, seeds=1), tmp_path / "out", jobs=1)
    assert again.done_before == 1
    same(again, ran(small_study(folder, seeds=1), folder / "out"))


def test_four_stems_are_tested_as_two(folder: Path, tmp_path: Path) -> None:
    four = {
        "name": "four",
        "sums": {"accompaniment": ["drums", "bass", "other"]},
        "set": {
            "mix": {
                "sources": {"accompaniment": None, **{name: {"stems": name} for name in ("drums", "bass", "other")}}
            }
        },
    }
    found = ran(small_study(folder, variants=[{"name": "baseline"}, four], seeds=1), tmp_path / "out")
    targets = found.songs.groupby("variant")["target"].unique()
    assert {*targets["four"]} == {*targets["baseline"]} == {"vocals", "accompaniment"}
    assert np.isfinite(found.songs["sdr_db"]).all()


def test_what_does_not_fit_is_told_of_all_variants_before_training(folder: Path, tmp_path: Path) -> None:
    variants = [
        {"name": "baseline"},
        {"name": "no stem", "set": {"mix": {"sources": {"vocals": {"stems": "voice"}}}}},
        {"name": "no sum", "sums": {"accompaniment": ["piano"]}},
    ]
    with pytest.raises(RecipeError) as error:
        ran(small_study(folder, variants=variants), tmp_path / "out")
    text = str(error.value)
    assert "variant 'no stem'" in text
    assert "variant 'no sum'" in text
    assert "baseline" not in text
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="has no song of the split 'test'"):
        check_runs(
            runs_of(small_study(folder, tests=[{"name": "a", "corpus": "songs", "split": "test"}]), tmp_path)
        )


def test_a_folder_of_something_else_is_refused(folder: Path) -> None:
    study = small_study(folder)
    with pytest.raises(BuildError, match="choose another folder"):
        ran(study, folder / "songs")
    with pytest.raises(BuildError, match="choose another folder"):
        ran(study, next((folder / "out" / "runs").iterdir()))


def test_loudness_sweeps_are_collected(folder: Path, tmp_path: Path) -> None:
    tests = [{"name": "songs", "corpus": "songs", "sweep_lufs": [-30, -20], "limit": 2}]
    found = ran(small_study(folder, tests=tests, seeds=1), tmp_path / "out")
    assert {*found.sweep["input_lufs"]} == {-30.0, -20.0}
    assert {*found.sweep["variant"]} == {"baseline", "swap"}


def test_scores_are_those_of_an_evaluation(folder: Path, tmp_path: Path) -> None:
    from manifests.corpus import Corpus
    from separators.overlap_add import NetworkSeparator
    from separators.weights import load_network

    study = small_study(folder)
    found = ran(study, folder / "out")
    run = runs_of(study, folder / "out")[1]
    network = load_network(run.folder / "best.safetensors")
    alone = evaluate(NetworkSeparator(network=network), Corpus.open(folder / "songs"), tmp_path)
    ours = found.songs[(found.songs["variant"] == "swap") & (found.songs["seed"] == 0)]
    np.testing.assert_array_equal(ours["sdr_db"].to_numpy(), alone.songs["sdr_db"].to_numpy())
