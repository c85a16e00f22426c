"""MDX-Net in ONNX files, as Ultimate Vocal Remover shares them: one source of a stereo mixture, and the rest.

::

    mdx-onnx:Kim_Vocal_2.onnx                               with its settings in a file beside it
    mdx-onnx:Kim_Vocal_2.onnx?n_fft=7680&denoise=true       or here, which counts more

Settings are those of `separators.pretrained.mdx_net.MDXRecipe`. The file beside is ``Kim_Vocal_2.yaml`` (or .yml,
.json) with its fields, or with those of an entry of UVR's (``mdx_n_fft_scale_set``, ``mdx_dim_f_set``,
``mdx_dim_t_set``, which is the logarithm of the columns), or UVR's ``model_data.json``, whose entries go by the MD5
of a file's last 10 240 000 bytes. Most graphs say their bins and columns themselves.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import RecipeError
from manifests.recipes import make_recipe, read_mapping
from separators.pretrained.mdx_net import MDXGraph, MDXRecipe, MDXSeparator
from separators.pretrained.references import local_weights, split_settings
from separators.remainder import WithRemainder
from separators.separator import Separator

if TYPE_CHECKING:
    from separators.loading import LoadOptions

__all__ = ["load"]

_HASHED_BYTES = 10_000 * 1024
_UVR_FIELDS = {"mdx_n_fft_scale_set": "n_fft", "mdx_dim_f_set": "dim_f", "mdx_dim_t_set": "dim_t"}
_OPPOSITE = {"vocals": "accompaniment", "accompaniment": "vocals"}


def load(rest: str, options: LoadOptions) -> Separator:
    """The separator that ``mdx-onnx:`` names.

    Parameters
    ----------
    rest : str
        What stands behind the colon: a graph, and maybe ``?`` with settings.
    options : LoadOptions

    Returns
    -------
    Separator
        Of the graph's source and of the rest.

    Raises
    ------
    RecipeError
        onnxruntime or a file is missing, the file no such graph, or a setting missing or wrong.
    """
    reference, settings = split_settings(rest, tuple(MDXRecipe.model_fields))
    path = local_weights(reference, options.folder, options.allow_downloads)
    graph = MDXGraph(path, options.device)
    sizes = {"dim_f": graph.bins, "dim_t": graph.columns}
    where, beside = _beside(path)
    values = {**{name: size for name, size in sizes.items() if size is not None}, **beside, **settings}
    if "n_fft" not in values:
        raise RecipeError(
            f"{path}: nobody says its n_fft; write it behind the path as in {path.name}?n_fft=6144, or into a "
            f"{path.stem}.yaml beside it"
        )
    recipe = make_recipe(values, where, MDXRecipe)
    separator = MDXSeparator(
        graph=graph,
        recipe=recipe,
        name=f"mdx-onnx:{reference.partition('#')[0]}",
        overlap=options.overlap,
        shifts=options.shifts,
        window=options.window,
        batch_size=options.batch_size,
    )
    return WithRemainder(separator, recipe.remainder or _OPPOSITE.get(recipe.source, "rest"))


def _beside(path: Path) -> tuple[str, dict[str, object]]:
    """Fields of a recipe that lie beside a graph, and the name of the file."""
    for suffix in (".yaml", ".yml", ".json"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return str(beside), _own_names(read_mapping(beside))
    known = path.with_name("model_data.json")
    if known.is_file():
        entry = read_mapping(known).get(_uvr_hash(path))
        if isinstance(entry, dict):
            return str(known), _own_names(entry)
    return str(path), {}


def _own_names(values: dict[str, object]) -> dict[str, object]:
    """An entry of UVR's by the names that the fields have here; other entries as they are."""
    if not _UVR_FIELDS.keys() & values.keys():
        return values
    own: dict[str, object] = {name: values[name] for name in ("compensate", "primary_stem") if name in values}
    own |= {ours: values[theirs] for theirs, ours in _UVR_FIELDS.items() if theirs in values}
    if isinstance(own.get("dim_t"), int):
        own["dim_t"] = 2 ** int(str(own["dim_t"]))
    return own


def _uvr_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-min(_HASHED_BYTES, path.stat().st_size), os.SEEK_END)
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
