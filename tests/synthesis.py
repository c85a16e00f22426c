"""Small deterministic signals for the tests: tones, noise, a short song, exact delays and clock drift.

Conventions
-----------
Audio is float32, shape ``(channels, frames)``, full scale +-1. Every random signal takes a
`numpy.random.Generator`, so that a test names its own seed. A positive delay moves the sound later, and a
positive drift stretches it, so that ``b = resampled(fractional_delay(a, d), ppm)`` obeys
``b((t + d) * (1 + ppm * 1e-6)) = a(t)``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal
import soxr

__all__ = ["fractional_delay", "pink_noise", "resampled", "song", "tone"]

Audio = npt.NDArray[np.float32]
Mono = npt.NDArray[np.float64]

_CHORDS = ((0, 4, 7, 12), (-3, 0, 4, 9), (-7, 0, 5, 9), (-5, -1, 2, 7))
_SCALE = (0, 2, 4, 7, 9, 12)
_FORMANTS = {"a": (760.0, 1250.0, 2700.0), "i": (300.0, 2250.0, 3000.0), "u": (330.0, 800.0, 2400.0)}


def tone(
    frequency: float,
    frames: int,
    sample_rate: int = 44100,
    *,
    amplitude: float = 0.5,
    phase: float = 0.0,
    channels: int = 2,
) -> Audio:
    """Sine of `frequency` (Hz), the same in every channel.

    Parameters
    ----------
    frequency : float
        In Hz.
    frames : int
        Length.
    sample_rate : int
        In Hz.
    amplitude : float
        Peak, 0 to 1.
    phase : float
        Phase at frame 0, in radians.
    channels : int
        Number of channels.

    Returns
    -------
    np.ndarray [shape=(channels, frames)]
    """
    angle = 2 * np.pi * frequency / sample_rate * np.arange(frames) + phase
    return np.tile((amplitude * np.sin(angle)).astype(np.float32), (channels, 1))


def pink_noise(rng: np.random.Generator, channels: int, frames: int, *, rms: float = 0.1) -> Audio:
    """Draw pink noise (power proportional to 1/f), independent in every channel, of exactly the given `rms`.

    Returns
    -------
    np.ndarray [shape=(channels, frames)]
    """
    spectrum = scipy.fft.rfft(rng.standard_normal((channels, frames)), axis=-1)
    spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[-1]))
    spectrum[:, 0] = 0.0
    noise = scipy.fft.irfft(spectrum, frames, axis=-1)
    noise *= rms / np.sqrt(np.mean(noise**2, axis=-1, keepdims=True))
    return np.asarray(noise, dtype=np.float32)


def fractional_delay(audio: Audio, frames: float) -> Audio:
    """Delay `audio` by a real number of frames through the phase of its spectrum: exact if band-limited.

    What is pushed beyond an end is lost and silence enters at the other end (the shift is not circular). The
    Nyquist bin, for which no real fractional delay exists, is avoided by an odd transform length.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        Any sample rate.
    frames : float
        Delay in frames; negative moves the sound earlier.

    Returns
    -------
    np.ndarray [shape=(channels, frames)]
        As long as `audio`.
    """
    length = audio.shape[-1]
    # The sinc's tails are long: without room for them the far end would leak into the near one.
    size = scipy.fft.next_fast_len(length + math.ceil(abs(frames)) + 8192, real=True)
    while size % 2 == 0:
        size = scipy.fft.next_fast_len(size + 1, real=True)
    spectrum = scipy.fft.rfft(audio.astype(np.float64), size, axis=-1)
    spectrum *= np.exp(-2j * np.pi * frames / size * np.arange(spectrum.shape[-1]))
    return np.asarray(scipy.fft.irfft(spectrum, size, axis=-1)[:, :length], dtype=np.float32)


def resampled(audio: Audio, ppm: float) -> Audio:
    """Move what is at frame t of `audio` to frame ``t * (1 + ppm * 1e-6)``, as a clock off by `ppm` does.

    With a mixture ``audio`` and an instrumental ``resampled(audio, ppm)`` the pair's ``drift_ppm`` is `ppm`.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        Any sample rate.
    ppm : float
        Parts per million; positive lengthens the audio.

    Returns
    -------
    np.ndarray [shape=(channels, round(frames * (1 + ppm * 1e-6)))]
    """
    if ppm == 0.0:
        return audio.copy()
    stretched = soxr.resample(audio.T.astype(np.float64), 1.0, 1.0 + ppm * 1e-6, "VHQ")
    return np.ascontiguousarray(stretched.T, dtype=np.float32)


def song(rng: np.random.Generator, seconds: float, sample_rate: int = 44100) -> tuple[Audio, Audio]:
    """Draw a tiny song: chords, bass and drums, and a voice that sings in some of the bars.

    The parts are linear: the mixture is ``instrumental + vocals``, and it never exceeds 0.9. The voice is 3
    dB below the instrumental where it sings, and it rests in the second half of every other bar, so anything
    longer than 6 seconds has passages with and without it.

    Parameters
    ----------
    rng : np.random.Generator
        Decides the key, the tempo, the melody and the noise.
    seconds : float
        Length.
    sample_rate : int
        In Hz, 8000 or more.

    Returns
    -------
    instrumental : np.ndarray [shape=(2, round(seconds * sample_rate))]
    vocals : np.ndarray [shape=(2, round(seconds * sample_rate))]
    """
    frames = round(seconds * sample_rate)
    beat = round(60.0 / rng.uniform(85.0, 130.0) * sample_rate)
    root = 220.0 * 2 ** (rng.integers(-5, 6) / 12)
    instrumental = np.zeros((2, frames), dtype=np.float32)
    vocals = np.zeros((2, frames), dtype=np.float32)
    order = rng.permutation(len(_CHORDS))
    for index, start in enumerate(range(0, frames, beat)):
        chord = _CHORDS[order[(index // 4) % len(_CHORDS)]]
        # Human timing: without it every bar repeats to the sample and its lag is ambiguous.
        at = start + int(rng.integers(0, sample_rate // 100))
        for degree in chord:
            pitch = root * 2 ** (degree / 12)
            _place(instrumental, at, _plucked(rng, pitch, beat, sample_rate), 0.10, rng.uniform(0.2, 0.8))
        bass = root * 2 ** ((chord[0] - 24) / 12)
        _place(instrumental, at, _plucked(rng, bass, beat, sample_rate), 0.25, 0.5)
        _place(instrumental, at, _drum(rng, index, beat, sample_rate), 0.25, 0.5)
        _place(instrumental, at + beat // 2, _drum(rng, 3, beat // 2, sample_rate), 0.05, 0.65)
        if index % 8 not in (2, 3):
            pitch = 2 * root * 2 ** (_SCALE[rng.integers(len(_SCALE))] / 12)
            _place(vocals, at, _sung(rng, pitch, beat, sample_rate), 0.25, 0.5)
    sung = np.abs(vocals).max(axis=0) > 1e-3
    if sung.any():
        ratio = np.sqrt(np.mean(instrumental[:, sung] ** 2) / np.mean(vocals[:, sung] ** 2))
        vocals *= np.float32(ratio * 10 ** (-3 / 20))
    peak = np.abs(instrumental + vocals).max(initial=1e-9)
    gain = np.float32(min(0.9 / max(peak, np.abs(instrumental).max(), np.abs(vocals).max()), 2.0))
    return instrumental * gain, vocals * gain


def _place(bus: Audio, start: int, note: Mono, gain: float, pan: float) -> None:
    """Add the mono `note` to the stereo `bus` at frame `start`, cut at the end; `pan` 0 is left, 1 right."""
    end = min(start + note.shape[-1], bus.shape[-1])
    if end > start:
        sides = np.sqrt([[1.0 - pan], [pan]])
        bus[:, start:end] += (gain * sides * note[: end - start]).astype(np.float32)


def _harmonics(pitch: Mono, levels: Mono, sample_rate: int) -> Mono:
    """Sum of the harmonics of a pitch track (Hz per frame) that stay below Nyquist, at the given levels."""
    rotor = np.exp(2j * np.pi * np.cumsum(pitch) / sample_rate)
    count = min(len(levels), int(0.45 * sample_rate / pitch.max()))
    power = rotor.copy()
    total: Mono = levels[0] * rotor.imag
    for level in levels[1:count]:
        power *= rotor
        total += level * power.imag
    return total


def _plucked(rng: np.random.Generator, pitch: float, frames: int, sample_rate: int) -> Mono:
    """Draw a decaying note of 12 harmonics with a brightness of its own."""
    time = np.arange(frames) / sample_rate
    levels = np.asarray(np.arange(1, 13) ** -rng.uniform(1.0, 1.8), dtype=np.float64)
    envelope = np.exp(-3.0 * time) * np.minimum(1.0, time / 0.004)
    return np.asarray(_harmonics(np.full(frames, pitch), levels, sample_rate) * envelope)


def _drum(rng: np.random.Generator, index: int, frames: int, sample_rate: int) -> Mono:
    """Draw a kick on even beats, a snare on beats 1, 5, ..., else a hi-hat; never twice the same."""
    time = np.arange(frames) / sample_rate
    noise = rng.standard_normal(frames)
    if index % 2 == 0:
        cycles = 50 * time + 6 * (1 - np.exp(-time / 0.03))
        return np.asarray(np.sin(2 * np.pi * cycles) * np.exp(-time / 0.12))
    if index % 4 == 1:
        return np.asarray(0.4 * (noise + np.sin(2 * np.pi * 190 * time)) * np.exp(-time / 0.06))
    return np.asarray(np.diff(noise, prepend=0.0) * np.exp(-time / 0.03))


def _sung(rng: np.random.Generator, pitch: float, frames: int, sample_rate: int) -> Mono:
    """Draw a sung note: vibrato, the formants of some vowel, a noisy onset, a soft end."""
    time = np.arange(frames) / sample_rate
    vibrato = 0.4 * np.sin(2 * np.pi * 5.5 * time) * np.minimum(1.0, time / 0.3)
    track = pitch * 2 ** ((vibrato - np.exp(-time / 0.03)) / 12)
    frequency = pitch * np.arange(1, 31)
    formants = _FORMANTS["aiu"[rng.integers(3)]]
    levels = np.full(30, 0.01)
    for peak, gain in zip(formants, (1.0, 0.6, 0.3), strict=True):
        levels += gain / (1 + ((frequency - peak) / 120.0) ** 2)
    levels /= np.sqrt(np.arange(1, 31))
    voice = _harmonics(track, levels, sample_rate) / np.sqrt(np.sum(levels**2))
    fade = np.minimum(1.0, time / 0.03) * np.minimum(1.0, (time[-1] - time) / 0.05)
    breath = np.diff(rng.standard_normal(frames), prepend=0.0) * np.exp(-time / 0.02)
    return np.asarray(voice * fade + 0.2 * breath)
