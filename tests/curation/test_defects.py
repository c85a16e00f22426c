"""Defects of a song: each witness against signals whose defect is known, and how witnesses make a grade."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.defects import EXCESS_SHARE, LEAKAGE_DB, excess_curve, is_voice_stem, judge, leakage_curve
from tests.synthesis import pink_noise, song

RATE = 16_000
SECONDS = 12


def noise(seed: int, level_db: float = 0.0) -> np.ndarray:
    return (pink_noise(np.random.default_rng(seed), 1, SECONDS * RATE)[0] * 10 ** (level_db / 20)).astype(
        np.float32
    )


def mean_db(curve: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(10 ** (curve / 10))))


@pytest.mark.parametrize("leak_db", [-6.0, -12.0, -18.0, -24.0])
def test_leakage_is_what_was_added(leak_db: float) -> None:
    voices, rest = noise(1), noise(2)
    leaked = voices + rest * np.float32(10 ** (leak_db / 20))
    assert mean_db(leakage_curve(leaked, rest, RATE)) == pytest.approx(leak_db, abs=2)


def test_unrelated_signals_leak_next_to_nothing() -> None:
    assert mean_db(leakage_curve(noise(1), noise(2), RATE)) < LEAKAGE_DB[0]


def test_a_sample_out_of_place_leaks_the_treble() -> None:
    instrumental, vocals = (audio[0] for audio in song(np.random.default_rng(1), SECONDS, RATE))
    difference = vocals.copy()
    difference[1:] += instrumental[1:] - instrumental[:-1]
    assert mean_db(leakage_curve(vocals, instrumental, RATE)) < LEAKAGE_DB[0]
    assert mean_db(leakage_curve(difference, instrumental, RATE)) > LEAKAGE_DB[2]


def test_leakage_is_found_in_its_seconds() -> None:
    voices, rest = noise(1, -6), noise(2)
    leaked = voices.copy()
    leaked[4 * RATE : 8 * RATE] += 0.5 * rest[4 * RATE : 8 * RATE]
    curve = leakage_curve(leaked, rest, RATE)
    assert curve[5:7].min() > curve[[1, 2, 9, 10]].max() + 3


def test_nothing_leaks_from_silence() -> None:
    curve = leakage_curve(noise(1), np.zeros(SECONDS * RATE, np.float32), RATE)
    assert curve.shape == (SECONDS,)
    assert curve.max() < -60


@pytest.mark.parametrize("frames", [1, 100, 3000])
def test_signals_that_are_too_short_have_no_curve_to_speak_of(frames: int) -> None:
    short = np.ones(frames, np.float32)
    assert leakage_curve(short, short, RATE).tolist() == [-90.0]
    assert excess_curve(short, short, RATE).tolist() == [0.0]


@pytest.mark.parametrize("curve", [leakage_curve, excess_curve])
def test_unequal_shapes_are_refused(curve: object) -> None:
    with pytest.raises(ValueError, match="one mono shape"):
        curve(np.zeros(10, np.float32), np.zeros(11, np.float32), RATE)  # type: ignore[operator]


def test_all_of_an_accompaniment_that_the_mixture_lacks_is_excess() -> None:
    rest = noise(2)
    assert excess_curve(np.zeros_like(rest), rest, RATE).sum() == pytest.approx(1.0, abs=1e-3)
    assert excess_curve(rest, rest, RATE).sum() == 0.0


def test_half_of_the_bands_missing_is_half_excess() -> None:
    # a sharp low-pass at the middle of the bands that count
    rest = noise(2)
    spectrum = np.fft.rfft(rest)
    spectrum[np.fft.rfftfreq(len(rest), 1 / RATE) > 2575] = 0
    mixture = np.fft.irfft(spectrum, len(rest)).astype(np.float32)
    assert excess_curve(mixture, rest, RATE).sum() == pytest.approx(0.5, abs=0.02)


def test_a_mixture_of_independent_parts_has_little_excess() -> None:
    instrumental, vocals = (audio[0] for audio in song(np.random.default_rng(1), SECONDS, RATE))
    other = song(np.random.default_rng(9), SECONDS, RATE)[1][0]
    assert excess_curve(instrumental + vocals, instrumental, RATE).sum() < EXCESS_SHARE[0]
    assert excess_curve(instrumental + vocals, instrumental + other, RATE).sum() > EXCESS_SHARE[2]


@pytest.mark.parametrize("stem", ["vocals", "Lead Vocals", "vocals_backing", "dialogue", "speech-2", "VOICE"])
def test_stems_with_voices_are_known_by_their_names(stem: str) -> None:
    assert is_voice_stem(stem)


@pytest.mark.parametrize("stem", ["instrumental", "drums", "music", "effects", "vocalsynth", "no", ""])
def test_other_stems_should_have_none(stem: str) -> None:
    assert not is_voice_stem(stem)


# ---- the verdict


def curves(**changes: object) -> dict[str, object]:
    """What a clean song's witnesses say, with changes."""
    levels = {
        name: np.full(20, db, np.float32) for name, db in (("mixture", -20), ("instrumental", -22), ("vocals", -24))
    }
    voices = {"instrumental": np.zeros(20, np.float32), "vocals": np.ones(20, np.float32)}
    clean = {"levels_db": levels, "voices": voices, "leakage_db": np.full(20, -50.0), "excess": np.zeros(20)}
    return {**clean, **changes}


