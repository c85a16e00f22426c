"""Separators without weights."""

from __future__ import annotations

import numpy as np
import pytest

from manifests.errors import AudioError, RecipeError
from separators.baselines import CentreExtraction, HarmonicPercussive, Identity
from separators.separator import Separator, separate
from tests.separators.small_separators import blocks_of, noise
from tests.synthesis import pink_noise, tone

RATE = 8000


def energy(audio: np.ndarray) -> float:
    return float(np.square(audio, dtype=np.float64).sum())


def sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    return 10 * np.log10(energy(reference) / energy(reference - estimate))


def test_identity_shares_the_mixture_out() -> None:
    mixture = noise(1000)
    got = separate(Identity(sources=("a", "b", "c")), mixture)
    np.testing.assert_allclose(got, np.broadcast_to(mixture / 3, (3, 2, 1000)), rtol=1e-6)


@pytest.mark.parametrize("make", [CentreExtraction, HarmonicPercussive])
def test_voice_and_rest_sum_to_the_mixture_however_it_is_cut(make) -> None:
    separator = make(sample_rate=RATE)
    assert isinstance(separator, Separator)
    mixture = noise(RATE * 19 + 123)
    whole = separate(separator, mixture)
    assert whole.shape == (2, 2, RATE * 19 + 123)
    np.testing.assert_allclose(whole.sum(axis=0), mixture, atol=1e-5)
    parts = np.concatenate(list(separator.stream(blocks_of(mixture, 30001))), axis=2)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("make", [CentreExtraction, HarmonicPercussive])
def test_a_frame_and_silence_are_no_special_case(make) -> None:
    assert separate(make(sample_rate=RATE), noise(1)).shape == (2, 2, 1)
    assert not separate(make(sample_rate=RATE), np.zeros((2, 500), np.float32)).any()


def test_the_centre_is_what_both_channels_share() -> None:
    frames = 4 * RATE
    centre = tone(440.0, frames, RATE, amplitude=0.3)
    left = tone(1000.0, frames, RATE, amplitude=0.3) * np.array([[1.0], [0.0]], np.float32)
    opposite = tone(2000.0, frames, RATE, amplitude=0.3) * np.array([[1.0], [-1.0]], np.float32)
    panned = tone(3000.0, frames, RATE, amplitude=0.3) * np.array([[1.0], [0.5]], np.float32)
    low = tone(50.0, frames, RATE, amplitude=0.3)
    separator = CentreExtraction(sample_rate=RATE)
    inside = slice(2000, -2000)

    def taken(mixture: np.ndarray) -> np.ndarray:
        return separate(separator, mixture)[0][:, inside]

    np.testing.assert_allclose(taken(centre), centre[:, inside], atol=1e-3)
    np.testing.assert_allclose(taken(left), 0, atol=1e-3)
    np.testing.assert_allclose(taken(opposite), 0, atol=1e-3)
    np.testing.assert_allclose(taken(low), 0, atol=1e-3)
    # Channels 1 and 0.5: the mask is 2 * 0.5 / 1.25 = 0.8, and the middle 0.75.
    np.testing.assert_allclose(taken(panned), 0.6 * panned[:1, inside].repeat(2, axis=0), atol=1e-3)
    np.testing.assert_allclose(taken(centre + left + opposite), centre[:, inside], atol=0.01)


def test_the_centre_of_a_mixture_is_nearer_to_the_voice_than_the_mixture_is() -> None:
    rng = np.random.default_rng(0)
    frames = 3 * RATE
    voice = tone(300.0, frames, RATE, amplitude=0.2) + np.tile(pink_noise(rng, 1, frames, rms=0.05), (2, 1))
    mixture = voice + pink_noise(rng, 2, frames, rms=0.1)
    got = separate(CentreExtraction(sample_rate=RATE), mixture)[0]
    assert sdr_db(voice, got) > sdr_db(voice, mixture) + 3


def test_two_windows_find_what_glides_between_what_stands_and_what_hits() -> None:
    rate = 22050
    frames = 5 * rate
    time = np.arange(frames) / rate
    # Vibrato of +-40 Hz, five times a second: no line for a long window, one for a short one.
    voice = 0.2 * np.sin(2 * np.pi * 900 * time + 8 * np.sin(2 * np.pi * 5 * time))
    voice = np.tile(voice, (2, 1)).astype(np.float32)
    others = tone(500.0, frames, rate, amplitude=0.2) + tone(1500.0, frames, rate, amplitude=0.2)
    others[:, rate // 8 :: rate // 4] += 0.9
    mixture = voice + others
    got, rest = separate(HarmonicPercussive(sample_rate=rate), mixture)
    assert sdr_db(voice, got) > sdr_db(voice, mixture) + 6
    assert sdr_db(others, rest) > sdr_db(others, mixture) + 3


def test_settings_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: Identity(sources=()),
        lambda: Identity(sources=("a", "a")),
        lambda: CentreExtraction(sources=("a",)),
        lambda: HarmonicPercussive(sources=("a", "a")),
    ):
        with pytest.raises(RecipeError, match="sources is"):
            make()
    with pytest.raises(RecipeError, match="lowest_hz is -1"):
        CentreExtraction(lowest_hz=-1)
    with pytest.raises(AudioError, match=r"\(2, frames\), not \(1, 100\)"):
        separate(CentreExtraction(), noise(100, 1))


def test_identities_differ() -> None:
    made = [
        Identity(),
        Identity(channels=1),
        CentreExtraction(),
        CentreExtraction(lowest_hz=0),
        HarmonicPercussive(),
    ]
    assert len({separator.identity for separator in made}) == 5
