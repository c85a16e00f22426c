"""Hybrid Transformer Demucs: the published implementation, from the package `demucs` 4.1, as one of our networks.

The layers are the package's, under `model`; its weights fit there. `pip install 'stemloom[demucs]'` installs it.

References
----------
S. Rouard, F. Massa, A. Defossez, "Hybrid Transformers for Music Source Separation", ICASSP 2023 (arXiv 2211.08553).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from manifests.errors import RecipeError
from separators.network import Network, NetworkConfig

__all__ = ["HTDemucs", "HTDemucsConfig"]


@dataclass(frozen=True, kw_only=True)
class HTDemucsConfig(NetworkConfig):
    """Sizes of an `HTDemucs`; the defaults are those of the released `htdemucs`.

    Attributes
    ----------
    features : int
        Channels of the first layer.
    growth : int
        Channels of a layer over those of the one before.
    depth : int
        Layers of the encoders and of the decoders.
    window_frames : int
        Of the spectra, a power of two; the hop is a quarter.
    bottleneck : int
        Channels of the transformer, or 0 for those of the last layer.
    decoder_residuals : bool
        Whether the decoders have the dilated residual branches that the encoders have.
    transformer_layers : int
    transformer_heads : int
    dropout : float
        In the transformer.
    """

    sample_rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    segment_frames: int = 343980
    features: int = 48
    growth: int = 2
    depth: int = 4
    window_frames: int = 4096
    bottleneck: int = 512
    decoder_residuals: bool = True
    transformer_layers: int = 5
    transformer_heads: int = 8
    dropout: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        # The package's residual branches have an eighth of the channels.
        self._at_least("features", 8)
        for name in ("growth", "depth", "transformer_heads"):
            self._at_least(name, 1)
        for name in ("bottleneck", "transformer_layers"):
            self._at_least(name, 0)
        # Below, the spectrum runs out of bins before the last layer, and the branches cannot be held apart.
        self._at_least("window_frames", 2 * 4 ** (self.depth + 1))
        if self.window_frames.bit_count() != 1:
            raise RecipeError(f"window_frames is {self.window_frames}: it must be a power of two")
        width = self.bottleneck or self.features * self.growth ** (self.depth - 1)
        if self.transformer_layers and (width % self.transformer_heads or width % 4):
            raise RecipeError(
                f"transformer_heads is {self.transformer_heads}: it must divide the transformer's {width} "
                "channels, which must be a multiple of 4"
            )
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"dropout is {self.dropout}: it must be from 0 to below 1")


class HTDemucs(Network):
    """The package's model.

    Parameters
    ----------
    config : HTDemucsConfig

    Attributes
    ----------
    model : torch.nn.Module
        ``demucs.htdemucs.HTDemucs``.

    Raises
    ------
    RecipeError
        The package is missing.
    """

    config: HTDemucsConfig

    def __init__(self, config: HTDemucsConfig | None = None) -> None:
        config = config or HTDemucsConfig()
        super().__init__(config)
        try:
            package: Any = importlib.import_module("demucs.htdemucs")
        except ImportError as error:
            raise RecipeError(
                f"HTDemucs needs the package demucs ({error}): run pip install 'stemloom[demucs]'"
            ) from error
        self.model = package.HTDemucs(
            list(config.sources),
            audio_channels=config.channels,
            channels=config.features,
            growth=config.growth,
            nfft=config.window_frames,
            depth=config.depth,
            bottom_channels=config.bottleneck,
            dconv_mode=3 if config.decoder_residuals else 1,
            t_layers=config.transformer_layers,
            t_heads=config.transformer_heads,
            t_dropout=config.dropout,
            samplerate=config.sample_rate,
            segment=config.segment_frames / config.sample_rate,
            # Lengths are ours to see to: the package would round them, and remember the last in training.
            use_train_segment=False,
        )

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        frames = mixture.shape[-1]
        # It was trained on whole segments, and is as good on what is shorter only if that is lengthened.
        least = 1 if self.training else self.segment_frames
        sources: torch.Tensor = self.model(functional.pad(mixture, (0, max(least - frames, 0))))
        return sources[..., :frames].float()
