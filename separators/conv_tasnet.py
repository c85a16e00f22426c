"""Conv-TasNet for music: masks on a learnt basis instead of a spectrum, from dilated convolutions over time.

Stereo in and out, four sources, 10.98 million parameters: the sizes of the second paper, which took the first one's
network from speech to music.

References
----------
Y. Luo, N. Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation",
IEEE/ACM TASLP 27(8), 2019 (arXiv 1809.07454): its letters stand beside the sizes below.

A. Defossez, N. Usunier, L. Bottou, F. Bach, "Music Source Separation in the Waveform Domain", 2019
(arXiv 1911.13254), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.network import Network, NetworkConfig

__all__ = ["ConvTasNet", "ConvTasNetConfig"]

_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class ConvTasNetConfig(NetworkConfig):
    """Sizes of a `ConvTasNet`; the defaults are the published ones for music.

    Attributes
    ----------
    filters : int
        Functions of the basis (N).
    filter_frames : int
        Their length, even; they lie half of it apart (L).
    bottleneck : int
        Channels between the blocks (B).
    hidden : int
        Channels inside a block (H).
    kernel : int
        Length of the dilated convolutions, odd (P).
    dilations : int
        Blocks of a repeat, each with twice the dilation of the one before (X).
    repeats : int
        (R).
    """

    sample_rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    segment_frames: int = 8 * 44100
    filters: int = 256
    filter_frames: int = 20
    bottleneck: int = 256
    hidden: int = 512
    kernel: int = 3
    dilations: int = 10
    repeats: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("filters", "bottleneck", "hidden", "kernel", "dilations", "repeats"):
            self._at_least(name, 1)
        self._at_least("filter_frames", 2)
        if self.filter_frames % 2:
            raise RecipeError(f"filter_frames is {self.filter_frames}: it must be even")
        if self.kernel % 2 == 0:
            raise RecipeError(f"kernel is {self.kernel}: it must be odd")


class ConvTasNet(Network):
    """Masks on a learnt basis: encoder, dilated blocks, decoder.

    Parameters
    ----------
    config : ConvTasNetConfig
    """

    config: ConvTasNetConfig

    def __init__(self, config: ConvTasNetConfig | None = None) -> None:
        config = config or ConvTasNetConfig()
        super().__init__(config)
        hop = config.filter_frames // 2
        self.encoder = nn.Conv1d(config.channels, config.filters, config.filter_frames, stride=hop, bias=False)
        self.norm = nn.LayerNorm(config.filters, eps=_EPSILON)
        self.bottleneck = nn.Conv1d(config.filters, config.bottleneck, 1, bias=False)
        self.blocks = nn.ModuleList(
            _Block(config, 2**power) for _ in range(config.repeats) for power in range(config.dilations)
        )
        self.masks = nn.Conv1d(config.bottleneck, len(config.sources) * config.filters, 1, bias=False)
        # Overlap-add of the basis functions, weighted by each source's share in them.
        self.decoder = nn.ConvTranspose1d(
            config.filters, config.channels, config.filter_frames, stride=hop, bias=False
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        config = self.config
        batch, _, frames = mixture.shape
        hop = config.filter_frames // 2
        # One more hop on either side: two basis functions lie over the first and last frames, as over all others.
        padded = functional.pad(mixture, (hop, hop + -frames % hop))
        weights = functional.relu(self.encoder(padded))
        signal = self.bottleneck(self.norm(weights.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            signal = block(signal)
        masks = functional.relu(self.masks(signal)).reshape(batch, len(self.sources), config.filters, -1)
        sources: torch.Tensor = self.decoder((masks * weights[:, None]).flatten(0, 1))
        return sources[..., hop : hop + frames].reshape(batch, len(self.sources), config.channels, frames)


class _Block(nn.Module):
    """A dilated convolution for each channel between two that mix the channels, and a way around."""

    def __init__(self, config: ConvTasNetConfig, dilation: int) -> None:
        super().__init__()
        bottleneck, hidden = config.bottleneck, config.hidden
        reach = dilation * (config.kernel - 1) // 2
        self.layers = nn.Sequential(
            nn.Conv1d(bottleneck, hidden, 1, bias=False),
            nn.PReLU(),
            # One group: the paper's global layer normalisation, over channels and time.
            nn.GroupNorm(1, hidden, eps=_EPSILON),
            nn.Conv1d(hidden, hidden, config.kernel, padding=reach, dilation=dilation, groups=hidden, bias=False),
            nn.PReLU(),
            nn.GroupNorm(1, hidden, eps=_EPSILON),
            nn.Conv1d(hidden, bottleneck, 1, bias=False),
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        around: torch.Tensor = self.layers(signal)
        return signal + around
