"""From what a person writes to a separator.

One line of text is enough for most::

    checkpoint:vocals.safetensors                              a network that save_network wrote; or its path alone
    bundled:vocals                                             one that comes with stemloom
    baseline:centre                                            one without weights: identity, centre, hpss
    baseline:identity=speech,music,effects                     with sources of these names
    demucs:htdemucs                                            Demucs: a released name, or the path of its weights
    mdx-onnx:Kim_Vocal_2.onnx                                  an MDX-Net, as Ultimate Vocal Remover shares them
    roformer:model.ckpt                                        a BS- or Mel-Band RoFormer, its YAML beside it
    python:package.module:separator                            an object, or a function that makes one
    command:sources=vocals,rest ./separate {input} {output}    another program, which writes a file for each source
    10*checkpoint:a.safetensors + 4*checkpoint:b.safetensors   a weighted mean
    cinematic.yaml                                             a file with more

and a mapping, or the YAML file of one, says what does not fit into a line. It holds one of `separator` (a text as
above), `ensemble` or `cascade`, whose parts are texts or mappings again, and may add a rate, channels and what is
done around it. Paths in a file are relative to its folder::

    cascade:
      first: bundled:vocals
      take: vocals
      name_taken: speech
      second:
        ensemble:
          - {separator: "checkpoint:a.safetensors", weight: 10}
          - {separator: "checkpoint:b.safetensors", weight: {effects: 4, music: 2}}
    postprocessing:
      normalise: loudness
      consistency: {effects: 0.5, music: 0.5}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field, model_validator

from manifests.errors import RecipeError, did_you_mean
from manifests.recipes import Settings, make_recipe, read_mapping
from separators.baselines import CentreExtraction, HarmonicPercussive, Identity
from separators.ensemble import Cascade, Ensemble
from separators.overlap_add import NetworkSeparator, Window, refuse_impossible
from separators.postprocessing import Postprocessed, Postprocessing
from separators.remainder import WithRemainder
from separators.resampling import Resampled
from separators.separator import Separator

if TYPE_CHECKING:
    from separators.network import Network

__all__ = ["LOADERS", "LoadOptions", "SeparatorRecipe", "load_separator"]

_BUNDLED = Path(__file__).parent / "bundled"
_WEIGHTED = re.compile(r"([0-9.]+)\s*\*\s*(.+)")
_FILES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How networks are run, and where paths start.

    Attributes
    ----------
    device : str
        As torch names it.
    overlap : float
    shifts : int
    window : {'triangle', 'hann', 'flat'}
    batch_size : int
        As for `NetworkSeparator`.
    allow_downloads : bool
        Whether weights that are addresses may be fetched.
    folder : Path
        That relative paths are relative to.
    within : tuple of Path
        The YAML files that this is a part of.

    Raises
    ------
    RecipeError
        A number is out of its range, or there is no such window: whether what is loaded needs it or not.
    """

    device: str = "cpu"
    overlap: float = 0.25
    shifts: int = 1
    window: Window = "triangle"
    batch_size: int = 1
    allow_downloads: bool = False
    folder: Path = Path()
    within: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        refuse_impossible(self.overlap, self.window, {"shifts": self.shifts, "batch_size": self.batch_size})

    def separator_of(self, network: Network, name: str) -> NetworkSeparator:
        """A network, run as these options say.

        Parameters
        ----------
        network : Network
        name : str
            What a person calls it.

        Returns
        -------
        NetworkSeparator
        """
        return NetworkSeparator(
            network=network,
            name=name,
            overlap=self.overlap,
            shifts=self.shifts,
            window=self.window,
            batch_size=self.batch_size,
            device=self.device,
        )


class EnsemblePart(Settings):
    """A separator of an ensemble."""

    separator: SeparatorRecipe
    """A line of text, or a mapping."""

    weight: float | dict[str, float] = 1.0
    """For all sources, or by source."""


class CascadeParts(Settings):
    """What stands behind what."""

    first: SeparatorRecipe
    """Hears the mixture."""

    take: str
    """The source of the first that is kept and subtracted."""

    name_taken: str | None = None
    """What it is called from then on: `take` by default."""

    second: SeparatorRecipe
    """Hears what is left."""


