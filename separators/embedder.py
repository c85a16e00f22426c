"""Sound classifiers whose time-varying logits tell a separator what it may hear.

An embedder takes audio ``(batch, frames)``, full scale +-1, at its own rate, and gives logits ``(batch, classes,
columns)`` in columns that cover the frames evenly. `OnnxEmbedder` runs a trained classifier such as YAMNet from a
local file; `SmallEmbedder` is a network of our own, after the one of the study below: ten convolutions, separable
in depth, on 64 mel bands, of 25 ms windows every 10 ms. Where that one slides over patches of 96 columns, this one
is convolutional and gives a column every 40 ms that hears about as far.

References
----------
E. Tzinis, S. Wisdom, J. R. Hershey, A. Jansen, D. P. W. Ellis, "Improving Universal Sound Separation Using Sound
Classification", ICASSP 2020 (arXiv 1911.07951), sections 2.1 and 2.2.

A. G. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017
(arXiv 1704.04861).
"""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from manifests.errors import RecipeError
from separators.stft import stft

__all__ = ["Embedder", "OnnxEmbedder", "SmallEmbedder", "soft_or"]

_FLOOR = 1e-5
_LEAST_PROBABILITY = 1e-6


@runtime_checkable
class Embedder(Protocol):
    """Anything that classifies sounds over time.

    Attributes
    ----------
    sample_rate : int
        In Hz, of what it takes.
    classes : int
    """

    sample_rate: int
    classes: int

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        """Logits of each class over time.

        Parameters
        ----------
        audio : torch.Tensor of float [shape=(batch, frames)]
            At least one frame.

        Returns
        -------
        torch.Tensor of float32 [shape=(batch, classes, columns)]
        """
        ...


def soft_or(logits: torch.Tensor) -> torch.Tensor:
    """Logits of a class being in at least one source, were they independent (equation 1).

    Parameters
    ----------
    logits : torch.Tensor of float [shape=(batch, sources, classes, columns)]

    Returns
    -------
    torch.Tensor of float32 [shape=(batch, classes, columns)]
    """
    log_absent = functional.logsigmoid(-logits.float()).sum(dim=1)
    present = -torch.expm1(log_absent)
    return present.clamp_min(torch.finfo(torch.float32).tiny).log() - log_absent


class OnnxEmbedder:
    """A trained classifier in an ONNX file; it cannot be trained further.

    Parameters
    ----------
    path : path-like
        A graph whose first input is a waveform, ``(frames,)`` or ``(batch, frames)``.
    sample_rate : int
        In Hz, that the classifier was trained at.
    output : str, optional
        Name of the output to take, ``(columns, classes)`` for one waveform; default is the first.
    scores : {'probabilities', 'logits'}
        What the output holds.
    least_frames : int
        Shorter audio is lengthened with zeros; YAMNet needs 0.975 s.

    Attributes
    ----------
    sample_rate : int
    classes : int

    Raises
    ------
    RecipeError
        onnxruntime is missing, or the file has no such output or is no ONNX graph.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sample_rate: int = 16000,
        output: str | None = None,
        scores: Literal["probabilities", "logits"] = "probabilities",
        least_frames: int = 15600,
    ) -> None:
        try:
            onnxruntime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise RecipeError(f"{path}: ONNX files need onnxruntime: pip install 'stemloom[onnx]'") from error
        try:
            # One thread: a data set's workers and the separator want the others.
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise RecipeError(f"{path}: onnxruntime cannot open it ({error}): name an ONNX file") from error
        outputs = [entry.name for entry in self._session.get_outputs()]
        if output is not None and output not in outputs:
            raise RecipeError(f"{path}: there is no output '{output}': name one of {', '.join(outputs)}")
        if scores not in ("probabilities", "logits"):
            raise RecipeError(f"scores is {scores!r}: it must be 'probabilities' or 'logits'")
        (first, *_) = self._session.get_inputs()
        self._input, self._batched = first.name, len(first.shape) == 2
        self._output, self._scores, self._least_frames = output or outputs[0], scores, least_frames
        self.sample_rate = sample_rate
        self._path, self._asked = Path(path).resolve(), output
        self.classes = int(self._run(np.zeros(least_frames, np.float32)).shape[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        # a session does not pickle: a worker opens the file for itself
        settings: dict[str, Any] = {
            "sample_rate": self.sample_rate,
            "output": self._asked,
            "scores": self._scores,
            "least_frames": self._least_frames,
        }
        return partial(OnnxEmbedder, **settings), (self._path,)

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        """Logits of each class over time: see `Embedder`. No gradient comes back."""
        waveforms = functional.pad(audio.detach().float().cpu(), (0, max(self._least_frames - audio.shape[-1], 0)))
        values = torch.from_numpy(np.stack([self._run(waveform) for waveform in waveforms.numpy()]))
        if self._scores == "probabilities":
            values = torch.logit(values, eps=_LEAST_PROBABILITY)
        return values.transpose(1, 2).to(audio.device)

    def _run(self, waveform: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        (values,) = self._session.run([self._output], {self._input: waveform[None] if self._batched else waveform})
        return np.asarray(values, np.float32).reshape(-1, values.shape[-1])


class SmallEmbedder(nn.Module):
    """A small convolutional classifier on log-mel spectra, to be trained with the separator or before it.

    Parameters
    ----------
    sample_rate : int
        In Hz, at least 8000.
    classes : int
    width : int
        Channels of the first layer; the last have eight times as many. 32 makes 0.48 million parameters.

    Attributes
    ----------
    sample_rate : int
    classes : int
    layers : torch.nn.Sequential
        Those that can be trained, first to last.
    """

    def __init__(self, *, sample_rate: int = 16000, classes: int = 527, width: int = 32) -> None:
        super().__init__()
        self.sample_rate, self.classes = sample_rate, classes
        self.hop_frames = round(0.01 * sample_rate)
        self.window_frames = 2 * round(0.0125 * sample_rate)
        mel = librosa.filters.mel(
            sr=sample_rate, n_fft=self.window_frames, n_mels=64, fmin=125, fmax=min(7500, sample_rate / 2)
        )
        self.register_buffer("mel", torch.from_numpy(mel), persistent=False)
        self.mel: torch.Tensor
        # Bands are halved by the first number, columns by the second.
        plan = [(2, 2, 2), (2, 1, 1), (4, 2, 1), (4, 1, 1), (8, 2, 1), (8, 1, 1), (8, 2, 1), (8, 1, 1), (8, 1, 1)]
        widths = [width, *(factor * width for factor, _, _ in plan)]
        self.layers = nn.Sequential(
            _layer(nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)),
            *(
                nn.Sequential(
                    _layer(nn.Conv2d(before, before, 3, (bands, columns), padding=1, groups=before, bias=False)),
                    _layer(nn.Conv2d(before, after, 1, bias=False)),
                )
                for before, after, (_, bands, columns) in zip(widths[:-1], widths[1:], plan, strict=True)
            ),
            nn.Conv1d(widths[-1], classes, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # So that it says something before its norms have seen data, and where they never will.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Logits of each class over time: see `Embedder`."""
        power = stft(audio, self.window_frames, self.hop_frames).abs().square()
        with torch.autocast(audio.device.type, enabled=False):
            features = torch.log(self.mel @ power + _FLOOR)[:, None]
        logits: torch.Tensor = self.layers[-1](self.layers[:-1](features).mean(dim=2))
        return logits.float()


def _layer(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
