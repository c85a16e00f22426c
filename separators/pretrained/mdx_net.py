"""MDX-Net: a graph of spectra, made to separate one source of a stereo mixture of any length.

The graph takes spectra ``(batch, 4, bins, columns)``, real and imaginary part of the left and of the right channel,
of a chunk of ``hop * (columns - 1)`` frames, with a periodic Hann window, centred columns and reflected ends. The
lowest three bins are set to zero before, and those that the graph has not are zero after, so that what is above
them is no part of the source. Of each end of a chunk half a window is left out, as in training; what is kept
overlaps, and the mixture is surrounded by as many zeros.

References
----------
M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: A Two-Stream Neural Network for Music Demixing", MDX
Workshop 2021 (arXiv 2111.12203).

Ultimate Vocal Remover, https://github.com/Anjok07/ultimatevocalremovergui: ``separate.py``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from manifests.audio import Audio
from manifests.errors import AudioError, RecipeError
from manifests.recipes import Settings
from separators.overlap_add import Window, overlap_add, segment_weights
from separators.streams import checked, forked, in_step

__all__ = ["MDXGraph", "MDXRecipe", "MDXSeparator"]

log = logging.getLogger(__name__)

# Raised whenever the same graph and settings come to give other audio.
_VERSION = 1
_LOWEST_BINS = 3


class MDXRecipe(Settings):
    """How a graph is to be fed."""

    n_fft: int = Field(ge=8, multiple_of=2)
    """Frames of the window, and length of the transform."""

    dim_f: int = Field(gt=_LOWEST_BINS)
    """Bins that the graph takes."""

    dim_t: int = Field(ge=2)
    """Columns that the graph takes."""

    hop: int = Field(1024, ge=1)
    """Frames from column to column."""

    compensate: float = Field(1.0, gt=0)
    """What the source is multiplied by."""

    primary_stem: str = Field("Vocals", min_length=1)
    """The source that the graph gives."""

    remainder: str | None = Field(None, min_length=1)
    """What the rest is called; by default accompaniment for vocals, vocals for accompaniment."""

    sample_rate: int = Field(44100, ge=1)
    """In Hz."""

    denoise: bool = False
    """Whether the graph hears everything twice, the second time negated, which cancels what it adds by itself."""

    @property
    def source(self) -> str:
        """What the source that the graph gives is called here."""
        name = self.primary_stem.strip().lower()
        return "accompaniment" if name == "instrumental" else name


class MDXGraph:
    """A graph, ready to run.

    Parameters
    ----------
    path : Path
    device : str
        As torch names it. A graph runs on ``cuda`` where this onnxruntime can, and else on the CPU.

    Attributes
    ----------
    path : Path
    device : str
    bins, columns : int or None
        None where the graph takes any number.

    Raises
    ------
    RecipeError
        onnxruntime is missing, or the file is no graph of stereo spectra.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        try:
            onnxruntime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise RecipeError(f"{path}: ONNX files need onnxruntime: pip install 'stemloom[onnx]'") from error
        self.path, self.device = path, device
        options = onnxruntime.SessionOptions()
        # It writes warnings to the terminal by itself: errors only.
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=_providers(device, onnxruntime.get_available_providers())
            )
        except Exception as error:
            raise RecipeError(
                f"{path}: onnxruntime cannot open it ({str(error).strip()}); copy or download it again"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(inputs[0].shape)
        if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or shape[1] not in (4, None):
            raise RecipeError(
                f"{path}: its inputs have the shapes {[entry.shape for entry in inputs]}, not (batch, 4, bins, "
                "columns); give an MDX-Net graph"
            )
        if inputs[0].type != "tensor(float)":
            raise RecipeError(f"{path}: takes {inputs[0].type}; give a graph in single precision")
        self._input = inputs[0].name
        self._batch, _, self.bins, self.columns = (size if isinstance(size, int) else None for size in shape)

    def __reduce__(self) -> tuple[Any, ...]:
        # a session does not pickle: a worker opens the file for itself
        return MDXGraph, (self.path.resolve(), self.device)

    @functools.cached_property
    def identity(self) -> str:
        """A hash of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    def __call__(self, spectra: Audio) -> Audio:
        """What the graph makes of spectra.

        Parameters
        ----------
        spectra : np.ndarray of float32 [shape=(batch, 4, bins, columns)]

        Returns
        -------
        np.ndarray of float32
            Of the same shape.

        Raises
        ------
        AudioError
            The graph fails, or gives another shape.
        """
        size = self._batch or len(spectra)
        try:
            parts = [self._run(spectra[start : start + size], size) for start in range(0, len(spectra), size)]
        except Exception as error:
            raise AudioError(f"{self.path}: the graph fails on spectra {spectra.shape}: {error}") from error
        found = np.concatenate(parts)
        if found.shape != spectra.shape:
            raise AudioError(
                f"{self.path}: the graph makes {found.shape} of {spectra.shape}; give one of one source"
            )
        return found

    def _run(self, spectra: Audio, size: int) -> Audio:
        missing = size - len(spectra)
        padded = np.pad(spectra, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else spectra
        (found,) = self._session.run(None, {self._input: padded})
        return np.asarray(found, np.float32)[: len(spectra)]


@dataclass(frozen=True, kw_only=True)
class MDXSeparator:
    """A graph as a `separators.separator.Separator` of one source.

    Parameters
    ----------
    graph : MDXGraph
    recipe : MDXRecipe
    name : str
    overlap : float
        Of what is left of neighbouring chunks, from 0 to below 1.
    shifts : int
        How many grids of chunks are averaged.
    window : {'triangle', 'hann', 'flat'}
        Weights within what is left of a chunk.
    batch_size : int
        Chunks at once.

    Raises
    ------
    RecipeError
        A number is out of its range, or graph and recipe do not fit together.
    """

    graph: MDXGraph
    recipe: MDXRecipe
    name: str = "mdx-onnx"
    overlap: float = 0.25
    shifts: int = 1
    window: Window = "triangle"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise RecipeError(f"overlap is {self.overlap}: it must be from 0 to below 1")
        for field in ("shifts", "batch_size"):
            if getattr(self, field) < 1:
                raise RecipeError(f"{field} is {getattr(self, field)}: it must be at least 1")
        for field, found in (("dim_f", self.graph.bins), ("dim_t", self.graph.columns)):
            said = getattr(self.recipe, field)
            if found not in (None, said):
                raise RecipeError(f"{self.name}: {field} is {said}, and the graph takes {found}: correct it")
        if self.recipe.dim_f > self.recipe.n_fft // 2 + 1:
            raise RecipeError(
                f"{self.name}: dim_f is {self.recipe.dim_f}, and n_fft {self.recipe.n_fft} has "
                f"{self.recipe.n_fft // 2 + 1} bins: give the n_fft that the graph was trained with"
            )
        if self._kept < 1:
            raise RecipeError(
                f"{self.name}: nothing of a chunk of {self._chunk} frames is left without {self.recipe.n_fft} at "
                "its ends: correct n_fft, hop or dim_t"
            )
        segment_weights(self.window, 1)

    @functools.cached_property
    def identity(self) -> str:
        """A hash of the graph and of the settings that change the result."""
        settings = [_VERSION, self.graph.identity, self.recipe.model_dump(), self.overlap, self.shifts, self.window]
        return hashlib.blake2b(json.dumps(settings).encode(), digest_size=16).hexdigest()

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.recipe.sample_rate

    @property
    def channels(self) -> int:
        """Two, of the mixture and of the source."""
        return 2

    @property
    def sources(self) -> tuple[str, ...]:
        """The one that the graph gives."""
        return (self.recipe.source,)

    @property
    def _chunk(self) -> int:
        return self.recipe.hop * (self.recipe.dim_t - 1)

    @property
    def _trim(self) -> int:
        return self.recipe.n_fft // 2

    @property
    def _kept(self) -> int:
        return self._chunk - 2 * self._trim

    @property
    def _hop(self) -> int:
        return max(1, round(self._kept * (1 - self.overlap)))

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`.

        Raises
        ------
        AudioError
            The mixture has other channels or no frames, or the graph fails or gives NaN or infinity.
        """
        copies = forked(checked(blocks, self.channels, self.name), self.shifts)
        grids = [self._grid(copy, number * self._hop // self.shifts) for number, copy in enumerate(copies)]
        for parts in in_step(grids):
            yield parts[0] if len(parts) == 1 else np.mean(parts, axis=0, dtype=np.float32)

    def _grid(self, blocks: Iterator[Audio], offset: int) -> Iterator[Audio]:
        """The source by chunks, of which what is kept begins `offset` frames before the audio."""
        lead = self._trim + offset
        taken = given = 0

        def surrounded() -> Iterator[Audio]:
            nonlocal taken
            yield np.zeros((self.channels, lead), np.float32)
            for block in blocks:
                taken += block.shape[1]
                yield block
            yield np.zeros((self.channels, self._trim), np.float32)

        for block in overlap_add(
            surrounded(),
            lambda chunks, start: self._separated(chunks, start - lead),
            segment_frames=self._chunk,
            hop_frames=self._hop,
            window="flat",
            batch_size=self.batch_size,
        ):
            first, last = max(lead - given, 0), min(lead + taken - given, block.shape[1])
            given += block.shape[1]
            if last > first:
                yield (block[:-1, first:last] / block[-1, first:last])[None]

    def _separated(self, chunks: Audio, start: int) -> Audio:
        """The weighted source of chunks and, as the last row, the weights: zero where nothing is kept."""
        recipe, bins, columns = self.recipe, self.recipe.n_fft // 2 + 1, self.recipe.dim_t
        window = torch.hann_window(recipe.n_fft)
        mixture = torch.from_numpy(chunks).reshape(-1, self._chunk)
        spectra = torch.stft(mixture, recipe.n_fft, recipe.hop, window=window, return_complex=True)
        parts = torch.view_as_real(spectra).permute(0, 3, 1, 2).reshape(len(chunks), 4, bins, columns)
        heard = parts[:, :, : recipe.dim_f].contiguous().numpy()
        heard[:, :, :_LOWEST_BINS] = 0
        found = (self.graph(heard) - self.graph(-heard)) / 2 if recipe.denoise else self.graph(heard)
        if not np.isfinite(found).all():
            raise AudioError(
                f"{self.name}: gives NaN or infinity for the audio from {max(0, start) / self.sample_rate:.2f} s "
                "on; look at the audio there, or at the graph"
            )
        whole = np.zeros((len(mixture), 2, bins, columns), np.float32)
        whole[:, :, : recipe.dim_f] = found.reshape(len(mixture), 2, recipe.dim_f, columns)
        spectra = torch.view_as_complex(torch.from_numpy(whole).permute(0, 2, 3, 1).contiguous())
        audio = torch.istft(spectra, recipe.n_fft, recipe.hop, window=window, length=self._chunk).numpy()
        weights = np.zeros(self._chunk, np.float32)
        weights[self._trim : self._chunk - self._trim] = segment_weights(self.window, self._kept)
        weighted = audio.reshape(chunks.shape) * (recipe.compensate * weights).astype(np.float32)
        return np.concatenate([weighted, np.broadcast_to(weights, (len(chunks), 1, self._chunk))], axis=1)


def _providers(device: str, available: list[str]) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind == "cuda" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
    if kind != "cpu":
        log.warning("onnxruntime here has no %s (it has %s): ONNX runs on the CPU", device, ", ".join(available))
    return ["CPUExecutionProvider"]
