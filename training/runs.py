"""The folder of a training run: whose it is, where it stands, how it went.

- `recipe.json`: the recipe as resolved, and what identifies the corpora, which others cannot follow once there are
  weights;
- `metrics.jsonl`: the reports (`training.journal`);
- `best.safetensors`: the weights of the best validation, with the network's config (`separators.weights`);
- `state.pt`: all that the same command needs to go on, as if nothing had happened;
- `run.json`: how it went, written last.

The state is a file of tensors and plain values, read without running any code of the file's. Randomness needs no
place in it: mixtures and what a network draws depend on the seed and the step only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from augment.plan import MixturePlan, plans_table
from manifests.corpus import Corpus
from manifests.errors import BuildError
from manifests.files import TEMPORARY_PREFIX, replacing
from manifests.tables import find_table, write_table
from training.recipe import TrainRecipe
from training.records import read_json, write_json

__all__ = ["BEST", "RUN", "STATE", "claim_folder", "keep_plans", "read_state", "write_run", "write_state"]

BEST = "best.safetensors"
STATE = "state.pt"
RECIPE = "recipe.json"
RUN = "run.json"

_FIELDS = {"step", "history", "objective", "optimizer", "tally", "processes"}
_MAY_CHANGE = ("about", "epochs", "early_stopping", "log_every", "tensorboard")
"""Fields of a recipe that may be others when a run goes on."""


def claim_folder(folder: Path, recipe: TrainRecipe, corpora: Mapping[str, Corpus]) -> None:
    """Write what the run is into its folder, or refuse a folder with another run's weights, or of something else.

    Parameters
    ----------
    folder : Path
        Its lock is held.
    recipe : TrainRecipe
    corpora : mapping of str to Corpus

    Raises
    ------
    BuildError
        The folder is another run's, a corpus or a build, or cannot be written.
    """
    values: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "corpora": {name: corpus.identity for name, corpus in corpora.items()},
    }
    if find_table(folder, "stems") is not None:
        raise BuildError(f"{folder}: is a corpus, and no folder of a training run; choose another --out folder")
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    path = folder / RECIPE
    before = _begun(path) if path.exists() else None
    # a run that never came to save anything leaves nothing that another recipe could spoil
    if any((folder / name).exists() for name in (STATE, BEST)):
        if before is None:
            raise BuildError(
                f"{folder}: holds weights, and no {RECIPE} that says whose; choose another --out folder"
            )
        _require_same(path, before, values)
    write_json(path, values)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Save a state.

    Parameters
    ----------
    path : Path
    state : dict
        Tensors and plain values, nested as one likes.

    Raises
    ------
    BuildError
        The disk refuses (it is full, for example); what was at `path` before is untouched.
    """
    # torch's own writer would hide what the disk says behind an error of its own
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as file:
        file.write(buffer.getbuffer())


def read_state(path: Path) -> dict[str, Any]:
    """Read a state, onto the CPU.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    BuildError
        The file is cut short or damaged, or holds more than tensors and plain values.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage can break the reader anywhere
        best = path.with_name(BEST)
        rest = f", or go on from the best weights in another folder with 'start_from: {best}'"
        raise BuildError(
            f"{path}: is no state of a training run, or is damaged; remove it to start anew"
            f"{rest if best.exists() else ''}"
        ) from error
    if not isinstance(state, dict) or _FIELDS - state.keys():
        raise BuildError(f"{path}: holds a {type(state).__name__} that is no state of a training run; remove it")
    return state


def keep_plans(folder: Path, step: int, plans: Iterable[MixturePlan]) -> Path:
    """Keep the plans of a batch that did harm, for replay.

    Parameters
    ----------
    folder : Path
        Of the run.
    step : int
    plans : iterable of MixturePlan

    Returns
    -------
    Path
        The mixtures table.
    """
    kept = folder / f"not-finite-{step}"
    kept.mkdir(exist_ok=True)
    return write_table(kept, "mixtures", plans_table(list(plans)))


def write_run(folder: Path, values: Mapping[str, Any]) -> None:
    """Write `run.json`: how the run went, as JSON values."""
    write_json(folder / RUN, values)


def _begun(path: Path) -> dict[str, dict[str, Any]]:
    """What `claim_folder` wrote when a run began."""
    found = read_json(path) or {}
    if "builder" in found:
        raise BuildError(
            f"{path}: is of a build ('{found['builder']}'), and of no training run; choose another --out folder"
        )
    if not all(isinstance(found.get(name), dict) for name in ("recipe", "corpora")):
        raise BuildError(f"{path}: is no recipe of a training run, or is damaged; choose another --out folder")
    return found


def _require_same(path: Path, before: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    old, new = before["recipe"], values["recipe"]
    for name in sorted({*old, *new}):
        is_cosine = name == "epochs" and new["schedule"]["name"] == "cosine"
        if old.get(name) != new.get(name) and (is_cosine or name not in _MAY_CHANGE):
            why = " (the cosine schedule ends with them)" if is_cosine else ""
            raise BuildError(
                f"{path}: the run was begun with {name} {json.dumps(old.get(name))}, and is now asked for "
                f"{json.dumps(new.get(name))}{why}; use the same settings, or another --out folder"
            )
    if before["corpora"] != values["corpora"]:
        raise BuildError(f"{path}: the run was begun with other corpora; use the same, or another --out folder")
