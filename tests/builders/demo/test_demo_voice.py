"""The demo's singer sings the notes she is given, in vowels that differ, and rests between them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from builders.demo.voice import HOP_FRAMES, SungNote, Voice, sing

RATE = 44100
VOICE = Voice(centre=60, tract=1.0, vibrato_cents=40.0, vibrato_hz=5.5)


def note(start: float, length: float, pitch: float, syllable: tuple[str, str, str]) -> SungNote:
    return SungNote(int(start * RATE), int(length * RATE), pitch, syllable, 0.6, first=True)


def spectrum(audio: np.ndarray, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    part = audio[int(start * RATE) : int(end * RATE)]
    return scipy.fft.rfftfreq(len(part), 1 / RATE), np.abs(scipy.fft.rfft(part * np.hanning(len(part)))) ** 2


def fundamental(audio: np.ndarray, start: float, end: float) -> float:
    """Pitch in Hz by the highest peak of the autocorrelation between 80 and 1000 Hz."""
    part = audio[int(start * RATE) : int(end * RATE)]
    power = np.abs(scipy.fft.rfft(part, 2 * len(part))) ** 2
    lags = scipy.fft.irfft(power)[: RATE // 80]
    return RATE / (RATE // 1000 + int(np.argmax(lags[RATE // 1000 :])))


@pytest.mark.parametrize("pitch", [48, 57, 64, 72])
def test_pitch_is_that_of_the_note(pitch: int) -> None:
    voice = sing(np.random.default_rng(pitch), VOICE, [note(0.2, 0.6, pitch, ("m", "a", ""))], RATE)
    expected = 440 * 2 ** ((pitch - 69) / 12)
    cents = 1200 * np.log2(fundamental(voice, 0.33, 0.45) / expected)
    assert abs(cents) < 40


def test_long_notes_have_vibrato_of_the_given_rate() -> None:
    voice = sing(np.random.default_rng(0), VOICE, [note(0.2, 2.5, 60, ("", "a", ""))], 3 * RATE)
    track = np.array([fundamental(voice, at, at + 0.04) for at in np.arange(1.0, 2.5, 0.01)])
    cents = 1200 * np.log2(track / np.median(track))
    power = np.abs(scipy.fft.rfft((cents - cents.mean()) * np.hanning(len(cents)), 1024)) ** 2
    rate = np.argmax(power[10:]) + 10
    # It speeds up a little towards the end of a note, as singers' does.
    assert 5.0 < rate / 1024 / 0.01 < 6.8
    assert 20 < np.percentile(np.abs(cents), 95) < 70


def test_vowels_have_their_formants() -> None:
    notes = [note(0.2, 0.8, 48, ("", "i", "")), note(1.2, 0.8, 48, ("", "a", ""))]
    voice = sing(np.random.default_rng(1), VOICE, notes, int(2.2 * RATE))
    share = []
    for start in (0.4, 1.4):
        frequency, power = spectrum(voice, start, start + 0.5)
        share.append(power[(frequency > 600) & (frequency < 1300)].sum() / power[frequency < 600].sum())
    # The first two formants of 'a' lie there, and none of 'i'.
    assert share[1] > 10 * share[0]


def test_fricatives_are_high_noise_before_the_beat() -> None:
    voice = sing(np.random.default_rng(2), VOICE, [note(0.5, 0.5, 60, ("s", "a", ""))], RATE)
    frequency, power = spectrum(voice, 0.40, 0.48)
    assert power[frequency > 4000].sum() > 20 * power[frequency < 3000].sum()
    frequency, power = spectrum(voice, 0.6, 0.9)
    assert power[frequency > 4000].sum() < 0.05 * power[frequency < 3000].sum()


def test_voice_rests_between_phrases_but_for_a_breath() -> None:
    notes = [note(0.2, 0.6, 60, ("t", "a", "")), note(2.4, 0.4, 62, ("n", "e", ""))]
    voice = sing(np.random.default_rng(3), VOICE, notes, 3 * RATE)
    assert np.abs(voice[int(1.0 * RATE) : int(1.7 * RATE)]).max() < 1e-4
    breath = np.sqrt(np.mean(voice[int(2.1 * RATE) : int(2.25 * RATE)] ** 2))
    sung = np.sqrt(np.mean(voice[int(2.5 * RATE) : int(2.7 * RATE)] ** 2))
    assert 1e-3 < breath < 0.1 * sung


def test_singing_depends_on_the_generator_alone() -> None:
    notes = [note(0.1, 0.3, 60, ("k", "o", "m"))]
    one, two = (sing(np.random.default_rng(4), VOICE, notes, RATE // 2) for _ in range(2))
    assert np.array_equal(one, two)
    assert len(one) == RATE // 2
    assert not sing(np.random.default_rng(4), VOICE, [], 4 * HOP_FRAMES).any()
