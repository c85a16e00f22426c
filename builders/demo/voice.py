"""The demo's singer: a source-filter voice that sings syllables on a melody.

The glottal source is a sum of harmonics of a pitch track with portamento, vibrato, drift and jitter. Each
harmonic is weighted, at a control rate, by the complex response of a cascade of formant resonators at the
harmonic's own frequency, so that vowels glide exactly and without filters. Consonants are silences, murmurs
and shaped bursts of noise placed just before the beat, and a breath is taken in the rests. All output is mono
float32 at `SAMPLE_RATE`, shape ``(frames,)``.

Sources: Fant, "Acoustic theory of speech production" (1960), for the cascade; Peterson and Barney, "Control
methods used in a study of the vowels" (JASA 24, 1952), for the formants; Sundberg, "The science of the
singing voice" (1987), for vibrato, the singer's formant and the raising of the first formant with the pitch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from builders.demo.instruments import SAMPLE_RATE, Mono

HOP_FRAMES = 128
"""Control rate: pitch, level and formants are given every so many frames."""

_CHUNK_HOPS = 128
_TOP_HZ = 10000.0
# A tract has a resonance about every 1000 Hz, without end; a trained singer moves the fourth to the fifth.
_HIGH_FORMANTS = (3350.0, 3950.0, 5000.0, 6000.0, 7000.0, 8100.0, 9300.0)
_WIDTHS = (75.0, 100.0, 140.0, 220.0, 300.0, 450.0, 600.0, 700.0, 800.0, 900.0)

_VOWELS: dict[str, tuple[float, float, float]] = {
    "a": (730, 1090, 2440),
    "A": (660, 1720, 2410),
    "e": (530, 1840, 2480),
    "i": (290, 2290, 3010),
    "I": (390, 1990, 2550),
    "o": (500, 840, 2410),
    "u": (310, 870, 2240),
    "U": (440, 1020, 2240),
    "V": (640, 1190, 2390),
    "R": (490, 1350, 1690),
}
_SONORANTS: dict[str, tuple[tuple[float, float, float], float, float]] = {
    # formants, level, seconds
    "m": ((250, 1100, 2200), 0.35, 0.07),
    "n": ((260, 1500, 2500), 0.35, 0.06),
    "l": ((360, 1250, 2800), 0.6, 0.06),
    "r": ((380, 1150, 1600), 0.6, 0.06),
    "w": ((300, 700, 2200), 0.6, 0.06),
    "y": ((280, 2200, 2900), 0.6, 0.06),
}
_FRICATIVES: dict[str, tuple[float, float, float, float]] = {
    # centre in Hz, width in octaves, level, seconds
    "s": (7200, 0.45, 0.20, 0.11),
    "S": (3600, 0.55, 0.26, 0.11),
    "f": (6000, 1.2, 0.06, 0.08),
    "h": (1600, 1.0, 0.07, 0.07),
}
_STOPS: dict[str, tuple[float, float, float, float, bool]] = {
    # centre in Hz, width in octaves, level, seconds of closure, voiced
    "t": (4600, 0.8, 0.30, 0.055, False),
    "k": (2100, 0.6, 0.28, 0.055, False),
    "p": (900, 1.0, 0.20, 0.055, False),
    "d": (3800, 0.9, 0.12, 0.04, True),
    "b": (700, 1.0, 0.10, 0.04, True),
    "g": (1900, 0.7, 0.12, 0.04, True),
}

ONSETS: tuple[str, ...] = (
    "m",
    "n",
    "l",
    "r",
    "w",
    "y",
    "s",
    "S",
    "f",
    "h",
    "t",
    "k",
    "p",
    "d",
    "b",
    "g",
    "st",
    "",
)
NUCLEI: tuple[str, ...] = ("a", "e", "i", "o", "u", "A", "V", "I", "aI", "eI", "oU", "aU")
CODAS: tuple[str, ...] = ("", "", "", "", "n", "m", "l", "s", "t", "k")


@dataclass(frozen=True)
class Voice:
    """A singer's habits.

    Attributes
    ----------
    centre : int
        MIDI number around which verses are sung.
    tract : float
        Formant scale: 1 for an adult man, about 1.15 for a woman.
    vibrato_cents : float
        Half the peak-to-peak extent of a long note's vibrato.
    vibrato_hz : float
        Vibrato rate.
    breathiness : float
        Level of the noise of the breath in the voiced sound, 0 to 1.
    portamento : float
        Time constant of a glide between tied notes, in seconds.
    """

    centre: int
    tract: float
    vibrato_cents: float = 45.0
    vibrato_hz: float = 5.5
    breathiness: float = 0.3
    portamento: float = 0.035


@dataclass(frozen=True)
class SungNote:
    """One syllable (onset, nucleus, coda) on one pitch; without one, the vowel of the note before goes on.

    The onset is sung before `start_frame`, as singers do, so that the vowel is on the beat. A coda sounds
    only at the end of a phrase. `pitch` is a MIDI number, `effort` 0 (soft) to 1 (loud); `first` opens a
    phrase.
    """

    start_frame: int
    num_frames: int
    pitch: float
    syllable: tuple[str, str, str] | None
    effort: float
    first: bool


def sing(rng: np.random.Generator, voice: Voice, notes: Sequence[SungNote], num_frames: int) -> Mono:
    """Sing a melody.

    Parameters
    ----------
    rng : np.random.Generator
        Draws intonation, vibrato, breath and consonants.
    voice : Voice
        Who sings.
    notes : sequence of SungNote
        In order and without overlaps; the first of a phrase has `first` set. Pitches are MIDI numbers.
    num_frames : int
        Length of what comes back.

    Returns
    -------
    np.ndarray [shape=(num_frames,)]
        Of unit RMS where the voice sounds.
    """
    hops = num_frames // HOP_FRAMES + 2
    tracks = _tracks(rng, voice, notes, hops)
    out = np.zeros(hops * HOP_FRAMES, dtype=np.float32)
    phase = np.zeros(hops * HOP_FRAMES, dtype=np.float32)
    _add_harmonics(out, phase, tracks)
    _add_aspiration(rng, voice, out, phase, tracks.level)
    sounding = np.repeat(tracks.level > 0.05, HOP_FRAMES)
    if sounding.any():
        out /= np.sqrt(np.mean(out[sounding] ** 2))
    for noise in tracks.noises:
        _add_noise(rng, out, noise)
    sos = scipy.signal.butter(2, 70.0, "highpass", fs=SAMPLE_RATE, output="sos").astype(np.float32)
    sung = np.asarray(scipy.signal.sosfilt(sos, out[:num_frames]), dtype=np.float32)
    # The filter's tail ends in denormal numbers, which would make all that follows twenty times slower.
    sung[np.abs(sung) < 1e-9] = 0.0
    return sung


@dataclass(frozen=True)
class _Noise:
    """A shaped burst of noise: frames, spectrum (Hz, octaves), level, and the shares of rise and fall."""

    start_frame: int
    num_frames: int
    centre: float
    octaves: float
    level: float
    rise: float
    fall: float


@dataclass(frozen=True)
class _Tracks:
    """What the voice does, per hop: pitch (Hz), level, effort, formants (hops, 3); and its noises."""

    pitch: Mono
    level: Mono
    effort: Mono
    formants: Mono
    tract: float
    noises: list[_Noise]


def _tracks(rng: np.random.Generator, voice: Voice, notes: Sequence[SungNote], hops: int) -> _Tracks:
    """Turn notes into control tracks and a list of noises."""
    midi = np.full(hops, float(voice.centre), dtype=np.float32)
    level = np.zeros(hops, dtype=np.float32)
    effort = np.full(hops, 0.5, dtype=np.float32)
    formants = np.tile(np.asarray(_VOWELS["V"], dtype=np.float32), (hops, 1))
    noises: list[_Noise] = []
    vowel = "V"
    previous: SungNote | None = None
    for index, note in enumerate(notes):
        following = notes[index + 1] if index + 1 < len(notes) else None
        start, end = note.start_frame // HOP_FRAMES, (note.start_frame + note.num_frames) // HOP_FRAMES
        end = min(end, hops)
        if end <= start:
            continue
        _sing_pitch(rng, voice, midi, note, previous, start, end)
        vowel = note.syllable[1] if note.syllable else vowel
        _sing_vowel(rng, level, effort, formants, note, vowel, start, end)
        # Quick notes have quick consonants, or they would have no vowel left.
        pace = float(np.clip(note.num_frames / (0.28 * SAMPLE_RATE), 0.35, 1.0))
        if note.syllable:
            _articulate(level, formants, noises, note.syllable[0], start, pace, voice.tract)
            if following is None or following.first:
                _articulate(level, formants, noises, note.syllable[2], end, pace, voice.tract)
        if note.first:
            rest = note.start_frame - (previous.start_frame + previous.num_frames if previous else 0)
            frames = min(rest - SAMPLE_RATE // 8, int(rng.uniform(0.25, 0.4) * SAMPLE_RATE))
            if frames > SAMPLE_RATE // 8:
                at = note.start_frame - frames - SAMPLE_RATE // 10
                noises.append(_Noise(max(at, 0), frames, 1900.0 * voice.tract, 1.3, 0.04, 0.6, 0.3))
        previous = note
    # The tongue needs some 40 ms from one place to the next, the lungs and the folds some 15 ms.
    formants = _smooth(formants, 13)
    level = _smooth(level, 7)
    # Slow drift and fast jitter, without which a synthetic voice is recognised at once.
    drift = _smooth(rng.standard_normal(hops).astype(np.float32), 81) * 0.06 * 9
    jitter = _smooth(rng.standard_normal(hops).astype(np.float32), 3) * 0.03
    shimmer = 1.0 + 0.15 * _smooth(rng.standard_normal(hops).astype(np.float32), 9)
    pitch = np.asarray(440.0 * 2.0 ** ((_smooth(midi, 5) + drift + jitter - 69.0) / 12.0), dtype=np.float32)
    formants[:, :] *= np.float32(voice.tract)
    # A singer opens the jaw before the pitch passes the first formant.
    formants[:, 0] = np.maximum(formants[:, 0], 1.02 * pitch)
    return _Tracks(pitch, level * shimmer, _smooth(effort, 25), formants, voice.tract, noises)


def _smooth(track: Mono, width: int) -> Mono:
    """Hann-weighted moving average over `width` hops along the first axis."""
    window = scipy.signal.get_window("hann", width + 2, fftbins=False)[1:-1]
    window = (window / window.sum()).astype(np.float32)
    if track.ndim == 1:
        padded = np.pad(track, (width // 2, width - 1 - width // 2), mode="edge")
        return np.asarray(np.convolve(padded, window, "valid"), dtype=np.float32)
    return np.stack([_smooth(column, width) for column in track.T], axis=1)


def _sing_pitch(
    rng: np.random.Generator,
    voice: Voice,
    midi: Mono,
    note: SungNote,
    previous: SungNote | None,
    start: int,
    end: int,
) -> None:
    """Write a note's pitch: glide or scoop in, then vibrato that grows."""
    time = np.arange(end - start, dtype=np.float32) * np.float32(HOP_FRAMES / SAMPLE_RATE)
    target = note.pitch + rng.normal(0.0, 0.04)
    if note.first or previous is None:
        origin, glide = target - rng.uniform(0.5, 1.6), 0.05
    else:
        origin = previous.pitch
        glide = voice.portamento * (1.5 if note.syllable is None else 0.8)
    # Vibrato sets in after a third of a second, and short notes have none.
    depth = voice.vibrato_cents / 100 * np.clip((time - 0.22) / 0.35, 0.0, 1.0)
    rate = voice.vibrato_hz * rng.uniform(0.95, 1.05)
    swing = np.sin(2 * np.pi * (rate * (time - 0.22) + 0.15 * np.maximum(time - 0.3, 0.0) ** 2))
    midi[start:end] = target + (origin - target) * np.exp(-time / glide) + depth * swing
    # Through the consonant and the rest that follow, the pitch stays where it was.
    midi[end:] = target


