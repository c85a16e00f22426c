import numpy as np
import pytest

from curation.alignment import Alignment, Segment
from curation.evidence import Evidence, Relation, confidence, decide, direction_db, weigh
from tests.synthesis import pink_noise, song

RATE = 22_050


@pytest.fixture(scope="module")
def tune() -> tuple[np.ndarray, np.ndarray]:
    instrumental, vocals = song(np.random.default_rng(21), 30.0, RATE)
    return instrumental.mean(axis=0), vocals.mean(axis=0)


def _relation(x: np.ndarray, y: np.ndarray, *, is_labelled: bool = False) -> tuple[Relation, str | None]:
    whole = Alignment((Segment(0, len(x), 0.0),), 0.0, 1, 5.0, 1.0, 0.0)
    return decide(weigh(x, y, RATE), weigh(y, x, RATE), whole, len(x), is_labelled=is_labelled)


def _noise(x: np.ndarray, level_db: float, seed: int) -> np.ndarray:
    noise = pink_noise(np.random.default_rng(seed), 1, len(x))[0]
    return noise * np.float32(np.sqrt(np.mean(x**2) / np.mean(noise**2)) * 10 ** (level_db / 20))


def test_a_mixture_and_its_instrumental_are_a_pair_in_either_order(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    mixture = instrumental + vocals + _noise(instrumental, -35, 1)
    assert _relation(mixture, instrumental) == ("mixture-instrumental", None)
    assert _relation(instrumental, mixture) == ("instrumental-mixture", None)


def test_containment_tells_the_direction(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    forward = weigh(instrumental + vocals, instrumental, RATE)
    assert forward.containment == pytest.approx(1, abs=0.1)
    assert direction_db(forward, weigh(instrumental, instrumental + vocals, RATE)) > 1


def test_two_masters_of_one_recording_are_the_same(tune: tuple[np.ndarray, np.ndarray]) -> None:
    mixture = tune[0] + tune[1]
    relation, reason = _relation(mixture + _noise(mixture, -25, 1), 0.5 * mixture + _noise(mixture, -31, 2))
    assert relation == "same recording"
    assert reason is not None
    assert "one recording twice" in reason


def test_songs_that_share_only_a_voice_are_unrelated(tune: tuple[np.ndarray, np.ndarray]) -> None:
    instrumental, vocals = tune
    other = song(np.random.default_rng(77), 30.0, RATE)[0].mean(axis=0)[: len(vocals)]
    assert _relation(instrumental + vocals, other + vocals)[0] == "unrelated"


def test_unrelated_music_is_unrelated(tune: tuple[np.ndarray, np.ndarray]) -> None:
    relation, reason = _relation(tune[0] + tune[1], pink_noise(np.random.default_rng(5), 1, len(tune[0]))[0])
    assert relation == "unrelated"
    assert reason is not None
    assert "unexplained" in reason


def test_an_a_cappella_is_no_instrumental() -> None:
    acapella = Evidence(-20, -8, -1, 1.0, 0.5, 0.1, bass_db=-45, residual_bass_db=-5)
    backward = Evidence(-20, -6, 2, 0.1, 0.5, 0.1, bass_db=-6, residual_bass_db=-5)
    whole = Alignment((Segment(0, 1000, 0.0),), 0.0, 1, 5.0, 1.0, 0.0)
    relation, reason = decide(acapella, backward, whole, 1000)
    assert relation == "unrelated"
    assert reason is not None
    assert "a cappella" in reason


def test_little_overlap_is_refused() -> None:
    good = Evidence(-30, -5, -1, 1.0, 0.8, 0.2, -5, -30)
    short = Alignment((Segment(0, 400, 0.0),), 0.0, 1, 5.0, 1.0, 0.0)
    relation, reason = decide(good, good, short, 1000)
    assert relation == "unrelated"
    assert reason is not None
    assert "40%" in reason


def test_labels_break_ties_and_nothing_else() -> None:
    first = Evidence(-30, -5, -1, 1.0, 0.8, 0.2, -5, -30)
    slightly_worse = Evidence(-30, -5, -0.9, 1.0, 0.8, 0.2, -5, -30)
    whole = Alignment((Segment(0, 1000, 0.0),), 0.0, 1, 5.0, 1.0, 0.0)
    assert decide(slightly_worse, first, whole, 1000)[0] == "unrelated"
    assert decide(slightly_worse, first, whole, 1000, is_labelled=True)[0] == "mixture-instrumental"
    clearly_worse = Evidence(-30, -3, 2, 1.0, 0.8, 0.2, -5, -30)
    assert decide(clearly_worse, first, whole, 1000, is_labelled=True)[0] == "instrumental-mixture"


def test_confidence_is_between_zero_and_one() -> None:
    good = Alignment((Segment(0, 1000, 0.0),), 0.0, 1, 5.0, 1.0, 0.0)
    bad = Alignment((Segment(0, 1000, 0.0),), 0.0, 1, 1.1, 0.2, 0.0)
    evidence = Evidence(-30, -5, -1, 1.0, 0.8, 0.2, -5, -30)
    assert confidence(evidence, good) == pytest.approx(1)
    assert 0 <= confidence(evidence, bad) < 0.6


def test_short_or_unequal_signals_are_refused() -> None:
    with pytest.raises(ValueError, match="one mono shape"):
        weigh(np.zeros(RATE * 2, np.float32), np.zeros(RATE, np.float32), RATE)
    with pytest.raises(ValueError, match="too short"):
        weigh(np.zeros(100, np.float32), np.zeros(100, np.float32), RATE)
