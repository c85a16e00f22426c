"""Whether somebody sings or speaks, three times a second: a small convolutional network on a log-mel spectrogram.

The network was trained by `benchmarks/voice.py` on public domain, CC0 and CC BY recordings and synthesised music:
voices among accompaniments at ratios from -15 to +15 dB, equalised and transposed at random, against
accompaniments without them. It runs in numpy: a worker needs no torch.

Conventions
-----------
Audio is float32 ``(channels, frames)`` at any rate; its level does not matter. A *step* is `STEP_S` (0.32 s).

References
----------
Schlueter and Lehner, "Zero-mean convolutions for level-invariant sound event detection", ISMIR 2018 (singing
voice detection that does not listen to the level; here the level is taken out of the input).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage
import soxr

Floats = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
N_FFT, HOP, NUM_BANDS = 1024, 320, 80
LOWEST_HZ, HIGHEST_HZ = 60.0, 7600.0

FRAMES_PER_STEP = 16
STEP_S = FRAMES_PER_STEP * HOP / SAMPLE_RATE
"""Seconds from one probability to the next."""

WEIGHTS = Path(__file__).with_name("voice.npz")

_LEVEL_FRAMES = 161  # 3.2 s: the level is taken out against its surroundings
_BLOCK_STEPS, _CONTEXT_STEPS = 64, 4


def voice_probability(audio: npt.NDArray[np.floating[Any]], sample_rate: int) -> Floats:
    """How likely a voice is to be heard, step by step.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray [shape=(steps,), float32]
        Between 0 and 1; step `k` is the time from ``k * STEP_S`` to ``(k + 1) * STEP_S``. A rest shorter than a
        step has none. Silence has a low probability.
    """
    mono = np.asarray(audio, np.float32).mean(axis=0)
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE, quality="HQ").astype(np.float32)
    num_steps = len(mono) // (FRAMES_PER_STEP * HOP)
    if num_steps == 0:
        return np.zeros(0, np.float32)
    bands = log_mel(mono)[:, : num_steps * FRAMES_PER_STEP]
    logits = np.empty(num_steps, np.float32)
    # blocks with context on both sides: memory that does not grow with the song
    for start in range(0, num_steps, _BLOCK_STEPS):
        end = min(start + _BLOCK_STEPS, num_steps)
        first, last = max(0, start - _CONTEXT_STEPS), min(num_steps, end + _CONTEXT_STEPS)
        block = _forward(bands[:, first * FRAMES_PER_STEP : last * FRAMES_PER_STEP], _weights())
        logits[start:end] = block[start - first : end - first]
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def log_mel(mono: Floats) -> Floats:
    """Log-mel spectrogram, 0 at the mean of its surroundings, whatever the level.

    Parameters
    ----------
    mono : np.ndarray [shape=(frames,), float32]
        At `SAMPLE_RATE`.

    Returns
    -------
    np.ndarray [shape=(NUM_BANDS, frames // HOP), float32]
        Natural logarithm of power; 80 dB below the loudest band everything is one floor.
    """
    padded = np.pad(mono, N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: len(mono) // HOP]
    window = np.hanning(N_FFT + 1)[:-1].astype(np.float32)
    bands = np.empty((NUM_BANDS, len(frames)), np.float32)
    for start in range(0, len(frames), 4096):
        spectrum = scipy.fft.rfft(frames[start : start + 4096] * window)
        bands[:, start : start + 4096] = _filters() @ (spectrum.real**2 + spectrum.imag**2).T
    levels: Floats = np.log(bands + 1e-8 * bands.max(initial=0) + 1e-12)
    levels -= scipy.ndimage.uniform_filter1d(levels.mean(axis=0), _LEVEL_FRAMES, mode="nearest")
    return levels


@cache
def _filters() -> Floats:
    filters: Floats = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=NUM_BANDS, fmin=LOWEST_HZ, fmax=HIGHEST_HZ
    ).astype(np.float32)
    return filters


@cache
def _weights() -> dict[str, Floats]:
    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


def _forward(bands: Floats, weights: dict[str, Floats]) -> Floats:
    """Logits of a log-mel block: four convolutions with pooling, then two over steps."""
    layers = bands[np.newaxis]
    for number in range(4):
        layers = _pooled(np.maximum(_conv2d(layers, weights[f"conv{number}"], weights[f"bias{number}"]), 0))
    steps = layers.reshape(-1, layers.shape[2])
    steps = np.maximum(_conv1d(steps, weights["mix"], weights["mix_bias"]), 0)
    steps = np.maximum(_conv1d(steps, weights["time"], weights["time_bias"]), 0)
    logits: Floats = _conv1d(steps, weights["out"], weights["out_bias"])[0]
    return logits


def _conv2d(layers: Floats, kernel: Floats, bias: Floats) -> Floats:
    """3 x 3 convolution of ``(channels, bands, frames)`` with zeros around."""
    height, width = layers.shape[1:]
    padded = np.pad(layers, ((0, 0), (1, 1), (1, 1)))
    total = np.broadcast_to(bias[:, np.newaxis], (len(kernel), height * width)).copy()
    for row in range(3):
        for column in range(3):
            shifted = padded[:, row : row + height, column : column + width].reshape(len(layers), -1)
            total += kernel[:, :, row, column] @ shifted
    return total.reshape(-1, height, width)


def _conv1d(steps: Floats, kernel: Floats, bias: Floats) -> Floats:
    """Convolution of ``(channels, steps)`` with zeros at both ends; an odd kernel."""
    size = kernel.shape[2]
    padded = np.pad(steps, ((0, 0), (size // 2, size // 2)))
    total = np.broadcast_to(bias[:, np.newaxis], (len(kernel), steps.shape[1])).copy()
    for tap in range(size):
        total += kernel[:, :, tap] @ padded[:, tap : tap + steps.shape[1]]
    return total


def _pooled(layers: Floats) -> Floats:
    """The largest of each 2 x 2."""
    _, height, width = layers.shape
    even = layers[:, : height // 2 * 2, : width // 2 * 2]
    rows = np.maximum(even[:, ::2], even[:, 1::2])
    return np.maximum(rows[:, :, ::2], rows[:, :, 1::2])
