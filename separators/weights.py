"""Networks on disk: safetensors with the config inside, loaded without running any code of the file's.

A file holds the network's state under the names of its `state_dict`, and as metadata ``network`` (a name of
`NETWORKS`), ``config`` (JSON of its `NetworkConfig`), ``stemloom`` (the version that wrote it) and ``about`` (JSON:
licence, training data, whatever its writer wanted known). Pickles (.pt, .th, .ckpt) can run anything when they are
opened, and are refused.

References
----------
Hugging Face, safetensors, https://github.com/huggingface/safetensors: the format.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from manifests.errors import RecipeError, did_you_mean
from manifests.files import replacing
from manifests.installed import installed_version
from manifests.plain import json_of
from separators.network import Network, NetworkConfig

__all__ = [
    "NETWORKS",
    "Matched",
    "SavedNetwork",
    "load_matching",
    "load_network",
    "network_classes",
    "network_identity",
    "read_saved",
    "save_network",
]

log = logging.getLogger(__name__)

NETWORKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "bs-roformer": ("separators.bs_roformer:BSRoformerConfig", "separators.bs_roformer:BSRoformer"),
        "bsrnn": ("separators.bsrnn:BSRNNConfig", "separators.bsrnn:BSRNN"),
        "conv-tasnet": ("separators.conv_tasnet:ConvTasNetConfig", "separators.conv_tasnet:ConvTasNet"),
        "dnn-ds": ("separators.dnn_ds:DNNDSConfig", "separators.dnn_ds:DNNDS"),
        "ht-demucs": ("separators.ht_demucs:HTDemucsConfig", "separators.ht_demucs:HTDemucs"),
        "mrx": ("separators.mrx:MRXConfig", "separators.mrx:MRX"),
        "mrx-c": ("separators.mrx:MRXCConfig", "separators.mrx:MRXC"),
        "open-unmix": ("separators.open_unmix:OpenUnmixConfig", "separators.open_unmix:OpenUnmix"),
        "tdcn": ("separators.tdcn:TDCNConfig", "separators.tdcn:TDCN"),
        "unet": ("separators.unet:UNetConfig", "separators.unet:UNet"),
    }
)
"""By the name that files call them: where a network's config and the network are, to be imported when used."""

_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".th"}
# A zip archive, as torch.save writes it, and a pickle of protocol 2 or later.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class SavedNetwork:
    """What a file says of the network in it.

    Attributes
    ----------
    network : str
        A name of `NETWORKS`.
    config : dict
        JSON of its `NetworkConfig`.
    version : str
        Of stemloom, when it was saved.
    about : dict
        What its writer wanted known.
    """

    network: str
    config: dict[str, Any]
    version: str
    about: dict[str, Any]


@dataclass(frozen=True)
class Matched:
    """What became of the tensors when weights were taken over where they fit; each name is in one of these.

    Attributes
    ----------
    taken : tuple of str
    missing : tuple of str
        In the network and not in the file: they stayed as they were.
    unexpected : tuple of str
        In the file and not in the network.
    other_shape : tuple of str
        In both, of different shapes: they stayed as they were.
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]


def network_classes(name: str) -> tuple[type[NetworkConfig], type[Network]]:
    """The classes behind a network's name.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.

    Returns
    -------
    config : type
    network : type

    Raises
    ------
    RecipeError
        There is none of that name.
    """
    if name not in NETWORKS:
        raise RecipeError(
            f"there is no network '{name}'{did_you_mean(name, NETWORKS)}: choose from {', '.join(sorted(NETWORKS))}"
        )
    config, network = (_imported(place) for place in NETWORKS[name])
    return config, network


def save_network(
    path: Path,
    network: Network,
    *,
    about: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a network's weights and config.

    Parameters
    ----------
    path : Path
        Ends in ``.safetensors``; appears whole or not at all.
    network : Network
        Of a class in `NETWORKS`.
    about : mapping, optional
        JSON values: licence, training data, scores.
    dtype : {torch.float32, torch.float16, torch.bfloat16}
        That floating-point weights are stored in; they load as float32.

    Raises
    ------
    RecipeError
        The network is of no class in `NETWORKS`, the suffix another, or a weight is not finite in `dtype`.
    BuildError
        The disk refuses; what was at `path` before is untouched.
    """
    if path.suffix != ".safetensors":
        raise RecipeError(f"{path}: networks are saved as safetensors; let the name end in .safetensors")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise RecipeError(f"dtype is {dtype}: weights are stored as float32, float16 or bfloat16")
    tensors = {}
    for name, tensor in network.state_dict().items():
        stored = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        if not stored.isfinite().all():
            raise RecipeError(
                f"{path}: '{name}' is not finite as {dtype}; store it as float32, or look at the training"
            )
        # Tied weights share their memory, which the format does not know.
        tensors[name] = stored.contiguous().clone()
    facts = {
        "network": _name_of(network),
        "config": json.dumps(network.config.to_json()),
        "stemloom": installed_version("stemloom") or "unknown",
        "about": json.dumps(dict(about or {})),
    }
    with replacing(path) as file:
        file.write(save(tensors, facts))


def read_saved(path: Path) -> SavedNetwork:
    """What a file says of the network in it; no weights are read.

    Parameters
    ----------
    path : Path

    Returns
    -------
    SavedNetwork

    Raises
    ------
    RecipeError
        The file is missing, no safetensors, cut short, or was not written by `save_network`.
    """
    with _opened(path) as file:
        return _saved(path, file)


