"""The demo's compositions: form, chords, melody and syllables, drawn from a song sheet.

A score is independent of key, tempo and band, so that a cover is the same score performed by others
(`builders.demo.performance`). Time is counted in steps, sixteenths of a 4/4 bar, and pitch in semitones above
the tonic.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from builders.demo.sheets import STYLES, Sheet
from builders.demo.voice import CODAS, NUCLEI, ONSETS, Voice

Syllable = tuple[str, str, str]

TAIL_SECONDS = 1.5
"""What is added to the last bar, for the last notes to die away."""

MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
_NUMERALS = ("i", "ii", "iii", "iv", "v", "vi", "vii")


@dataclass(frozen=True)
class Bar:
    """One bar: its section ('intro', 'verse', 'chorus', 'break', 'outro') and its one or two chords.

    A chord is a tuple of semitones above the tonic, root first.
    """

    section: str
    chords: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class MelodyNote:
    """A note of the tune: steps are sixteenths from the start, semitones count from the singer's tonic."""

    start_step: int
    num_steps: int
    semitone: int
    syllable: Syllable | None
    effort: float
    first: bool
    section: str


@dataclass(frozen=True)
class Score:
    """A composition, independent of key, tempo and band."""

    mode: str
    steps: int
    bars: tuple[Bar, ...]
    melody: tuple[MelodyNote, ...]


def compose(rng: np.random.Generator, sheet: Sheet, seconds: float) -> Score:
    """Draw a composition of about `seconds` at the sheet's tempo.

    Parameters
    ----------
    rng : np.random.Generator
        Draws rhythm, melody and syllables.
    sheet : Sheet
        Chords, mode, tempo and band.
    seconds : float
        Wanted length; the song has a whole number of bars, four or more.

    Returns
    -------
    Score
    """
    steps = STYLES[sheet.style].steps
    bar_seconds = steps * 15.0 / sheet.tempo
    bars: list[Bar] = []
    melody: list[MelodyNote] = []
    tunes: dict[str, list[MelodyNote]] = {}
    for section, length in _sections(max(4, round((seconds - TAIL_SECONDS) / bar_seconds))):
        chords = [
            _chords(text, sheet.mode) for text in (sheet.chorus if section == "chorus" else sheet.verse).split()
        ]
        at = len(bars) * steps
        bars += [Bar(section, chords[index % len(chords)]) for index in range(length)]
        if section in ("verse", "chorus"):
            sung = bars[len(bars) - length :]
            if section not in tunes:
                tunes[section] = _tune(rng, sheet, [Bar(section, chord) for chord in chords], steps)
            tune = [note for note in tunes[section] if note.start_step + note.num_steps <= len(sung) * steps]
            # Verses have the tune in common, choruses the words as well.
            words = tune if section == "chorus" else _words(rng, tune)
            melody += [replace(note, start_step=at + note.start_step) for note in words]
    return Score(sheet.mode, steps, tuple(bars), tuple(melody))


