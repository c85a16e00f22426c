"""MRX: one recurrent network per source on spectra of several resolutions, and the same told what is heard when.

The magnitudes of all resolutions, which share a hop, are encoded and averaged; a recurrent network for each source
runs over that; their average, with the encoding beside it, is decoded to a mask for each source and resolution.
Masks keep the mixture's phase, and what a source has in the resolutions is summed, as in the authors'
implementation, whose layers bear the same names (but for a leading underscore), so its weights fit. Channels go
through alone.

`MRXC` separates twice: an activity network hears the mixture and the first separation as mel spectrograms and says
when which source is active; the second separation hears that beside the mixture. The papers do not print how: here
the activity network is two convolutions and a bidirectional GRU on the channels' mean, and its probabilities go
through a linear layer onto the encoding.

References
----------
D. Petermann, G. Wichern, Z.-Q. Wang, J. Le Roux, "The Cocktail Fork Problem: Three-Stem Audio Separation for
Real-World Soundtracks", ICASSP 2022 (arXiv 2110.09958).

D. Petermann, G. Wichern, A. S. Subramanian, Z.-Q. Wang, J. Le Roux, "Tackling the Cocktail Fork Problem for
Separation and Transcription of Real-World Soundtracks", IEEE/ACM TASLP 31, 2023 (arXiv 2212.07327).

S. Uhlich et al., "The Sound Demixing Challenge 2023: Cinematic Demixing Track", TISMIR 7(1), 2024, section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import torch
from torch import nn

from manifests.errors import RecipeError
from separators.network import Network, NetworkConfig, Outputs
from separators.stft import check_window, istft, stft

__all__ = ["MRX", "MRXC", "MRXCConfig", "MRXConfig"]

_FLOOR = 1e-5


@dataclass(frozen=True, kw_only=True)
class MRXConfig(NetworkConfig):
    """Sizes of an `MRX`; the defaults are the published ones, 30.5 million parameters.

    Attributes
    ----------
    windows_frames : tuple of int
        Of the resolutions.
    hop_frames : int
        Of all of them.
    hidden : int
        Even.
    layers : int
        Of each source's bidirectional LSTM.
    dropout : float
        Between these.
    """

    sample_rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("music", "speech", "sfx")
    segment_frames: int = 9 * 44100
    windows_frames: tuple[int, ...] = (1024, 2048, 8192)
    hop_frames: int = 256
    hidden: int = 512
    layers: int = 3
    dropout: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.windows_frames:
            raise RecipeError("windows_frames is []: it must hold at least one window")
        for window_frames in self.windows_frames:
            check_window(window_frames, self.hop_frames)
        self._at_least("layers", 1)
        self._at_least("hidden", 2)
        if self.hidden % 2:
            raise RecipeError(f"hidden is {self.hidden}: it must be even, half for each direction")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"dropout is {self.dropout}: it must be from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class MRXCConfig(MRXConfig):
    """Sizes of an `MRXC`: those of both separations, and of the activity network between them.

    Attributes
    ----------
    mel_bands : int
    mel_window_frames : int
        Of the mel spectrograms, with the hop of the separations.
    activity_filters : int
        Of the activity network's convolutions.
    activity_hidden : int
        Of its GRU, in each direction.
    """

    mel_bands: int = 64
    mel_window_frames: int = 2048
    activity_filters: int = 32
    activity_hidden: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.mel_window_frames, self.hop_frames)
        for name, least in (("mel_bands", 4), ("activity_filters", 1), ("activity_hidden", 1)):
            self._at_least(name, least)


class MRX(Network):
    """Magnitude masks from several resolutions.

    Parameters
    ----------
    config : MRXConfig
    """

    config: MRXConfig

    def __init__(self, config: MRXConfig | None = None) -> None:
        config = config or MRXConfig()
        super().__init__(config)
        self.encoders = nn.ModuleList(_Encoder(config, window // 2 + 1) for window in config.windows_frames)
        self.cross_net = _CrossNet(config)
        self.decoders = nn.ModuleList(
            nn.ModuleList(_Decoder(config, window // 2 + 1) for window in config.windows_frames)
            for _ in config.sources
        )

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        return self._separate(mixture)

    def _separate(self, mixture: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """The sources; `condition`, `(batch, columns, hidden)`, is added to the mean of the encodings."""
        self._check(mixture)
        config = self.config
        batch, channels, frames = mixture.shape
        spectra = [stft(mixture, window, config.hop_frames).flatten(0, 1) for window in config.windows_frames]
        encoded = torch.stack(
            [encoder(spectrum.abs()) for encoder, spectrum in zip(self.encoders, spectra, strict=True)]
        ).mean(dim=0)
        if condition is not None:
            encoded = encoded + condition.repeat_interleave(channels, dim=0)
        features = self.cross_net(encoded)
        sources = []
        for decoders in self.decoders:
            assert isinstance(decoders, nn.ModuleList)
            parts = [
                istft(decoder(features).float() * spectrum, window, config.hop_frames, frames)
                for decoder, spectrum, window in zip(decoders, spectra, config.windows_frames, strict=True)
            ]
            sources.append(torch.stack(parts).sum(dim=0).reshape(batch, channels, frames))
        return torch.stack(sources, dim=1)


class MRXC(Network):
    """Two separations, and an activity network between them that tells the second what is heard when.

    Parameters
    ----------
    config : MRXCConfig

    Attributes
    ----------
    first : MRX
    activity : torch.nn.Module
    second : MRX
    """

    config: MRXCConfig

    def __init__(self, config: MRXCConfig | None = None) -> None:
        config = config or MRXCConfig()
        super().__init__(config)
        self.first = MRX(config)
        self.activity = _ActivityNet(config)
        self.condition = nn.Linear(len(config.sources), config.hidden)
        self.second = MRX(config)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The sources of mixtures: see `Network.forward`."""
        return self.outputs(mixture).sources

    def outputs(self, mixture: torch.Tensor) -> Outputs:
        """The sources, what the first separation said, and the activities, a column for each hop.

        Parameters
        ----------
        mixture : torch.Tensor of float [shape=(batch, channels, frames)]

        Returns
        -------
        Outputs
        """
        self._check(mixture)
        first = self.first(mixture)
        activities = self.activity(torch.cat([mixture[:, None], first], dim=1).mean(dim=2))
        condition = self.condition(activities.sigmoid().transpose(1, 2))
        return Outputs(self.second._separate(mixture, condition), earlier=(first,), activities=activities)


