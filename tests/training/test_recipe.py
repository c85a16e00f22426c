"""Training recipes: the ready ones, what stands on top of what, and what is refused in which words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from augment.recipe import load_mix, mix_names
from manifests.errors import RecipeError
from tests.training.small_training import MIX, fields, recipe
from training.making import make_network
from training.objective import Objective
from training.recipe import TrainRecipe, load_training, training_names


def written(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", training_names())
def test_ready_recipes_load_and_their_network_fits_their_loss(name: str) -> None:
    made = load_training(name)
    with torch.device("meta"):
        network = make_network(made)
        objective = Objective(network, made.loss, made.mix.outputs, made.targets)
    assert network.sample_rate == made.mix.sample_rate
    assert network.segment_frames == made.mix.num_frames
    assert objective.targets == made.mix.outputs
    assert made.epoch_steps() >= 1
    # what is kept beside the weights makes the same recipe again
    assert TrainRecipe.model_validate(made.model_dump(mode="json")) == made


def test_the_ready_recipes_say_what_the_papers_do() -> None:
    dialogue = load_training("strauss2021")
    assert dialogue.schedule.factor == 0.3
    assert (dialogue.schedule.patience, dialogue.early_stopping) == (5, 10)
    cinematic = load_training("jusperlee2023")
    assert (cinematic.schedule.factor, cinematic.schedule.every_epochs) == (0.98, 2)
    assert cinematic.epoch_steps() == 10_000


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_an_epoch_has_as_many_seconds_whatever_the_segment(factor: int) -> None:
    # two segments a batch, three batches a step
    mix = {**MIX, "length_s": 0.5 * factor}
    made = load_training({**fields(mix=mix, accumulate=3, epoch_audio_s=240.0), "steps_per_epoch": None})
    assert made.epoch_steps() * made.accumulate * made.batch_size * 0.5 * factor == 240.0
    assert made.epoch_steps(2) * 2 == made.epoch_steps(1)


def test_an_epoch_has_a_step_however_long_it_is() -> None:
    assert load_training({**fields(epoch_audio_s=0.01), "steps_per_epoch": None}).epoch_steps(64) == 1


def test_bases_are_merged_group_by_group(tmp_path: Path) -> None:
    base = fields(network={"name": "conv-tasnet", "filters": 12, "hidden": 10}, freeze=["a", "b"])
    written(tmp_path / "base.yaml", base)
    middle = {"base": "base.yaml", "network": {"hidden": 20}, "freeze": ["c"], "optimizer": {"weight_decay": 0.1}}
    written(tmp_path / "middle.yaml", middle)
    made = load_training(
        written(tmp_path / "top.yaml", {"base": "middle.yaml", "optimizer": {"learning_rate": 0.5}})
    )
    assert made.network == {"name": "conv-tasnet", "filters": 12, "hidden": 20}
    assert made.freeze == ("c",)
    assert (made.optimizer.learning_rate, made.optimizer.weight_decay) == (0.5, 0.1)


def test_another_network_takes_none_of_the_sizes_of_the_one_before() -> None:
    made = load_training({"base": "umx", "network": {"name": "conv-tasnet"}, "loss": "l1"})
    assert made.network == {"name": "conv-tasnet"}
    kept = load_training({"base": "jusperlee2023", "network": {"name": "bsrnn", "features": 64}})
    assert kept.network == {**load_training("jusperlee2023").network, "features": 64}


@pytest.mark.parametrize("name", mix_names())
def test_a_mixing_recipe_on_top_of_a_ready_one_is_that_one(name: str) -> None:
    made = load_training(fields(mix={"base": name, "length_s": 2.5}))
    assert made.mix == load_mix(name).model_copy(update={"length_s": 2.5})


def test_a_mix_is_changed_on_top_of_what_the_base_says(tmp_path: Path) -> None:
    shorter = load_training({"base": "umx", "mix": {"length_s": 4}})
    assert shorter.mix == load_mix("umx").model_copy(update={"length_s": 4.0})
    assert load_training("umx", ["mix.length_s=4"]) == shorter
    another = load_training({"base": "umx", "mix": {"base": "bsrnn", "length_s": 4}})
    assert another.mix == load_mix("bsrnn").model_copy(update={"length_s": 4.0})
    written(tmp_path / "mine.yaml", MIX)
    written(tmp_path / "recipe.yaml", fields(mix="mine.yaml"))
    assert load_training(tmp_path / "recipe.yaml").mix.sample_rate == 8000
    assert load_training(tmp_path / "recipe.yaml", ["mix.length_s=2"]).mix.num_frames == 16000


def test_changes_win_and_are_yaml() -> None:
    changes = ["network.hidden=64", "epochs=7", "loss=[l1, snr]", "early_stopping=null", "network.new.deep=[1, 2]"]
    made = load_training("umx", changes)
    assert made.network == {"name": "open-unmix", "hidden": 64, "new": {"deep": [1, 2]}}
    assert made.epochs == 7
    assert [term.name for term in made.loss.terms] == ["l1", "snr"]
    assert made.early_stopping is None


@pytest.mark.parametrize("change", ["epochs", "=3", "network.=3", ".hidden=1", "epochs=[1"])
def test_what_is_no_change_is_refused(change: str) -> None:
    with pytest.raises(RecipeError, match=r"change '"):
        load_training("umx", [change])


@pytest.mark.parametrize(
    ("short", "terms"),
    [
        ("l1", [("l1", 1.0)]),
        (["l1", "snr"], [("l1", 1.0), ("snr", 1.0)]),
        ({"name": "stft", "weight": 0.1}, [("stft", 0.1)]),
        (["l1", {"name": "stft", "weight": 0.1}], [("l1", 1.0), ("stft", 0.1)]),
        ({"terms": "mse", "earlier": 0.0}, [("mse", 1.0)]),
        ({"terms": {"name": "snr", "weight": 2}}, [("snr", 2.0)]),
    ],
)
def test_a_loss_can_be_written_short(short: Any, terms: list[tuple[str, float]]) -> None:
    assert [(term.name, term.weight) for term in recipe(loss=short).loss.terms] == terms


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r"recipe: unknown field 'epoch'; did you mean 'epochs'\?"),
        ({"optimizer": {"learningrate": 1}}, r"field 'optimizer': .*did you mean 'learning_rate'\?"),
        ({"loss": {"terms": "l1", "asignment": "fixed"}}, r"did you mean 'assignment'\?"),
        ({"loss": "l3"}, r"'loss\.terms\.0\.name' is 'l3': .*'l1'"),
        ({"loss": []}, "at least 1 item"),
        ({"loss": ["l1", "l1"]}, "term 'l1' is there twice: write it once"),
        ({"loss": {"name": "l1", "max_db": 3}}, "max_db is for snr and si_sdr, and this term is l1"),
        ({"loss": {"name": "snr", "max_db": 0}}, "greater than 0"),
        ({"loss": {"terms": "magnitude_l1", "assignment": "permutation"}}, "compares by name"),
        ({"loss": {"terms": ["snr", "activity"], "assignment": "permutation"}}, "activity compares by name"),
        ({"loss": {"terms": ["snr", "guided"], "assignment": "mixit"}}, "guided compares each source"),
        ({"loss": {"terms": "l1", "weights": {"speech": 2}, "assignment": "mixit"}}, "weights are of targets"),
        ({"loss": {"terms": "l1", "weights": {"speach": 2}}}, r"no target 'speach' \(did you mean 'speech'\?\)"),
        ({"loss": {"terms": "l1", "weights": {"speech": 0}}}, r"loss\.weights\.speech.* greater than 0"),
        ({"targets": {"speach": "a"}}, r"targets: .* no target 'speach' \(did you mean 'speech'\?\)"),
        (
            {"epoch_audio_s": 10.0},
            r"steps_per_epoch is 3 and epoch_audio_s 10: write one .*, and null .* \('steps_per_epoch=null'\)",
        ),
        ({"steps_per_epoch": None}, "steps_per_epoch and epoch_audio_s are both missing: write one of them"),
        ({"mix": {**MIX, "length_s": "longest"}}, r"mix\.length_s is 'longest', .* write seconds"),
        ({"mix": "umxx"}, r"no ready recipe 'umxx' \(did you mean 'umx'\?\)"),
        ({"mix": {"base": "umxx"}}, r"no ready recipe 'umxx'"),
        ({"mix": {**MIX, "samplerate": 1}}, r"'mix'.*did you mean 'sample_rate'\?"),
        ({"network": {"filters": 3}}, r"network\.name is missing: add it"),
        ({"average": 1.0}, r"'average' is 1\.0: .*less than 1"),
        ({"batch_size": 0}, r"'batch_size' is 0: .*greater than or equal to 1"),
        ({"precision": "half"}, r"'precision' is 'half': .*'bfloat16'"),
        ({"optimizer": {"learning_rate": math.nan}}, r"'optimizer\.learning_rate' is nan"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["bach_size=4"], r"^--set bach_size=4: unknown field 'bach_size'; did you mean 'batch_size'\?"),
        (["seed=1", "batch_size=0", "epochs=2"], "^--set batch_size=0: field 'batch_size' is 0"),
        (["mix.length=4"], r"^--set mix\.length=4: field 'mix': .*did you mean 'length_s'\?"),
        (["epoch_audio_s=10"], "^--set epoch_audio_s=10: steps_per_epoch is 344 and epoch_audio_s 10"),
    ],
)
def test_a_change_that_is_wrong_is_blamed_and_not_the_file(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_training("umx", changes)


def test_a_file_that_is_wrong_is_blamed_with_what_was_to_change_it(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.yaml", {"base": "umx", "batch_size": 0})
    with pytest.raises(RecipeError, match=r"mine\.yaml with --set seed=1: field 'batch_size' is 0"):
        load_training(path, ["seed=1"])
    assert load_training(path, ["batch_size=2"]).batch_size == 2


def test_seconds_of_an_epoch_take_the_place_of_steps_that_are_unset() -> None:
    made = load_training("umx", ["epoch_audio_s=960", "steps_per_epoch=null"])
    assert made.epoch_steps() == 10


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(epoch=1, batch_size=0, seed=-1)
    assert len(str(caught.value).splitlines()) == 3


def test_bases_that_lead_back_or_nowhere_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.yaml", {"base": "b.yaml"})
    written(tmp_path / "b.yaml", {"base": "a.yaml"})
    with pytest.raises(RecipeError, match=r"a\.yaml: field 'base' leads back to this file; remove it"):
        load_training(tmp_path / "a.yaml")
    with pytest.raises(RecipeError, match=r"there is no ready training recipe 'umy' \(did you mean 'umx'\?\)"):
        load_training({"base": "umy"})
    with pytest.raises(RecipeError, match="field 'base' is 3: it must be the name"):
        load_training({"base": 3})
    with pytest.raises(RecipeError, match=r"none\.yaml: cannot be read"):
        load_training(tmp_path / "none.yaml")


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(
        "sample_rate: 8000\nlength_s: 0.5\n"
        "sources: {vocals: {stems: vocals}, rest: {stems: rest, gain_db: [-3, 3]}}\n"
    )
    (tmp_path / "weights.safetensors").touch()
    (tmp_path / "train.yaml").write_text(
        "network: {name: unet}\n"
        "mix: {base: mix.yaml, length_s: 0.25, sources: {rest: {gain_db: {normal: [0, 1]}}}}\n"
        "loss: l1\nbatch_size: 1\nsteps_per_epoch: 1\nepochs: 1\nstart_from: weights.safetensors\n"
    )
    recipe = load_training(tmp_path / "train.yaml")
    assert recipe.mix.length_s == 0.25
    assert recipe.start_from == str(tmp_path / "weights.safetensors")
    assert recipe.mix.sources["rest"].gain_db.normal == (0, 1), "one distribution takes the place of another"
