"""Band-split RNN: a recurrent network along time and one across the bands of a spectrum, and a mask for each band.

Every target has a net of its own, and every channel goes through it alone. Bands are given in Hz and fall on the
nearest bins, so a network can be made for any rate. The split for vocals is the paper's V7, which it takes for
`other` too; bass and drums have finer bands where they play.

The first paper's networks are LSTMs; 12 modules of them are 25.6 million parameters a target. The default is the
smaller variant of the second, eight modules of GRUs: 15.6 million. The mask estimators have one hidden layer, where
the authors' code has two. Norms are over the features and columns of a band, as in that code, so a louder mixture
gives louder sources and no others.

References
----------
Y. Luo, J. Yu, "Music Source Separation with Band-Split RNN", IEEE/ACM TASLP 31, 2023 (arXiv 2209.15174).

K. N. Watcharasupat et al., "A Generalized Bandsplit Neural Network for Cinematic Audio Source Separation", IEEE
Open Journal of Signal Processing, 2024 (arXiv 2309.02539).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from manifests.errors import RecipeError
from separators.network import Network, ResidualConfig
from separators.stft import check_window, istft, stft

__all__ = ["BSRNN", "BSRNNConfig", "band_edges"]

# Up to which frequency the bands have which width, in Hz; what is above the last is one band.
_SPLITS = {
    "vocals": ((1000, 100), (4000, 250), (8000, 500), (16000, 1000), (20000, 2000)),
    "bass": ((500, 50), (1000, 100), (4000, 500), (8000, 1000), (16000, 2000)),
    "drums": ((1000, 50), (2000, 100), (4000, 250), (8000, 500), (16000, 1000)),
}
# That of float32, as in the authors' implementation: a quiet recording is normalised as a loud one.
_EPSILON = 1.2e-7


@dataclass(frozen=True, kw_only=True)
class BSRNNConfig(ResidualConfig):
    """Sizes of a `BSRNN`; the defaults have 15.6 million parameters for each target.

    Attributes
    ----------
    window_frames, hop_frames : int
        Of the spectra.
    bands : tuple of {'vocals', 'bass', 'drums'}
        How the spectrum is split, for each target in order, or once for all.
    features : int
        Of a band (N).
    cell : {'gru', 'lstm'}
    hidden : int
        Of the recurrent networks, in each direction.
    modules : int
        Pairs of a recurrent network along time and one across bands.
    mlp_hidden : int
        Of the mask estimators.
    """

    sample_rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("vocals",)
    segment_frames: int = 3 * 44100
    window_frames: int = 2048
    hop_frames: int = 512
    bands: tuple[Literal["vocals", "bass", "drums"], ...] = ("vocals",)
    features: int = 128
    cell: Literal["gru", "lstm"] = "gru"
    hidden: int = 256
    modules: int = 8
    mlp_hidden: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_frames, self.hop_frames)
        for name in ("features", "hidden", "modules", "mlp_hidden"):
            self._at_least(name, 1)
        if self.cell not in ("gru", "lstm"):
            raise RecipeError(f"cell is {self.cell!r}: it must be 'gru' or 'lstm'")
        if not set(self.bands) <= _SPLITS.keys() or len(self.bands) not in (1, len(self.targets)):
            raise RecipeError(
                f"bands is {list(self.bands)}: it must hold one of {', '.join(_SPLITS)} for all targets, "
                f"or one for each of {', '.join(self.targets)}"
            )


def band_edges(split: Literal["vocals", "bass", "drums"], sample_rate: int, window_frames: int) -> tuple[int, ...]:
    """Where the bands of a split begin and end.

    Parameters
    ----------
    split : {'vocals', 'bass', 'drums'}
    sample_rate : int
        In Hz.
    window_frames : int

    Returns
    -------
    tuple of int
        Ascending bins, from 0 to ``window_frames // 2 + 1``. A band narrower than half a bin is part of the next.
    """
    bins = window_frames // 2 + 1
    edges, start = {0, bins}, 0
    for stop, width in _SPLITS[split]:
        edges |= {round(hz * window_frames / sample_rate) for hz in range(start + width, stop + 1, width)}
        start = stop
    return tuple(sorted(edge for edge in edges if edge <= bins))


class BSRNN(Network):
    """A band-split net for each target.

    Parameters
    ----------
    config : BSRNNConfig

    Attributes
    ----------
    nets : torch.nn.ModuleList
        One for each of `config.targets`, in order.
    """

    config: BSRNNConfig

    def __init__(self, config: BSRNNConfig | None = None) -> None:
        config = config or BSRNNConfig()
        super().__init__(config)
        splits = config.bands * (len(config.targets) if len(config.bands) == 1 else 1)
        self.nets = nn.ModuleList(
            _MaskNet(config, band_edges(split, config.sample_rate, config.window_frames)) for split in splits
        )

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        config = self.config
        spectrum = stft(mixture, config.window_frames, config.hop_frames)
        masks = torch.stack([net(spectrum.flatten(0, 1)) for net in self.nets], dim=1)
        masks = masks.reshape(*mixture.shape[:2], *masks.shape[1:]).transpose(1, 2)
        sources = istft(masks * spectrum[:, None], config.window_frames, config.hop_frames, mixture.shape[-1])
        if config.residual is None:
            return sources
        return torch.cat([sources, (mixture - sources.sum(dim=1))[:, None]], dim=1)


class _MaskNet(nn.Module):
    """Complex masks of one target, ``(batch, bins, columns)`` from spectra of the same shape.

    Bands of one width go through their first and last layers together: one product instead of many.
    """

    def __init__(self, config: BSRNNConfig, edges: tuple[int, ...]) -> None:
        super().__init__()
        groups: dict[int, list[int]] = {}
        for start, stop in itertools.pairwise(edges):
            groups.setdefault(stop - start, []).append(start)
        self.groups = [(len(starts), width) for width, starts in groups.items()]
        bands, features, hidden = len(edges) - 1, config.features, config.mlp_hidden
        # The groups' order of bands and bins, and where in it each band and bin is.
        starts = [start for of_width in groups.values() for start in of_width]
        bins = [start + bin for width, of_width in groups.items() for start in of_width for bin in range(width)]
        band_order, bin_order = (
            torch.tensor(starts, device="cpu").argsort().argsort(),
            torch.tensor(bins, device="cpu"),
        )
        self.register_buffer("band_order", band_order, persistent=False)
        self.register_buffer("band_places", band_order.argsort(), persistent=False)
        self.register_buffer("bin_order", bin_order, persistent=False)
        self.register_buffer("bin_places", bin_order.argsort(), persistent=False)
        self.band_order: torch.Tensor
        self.band_places: torch.Tensor
        self.bin_order: torch.Tensor
        self.bin_places: torch.Tensor
        self.encoders = nn.ModuleList(
            nn.Sequential(_BandNorm(number, 2 * width), _BandLinear(number, 2 * width, features))
            for number, width in self.groups
        )
        self.along = nn.ModuleList(_Recurrent(config) for _ in range(config.modules))
        self.across = nn.ModuleList(_Recurrent(config) for _ in range(config.modules))
        self.hidden = nn.Sequential(_BandNorm(bands, features), _BandLinear(bands, features, hidden), nn.Tanh())
        # A real and an imaginary part for each bin, and a gate for each of these.
        self.decoders = nn.ModuleList(_BandLinear(number, hidden, 4 * width) for number, width in self.groups)

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        batch, _, columns = spectrum.shape
        parts = torch.stack([spectrum.real, spectrum.imag], dim=2)[:, self.bin_order]
        of_width = torch.split(parts, [number * width for number, width in self.groups], dim=1)
        encoded = [
            encoder(part.reshape(batch, number, 2 * width, columns))
            for encoder, part, (number, width) in zip(self.encoders, of_width, self.groups, strict=True)
        ]
        signal = torch.cat(encoded, dim=1)[:, self.band_places].transpose(2, 3)
        for along, across in zip(self.along, self.across, strict=True):
            signal = along(signal.flatten(0, 1)).reshape(signal.shape).transpose(1, 2)
            signal = across(signal.flatten(0, 1)).reshape(signal.shape).transpose(1, 2)
        hidden = self.hidden(signal.transpose(2, 3))
        of_width = torch.split(hidden[:, self.band_order], [number for number, _ in self.groups], dim=1)
        masks = []
        for decoder, part, (number, width) in zip(self.decoders, of_width, self.groups, strict=True):
            gated = decoder(part).float().reshape(batch, number, 2, 2, width, columns)
            real, imaginary = (gated[:, :, 0] * gated[:, :, 1].sigmoid()).unbind(dim=2)
            masks.append(torch.complex(real, imaginary).flatten(1, 2))
        return torch.cat(masks, dim=1)[:, self.bin_places]


class _BandNorm(nn.Module):
    """Each band of ``(batch, bands, features, columns)`` to mean 0 and variance 1 over features and columns."""

    def __init__(self, bands: int, features: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(bands, bands * features, eps=_EPSILON)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(signal.flatten(1, 2))
        return normed.reshape(signal.shape)


class _BandLinear(nn.Module):
    """A layer for each band: ``(batch, bands, outputs, columns)`` from ``(batch, bands, inputs, columns)``."""

    def __init__(self, bands: int, inputs: int, outputs: int) -> None:
        super().__init__()
        reach = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(bands, outputs, inputs).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(bands, outputs, 1).uniform_(-reach, reach))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return self.weight @ signal + self.bias


class _Recurrent(nn.Module):
    """A bidirectional network along ``(batch, steps, features)``, and a way around."""

    def __init__(self, config: BSRNNConfig) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[config.cell]
        self.norm = nn.GroupNorm(1, config.features, eps=_EPSILON)
        self.cells = kind(config.features, config.hidden, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(2 * config.hidden, config.features)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        around: torch.Tensor = self.projection(self.cells(self.norm(signal.transpose(1, 2)).transpose(1, 2))[0])
        return signal + around
