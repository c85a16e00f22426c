"""Networks with the published shapes but few parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from separators import ConvTasNet, ConvTasNetConfig, Network, OpenUnmix, OpenUnmixConfig, UNet
from separators.unet import singing_voice_config, spleeter_config

SMALL_UNET = {
    "window_frames": 128,
    "hop_frames": 32,
    "bins": 64,
    "columns": 16,
    "filters": (4, 6, 8),
    "segment_frames": 15 * 32,
}


def study() -> UNet:
    return UNet(dataclasses.replace(singing_voice_config(), **SMALL_UNET))


def spleeter() -> UNet:
    return UNet(dataclasses.replace(spleeter_config(), **{**SMALL_UNET, "bins": 32}))


def open_unmix(**changes: object) -> OpenUnmix:
    sizes = {"window_frames": 128, "hop_frames": 32, "hidden": 8, "layers": 2, "segment_frames": 1000}
    return OpenUnmix(OpenUnmixConfig(**{**sizes, **changes}))


def residual_unmix() -> OpenUnmix:
    return open_unmix(sources=("vocals", "rest"), residual="rest", wiener_columns=7)


def conv_tasnet() -> ConvTasNet:
    sizes = {"filters": 12, "bottleneck": 8, "hidden": 10, "dilations": 3, "repeats": 2, "segment_frames": 1000}
    return ConvTasNet(ConvTasNetConfig(**sizes))


SMALL: list[Callable[[], Network]] = [study, spleeter, open_unmix, residual_unmix, conv_tasnet]


def noise(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, 2, frames, generator=generator)


def seeded(make: Callable[[], Network], seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return make()
