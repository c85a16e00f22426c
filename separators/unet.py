"""U-Nets on magnitude spectra, one for each source, and the ratio mask that they make together.

Each net looks at patches of the mixture's magnitudes, ``(channels, columns, bins)``, and gives a mask for its own
source; mask times magnitude is what training compares (`UNet.magnitudes`, L1). To separate, the magnitudes of all
nets become a ratio mask on the mixture's complex spectrum, so the sources sum to the mixture where the masks reach.

`singing_voice_config` is the net of the singing-voice study: five strided convolutions, masks straight from the
last transposed one. `spleeter_config` is Spleeter's: six, and a dilated convolution at the end. Both are wired as
Spleeter is: what a decoder layer gets from the encoder is the convolution before its batch normalisation, the
innermost convolution has none, and padding and normalisation follow TensorFlow, where these nets come from.

References
----------
A. Jansson et al., "Singing Voice Separation with Deep U-Net Convolutional Networks", ISMIR 2017.

L. Pretet, R. Hennequin, J. Royo-Letelier, A. Vaglio, "Singing Voice Separation: A Study on Training Data", ICASSP
2019 (arXiv 1906.02618).

R. Hennequin, A. Khlif, F. Voituret, M. Moussallam, "Spleeter: a fast and efficient music source separation tool
with pre-trained models", JOSS 5(50), 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import scipy.optimize
import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.network import Network, ResidualConfig
from separators.stft import check_window, istft, stft

__all__ = ["UNet", "UNetConfig", "singing_voice_config", "spleeter_config"]

_EPSILON = 1e-10


@dataclass(frozen=True, kw_only=True)
class UNetConfig(ResidualConfig):
    """Sizes of a `UNet`.

    Attributes
    ----------
    window_frames, hop_frames : int
        Of the spectra.
    bins : int
        How many of the lowest bins the nets see.
    columns : int
        Of a patch.
    filters : tuple of int
        Channels of each strided convolution, outermost first. Their number halves bins and columns as often.
    head : {'direct', 'dilated'}
        Whether the last transposed convolution gives the masks, or a 4x4 convolution with dilation 2 after it.
    mask_exponent : float
        Power of the magnitudes in the ratio mask.
    extension : {'average', 'zeros'}
        Mask of the bins above: the mean of the column's masks, which keeps the sum, or nothing.
    bands : int or None
        The nets see so many bands instead of the bins, fewer than these: as narrow as bins below, wider and wider
        above. Work is in proportion to them.
    mid_side : bool
        The nets of a stereo mixture see the magnitudes of half the sum and half the difference of its channels
        besides those of the channels, and so what lies in the middle.
    """

    window_frames: int
    hop_frames: int
    bins: int
    columns: int
    filters: tuple[int, ...]
    head: Literal["direct", "dilated"]
    mask_exponent: float
    extension: Literal["average", "zeros"]
    bands: int | None = None
    mid_side: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_frames, self.hop_frames)
        step = 2 ** len(self.filters)
        if not self.filters or min(self.filters) < 1:
            raise RecipeError(f"filters is {list(self.filters)}: it must hold at least one number, each 1 or more")
        for name, value in (("bins" if self.bands is None else "bands", self.rows), ("columns", self.columns)):
            if value < 1 or value % step:
                raise RecipeError(f"{name} is {value}: it must be a multiple of {step}")
        if self.bands is not None and self.bands >= self.bins:
            raise RecipeError(f"bands is {self.bands}: it must be below bins, {self.bins}")
        if self.bins > self.window_frames // 2 + 1:
            raise RecipeError(f"bins is {self.bins}: a window of {self.window_frames} frames has fewer")
        if self.head not in ("direct", "dilated"):
            raise RecipeError(f"head is {self.head!r}: it must be 'direct' or 'dilated'")
        if self.extension not in ("average", "zeros"):
            raise RecipeError(f"extension is {self.extension!r}: it must be 'average' or 'zeros'")
        if not self.mask_exponent > 0:
            raise RecipeError(f"mask_exponent is {self.mask_exponent}: it must be above 0")
        if self.mid_side and self.channels != 2:
            raise RecipeError(f"mid_side is of stereo, and channels is {self.channels}: leave it out")

    @property
    def rows(self) -> int:
        """Of a patch: bands, or bins."""
        return self.bins if self.bands is None else self.bands


def singing_voice_config(sources: tuple[str, ...] = ("vocals", "instrumental")) -> UNetConfig:
    """The singing-voice study's U-Net.

    Parameters
    ----------
    sources : tuple of str

    Returns
    -------
    UNetConfig
        22,050 Hz, windows of 2048 by 512, patches of 1024 bins by 512 columns, which is 11.9 s.
    """
    return UNetConfig(
        sample_rate=22050,
        channels=2,
        sources=sources,
        segment_frames=511 * 512,
        window_frames=2048,
        hop_frames=512,
        bins=1024,
        columns=512,
        filters=(16, 32, 64, 128, 256),
        head="direct",
        mask_exponent=1.0,
        extension="average",
    )


def spleeter_config(sources: tuple[str, ...] = ("vocals", "accompaniment")) -> UNetConfig:
    """Spleeter's U-Net: 9.82 million parameters for each source.

    Parameters
    ----------
    sources : tuple of str

    Returns
    -------
    UNetConfig
        44,100 Hz, windows of 4096 by 1024, patches of 1024 bins (up to 11 kHz) by 512 columns.
    """
    return UNetConfig(
        sample_rate=44100,
        channels=2,
        sources=sources,
        segment_frames=511 * 1024,
        window_frames=4096,
        hop_frames=1024,
        bins=1024,
        columns=512,
        filters=(16, 32, 64, 128, 256, 512),
        head="dilated",
        mask_exponent=2.0,
        extension="zeros",
    )


class UNet(Network):
    """A U-Net for each target, and their ratio mask.

    Parameters
    ----------
    config : UNetConfig

    Attributes
    ----------
    nets : torch.nn.ModuleList
        One for each of `config.targets`, in order.
    """

    config: UNetConfig
    spread: torch.Tensor | None

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.nets = nn.ModuleList(_MaskNet(config) for _ in config.targets)
        self.register_buffer(
            "spread", None if config.bands is None else _spread(config.bins, config.bands), persistent=False
        )

    def magnitudes(self, mixture: torch.Tensor) -> torch.Tensor:
        """What each net takes for its source's magnitudes: masks times the mixture's, before the ratio mask.

        Parameters
        ----------
        mixture : torch.Tensor of float [shape=(batch, channels, frames)]

        Returns
        -------
        torch.Tensor of float32 [shape=(batch, targets, channels, bins, columns)]
            `config.bins` bins; compare with `reference_magnitudes`.
        """
        self._check(mixture)
        return self._masked(self._spectrum(mixture))

    def reference_magnitudes(self, sources: torch.Tensor) -> torch.Tensor:
        """Magnitudes of the true sources that have a net, in the bins that the nets see.

        Parameters
        ----------
        sources : torch.Tensor of float [shape=(batch, sources, channels, frames)]

        Returns
        -------
        torch.Tensor of float32 [shape=(batch, targets, channels, bins, columns)]
        """
        return self._spectrum(sources[:, : len(self.nets)])[..., : self.config.bins, :].abs()

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        self._check(mixture)
        config = self.config
        spectrum = self._spectrum(mixture)
        magnitudes = self._masked(spectrum)
        if config.residual is not None:
            rest = spectrum[..., : config.bins, :].abs() - magnitudes.sum(dim=1)
            magnitudes = torch.cat([magnitudes, rest.clamp_min(0)[:, None]], dim=1)
        powers = magnitudes**config.mask_exponent
        # Where nothing sounds the sources share alike, and the masks still sum to one.
        share = _EPSILON / len(self.sources)
        masks = (powers + share) / (powers.sum(dim=1, keepdim=True) + _EPSILON)
        above = spectrum.shape[-2] - config.bins
        rest = masks.mean(dim=-2, keepdim=True) if config.extension == "average" else masks[..., :1, :] * 0
        masks = torch.cat([masks, rest.expand(*masks.shape[:-2], above, -1)], dim=-2)
        return istft(masks * spectrum[:, None], config.window_frames, config.hop_frames, mixture.shape[-1])

    def _spectrum(self, audio: torch.Tensor) -> torch.Tensor:
        return stft(audio, self.config.window_frames, self.config.hop_frames)

    def _masked(self, spectrum: torch.Tensor) -> torch.Tensor:
        config, width = self.config, self.config.columns
        spectrum = spectrum[..., : config.bins, :]
        magnitude = seen = spectrum.abs()
        if config.mid_side:
            left, right = spectrum[:, :1], spectrum[:, 1:]
            seen = torch.cat([magnitude, (left + right).abs() / 2, (left - right).abs() / 2], dim=1)
        if self.spread is not None:
            seen = self.spread.T / self.spread.sum(dim=0)[:, None] @ seen
        batch, channels, rows, columns = seen.shape
        padded = functional.pad(seen, (0, -columns % width))
        patches = padded.reshape(batch, channels, rows, -1, width).permute(0, 3, 1, 4, 2)
        stack = patches.reshape(-1, channels, width, rows)
        masks = torch.stack([net(stack).float() for net in self.nets], dim=1)
        masks = masks.reshape(batch, -1, len(self.nets), config.channels, width, rows).permute(0, 2, 3, 5, 1, 4)
        masks = masks.reshape(batch, len(self.nets), config.channels, rows, -1)[..., :columns]
        return (masks if self.spread is None else self.spread @ masks) * magnitude[:, None]


class _MaskNet(nn.Module):
    """Masks of one source, ``(patches, channels, columns, bins)``, of magnitudes; mid and side follow channels."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        filters, channels = config.filters, config.channels
        inner = len(filters) - 1
        seen = channels + (2 if config.mid_side else 0)
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 5, stride=2)
            for before, after in zip((seen, *filters[:-1]), filters, strict=True)
        )
        self.down_norm = nn.ModuleList(_norm(number) for number in filters[:-1])
        last = channels if config.head == "direct" else 1
        outputs = (*filters[:-1][::-1], last)
        # All but the innermost see the encoder's layer beside what comes from below.
        inputs = (filters[-1], *(2 * number for number in outputs[:-1]))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 5, stride=2) for before, after in zip(inputs, outputs, strict=True)
        )
        self.up_norm = nn.ModuleList(_norm(number) for number in outputs[: inner + (config.head == "dilated")])
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Conv2d(1, channels, 4, dilation=2, padding=3) if config.head == "dilated" else None

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        skips = []
        signal = magnitude
        for convolution, norm in zip(self.down, [*self.down_norm, None], strict=True):
            signal = convolution(functional.pad(signal, (1, 2, 1, 2)))
            if norm is not None:
                skips.append(signal)
                signal = functional.leaky_relu(norm(signal), 0.2)
        for layer, convolution in enumerate(self.up):
            signal = convolution(signal)[..., 1:-2, 1:-2]
            if layer < len(self.up_norm):
                signal = self.up_norm[layer](functional.relu(signal))
            if layer < 3 and layer < len(self.up) - 1:
                signal = self.dropout(signal)
            if layer < len(self.up) - 1:
                signal = torch.cat([skips.pop(), signal], dim=1)
        return torch.sigmoid(signal if self.head is None else self.head(signal))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _spread(bins: int, bands: int) -> torch.Tensor:
    """What each bin takes of each band, ``(bins, bands)``: of the two that it lies between.

    Bands lie evenly on ``asinh(bin / knee)``, linear below the knee and logarithmic above; the knee is where it
    makes the lowest bands one bin wide. (DeepFilterNet's masks are of such bands too: Schroter et al., 2022.)
    """
    knee = float(scipy.optimize.brentq(lambda k: k * math.asinh((bins - 1) / k) - (bands - 1), 1e-3, 1e6))
    place = (knee * torch.asinh(torch.arange(bins, dtype=torch.float64) / knee)).clamp(max=bands - 1)
    distance = (place[:, None] - torch.arange(bands)).abs()
    return (1 - distance).clamp_min(0).float()
