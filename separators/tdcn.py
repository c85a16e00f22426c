"""TDCN++ and iTDCN++: dilated convolutions that mask a short-time basis, told by a classifier what may be heard.

Over Conv-TasNet, TDCN++ normalises each feature over time, scales each block's output by a learnt number that
begins smaller the deeper the block is, adds the input of every earlier repeat to that of a later one, and ends in a
projection that makes the sources sum to the mixture. iTDCN++ does it twice: the second network hears the first
one's estimates beside the mixture.

An `Embedder` may condition both on its logits: brought to the network's columns, through a sigmoid, a 1x1
convolution and a global normalisation, beside or times what enters the first block, or all of them. The first
network hears the logits of the mixture. The second hears those of the mixture, of the mixture and the estimates
(`all`), or the estimates' soft-OR. The embedder is frozen, trained with the separator (its last layers), or guided:
trained against what the embedder first said of the true sources, for which `Outputs.embeddings` holds what it says
of the estimates. It runs as in evaluation always, so that a small batch does not disturb its statistics.

Other than in the study, both networks share one embedder, the STFT has as many bins as its window gives (41 for 80
frames, where the study lengthened the transform to 128), and PReLUs and norms have a weight for each feature.

References
----------
I. Kavalerov et al., "Universal Sound Separation", WASPAA 2019 (arXiv 1905.03330).

E. Tzinis, S. Wisdom, J. R. Hershey, A. Jansen, D. P. W. Ellis, "Improving Universal Sound Separation Using Sound
Classification", ICASSP 2020 (arXiv 1911.07951): section 3.2 for the conditioning.

S. Wisdom et al., "Differentiable Consistency Constraints for Improved Deep Speech Enhancement", ICASSP 2019, for
the projection.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast

import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.embedder import Embedder, OnnxEmbedder, SmallEmbedder, soft_or
from separators.network import Network, NetworkConfig, Outputs
from separators.stft import check_window, istft, stft

__all__ = ["TDCN", "TDCNConfig"]

_DECAY = 0.9
_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class TDCNConfig(NetworkConfig):
    """Sizes of a `TDCN`; the defaults are the published ones: 16 kHz, two sources, one iteration, no classifier.

    Attributes
    ----------
    iterations : int
        1 is TDCN++, 2 is iTDCN++.
    basis : {'stft', 'learned'}
    window_frames, hop_frames : int
        Of the basis, 5 ms and 2.5 ms.
    filters : int
        Functions of a learned basis.
    bottleneck : int
        Channels between the blocks; the study with a classifier has 128.
    hidden : int
        Channels inside a block.
    kernel : int
        Length of the dilated convolutions, odd.
    dilations : int
        Blocks of a repeat, each with twice the dilation of the one before.
    repeats : int
    consistency : {'uniform', 'learned', 'none'}
        How what the estimates lack of the mixture is shared out: alike, by learnt weights, or not.
    conditioning : {'none', 'mixture', 'all', 'soft_or'}
        Whose logits the last network hears.
    integration : {'concatenate', 'gate'}
    conditioned_blocks : {'first', 'all'}
    sigmoid : {'fixed', 'trained'}
        Over the logits; trained are its height, slope and centre.
    embedding_channels : int
        What the logits are brought to; `bottleneck` where they gate.
    tuning : {'frozen', 'fine_tuned', 'guided'}
    tuned_layers : int
        How many of the embedder's last layers are trained, if any.
    classes : int
        Of the embedder.
    embedder_onnx : str or None
        A sound classifier's ONNX file (`OnnxEmbedder`); it is not kept with the weights.
    embedder_width : int
        Of the `SmallEmbedder` that is made where there is no other.
    """

    sample_rate: int = 16000
    channels: int = 1
    sources: tuple[str, ...] = ("source1", "source2")
    segment_frames: int = 3 * 16000
    iterations: int = 1
    basis: Literal["stft", "learned"] = "stft"
    window_frames: int = 80
    hop_frames: int = 40
    filters: int = 256
    bottleneck: int = 256
    hidden: int = 512
    kernel: int = 3
    dilations: int = 8
    repeats: int = 4
    consistency: Literal["uniform", "learned", "none"] = "uniform"
    conditioning: Literal["none", "mixture", "all", "soft_or"] = "none"
    integration: Literal["concatenate", "gate"] = "concatenate"
    conditioned_blocks: Literal["first", "all"] = "first"
    sigmoid: Literal["fixed", "trained"] = "fixed"
    embedding_channels: int = 128
    tuning: Literal["frozen", "fine_tuned", "guided"] = "frozen"
    tuned_layers: int = 3
    classes: int = 527
    embedder_onnx: str | None = None
    embedder_width: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window_frames, self.hop_frames)
        for name in (
            *("iterations", "filters", "bottleneck", "hidden", "kernel", "dilations", "repeats"),
            *("embedding_channels", "tuned_layers", "classes", "embedder_width"),
        ):
            self._at_least(name, 1)
        if self.kernel % 2 == 0:
            raise RecipeError(f"kernel is {self.kernel}: it must be odd")
        if self.conditioning in ("all", "soft_or") and self.iterations == 1:
            raise RecipeError(
                f"conditioning is '{self.conditioning}': one iteration has no estimates to hear; set iterations "
                "to 2, or conditioning to 'mixture'"
            )
        if self.conditioning == "none" and self.tuning != "frozen":
            raise RecipeError(f"tuning is '{self.tuning}': without conditioning there is nothing to tune")
        if (
            self.conditioning != "none"
            and self.integration == "gate"
            and self.embedding_channels != self.bottleneck
        ):
            raise RecipeError(
                f"embedding_channels is {self.embedding_channels}: to gate it must be bottleneck, {self.bottleneck}"
            )


class TDCN(Network):
    """One or more TDCN++ after each other.

    Parameters
    ----------
    config : TDCNConfig
    embedder : Embedder, optional
        At the network's rate, and with `config.classes`; by default what the config says.
        What is to be trained must be a torch module with `layers`, a `torch.nn.Sequential`.

    Attributes
    ----------
    stages : torch.nn.ModuleList
        One for each iteration.
    embedder : Embedder or None

    Raises
    ------
    RecipeError
        Config and embedder do not fit together.
    """

    config: TDCNConfig

    def __init__(self, config: TDCNConfig | None = None, embedder: Embedder | None = None) -> None:
        config = config or TDCNConfig()
        super().__init__(config)
        if embedder is None and config.conditioning != "none":
            embedder = _embedder_of(config)
        self.embedder: Embedder | nn.Module | None = embedder
        if embedder is not None:
            self._adopt(embedder)
        # what the clean sources are to this one is what guides the other while it is trained
        self.guide: nn.Module | None = None
        if config.tuning == "guided":
            self.guide = cast(nn.Module, copy.deepcopy(embedder)).requires_grad_(False)
        self.stages = nn.ModuleList(
            _Stage(config, iteration, self._signals_of(iteration)) for iteration in range(config.iterations)
        )

    def train(self, mode: bool = True) -> Self:
        """As any module's, but the embedder stays as in evaluation."""
        super().train(mode)
        for embedder in (self.embedder, self.guide):
            if isinstance(embedder, nn.Module):
                embedder.eval()
        return self

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        return self._iterate(mixture)[0][-1]

    def outputs(self, mixture: torch.Tensor) -> Outputs:
        """The sources, the earlier estimates, and with `tuning` 'guided' what the embedder says of them.

        Parameters
        ----------
        mixture : torch.Tensor of float [shape=(batch, channels, frames)]

        Returns
        -------
        Outputs
            Embeddings are of the mixture and of the estimates that conditioned the last network, or of the sources
            where only the mixture did.
        """
        estimates, logits = self._iterate(mixture)
        if self.config.tuning != "guided" or logits is None:
            return Outputs(estimates[-1], earlier=tuple(estimates[:-1]))
        if logits.shape[1] == 1:
            logits = torch.cat([logits, self._hear(estimates[-1])], dim=1)
        return Outputs(estimates[-1], earlier=tuple(estimates[:-1]), embeddings=logits)

    def guides(self, sources: torch.Tensor) -> torch.Tensor:
        """What the embedder of the start says of clean sources: what `Outputs.embeddings` are to be like.

        Parameters
        ----------
        sources : torch.Tensor of float [shape=(batch, sources, channels, frames)]

        Returns
        -------
        torch.Tensor of float [shape=(batch, 1 + sources, classes, columns)]
            First the soft-OR of all, which is for the mixture.
        """
        assert self.guide is not None, "tuning is 'guided'"
        with torch.no_grad():
            logits = self._hear(sources, self.guide)
        return torch.cat([soft_or(logits)[:, None], logits], dim=1)

    def _iterate(self, mixture: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Estimates of all iterations, and the logits of what was heard, mixture first."""
        self._check(mixture)
        logits = None if self.embedder is None else self._hear(mixture[:, None])
        estimates: list[torch.Tensor] = []
        for stage in self.stages:
            signals = mixture[:, None]
            if estimates:
                signals = torch.cat([signals, estimates[-1]], dim=1)
                if logits is not None and self.config.conditioning != "mixture":
                    logits = torch.cat([logits[:, :1], self._hear(estimates[-1])], dim=1)
            condition = None
            if logits is not None:
                soft = estimates and self.config.conditioning == "soft_or"
                condition = soft_or(logits[:, 1:]) if soft else logits.flatten(1, 2)
            estimates.append(stage(signals, condition))
        return estimates, logits

    def _hear(self, signals: torch.Tensor, embedder: Embedder | nn.Module | None = None) -> torch.Tensor:
        """Logits ``(batch, signals, classes, columns)`` of ``(batch, signals, channels, frames)``."""
        embedder = embedder or self.embedder
        assert embedder is not None
        logits = embedder(signals.mean(dim=2).flatten(0, 1))
        return logits.reshape(*signals.shape[:2], *logits.shape[1:])

    def _signals_of(self, iteration: int) -> int:
        """How many signals' logits an iteration hears."""
        if self.config.conditioning == "none":
            return 0
        return 1 + len(self.sources) if iteration and self.config.conditioning == "all" else 1

    def _adopt(self, embedder: Embedder) -> None:
        config = self.config
        if config.conditioning == "none":
            raise RecipeError("conditioning is 'none': leave the embedder out, or say whose logits are to be heard")
        for name in ("sample_rate", "classes"):
            if getattr(embedder, name) != getattr(config, name):
                raise RecipeError(
                    f"{name} is {getattr(config, name)}: set it to the embedder's, {getattr(embedder, name)}"
                )
        if isinstance(embedder, nn.Module):
            embedder.eval().requires_grad_(False)
        if config.tuning == "frozen":
            return
        layers = getattr(embedder, "layers", None)
        if not isinstance(layers, nn.Sequential):
            raise RecipeError(f"tuning is '{config.tuning}': {type(embedder).__name__} has no layers to train")
        layers[-config.tuned_layers :].requires_grad_(True)


def _embedder_of(config: TDCNConfig) -> Embedder:
    if config.embedder_onnx is not None:
        return OnnxEmbedder(Path(config.embedder_onnx), sample_rate=config.sample_rate)
    return SmallEmbedder(sample_rate=config.sample_rate, classes=config.classes, width=config.embedder_width)


class _Stage(nn.Module):
    """One TDCN++: sources of a mixture, which may have estimates beside it, under a condition."""

    def __init__(self, config: TDCNConfig, iteration: int, heard: int) -> None:
        super().__init__()
        sources = len(config.sources)
        self.sources, self.consistency = sources, config.consistency
        self.basis = _Learned(config) if config.basis == "learned" else _Fourier(config)
        self.bottleneck = nn.Conv1d(self.basis.width * (1 + sources * bool(iteration)), config.bottleneck, 1)
        self.condition = _Condition(config, heard * config.classes) if heard else None
        self.dilations, self.everywhere = config.dilations, config.conditioned_blocks == "all"
        self.blocks = nn.ModuleList(
            _Block(config, layer, conditioned=bool(heard) and (layer == 0 or self.everywhere))
            for layer in range(config.repeats * config.dilations)
        )
        # From the input of each repeat to that of each later one.
        self.skips = nn.ModuleList(
            nn.ModuleList(nn.Conv1d(config.bottleneck, config.bottleneck, 1) for _ in range(repeat))
            for repeat in range(config.repeats)
        )
        self.masks = nn.Conv1d(config.bottleneck, sources * self.basis.width, 1)
        self.shares = nn.Linear(config.bottleneck, sources) if config.consistency == "learned" else None

    def forward(self, signals: torch.Tensor, logits: torch.Tensor | None) -> torch.Tensor:
        weights = self.basis(signals)
        signal = self.bottleneck(weights.abs().flatten(1, 2))
        condition = None
        if self.condition is not None and logits is not None:
            condition = self.condition(logits, signal.shape[-1])
        inputs: list[torch.Tensor] = []
        for layer, block in enumerate(self.blocks):
            if layer % self.dilations == 0:
                skips = self.skips[layer // self.dilations]
                assert isinstance(skips, nn.ModuleList)
                signal = signal + sum(skip(earlier) for skip, earlier in zip(skips, inputs, strict=True))
                inputs.append(signal)
            signal = block(signal, condition if layer == 0 or self.everywhere else None)
        masks = self.masks(signal).float().sigmoid().reshape(len(signal), self.sources, *weights.shape[2:])
        estimates: torch.Tensor = self.basis.inverse(masks * weights[:, :1], signals)
        if self.consistency == "none":
            return estimates
        rest = signals[:, :1] - estimates.sum(dim=1, keepdim=True)
        if self.shares is None:
            return estimates + rest / self.sources
        shares: torch.Tensor = self.shares(signal.mean(dim=2)).float().softmax(dim=1)
        return estimates + rest * shares[:, :, None, None]


class _Fourier(nn.Module):
    """Complex weights ``(batch, signals, channels * bins, columns)`` of ``(batch, signals, channels, frames)``."""

    def __init__(self, config: TDCNConfig) -> None:
        super().__init__()
        self.frames = config.window_frames, config.hop_frames
        self.width = config.channels * (config.window_frames // 2 + 1)

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        return stft(signals, *self.frames).flatten(2, 3)

    def inverse(self, weights: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Signals as long as `like`."""
        batch, sources, _, columns = weights.shape
        return istft(weights.reshape(batch, sources, like.shape[2], -1, columns), *self.frames, like.shape[-1])


class _Learned(nn.Module):
    """Weights ``(batch, signals, filters, columns)``, none below 0, of ``(batch, signals, channels, frames)``."""

    def __init__(self, config: TDCNConfig) -> None:
        super().__init__()
        self.width, self.window, self.hop = config.filters, config.window_frames, config.hop_frames
        self.encoder = nn.Conv1d(config.channels, config.filters, self.window, stride=self.hop, bias=False)
        self.decoder = nn.ConvTranspose1d(config.filters, config.channels, self.window, stride=self.hop, bias=False)

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        # As in `inverse`: as many functions lie over the first and last frames as over all others.
        around = self.window - self.hop
        padded = functional.pad(signals.flatten(0, 1), (around, around + -signals.shape[-1] % self.hop))
        weights = functional.relu(self.encoder(padded))
        return weights.reshape(*signals.shape[:2], *weights.shape[1:])

    def inverse(self, weights: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Signals as long as `like`."""
        around, frames = self.window - self.hop, like.shape[-1]
        signals: torch.Tensor = self.decoder(weights.flatten(0, 1))[..., around : around + frames].float()
        return signals.reshape(*weights.shape[:2], *signals.shape[1:])


class _Condition(nn.Module):
    """``(batch, embedding_channels, columns)`` from logits ``(batch, inputs, any columns)``."""

    def __init__(self, config: TDCNConfig, inputs: int) -> None:
        super().__init__()
        self.shape = nn.Parameter(torch.tensor([1.0, 1.0, 0.0])) if config.sigmoid == "trained" else None
        self.layers = nn.Sequential(
            nn.Conv1d(inputs, config.embedding_channels, 1), nn.GroupNorm(1, config.embedding_channels)
        )

    def forward(self, logits: torch.Tensor, columns: int) -> torch.Tensor:
        if self.shape is not None:
            height, slope, centre = self.shape
            scores = height * torch.sigmoid(slope * (logits - centre))
        else:
            scores = logits.sigmoid()
        condition: torch.Tensor = self.layers(functional.interpolate(scores, columns))
        return condition


class _Block(nn.Module):
    """A dilated convolution for each channel between two that mix the channels, and a way around."""

    def __init__(self, config: TDCNConfig, layer: int, *, conditioned: bool) -> None:
        super().__init__()
        self.gate = config.integration == "gate"
        hidden, dilation = config.hidden, 2 ** (layer % config.dilations)
        beside = config.embedding_channels * (conditioned and not self.gate)
        reach = dilation * (config.kernel - 1) // 2
        self.layers = nn.Sequential(
            nn.Conv1d(config.bottleneck + beside, hidden, 1, bias=False),
            nn.PReLU(hidden),
            # As many groups as channels: each feature over time.
            nn.GroupNorm(hidden, hidden, eps=_EPSILON),
            nn.Conv1d(hidden, hidden, config.kernel, padding=reach, dilation=dilation, groups=hidden),
            nn.PReLU(hidden),
            nn.GroupNorm(hidden, hidden, eps=_EPSILON),
            nn.Conv1d(hidden, config.bottleneck, 1, bias=False),
        )
        self.scale = nn.Parameter(torch.tensor(_DECAY**layer))

    def forward(self, signal: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        entering = signal
        if condition is not None:
            entering = condition * signal if self.gate else torch.cat([condition, signal], dim=1)
        around: torch.Tensor = self.scale * self.layers(entering)
        return signal + around