def _sing_vowel(
    rng: np.random.Generator,
    level: Mono,
    effort: Mono,
    formants: Mono,
    note: SungNote,
    vowel: str,
    start: int,
    end: int,
) -> None:
    """Write a note's level, effort and formants; a diphthong glides in its last third."""
    count = end - start
    place = np.arange(count, dtype=np.float32) / count
    swell = 0.85 + 0.3 * np.sin(np.pi * np.minimum(1.0, place * 1.1)) * min(1.0, count / 150)
    level[start:end] = swell * (0.7 + 0.5 * note.effort) * rng.uniform(0.9, 1.1)
    effort[start:end] = np.clip(note.effort * swell, 0.0, 1.0)
    effort[end:] = note.effort
    first, last = np.asarray(_VOWELS[vowel[0]]), np.asarray(_VOWELS[vowel[-1]])
    glide = np.clip((place - 0.55) / 0.3, 0.0, 1.0)[:, None]
    formants[start:end] = first + glide * (last - first)
    formants[end:] = last


def _articulate(
    level: Mono, formants: Mono, noises: list[_Noise], consonants: str, end: int, pace: float, tract: float
) -> None:
    """Write consonants over what sounded before, `pace` times as long as usual, up to hop `end`."""
    per_second = pace * SAMPLE_RATE / HOP_FRAMES
    for sound in reversed(consonants):
        if sound in _SONORANTS:
            shape, gain, length = _SONORANTS[sound]
            begin = max(0, end - round(length * per_second))
            level[begin:end] = gain
            formants[begin:end] = shape
        elif sound in _FRICATIVES:
            centre, octaves, gain, length = _FRICATIVES[sound]
            begin = max(0, end - round(length * per_second))
            level[begin:end] = 0.0
            scale = 1.0 + 0.5 * (tract - 1.0)
            frames = (end - begin + 3) * HOP_FRAMES
            noises.append(_Noise(begin * HOP_FRAMES, frames, centre * scale, octaves, gain, 0.35, 0.3))
        else:
            centre, octaves, gain, length, voiced = _STOPS[sound]
            begin = max(0, end - round(length * per_second))
            level[begin:end] = 0.12 if voiced else 0.0
            formants[begin:end] = (220, 900, 2300)
            burst = 0.018 if voiced else 0.035
            at = end * HOP_FRAMES - int(0.012 * SAMPLE_RATE)
            noises.append(
                _Noise(max(at, 0), int(burst * SAMPLE_RATE), centre * tract**0.5, octaves, gain, 0.04, 0.9)
            )
        end = begin