def test_a_clean_song_has_grade_a_and_no_reasons() -> None:
    verdict = judge(**curves())  # type: ignore[arg-type]
    assert (verdict.grade, verdict.reasons, verdict.seconds.tolist()) == ("A", (), [0] * 20)


@pytest.mark.parametrize(("level_db", "grade"), [(-50, "A"), (-24, "B"), (-17, "C"), (-11, "D")])
def test_leakage_sets_the_grade(level_db: float, grade: str) -> None:
    verdict = judge(**curves(leakage_db=np.full(20, level_db)))  # type: ignore[arg-type]
    assert verdict.grade == grade
    assert set(verdict.seconds.tolist()) == {"ABCD".index(grade)}


def test_vocals_that_are_noise_are_no_singing() -> None:
    levels = {**curves()["levels_db"], "vocals": np.full(20, -45.0)}  # type: ignore[dict-item]
    verdict = judge(**curves(levels_db=levels))  # type: ignore[arg-type]
    assert verdict.grade == "D"
    assert "no singing" in verdict.reasons[0]


@pytest.mark.parametrize(("probability", "grade"), [(1.0, "A"), (0.2, "D")])
def test_faint_vocals_count_if_a_voice_is_heard(probability: float, grade: str) -> None:
    levels = {**curves()["levels_db"], "vocals": np.full(20, -35.0)}  # type: ignore[dict-item]
    voices = {"instrumental": np.zeros(20), "vocals": np.full(20, probability)}
    assert judge(**curves(levels_db=levels, voices=voices)).grade == grade  # type: ignore[arg-type]


def test_silent_seconds_do_not_count() -> None:
    levels = {name: np.where(np.arange(20) < 10, db, -90.0) for name, db in (("mixture", -20.0), ("vocals", -24.0))}
    levels["instrumental"] = levels["mixture"]
    leakage = np.where(np.arange(20) < 10, -50.0, 0.0)
    assert judge(**curves(levels_db=levels, leakage_db=leakage)).grade == "A"  # type: ignore[arg-type]


def test_the_worst_reason_comes_first() -> None:
    verdict = judge(**curves(leakage_db=np.full(20, -24.0), excess=np.full(20, 0.01)))  # type: ignore[arg-type]
    assert [reason[0] for reason in verdict.reasons] == ["D", "B"]


def test_what_has_leaked_is_no_performance_of_its_own() -> None:
    # a limiter that works on the mixture alone puts accompaniment into the vocals, with either sign
    verdict = judge(**curves(leakage_db=np.full(20, -17.0), excess=np.full(20, 0.01)))  # type: ignore[arg-type]
    assert [reason[:18] for reason in verdict.reasons] == ["C: accompaniment i"]


def test_a_corpus_without_voice_stems_is_judged_by_what_it_has() -> None:
    levels = {"mixture": np.full(20, -20.0), "music": np.full(20, -22.0), "effects": np.full(20, -24.0)}
    voices = {"music": np.zeros(20), "effects": np.zeros(20)}
    assert judge(levels, voices, np.zeros(0), np.zeros(20)).grade == "A"


def test_curves_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        judge(**curves(leakage_db=np.zeros(19)))  # type: ignore[arg-type]


@given(st.floats(-80, 0), st.floats(0, 0.02), st.floats(0, 1))
def test_more_of_a_defect_is_never_a_better_grade(leakage: float, excess: float, voice: float) -> None:
    def grade(leakage: float, excess: float, voice: float) -> str:
        voices = {"instrumental": np.full(20, voice), "vocals": np.ones(20)}
        return judge(
            **curves(leakage_db=np.full(20, leakage), excess=np.full(20, excess / 20), voices=voices)  # type: ignore[arg-type]
        ).grade

    plain = grade(leakage, excess, voice)
    assert grade(leakage + 3, 0.0, voice) >= grade(leakage, 0.0, voice)
    assert grade(min(leakage, -20.0), excess * 2, voice) >= grade(min(leakage, -20.0), excess, voice)
    assert grade(leakage, excess, min(1.0, voice + 0.2)) >= plain
