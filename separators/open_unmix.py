"""Open-Unmix: a recurrent network for each target on magnitude spectra, and a Wiener filter behind them.

The layers bear the names of the published implementation, so its weights fit. A network for one target alone needs
a `residual`, a source for what it leaves over: a Wiener filter that knows of one source gives it the whole mixture.

References
----------
F.-R. Stoter, S. Uhlich, A. Liutkus, Y. Mitsufuji, "Open-Unmix: A Reference Implementation for Music Source
Separation", JOSS 4(41), 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.network import Network, ResidualConfig
from separators.stft import check_window, istft, stft
from separators.wiener import wiener_filter

__all__ = ["OpenUnmix", "OpenUnmixConfig"]


@dataclass(frozen=True, kw_only=True)
class OpenUnmixConfig(ResidualConfig):
    """Sizes of an `OpenUnmix`; the defaults are the published ones, 8.89 million parameters for each target.

    Attributes
    ----------
    window_frames, hop_frames : int
        Of the spectra.
    bandwidth_hz : float
        The networks hear the mixture up to here; what they say covers all bins.
    hidden : int
        Even.
    layers : int
        Of the bidirectional LSTM.
    dropout : float
        Between these.
    wiener_iterations : int
        0 keeps the mixture's phase and is not made to sum to the mixture.
    wiener_columns : int
        Columns that share their spatial covariances.
    """

    sample_rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    segment_frames: int = 6 * 44100
    window_frames: int = 4096
    hop_frames: int = 1024
    bandwidth_hz: float = 16000.0
    hidden: int = 512
    layers: int = 3
    dropout: float = 0.4
    wiener_iterations: int = 1
    wiener_columns: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_frames, self.hop_frames)
        for name, least in (("layers", 1), ("wiener_iterations", 0), ("wiener_columns", 1), ("hidden", 2)):
            self._at_least(name, least)
        if self.hidden % 2:
            raise RecipeError(f"hidden is {self.hidden}: it must be even, half for each direction")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"dropout is {self.dropout}: it must be from 0 to below 1")
        if not 0 < self.bandwidth_hz <= self.sample_rate / 2:
            raise RecipeError(
                f"bandwidth_hz is {self.bandwidth_hz:g}: it must be above 0 and at most {self.sample_rate / 2:g}"
            )
        if len(self.sources) == 1 and self.wiener_iterations:
            raise RecipeError(
                f"sources is {list(self.sources)}: add a source for what is left over and name it as "
                "residual, or set wiener_iterations to 0"
            )

    @property
    def heard_bins(self) -> int:
        """How many of the lowest bins the networks hear."""
        return math.floor(self.bandwidth_hz * self.window_frames / self.sample_rate) + 1


class OpenUnmix(Network):
    """A recurrent network for each target, and the Wiener filter.

    Parameters
    ----------
    config : OpenUnmixConfig

    Attributes
    ----------
    nets : torch.nn.ModuleList
        One for each of `config.targets`, in order.
    """

    config: OpenUnmixConfig

    def __init__(self, config: OpenUnmixConfig | None = None) -> None:
        config = config or OpenUnmixConfig()
        super().__init__(config)
        self.nets = nn.ModuleList(_TargetNet(config) for _ in config.targets)

    def magnitudes(self, mixture: torch.Tensor) -> torch.Tensor:
        """What each network takes for its target's magnitudes.

        Parameters
        ----------
        mixture : torch.Tensor of float [shape=(batch, channels, frames)]

        Returns
        -------
        torch.Tensor of float32 [shape=(batch, targets, channels, bins, columns)]
            Compare with `reference_magnitudes`.
        """
        self._check(mixture)
        return self._heard(self._spectrum(mixture))

    def reference_magnitudes(self, sources: torch.Tensor) -> torch.Tensor:
        """Magnitudes of the true sources that have a network.

        Parameters
        ----------
        sources : torch.Tensor of float [shape=(batch, sources, channels, frames)]

        Returns
        -------
        torch.Tensor of float32 [shape=(batch, targets, channels, bins, columns)]
        """
        return self._spectrum(sources[:, : len(self.nets)]).abs()

    def set_input_statistics(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Start from a data set's statistics, as the published training does before its first step.

        Parameters
        ----------
        mean, deviation : torch.Tensor of float [shape=(config.heard_bins,)]
            Of the mixtures' magnitudes in each bin; deviations below 1e-4 of the largest are taken as that.
        """
        deviation = deviation.clamp_min(1e-4 * float(deviation.max()))
        with torch.no_grad():
            for net in self.nets:
                assert isinstance(net, _TargetNet)
                net.input_mean.copy_(-mean)
                net.input_scale.copy_(1 / deviation)

    def prepare(self, mixtures: Iterable[torch.Tensor]) -> None:
        """Set the input statistics to those of mixtures: see `Network.prepare`."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        with torch.no_grad():
            for mixture in mixtures:
                heard = self._spectrum(mixture).abs()[..., : self.config.heard_bins, :].double()
                columns = heard.movedim(-2, 0).flatten(1)
                count += columns.shape[1]
                total = total.to(columns) + columns.sum(dim=1)
                squares = squares.to(columns) + columns.square().sum(dim=1)
        mean = total / count
        self.set_input_statistics(mean.float(), (squares / count - mean.square()).clamp(min=0).sqrt().float())

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        config = self.config
        spectrum = self._spectrum(mixture)
        magnitudes = self._heard(spectrum)
        if config.residual is not None:
            rest = spectrum.abs() - magnitudes.sum(dim=1)
            magnitudes = torch.cat([magnitudes, rest[:, None]], dim=1)
        sources = wiener_filter(magnitudes, spectrum, config.wiener_iterations, config.wiener_columns)
        return istft(sources, config.window_frames, config.hop_frames, mixture.shape[-1])

    def _spectrum(self, audio: torch.Tensor) -> torch.Tensor:
        return stft(audio, self.config.window_frames, self.config.hop_frames)

    def _heard(self, spectrum: torch.Tensor) -> torch.Tensor:
        magnitude = spectrum.abs()
        return torch.stack([net(magnitude).float() for net in self.nets], dim=1)


class _TargetNet(nn.Module):
    """Magnitudes of one target, ``(batch, channels, bins, columns)`` from the mixture's."""

    def __init__(self, config: OpenUnmixConfig) -> None:
        super().__init__()
        hidden, channels = config.hidden, config.channels
        self.heard_bins, self.bins = config.heard_bins, config.window_frames // 2 + 1
        self.fc1 = nn.Linear(self.heard_bins * channels, hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.lstm = nn.LSTM(
            hidden,
            hidden // 2,
            num_layers=config.layers,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.fc2 = nn.Linear(2 * hidden, hidden, bias=False)
        self.bn2 = nn.BatchNorm1d(hidden)
        self.fc3 = nn.Linear(hidden, self.bins * channels, bias=False)
        self.bn3 = nn.BatchNorm1d(self.bins * channels)
        self.input_mean = nn.Parameter(torch.zeros(self.heard_bins))
        self.input_scale = nn.Parameter(torch.ones(self.heard_bins))
        self.output_scale = nn.Parameter(torch.ones(self.bins))
        self.output_mean = nn.Parameter(torch.ones(self.bins))

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        batch, channels, _, columns = magnitude.shape
        mixture = magnitude.permute(3, 0, 1, 2)
        signal = (mixture[..., : self.heard_bins] + self.input_mean) * self.input_scale
        signal = self.bn1(self.fc1(signal.reshape(columns * batch, -1)))
        signal = torch.tanh(signal).reshape(columns, batch, -1)
        signal = torch.cat([signal, self.lstm(signal)[0]], dim=-1).reshape(columns * batch, -1)
        signal = functional.relu(self.bn2(self.fc2(signal)))
        signal = self.bn3(self.fc3(signal)).reshape(columns, batch, channels, self.bins)
        mask = functional.relu(signal * self.output_scale + self.output_mean)
        return (mask * mixture).permute(1, 2, 3, 0)