def _response(frequency: Mono, formants: Mono, tract: float) -> npt.NDArray[np.complex64]:
    """Response of the tract at `frequency`, shape (harmonics, hops), for formants of shape (hops, 3)."""
    total: npt.NDArray[np.complex64] = np.ones(frequency.shape, dtype=np.complex64)
    fixed = [np.float32(tract * centre) for centre in _HIGH_FORMANTS]
    for centre, width in zip([*formants.T, *fixed], _WIDTHS, strict=True):
        ratio = frequency / centre
        total /= (1.0 - ratio**2) + 1j * (ratio * np.float32(width) / centre)
    return np.asarray(total, dtype=np.complex64)


def _add_harmonics(out: Mono, phase: Mono, tracks: _Tracks) -> None:
    """Add the voiced sound to `out` and write the phase of the folds, in periods, to `phase`."""
    hops = len(tracks.pitch)
    ramp = np.arange(HOP_FRAMES, dtype=np.float32) / np.float32(HOP_FRAMES)
    turns = 0.0
    for first in range(0, hops - 1, _CHUNK_HOPS):
        last = min(first + _CHUNK_HOPS, hops - 1)
        level = tracks.level[first : last + 1]
        pitch = tracks.pitch[first : last + 1]
        step = pitch[:-1, None] + np.diff(pitch)[:, None] * ramp
        # Phases run on in double precision, or minutes of song would go out of tune with themselves.
        cycles = turns + np.cumsum(step.astype(np.float64).ravel()) / SAMPLE_RATE
        turns = float(cycles[-1] % 1.0)
        if level.max() < 1e-4:
            continue
        where = slice(first * HOP_FRAMES, last * HOP_FRAMES)
        fraction = (cycles % 1.0).astype(np.float32)
        phase[where] = fraction
        rotor = np.exp(np.complex64(2j * np.pi) * fraction).reshape(last - first, HOP_FRAMES)
        number = np.arange(1, max(2, int(_TOP_HZ / pitch.min())), dtype=np.float32)[:, None]
        frequency = number * pitch
        effort = tracks.effort[first : last + 1]
        # Loud voices close their folds faster: the source falls by 4 to 9 dB per octave.
        weight = level * number ** -(1.5 - 0.75 * effort) * np.clip((_TOP_HZ - frequency) / 2500, 0, 1)
        weights = weight * _response(frequency, tracks.formants[first : last + 1], tracks.tract)
        total = np.zeros_like(step)
        power = rotor.copy()
        for row in weights:
            ramped = row[:-1, None] + np.diff(row)[:, None] * ramp
            total += ramped.real * power.real - ramped.imag * power.imag
            power *= rotor
        out[where] += total.ravel()


