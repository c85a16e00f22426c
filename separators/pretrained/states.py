"""Other people's weights out of their files, without running any code of the files'.

A safetensors file cannot run anything. A pickle (.th, .ckpt, .pt, .pth) is opened by torch's `weights_only`
loader, which makes tensors and plain values; what else a known format has in it (a class that it names, a fraction,
a number of numpy's) becomes a `StandIn`, so that nothing of it is ever imported or called. Anything beyond is
refused.

References
----------
PyTorch, "Serialization semantics", https://docs.pytorch.org/docs/stable/notes/serialization.html: `weights_only`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from manifests.errors import RecipeError

__all__ = ["StandIn", "fill", "plain_state", "read_weights"]

_WRAPPERS = ("state_dict", "state", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_GLOBAL = re.compile(r"GLOBAL (\S+)|module (\S+) is blocked")


class StandIn:
    """What stands for an object of a class that a pickle names: it keeps what the object would be made from.

    The class itself is named in a pickle too, and is then a subclass of this one.

    Attributes
    ----------
    pickled_name : str
        Of the class, with its module.
    arguments : tuple
    """

    pickled_name = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        """Take no state: what needs one is not needed."""


def read_weights(path: Path, names: Iterable[str] = ()) -> tuple[Any, dict[str, str]]:
    """What a file of weights holds.

    Parameters
    ----------
    path : Path
        Safetensors where it ends so, a pickle of torch's otherwise.
    names : iterable of str
        Of classes and functions that its pickles hold, with their modules; they become `StandIn`.

    Returns
    -------
    content : Any
        Tensors by name, or whatever was pickled.
    metadata : dict
        Of a safetensors file.

    Raises
    ------
    RecipeError
        The file is missing, cut short, of another format, or needs more than tensors and plain values.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give the path of the weights") from error
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    # torch takes pairs of an object and the name that it answers to; its stubs do not say so.
    stand_ins = [(type(name, (StandIn,), {"pickled_name": name}), name) for name in names]
    try:
        with torch.serialization.safe_globals(cast(Any, stand_ins)):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:
        refused = _GLOBAL.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise RecipeError(
                f"{path}: holds {refused[1] or refused[2]}, which such weights do not need and which could run any "
                "code, so the file is refused; ask for the weights as safetensors"
            ) from error
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise RecipeError(
            f"{path}: is no file of weights, or one that was cut short ({reason}); copy or download it again"
        ) from error


def plain_state(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """Tensors by the names that a network gives them, out of what trainers wrap around them.

    Parameters
    ----------
    path : Path
        For messages.
    content : Any
        A state, or a mapping that holds one as ``state_dict``, ``state`` or ``model``; ``module.`` and ``model.``
        may stand before all of its names.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    RecipeError
        There is no state in it.
    """
    while isinstance(content, Mapping) and (found := [name for name in _WRAPPERS if _is_mapping(content, name)]):
        content = content[found[0]]
    if not isinstance(content, Mapping) or not content:
        raise RecipeError(
            f"{path}: holds a {type(content).__name__} where a network's tensors should be: give a file of weights"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise RecipeError(
                f"{path}: '{name}' is a {type(value).__name__} where a network's tensors should be: give a file of "
                "weights"
            )
    state = dict(content)
    while prefix := next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Give a network its weights: all of them, and no others.

    Parameters
    ----------
    module : torch.nn.Module
        Takes them in its own precision.
    state : mapping of str to torch.Tensor
    path : Path
        Where they are from, for messages.

    Raises
    ------
    RecipeError
        A tensor is missing, unexpected, of another shape or not finite.
    """
    wanted = module.state_dict()
    # Of tensors that share their memory, safetensors files hold one.
    places = {tensor.data_ptr(): name for name, tensor in wanted.items() if name in state}
    tied = {
        name: state[places[tensor.data_ptr()]] for name, tensor in wanted.items() if tensor.data_ptr() in places
    }
    state = {**tied, **state}
    for name in sorted(wanted.keys() | state.keys()):
        if name not in state:
            wrong = f"tensor '{name}' is missing"
        elif name not in wanted:
            wrong = f"tensor '{name}' is of no such network"
        elif state[name].shape != wanted[name].shape:
            wrong = f"tensor '{name}' has the shape {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        elif not state[name].isfinite().all():
            wrong = f"tensor '{name}' holds NaN or infinity"
        else:
            continue
        raise RecipeError(f"{path}: {wrong}; give the weights and the settings that belong together")
    module.load_state_dict(state)


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise RecipeError(
            f"{path}: is no safetensors file, or one that was cut short ({error}); copy or download it again"
        ) from error


def _is_mapping(content: Mapping[Any, Any], name: str) -> bool:
    return isinstance(content.get(name), Mapping)
