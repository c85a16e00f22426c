"""Steps of many mixtures at once, in torch, on the device where the audio lies.

Audio is ``(batch, targets, channels, frames)``; each item has a step of its own (the plan's, unchanged) or none.
The result is that of `Rule.apply` for each item, up to rounding (1e-5 of full scale). Here are the transforms
that pay on a GPU: gains, swap, polarity, and those that are convolutions, which go through one transform of the
whole length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch

from augment.transforms.filtering import band_stop_taps
from augment.transforms.reverb import room_response
from manifests.errors import RecipeError, did_you_mean

__all__ = ["BATCHED", "apply_batch"]

Step = Mapping[str, Any]
Steps = Sequence[Step | None]


def apply_batch(name: str, steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Apply one transform to a batch.

    Parameters
    ----------
    name : str
        A key of `BATCHED`.
    steps : sequence of mapping or None
        One for each item, ``{"name": name, **parameters}``; None leaves the item as it is.
    audio : torch.Tensor of float32 [shape=(batch, targets, channels, frames)]
        Is not changed.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor of float32 [shape=(batch, targets, channels, frames)]

    Raises
    ------
    RecipeError
        If the transform has no batch version.
    ValueError
        If there are not as many steps as items, or a step is another transform's.
    """
    if name not in BATCHED:
        raise RecipeError(
            f"transform '{name}' has no batch version{did_you_mean(name, BATCHED)}; "
            f"those that have are {', '.join(sorted(BATCHED))}"
        )
    if len(steps) != len(audio):
        raise ValueError(f"{len(steps)} steps for {len(audio)} items; expected one for each")
    if others := {step["name"] for step in steps if step is not None} - {name}:
        raise ValueError(f"steps of {sorted(others)} in a batch of '{name}'")
    if all(step is None for step in steps):
        return audio
    return BATCHED[name](steps, audio, sample_rate)


def _scaled(steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    gains = [1.0 if step is None else step["gain"] for step in steps]
    return audio * torch.tensor(gains, dtype=torch.float32, device=audio.device)[:, None, None, None]


def _remixed(steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    gains = [[1.0] * audio.shape[1] if step is None else step["gains"] for step in steps]
    return audio * torch.tensor(gains, dtype=torch.float32, device=audio.device)[:, :, None, None]


def _swapped(steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    channels = audio.shape[2]
    if channels < 2:
        return audio
    chosen = torch.tensor([step is not None for step in steps], device=audio.device)
    order = torch.tensor([1, 0, *range(2, channels)], device=audio.device)
    return torch.where(chosen[:, None, None, None], audio.index_select(2, order), audio)


def _turned(steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    signs = [1.0 if step is None else -1.0 for step in steps]
    return audio * torch.tensor(signs, dtype=torch.float32, device=audio.device)[:, None, None, None]


def _filtered(steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    def taps(step: Step) -> tuple[npt.NDArray[np.float64], int]:
        found = band_stop_taps(sample_rate, step["center_hz"], step["width_hz"])[None]
        return found, found.shape[-1] // 2

    return _convolved([None if step is None else taps(step) for step in steps], audio)


def _reverberated(steps: Steps, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
    def taps(step: Step) -> tuple[npt.NDArray[np.float64], int]:
        parameters = {key: value for key, value in step.items() if key != "name"}
        found, first = room_response(sample_rate, audio.shape[2], **parameters)
        return found[:, : first + audio.shape[-1]], first

    return _convolved([None if step is None else taps(step) for step in steps], audio)


def _convolved(filters: Sequence[tuple[npt.NDArray[np.float64], int] | None], audio: torch.Tensor) -> torch.Tensor:
    """Convolve each item with its taps, shape ``(1 or channels, taps)``; with each, the tap that is time 0."""
    num_frames = audio.shape[-1]
    chosen = [number for number, taps in enumerate(filters) if taps is not None]
    given = [taps for taps in filters if taps is not None]
    # Longest past plus longest future: a circular convolution of this size wraps nothing into what is kept.
    past = max(taps.shape[-1] - first for taps, first in given)
    future = max(first for _, first in given)
    size = scipy.fft.next_fast_len(num_frames + past + future, real=True)
    kernels = torch.zeros((len(given), max(len(taps) for taps, _ in given), size), dtype=torch.float32)
    for kernel, (taps, first) in zip(kernels, given, strict=True):
        values = torch.from_numpy(np.array(taps, np.float32))
        kernel[:, : taps.shape[-1] - first] = values[:, first:]
        if first:
            kernel[:, size - first :] = values[:, :first]
    spectra = torch.fft.rfft(kernels.to(audio.device))[:, None]
    out = audio.clone()
    out[chosen] = torch.fft.irfft(torch.fft.rfft(audio[chosen], size) * spectra, size)[..., :num_frames]
    return out


BATCHED: dict[str, Callable[[Steps, torch.Tensor, int], torch.Tensor]] = {
    "filter": _filtered,
    "gain": _scaled,
    "remix": _remixed,
    "reverb": _reverberated,
    "scale": _scaled,
    "sign": _turned,
    "swap": _swapped,
}
