"""A training ends where it would have ended, however often it was interrupted; and what stops it for good."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from augment import PoolReader, plans_of, render
from manifests.corpus import Corpus
from manifests.errors import BuildError, RecipeError
from manifests.lock import BuildLock
from manifests.tables import read_table
from separators.weights import load_network, save_network
from tests.augment.small_pool import loose_corpus
from tests.training.small_training import (
    MIX,
    TASNET,
    UNET,
    UNMIX,
    corpus,
    recipe,
    run,
    same_weights,
    told,
)
from training.batches import Mixtures
from training.checks import check_training
from training.loop import Tick, train
from training.making import make_network
from training.recipe import TrainRecipe
from training.runs import BEST, RUN, STATE, read_state

HARDEST = {
    "network": UNMIX,  # dropout, batch normalisation, and a look at the mixtures before the first step
    "average": 0.9,
    "accumulate": 2,
    "clip_norm": 1.0,
    "loss": ["l1", {"name": "magnitude_mse", "weight": 2.0}],
    "schedule": {"name": "plateau", "factor": 0.1, "patience": 1, "warmup_steps": 3},
    "optimizer": {"name": "adamw", "learning_rate": 3.0},  # so large that some validations are worse
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus(tmp_path_factory.mktemp("corpus"))


def in_pieces(made: TrainRecipe, data: Corpus, out: Path) -> int:
    """Train, stopped after every step."""
    for calls in range(1, 100):
        if run(made, data, out, max_minutes=0.0).finished:
            return calls
    raise AssertionError("the run does not end")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param(HARDEST, id="dropout-average-accumulate-plateau"),
        pytest.param({"network": UNET, "loss": "magnitude_l1", "schedule": {"name": "cosine"}}, id="unet-cosine"),
        pytest.param({**HARDEST, "log_every": 2}, id="a report over an interruption"),
    ],
)
def test_a_run_that_was_stopped_after_every_step_ends_as_one_that_was_not(
    changes: dict[str, Any], data: Corpus, tmp_path: Path
) -> None:
    made = recipe(**changes, epochs=3)
    whole = run(made, data, tmp_path / "whole")
    assert in_pieces(made, data, tmp_path / "pieces") == 9
    assert told(tmp_path / "pieces") == told(tmp_path / "whole")
    assert same_weights(tmp_path / "pieces", tmp_path / "whole")
    before, after = (read_state(tmp_path / name / STATE)["objective"] for name in ("whole", "pieces"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert whole.finished
    ended = [json.loads((tmp_path / name / RUN).read_text()) for name in ("whole", "pieces")]
    assert ended[0]["validation"] == ended[1]["validation"] == whole.validation
    assert ended[0]["steps"] == 9


def test_the_plateau_of_the_test_above_lowers_the_learning_rate(data: Corpus, tmp_path: Path) -> None:
    run(recipe(**HARDEST, epochs=8), data, tmp_path)
    assert min(line["learning_rate"] for line in told(tmp_path)[3:] if "loss" in line) < 3.0


def test_a_crash_within_an_epoch_costs_that_epoch_and_changes_nothing(data: Corpus, tmp_path: Path) -> None:
    made = recipe(**HARDEST, epochs=3)

    def crash(tick: Tick) -> None:
        if tick.step == 5:
            raise ZeroDivisionError

    run(made, data, tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        run(made, data, tmp_path / "crashed", progress=crash)
    assert [line["step"] for line in told(tmp_path / "crashed")] == [1, 2, 3, 3, 4, 5]
    ticks: list[int] = []
    run(made, data, tmp_path / "crashed", progress=lambda tick: ticks.append(tick.step))
    assert ticks == [4, 5, 6, 7, 8, 9]
    assert told(tmp_path / "crashed") == told(tmp_path / "whole")
    assert same_weights(tmp_path / "crashed", tmp_path / "whole")


def test_training_learns_and_says_how_it_went(data: Corpus, tmp_path: Path) -> None:
    made = recipe(epochs=6, optimizer={"learning_rate": 0.01}, validation={"split": None, "num": 6})
    ticks: list[Tick] = []
    done = run(made, data, tmp_path, progress=ticks.append)
    losses = [line["validation"]["loss"] for line in told(tmp_path) if "validation" in line]
    assert min(losses) < 0.9 * losses[0]
    assert done.validation is not None
    assert done.validation["num"] == 24  # four times as many, of the best weights
    assert [tick.step for tick in ticks] == list(range(1, 19))
    assert [tick.epoch for tick in ticks if tick.validation] == list(range(6))
    assert {tick.steps for tick in ticks} == {18}
    values = json.loads((tmp_path / RUN).read_text())
    assert values["hours_seen"] == pytest.approx(18 * 2 * 0.1 / 3600)
    assert values["corpora"] == {data.folder.name: str(data.folder.resolve())}
    assert values["matched"] is None
    # beside the weights is all that made them
    network = load_network(tmp_path / BEST)
    assert network.sources == ("speech", "music")
    assert network.segment_frames == 800


def test_a_finished_run_has_nothing_left_to_do(data: Corpus, tmp_path: Path) -> None:
    made = recipe()
    first = run(made, data, tmp_path)
    before = told(tmp_path)
    ticks: list[Tick] = []
    assert run(made, data, tmp_path, progress=ticks.append) == first
    assert (ticks, told(tmp_path)) == ([], before)


def test_more_epochs_go_on_where_the_run_ended(data: Corpus, tmp_path: Path) -> None:
    run(recipe(epochs=3), data, tmp_path / "at once")
    run(recipe(epochs=1), data, tmp_path / "later")
    run(recipe(epochs=3), data, tmp_path / "later")
    assert told(tmp_path / "later") == told(tmp_path / "at once")


def test_training_stops_early_and_keeps_the_best(data: Corpus, tmp_path: Path) -> None:
    made = recipe(
        epochs=50, steps_per_epoch=1, early_stopping=2, optimizer={"learning_rate": 1.0}, network=UNET, loss="l1"
    )
    done = run(made, data, tmp_path)
    losses = [line["validation"]["loss"] for line in told(tmp_path) if "validation" in line]
    best = int(np.argmin(losses))
    assert done.finished
    assert done.step == len(losses) == best + 3 < 50
    assert done.validation is not None
    assert done.validation["loss"] == losses[best]  # `final_num` is `num`


@pytest.mark.parametrize("by", ["loss", "sdr"])
def test_best_is_by_what_the_recipe_says(by: str, data: Corpus, tmp_path: Path) -> None:
    made = recipe(
        validation={"split": None, "num": 2, "final_num": 2, "by": by}, epochs=5, optimizer={"learning_rate": 0.1}
    )
    done = run(made, data, tmp_path)
    found = [line["validation"] for line in told(tmp_path) if "validation" in line]
    best = min(found, key=lambda line: line["loss"] if by == "loss" else -line["sdr_db"])
    assert done.validation == best


def test_the_average_of_the_weights_is_what_is_validated_and_saved(data: Corpus, tmp_path: Path) -> None:
    made = recipe(epochs=1, average=0.5, steps_per_epoch=4)
    seen: list[dict[str, torch.Tensor]] = []

    def keep(tick: Tick) -> None:
        seen.append(read_state(tmp_path / STATE)["objective"])

    while not run(made, data, tmp_path, max_minutes=0.0, progress=keep).finished:
        pass
    wanted = {name.removeprefix("network."): value.double() for name, value in seen[0].items()}
    for number, state in enumerate(seen[1:], 1):
        decay = min(0.5, (1 + number) / (10 + number))
        wanted = {name: decay * old + (1 - decay) * state[f"network.{name}"] for name, old in wanted.items()}
    found = load_file(tmp_path / BEST)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name].float())


def test_frozen_parameters_and_statistics_stay(data: Corpus, tmp_path: Path) -> None:
    made = recipe(
        network={**UNMIX, "layers": 1},
        freeze=["nets.0.*"],
        average=0.9,
        optimizer={"name": "adamw", "weight_decay": 0.1},
        loss="magnitude_mse",
    )
    start = tmp_path / "start.safetensors"
    torch.manual_seed(1)
    save_network(start, make_network(made))
    run(made.model_copy(update={"start_from": str(start)}), data, tmp_path / "run")
    before, after = load_file(start), load_file(tmp_path / "run" / BEST)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("nets.1.")}


def test_statistics_of_batch_normalisation_stay_where_they_are_to(data: Corpus, tmp_path: Path) -> None:
    made = recipe(network={**UNMIX, "layers": 1}, freeze_batch_norm=True, loss="magnitude_mse")
    run(made, data, tmp_path)
    weights = load_file(tmp_path / BEST)
    statistics = {name for name in weights if "running" in name or "batches" in name}
    assert len(statistics) == 2 * 3 * 3
    for name in statistics:
        assert torch.equal(weights[name], torch.full_like(weights[name], float(name.endswith("var"))))


def test_fine_tuning_takes_what_matches_and_says_so(data: Corpus, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    torch.manual_seed(1)
    other = {**TASNET, "sources": ["a", "b", "c"], "repeats": 2}
    save_network(start, make_network(recipe(network=other, targets={"speech": ["a", "b"], "music": "c"})))
    made = recipe(start_from=str(start), optimizer={"learning_rate": 1e-12}, epochs=1, steps_per_epoch=1)
    run(made, data, tmp_path / "run")
    matched = json.loads((tmp_path / "run" / RUN).read_text())["matched"]
    assert matched["other_shape"] == ["masks.weight"]
    assert matched["missing"] == []
    assert matched["unexpected"]
    assert all(name.startswith(("blocks.2.", "blocks.3.")) for name in matched["unexpected"])
    before, after = load_file(start), load_file(tmp_path / "run" / BEST)
    assert sorted(after) == sorted([*matched["taken"], "masks.weight"])
    for name in matched["taken"]:
        torch.testing.assert_close(after[name], before[name])


def test_what_matched_is_remembered_by_a_resumed_run(data: Corpus, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_network(start, make_network(recipe()))
    made = recipe(start_from=str(start))
    in_pieces(made, data, tmp_path / "run")
    assert "masks.weight" in json.loads((tmp_path / "run" / RUN).read_text())["matched"]["taken"]


def test_weights_of_another_kind_of_network_are_refused(data: Corpus, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_network(start, make_network(recipe(network=UNMIX)))
    with pytest.raises(RecipeError, match=r"start\.safetensors: none of its \d+ tensors .* ConvTasNet; start from"):
        run(recipe(start_from=str(start)), data, tmp_path / "run")
    assert not (tmp_path / "run" / STATE).exists()
    # what is corrected begins in the same folder
    assert run(recipe(), data, tmp_path / "run").finished


def test_counters_and_biases_alone_are_no_weights_to_start_from(data: Corpus, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_network(start, make_network(recipe(network=UNET)))
    other = recipe(network={**UNET, "filters": [5, 7, 9]}, start_from=str(start))
    held, wanted = load_file(start), make_network(other).state_dict()
    same = {name for name in held if name in wanted and held[name].shape == wanted[name].shape}
    assert {name.rpartition(".")[2] for name in same} == {"num_batches_tracked", "bias"}
    for call in (run, lambda made, data, out: check_training(made, [data.folder])):
        with pytest.raises(RecipeError, match="none of its 64 tensors has the name and shape of a matrix"):
            call(other, data, tmp_path / "run")


@pytest.mark.parametrize("num", [1, 2, 5])
def test_a_validation_is_of_as_many_mixtures_as_it_says(num: int, data: Corpus, tmp_path: Path) -> None:
    rule = {"split": None, "num": num, "final_num": num + 1, "batch_size": 4}
    done = run(recipe(validation=rule, epochs=1), data, tmp_path / "fours")
    ones = run(recipe(validation={**rule, "batch_size": 1}, epochs=1), data, tmp_path / "ones")
    first, other = (
        next(line["validation"] for line in told(tmp_path / name) if "validation" in line)
        for name in ("fours", "ones")
    )
    assert first["num"] == num
    assert first["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert done.validation is not None
    assert ones.validation is not None
    assert done.validation["num"] == ones.validation["num"] == num + 1


def test_a_corpus_is_given_once(data: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is given twice, and its songs would count twice: give each corpus once"):
        train(recipe(), [data.folder, data.folder / "." / ".." / data.folder.name], tmp_path / "run")


def test_workers_are_none_or_some(data: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="workers is -1: write 0, or how many processes"):
        run(recipe(), data, tmp_path / "run", workers=-1)
    assert not (tmp_path / "run").exists()


def poisoned(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let the loss be NaN from a step on."""
    from training import objective

    steps = iter(range(1000))

    def loss(estimates: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        mean = (estimates - targets).abs().mean(dim=(1, 2, 3))
        return mean * float("nan") if torch.is_grad_enabled() and next(steps) >= at else mean

    monkeypatch.setattr(objective, "l1_loss", loss)


@pytest.mark.parametrize("together", [False, True])
def test_a_loss_that_is_not_finite_stops_the_run_and_its_mixtures_can_be_made_again(
    together: bool, data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix: dict[str, Any] = {**MIX, "transforms": ["swap"]}
    if together:
        mix = {**mix, "sources": {name: {"stems": name} for name in ("speech", "music")}}
        mix |= {"together": True, "shuffle_groups": 2}
        data = one_song_each(tmp_path / "corpus")
    made = recipe(mix=mix, accumulate=2, epochs=3)
    poisoned(monkeypatch, at=2 * 4)
    with pytest.raises(BuildError, match=r"step 4: the loss is nan .* lower optimizer\.learning_rate") as caught:
        run(made, data, tmp_path / "run")
    kept = tmp_path / "run" / "not-finite-4"
    assert str(kept) in str(caught.value)
    assert "what was saved before is as it was (state.pt, best.safetensors)" in str(caught.value)
    state = read_state(tmp_path / "run" / STATE)
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["objective"].values())
    load_network(tmp_path / "run" / BEST)

    training = Mixtures.of_training(made, {data.folder.name: data})
    wanted = [*training.batches(2, start=8, stop=10)]
    reader = PoolReader(training.pool)
    found = [render(plan, reader) for plan in plans_of(read_table(kept, "mixtures"))]
    assert len(found) == 4
    np.testing.assert_array_equal([one.mixture for one in found], torch.cat([one for one, _ in wanted]))
    np.testing.assert_array_equal([one.targets for one in found], torch.cat([one for _, one in wanted]))

    # what was wrong is mended: the run goes on from its last state
    monkeypatch.undo()
    assert run(made, data, tmp_path / "run").finished


def test_what_a_first_step_that_is_not_finite_could_not_save_is_not_named(
    data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, at=0)
    with pytest.raises(BuildError, match="step 0: the loss is nan") as caught:
        run(recipe(), data, tmp_path)
    assert "state.pt" not in str(caught.value)
    assert "best.safetensors" not in str(caught.value)


def one_song_each(folder: Path) -> Corpus:
    """Songs that have both stems."""
    from tests.augment.small_pool import noise
    from tests.manifests.exports.small_corpus import write_song, write_tables

    rows = []
    for song in range(3):
        stems = {"speech": noise(2 * song, 4000), "music": noise(2 * song + 1, 4000)}
        rows += write_song(folder, f"song{song}", stems)
    return write_tables(folder, rows)


def test_a_full_disk_leaves_the_last_state(data: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(epochs=3)
    run(made, data, tmp_path / "whole")
    sync: Callable[[int], None] = os.fsync
    out = tmp_path / "full"

    def fill(tick: Tick) -> None:
        if tick.step == 4:
            monkeypatch.setattr(os, "fsync", refuse)

    def refuse(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with pytest.raises(
        BuildError, match=r"full/(best\.safetensors|state\.pt): .*No space left .*; free some space"
    ):
        run(made, data, out, progress=fill)
    assert read_state(out / STATE)["step"] == 3
    load_network(out / BEST)
    assert not [*out.glob(".stemloom-*")]
    monkeypatch.undo()
    run(made, data, out)
    assert told(out) == told(tmp_path / "whole")
    assert same_weights(out, tmp_path / "whole")


def test_a_folder_is_of_one_recipe_and_one_training_at_a_time(data: Corpus, tmp_path: Path) -> None:
    run(recipe(), data, tmp_path, max_minutes=0.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(
        BuildError, match=r"recipe\.json: the run was begun with batch_size 2, .* for 3; use the same"
    ):
        run(recipe(batch_size=3), data, tmp_path)
    with BuildLock(tmp_path), pytest.raises(BuildError, match="at work in this folder; wait until it has ended"):
        run(recipe(), data, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_corpus_without_a_target_is_refused(tmp_path: Path) -> None:
    data = loose_corpus(tmp_path / "corpus", {"speech": 2})
    with pytest.raises(RecipeError, match=r"source 'music': .*music.*they have speech"):
        run(recipe(), data, tmp_path / "run")


def test_a_corpus_without_a_split_is_refused(data: Corpus, tmp_path: Path) -> None:
    said = r"field 'split' is 'train', and the corpora have no splits: .*'--set split= --set validation\.split='"
    for call in (run, lambda made, data, out: check_training(made, [data.folder])):
        with pytest.raises(RecipeError, match=said):
            call(recipe(split="train"), data, tmp_path / "run")


def test_a_segment_longer_than_every_clip_is_refused(tmp_path: Path) -> None:
    data = one_song_each(tmp_path / "corpus")  # of half a second
    mix = {**MIX, "length_s": 0.6, "together": True}
    with pytest.raises(RecipeError, match=r"mix\.length_s is 0\.6.*0\.5"):
        run(recipe(mix=mix), data, tmp_path / "run")
    assert run(recipe(mix={**mix, "length_s": 0.5}, epochs=1), data, tmp_path / "run").finished


@pytest.mark.parametrize("device", ["gpu", "cuda:77", "vulkan"])
def test_an_unknown_device_is_refused(device: str, data: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"device '{device}': .*; give auto, cpu, cuda or cuda:NUMBER") as caught:
        train(recipe(), [data.folder], tmp_path / "run", device=device)
    assert len(str(caught.value)) < 150


def test_a_truncated_state_is_refused_and_the_best_weights_stay(data: Corpus, tmp_path: Path) -> None:
    run(recipe(), data, tmp_path)
    whole = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        BuildError,
        match=r"state\.pt: is no state .* damaged; remove it to start anew, .* 'start_from: \S+best\.safetensors'$",
    ):
        run(recipe(epochs=3), data, tmp_path)
    load_network(tmp_path / BEST)