def _sections(bars: int) -> list[tuple[str, int]]:
    """Form of a song of so many bars: names and lengths."""
    intro = 2 if bars >= 12 else 1 if bars >= 5 else 0
    outro = 2 if bars >= 16 else 1 if bars >= 6 else 0
    body = bars - intro - outro
    form = [("intro", intro)]
    if body < 8:
        half = body // 4 * 2
        form += [("verse", body - half), ("chorus", half)]
    else:
        order = itertools.cycle([("verse", 4), ("chorus", 4), ("break", 2)])
        while body >= 2:
            section, length = next(order)
            length = min(length, body // 2 * 2)
            if section == "break" and body < 6:
                section, length = "chorus", min(4, body // 2 * 2)
            form.append((section, length))
            body -= length
        outro += body
    form.append(("outro", outro))
    return [(section, length) for section, length in form if length]


def _chords(text: str, mode: str) -> tuple[tuple[int, ...], ...]:
    """Chords of one bar, as semitones above the tonic, from Roman numerals such as 'ii7' or 'V7,IV7'."""
    chords = []
    for name in text.split(","):
        match = re.fullmatch(r"([iIvV]+)(maj7|7)?", name)
        if match is None:
            raise ValueError(
                f"chord {name!r}: expected a Roman numeral I to VII, with '7' or 'maj7' after it or not"
            )
        numeral, seventh = match.groups()
        root = MODES[mode][_NUMERALS.index(numeral.lower())]
        chord = [0, 4 if numeral.isupper() else 3, 7]
        if seventh:
            chord.append(11 if seventh == "maj7" else 10)
        chords.append(tuple(root + tone for tone in chord))
    return tuple(chords)


def chord_at(bar: Bar, step: int, steps: int) -> tuple[int, ...]:
    """Chord that sounds at a step of a bar."""
    return bar.chords[min(step * len(bar.chords) // steps, len(bar.chords) - 1)]


def _rhythm(rng: np.random.Generator, steps: int, tempo: float) -> list[tuple[int, int]]:
    """One phrase of two bars: (start, length) in steps, ending on a long note and a rest."""
    cells: list[tuple[int, ...]] = [(2, 2), (4,), (3, 1), (2, 2, 4), (3, 3, 2), (6, 2)]
    if tempo < 95:
        cells += [(1, 1, 2), (2, 1, 1)]
    if tempo > 125:
        cells = [(4,), (2, 2), (4, 4), (6, 2), (3, 3, 2)]
    if tempo > 160:
        cells = [(4, 4), (8,), (6, 2), (6, 6, 4)]
    total = 2 * steps
    at = int(rng.choice([0, 0, 2, 4]))
    last = int(rng.choice([4, 6, 8]))
    stop = total - last - int(rng.choice([3, 4, 6]))
    notes: list[tuple[int, int]] = []
    while at < stop:
        for length in cells[rng.integers(len(cells))]:
            if at < stop:
                notes.append((at, min(length, stop - at)))
                at += length
    return [*notes, (stop, last)]


def _tune(rng: np.random.Generator, sheet: Sheet, bars: Sequence[Bar], steps: int) -> list[MelodyNote]:
    """Melody of one section: phrases of two bars, the second an answer to the first's rhythm or a new one."""
    chorus = bars[0].section == "chorus"
    own = anchor(sheet.voice, sheet.tonic)
    scale = MODES[sheet.mode]
    # Choruses lie higher and are sung louder.
    centre = sheet.voice.centre - own + (4 if chorus else 0)
    effort = 0.8 if chorus else 0.45
    question = _rhythm(rng, steps, sheet.tempo)
    notes: list[MelodyNote] = []
    pitch = centre
    for phrase in range(0, len(bars), 2):
        rhythm = question if rng.uniform() < 0.6 else _rhythm(rng, steps, sheet.tempo)
        for index, (start, length) in enumerate(rhythm):
            bar = bars[min(phrase + start // steps, len(bars) - 1)]
            chord = {tone % 12 for tone in chord_at(bar, start % steps, steps)}
            arch = centre + 3.5 * np.sin(np.pi * index / len(rhythm)) - 1.5
            strong = start % 4 == 0 or index == len(rhythm) - 1
            choices = [
                tone
                for tone in range(pitch - 7, pitch + 8)
                if tone % 12 in chord or (not strong and tone % 12 in scale)
            ]
            distance = np.abs(np.asarray(choices) - pitch)
            weight = np.exp(-distance / 2.2 - np.abs(np.asarray(choices) - arch) / 2.5) * (
                1 - 0.6 * (distance == 0)
            )
            pitch = int(rng.choice(choices, p=weight / weight.sum()))
            notes.append(
                MelodyNote(
                    phrase * steps + start, length, pitch, ("", "a", ""), effort, index == 0, bars[0].section
                )
            )
    return _words(rng, notes)


def _words(rng: np.random.Generator, tune: Sequence[MelodyNote]) -> list[MelodyNote]:
    """Give every note a syllable, or none where the syllable before is carried over."""
    sung = []
    for note in tune:
        syllable: Syllable | None = (str(rng.choice(ONSETS)), str(rng.choice(NUCLEI)), str(rng.choice(CODAS)))
        if not note.first and rng.uniform() < 0.12:
            syllable = None
        sung.append(
            replace(note, syllable=syllable, effort=float(np.clip(note.effort + rng.normal(0, 0.07), 0.1, 1)))
        )
    return sung


def anchor(voice: Voice, tonic: int) -> int:
    """The tonic (MIDI number) nearest to the middle of a singer's range."""
    return tonic + 12 * round((voice.centre - tonic) / 12)
