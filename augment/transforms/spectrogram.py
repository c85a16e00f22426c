"""The singing-voice study's transforms on batches of magnitude spectrograms, for training on any device.

Magnitudes are shaped ``(*batch, channels, bins, frames)``; every item of the batch has a factor (or gain ...) of
its own, a tensor shaped ``batch``. Targets that stand in front take the same factors as their mixture: magnitudes
shaped ``(targets, batch, channels, bins, frames)`` go with factors shaped ``(batch,)``. Interpolation is linear,
and beyond the input's ends there is silence. Nothing here draws: factors come from the caller, as in
``torch.empty(batch).uniform_(0.7, 1.3)``.

- `stretch_spectrogram`: time scaled by a factor, the middle kept. What is `d` columns from the middle of the input
  moves to ``factor * d`` columns from the middle of the output: more than 1 is slower. ``num_columns`` full ones
  need `stretch_input_columns` of them, those of the smallest factor of the batch; more may come in.
- `shift_spectrogram`: frequency scaled by a factor, bin 0 kept. What passes the last bin is lost.
- `filter_spectrogram`: times ``1 - exp(-(f - mu)^2 / (2 sigma^2))``.
- `scale_spectrogram`, `swap_spectrogram`: a gain; left and right exchanged.

References
----------
L. Pretet, R. Hennequin, J. Royo-Letelier, A. Vaglio, "Singing voice separation: a study on training data", ICASSP
2019, section 4.1; after J. Schlueter, T. Grill, "Exploring data augmentation for improved singing voice detection
with neural networks", ISMIR 2015.
"""

from __future__ import annotations

import math

import torch

__all__ = [
    "filter_spectrogram",
    "scale_spectrogram",
    "shift_spectrogram",
    "stretch_input_columns",
    "stretch_spectrogram",
    "swap_spectrogram",
]


def stretch_input_columns(num_columns: int, smallest_factor: float) -> int:
    """Columns that `stretch_spectrogram` needs to return `num_columns` that are full of sound.

    Parameters
    ----------
    num_columns : int
        At least 1.
    smallest_factor : float
        Of the batch; above 0.

    Returns
    -------
    int
        ``ceil((num_columns - 1) / factor) + 1``: the output's ends are at, or inside, the input's.
    """
    return math.ceil((num_columns - 1) / smallest_factor - 1e-9) + 1


def stretch_spectrogram(
    magnitudes: torch.Tensor, factors: torch.Tensor, num_columns: int | None = None
) -> torch.Tensor:
    """Scale the time axis around its middle.

    Parameters
    ----------
    magnitudes : torch.Tensor [shape=(*batch, channels, bins, frames)]
    factors : torch.Tensor [shape=(*batch,)]
        More than 1 is longer and slower.
    num_columns : int, optional
        Frames to return, by default as many as came in.

    Returns
    -------
    torch.Tensor [shape=(*batch, channels, bins, num_columns)]
    """
    columns = magnitudes.shape[-1]
    wanted = columns if num_columns is None else num_columns
    scales = _precise(factors, magnitudes)[..., None]
    offsets = torch.arange(wanted, device=scales.device, dtype=scales.dtype) - (wanted - 1) / 2
    places = (columns - 1) / 2 + offsets / scales
    return _interpolated(magnitudes, places[..., None, None, :], -1)


def shift_spectrogram(magnitudes: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Scale the frequency axis from bin 0 on.

    Parameters
    ----------
    magnitudes : torch.Tensor [shape=(*batch, channels, bins, frames)]
    factors : torch.Tensor [shape=(*batch,)]
        More than 1 is higher.

    Returns
    -------
    torch.Tensor [shape=(*batch, channels, bins, frames)]
    """
    scales = _precise(factors, magnitudes)[..., None]
    places = torch.arange(magnitudes.shape[-2], device=scales.device, dtype=scales.dtype) / scales
    return _interpolated(magnitudes, places[..., None, :, None], -2)


def filter_spectrogram(
    magnitudes: torch.Tensor, centers_hz: torch.Tensor, widths_hz: torch.Tensor, sample_rate: int
) -> torch.Tensor:
    """Take out a bell of the spectrum.

    Parameters
    ----------
    magnitudes : torch.Tensor [shape=(*batch, channels, bins, frames)]
        Bins from 0 Hz to half the sample rate.
    centers_hz, widths_hz : torch.Tensor [shape=(*batch,)]
        `mu` and `sigma`.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor [shape=(*batch, channels, bins, frames)]
    """
    bins = magnitudes.shape[-2]
    frequencies_hz = torch.arange(bins, device=magnitudes.device) * (sample_rate / 2 / (bins - 1))
    distances = (frequencies_hz - centers_hz.to(magnitudes.device)[..., None]) / widths_hz.to(magnitudes.device)[
        ..., None
    ]
    response = -torch.expm1(-0.5 * distances**2)
    return magnitudes * response[..., None, :, None].to(magnitudes.dtype)


def scale_spectrogram(magnitudes: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Multiply by a gain.

    Parameters
    ----------
    magnitudes : torch.Tensor [shape=(*batch, channels, bins, frames)]
    gains : torch.Tensor [shape=(*batch,)]
        Factors.

    Returns
    -------
    torch.Tensor [shape=(*batch, channels, bins, frames)]
    """
    return magnitudes * gains.to(magnitudes.device, magnitudes.dtype)[..., None, None, None]


def swap_spectrogram(magnitudes: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Exchange left and right of some items. Mono stays as it is, and so do further channels.

    Parameters
    ----------
    magnitudes : torch.Tensor [shape=(*batch, channels, bins, frames)]
    chosen : torch.Tensor of bool [shape=(*batch,)]
        Which items.

    Returns
    -------
    torch.Tensor [shape=(*batch, channels, bins, frames)]
    """
    channels = magnitudes.shape[-3]
    if channels < 2:
        return magnitudes
    order = torch.tensor([1, 0, *range(2, channels)], device=magnitudes.device)
    swapped = magnitudes.index_select(-3, order)
    return torch.where(chosen.to(magnitudes.device)[..., None, None, None], swapped, magnitudes)


def _precise(factors: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Factors where the magnitudes are, in the best precision that there is: Apple's devices have no float64."""
    device = magnitudes.device
    return factors.to(device, torch.float32 if device.type == "mps" else torch.float64)


def _interpolated(values: torch.Tensor, places: torch.Tensor, axis: int) -> torch.Tensor:
    """Values between the elements of an axis, 0 beyond its ends; `places` broadcasts over the other axes."""
    last = values.shape[axis] - 1
    places = places.reshape((1,) * (values.ndim - places.ndim) + places.shape)
    # What rounding moves past an end still belongs to it.
    slack = 8 * torch.finfo(places.dtype).eps * (last + 1)
    inside = (places >= -slack) & (places <= last + slack)
    places = places.clamp(0, last)
    low = places.floor()
    shares = (places - low).to(values.dtype)
    first = low.long()
    before = torch.take_along_dim(values, first, axis)
    after = torch.take_along_dim(values, (first + 1).clamp(max=last), axis)
    return torch.lerp(before, after, shares.expand(before.shape)) * inside.to(values.dtype)