def _add_aspiration(rng: np.random.Generator, voice: Voice, out: Mono, phase: Mono, level: Mono) -> None:
    """Add the noise of air through the folds, strongest while they are open, as loud as the voice asks."""
    frames = len(out)
    noise = rng.standard_normal(frames, dtype=np.float32)
    sos = scipy.signal.butter(1, (1800.0, 12000.0), "bandpass", fs=SAMPLE_RATE, output="sos").astype(np.float32)
    air = np.asarray(scipy.signal.sosfilt(sos, noise), dtype=np.float32)
    ramp = np.arange(HOP_FRAMES, dtype=np.float32) / np.float32(HOP_FRAMES)
    curve = (level[:, None] + np.diff(level, append=0.0)[:, None] * ramp).ravel()
    opening = 0.7 - 0.3 * np.cos(np.float32(2 * np.pi) * phase)
    sounding = curve > 0.05
    voiced = float(np.sqrt(np.mean(out[sounding] ** 2))) if sounding.any() else 0.0
    out += np.float32(0.06 * voice.breathiness * voiced) * air * curve * opening


def _add_noise(rng: np.random.Generator, out: Mono, noise: _Noise) -> None:
    """Add one burst, shaped in frequency by a bell on a logarithmic axis and in time by a rise and a fall."""
    frames = min(noise.num_frames, len(out) - noise.start_frame)
    if frames < 16:
        return
    size = scipy.fft.next_fast_len(frames, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    frequency = np.maximum(scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 20.0)
    spectrum *= np.exp(-0.5 * (np.log2(frequency / noise.centre) / noise.octaves) ** 2).astype(np.float32)
    burst = scipy.fft.irfft(spectrum, size)[:frames]
    place = np.arange(frames, dtype=np.float32) / frames
    shape = np.minimum(1.0, place / noise.rise) * np.minimum(1.0, (1.0 - place) / noise.fall)
    burst *= noise.level * shape / (np.sqrt(np.mean(burst**2)) + 1e-9)
    out[noise.start_frame : noise.start_frame + frames] += burst.astype(np.float32)
