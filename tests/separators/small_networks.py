"""Networks with the published shapes but few parameters."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable

import torch

from separators import ConvTasNet, ConvTasNetConfig, Network, OpenUnmix, OpenUnmixConfig, UNet
from separators.bs_roformer import BSRoformer, BSRoformerConfig
from separators.bsrnn import BSRNN, BSRNNConfig
from separators.dnn_ds import DNNDS, DNNDSConfig
from separators.embedder import Embedder
from separators.ht_demucs import HTDemucs, HTDemucsConfig
from separators.mrx import MRX, MRXC, MRXCConfig, MRXConfig
from separators.tdcn import TDCN, TDCNConfig
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


def residual_unet() -> UNet:
    sources = {"sources": ("vocals", "rest"), "residual": "rest"}
    return UNet(dataclasses.replace(singing_voice_config(), **{**SMALL_UNET, **sources}))


def banded_unet() -> UNet:
    return UNet(dataclasses.replace(residual_unet().config, bands=32))


def mid_side_unet() -> UNet:
    return UNet(dataclasses.replace(residual_unet().config, mid_side=True))


def open_unmix(**changes: object) -> OpenUnmix:
    sizes = {"window_frames": 128, "hop_frames": 32, "hidden": 8, "layers": 2, "segment_frames": 1000}
    return OpenUnmix(OpenUnmixConfig(**{**sizes, **changes}))


def residual_unmix() -> OpenUnmix:
    return open_unmix(sources=("vocals", "rest"), residual="rest", wiener_columns=7)


def conv_tasnet() -> ConvTasNet:
    sizes = {"filters": 12, "bottleneck": 8, "hidden": 10, "dilations": 3, "repeats": 2, "segment_frames": 1000}
    return ConvTasNet(ConvTasNetConfig(**sizes))


def bsrnn(**changes: object) -> BSRNN:
    sizes = {"window_frames": 256, "hop_frames": 64, "features": 8, "hidden": 8, "modules": 2, "mlp_hidden": 12}
    several = {"sources": ("vocals", "bass"), "bands": ("vocals", "bass"), "segment_frames": 1000}
    return BSRNN(BSRNNConfig(**{**sizes, **({} if "sources" in changes else several), **changes}))


def residual_bsrnn() -> BSRNN:
    return bsrnn(sources=("drums", "rest"), residual="rest", bands=("drums",), cell="lstm")


SMALL_MRX = {
    "windows_frames": (128, 256),
    "hop_frames": 32,
    "hidden": 16,
    "layers": 2,
    "dropout": 0.0,
    "segment_frames": 1000,
}


def mrx() -> MRX:
    return MRX(MRXConfig(**SMALL_MRX))


def mrxc() -> MRXC:
    activity = {"mel_bands": 8, "mel_window_frames": 256, "activity_filters": 4, "activity_hidden": 4}
    return MRXC(MRXCConfig(**SMALL_MRX, **activity))


SMALL_TDCN = {
    "channels": 2,
    "window_frames": 32,
    "hop_frames": 16,
    "filters": 12,
    "bottleneck": 6,
    "hidden": 8,
    "dilations": 2,
    "repeats": 3,
    "classes": 5,
    "embedder_width": 2,
    "embedding_channels": 4,
}


def tdcn(embedder: Embedder | None = None, **changes: object) -> TDCN:
    return TDCN(TDCNConfig(**{**SMALL_TDCN, **changes}), embedder)


def learned_itdcn() -> TDCN:
    return tdcn(iterations=2, basis="learned", consistency="learned")


def conditioned_itdcn(**changes: object) -> TDCN:
    conditioned = {"iterations": 2, "conditioning": "all", "sigmoid": "trained"}
    return tdcn(**{**conditioned, "tuning": "guided", "tuned_layers": 11, **changes})


def dnn_ds(**changes: object) -> DNNDS:
    sizes = {
        "sample_rate": 8000,
        "window_frames": 320,
        "hop_frames": 160,
        "filters": (4, 6, 8),
        "dilations": (1, 2),
    }
    return DNNDS(DNNDSConfig(**{**sizes, **changes}))


def ht_demucs() -> HTDemucs:
    sizes = {"features": 8, "depth": 2, "window_frames": 128, "bottleneck": 8, "transformer_layers": 1}
    return HTDemucs(HTDemucsConfig(**sizes, transformer_heads=2, dropout=0.0, segment_frames=1000))


def roformer(**changes: object) -> BSRoformer:
    spectra = {"window_frames": 64, "hop_frames": 16, "band_bins": (4, 4, 8, 17), "mel_bands": 6}
    sizes = {"features": 8, "layers": 2, "heads": 2, "head_features": 4, "dropout": 0.0, "segment_frames": 1000}
    return BSRoformer(BSRoformerConfig(**{**spectra, **sizes, "sources": ("vocals", "other"), **changes}))


SMALL: list[Callable[[], Network]] = [
    study,
    spleeter,
    residual_unet,
    banded_unet,
    mid_side_unet,
    open_unmix,
    residual_unmix,
    conv_tasnet,
    bsrnn,
    residual_bsrnn,
    mrx,
    mrxc,
    tdcn,
    learned_itdcn,
    conditioned_itdcn,
    dnn_ds,
    *([ht_demucs] if importlib.util.find_spec("demucs") else []),
]


def noise(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, 2, frames, generator=generator)


def seeded(make: Callable[[], Network], seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return make()


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def fall_of_loss(make: Callable[[], Network], steps: int = 40, rate: float = 1e-2) -> float:
    """What training on one batch leaves of the mean squared error: sources at low and at high frequencies."""
    network = seeded(make).train()
    batch = noise(2, 800)[:, : network.channels]
    low = torch.nn.functional.avg_pool1d(batch, 9, 1, 4)
    sources = torch.stack([low, batch - low], dim=1)[:, : len(network.sources)]
    optimizer = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], rate)
    losses = []
    for _ in range(steps):
        loss = (network(batch)[:, : sources.shape[1]] - sources).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


def half_precision_error(make: Callable[[], Network]) -> float:
    """How far bfloat16 takes a network's sources from those of float32, over the mixture's largest value."""
    network, mixture = seeded(make).eval(), noise(2, 700)
    mixture = mixture[:, : network.channels]
    with torch.no_grad():
        wanted = network(mixture)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(mixture)
    assert found.dtype == torch.float32
    return float((found - wanted).abs().max() / mixture.abs().max())
