"""What an inspection says of a song, out of what it has kept."""

from __future__ import annotations

import numpy as np

from builders.inspection import Inspection

RATE, STEP = 16_000, 5120


def inspected(stems: list[str], voices: list[list[float]], loud: list[bool]) -> Inspection:
    """A song of so many steps of 0.32 s, whose first stem is silent in some of them."""
    seconds = len(loud) * STEP / RATE
    energies = np.ones((len(stems), int(seconds * 10)), np.float32)
    places = ((np.arange(energies.shape[1]) + 0.5) * 0.1 / 0.32).astype(int)
    energies[0] = np.where(np.array(loud)[places], 1.0, 1e-9)
    measures = {"sample_rate": RATE, "channels": 1, "num_frames": len(loud) * STEP}
    value = {"stems": stems, "measures": dict.fromkeys(stems, measures)}
    nothing = np.zeros(0, np.float32)
    curves = {"leakage": nothing, "excess": nothing, "fingerprint": nothing}
    return Inspection(value, {"energies": energies, "voices": np.array(voices, np.float32), **curves})


def test_pure_parts_are_found_from_what_was_kept() -> None:
    speech = [0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9]
    music = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1]
    loud = [True, True, True, True, True, True, False, False, True, True]
    song = inspected(["speech", "music"], [speech, music], loud)
    assert song.pure_spans(0.3) == [(0, 4 * STEP), (6 * STEP, 8 * STEP), (9 * STEP, 10 * STEP)]
    assert song.pure_spans(0.65) == [(0, 4 * STEP)]
    assert inspected(["speech", "vocals"], [speech, music], loud).pure_spans(0.3) == []
    assert inspected(["music"], [music], loud).pure_spans(0.3) == []
