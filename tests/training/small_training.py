"""Trainings of a few steps: a tiny network, mixtures of a tenth of a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from manifests.corpus import Corpus
from separators.network import Network, NetworkConfig
from tests.augment.small_pool import RATE, loose_corpus
from training.journal import read_journal
from training.loop import TrainedRun, train
from training.recipe import TrainRecipe, load_training
from training.runs import BEST

TASNET = {
    "name": "conv-tasnet",
    "filters": 12,
    "filter_frames": 16,
    "bottleneck": 8,
    "hidden": 10,
    "dilations": 2,
    "repeats": 1,
}
UNMIX = {"name": "open-unmix", "window_frames": 128, "hop_frames": 64, "bandwidth_hz": 4000.0, "hidden": 8}
UNMIX = {**UNMIX, "layers": 2, "dropout": 0.4, "wiener_iterations": 0}
UNET = {
    "name": "unet",
    "window_frames": 128,
    "hop_frames": 32,
    "bins": 64,
    "columns": 8,
    "filters": [4, 6, 8],
    "head": "direct",
    "mask_exponent": 1.0,
    "extension": "average",
}
MIX = {
    "sample_rate": RATE,
    "length_s": 0.1,
    "sources": {"speech": {"stems": "speech", "gain_db": [-6, 6]}, "music": {"stems": "music"}},
}


def fields(**changes: Any) -> dict[str, Any]:
    """A recipe's fields: two epochs of three steps of two mixtures, each step reported, unless told otherwise."""
    return {
        "network": TASNET,
        "mix": MIX,
        "loss": "l1",
        "split": None,
        "validation": {"split": None, "num": 2, "final_num": 2},
        "batch_size": 2,
        "steps_per_epoch": 3,
        "epochs": 2,
        "log_every": 1,
        **changes,
    }


def recipe(**changes: Any) -> TrainRecipe:
    return load_training(fields(**changes))


def corpus(folder: Path) -> Corpus:
    return loose_corpus(folder, {"speech": 3, "music": 3})


def run(made: TrainRecipe, data: Corpus, out: Path, **options: Any) -> TrainedRun:
    return train(made, [data.folder], out, device="cpu", **options)


def told(out: Path) -> list[dict[str, Any]]:
    """The journal without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name not in ("step_s", "data_wait_s")}
        for line in read_journal(out)
    ]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs' best weights are equal to the bit."""
    weights, others = load_file(one / BEST), load_file(other / BEST)
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GainsConfig(NetworkConfig):
    """Of `Gains`: its gains at the start."""

    gains: tuple[float, ...] = ()


class Gains(Network):
    """Each source is the mixture times a weight."""

    config: GainsConfig

    def __init__(self, config: GainsConfig) -> None:
        super().__init__(config)
        self.gains = torch.nn.Parameter(torch.tensor(config.gains))

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return self.gains[:, None, None] * mixture[:, None]


def gains(sources: Sequence[str], values: Sequence[float] | None = None) -> Gains:
    values = [1.0 / (1 + number) for number in range(len(sources))] if values is None else values
    sizes = {"sample_rate": RATE, "channels": 2, "segment_frames": 400}
    return Gains(GainsConfig(sources=tuple(sources), gains=tuple(values), **sizes))


def batches(targets: int, number: int = 2, seed: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of two mixtures, the sums of so many targets of noise."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        sources = 0.1 * torch.randn(2, targets, 2, 400, generator=generator)
        yield sources.sum(dim=1), sources
