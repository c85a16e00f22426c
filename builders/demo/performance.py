"""The demo's bands: a score performed, recorded and mixed, as two stereo stems.

Audio is float32, shape ``(2, frames)``, at `SAMPLE_RATE`. The stems are linear, ``mixture = instrumental +
vocals``, and neither they nor their sum exceed `PEAK`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from builders.demo.instruments import INSTRUMENTS, KITS, SAMPLE_RATE, Mono
from builders.demo.score import MODES, TAIL_SECONDS, Bar, MelodyNote, Score, anchor, chord_at
from builders.demo.sheets import STYLES, Part, Sheet, Style
from builders.demo.voice import SungNote, Voice, sing

PEAK = 0.4
"""Highest sample of a performance: leaves 8 dB for the gains of releases and the overshoot of codecs."""

Audio = npt.NDArray[np.float32]

_WIDE = frozenset({"pad", "strings", "piano", "organ", "electric piano", "accordion"})
_DRUM_MIX: dict[str, tuple[float, float]] = {
    # level in dB, pan
    "kick": (0.0, 0.0),
    "snare": (-3.0, 0.05),
    "clap": (-4.0, 0.0),
    "hat": (-13.0, 0.3),
    "open": (-14.0, 0.3),
    "ride": (-14.0, -0.3),
    "crash": (-11.0, -0.25),
    "tom": (-5.0, 0.2),
    "rim": (-10.0, -0.2),
    "shaker": (-16.0, -0.4),
    "conga": (-7.0, 0.3),
}


def perform(rng: np.random.Generator, score: Score, sheet: Sheet) -> tuple[Audio, Audio]:
    """Render a score with the sheet's band, singer, key and tempo.

    Parameters
    ----------
    rng : np.random.Generator
        Draws everything that no two performances have in common.
    score : Score
        What is played; its number of steps per bar must be that of the style.
    sheet : Sheet
        Who plays, in which key and how fast.

    Returns
    -------
    instrumental : np.ndarray [shape=(2, frames)]
    vocals : np.ndarray [shape=(2, frames)]
    """
    style = STYLES[sheet.style]
    if style.steps != score.steps:
        raise ValueError(f"style {sheet.style!r} has {style.steps} steps a bar, the score has {score.steps}")
    clock = _clock(score, sheet.tempo, style.swing)
    frames = int(clock[-1] + TAIL_SECONDS * SAMPLE_RATE)
    dry = np.zeros((2, frames), dtype=np.float32)
    send = np.zeros((2, frames), dtype=np.float32)
    for part in style.parts:
        played = _play(rng, part, style, score, sheet.tonic, clock, frames)
        dry += played
        send += np.float32(10 ** (part.send_db / 20)) * played
    drums = _drum(rng, style, score, clock, frames)
    dry += drums
    send += np.float32(0.08) * drums
    instrumental = dry + _room(rng, send, style.room_seconds)
    # A mastering limiter's job: only one sample in a thousand feels it. The voice is added later, linearly.
    knee = np.float32(1.5 * np.percentile(np.abs(instrumental[:, ::16]), 99.9))
    instrumental = knee * np.tanh(instrumental / knee)
    vocals = _vocals(rng, score, sheet, clock, frames)
    return _balanced(instrumental, vocals, sheet.vocals_db)


def _clock(score: Score, tempo: float, swing: float) -> npt.NDArray[np.float64]:
    """Frame of every step, and of the end: the off-beats of a swinging band come late."""
    total = len(score.bars) * score.steps
    step = np.arange(total + 1)
    late = np.asarray([0.0, 1 / 3, 2 / 3, 1 / 3])[step % 4] * swing
    return np.asarray((step + late) * (15.0 / tempo * SAMPLE_RATE))


def _voicing(chord: Sequence[int], tonic: int, register: int) -> list[int]:
    """MIDI numbers of a chord: in root position for basses, else inverted to lie around the register."""
    if register < 48:
        root = register - 6 + (tonic + chord[0] - register + 6) % 12
        return [root + tone - chord[0] for tone in chord]
    return sorted(register - 5 + (tonic + tone - register + 5) % 12 for tone in chord)


def _events(pattern: str, bar: Bar, steps: int) -> list[tuple[int, int, str]]:
    """(step, length, symbol) of a bar's notes; notes held over a change of chord are struck again."""
    events = []
    for match in re.finditer(r"[X0-9]-*", pattern):
        start, end = match.span()
        half = steps // 2
        if len(bar.chords) > 1 and start < half < end:
            events.append((half, end - half, match[0][0]))
            end = half
        events.append((start, end - start, match[0][0]))
    return events


