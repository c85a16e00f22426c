"""What all networks have in common: a mixture in, its sources out, and settings that go with the weights.

Conventions
-----------
Audio is a float tensor ``(batch, channels, frames)``, full scale +-1, any number of frames; what comes back is
``(batch, sources, channels, frames)``, sources in the order of `Network.sources`. A network is made from its config
alone, so that the config's JSON beside the weights is all that is needed to load them again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import torch

from manifests.errors import AudioError, RecipeError, did_you_mean

__all__ = ["Network", "NetworkConfig", "Outputs", "ResidualConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What a network is made from; each network adds its own sizes.

    Attributes
    ----------
    sample_rate : int
        In Hz.
    channels : int
        Of the mixture and of every source.
    sources : tuple of str
        Names, in the order of the output.
    segment_frames : int
        Length that the network is trained on and works best with; others are taken too.

    Raises
    ------
    RecipeError
        A size is not positive, or the sources are none, or not distinct.
    """

    sample_rate: int
    channels: int
    sources: tuple[str, ...]
    segment_frames: int

    def __post_init__(self) -> None:
        for name in ("sample_rate", "channels", "segment_frames"):
            self._at_least(name, 1)
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise RecipeError(f"sources is {list(self.sources)}: name at least one source, and each once")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values.

        Returns
        -------
        dict
        """
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """A config out of what `to_json` gave.

        Parameters
        ----------
        values : mapping
            Fields by name; those with a default may be missing.

        Returns
        -------
        NetworkConfig
            Of the class that this is called on.

        Raises
        ------
        RecipeError
            A field is unknown, missing, of another type or impossible.
        """
        types = get_type_hints(cls)
        required = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        for name in values:
            if name not in types:
                raise RecipeError(f"{cls.__name__} has no field '{name}'{did_you_mean(name, types)}: remove it")
        if missing := sorted(required - values.keys()):
            raise RecipeError(f"{cls.__name__} lacks {', '.join(missing)}: add what is missing")
        return cls(**{name: _of_type(cls.__name__, name, value, types[name]) for name, value in values.items()})

    def _at_least(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not value >= least:
            raise RecipeError(f"{name} is {value}: it must be at least {least}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualConfig(NetworkConfig):
    """What a network is made from that need not look for the last of its sources.

    Attributes
    ----------
    residual : str or None
        The last of `sources`, if that one is what the others leave over.

    Raises
    ------
    RecipeError
        The residual is not the last source, or the only one.
    """

    residual: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.residual is not None and (self.sources[-1] != self.residual or len(self.sources) == 1):
            raise RecipeError(
                f"residual is '{self.residual}': it must be the last of {list(self.sources)}, beside another source"
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The sources that the network looks for."""
        return self.sources if self.residual is None else self.sources[:-1]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a network says of mixtures besides their sources: what training can compare.

    Attributes
    ----------
    sources : torch.Tensor of float [shape=(batch, sources, channels, frames)]
    earlier : tuple of torch.Tensor
        Of the same shape: what an iterative network said before, first iteration first.
    activities : torch.Tensor of float [shape=(batch, sources, columns)], optional
        Logits of each source being heard, in columns that cover the frames evenly.
    embeddings : torch.Tensor of float [shape=(batch, 1 + sources, classes, columns)], optional
        A classifier's logits of the mixture and of each source as it hears them, where training is to teach it.
    """

    sources: torch.Tensor
    earlier: tuple[torch.Tensor, ...] = ()
    activities: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None


class Network(torch.nn.Module):
    """A network that separates mixtures.

    Parameters
    ----------
    config : NetworkConfig

    Attributes
    ----------
    config : NetworkConfig
    sample_rate : int
        In Hz.
    channels : int
    sources : tuple of str
    segment_frames : int
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.channels = config.channels
        self.sources = config.sources
        self.segment_frames = config.segment_frames

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures.

        Parameters
        ----------
        mixture : torch.Tensor of float [shape=(batch, channels, frames)]

        Returns
        -------
        torch.Tensor of float [shape=(batch, sources, channels, frames)]

        Raises
        ------
        AudioError
            The mixture's shape is another.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def outputs(self, mixture: torch.Tensor) -> Outputs:
        """The sources, and whatever else the network says that training can compare.

        Parameters
        ----------
        mixture : torch.Tensor of float [shape=(batch, channels, frames)]

        Returns
        -------
        Outputs
        """
        return Outputs(self(mixture))

    def prepare(self, mixtures: Iterable[torch.Tensor]) -> None:
        """Look at mixtures before the first training step; most networks have no need to.

        Parameters
        ----------
        mixtures : iterable of torch.Tensor of float [shape=(batch, channels, frames)]
        """

    def _check(self, mixture: torch.Tensor) -> None:
        if mixture.ndim != 3 or mixture.shape[1] != self.channels or mixture.shape[2] == 0:
            raise AudioError(
                f"mixture has the shape {tuple(mixture.shape)}: {type(self).__name__} takes (batch, "
                f"{self.channels}, frames) with at least one frame"
            )


def _of_type(owner: str, name: str, value: Any, wanted: Any) -> Any:
    """`value` as a field of type `wanted`: JSON knows no tuples, and may write a whole float as an integer."""
    if get_origin(wanted) is tuple:
        fits = isinstance(value, list | tuple)
        if fits:
            return tuple(_of_type(owner, name, item, get_args(wanted)[0]) for item in value)
    elif get_origin(wanted) is Literal:
        fits = value in get_args(wanted)
    else:
        kinds = get_args(wanted) or (wanted,)
        if float in kinds and type(value) is int:
            return float(value)
        fits = type(value) in kinds
    if not fits:
        raise RecipeError(f"{owner}.{name} is {value!r}: it must be {getattr(wanted, '__name__', wanted)}")
    return value