def load_network(path: Path) -> Network:
    """A network out of its file.

    Parameters
    ----------
    path : Path
        Written by `save_network`.

    Returns
    -------
    Network
        On the CPU, in float32, in evaluation mode.

    Raises
    ------
    RecipeError
        The file is missing, no safetensors, cut short, was not written by `save_network`, or holds a network that
        this version does not know, or tensors that do not fit the config.
    """
    with _opened(path) as file:
        saved = _saved(path, file)
        try:
            config_class, network_class = network_classes(saved.network)
            config = config_class.from_json(saved.config)
            with torch.device("meta"):  # without memory: a config may ask for more than there is
                wanted = network_class(config).state_dict()
            if wrong := _first_misfit(wanted, _shapes(file)):
                raise RecipeError(f"{wrong}; the weights are not those of the config in the file: save it again")
            # First weights are drawn only to be replaced: nobody else's draws are to change by it.
            with torch.random.fork_rng(devices=[]):
                network = network_class(config)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error
        network.load_state_dict({name: file.get_tensor(name).to(wanted[name].dtype) for name in wanted})
    return network.eval()


def load_matching(network: Network, path: Path) -> Matched:
    """Start a network from weights that fit in part, as fine-tuning for other sources does.

    Parameters
    ----------
    network : Network
        Takes what has the same name and shape; the rest of it stays as it is.
    path : Path
        Any safetensors file: of another network or config too.

    Returns
    -------
    Matched

    Raises
    ------
    RecipeError
        The file is missing, no safetensors or cut short, or no matrix or kernel in it fits.
    """
    own = network.state_dict()
    with _opened(path) as file:
        shapes = _shapes(file)
        both = own.keys() & shapes.keys()
        fitting = {name for name in both if tuple(own[name].shape) == shapes[name]}
        # counters and biases can have the same name and shape in networks that share nothing else
        weights = {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
        if not fitting & weights:
            raise RecipeError(
                f"{path}: none of its {len(shapes)} tensors has the name and shape of a matrix or kernel in a "
                f"{type(network).__name__}; start from weights of the same kind of network"
            )
        # In place, so that an optimiser that already holds the parameters goes on holding them.
        with torch.no_grad():
            for name in fitting:
                own[name].copy_(file.get_tensor(name))
    matched = Matched(
        *(tuple(sorted(names)) for names in (fitting, own.keys() - both, shapes.keys() - both, both - fitting))
    )
    log.info(
        "%s: took %d tensors; missing: %s; unexpected: %s; of another shape: %s",
        path,
        len(matched.taken),
        *(", ".join(names) or "none" for names in (matched.missing, matched.unexpected, matched.other_shape)),
    )
    return matched


def network_identity(network: Network) -> str:
    """What a network computes, as a hash of its class, config and weights.

    Parameters
    ----------
    network : Network

    Returns
    -------
    str
        32 hexadecimal digits, BLAKE2b: the same wherever the network is and however it was stored.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([type(network).__qualname__, network.config.to_json()], sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise RecipeError(
            f"{path}: cannot be read ({error.strerror}); give the path of a .safetensors file"
        ) from error
    # A safetensors file starts with its header's length in 8 bytes, the upper four always zero.
    is_pickled = start.startswith(_PICKLE_STARTS) and any(start[4:])
    if path.suffix.lower() in _PICKLES or is_pickled:
        raise RecipeError(
            f"{path}: is a pickle, which can run any code when it is opened; convert it to safetensors where you "
            "trust it, and load that"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as tensors:
            yield tensors
    except SafetensorError as error:
        raise RecipeError(
            f"{path}: is no safetensors file, or one that was cut short ({error}); copy or download it again"
        ) from error


def _saved(path: Path, file: Any) -> SavedNetwork:
    facts = file.metadata() or {}
    for field in ("network", "config"):
        if field not in facts:
            raise RecipeError(
                f"{path}: was not written by 'stemloom train' (no '{field}' in its metadata), so nobody knows "
                "which network it is of; give best.safetensors of a run, or name its kind, as in demucs:PATH or "
                "roformer:PATH; a network of your own is saved with save_network"
            )
    try:
        config, about = json_of(facts["config"]), json_of(facts.get("about", "{}"))
        if not (isinstance(config, dict) and isinstance(about, dict)):
            raise ValueError("not an object")
    except ValueError as error:
        raise RecipeError(f"{path}: its metadata is no JSON ({error}); copy or download it again") from error
    return SavedNetwork(facts["network"], config, facts.get("stemloom", "unknown"), about)


def _shapes(file: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict


def _first_misfit(wanted: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    for name in sorted(wanted.keys() | shapes.keys()):
        if name not in shapes:
            return f"tensor '{name}' is missing"
        if name not in wanted:
            return f"tensor '{name}' is of no such network"
        if shapes[name] != tuple(wanted[name].shape):
            return f"tensor '{name}' has the shape {shapes[name]}, expected {tuple(wanted[name].shape)}"
    return None


def _name_of(network: Network) -> str:
    place = f"{type(network).__module__}:{type(network).__qualname__}"
    for name, (_, network_place) in NETWORKS.items():
        if place == network_place:
            return name
    raise RecipeError(
        f"{place} is not in separators.weights.NETWORKS: add it there, or its file could not be loaded"
    )


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