def _play(
    rng: np.random.Generator,
    part: Part,
    style: Style,
    score: Score,
    tonic: int,
    clock: npt.NDArray[np.float64],
    frames: int,
) -> Audio:
    """One player's stereo track, at the level and place that the part asks for."""
    instrument = INSTRUMENTS[part.instrument]
    wide = part.instrument in _WIDE
    track = np.zeros((2 if wide else 1, frames), dtype=np.float32)
    strokes: dict[tuple[int, int, int], Mono] = {}
    sparse = part not in style.parts[:2] and part.register >= 48
    for number, bar in enumerate(score.bars):
        if sparse and bar.section in ("intro", "outro"):
            continue
        pattern = part.chorus if bar.section in ("chorus", "break") else part.verse
        for step, length, symbol in _events(pattern, bar, score.steps):
            tones = _voicing(chord_at(bar, step, score.steps), tonic, part.register)
            if symbol != "X":
                turn, place = divmod(int(symbol), len(tones))
                tones = [tones[place] + 12 * turn]
            first = number * score.steps + step
            gate = int((clock[first + length] - clock[first]) * (0.97 if length > 1 else 0.8))
            # Rounded, so that swung and straight gates of the same length share their strokes.
            gate -= gate % 512
            at = clock[first] + rng.normal(0.0, style.loose_ms) * 1e-3 * SAMPLE_RATE
            level = rng.uniform(0.82, 1.1) * (1.1 if step % 4 == 0 else 1.0)
            order = tones if step % 8 < 4 else tones[::-1]
            for string, tone in enumerate(order):
                start = max(0, int(at + string * part.strum_ms * 1e-3 * SAMPLE_RATE))
                takes = (0, 1) if wide else (int(rng.integers(2)),)
                for row, take in enumerate(takes):
                    key = (tone, gate, take)
                    if key not in strokes:
                        strokes[key] = instrument(rng, 440.0 * 2 ** ((tone - 69) / 12), gate)
                    stroke = strokes[key][: frames - start]
                    track[row, start : start + len(stroke)] += np.float32(level) * stroke
    if style.drive and part.instrument == "electric guitar":
        track = _driven(track, style.drive)
    # Nobody plays equally loud throughout; without it, repeated bars would be copies.
    knots = rng.normal(1.0, 0.06, size=frames // SAMPLE_RATE + 2)
    track *= np.interp(np.arange(frames), np.arange(len(knots)) * SAMPLE_RATE, knots).astype(np.float32)
    sounding = np.abs(track).max(axis=0) > 1e-3
    rms = np.sqrt(np.mean(track[:, sounding] ** 2)) if sounding.any() else 1.0
    sides = _sides(part.pan) if not wide else np.clip(1.0 + part.pan * np.asarray([-1.0, 1.0]), 0.3, 1.0)
    gains = (0.16 * 10 ** (part.level_db / 20) / rms * sides).astype(np.float32)
    return np.asarray(gains[:, None] * track, dtype=np.float32)


def _sides(pan: float) -> npt.NDArray[np.float64]:
    """Gains of the left and the right channel, of constant power; 1 and 1 in the centre."""
    angle = (pan + 1.0) * np.pi / 4
    return np.asarray(np.sqrt(2.0) * np.asarray([np.cos(angle), np.sin(angle)]))


def _driven(track: Audio, drive: float) -> Audio:
    """Guitar amplifier: a soft clipper that `drive` pushes, then a loudspeaker's narrow band."""
    level = np.percentile(np.abs(track[:, ::64]), 95) + 1e-6
    hot = np.tanh(np.float32(drive / level) * track)
    band = scipy.signal.butter(2, (90.0, 4200.0), "bandpass", fs=SAMPLE_RATE, output="sos").astype(np.float32)
    amplified = np.asarray(scipy.signal.sosfilt(band, hot, axis=-1), dtype=np.float32)
    # Denormal numbers in the filter's tail would slow everything that follows.
    amplified[np.abs(amplified) < 1e-9] = 0.0
    return amplified


def _drum(
    rng: np.random.Generator, style: Style, score: Score, clock: npt.NDArray[np.float64], frames: int
) -> Audio:
    """The drummer's stereo track: patterns, a crash into every chorus, a fill out of every section."""
    kit = KITS[style.kit]
    hits = {name: [kit[name](rng) for _ in range(3)] for name in sorted({*style.drums, "crash", "tom"})}
    velocity = {"o": 0.45, "x": 0.8, "X": 1.0}
    track = np.zeros((2, frames), dtype=np.float32)

    def strike(name: str, step: int, loud: float) -> None:
        hit = hits[name][rng.integers(3)]
        start = max(0, int(clock[step] + rng.normal(0.0, 0.5 * style.loose_ms) * 1e-3 * SAMPLE_RATE))
        hit = hit[: frames - start]
        level_db, pan = _DRUM_MIX[name]
        gain = 10 ** (level_db / 20) * loud * rng.uniform(0.9, 1.08)
        sides = (gain * _sides(pan)).astype(np.float32)
        for side in (0, 1):
            track[side, start : start + len(hit)] += sides[side] * hit

    backbeat = next((name for name in ("snare", "clap", "rim", "tom") if name in style.drums), "tom")
    for number, bar in enumerate(score.bars):
        step = number * score.steps
        following = score.bars[number + 1].section if number + 1 < len(score.bars) else bar.section
        leaving = following != bar.section
        if bar.section == "chorus" and (number == 0 or score.bars[number - 1].section != "chorus"):
            strike("crash", step, 0.9)
        for name, pattern in style.drums.items():
            if bar.section == "intro" and not leaving and name in ("kick", backbeat):
                continue
            for place, symbol in enumerate(pattern):
                filled = leaving and place >= score.steps - 4 and name != "kick"
                if symbol in velocity and not filled:
                    strike(name, step + place, velocity[symbol])
        if leaving:
            for place in range(score.steps - 4, score.steps):
                if rng.uniform() < 0.75:
                    strike(backbeat if rng.uniform() < 0.5 else "tom", step + place, rng.uniform(0.5, 0.9))
    # Tape on the drums: rounds the peaks off, as records do.
    return np.asarray(0.45 * 10 ** (style.drums_db / 20) * np.tanh(1.3 * track), dtype=np.float32)


def _room(rng: np.random.Generator, send: Audio, decay_seconds: float) -> Audio:
    """Reverberation of a send: two independent tails of noise, darker as they fade, after 18 ms."""
    frames = int(decay_seconds * SAMPLE_RATE)
    time = np.arange(frames, dtype=np.float32) / np.float32(SAMPLE_RATE)
    noise = rng.standard_normal((2, frames), dtype=np.float32)
    low = scipy.signal.sosfilt(
        scipy.signal.butter(1, (200.0, 2500.0), "bandpass", fs=SAMPLE_RATE, output="sos").astype(np.float32),
        noise,
    )
    # The level falls by 60 dB in `decay_seconds`, that of the treble in half of it.
    tail = low * np.exp(-6.9 * time / decay_seconds) + 0.3 * noise * np.exp(-13.8 * time / decay_seconds)
    tail = np.pad(tail, ((0, 0), (int(0.018 * SAMPLE_RATE), 0)))
    tail /= np.sqrt(np.sum(tail**2, axis=-1, keepdims=True))
    return _convolved(send, tail.astype(np.float32))


def _convolved(send: Audio, tail: Audio) -> Audio:
    """Convolution of each channel with its own tail, by overlap-add, as long as `send`."""
    size = scipy.fft.next_fast_len(min(1 << 18, send.shape[-1] + tail.shape[-1]), real=True)
    hop = size - tail.shape[-1] + 1
    response = scipy.fft.rfft(tail, size, axis=-1)
    out = np.zeros((2, send.shape[-1] + size), dtype=np.float32)
    for start in range(0, send.shape[-1], hop):
        spectrum = scipy.fft.rfft(send[:, start : start + hop], size, axis=-1)
        out[:, start : start + size] += scipy.fft.irfft(spectrum * response, size, axis=-1)
    return out[:, : send.shape[-1]]


def _vocals(
    rng: np.random.Generator, score: Score, sheet: Sheet, clock: npt.NDArray[np.float64], frames: int
) -> Audio:
    """The singers' stereo track: lead in the middle, a harmony beside it in choruses, and their room."""
    lead = _sung(score.melody, sheet.voice, sheet.tonic, clock, 0, score.mode)
    track = np.tile(_levelled(sing(rng, sheet.voice, lead, frames)), (2, 1))
    if sheet.harmony:
        second = replace(sheet.voice, vibrato_cents=0.6 * sheet.voice.vibrato_cents, tract=0.97 * sheet.voice.tract)
        chorus = [note for note in score.melody if note.section == "chorus"]
        above = _sung(chorus, second, sheet.tonic, clock, 2, score.mode)
        late = [replace(note, start_frame=note.start_frame + int(rng.uniform(0, 900))) for note in above]
        sides = (0.4 * _sides(-0.5)).astype(np.float32)[:, None]
        track += sides * _levelled(sing(rng, second, late, frames))
    return track + _room(rng, np.float32(0.2) * track, STYLES[sheet.style].room_seconds + 0.3)


def _sung(
    melody: Sequence[MelodyNote],
    voice: Voice,
    tonic: int,
    clock: npt.NDArray[np.float64],
    third: int,
    mode: str,
) -> list[SungNote]:
    """Notes for a singer: the melody in her key, `third` steps of the scale higher."""
    own = anchor(voice, tonic)
    scale = np.asarray([12 * octave + tone for octave in range(-4, 5) for tone in MODES[mode]])
    notes = []
    for note in melody:
        semitone = note.semitone
        if third:
            semitone = int(scale[np.argmin(np.abs(scale - semitone)) + third])
        start, end = clock[note.start_step], clock[note.start_step + note.num_steps]
        # The last note of a phrase is let go a little early, the others are sung to the next.
        notes.append(
            SungNote(
                int(start),
                int((end - start) * 0.98),
                own + semitone,
                note.syllable,
                note.effort,
                note.first,
            )
        )
    return notes


def _levelled(voice: Mono) -> Mono:
    """Gentle compression, 2:1 on the level over 60 ms, as on any recorded voice."""
    hop = 256
    blocks = np.sqrt(np.mean(voice[: len(voice) // hop * hop].reshape(-1, hop) ** 2, axis=1))
    window = np.hanning(12)[1:-1]
    level = np.convolve(blocks, window / window.sum(), "same")
    gain = (np.maximum(level, 0.25)) ** -0.5
    return np.asarray(
        voice * np.interp(np.arange(len(voice)) / hop - 0.5, np.arange(len(gain)), gain), dtype=np.float32
    )


def _balanced(instrumental: Audio, vocals: Audio, vocals_db: float) -> tuple[Audio, Audio]:
    """Scale to `PEAK`, the vocals `vocals_db` above the instrumental, by the RMS of both where they sound."""
    block = 2048
    whole = vocals.shape[-1] // block * block
    power = np.mean(vocals[:, :whole].reshape(2, -1, block) ** 2, axis=(0, 2))
    behind = np.mean(instrumental[:, :whole].reshape(2, -1, block) ** 2, axis=(0, 2))
    sounding = power > 1e-2 * power.max()
    if sounding.any():
        ratio = np.sqrt(behind[sounding].mean() / power[sounding].mean())
        vocals = np.float32(ratio * 10 ** (vocals_db / 20)) * vocals
    peak = max(np.abs(instrumental + vocals).max(), np.abs(instrumental).max(), np.abs(vocals).max())
    scale = np.float32(PEAK / peak)
    return scale * instrumental, scale * vocals
