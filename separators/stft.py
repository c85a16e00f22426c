"""Audio to spectra and back: a Hann window, centred columns, any length, always in float32.

The signal is taken as zero before its start and past its end, so that one shorter than a window is no special case,
and is lengthened to whole hops: ``1 + ceil(frames / hop_frames)`` columns, column ``k`` centred on frame
``k * hop_frames``. Half precision is left off even inside autocast: its range does not hold a loud spectrum.
"""

from __future__ import annotations

import torch

from manifests.errors import AudioError, RecipeError

__all__ = ["check_window", "istft", "stft"]


def check_window(window_frames: int, hop_frames: int) -> None:
    """Refuse what has no inverse.

    Parameters
    ----------
    window_frames, hop_frames : int

    Raises
    ------
    RecipeError
        The window is odd, or the hop not from 1 to half the window.
    """
    if window_frames % 2 or not 1 <= hop_frames <= window_frames // 2:
        raise RecipeError(
            f"window_frames is {window_frames} and hop_frames {hop_frames}: the window must be even, "
            "the hop at least 1 and at most half the window"
        )


def stft(audio: torch.Tensor, window_frames: int, hop_frames: int) -> torch.Tensor:
    """Spectra of audio.

    Parameters
    ----------
    audio : torch.Tensor of float [shape=(..., frames)]
        At least one frame.
    window_frames : int
        Even; a periodic Hann window, and the length of the transform.
    hop_frames : int
        At most half the window.

    Returns
    -------
    torch.Tensor of complex64 [shape=(..., window_frames // 2 + 1, columns)]

    Raises
    ------
    AudioError
        The audio has no frames.
    RecipeError
        Window and hop do not fit together.
    """
    check_window(window_frames, hop_frames)
    frames = audio.shape[-1]
    if frames == 0:
        raise AudioError("audio has 0 frames: a spectrum needs at least one")
    with torch.autocast(audio.device.type, enabled=False):
        padded = torch.nn.functional.pad(audio.float().reshape(-1, frames), (0, -frames % hop_frames))
        spectrum = torch.stft(
            padded,
            window_frames,
            hop_frames,
            window=_window(window_frames, audio.device),
            pad_mode="constant",
            return_complex=True,
        )
    return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[-2:])


def istft(spectrum: torch.Tensor, window_frames: int, hop_frames: int, num_frames: int) -> torch.Tensor:
    """Audio of spectra: the inverse of `stft`.

    Parameters
    ----------
    spectrum : torch.Tensor of complex64 [shape=(..., bins, columns)]
    window_frames : int
    hop_frames : int
    num_frames : int
        Length of the audio that the spectra are of.

    Returns
    -------
    torch.Tensor of float32 [shape=(..., num_frames)]

    Raises
    ------
    RecipeError
        Window and hop do not fit together, or the spectrum is not of so many frames.
    """
    check_window(window_frames, hop_frames)
    bins, columns = spectrum.shape[-2:]
    wanted = window_frames // 2 + 1, 1 + -(-num_frames // hop_frames)
    if num_frames < 1 or (bins, columns) != wanted:
        raise RecipeError(f"spectrum has {bins} bins and {columns} columns: {num_frames} frames have {wanted}")
    with torch.autocast(spectrum.device.type, enabled=False):
        audio = torch.istft(
            spectrum.reshape(-1, bins, columns),
            window_frames,
            hop_frames,
            window=_window(window_frames, spectrum.device),
            length=num_frames,
        )
    return audio.reshape(*spectrum.shape[:-2], num_frames)


def _window(window_frames: int, device: torch.device) -> torch.Tensor:
    return torch.hann_window(window_frames, device=device)
