"""Demucs by its own package: released models by name, or files that it has written.

::

    demucs:htdemucs                     a name of the package's: what it lists, checked against the hash in its name
    demucs:folder/955717e8-8726e21a.th  a network, as the package saves it, or its safetensors
    demucs:folder/mine.yaml             a bag: networks that lie beside it, weights for each source
    demucs:htdemucs?normalise=false     without the normalisation

Files cannot run code (`separators.pretrained.demucs_files`). The mixture is normalised over the whole song, as the
package's own programs do and released weights expect (`separators.pretrained.normalised`).

Segments are the network's own, joined by `separators.overlap_add`, and three things differ from the package by it.
The last segment ends with the audio and is full of it, where the package lengthens a short rest; shifts are a fixed
grid and not random; the triangular weights are sampled in the middle of a frame, half a frame apart from the
package's, which makes 6e-6 of the difference between two segments. `Demucs`, the network without spectra, takes
segments of the next length that its layers fit, where the package surrounds them with context. A bag is an
`separators.ensemble.Ensemble` whose mixture is normalised once.

References
----------
S. Rouard, F. Massa, A. Defossez, "Hybrid Transformers for Music Source Separation", ICASSP 2023 (arXiv 2211.08553);
A. Defossez, "Hybrid Spectrogram and Waveform Source Separation", MDX Workshop 2021 (arXiv 2111.03600).

demucs 4.1, https://github.com/adefossez/demucs: ``apply.py`` and ``api.py`` for the separation, ``repo.py``
and ``pretrained.py`` for the files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from manifests.errors import RecipeError, did_you_mean
from manifests.recipes import Settings, make_recipe, read_mapping
from separators.ensemble import Ensemble
from separators.pretrained.demucs_files import demucs_package, read_network
from separators.pretrained.normalised import Normalised
from separators.pretrained.references import downloaded, file_sha256, local_weights, split_settings
from separators.separator import Separator

if TYPE_CHECKING:
    from separators.loading import LoadOptions

__all__ = ["load"]

_ADDRESS = "https://dl.fbaipublicfiles.com/demucs/"
_NETWORKS = (".th", ".safetensors")
_BAGS = (".yaml", ".yml")


class _Bag(Settings):
    """Several networks as one."""

    models: tuple[str, ...] = Field(min_length=1)
    """Their signatures: what their files' names begin with."""

    weights: tuple[tuple[float, ...], ...] | None = None
    """A row for each network, with a weight for each source."""

    segment: float | None = Field(None, gt=0)
    """Seconds: not above what a network with a transformer was trained on."""


def load(rest: str, options: LoadOptions) -> Separator:
    """The separator that ``demucs:`` names.

    Parameters
    ----------
    rest : str
        What stands behind the colon: a name, or a reference to a file, and maybe ``?normalise=false``.
    options : LoadOptions

    Returns
    -------
    Separator

    Raises
    ------
    RecipeError
        The package or a file is missing, the name unknown, or a file broken, of another kind or quantised.
    """
    reference, settings = split_settings(rest, ("normalise",))
    normalise = settings.get("normalise", "true")
    if normalise not in ("true", "false"):
        raise RecipeError(f"demucs:{rest}: normalise is '{normalise}'; write true or false")
    bag, paths = _found(reference, options)
    for path in paths:
        if not _is_intact(path):
            raise RecipeError(
                f"{path}: its sha256 begins otherwise than its name says, so it is damaged or another; copy or "
                "download it again"
            )
    networks = {path: read_network(path, bag.segment) for path in dict.fromkeys(paths)}
    separators = [options.separator_of(networks[path], f"demucs:{path.stem}") for path in paths]
    separator = (
        separators[0] if len(separators) == 1 else Ensemble(separators, _weights(bag, separators, reference))
    )
    if normalise == "false":
        return separator
    return Normalised(separator, f"demucs:{reference.partition('#')[0]}")


def _found(reference: str, options: LoadOptions) -> tuple[_Bag, list[Path]]:
    """What a name or a file stands for, and the file of each of its networks."""
    address = reference.partition("#")[0]
    suffix = (
        Path(address.rpartition("@")[0] or address).suffix if address.startswith("hf:") else Path(address).suffix
    )
    if suffix.lower() in _NETWORKS:
        return _Bag(models=(reference,)), [local_weights(reference, options.folder, options.allow_downloads)]
    if suffix.lower() in _BAGS:
        path = local_weights(reference, options.folder, options.allow_downloads)
        bag = make_recipe(read_mapping(path), str(path), _Bag)
        return bag, [_beside(path, signature) for signature in bag.models]
    remote = Path(str(demucs_package().__file__)).parent / "remote"
    files = _released_files(remote / "files.txt")
    bags = {path.stem: path for path in remote.glob("*.yaml")}
    if reference in bags:
        bag = make_recipe(read_mapping(bags[reference]), str(bags[reference]), _Bag)
    elif reference in files:
        bag = _Bag(models=(reference,))
    else:
        raise RecipeError(
            f"demucs has no '{reference}'{did_you_mean(reference, bags)}: give {', '.join(sorted(bags))}, or the "
            "path of a .th, .safetensors or .yaml"
        )
    return bag, [_released(files[signature], options.allow_downloads) for signature in bag.models]


def _weights(bag: _Bag, separators: Sequence[Separator], name: str) -> list[dict[str, float]] | None:
    if bag.weights is None:
        return None
    sources = separators[0].sources
    lengths = [len(row) for row in bag.weights]
    if lengths != [len(sources)] * len(separators):
        raise RecipeError(
            f"{name}: weights has rows of {lengths} numbers; give {len(separators)} rows, one for each network, of "
            f"{len(sources)} numbers, one for each of {', '.join(sources)}"
        )
    return [dict(zip(sources, row, strict=True)) for row in bag.weights]


def _released_files(listing: Path) -> dict[str, str]:
    """Addresses by signature, out of the package's list: paths relative to the last line that names a folder."""
    files, folder = {}, ""
    for line in listing.read_text(encoding="utf-8").splitlines():
        if line.startswith("root:"):
            folder = line.removeprefix("root:").strip()
        elif line.strip() and not line.startswith("#"):
            files[line.partition("-")[0]] = _ADDRESS + folder + line.strip()
    return files


def _released(url: str, allow_downloads: bool) -> Path:
    sha256 = url.rpartition("-")[2].removesuffix(".th")
    # Where the package itself keeps what it has fetched.
    kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if kept.is_file() and _is_intact(kept):
        return kept
    return downloaded(url, sha256, allow_download=allow_downloads)


def _beside(bag: Path, signature: str) -> Path:
    paths = sorted(
        path
        for path in bag.parent.iterdir()
        if path.suffix.lower() in _NETWORKS and path.stem.partition("-")[0] == signature
    )
    if len(paths) != 1:
        found = f"several: {', '.join(path.name for path in paths)}" if paths else "none"
        raise RecipeError(
            f"{bag}: of the network '{signature}' there must be one file beside it, such as {signature}.th; there "
            f"is {found}"
        )
    return paths[0]


def _is_intact(path: Path) -> bool:
    """Whether a file's hash begins as its name says, where the name says one."""
    said = path.stem.partition("-")[2]
    if not re.fullmatch(r"[0-9a-f]{8}", said):
        return True
    with path.open("rb") as file:
        return file_sha256(file).startswith(said)
