"""BS-RoFormer and Mel-Band RoFormer: the package `BS-RoFormer` 0.3.10 as one of our networks.

The layers are the package's, under `model`, so that the weights people share for this version fit there. Shared
weights were trained with the lowest bin as it is: later versions of the package set it to zero unless told
otherwise (`zero_dc`). `pip install 'stemloom[roformer]'` installs the package.

References
----------
W.-T. Lu, J.-C. Wang, Q. Kong, Y.-N. Hung, "Music Source Separation with Band-Split RoPE Transformer", ICASSP 2024
(arXiv 2309.02612).

J.-C. Wang, W.-T. Lu, M. Won, "Mel-Band RoFormer for Music Source Separation", 2023 (arXiv 2310.01809).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.network import Network, NetworkConfig
from separators.stft import check_window

__all__ = ["BSRoformer", "BSRoformerConfig"]


@dataclass(frozen=True, kw_only=True)
class BSRoformerConfig(NetworkConfig):
    """Sizes of a `BSRoformer`; the defaults are the first paper's, 98.2 million parameters in the package.

    The second paper's, with `bands` 'mel', are 110.2 million with `mask_depth` 1.

    Attributes
    ----------
    bands : {'split', 'mel'}
        BS-RoFormer or Mel-Band RoFormer.
    window_frames, hop_frames : int
        Of the spectra.
    band_bins : tuple of int
        Bins of each band where they are split; their sum is that of all bins.
    mel_bands : int
        How many bands there are on the mel scale.
    features : int
        Of a band.
    layers : int
        Pairs of a transformer along time and one across bands.
    time_depth, band_depth : int
        Layers of each of the two.
    heads, head_features : int
        Of their attention.
    mask_depth : int
        Layers of the mask estimators.
    dropout : float
        In the transformers.
    """

    sample_rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("vocals",)
    segment_frames: int = 8 * 44100
    bands: Literal["split", "mel"] = "split"
    window_frames: int = 2048
    hop_frames: int = 441
    band_bins: tuple[int, ...] = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
    mel_bands: int = 60
    features: int = 384
    layers: int = 12
    time_depth: int = 1
    band_depth: int = 1
    heads: int = 8
    head_features: int = 64
    mask_depth: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_frames, self.hop_frames)
        for name in ("features", "layers", "time_depth", "band_depth", "heads", "mask_depth"):
            self._at_least(name, 1)
        for name in ("mel_bands", "head_features"):
            self._at_least(name, 2)
        if self.head_features % 2:
            raise RecipeError(f"head_features is {self.head_features}: it must be even")
        if self.channels > 2:
            raise RecipeError(f"channels is {self.channels}: it must be 1 or 2")
        if self.bands not in ("split", "mel"):
            raise RecipeError(f"bands is {self.bands!r}: it must be 'split' or 'mel'")
        bins = self.window_frames // 2 + 1
        if self.bands == "split" and (
            len(self.band_bins) < 2 or min(self.band_bins) < 1 or sum(self.band_bins) != bins
        ):
            raise RecipeError(
                f"band_bins sums to {sum(self.band_bins)}: it must hold two or more bands, of {bins} bins in all"
            )
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"dropout is {self.dropout}: it must be from 0 to below 1")


class BSRoformer(Network):
    """The package's model.

    Parameters
    ----------
    config : BSRoformerConfig

    Attributes
    ----------
    model : torch.nn.Module
        ``bs_roformer.BSRoformer`` or ``bs_roformer.mel_band_roformer.MelBandRoformer``.

    Raises
    ------
    RecipeError
        The package is missing, or there are more mel bands than bins for them.
    """

    config: BSRoformerConfig

    def __init__(self, config: BSRoformerConfig | None = None) -> None:
        config = config or BSRoformerConfig()
        super().__init__(config)
        try:
            package: Any = importlib.import_module("bs_roformer")
        except ImportError as error:
            raise RecipeError(
                f"BSRoformer needs the package BS-RoFormer ({error}): run pip install 'stemloom[roformer]'"
            ) from error
        sizes: dict[str, Any] = {
            "dim": config.features,
            "depth": config.layers,
            "stereo": config.channels == 2,
            "num_stems": len(config.sources),
            "time_transformer_depth": config.time_depth,
            "freq_transformer_depth": config.band_depth,
            "dim_head": config.head_features,
            "heads": config.heads,
            "attn_dropout": config.dropout,
            "ff_dropout": config.dropout,
            "dim_freqs_in": config.window_frames // 2 + 1,
            "stft_n_fft": config.window_frames,
            "stft_hop_length": config.hop_frames,
            "stft_win_length": config.window_frames,
            "mask_estimator_depth": config.mask_depth,
        }
        if config.bands == "split":
            self.model = package.BSRoformer(freqs_per_bands=config.band_bins, **sizes)
        else:
            self.model = package.MelBandRoformer(
                num_bands=config.mel_bands, sample_rate=config.sample_rate, **sizes
            )
            if not self.model.freqs_per_band.any(dim=1).all():
                raise RecipeError(
                    f"mel_bands is {config.mel_bands}: some would hold no bin; take fewer, or a longer window"
                )
        for estimator in self.model.mask_estimators:
            estimator.register_forward_hook(_as_float)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        config = self.config
        frames = mixture.shape[-1]
        # The package reflects half a window at both ends, and leaves out what is past the last whole hop.
        least = max(frames, config.window_frames // 2 + 1)
        whole = -(-least // config.hop_frames) * config.hop_frames
        sources: torch.Tensor = self.model(functional.pad(mixture, (0, whole - frames)))
        return sources.reshape(len(mixture), len(self.sources), config.channels, -1)[..., :frames]


def _as_float(module: nn.Module, inputs: Any, masks: torch.Tensor) -> torch.Tensor:
    # The package makes complex numbers of them, which half precision does not have everywhere.
    return masks.float()