class SeparatorRecipe(Settings):
    """A separator, or several put together, and what is done around them."""

    separator: str | None = None
    """A line of text."""

    ensemble: list[EnsemblePart] | None = None
    """Several, for the sources that all of them give."""

    cascade: CascadeParts | None = None
    """One behind another."""

    remainder: str | None = Field(None, min_length=1)
    """What the sources leave of the mixture, as one more source of this name."""

    sample_rate: int | None = Field(None, ge=1)
    """Make it one for audio at this rate, by resampling to its own and back."""

    channels: int | None = Field(None, ge=1)
    """Make it one for audio of so many channels."""

    postprocessing: Postprocessing | None = None
    """What is done around it."""

    @model_validator(mode="before")
    @classmethod
    def _take_a_line(cls, value: Any) -> Any:
        return {"separator": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _require_one(self) -> SeparatorRecipe:
        fields = ("separator", "ensemble", "cascade")
        given = [name for name in fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(fields)}, not {' and '.join(given) or 'none'}")
        return self


def load_separator(
    what: str | Path | Mapping[str, Any],
    *,
    device: str = "cpu",
    overlap: float = 0.25,
    shifts: int = 1,
    window: Window = "triangle",
    batch_size: int = 1,
    allow_downloads: bool = False,
) -> Separator:
    """A separator out of a line of text, a mapping or a YAML file.

    Parameters
    ----------
    what : str, Path or mapping
        As this module's docstring says.
    device : str
        As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    overlap : float
        Of neighbouring segments, from 0 to below 1.
    shifts : int
        Grids of segments that are averaged.
    window : {'triangle', 'hann', 'flat'}
        Weights within a segment.
    batch_size : int
        Segments that a network gets at once.
    allow_downloads : bool
        Weights given as an address, or as a name that somebody else's package knows an address of, are fetched, if
        their hash is known. What was fetched before needs no permission.

    Returns
    -------
    Separator

    Raises
    ------
    RecipeError
        Something is unknown (the nearest known one is named), missing, out of range, or does not fit together.

    Examples
    --------
    >>> load_separator("baseline:centre").sources
    ('vocals', 'accompaniment')
    """
    options = LoadOptions(
        device=device,
        overlap=overlap,
        shifts=shifts,
        window=window,
        batch_size=batch_size,
        allow_downloads=allow_downloads,
    )
    if isinstance(what, Mapping):
        return _of_recipe(make_recipe(dict(what), "separator", SeparatorRecipe), options)
    return _of_text(str(what), options)


def _of_text(text: str, options: LoadOptions) -> Separator:
    terms = [term.strip() for term in re.split(r"\s\+\s", text)]
    weighted = [_WEIGHTED.fullmatch(term) for term in terms]
    if len(terms) == 1 and weighted[0] is None:
        return _single(terms[0], options)
    parts = [_single(match[2] if match else term, options) for term, match in zip(terms, weighted, strict=True)]
    return Ensemble(parts, [_weight(match[1]) if match else 1.0 for match in weighted])


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"weight '{text}' is no number: write it as in 10*checkpoint:a.safetensors") from None


def _single(text: str, options: LoadOptions) -> Separator:
    kind, colon, rest = text.partition(":")
    if colon and kind in LOADERS:
        return LOADERS[kind](rest, options)
    if text.endswith(_FILES):
        path = options.folder / Path(text).expanduser()
        if not path.exists():
            raise RecipeError(f"{path}: there is no such file; give the path of a separator's YAML file")
        if path.resolve() in options.within:
            raise RecipeError(f"{path}: is a part of itself; name another separator in it")
        recipe = make_recipe(dict(read_mapping(path)), str(path), SeparatorRecipe)
        inner = replace(options, folder=path.parent, within=(*options.within, path.resolve()))
        return _of_recipe(recipe, inner)
    if text.endswith(".safetensors") and not colon:
        return _checkpoint(text, options)
    if (options.folder / Path(text).expanduser()).is_file():
        hint = (
            f": a file needs its kind before it, as in demucs:{text}, roformer:{text} or mdx-onnx:{text}; "
            "a checkpoint of stemloom's own ends with .safetensors"
        )
    elif colon:
        hint = f"{did_you_mean(kind, LOADERS)}: start with one of {_listed(LOADERS)}"
    else:
        hint = f": write KIND:NAME with one of {_listed(LOADERS)}, or the path of a YAML file"
    raise RecipeError(f"there is no separator '{text}'{hint}")


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"{name}:" for name in sorted(names))


