"""The demo's instruments: notes of pitched instruments and hits of drums, synthesised from arithmetic alone.

Everything here returns mono float32 at `SAMPLE_RATE`, shape ``(frames,)``, with peaks near 1. A pitched
instrument is a function of (rng, pitch in Hz, gate in frames); what it returns is a little longer than the
gate, by its release. The generator decides details that differ from one stroke to the next.

Sources: Karplus and Strong, "Digital synthesis of plucked-string and drum timbres" (CMJ 7(2), 1983); Jaffe
and Smith, "Extensions of the Karplus-Strong plucked-string algorithm" (same issue); Chowning, "The synthesis
of complex audio spectra by means of frequency modulation" (JAES 21(7), 1973).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

SAMPLE_RATE = 44100

Mono = npt.NDArray[np.float32]
Instrument = Callable[[np.random.Generator, float, int], Mono]

_TABLE_BITS = 14
_TABLE_SIZE = 1 << _TABLE_BITS


def seconds(frames: int) -> Mono:
    """Time axis of `frames` frames, in seconds."""
    return np.arange(frames, dtype=np.float32) / np.float32(SAMPLE_RATE)


def envelope(frames: int, gate: int, attack: float, decay: float, sustain: float, release: float) -> Mono:
    """Attack-decay-sustain-release curve, 0 to 1.

    Parameters
    ----------
    frames : int
        Length of the curve.
    gate : int
        Frame at which the release starts.
    attack, decay, release : float
        Rise time and the two time constants, in seconds.
    sustain : float
        Level held until the gate closes, 0 to 1.

    Returns
    -------
    np.ndarray [shape=(frames,)]
    """
    time = seconds(frames)
    curve = np.minimum(1.0, time / attack) * (sustain + (1.0 - sustain) * np.exp(-time / decay))
    curve[gate:] *= np.exp(-time[: max(frames - gate, 0)] / release)
    fade = min(64, frames)
    curve[frames - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.asarray(curve, dtype=np.float32)


@functools.lru_cache(maxsize=4096)
def _table(wave: str, harmonics: int, cutoff: int) -> Mono:
    """One period of a waveform with so many harmonics, low-passed at `cutoff` (in harmonic numbers)."""
    number = np.arange(1, harmonics + 1, dtype=np.float64)
    odd = number % 2
    levels = {
        "saw": 1 / number,
        "square": odd / number,
        "triangle": odd / number**2,
        "organ": np.isin(number, (1, 2, 3, 4, 6, 8)) * number**-0.6,
        "reed": (0.25 + odd) * number**-1.1,
        "brass": number**-0.9 * np.exp(-number / 14),
        "flute": number**-2.2,
    }[wave]
    levels = levels / np.sqrt(1 + (number / cutoff) ** 4)
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=np.complex128)
    # Schroeder's phases keep the peak of a rich spectrum low.
    spectrum[1 : harmonics + 1] = levels * np.exp(-1j * np.pi * number * (number - 1) / harmonics)
    period = scipy.fft.irfft(spectrum, _TABLE_SIZE)
    return np.asarray(period / np.abs(period).max(), dtype=np.float32)


def oscillator(wave: str, pitch: float | Mono, frames: int, cutoff: float, phase: float = 0.0) -> Mono:
    """Band-limited periodic wave, read from a table.

    Parameters
    ----------
    wave : str
        'saw', 'square', 'triangle', 'organ', 'reed', 'brass' or 'flute'.
    pitch : float or np.ndarray [shape=(frames,)]
        In Hz.
    frames : int
        Length.
    cutoff : float
        Corner of a second-order low pass, in Hz.
    phase : float
        Start, in periods.

    Returns
    -------
    np.ndarray [shape=(frames,)]
    """
    highest = float(np.max(pitch))
    harmonics = max(1, min(80, int(17000 / highest)))
    # A whole number of harmonics, at about a third of an octave, keeps the cache of tables small.
    corner = max(1, round(2 ** (round(3 * np.log2(max(cutoff / highest, 1.0))) / 3)))
    table = _table(wave, harmonics, corner)
    scale = 2.0**32 / SAMPLE_RATE
    start = int((phase % 1.0) * 2**32)
    if isinstance(pitch, np.ndarray):
        steps = np.cumsum(pitch.astype(np.float64) * scale).astype(np.uint64).astype(np.uint32)
    else:
        steps = np.arange(frames, dtype=np.uint32) * np.uint32(round(pitch * scale))
    return np.asarray(table[(steps + np.uint32(start)) >> np.uint32(32 - _TABLE_BITS)])


def noise_band(rng: np.random.Generator, frames: int, low: float, high: float) -> Mono:
    """White noise between two corners (Hz, second order), of unit RMS."""
    noise = rng.standard_normal(frames, dtype=np.float32)
    top = min(high, 0.45 * SAMPLE_RATE)
    sos = scipy.signal.butter(2, (low, top), "bandpass", fs=SAMPLE_RATE, output="sos").astype(np.float32)
    out = np.asarray(scipy.signal.sosfilt(sos, noise), dtype=np.float32)
    return np.asarray(out / (np.sqrt(np.mean(out**2)) + 1e-9), dtype=np.float32)


def plucked(
    rng: np.random.Generator, pitch: float, gate: int, *, ring: float, damping: float, brightness: float
) -> Mono:
    """Karplus-Strong string: a noise burst that runs round a delay line through a low pass.

    The loop is computed a whole period at a time, which is exact because a period depends on earlier ones
    only.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the burst and the place of the pick.
    pitch : float
        In Hz.
    gate : int
        Frames until the finger damps the string.
    ring : float
        Time in seconds in which the fundamental falls by 60 dB.
    damping : float
        Loss of the high harmonics in every period, 0 to 0.5.
    brightness : float
        Number of the harmonic from which the pluck falls off steeply.

    Returns
    -------
    np.ndarray [shape=(gate + release,)]
    """
    frames = gate + SAMPLE_RATE // 12
    # The low pass (damping, 1 - 2 damping, damping) delays by one frame, the interpolation by `fraction`.
    period = SAMPLE_RATE / pitch
    delay = int(period - 1.0)
    fraction = period - 1.0 - delay
    taps = np.convolve([damping, 1 - 2 * damping, damping], [1 - fraction, fraction])
    taps = (taps * 0.001 ** (1.0 / (ring * pitch))).astype(np.float32)
    burst = rng.standard_normal(delay, dtype=np.float32)
    # A displaced string holds less and less of its high harmonics; a soft finger takes away the rest.
    number = np.arange(delay // 2 + 1, dtype=np.float32)
    pick = rng.uniform(0.13, 0.24)
    shape = (0.25 + np.abs(np.sin(np.pi * pick * number))) / ((1 + number) * (1 + (number / brightness) ** 2))
    burst = scipy.fft.irfft(scipy.fft.rfft(burst) * shape, delay).astype(np.float32)
    burst -= burst.mean()
    line = np.zeros(delay + 3 + frames + delay, dtype=np.float32)
    line[3 : 3 + delay] = burst
    for at in range(delay + 3, delay + 3 + frames, delay):
        line[at : at + delay] = np.convolve(line[at - delay - 3 : at], taps, "valid")
    out = line[3 : 3 + frames]
    out = out / (np.abs(out[: SAMPLE_RATE // 10]).max() + 1e-9)
    return np.asarray(out * envelope(frames, gate, 0.001, 1.0, 1.0, 0.03), dtype=np.float32)


def fm(pitch: float, gate: int, *, ratio: float, index: float, bite: float, decay: float, sustain: float) -> Mono:
    """Two-operator FM: a modulator at `ratio` times the pitch, its index falls within `bite` seconds."""
    frames = gate + SAMPLE_RATE // 8
    time = seconds(frames)
    angle = (2 * np.pi * pitch) * time
    modulator = index * (0.15 + 0.85 * np.exp(-time / bite)) * np.sin(ratio * angle)
    tone = np.sin(angle + modulator)
    return np.asarray(tone * envelope(frames, gate, 0.003, decay, sustain, 0.06), dtype=np.float32)


def subtractive(
    rng: np.random.Generator,
    pitch: float,
    gate: int,
    *,
    wave: str,
    low: float,
    high: float,
    sweep: float,
    attack: float = 0.005,
    decay: float = 0.4,
    sustain: float = 0.7,
    release: float = 0.08,
    detune: float = 6.0,
    vibrato: float = 0.0,
) -> Mono:
    """Two detuned oscillators through a low pass that falls from `high` to `low` (Hz) within `sweep` seconds.

    `attack`, `decay`, `sustain` and `release` shape the level as in `envelope`; `detune` and `vibrato` are in
    cents.
    """
    frames = gate + int(3 * release * SAMPLE_RATE)
    time = seconds(frames)
    opening = np.exp(-time / sweep)
    total = np.zeros(frames, dtype=np.float32)
    for side in (-1.0, 1.0):
        centre = pitch * 2 ** (side * detune * rng.uniform(0.7, 1.0) / 1200)
        track: float | Mono = centre
        if vibrato:
            depth = vibrato * np.minimum(1.0, time / 0.4)
            swing = np.sin(2 * np.pi * (rng.uniform(4.8, 5.8) * time + rng.uniform()))
            track = np.asarray(centre * 2 ** (depth * swing / 1200), dtype=np.float32)
        phase = rng.uniform()
        dark = oscillator(wave, track, frames, low, phase)
        bright = oscillator(wave, track, frames, high, phase)
        total += dark + opening * (bright - dark)
    return 0.5 * total * envelope(frames, gate, attack, decay, sustain, release)


def struck(pitch: float, gate: int, ratios: tuple[float, ...], levels: tuple[float, ...], decay: float) -> Mono:
    """Bar or bell: decaying sines at `ratios` of the pitch; the higher ones die sooner."""
    frames = gate + int(min(decay, 0.5) * SAMPLE_RATE)
    time = seconds(frames)
    total = np.zeros(frames, dtype=np.float32)
    for ratio, level in zip(ratios, levels, strict=True):
        if ratio * pitch < 16000:
            total += level * np.sin((2 * np.pi * ratio * pitch) * time) * np.exp(-time * (ratio**0.7 / decay))
    return total * envelope(frames, gate, 0.001, 1.0, 1.0, 0.25)


def piano(rng: np.random.Generator, pitch: float, gate: int) -> Mono:
    """Stiff string with 14 slightly sharp partials, each a beating pair, and the thump of the hammer."""
    frames = gate + SAMPLE_RATE // 6
    time = seconds(frames)
    total = np.zeros(frames, dtype=np.float32)
    for number in range(1, 15):
        frequency = number * pitch * np.sqrt(1 + 4e-4 * number**2 * (pitch / 440))
        if frequency > 9000:
            break
        level = number**-1.1 * abs(np.sin(np.pi * number / 7.6)) + 0.02
        beat = np.float32(2 * np.pi * rng.uniform(0.15, 0.6)) * time
        fall = np.exp(-time * (0.7 + 0.35 * number) * (pitch / 262) ** 0.5)
        total += level * (0.8 + 0.2 * np.cos(beat)) * fall * np.sin((2 * np.pi * frequency) * time)
    thump = noise_band(rng, min(frames, 1500), 90, 900) * np.exp(-seconds(min(frames, 1500)) / 0.008)
    total[: len(thump)] += 0.12 * thump
    return 0.8 * total * envelope(frames, gate, 0.002, 1.0, 1.0, 0.07)


INSTRUMENTS: dict[str, Instrument] = {
    "steel guitar": functools.partial(plucked, ring=3.5, damping=0.06, brightness=16),
    "nylon guitar": functools.partial(plucked, ring=2.2, damping=0.12, brightness=7),
    "electric guitar": functools.partial(plucked, ring=5.0, damping=0.1, brightness=12),
    "banjo": functools.partial(plucked, ring=1.0, damping=0.05, brightness=18),
    "clavinet": functools.partial(plucked, ring=1.6, damping=0.05, brightness=20),
    "koto": functools.partial(plucked, ring=2.4, damping=0.06, brightness=12),
    "upright bass": functools.partial(plucked, ring=2.0, damping=0.2, brightness=4),
    "electric bass": functools.partial(plucked, ring=4.0, damping=0.14, brightness=8),
    "piano": piano,
    "electric piano": lambda rng, pitch, gate: (
        0.8 * fm(pitch, gate, ratio=1.0, index=1.6, bite=0.35, decay=0.9, sustain=0.15)
        + 0.2 * fm(pitch, gate, ratio=14.0, index=0.9, bite=0.05, decay=0.12, sustain=0.0)
    ),
    "fm bass": lambda rng, pitch, gate: fm(pitch, gate, ratio=1.0, index=2.8, bite=0.12, decay=0.5, sustain=0.6),
    "fm bell": lambda rng, pitch, gate: fm(pitch, gate, ratio=3.5, index=2.2, bite=0.4, decay=0.7, sustain=0.0),
    "marimba": lambda rng, pitch, gate: struck(pitch, gate, (1, 3.9, 9.2), (1.0, 0.3, 0.1), 0.35),
    "glockenspiel": lambda rng, pitch, gate: struck(pitch, gate, (1, 2.76, 5.4), (0.8, 0.35, 0.15), 0.8),
    "synth bass": functools.partial(
        subtractive, wave="saw", low=180, high=1400, sweep=0.12, sustain=0.8, detune=4.0
    ),
    "reese bass": functools.partial(
        subtractive, wave="saw", low=350, high=700, sweep=0.5, sustain=0.9, detune=18.0
    ),
    "sub bass": functools.partial(
        subtractive, wave="triangle", low=120, high=300, sweep=0.06, sustain=0.8, detune=1.0, release=0.12
    ),
    "synth pluck": functools.partial(
        subtractive, wave="saw", low=400, high=6000, sweep=0.09, decay=0.25, sustain=0.2, detune=9.0
    ),
    "synth stab": functools.partial(
        subtractive, wave="saw", low=900, high=7000, sweep=0.15, sustain=0.5, detune=14.0
    ),
    "square lead": functools.partial(
        subtractive, wave="square", low=900, high=3500, sweep=0.3, detune=5.0, vibrato=12.0
    ),
    "pad": functools.partial(
        subtractive,
        wave="saw",
        low=900,
        high=500,
        sweep=1.2,
        attack=0.35,
        sustain=1.0,
        release=0.25,
        detune=11.0,
    ),
    "strings": functools.partial(
        subtractive,
        wave="saw",
        low=2600,
        high=1500,
        sweep=0.5,
        attack=0.14,
        sustain=1.0,
        release=0.15,
        detune=8.0,
        vibrato=14.0,
    ),
    "brass": functools.partial(
        subtractive, wave="brass", low=3200, high=900, sweep=0.05, attack=0.03, sustain=0.8, detune=5.0
    ),
    "organ": functools.partial(
        subtractive, wave="organ", low=5000, high=5000, sweep=1.0, attack=0.008, sustain=1.0, detune=2.0
    ),
    "accordion": functools.partial(
        subtractive, wave="reed", low=3000, high=2000, sweep=0.3, attack=0.05, sustain=1.0, detune=7.0
    ),
    "flute": functools.partial(
        subtractive, wave="flute", low=3000, high=3000, sweep=1.0, attack=0.06, sustain=0.9, vibrato=18.0
    ),
}
"""Pitched instruments by name: functions of (rng, pitch in Hz, gate in frames)."""


def kick(rng: np.random.Generator, *, start: float, end: float, decay: float, click: float) -> Mono:
    """Sine whose pitch falls from `start` to `end` (Hz), with a click on top."""
    time = seconds(int(4 * decay * SAMPLE_RATE))
    cycles = end * time + (start - end) * 0.03 * (1 - np.exp(-time / 0.03))
    body = np.sin(2 * np.pi * cycles) * np.exp(-time / decay)
    body += click * noise_band(rng, len(time), 1500, 6000) * np.exp(-time / 0.004)
    return np.asarray(body, dtype=np.float32)


def snare(rng: np.random.Generator, *, tone: float, decay: float, low: float, high: float) -> Mono:
    """Two drum modes at `tone` and 1.6 times `tone`, and wires that rattle between `low` and `high` (Hz)."""
    time = seconds(int(6 * decay * SAMPLE_RATE))
    pitch = tone * rng.uniform(0.98, 1.02)
    modes = np.sin(2 * np.pi * pitch * time) + 0.6 * np.sin(2 * np.pi * 1.6 * pitch * time)
    wires = noise_band(rng, len(time), low, high) * np.exp(-time / decay)
    return np.asarray(0.45 * modes * np.exp(-time / 0.05) + 0.4 * wires, dtype=np.float32)


def clap(rng: np.random.Generator) -> Mono:
    """Four bursts of noise, 11 ms apart, and the room after them."""
    time = seconds(SAMPLE_RATE // 4)
    shape = np.exp(-np.maximum(time - 0.033, 0) / 0.06) * (time >= 0.033) * 0.7
    for burst in (0.0, 0.011, 0.022):
        shape += (time >= burst) * (time < burst + 0.011) * np.exp(-(time - burst) / 0.004)
    return np.asarray(0.5 * noise_band(rng, len(time), 900, 4500) * shape, dtype=np.float32)


def cymbal(rng: np.random.Generator, *, decay: float, low: float, ring: float) -> Mono:
    """Noise and a cluster of square waves above `low` (Hz); `ring`, 0 to 1, is the share of the cluster."""
    time = seconds(int(5 * decay * SAMPLE_RATE))
    cluster = np.zeros(len(time), dtype=np.float32)
    for frequency in (2090.0, 3030.0, 4130.0, 5470.0, 6390.0, 8010.0):
        cluster += np.sign(np.sin((2 * np.pi * frequency * rng.uniform(0.99, 1.01)) * time))
    sos = scipy.signal.butter(2, low, "highpass", fs=SAMPLE_RATE, output="sos").astype(np.float32)
    bright = np.asarray(scipy.signal.sosfilt(sos, cluster), dtype=np.float32) / 4
    hiss = noise_band(rng, len(time), low, 17000)
    shape = np.exp(-time / decay) * np.minimum(1.0, time / 0.001)
    return np.asarray(0.35 * (ring * bright + (1 - 0.5 * ring) * hiss) * shape, dtype=np.float32)


def shaker(rng: np.random.Generator) -> Mono:
    """Swell and fall of noise, as of seeds in a tube."""
    time = seconds(SAMPLE_RATE // 10)
    shape = np.minimum(1.0, time / 0.025) * np.exp(-np.maximum(time - 0.025, 0) / 0.018)
    return np.asarray(0.3 * noise_band(rng, len(time), 4500, 12000) * shape, dtype=np.float32)


def membrane(rng: np.random.Generator, *, pitch: float, decay: float, bend: float = 0.15) -> Mono:
    """Tom, conga or rim: a falling sine with an overtone and a short slap."""
    time = seconds(int(5 * decay * SAMPLE_RATE))
    cycles = pitch * rng.uniform(0.98, 1.02) * (time + bend * 0.05 * (1 - np.exp(-time / 0.05)))
    tone = np.sin(2 * np.pi * cycles) + 0.3 * np.sin(2 * np.pi * 1.59 * cycles)
    slap = noise_band(rng, len(time), 600, 5000) * np.exp(-time / 0.006)
    return np.asarray(0.7 * tone * np.exp(-time / decay) + 0.25 * slap, dtype=np.float32)


def brush(rng: np.random.Generator) -> Mono:
    """Wire brush swept over a snare."""
    time = seconds(SAMPLE_RATE // 5)
    shape = np.minimum(1.0, time / 0.03) * np.exp(-time / 0.06)
    return np.asarray(0.3 * noise_band(rng, len(time), 1200, 9000) * shape, dtype=np.float32)


KITS: dict[str, dict[str, Callable[[np.random.Generator], Mono]]] = {
    "acoustic": {
        "kick": functools.partial(kick, start=130, end=52, decay=0.11, click=0.25),
        "snare": functools.partial(snare, tone=195, decay=0.075, low=1200, high=9000),
        "hat": functools.partial(cymbal, decay=0.03, low=6500, ring=0.5),
        "open": functools.partial(cymbal, decay=0.16, low=6000, ring=0.5),
        "ride": functools.partial(cymbal, decay=0.3, low=4500, ring=0.8),
        "crash": functools.partial(cymbal, decay=0.55, low=3000, ring=0.3),
        "tom": functools.partial(membrane, pitch=115, decay=0.16),
        "rim": functools.partial(membrane, pitch=820, decay=0.014, bend=0.0),
        "shaker": shaker,
    },
    "electronic": {
        "kick": functools.partial(kick, start=240, end=47, decay=0.16, click=0.12),
        "snare": functools.partial(snare, tone=180, decay=0.09, low=1800, high=11000),
        "clap": clap,
        "hat": functools.partial(cymbal, decay=0.022, low=8000, ring=0.9),
        "open": functools.partial(cymbal, decay=0.13, low=7000, ring=0.9),
        "crash": functools.partial(cymbal, decay=0.6, low=3500, ring=0.4),
        "tom": functools.partial(membrane, pitch=95, decay=0.2, bend=0.8),
        "rim": functools.partial(membrane, pitch=1050, decay=0.01, bend=0.0),
        "shaker": shaker,
    },
    "boom": {
        "kick": functools.partial(kick, start=170, end=41, decay=0.3, click=0.08),
        "snare": functools.partial(snare, tone=165, decay=0.11, low=900, high=7000),
        "clap": clap,
        "hat": functools.partial(cymbal, decay=0.018, low=7500, ring=0.8),
        "open": functools.partial(cymbal, decay=0.12, low=7000, ring=0.8),
        "crash": functools.partial(cymbal, decay=0.5, low=3500, ring=0.4),
        "tom": functools.partial(membrane, pitch=85, decay=0.25, bend=0.6),
        "rim": functools.partial(membrane, pitch=900, decay=0.012, bend=0.0),
        "shaker": shaker,
    },
    "latin": {
        "kick": functools.partial(kick, start=100, end=56, decay=0.08, click=0.1),
        "snare": brush,
        "rim": functools.partial(membrane, pitch=760, decay=0.018, bend=0.0),
        "hat": functools.partial(cymbal, decay=0.025, low=7000, ring=0.4),
        "conga": functools.partial(membrane, pitch=240, decay=0.1),
        "tom": functools.partial(membrane, pitch=180, decay=0.14),
        "crash": functools.partial(cymbal, decay=0.45, low=3500, ring=0.3),
        "shaker": shaker,
    },
}
"""Drum kits by name: drum to a function that draws one hit."""