class _Encoder(nn.Module):
    """``(items, columns, hidden)`` from magnitudes ``(items, bins, columns)``."""

    def __init__(self, config: MRXConfig, bins: int) -> None:
        super().__init__()
        # The published implementation's spectra are those of an orthonormal transform.
        self.scale = (2 * (bins - 1)) ** -0.5
        self.layer = nn.Sequential(
            nn.BatchNorm1d(bins), nn.Linear(bins, config.hidden, bias=False), nn.BatchNorm1d(config.hidden)
        )

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        rows = (self.scale * magnitude).transpose(1, 2)
        return torch.tanh(self.layer(rows.flatten(0, 1)).reshape(*rows.shape[:2], -1))


class _CrossNet(nn.Module):
    """A recurrent network for each source on ``(items, columns, hidden)``; their mean, with the input beside it."""

    def __init__(self, config: MRXConfig) -> None:
        super().__init__()
        self.lstm = nn.ModuleList(
            nn.LSTM(
                config.hidden,
                config.hidden // 2,
                config.layers,
                batch_first=True,
                bidirectional=True,
                dropout=config.dropout if config.layers > 1 else 0.0,
            )
            for _ in config.sources
        )

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        heard = torch.stack([layers(encoded)[0] for layers in self.lstm]).mean(dim=0)
        return torch.cat([encoded, heard], dim=-1)


class _Decoder(nn.Module):
    """Masks ``(items, bins, columns)`` from ``(items, columns, 2 * hidden)``."""

    def __init__(self, config: MRXConfig, bins: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Linear(2 * config.hidden, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, bins, bias=False),
            nn.BatchNorm1d(bins),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        masks: torch.Tensor = self.block(features.flatten(0, 1))
        return masks.reshape(*features.shape[:2], -1).transpose(1, 2)


class _ActivityNet(nn.Module):
    """Logits of activity ``(batch, sources, columns)`` from signals ``(batch, 1 + sources, frames)``."""

    def __init__(self, config: MRXCConfig) -> None:
        super().__init__()
        self.window_frames, self.hop_frames = config.mel_window_frames, config.hop_frames
        mel = librosa.filters.mel(sr=config.sample_rate, n_fft=config.mel_window_frames, n_mels=config.mel_bands)
        self.register_buffer("mel", torch.from_numpy(mel), persistent=False)
        self.mel: torch.Tensor
        signals, filters = 1 + len(config.sources), config.activity_filters
        self.norm = nn.BatchNorm2d(signals)
        self.convolutions = nn.Sequential(
            nn.Conv2d(signals, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
        )
        self.recurrent = nn.GRU(
            filters * (config.mel_bands // 4), config.activity_hidden, batch_first=True, bidirectional=True
        )
        self.logits = nn.Linear(2 * config.activity_hidden, len(config.sources))

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        power = stft(signals, self.window_frames, self.hop_frames).abs().square()
        with torch.autocast(signals.device.type, enabled=False):
            mel = torch.log(self.mel @ power + _FLOOR)
        features = self.convolutions(self.norm(mel)).flatten(1, 2).transpose(1, 2)
        logits: torch.Tensor = self.logits(self.recurrent(features)[0])
        return logits.transpose(1, 2).float()