def _of_recipe(recipe: SeparatorRecipe, options: LoadOptions) -> Separator:
    separator: Separator
    if recipe.ensemble is not None:
        parts = [_of_recipe(part.separator, options) for part in recipe.ensemble]
        separator = Ensemble(parts, [part.weight for part in recipe.ensemble])
    elif recipe.cascade is not None:
        first, second = (_of_recipe(part, options) for part in (recipe.cascade.first, recipe.cascade.second))
        separator = Cascade(first, second, recipe.cascade.take, recipe.cascade.name_taken)
    else:
        assert recipe.separator is not None, "the recipe holds one of the three"
        separator = _of_text(recipe.separator, options)
    if recipe.remainder is not None:
        separator = WithRemainder(separator, recipe.remainder)
    if recipe.sample_rate is not None or recipe.channels is not None:
        rate, channels = recipe.sample_rate or separator.sample_rate, recipe.channels or separator.channels
        separator = Resampled(separator, rate, channels)
    if recipe.postprocessing is not None:
        separator = Postprocessed(separator, recipe.postprocessing)
    return separator


def _checkpoint(rest: str, options: LoadOptions) -> Separator:
    return _network(options.folder / Path(rest).expanduser(), f"checkpoint:{rest}", options)


def _bundled(rest: str, options: LoadOptions) -> Separator:
    """A folder of networks, whose mean it is."""
    known = sorted(path.name for path in _BUNDLED.iterdir() if any(path.glob("*.safetensors")))
    if rest not in known:
        raise RecipeError(
            f"no network '{rest}' comes with this stemloom{did_you_mean(rest, known)}: there is "
            f"{', '.join(known) or 'none'}"
        )
    name = f"bundled:{rest}"
    networks = [_network(path, name, options) for path in sorted((_BUNDLED / rest).glob("*.safetensors"))]
    return networks[0] if len(networks) == 1 else Ensemble(networks, label=name)


def _network(path: Path, name: str, options: LoadOptions) -> Separator:
    from separators.weights import load_network

    _require_device(options.device)
    return options.separator_of(load_network(path), name)


def _require_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(
            f"device is '{device}', which cannot be used ({reason}): choose cpu, or another"
        ) from error


def _baseline(rest: str, options: LoadOptions) -> Separator:
    kind, equals, names = rest.partition("=")
    kinds: dict[str, Callable[..., Separator]] = {
        "centre": CentreExtraction,
        "hpss": HarmonicPercussive,
        "identity": Identity,
    }
    if kind not in kinds:
        raise RecipeError(
            f"there is no baseline '{kind}'{did_you_mean(kind, kinds)}: choose from {', '.join(sorted(kinds))}"
        )
    if not equals:
        return kinds[kind](name=f"baseline:{rest}")
    sources = tuple(name.strip() for name in names.split(","))
    if not all(sources):
        raise RecipeError(f"baseline:{rest}: a source has no name; write them as in baseline:{kind}=vocals,rest")
    return kinds[kind](name=f"baseline:{rest}", sources=sources)


def _demucs(rest: str, options: LoadOptions) -> Separator:
    from separators.pretrained import demucs

    _require_device(options.device)
    return demucs.load(rest, options)


def _mdx(rest: str, options: LoadOptions) -> Separator:
    from separators.pretrained import mdx

    return mdx.load(rest, options)


def _roformer(rest: str, options: LoadOptions) -> Separator:
    from separators.pretrained import roformer

    _require_device(options.device)
    return roformer.load(rest, options)


def _program(rest: str, options: LoadOptions) -> Separator:
    from separators.pretrained import programs

    return programs.load(rest, options)


def _object(rest: str, options: LoadOptions) -> Separator:
    from separators.pretrained import objects

    return objects.load(rest, options)


Loader: TypeAlias = Callable[[str, LoadOptions], Separator]

LOADERS: Mapping[str, Loader] = MappingProxyType(
    {
        "baseline": _baseline,
        "bundled": _bundled,
        "checkpoint": _checkpoint,
        "command": _program,
        "demucs": _demucs,
        "mdx-onnx": _mdx,
        "python": _object,
        "roformer": _roformer,
    }
)
"""What stands before the colon, and what makes a separator of what stands behind it."""
