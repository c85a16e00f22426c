"""Networks of Demucs out of the files that its package writes.

A ``.th`` file pickles a mapping of ``klass`` (a class), ``args`` and ``kwargs`` (what it is made from), ``state``
(in half precision) and ``training_args``; a ``.safetensors`` holds the same as tensors and JSON. Both only name the
class, and only those that the package has are taken.

References
----------
demucs 4.1, https://github.com/adefossez/demucs: ``states.py`` and ``hf.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from manifests.errors import RecipeError
from manifests.installed import installed_version
from separators.network import Network, NetworkConfig
from separators.pretrained.states import StandIn, fill, plain_state, read_weights

__all__ = ["DemucsConfig", "DemucsNetwork", "demucs_package", "read_network"]

log = logging.getLogger(__name__)

_CLASSES = (
    "demucs.demucs.Demucs",
    "demucs.hdemucs.HDemucs",
    "demucs.htdemucs.HTDemucs",
    "demucs.wdemucs.WDemucs",
)
# Settings of the training, which lie beside the network, hold numbers of numpy's.
_BESIDE = (
    "fractions.Fraction",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int64DType",
)
_ARGUMENTS = ("args", "kwargs")


@dataclass(frozen=True, kw_only=True)
class DemucsConfig(NetworkConfig):
    """What a network of the package's is made from.

    Attributes
    ----------
    kind : str
        Its class.
    arguments : str
        JSON of what the class takes.
    package : str
        The package's version.
    """

    kind: str
    arguments: str
    package: str


class DemucsNetwork(Network):
    """A network of the package's as one of ours.

    Parameters
    ----------
    config : DemucsConfig
    model : torch.nn.Module
        Made from it.

    Attributes
    ----------
    model : torch.nn.Module
    """

    def __init__(self, config: DemucsConfig, model: torch.nn.Module) -> None:
        super().__init__(config)
        self.model = model

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        sources: torch.Tensor = self.model(mixture)
        return sources.float()


def read_network(path: Path, segment_s: float | None = None) -> DemucsNetwork:
    """A network out of a file.

    Parameters
    ----------
    path : Path
        A .th or .safetensors as the package makes them.
    segment_s : float, optional
        A length of segments instead of the network's own.

    Returns
    -------
    DemucsNetwork
        In float32, on the CPU, in evaluation mode.

    Raises
    ------
    RecipeError
        The package is missing; the file is, is broken, wants to run code, is quantised or of another network.
    """
    demucs_package()
    content, metadata = read_weights(path, (*_CLASSES, *_BESIDE))
    kind, arguments, named, state = _parts(path, content, metadata)
    made = importlib.import_module(kind.rpartition(".")[0])
    make = getattr(made, kind.rpartition(".")[2])
    known = inspect.signature(make).parameters
    if dropped := sorted(named.keys() - known.keys()):
        log.warning("%s: this demucs has no %s, which the network was made with", path, ", ".join(dropped))
    named = {key: value for key, value in named.items() if key in known}
    try:
        # First weights are drawn only to be replaced: nobody else's draws are to change by it.
        with torch.random.fork_rng(devices=[]):
            model: Any = make(*arguments, **named)
        sources, sample_rate = tuple(model.sources), int(model.samplerate)
        own = model.segment
        if segment_s is not None and not (hasattr(model, "use_train_segment") and segment_s > own):
            model.segment = segment_s
        frames = int(model.segment * sample_rate)
        if kind.endswith(".Demucs"):
            frames = model.valid_length(frames)
        config = DemucsConfig(
            sample_rate=sample_rate,
            channels=int(model.audio_channels),
            sources=sources,
            segment_frames=frames,
            kind=kind,
            arguments=json.dumps([arguments, named], default=str, sort_keys=True),
            package=installed_version("demucs") or "unknown",
        )
    except Exception as error:
        raise RecipeError(
            f"{path}: {kind} cannot be made from what the file says ({error}); copy or download it again"
        ) from error
    fill(model, _renamed(state) if kind.endswith(".Demucs") else state, path)
    return DemucsNetwork(config, model).eval()


def demucs_package() -> Any:
    """The package.

    Returns
    -------
    module

    Raises
    ------
    RecipeError
        It is missing.
    """
    try:
        return importlib.import_module("demucs")
    except ImportError as error:
        raise RecipeError(
            f"Demucs needs the package demucs ({error}): run pip install 'stemloom[demucs]'"
        ) from error


def _parts(
    path: Path, content: Any, metadata: Mapping[str, str]
) -> tuple[str, list[Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Class, arguments, named arguments and state that a file holds."""
    if metadata:
        kind = metadata.get("klass", "")
        try:
            arguments, named = (
                json.loads(metadata.get(key, "null"), object_hook=_fraction_of) for key in _ARGUMENTS
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError, RecursionError) as error:
            raise RecipeError(f"{path}: its metadata is no JSON ({error}); download it again") from error
        state, is_quantised = content, "structure" in metadata
    else:
        parts = content if isinstance(content, Mapping) else {}
        kind = getattr(parts.get("klass"), "pickled_name", "")
        arguments, named = (_plain(path, parts.get(key)) for key in _ARGUMENTS)
        state = parts.get("state")
        is_quantised = isinstance(state, Mapping) and "__quantized" in state
    if kind not in _CLASSES or not isinstance(arguments, list) or not isinstance(named, dict):
        raise RecipeError(
            f"{path}: holds {f'a {kind}' if kind else 'no class, args and kwargs'}; give a file that demucs has "
            "saved"
        )
    if is_quantised:
        raise RecipeError(
            f"{path}: is quantised, which is not supported; give the network as it was before, such as mdx_extra "
            "in place of mdx_extra_q"
        )
    return kind, arguments, named, plain_state(path, state)


def _plain(path: Path, value: Any) -> Any:
    """A pickled argument: lists for tuples, fractions out of what stands for them."""
    if isinstance(value, dict):
        return {str(key): _plain(path, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(path, item) for item in value]
    if isinstance(value, StandIn) and value.pickled_name == "fractions.Fraction":
        # Written as two numbers, or by older Pythons as a text.
        numbers = str(value.arguments[0]).split("/") if len(value.arguments) == 1 else value.arguments
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            return Fraction(*(int(number) for number in numbers))
    if isinstance(value, bool | int | float | str | None):
        return value
    raise RecipeError(
        f"{path}: an argument of its class is a {type(value).__name__}; give a file that demucs has saved"
    )


def _fraction_of(value: dict[str, Any]) -> Any:
    if value.get("_type") == "fraction":
        return Fraction(int(value["numerator"]), int(value["denominator"]))
    return value


def _renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A `Demucs` of the package's second version had one layer less before the last of each block."""
    renamed = dict(state)
    for name in state:
        new = re.sub(r"^((?:en|de)coder\.\d+)\.2\.(bias|weight)$", r"\1.3.\2", name)
        if new not in state:
            renamed[new] = renamed.pop(name)
    return renamed
