"""A small convolutional network for dialogue, whose weights serve every sample rate and which is quick on a CPU.

The references say of "DNN-DS" that it is fully convolutional on short-time spectra, hears about a second, has about
370,000 parameters, and that such networks do not depend on the sample rate as long as a bin spans as many hertz:
convolutions run over frequency as over time. The layers are ours, not the authors': windows of 40 ms, three
convolutions that halve the bins each, eight residual blocks of 3x3 convolutions dilated in time, and three
transposed convolutions that see the encoder's layers beside what comes from below; they give each target a mask on
the mixture's spectrum. What enters is the logarithm of magnitudes relative to the mixture's level, so a louder
mixture gives louder sources and no others.

References
----------
J. Paulus, M. Torcoli, "Sampling Frequency Independent Dialogue Separation", EUSIPCO 2022 (arXiv 2206.02124).

M. Strauss, J. Paulus, M. Torcoli, B. Edler, "A Hands-on Comparison of DNNs for Dialog Separation Using Transfer
Learning from Music Source Separation", Interspeech 2021 (arXiv 2106.09093), section 3.4.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.network import Network, ResidualConfig
from separators.stft import check_window, istft, stft

__all__ = ["DNNDS", "DNNDSConfig"]

_EPSILON = 1e-10
# A bin 60 dB below the level of all bins together still counts.
_RANGE = 1e3


@dataclass(frozen=True, kw_only=True)
class DNNDSConfig(ResidualConfig):
    """Sizes of a `DNNDS`; the defaults have 374,000 parameters and hear 1 s.

    Attributes
    ----------
    window_frames, hop_frames : int
        Of the spectra: 40 and 20 ms, or the weights serve no other rate.
    filters : tuple of int
        Channels of the strided convolutions, outermost first.
    dilations : tuple of int
        In time, of the residual blocks.
    """

    sample_rate: int = 48000
    channels: int = 2
    sources: tuple[str, ...] = ("dialogue", "background")
    segment_frames: int = 4 * 48000
    residual: str | None = "background"
    window_frames: int = 1920
    hop_frames: int = 960
    filters: tuple[int, ...] = (16, 32, 48, 64)
    dilations: tuple[int, ...] = (1, 2, 4, 4, 4, 4, 2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_frames, self.hop_frames)
        for name in ("filters", "dilations"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise RecipeError(f"{name} is {list(getattr(self, name))}: it must hold numbers, each 1 or more")

    def at_rate(self, sample_rate: int) -> Self:
        """The config of a network that the same weights serve at another rate.

        Parameters
        ----------
        sample_rate : int
            In Hz.

        Returns
        -------
        DNNDSConfig
            Windows, hops and segments as long in seconds, the window to the nearest even number of frames.
        """
        ratio = sample_rate / self.sample_rate
        return dataclasses.replace(
            self,
            sample_rate=sample_rate,
            window_frames=2 * round(self.window_frames * ratio / 2),
            hop_frames=round(self.hop_frames * ratio),
            segment_frames=round(self.segment_frames * ratio),
        )


class DNNDS(Network):
    """Masks from convolutions over time and frequency.

    Parameters
    ----------
    config : DNNDSConfig
    """

    config: DNNDSConfig

    def __init__(self, config: DNNDSConfig | None = None) -> None:
        config = config or DNNDSConfig()
        super().__init__(config)
        filters = config.filters
        self.first = _layer(nn.Conv2d(config.channels, filters[0], (5, 3), padding=(2, 1), bias=False))
        self.down = nn.ModuleList(
            _layer(nn.Conv2d(before, after, (5, 1), stride=(2, 1), padding=(2, 0), bias=False))
            for before, after in itertools.pairwise(filters)
        )
        self.blocks = nn.ModuleList(_Block(filters[-1], dilation) for dilation in config.dilations)
        self.up = nn.ModuleList(
            _layer(nn.ConvTranspose2d(2 * before, after, (5, 1), stride=(2, 1), padding=(2, 0), bias=False))
            for before, after in itertools.pairwise(filters[::-1])
        )
        self.masks = nn.Conv2d(2 * filters[0], len(config.targets) * config.channels, 3, padding=1)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        config = self.config
        spectrum = stft(mixture, config.window_frames, config.hop_frames)
        masks = self._masks(spectrum.abs()).reshape(len(mixture), -1, *spectrum.shape[1:])
        sources = istft(masks * spectrum[:, None], config.window_frames, config.hop_frames, mixture.shape[-1])
        if config.residual is None:
            return sources
        return torch.cat([sources, (mixture - sources.sum(dim=1))[:, None]], dim=1)

    def _masks(self, magnitude: torch.Tensor) -> torch.Tensor:
        # The sum over bins, not their mean: silence above what a lower rate holds changes nothing.
        level = (magnitude.square().sum(dim=2).mean(dim=(1, 2)) + _EPSILON).sqrt()[:, None, None, None]
        skips = [self.first(torch.log1p(_RANGE * magnitude / level))]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        signal = skips[-1]
        for block in self.blocks:
            signal = block(signal)
        for layer, above in zip(self.up, skips[-2::-1], strict=True):
            # A stride of two forgets whether the number of bins was even: a bin more, or as many.
            signal = layer(torch.cat([signal, skips.pop()], dim=1))
            signal = functional.pad(signal, (0, 0, 0, above.shape[2] - signal.shape[2]))
        masks: torch.Tensor = self.masks(torch.cat([signal, skips.pop()], dim=1))
        return masks.float().sigmoid()


class _Block(nn.Module):
    """A convolution dilated in time, and a way around."""

    def __init__(self, filters: int, dilation: int) -> None:
        super().__init__()
        self.layer = _layer(
            nn.Conv2d(filters, filters, 3, padding=(1, dilation), dilation=(1, dilation), bias=False)
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        around: torch.Tensor = self.layer(signal)
        return signal + around


def _layer(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
