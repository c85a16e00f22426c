"""A run's folder: one recipe's, and states that are read without running anything."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.corpus import Corpus
from manifests.errors import BuildError
from manifests.files import TEMPORARY_PREFIX
from tests.augment.small_pool import loose_corpus
from tests.training.small_training import corpus, recipe
from training.recipe import TrainRecipe
from training.runs import BEST, RUN, STATE, claim_folder, read_state, write_run, write_state

STATE_VALUES: dict[str, Any] = {
    "step": 3,
    "history": {"best": float("inf"), "since_best": 0},
    "matched": {"taken": ("a", "b")},
    "objective": {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)},
    "optimizer": {"state": {}, "param_groups": []},
    "tally": {"losses": [0.5]},
    "processes": 1,
    "average": None,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus(tmp_path_factory.mktemp("corpus"))


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_state(tmp_path / STATE, STATE_VALUES)
    found = read_state(tmp_path / STATE)
    for name, value in found.pop("objective").items():
        assert torch.equal(value, STATE_VALUES["objective"][name])
    assert found == {name: value for name, value in STATE_VALUES.items() if name != "objective"}


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)

    def __init__(self, place: Path) -> None:
        self.place = place


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_malicious_state_is_refused_and_not_run(wrapped: bool, tmp_path: Path) -> None:
    path, place = tmp_path / STATE, tmp_path / "owned"
    if wrapped:
        torch.save({"step": Malice(place)}, path)
    else:
        path.write_bytes(pickle.dumps({"step": Malice(place)}, protocol=2))
    with pytest.raises(
        BuildError, match=r"state\.pt: is no state of a training run, or is damaged; remove it to start anew$"
    ):
        read_state(path)
    assert not place.exists()


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_state_is_a_build_error_or_a_state(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / STATE
    write_state(path, STATE_VALUES)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    with contextlib.suppress(BuildError):
        assert "step" in read_state(path)


@pytest.mark.parametrize("values", [[1, 2], torch.zeros(3), {"weight": torch.zeros(3)}])
def test_what_is_no_state_is_refused(values: Any, tmp_path: Path) -> None:
    torch.save(values, tmp_path / STATE)
    with pytest.raises(BuildError, match=r"state\.pt: .*no state of a training run.*; remove it"):
        read_state(tmp_path / STATE)


def test_a_state_that_the_disk_refuses_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path / STATE, STATE_VALUES)
    before = (tmp_path / STATE).read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(BuildError, match=r"state\.pt: cannot be written \(No space left .*\); free some space"):
        write_state(tmp_path / STATE, {**STATE_VALUES, "step": 4})
    assert (tmp_path / STATE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def begin(folder: Path, made: TrainRecipe, data: Corpus) -> None:
    """As a run that has saved its first state leaves its folder."""
    claim_folder(folder, made, {"mine": data})
    (folder / STATE).touch()


def test_a_claimed_folder_says_whose_it_is(data: Corpus, tmp_path: Path) -> None:
    made = recipe()
    claim_folder(tmp_path, made, {"mine": data})
    values = json.loads((tmp_path / "recipe.json").read_text())
    assert values == {"recipe": made.model_dump(mode="json"), "corpora": {"mine": data.identity}}
    claim_folder(tmp_path, made, {"mine": data})


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 9}, {"early_stopping": 3}, {"log_every": 7}, {"tensorboard": True}, {"about": "another try"}],
)
def test_what_changes_nothing_done_may_change(changes: dict[str, Any], data: Corpus, tmp_path: Path) -> None:
    begin(tmp_path, recipe(), data)
    claim_folder(tmp_path, recipe(**changes), {"mine": data})
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"] == recipe(**changes).model_dump(mode="json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, "begun with seed 0, and is now asked for 3; use the same settings, or another --out folder"),
        ({"loss": "mse"}, r"begun with loss \{"),
        ({"optimizer": {"learning_rate": 0.1}}, r"begun with optimizer \{"),
        ({"start_from": "a.safetensors"}, r'begun with start_from null, and is now asked for "a\.safetensors"'),
    ],
)
def test_another_recipe_is_refused(changes: dict[str, Any], message: str, data: Corpus, tmp_path: Path) -> None:
    begin(tmp_path, recipe(), data)
    with pytest.raises(BuildError, match=message):
        claim_folder(tmp_path, recipe(**changes), {"mine": data})


def test_epochs_shape_a_cosine_and_may_not_change(data: Corpus, tmp_path: Path) -> None:
    begin(tmp_path, recipe(schedule={"name": "cosine"}), data)
    said = r"begun with epochs 2, and is now asked for 9 \(the cosine schedule ends with them\); use the same"
    with pytest.raises(BuildError, match=said):
        claim_folder(tmp_path, recipe(schedule={"name": "cosine"}, epochs=9), {"mine": data})


def test_other_corpora_are_refused(data: Corpus, tmp_path: Path) -> None:
    begin(tmp_path / "run", recipe(), data)
    other = loose_corpus(tmp_path / "other", {"speech": 1, "music": 1})
    for corpora in ({"mine": other}, {"mine": data, "other": other}):
        with pytest.raises(BuildError, match="begun with other corpora; use the same, or another --out folder"):
            claim_folder(tmp_path / "run", recipe(), corpora)


@pytest.mark.parametrize("name", [STATE, BEST])
def test_weights_of_nobody_are_not_taken_over(name: str, data: Corpus, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(BuildError, match=r"holds weights, and no recipe\.json that says whose; choose another"):
        claim_folder(tmp_path, recipe(), {"mine": data})
    assert (tmp_path / name).read_bytes() == b"weights"


def test_a_damaged_recipe_is_refused(data: Corpus, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"recipe": [')
    said = r"recipe\.json: is no recipe of a training run, or is damaged; choose another --out folder"
    with pytest.raises(BuildError, match=said):
        claim_folder(tmp_path, recipe(), {"mine": data})


def test_a_run_that_never_saved_anything_may_begin_with_another_recipe(data: Corpus, tmp_path: Path) -> None:
    claim_folder(tmp_path, recipe(), {"mine": data})
    claim_folder(tmp_path, recipe(seed=3), {"mine": data})
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["seed"] == 3


def test_folders_of_other_commands_are_refused_and_stay(data: Corpus, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in data.folder.rglob("*") if path.is_file()}
    with pytest.raises(BuildError, match="is a corpus, and no folder of a training run; choose another --out"):
        claim_folder(data.folder, recipe(), {"mine": data})
    assert {path: path.read_bytes() for path in data.folder.rglob("*") if path.is_file()} == before
    text = '{"builder": "separate", "recipe": {}, "corpora": {}}'
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(BuildError, match=r"recipe\.json: is of a build \('separate'\), and of no training run"):
        claim_folder(tmp_path, recipe(), {"mine": data})
    assert (tmp_path / "recipe.json").read_text() == text


def test_what_a_killed_process_left_is_removed(data: Corpus, tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}1234.tmp").write_bytes(b"half a state")
    claim_folder(tmp_path, recipe(), {"mine": data})
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_how_a_run_went_is_json(tmp_path: Path) -> None:
    write_run(tmp_path, {"steps": 3, "matched": None})
    assert json.loads((tmp_path / RUN).read_text()) == {"steps": 3, "matched": None}
