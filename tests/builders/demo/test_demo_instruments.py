"""The demo's instruments are in tune, free of aliases, and finite."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from builders.demo.instruments import INSTRUMENTS, KITS, SAMPLE_RATE, oscillator


def partial(audio: np.ndarray, near: float) -> float:
    """Frequency (Hz) of the strongest partial within 3 % of `near`, by a parabola on the log spectrum."""
    size = 1 << 18
    power = np.abs(scipy.fft.rfft(audio * np.hanning(len(audio)), size)) ** 2
    low, high = (int(near * ratio / SAMPLE_RATE * size) for ratio in (0.97, 1.03))
    peak = low + int(np.argmax(power[low:high]))
    left, centre, right = np.log(power[peak - 1 : peak + 2])
    return (peak + 0.5 * (left - right) / (left - 2 * centre + right)) * SAMPLE_RATE / size


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
@pytest.mark.parametrize("pitch", [98.0, 523.25])
def test_every_instrument_is_in_tune_and_ends_in_silence(name: str, pitch: float) -> None:
    gate = SAMPLE_RATE
    stroke = INSTRUMENTS[name](np.random.default_rng(0), pitch, gate)
    assert stroke.dtype == np.float32
    assert np.isfinite(stroke).all()
    assert gate < len(stroke) < 2 * gate
    assert 0.05 < np.abs(stroke).max() < 2.5
    assert abs(stroke[-1]) < 1e-3
    cents = 1200 * np.log2(partial(stroke[:gate], pitch) / pitch)
    # Two detuned oscillators, or strings, beat around the pitch.
    assert abs(cents) < (25 if "bass" in name or name == "pad" else 18)


def test_oscillator_has_no_aliases() -> None:
    pitch = 1234.5
    wave = oscillator("saw", pitch, SAMPLE_RATE, 20000.0)
    power = np.abs(scipy.fft.rfft(wave * scipy.signal.get_window("blackmanharris", len(wave)))) ** 2
    harmonic = np.zeros(len(power), dtype=bool)
    for number in range(1, int(17000 / pitch) + 1):
        harmonic[round(number * pitch) - 6 : round(number * pitch) + 7] = True
    assert power[harmonic].sum() > 1e6 * power[~harmonic].sum()


@pytest.mark.parametrize("kit", sorted(KITS))
def test_drums_are_finite_hits_that_differ(kit: str) -> None:
    rng = np.random.default_rng(0)
    for name, drum in KITS[kit].items():
        one, two = drum(rng), drum(rng)
        assert np.isfinite(one).all(), name
        assert 0.05 < np.abs(one).max() < 3.0, name
        assert not np.array_equal(one, two), name
        assert np.abs(one[-64:]).max() < 0.06 * np.abs(one).max(), name
